//! Whether drawing fits into memory, and what would where it does not.

use imagen::cascade::{Imagen, Need, Request};
use imagen::models::weights::Storage;
use imagen::nn::device::Found;
use imagen::said::bytes;
use imagen::train::{Plan, Recipe};

use super::model::FrozenArgs;
use crate::failure::{Exit, Failure, Result};
use crate::system;

/// `--max-memory`
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct MaxMemory {
    /// Refuse what takes more memory than this, e.g. 8G or 500M; what the machine or its --device has by default
    #[arg(long, hide_short_help = true, value_name = "SIZE", value_parser = size)]
    max_memory: Option<u64>,
}

impl MaxMemory {
    /// Refuses training that does not fit, before the system kills the program without a word, and says what would;
    /// so many processes train in it, each of which needs so many bytes.
    pub(in crate::cli) fn check_training(
        &self,
        found: &Found,
        recipe: &Recipe,
        (processes, each): (u64, u64),
    ) -> Result<()> {
        let needed = processes * each;
        let Err(failure) = self.check(found, "training this", needed) else { return Ok(()) };
        let limit = self.limit(found).unwrap_or(u64::MAX);
        let mut alternatives = Plan::alternatives(recipe)?;
        alternatives.iter_mut().for_each(|(_, bytes)| *bytes *= processes);
        let with = |set: &[String]| set.iter().map(|set| format!(" --set {set}")).collect::<String>();
        if let Some((set, fits)) = alternatives.iter().find(|(_, bytes)| *bytes <= limit) {
            return Err(failure.hint(format_args!("it would fit with{}: about {}", with(set), bytes(*fits))));
        }
        let least = alternatives.iter().min_by_key(|(_, bytes)| *bytes).filter(|(_, least)| *least < needed);
        let (set, least) =
            least.map_or((String::new(), needed), |(set, bytes)| (format!(", with{}", with(set)), *bytes));
        Err(failure.hint(format_args!(
            "the least that this network can be trained in is about {}{set}; make it smaller: `imagen plan` shows where \
             memory goes",
            bytes(least)
        )))
    }

    /// Refuses a request that does not fit, and says what would.
    pub(in crate::cli) fn check_drawing(
        &self,
        found: &Found,
        imagen: &Imagen,
        request: &Request,
        frozen: &FrozenArgs,
    ) -> Result<()> {
        let needs = imagen.needs(request)?;
        let Some(largest) = needs.iter().max_by_key(|need| need.bytes()) else { return Ok(()) };
        let part = if largest.stage.is_some() { "stage " } else { "" };
        let what = format!("drawing ({part}{})", largest.what);
        let Err(failure) = self.check(found, &what, largest.bytes()) else { return Ok(()) };
        let limit = self.limit(found).unwrap_or(u64::MAX);
        let mut least = (u64::MAX, String::new());
        for (request, stored, flags) in smaller(imagen, request, frozen)? {
            let needed = most(&imagen.needs_stored(&request, stored)?);
            if needed <= limit {
                return Err(failure.hint(format_args!("it would fit with{flags}: about {}", bytes(needed))));
            }
            if needed < least.0 {
                least = (needed, flags);
            }
        }
        let (needed, flags) = least;
        let without = if imagen.deepfloyd().is_some() && request.embeddings.is_none() {
            "; --embeddings does without the text encoder"
        } else {
            "; use a smaller model"
        };
        let with = if flags.is_empty() { String::new() } else { format!(", with{flags}") };
        let least = bytes(needed);
        Err(failure.hint(format_args!("the least that this model can take is about {least}{with}{without}")))
    }

    /// What there may be, where that is known.
    pub(in crate::cli) fn limit(&self, found: &Found) -> Option<u64> {
        self.max_memory.or_else(|| system::memory_of(found))
    }

    fn check(&self, found: &Found, what: &str, needed: u64) -> Result<()> {
        let Some(limit) = self.limit(found).filter(|limit| needed > *limit) else { return Ok(()) };
        let (needed, limit) = (bytes(needed), bytes(limit));
        let on = if found.is_cpu() { String::new() } else { format!(" on {}", found.name) };
        let limit = match self.max_memory {
            Some(_) => format!("the limit is {limit}"),
            None => format!("there are {limit}{on}"),
        };
        Err(Failure::new(Exit::Memory, format_args!("{what} takes about {needed}, and {limit}")))
    }
}

/// Bytes of the part that takes the most.
fn most(needs: &[Need]) -> u64 {
    needs.iter().map(Need::bytes).max().unwrap_or(0)
}

/// A request that takes less, the forms of its weights where they change, and the flags that say so.
type Smaller = (Request, Option<(Storage, Storage)>, String);

/// What takes less, the least change first: fewer pictures at once, smaller forms of frozen weights, fewer stages.
fn smaller(imagen: &Imagen, request: &Request, frozen: &FrozenArgs) -> Result<Vec<Smaller>> {
    let batch = imagen.batch(request).min(request.pictures.len().max(1));
    let batches: Vec<usize> = match imagen.deepfloyd() {
        None => (1..=batch).rev().collect(),
        Some(_) if batch > 1 => vec![batch, 1],
        Some(_) => vec![1],
    };
    let (networks, text) = frozen.stored();
    let forms: Vec<(Option<(Storage, Storage)>, String)> = match imagen.deepfloyd() {
        None => vec![(None, String::new())],
        Some(_) => {
            let texts = [(text, ""), (Storage::F16, " --text-storage f16"), (Storage::Int8, " --text-storage int8")];
            let form = |(text, flag): (Storage, &'static str)| {
                [(networks, ""), (Storage::F16, " --storage f16"), (Storage::Int8, " --storage int8")]
                    .map(|(networks, other)| (Some((networks, text)), format!("{flag}{other}")))
            };
            texts.into_iter().flat_map(form).collect()
        }
    };
    let stages: Vec<_> = imagen.resolve(request)?.into_iter().map(|(stage, _)| stage).rev().collect();
    let mut all = Vec::new();
    for (i, until) in stages.iter().enumerate() {
        for (form, form_flags) in &forms {
            for fewer in &batches {
                let mut request = Request { until: Some(*until), batch: Some(*fewer), ..request.clone() };
                request.options.retain(|stage, _| stage <= until);
                let mut flags = if i > 0 { format!(" --until {until}") } else { String::new() };
                flags.push_str(form_flags);
                if *fewer < batch {
                    flags.push_str(&format!(" --batch {fewer}"));
                }
                all.push((request, *form, flags));
            }
        }
    }
    Ok(all)
}

/// A number of bytes: `500M`, `8G`, `1.5g`, `1024`.
fn size(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?}: expected a size such as 500M or 8G");
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match text[digits.len()..].to_ascii_lowercase().trim_end_matches('b').trim_end_matches('i') {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        _ => return Err(wrong()),
    };
    let number: f64 = digits.parse().map_err(|_| wrong())?;
    if number.is_finite() && number > 0.0 { Ok((number * (1u64 << unit) as f64) as u64) } else { Err(wrong()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_their_units() {
        let cases = [("1024", 1024), ("8G", 8 << 30), ("1.5g", 3 << 29), ("500MiB", 500 << 20), ("2kb", 2048)];
        for (text, expected) in cases {
            assert_eq!(size(text), Ok(expected), "{text}");
        }
        for text in ["", "G", "-1G", "8X", "eight", "nan"] {
            assert!(size(text).is_err(), "{text}");
        }
    }
}

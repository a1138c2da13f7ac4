//! `imagen data stats`: what a set is like. It describes the pictures that can be read and says nothing of trouble, which
//! is what `check` is for.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;

use clap::builder::RangedU64ValueParser;
use serde_json::{Value, json};

use imagen::data::{Look, Source, Split, Survey};
use imagen::error::shown;

use super::check;
use super::looked::{LAYOUTS, Looked, token_counts};
use super::spread::Spread;
use crate::failure::{Exit, Failure, Result, print_line};

/// How many of the most frequent words, and how many of the largest concepts, are listed.
const LISTED: usize = 20;
/// Pictures of each split of a world that are counted.
const COUNTED: u64 = 2000;
/// A side may be so much longer and the picture still counts as square.
const SQUARE: f64 = 1.05;

/// Describe a set: sizes, colours, captions, concepts
#[derive(Debug, clap::Args)]
#[command(after_help = LAYOUTS)]
pub(super) struct Stats {
    #[command(flatten)]
    looked: Looked,
    /// Channels of the means and deviations: 1 grey, 2 grey and alpha, 3 RGB, 4 RGBA; a recipe's image_channels
    #[arg(long, value_name = "N", default_value = "3")]
    #[arg(value_parser = RangedU64ValueParser::<usize>::new().range(1..=4))]
    channels: usize,
}

impl Stats {
    pub(super) fn run(self) -> Result<()> {
        let (source, survey) = self.looked.take(self.channels)?;
        if survey.readable().next().is_none() {
            let message = format_args!("no picture of {} can be read", self.looked.folder.display());
            return Err(Failure::new(Exit::Data, message).hint("`imagen data check` says why"));
        }
        let encoder = self.looked.encoder(&source)?;
        let tokens = encoder.as_deref().map(|encoder| token_counts(&source, encoder)).transpose()?;
        let report = report(&source, &survey, tokens)?;
        print_line(if self.looked.json { report.to_string() } else { describe(&report) })
    }
}

/// Everything as JSON, of which the text is a rendering.
fn report(source: &Source, survey: &Survey, tokens: Option<Vec<usize>>) -> Result<Value> {
    let looks: Vec<&Look> = survey.readable().map(|(_, look)| look).collect();
    let spread = |of: &dyn Fn(&Look) -> usize| Spread::of(looks.iter().map(|look| of(look)).collect());
    let mut stored: BTreeMap<_, usize> = BTreeMap::new();
    let mut shapes = [("portrait", 0), ("square", 0), ("landscape", 0)];
    for look in &looks {
        *stored.entry(look.stored).or_default() += 1;
        let aspect = look.width as f64 / look.height as f64;
        shapes[if aspect > SQUARE { 2 } else { usize::from(aspect >= 1.0 / SQUARE) }].1 += 1;
    }
    let stored = stored.into_iter().map(|(form, count)| {
        json!({ "format": form.format, "channels": form.channels, "bits": form.bits, "pictures": count })
    });
    let mut aspects: Vec<f64> = looks.iter().map(|look| look.width as f64 / look.height as f64).collect();
    aspects.sort_by(f64::total_cmp);
    let channels = survey.moments().into_iter().map(|m| json!({ "mean": m.mean, "std": m.std }));
    let concepts = source.concepts();
    let mut largest: Vec<(&str, usize)> = concepts
        .iter()
        .filter_map(|members| Some((source.examples()[members[0]].concept.as_deref()?, members.len())))
        .collect();
    let named = largest.len();
    largest.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
    largest.truncate(LISTED);
    let composed = source.world().map(|world| -> Result<Value> {
        let train = world.census(Split::Train, COUNTED)?;
        let held_out = world.holds_out().then(|| world.census(Split::Validation, COUNTED)).transpose()?;
        Ok(json!({ "train": train, "validation": held_out, "of": COUNTED }))
    });
    let composed = composed.transpose()?;
    let in_split = |split| source.examples().iter().filter(|example| example.split == split).count();
    Ok(json!({
        "detected": source.origin(),
        "pictures": looks.len(),
        "unreadable": survey.looks.len() - looks.len(),
        "unusable_texts": check::named(&source.odd().unusable),
        "passed_over": check::named(&source.odd().passed),
        "splits": { "train": in_split(Split::Train), "validation": in_split(Split::Validation) },
        "width": spread(&|look| look.width),
        "height": spread(&|look| look.height),
        "aspect": {
            "min": aspects[0],
            "median": aspects[aspects.len() / 2],
            "max": aspects[aspects.len() - 1],
            "portrait": shapes[0].1,
            "square": shapes[1].1,
            "landscape": shapes[2].1,
        },
        "stored": stored.collect::<Vec<_>>(),
        "channels": channels.collect::<Vec<_>>(),
        "captions": captions(source, tokens),
        "composed": composed,
        "concepts": {
            "named": named,
            "largest": largest.iter().map(|(name, n)| json!({ "concept": name, "pictures": n })).collect::<Vec<_>>(),
        },
    }))
}

fn captions(source: &Source, tokens: Option<Vec<usize>>) -> Value {
    let captions = source.captions();
    let mut words: HashMap<String, usize> = HashMap::new();
    for caption in captions {
        for word in words_of(caption) {
            *words.entry(word.to_lowercase()).or_default() += 1;
        }
    }
    let different = words.len();
    let mut words: Vec<(String, usize)> = words.into_iter().collect();
    words.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    words.truncate(LISTED);
    json!({
        "different": captions.len(),
        "a_picture": Spread::of(source.examples().iter().map(|example| example.captions.len()).collect()),
        "characters": Spread::of(captions.iter().map(|caption| caption.chars().count()).collect()),
        "words": Spread::of(captions.iter().map(|caption| words_of(caption).count()).collect()),
        "tokens": tokens.and_then(Spread::of),
        "different_words": different,
        "frequent": words.iter().map(|(word, n)| json!({ "word": word, "times": n })).collect::<Vec<_>>(),
    })
}

/// The words of a caption: letters and digits, with what joins them.
fn words_of(caption: &str) -> impl Iterator<Item = &str> {
    let inner = |c: char| c.is_alphanumeric() || c == '\'' || c == '-';
    caption.split(move |c| !inner(c)).filter(|word| word.contains(char::is_alphanumeric))
}

/// The report for people.
fn describe(report: &Value) -> String {
    let mut text = format!("found {}", report["detected"].as_str().unwrap_or_default());
    let mut line = |title: &str, rest: String| write!(text, "\n{title:<14}{rest}").expect("writing to a string");
    let list = |values: &Value, show: &dyn Fn(&Value) -> String| -> String {
        values.as_array().into_iter().flatten().map(show).collect::<Vec<_>>().join(", ")
    };
    let word = |value: &Value| shown(value.as_str().unwrap_or_default()).into_owned();
    let splits = &report["splits"];
    let readable = &report["pictures"];
    line("pictures", format!("{readable} readable; {} train, {} validation", splits["train"], splits["validation"]));
    let left_out = [
        ("unreadable", &report["unreadable"]),
        ("texts or shards", &report["unusable_texts"]),
        ("passed over", &report["passed_over"]),
    ];
    let count = |value: &Value| value.as_u64().or(value.as_array().map(|list| list.len() as u64)).unwrap_or_default();
    let left_out: Vec<String> =
        left_out.iter().filter(|(_, of)| count(of) > 0).map(|(what, of)| format!("{} {what}", count(of))).collect();
    if !left_out.is_empty() {
        line("left out", format!("{}; `imagen data check` says why", left_out.join(", ")));
    }
    line(
        "stored",
        list(&report["stored"], &|form| {
            format!("{} {} of {}×{} bits", form["pictures"], word(&form["format"]), form["channels"], form["bits"])
        }),
    );
    line("width", spread(&report["width"]));
    line("height", spread(&report["height"]));
    let aspect = &report["aspect"];
    let number = |value: &Value| value.as_f64().unwrap_or_default();
    line(
        "aspect",
        format!(
            "{:.2} to {:.2}, median {:.2}; {} portrait, {} square, {} landscape",
            number(&aspect["min"]),
            number(&aspect["max"]),
            number(&aspect["median"]),
            aspect["portrait"],
            aspect["square"],
            aspect["landscape"]
        ),
    );
    let moments = |channel: &Value| format!("{:.3} ± {:.3}", number(&channel["mean"]), number(&channel["std"]));
    line("channels", list(&report["channels"], &moments));
    let captions = &report["captions"];
    if captions["different"] != json!(0) {
        line(
            "captions",
            format!("{} different; a picture has {}", captions["different"], spread(&captions["a_picture"])),
        );
        for unit in ["characters", "words", "tokens"].into_iter().filter(|unit| !captions[*unit].is_null()) {
            line(&format!("  {unit}"), spread(&captions[unit]));
        }
        let frequent = list(&captions["frequent"], &|entry| format!("{} {}", word(&entry["word"]), entry["times"]));
        line("words", format!("{} different; {frequent}", captions["different_words"]));
    }
    for split in ["train", "validation"] {
        let counts = report["composed"][split].as_object().into_iter().flatten();
        let counts: Vec<String> = counts.map(|(what, count)| format!("{what} {count}")).collect();
        if !counts.is_empty() {
            line(split, format!("of {}: {}", report["composed"]["of"], counts.join(", ")));
        }
    }
    let concepts = &report["concepts"];
    if concepts["named"] != json!(0) {
        let largest = list(&concepts["largest"], &|entry| format!("{} {}", word(&entry["concept"]), entry["pictures"]));
        line("concepts", format!("{}; {largest}", concepts["named"]));
    }
    text
}

fn spread(of: &Value) -> String {
    if of["min"] == of["max"] {
        return of["min"].to_string();
    }
    format!(
        "{} to {}, median {}, 80 % between {} and {}",
        of["min"], of["max"], of["median"], of["tenth"], of["ninetieth"]
    )
}

#[cfg(test)]
mod tests {
    use super::words_of;

    #[test]
    fn words_are_letters_and_what_joins_them() {
        let words: Vec<&str> = words_of("A crème-brûlée, the cook's 2nd — '-' 猫!").collect();
        assert_eq!(words, ["A", "crème-brûlée", "the", "cook's", "2nd", "猫"]);
    }
}

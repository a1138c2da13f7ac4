//! Pictures on the way to others: from a prompt to another, from a seed to another, and variations around one.

use imagen::cascade::{Request, Subject, Toward};

use crate::cli::draw::DRAW;
use crate::failure::{Failure, Result};
use crate::output::record::{Remembered, TowardRecord};

/// Pictures on a way where nothing is said.
const FRAMES: usize = 8;

/// Pictures on the way to others.
#[derive(Debug, Default, clap::Args)]
pub(super) struct BetweenArgs {
    /// Go to this prompt, picture by picture
    #[arg(long, value_name = "PROMPT", help_heading = DRAW, allow_hyphen_values = true)]
    to: Option<String>,
    /// Go to this seed, picture by picture
    #[arg(long, hide_short_help = true, value_name = "SEED", help_heading = DRAW)]
    to_seed: Option<u64>,
    /// Pictures on the way to --to, both ends among them; 8 by default
    #[arg(long, hide_short_help = true, value_name = "N", help_heading = DRAW, conflicts_with_all = ["count", "at"])]
    #[arg(value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(2..=10_000))]
    frames: Option<usize>,
    /// Draw only the picture at this part of the way
    #[arg(long, hide_short_help = true, value_name = "PART", help_heading = DRAW)]
    at: Option<f64>,
    /// Draw variations: the first is the picture of the seed, the others are this part of the way to other seeds
    #[arg(long, hide_short_help = true, value_name = "PART", help_heading = DRAW, conflicts_with_all = ["to", "to_seed"])]
    vary: Option<f64>,
}

impl BetweenArgs {
    /// The request for these prompts, so many pictures each; one without a way where none is asked for.
    pub(super) fn request(
        &self,
        prompts: Vec<String>,
        (count, seed): (usize, u64),
        remembered: Option<&Remembered>,
    ) -> Result<Request> {
        if let Some(part) = self.vary {
            if count < 2 {
                return Err(Failure::usage("--vary draws pictures beside the one of the seed, and one is asked for")
                    .hint("say how many with --count, the first among them"));
            }
            return Ok(Request::variations(prompts, count, seed, part));
        }
        let remembered = remembered.and_then(|remembered| remembered.toward.clone());
        let goes = self.to.is_some() || self.to_seed.is_some();
        let one = TowardRecord { prompt: None, seed: None, part: 0.0 };
        let Some(before) = remembered.or(goes.then_some(one)) else {
            return match (self.frames, self.at) {
                (None, None) => Ok(Request::new(prompts, count, seed)),
                _ => Err(Failure::usage("--frames and --at are for a way: give its end with --to or --to-seed")),
            };
        };
        let [from] = <[String; 1]>::try_from(prompts)
            .map_err(|all| Failure::usage(format_args!("a way begins with one prompt, and {} are given", all.len())))?;
        if count > 1 {
            return Err(Failure::usage("--count is not for a way: --frames says how many pictures it has"));
        }
        let to = self.to.clone().or(before.prompt).unwrap_or_else(|| from.clone());
        let to_seed = self.to_seed.or(before.seed).unwrap_or(seed);
        if to == from && to_seed == seed {
            return Err(Failure::usage("the way ends where it begins: give another prompt or another seed"));
        }
        let at = self.at.or((before.part > 0.0 && self.frames.is_none()).then_some(before.part));
        let mut request = Request::between((from, seed), (to, to_seed), self.frames.unwrap_or(FRAMES));
        if let Some(part) = at {
            request.pictures.truncate(1);
            request.pictures[0].toward.as_mut().expect("a way").part = part;
        }
        Ok(request)
    }
}

/// Where a picture is on its way, for its record; nothing where it is at the beginning.
pub(in crate::cli) fn record(request: &Request, index: usize) -> Option<TowardRecord> {
    let Subject { prompt, seed, toward, .. } = request.pictures[index];
    let Toward { prompt: other, seed: to_seed, part } = toward.filter(|toward| toward.part > 0.0)?;
    Some(TowardRecord {
        prompt: (other != prompt).then(|| request.prompts[other].clone()),
        seed: (to_seed != seed).then_some(to_seed),
        part,
    })
}

/// The flags that say it again.
pub(in crate::cli) fn flags(request: &Request, index: usize) -> Vec<(&'static str, String)> {
    let Some(TowardRecord { prompt, seed, part }) = record(request, index) else { return Vec::new() };
    let ends = [("--to", prompt), ("--to-seed", seed.map(|seed| seed.to_string()))];
    let ends = ends.into_iter().filter_map(|(flag, value)| Some((flag, value?)));
    ends.chain([("--at", part.to_string())]).collect()
}

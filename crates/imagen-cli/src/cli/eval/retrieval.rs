//! `imagen eval retrieval`: whether a CLIP finds a picture's own caption among others' (R-precision).

use clap::builder::RangedU64ValueParser;
use serde_json::{Map, Value, json};

use imagen::eval::retrieval::{by_chance, caption_ranks};
use imagen::eval::wilson;

use super::captioned::Captioned;
use crate::failure::{Result, print_line};

/// Ranks that count as found.
const TOP: [usize; 2] = [1, 5];

const EXAMPLES: &str = "\
Examples:
  imagen eval retrieval drawn --clip models/clip-vit-large-patch14
  imagen eval retrieval drawn --clip models/clip-vit-large-patch14 --among 30 --json

Without a CLIP, `imagen eval recovery` looks for drawn pictures among real ones by pixels.";

/// How often a picture's own caption fits it best among others' (R-precision, by a CLIP)
///
/// The others are drawn at random from the set's captions, for each picture anew. A caption that fits as well counts against.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Retrieval {
    /// Captions among which the right one is looked for, itself included
    #[arg(long, value_name = "K", default_value = "100")]
    #[arg(value_parser = RangedU64ValueParser::<usize>::new().range(2..=100_000))]
    among: usize,
    #[command(flatten)]
    captioned: Captioned,
}

impl Retrieval {
    pub(super) fn run(self) -> Result<()> {
        let embedded = self.captioned.embed()?;
        let (among, seed, n) = (self.among, self.captioned.seed, embedded.count());
        let ranks = caption_ranks(&embedded.pictures, &embedded.captions, &embedded.own, embedded.dim, among, seed)?;
        let hits = |top: usize| ranks.iter().filter(|rank| **rank <= top).count();
        if self.captioned.json {
            let rate = |top: usize| {
                let (hits, by_chance) = (hits(top), by_chance(1, among, top));
                json!({ "hits": hits, "rate": hits as f64 / n as f64, "interval": wilson(hits, n), "by_chance": by_chance })
            };
            let mut fields = Map::from_iter(TOP.map(|top| (format!("top_{top}"), rate(top))));
            fields.extend([("among".into(), json!(among)), ("seed".into(), json!(seed))]);
            fields.extend(embedded.protocol());
            return print_line(Value::Object(fields));
        }
        let mut lines = vec![format!("retrieval of a picture's caption among {among}")];
        for (top, what) in TOP.into_iter().zip(["fits best", "among the best 5"]) {
            let interval = wilson(hits(top), n);
            lines.push(format!(
                "  {what:<17} {:5.1} %  ({} of {n}; 95 % interval {:.1} to {:.1}; by chance {:.2})",
                100.0 * hits(top) as f64 / n as f64,
                hits(top),
                100.0 * interval.low,
                100.0 * interval.high,
                100.0 * by_chance(1, among, top),
            ));
        }
        lines.push(format!("{}; others by seed {seed}", embedded.describe()));
        print_line(lines.join("\n"))
    }
}

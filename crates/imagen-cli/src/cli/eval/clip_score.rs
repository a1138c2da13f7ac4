//! `imagen eval clip-score`: how well pictures fit their captions, in the eyes of a CLIP.

use serde_json::{Value, json};

use imagen::eval::retrieval::cosine;
use imagen::eval::{Interval, clip_score, mean};

use super::captioned::{Captioned, Embedded};
use super::finding::with_interval;
use crate::failure::{Result, print_line};

const EXAMPLES: &str = "\
Examples:
  imagen eval clip-score drawn --clip models/clip-vit-large-patch14
  imagen eval clip-score --samples 256 --data data/cats --clip models/clip-vit-base-patch32

The paper's is that of ViT-L/14. Scores of different CLIPs are not comparable.";

/// CLIP score of pictures with captions: the mean of 100 max(cos, 0)
///
/// Of several captions of a picture the first counts.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct ClipScore {
    #[command(flatten)]
    captioned: Captioned,
}

impl ClipScore {
    pub(super) fn run(self) -> Result<()> {
        let embedded = self.captioned.embed()?;
        let (value, interval) = score(&embedded);
        if self.captioned.json {
            let mut fields =
                serde_json::Map::from_iter([("clip_score".into(), json!(value)), ("interval".into(), json!(interval))]);
            fields.extend(embedded.protocol());
            return print_line(Value::Object(fields));
        }
        print_line(format!("CLIP score: {}\n{}", with_interval(value, interval, 3), embedded.describe()))
    }
}

/// The mean of the pictures' scores.
pub(super) fn score(embedded: &Embedded) -> (f64, Option<Interval>) {
    let dim = embedded.dim;
    let of_picture =
        |(picture, own): (&[f32], &usize)| clip_score(cosine(picture, &embedded.captions[own * dim..][..dim]));
    let scores: Vec<f64> = embedded.pictures.chunks_exact(dim).zip(&embedded.own).map(of_picture).collect();
    mean(&scores)
}

//! Pictures with their captions through a CLIP: of a folder, or drawn by a model. `clip_score` and `retrieval` make numbers of
//! the embeddings.

use std::path::PathBuf;

use burn::tensor::{Device, Tensor};
use clap::builder::RangedU64ValueParser;
use serde_json::{Map, Value, json};

use imagen::cascade::StageName;
use imagen::data::{Example, Source, Split};
use imagen::eval::Clip;

use super::drawing::{DrawingArgs, choose, subjects};
use super::pictures::{Set, chunks};
use crate::cli::shared::{self, one_of};
use crate::failure::{Failure, Result};
use crate::interrupt;
use crate::progress::Progress;

/// Captions that pass through the network at once.
const BATCH: usize = 32;

/// Which pictures, and the CLIP.
#[derive(Debug, clap::Args)]
pub(super) struct Captioned {
    /// A folder of pictures with captions, or a tar shard
    #[arg(required_unless_present = "samples", conflicts_with = "samples")]
    folder: Option<PathBuf>,
    /// The part of the set, or of --data; all of it by default
    #[arg(long, value_name = "SPLIT", value_parser = one_of::<Split>())]
    split: Option<Split>,
    /// A folder with a CLIP as published (config.json, tokenizer, model.safetensors, preprocessor_config.json), or its name once
    /// `imagen models pull openai/clip-vit-large-patch14` has fetched it
    #[arg(long, value_name = "FOLDER")]
    clip: PathBuf,
    /// Draw so many captions of --data and look at what comes out
    #[arg(long, value_name = "N", requires = "data")]
    #[arg(value_parser = RangedU64ValueParser::<usize>::new().range(1..=100_000))]
    samples: Option<usize>,
    /// The set whose captions are drawn
    #[arg(long, value_name = "FOLDER", requires = "samples")]
    data: Option<PathBuf>,
    /// The last stage of the model that draws
    #[arg(long, value_name = "STAGE", value_parser = one_of::<StageName>(), requires = "samples", default_value = "base")]
    until: StageName,
    /// Seed: of whatever is drawn at random, of the captions, and of the first picture
    #[arg(short, long, default_value_t = 0)]
    pub(super) seed: u64,
    /// Print one JSON object
    #[arg(long)]
    pub(super) json: bool,
    /// Print no progress
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    drawing: DrawingArgs,
}

/// What the CLIP makes of pictures and their captions.
pub(super) struct Embedded {
    /// `[n, dim]`
    pub(super) pictures: Vec<f32>,
    /// `[m, dim]`, of different captions.
    pub(super) captions: Vec<f32>,
    /// The number of each picture's caption.
    pub(super) own: Vec<usize>,
    pub(super) dim: usize,
    /// The CLIP's identity and what happens to pictures.
    extractor: String,
    resize: String,
    /// Where the pictures come from, for people.
    origin: String,
}

impl Captioned {
    /// Reads or draws the pictures.
    pub(super) fn embed(&self) -> Result<Embedded> {
        self.drawing.how.machine.compute(|found| self.embed_on(&found.device))
    }

    fn embed_on(&self, device: &Device) -> Result<Embedded> {
        interrupt::watch("stopping; there is no result without all pictures")?;
        let mut progress = Progress::new(self.quiet);
        let clip = open(&self.clip, device, &progress)?;
        if let (Some(count), Some(data)) = (self.samples, &self.data) {
            return self.drawn(&clip, data, count, device, &mut progress);
        }
        let Some(folder) = &self.folder else { unreachable!("clap requires it without --samples") };
        let set = Set { path: folder, split: self.split };
        let source = set.source()?;
        let examples: Vec<&Example> = source.examples().iter().collect();
        let captions = examples.iter().map(|example| caption(&source, example)).collect::<Result<_>>()?;
        of_source(&clip, &source, &examples, captions, set.label(), &mut progress)
    }

    /// What a model draws of captions of a set.
    fn drawn(
        &self,
        clip: &Clip,
        data: &std::path::Path,
        count: usize,
        device: &Device,
        progress: &mut Progress,
    ) -> Result<Embedded> {
        let set = Set { path: data, split: self.split };
        let source = set.source()?;
        let every: Vec<&Example> = source.examples().iter().collect();
        let subjects = subjects(&source, &choose(&every, count, self.seed), self.seed)?;
        let session = self.drawing.open(self.until, device, progress)?;
        let mut pictures = Vec::new();
        session.draw(&subjects, progress, |drawn| {
            pictures.extend(numbers(clip.embed_pictures(&[drawn.picture])?));
            Ok(())
        })?;
        let captions = subjects.iter().map(|subject| subject.caption.clone()).collect();
        let settings: Vec<String> = session
            .stages
            .iter()
            .map(|(stage, s)| format!("{stage} {} steps, guidance {}", s.steps, s.guidance))
            .collect();
        let origin = format!(
            "captions of {}, drawn by {} ({}), one picture each, uncurated, seed {} plus k for picture k",
            set.label(),
            session.record.name,
            settings.join("; "),
            self.seed
        );
        Embedded::of(clip, pictures, captions, origin)
    }
}

impl Embedded {
    /// Pictures' embeddings, one after the other, with the caption of each; every caption is embedded once.
    pub(super) fn of(clip: &Clip, pictures: Vec<f32>, captions: Vec<String>, origin: String) -> Result<Self> {
        let (mut different, mut own) = (Vec::<&str>::new(), Vec::new());
        let mut numbers_of = std::collections::HashMap::new();
        for caption in &captions {
            own.push(*numbers_of.entry(caption.as_str()).or_insert_with(|| {
                different.push(caption);
                different.len() - 1
            }));
        }
        let mut embedded = Vec::new();
        for batch in different.chunks(BATCH) {
            embedded.extend(numbers(clip.embed_texts(batch)?));
        }
        let dim = pictures.len() / own.len().max(1);
        Ok(Embedded {
            pictures,
            captions: embedded,
            own,
            dim,
            extractor: clip.identity().to_owned(),
            resize: clip.resize(),
            origin,
        })
    }

    pub(super) fn count(&self) -> usize {
        self.own.len()
    }

    /// The keys that say what a number depends on.
    pub(super) fn protocol(&self) -> Map<String, Value> {
        Map::from_iter([
            ("pictures".into(), json!(self.count())),
            ("captions".into(), json!(self.captions.len() / self.dim)),
            ("extractor".into(), json!(self.extractor)),
            ("resize".into(), json!(self.resize)),
            ("of".into(), json!(self.origin)),
        ])
    }

    /// What was measured, as people read it.
    pub(super) fn describe(&self) -> String {
        let captions = self.captions.len() / self.dim;
        format!(
            "  {} pictures with {captions} different captions, of {}\n  {}; {}",
            self.count(),
            self.origin,
            self.extractor,
            self.resize
        )
    }
}

/// A CLIP of a folder.
pub(super) fn open(folder: &std::path::Path, device: &Device, progress: &Progress) -> Result<Clip> {
    let folder = shared::model_folder(folder)?;
    progress.note(format_args!("opening {}", folder.display()));
    Ok(Clip::open(&folder, device)?)
}

/// The embeddings of these pictures of a set, each with a caption.
pub(super) fn of_source(
    clip: &Clip,
    source: &Source,
    examples: &[&Example],
    captions: Vec<String>,
    origin: String,
    progress: &mut Progress,
) -> Result<Embedded> {
    let mut pictures = Vec::new();
    chunks(
        source,
        examples,
        0,
        progress,
        |picture| clip.prepare(std::slice::from_ref(picture)),
        |prepared| {
            pictures.extend(numbers(clip.embed_prepared(Tensor::cat(prepared, 0))?));
            Ok(())
        },
    )?;
    Embedded::of(clip, pictures, captions, origin)
}

/// The caption of a picture: the first.
fn caption(source: &Source, example: &Example) -> Result<String> {
    let first = example.captions.first().ok_or_else(|| {
        let failure = Failure::usage(format_args!("{} of {} has no caption", example.name, source.folder().display()));
        failure.hint("name a folder with metadata.jsonl, or with a .txt beside each picture")
    })?;
    Ok(source.captions()[*first].clone())
}

/// The numbers of embeddings, one after the other.
pub(super) fn numbers(tensor: Tensor<2>) -> Vec<f32> {
    tensor.into_data().iter::<f32>().collect()
}

//! `imagen eval coco`: the paper's automatic evaluation (section 4.2, table 1). Captions of COCO drawn by seed, a picture of each,
//! their distance to the set's own pictures, their CLIP score.
//!
//! The manifest is written before the first picture and says what everything depends on; the same command goes on where it
//! was stopped, and processes share the work by `--shard`. Picture k has the seed plus k, so that who draws it changes
//! nothing. The folder is a set like any other.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use burn::tensor::Device;
use clap::builder::RangedU64ValueParser;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use imagen::cascade::{StageName, StageSettings};
use imagen::data::{CocoCaption, Source, coco_captions};
use imagen::eval::Summary;
use imagen::files::Lock;

use super::captioned::{self, Embedded};
use super::clip_score;
use super::comparison;
use super::distances::frechet;
use super::drawing::{DrawingArgs, choose};
use super::features::Features;
use super::finding::{Finding, with_interval};
use super::manifest;
use super::pictures::Set;
use crate::cli::draw::{Session, Subject};
use crate::cli::shard::Sharded;
use crate::cli::shared::one_of;
use crate::failure::{Exit, Failure, Result, print_line};
use crate::interrupt;
use crate::output::record::ModelRecord;
use crate::progress::Progress;

/// The paper's guidance weights of table 1: of the base, and of super-resolution.
const GUIDANCE: [f64; 2] = [1.35, 8.0];
const MANIFEST: &str = "coco.json";
/// Side of the middle of the originals that drawn pictures are compared with, as is customary.
const CROP: usize = 256;

const EXAMPLES: &str = "\
Examples:
  imagen eval coco drawn --captions annotations/captions_val2014.json -m models/ours \\
    --reference val2014 --inception inception.safetensors --clip models/clip-vit-large-patch14
  imagen eval coco drawn --captions annotations/captions_val2014.json -m models/ours --shard 1/4
  imagen eval coco drawn --captions annotations/captions_val2014.json -n 10000 --guidance 3,8

The paper's protocol is what stands here by default: 30,000 captions of the validation set of 2014
at random, 256x256, guidance 1.35 for the base and 8.0 for super-resolution, compared with all
pictures of the validation set; its ablations take 10,000. For Inception the middle of each picture
is cut out at 256x256 first, as is customary: originals are not square (--crop 0 stretches them, as
pytorch-fid by itself does). Make a file of the reference's statistics with --crop 256 too. Stopped
with Ctrl-C or killed, the same command goes on. With --shard each process draws its part, on one
machine or on several that share the folder; the one that finds every picture there measures. The
folder may be measured again at any time.";

/// The paper's evaluation on COCO: draw captions, then FID and CLIP score
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Coco {
    /// The folder of the drawn pictures; made where it does not exist
    folder: PathBuf,
    /// A captions file of COCO (JSON with images and annotations); its pictures need not be there
    #[arg(long, value_name = "FILE")]
    captions: PathBuf,
    /// Captions, at random, none twice: 30000 as in table 1, 10000 as in the ablations
    #[arg(short = 'n', long, value_name = "N", default_value = "30000")]
    #[arg(value_parser = RangedU64ValueParser::<usize>::new().range(4..=1_000_000))]
    count: usize,
    /// Seed of the choice of captions and of the first picture
    #[arg(short, long, default_value_t = 0)]
    seed: u64,
    /// The last stage that draws
    #[arg(long, value_name = "STAGE", value_parser = one_of::<StageName>(), default_value = "sr256")]
    until: StageName,
    #[command(flatten)]
    sharded: Sharded,
    /// What the pictures are compared with: a folder of the set's own, or a file of `imagen eval stats`
    #[arg(long, value_name = "FOLDER|FILE")]
    reference: Option<PathBuf>,
    /// A folder with a CLIP, for the CLIP score
    #[arg(long, value_name = "FOLDER")]
    clip: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// Print no progress
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    features: Features,
    #[command(flatten)]
    drawing: DrawingArgs,
}

/// All that the pictures of a folder depend on.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    /// The captions file's name, how many captions it holds, and a hash of them.
    captions: String,
    captions_there: usize,
    captions_digest: String,
    count: usize,
    seed: u64,
    model: ModelRecord,
    stages: Vec<(StageName, StageSettings)>,
}

/// A picture to draw.
struct Picture {
    file: String,
    subject: Subject,
    /// The picture whose caption it is.
    original: String,
}

impl Coco {
    pub(super) fn run(self) -> Result<()> {
        let machine = self.drawing.how.machine;
        machine.compute(|found| self.run_on(&found.device))
    }

    fn run_on(self, device: &Device) -> Result<()> {
        interrupt::watch("stopping; finished pictures are kept, and the same command goes on")?;
        let mut progress = Progress::new(self.quiet);
        let captions = coco_captions(&self.captions)?;
        let pictures = self.pictures(&captions)?;
        let [base, super_resolution] = GUIDANCE;
        let guidance = |stage| Some(if stage == StageName::Base { base } else { super_resolution });
        let session = self.drawing.open_with(self.until, guidance, device, &progress)?;
        let manifest = self.manifest(&captions, &session);
        let _lock = self.begin(&manifest, &pictures)?;
        let missing = self.draw(&session, &pictures, &mut progress)?;
        if missing > 0 {
            let there = pictures.len() - missing;
            return print_line(if self.json {
                json!({ "drawn": there, "of": pictures.len(), "protocol": manifest }).to_string()
            } else {
                format!(
                    "{}\n  {there} of {} pictures are there; the others are other shards'",
                    manifest.describe(),
                    pictures.len()
                )
            });
        }
        self.measure(&manifest, &pictures, device, &mut progress)
    }

    /// What to draw, in order.
    fn pictures(&self, captions: &[CocoCaption]) -> Result<Vec<Picture>> {
        if captions.len() < self.count {
            let (there, file) = (captions.len(), self.captions.display());
            let failure = Failure::usage(format_args!("{file} holds {there} captions, not {}", self.count));
            return Err(failure.hint(format_args!("draw fewer: --count {there}")));
        }
        if self.seed.checked_add(self.count as u64).is_none() {
            return Err(Failure::usage(format_args!(
                "--seed {} plus {} pictures is out of range",
                self.seed, self.count
            )));
        }
        let picture = |(k, CocoCaption { file_name, text }): (usize, CocoCaption)| Picture {
            file: format!("{k:06}.png"),
            subject: Subject { caption: text, seed: self.seed + k as u64 },
            original: file_name,
        };
        Ok(choose(captions, self.count, self.seed).into_iter().enumerate().map(picture).collect())
    }

    fn manifest(&self, captions: &[CocoCaption], session: &Session) -> Manifest {
        let mut hash = Sha256::new();
        for CocoCaption { file_name, text } in captions {
            hash.update(format!("{file_name}\0{text}\0"));
        }
        Manifest {
            captions: self.captions.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned()),
            captions_there: captions.len(),
            captions_digest: hash.finalize()[..8].iter().map(|byte| format!("{byte:02x}")).collect(),
            count: self.count,
            seed: self.seed,
            model: session.record.clone(),
            stages: session.stages.clone(),
        }
    }

    /// Makes the folder, or finds it as this command would make it.
    fn begin(&self, manifest: &Manifest, pictures: &[Picture]) -> Result<Option<Lock>> {
        let row = |picture: &Picture| {
            let Picture { file, subject: Subject { caption, seed }, original } = picture;
            json!({ "file_name": file, "text": caption, "seed": seed, "original": original })
        };
        manifest::begin(&self.folder, MANIFEST, manifest, pictures.iter().map(row), self.sharded.get().is_some())
    }

    /// Draws what is missing of this process's share. Returns how many are then missing of all.
    fn draw(&self, session: &Session, pictures: &[Picture], progress: &mut Progress) -> Result<usize> {
        let missing = |picture: &Picture| !self.folder.join(&picture.file).exists();
        let shard = self.sharded.get();
        let ours = |at: usize| shard.is_none_or(|shard| shard.has(at));
        let mine = pictures.iter().enumerate().filter(|(at, _)| ours(*at));
        let files = mine.map(|(_, picture)| (self.folder.join(&picture.file), picture.subject.clone()));
        session.draw_missing(files, progress)?;
        Ok(pictures.iter().filter(|picture| missing(picture)).count())
    }

    /// Distance and score of the finished folder.
    fn measure(
        &self,
        manifest: &Manifest,
        pictures: &[Picture],
        device: &Device,
        progress: &mut Progress,
    ) -> Result<()> {
        let mut lines = vec![manifest.describe()];
        let mut fields = Map::from_iter([("protocol".into(), json!(manifest))]);
        let note = "no distance: name what to compare with by --reference";
        match &self.reference {
            Some(path) => {
                let sets = [Set { path: &self.folder, split: None }, Set { path, split: None }];
                let (summaries, findings) = self.distance(&sets, device, progress)?;
                lines.push(comparison::describe(&sets, &summaries, &findings));
                fields.insert("distance".into(), comparison::to_json(&sets, &summaries, &findings));
            }
            None => lines.push(format!("  {note}")),
        }
        if let Some(folder) = &self.clip {
            let embedded = self.embed(folder, pictures, device, progress)?;
            let (value, interval) = clip_score::score(&embedded);
            lines.push(format!("CLIP score: {}\n{}", with_interval(value, interval, 3), embedded.describe()));
            let mut score = Map::from_iter([("clip_score".into(), json!(value)), ("interval".into(), json!(interval))]);
            score.extend(embedded.protocol());
            fields.insert("agreement".into(), Value::Object(score));
        }
        print_line(if self.json { Value::Object(fields).to_string() } else { lines.join("\n") })
    }

    fn distance(
        &self,
        sets: &[Set<'_>; 2],
        device: &Device,
        progress: &mut Progress,
    ) -> Result<([Summary; 2], Vec<Finding>)> {
        let keep = !self.features.is_inception();
        let stored = sets[1].stored()?;
        let extractor = self.features.open_with(CROP, device)?;
        if let Some(stored) = &stored {
            stored.protocol().check_same(extractor.protocol())?;
        }
        // what cannot be used is said before minutes of reading
        let npz = sets[1].is_npz().then(|| sets[1].load_npz(extractor.protocol())).transpose()?;
        let drawn = sets[0].read(&extractor, keep, progress)?;
        let reference = match (stored, npz) {
            (Some(stored), _) => stored,
            (None, Some(npz)) => npz,
            (None, None) => sets[1].read(&extractor, keep, progress)?,
        };
        let findings = vec![frechet(&drawn, &reference)?];
        Ok(([drawn, reference], findings))
    }

    /// The pictures of the folder with the captions that they were drawn for.
    fn embed(&self, clip: &Path, pictures: &[Picture], device: &Device, progress: &mut Progress) -> Result<Embedded> {
        let clip = captioned::open(clip, device, progress)?;
        let source = Source::open(&self.folder)?;
        let examples: Vec<_> = source.examples().iter().collect();
        let texts: HashMap<&str, &str> =
            pictures.iter().map(|picture| (picture.file.as_str(), picture.subject.caption.as_str())).collect();
        let captions = examples.iter().map(|example| match texts.get(example.name.as_str()) {
            Some(text) => Ok((*text).to_owned()),
            None => {
                let (name, folder) = (&example.name, self.folder.display());
                let failure =
                    Failure::new(Exit::Data, format_args!("{name} of {folder} is none of the drawn pictures"));
                Err(failure.hint("delete it, or choose another folder"))
            }
        });
        let captions = captions.collect::<Result<_>>()?;
        captioned::of_source(&clip, &source, &examples, captions, self.folder.display().to_string(), progress)
    }
}

impl Manifest {
    fn describe(&self) -> String {
        let stages: Vec<String> = self.stages.iter().map(|(stage, settings)| format!("{stage} ({settings})")).collect();
        format!(
            "{} of {} captions of {} ({}), one picture each, uncurated; model {}: {}; seed {}, plus k for picture k",
            self.count,
            self.captions_there,
            self.captions,
            self.captions_digest,
            self.model.name,
            stages.join(", "),
            self.seed
        )
    }
}

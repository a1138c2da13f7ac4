//! Drawing for measurements: captions drawn at random from a set, one picture each, picture k from the seed plus k, nothing
//! picked. `imagen sample CAPTION --seed SEED` draws each again.

use burn::tensor::Device;
use clap::builder::RangedU64ValueParser;

use imagen::cascade::{Request, StageName, StageOptions};
use imagen::data::{Example, Source};
use imagen::rng::Rng;

use crate::cli::draw::{DrawArgs, MACHINE, ModelArgs, OpenModel, Session, Subject};
use crate::cli::shared::Machine;
use crate::failure::{Failure, Result};
use crate::progress::Progress;

/// Sets the choice of captions apart from every other use of a seed.
const CAPTIONS: u64 = 0x6361_7074;

/// Which model draws, and how.
#[derive(Debug, clap::Args)]
pub(super) struct DrawingArgs {
    #[command(flatten)]
    pub(super) model: ModelArgs,
    #[command(flatten)]
    pub(super) how: HowArgs,
}

/// How whichever model draws.
#[derive(Debug, clap::Args)]
pub(super) struct HowArgs {
    #[command(flatten)]
    settings: DrawArgs,
    /// Pictures drawn together: more is faster and takes more memory
    #[arg(long, value_name = "N", help_heading = MACHINE)]
    #[arg(value_parser = RangedU64ValueParser::<usize>::new().range(1..=1024))]
    batch: Option<usize>,
    #[command(flatten)]
    pub(super) machine: Machine,
}

impl DrawingArgs {
    /// Opens the model, to draw up to this stage.
    pub(super) fn open(&self, until: StageName, device: &Device, progress: &Progress) -> Result<Session> {
        self.how.session(self.model.open(device, progress)?, Some(until), |_| None)
    }

    /// Opens the model with another guidance than its stages suggest, where none is given.
    pub(super) fn open_with(
        &self,
        until: StageName,
        guidance: impl Fn(StageName) -> Option<f64>,
        device: &Device,
        progress: &Progress,
    ) -> Result<Session> {
        self.how.session(self.model.open(device, progress)?, Some(until), guidance)
    }
}

impl HowArgs {
    /// A session with a model, to draw up to this stage, or as far as it draws by itself.
    pub(super) fn session(
        &self,
        model: OpenModel,
        until: Option<StageName>,
        guidance: impl Fn(StageName) -> Option<f64>,
    ) -> Result<Session> {
        let of = |info: &imagen::cascade::StageInfo| {
            let guidance = guidance(info.stage).filter(|_| !self.settings.has_guidance());
            (info.stage, StageOptions { guidance, ..StageOptions::default() })
        };
        let suggested = model.imagen.stages().iter().map(of).collect();
        let options = self.settings.over(suggested, &model.imagen, (None, until))?;
        Session::new(model, Request { options, until, batch: self.batch, ..Request::default() })
    }
}

/// At most `count` of these, at random without putting back, in the order in which they were drawn.
pub(super) fn choose<T: Clone>(from: &[T], count: usize, seed: u64) -> Vec<T> {
    let order = Rng::new(seed).fold(CAPTIONS).permutation(from.len());
    order.into_iter().take(count).map(|at| from[at].clone()).collect()
}

/// What to draw for these pictures: their canonical captions, seeds counting up.
pub(super) fn subjects(source: &Source, examples: &[&Example], seed: u64) -> Result<Vec<Subject>> {
    if seed.checked_add(examples.len() as u64).is_none() {
        return Err(Failure::usage(format_args!("--seed {seed} plus {} pictures is out of range", examples.len())));
    }
    let subject = |(k, example): (usize, &&Example)| -> Result<Subject> {
        let caption = example.captions.first().ok_or_else(|| {
            let failure = Failure::usage(format_args!("{} holds no captions to draw", source.folder().display()));
            failure.hint("name a folder with metadata.jsonl, or with a .txt beside each picture")
        })?;
        Ok(Subject { caption: source.captions()[*caption].clone(), seed: seed + k as u64 })
    };
    examples.iter().enumerate().map(subject).collect()
}

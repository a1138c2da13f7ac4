//! A training run: what it is given, what happens during it, and how it ends.

use std::path::PathBuf;

use burn::tensor::Device;

use super::init::InitFrom;
use super::recipe::Recipe;
use super::report::{ProbeReport, StepReport};
use crate::cascade::PartialLoad;
use crate::text::EncoderFiles;

/// One training run.
#[derive(Clone, Debug)]
pub struct Run {
    /// What is trained, on what, how.
    pub recipe: Recipe,
    /// Where the run's state, samples and recipe are kept.
    pub folder: PathBuf,
    /// Whether to go on from the state in `folder`.
    pub resume: bool,
    /// The stage whose weights a new run begins with where they fit.
    pub init_from: Option<InitFrom>,
    /// The frozen language model.
    pub text: EncoderFiles,
    /// Where to compute.
    pub device: Device,
}

/// What happens during a run.
#[derive(Clone, Debug)]
pub enum TrainEvent {
    /// Data and network are ready.
    Started {
        /// Numbers that are learned.
        parameters: usize,
        /// Pictures in the training split; none where they are composed without end.
        pictures: Option<usize>,
        /// Steps that were already taken.
        from_step: u64,
        /// Steps in all.
        steps: u64,
    },
    /// The set of pictures was recognised.
    Found {
        /// What it is, how much of it there is, and what was odd, in one line.
        set: String,
    },
    /// So many of the captions that were not in the run's cache are encoded.
    Encoded {
        /// Captions done.
        done: usize,
        /// Captions to do in all.
        of: usize,
    },
    /// A new run began with the weights of another stage.
    Initialized {
        /// What it is called: its file, or the built-in model.
        from: String,
        /// What fitted and what did not.
        report: PartialLoad,
    },
    /// An optimizer step was taken.
    Step(StepReport),
    /// The state was written.
    Checkpoint {
        /// Its file.
        path: PathBuf,
    },
    /// The averaged weights were tried on pictures that are not trained on.
    Validated {
        /// After this step.
        step: u64,
        /// Mean loss.
        loss: f64,
        /// Whether it is the lowest so far; the weights were kept.
        best: bool,
    },
    /// A grid of pictures was drawn.
    Samples {
        /// Its file.
        path: PathBuf,
    },
    /// What the captions are worth to the network was measured.
    Probe(ProbeReport),
    /// All steps are taken; how faithfully the super-resolution stage enlarges is being measured. To break ends that.
    Enlarging {
        /// Steps of sampling done.
        done: u64,
        /// Steps of sampling in all.
        of: u64,
    },
    /// Something that the user should know.
    Warning(String),
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All steps of the recipe were taken.
    Finished,
    /// The observer asked to stop while captions were encoded, before any step: what was encoded is kept.
    StoppedEncoding,
    /// The observer asked to stop; the state was written.
    Stopped {
        /// Steps taken.
        step: u64,
    },
}

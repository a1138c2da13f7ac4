//! Training: one stage, one loop that reads from top to bottom (sections 2.4, 4.1, appendix A).
//!
//! [`train`] is the only function that knows data, text, diffusion and network at once; each is entered once a step.
//! Everything random is a function of (seed, step), so a run that is stopped and resumed equals one that was not.

mod batch_loss;
mod checkpoint;
mod config;
mod ema;
mod enlargement;
mod event_file;
mod export;
mod freeze;
mod grid;
mod held_out;
mod init;
mod keys;
mod known;
mod log;
mod metrics;
mod optimizer;
mod plan;
mod preset;
mod probe;
mod proposal;
mod recipe;
mod reference;
mod report;
mod run;
mod state;
mod texts;
mod validate;

use std::ops::ControlFlow;
use std::path::Path;
use std::time::Instant;

pub use checkpoint::{Checkpoints, Loaded, state_path};
pub use config::{DataConfig, OptimizerName, TrainConfig};
pub use ema::Average;
pub use enlargement::{
    AUG_LEVELS, EnlargementReport, Fidelity, LevelFidelity, enlargement_path, measure_enlargement, read_enlargement,
};
pub use export::{Brought, Choice, Exported, Other, bring_stages, copy_encoder, export};
pub use init::{BUILT_IN, InitFrom};
pub use known::known_captions;
pub use metrics::{Interval, MetricsLine, Validated, metrics_path, read_metrics};
pub use optimizer::{Optimizer, UpdateStep};
pub use plan::Plan;
pub use proposal::{Proposal, Wanted};
pub use recipe::Recipe;
pub use reference::{Key, annotated, keys as recipe_keys};
pub use report::{LossByTime, ProbeReport, QUARTERS, StepReport};
pub use run::{Outcome, Run, TrainEvent};
pub use state::{Best, GradientSum, Learning, Log, TrainState};

use crate::cascade::{NullText, Stage};
use crate::data::{Source, Split};
use crate::error::{Error, ErrorKind, Result};
use crate::files::Lock;
use crate::nn::parameter_count;
use crate::rng::Rng;
use crate::text::{self, TextEncoder, TextOptions};
use batch_loss::{BatchLoss, Outcome as BatchOutcome};
use export::{best_path, stage_path, write_averaged};
use log::RunLog;
use probe::Probe;
use texts::load_texts;
use validate::Validation;

/// Trains until the recipe's last step or until `observe` breaks.
///
/// # Errors
/// `Data` for recipe, pictures and captions; `Usage` where the folder already holds a run and `resume` is false, or the
/// other way round, where another process trains in the folder, and where a run would go on with another text encoder; `NonFinite` where too many steps one after the other had a loss or gradient that is no number (the last
/// checkpoint stays); `Io`.
pub fn train(run: &Run, observe: &mut dyn FnMut(&TrainEvent) -> ControlFlow<()>) -> Result<Outcome> {
    let recipe = &run.recipe;
    let config = &recipe.train;
    let checkpoints = Checkpoints::new(&run.folder, config.keep_last);
    let encoder = text::load(run.text.clone(), &TextOptions::default(), &run.device)?;
    let (mut state, _lock) = open_state(run, &checkpoints, encoder.as_ref(), observe)?;
    let pictures = Source::open_allowing(&recipe.data.folder, recipe.data.max_bad)?;
    // what reads captions before the first step is heard at the first step
    let _ = observe(&TrainEvent::Found { set: pictures.to_string() });
    let held_out = if config.validate_every > 0 { Some(pictures.split(Split::Validation)?) } else { None };
    let source = pictures.split(Split::Train)?;
    let texts = load_texts(run, &source, held_out.as_ref(), encoder.as_ref(), observe)?;
    let validation = held_out.map(|held_out| Validation::new(run, held_out, texts.clone())).transpose()?;
    let batch_loss = BatchLoss::new(recipe, Rng::new(config.seed), texts.clone(), config.text_drop_prob);
    let probe_every = config.probe_every.unwrap_or(config.sample_every);
    let probe = texts.filter(|_| probe_every > 0).map(|texts| Probe::new(run, texts, &pictures)).transpose()?.flatten();
    let loader = recipe.loader(source)?;
    let mut log = RunLog::open(run, state.step, observe)?;
    let from_step = state.step;

    let started = TrainEvent::Started {
        parameters: parameter_count(&state.unet),
        pictures: loader.source().world().is_none().then(|| loader.source().examples().len()),
        from_step,
        steps: config.steps,
    };
    let mut stop = observe(&started).is_break();
    let mut batches = loader.batches(state.log.dealt);
    let mut skipped = 0;
    loop {
        let done = stop || state.step >= config.steps;
        let due = |every: u64| every > 0 && state.step > from_step && state.step % every == 0;
        let save = done || due(config.checkpoint_every);
        // a grid that was due when the run was killed is drawn now
        let missing = config.sample_every > 0
            && state.step > 0
            && state.step % config.sample_every == 0
            && !grid::path(&run.folder, state.step).exists();
        let draw = missing || due(config.sample_every) || (done && state.step > 0 && config.sample_every > 0);
        let probing = probe.as_ref().filter(|_| due(probe_every) || (done && state.step > from_step));
        let validating = validation.as_ref().filter(|_| due(config.validate_every));
        if save || draw || probing.is_some() || validating.is_some() {
            let stage = Stage::new(recipe.stage.clone(), state.averaged()?);
            let write = |path: &Path, state: &TrainState| {
                write_averaged(path, recipe, state, stage.unet()?, encoder.identity())
            };
            if let Some(probe) = probing {
                let report = probe.measure(stage.unet()?, state.step)?;
                log.probe(&report)?;
                stop |= observe(&TrainEvent::Probe(report)).is_break();
            }
            if let Some(validation) = validating {
                let (loss, best) = validation.run(stage.unet()?, &mut state)?;
                if best {
                    write(&best_path(&run.folder, recipe.stage.stage), &state)?;
                }
                log.validated(state.step, loss)?;
                stop |= observe(&TrainEvent::Validated { step: state.step, loss, best }).is_break();
            }
            if save {
                log.checkpoint()?;
                let path = checkpoints.save(&state, recipe)?;
                write(&stage_path(&run.folder, recipe.stage.stage), &state)?;
                stop |= observe(&TrainEvent::Checkpoint { path }).is_break();
            }
            if draw {
                let path = grid::draw(run, &stage, state.step, encoder.as_ref(), loader.source())?;
                log.samples(state.step, &path)?;
                stop |= observe(&TrainEvent::Samples { path }).is_break();
            }
        }
        if done {
            break;
        }
        let begun = Instant::now();
        let batch = batches.next().ok_or_else(|| Error::data("the loader ended before the run"))??;
        for (_, reason) in loader.skipped(skipped) {
            skipped += 1;
            stop |= observe(&TrainEvent::Warning(format!("skipped: {reason}"))).is_break();
        }
        let lr = recipe.learning_rate(state.step);
        state.log.deal(config.batch);
        let (gradients, loss, loss_by_time, gradient_norm) = match batch_loss.gradients(&state, &batch)? {
            BatchOutcome::Gradients { sum, loss, by_time, norm } => (sum, loss, by_time, norm),
            BatchOutcome::NotFinite(what) => {
                state.skip();
                log.skipped(state.step)?;
                let warning = not_finite(config, &state, &what, &checkpoints)?;
                stop |= observe(&TrainEvent::Warning(warning)).is_break();
                continue;
            }
        };
        let clip = config.clip_norm.map_or(1.0, |limit| (limit / gradient_norm).min(1.0));
        state = state.updated(gradients, lr, clip);
        let report = StepReport {
            step: state.step,
            of: config.steps,
            loss,
            loss_by_time,
            lr,
            gradient_norm,
            seconds: begun.elapsed().as_secs_f64(),
            pictures: config.batch,
        };
        log.step(&report)?;
        stop |= observe(&TrainEvent::Step(report)).is_break();
    }
    if state.step < config.steps {
        return Ok(Outcome::Stopped { step: state.step });
    }
    if recipe.stage.low_size.is_some() && config.enlarge_pictures > 0 {
        let stage = Stage::new(recipe.stage.clone(), state.averaged()?);
        let mut watch = |done, of| observe(&TrainEvent::Enlarging { done, of });
        let (count, encoder) = (config.enlarge_pictures, encoder.as_ref());
        enlargement::measure(&run.folder, recipe, &stage, state.step, count, encoder, &pictures, &mut watch)?;
    }
    Ok(Outcome::Finished)
}

/// What to say of a step that was skipped.
///
/// # Errors
/// `NonFinite` where it was one too many.
fn not_finite(config: &TrainConfig, state: &TrainState, what: &str, checkpoints: &Checkpoints) -> Result<String> {
    let (step, in_a_row) = (state.step, state.log.skipped_in_a_row);
    if in_a_row < config.max_skipped {
        return Ok(format!("step {step} is skipped: {what} ({} skipped so far)", state.log.skipped));
    }
    let last = checkpoints.describe_last();
    Err(Error::new(
        ErrorKind::NonFinite,
        format!(
            "step {step}: {what}, in {in_a_row} steps one after the other; {last}: resume with a lower train.lr or with \
             train.clip_norm"
        ),
    ))
}

/// A fresh state, or the one that the folder holds, and the lock that makes the folder this run's.
fn open_state(
    run: &Run,
    checkpoints: &Checkpoints,
    encoder: &dyn TextEncoder,
    observe: &mut dyn FnMut(&TrainEvent) -> ControlFlow<()>,
) -> Result<(TrainState, Lock)> {
    let (recipe, seed) = (&run.recipe, run.recipe.train.seed);
    let learning = Learning::of(recipe)?;
    let copy = run.folder.join("recipe.toml");
    if run.resume && run.init_from.is_some() {
        return Err(Error::usage("a resumed run has its weights already: leave out either --resume or --init-from"));
    }
    // what stands there may be another process' until the folder is locked
    let lock = if run.folder.is_dir() { Some(Lock::folder(&run.folder)?) } else { None };
    if lock.is_some() {
        checkpoints.sweep()?;
    }
    // an observer that wants to stop is heard at the first step, here and with captions
    match (run.resume, checkpoints.exist()) {
        (true, true) => {
            let Loaded { mut state, recipe: before, warnings } =
                checkpoints.load(&recipe.stage, &learning, &run.device)?;
            let changed = before.map(|before| recipe.changes_from(&before)).filter(|changes| !changes.is_empty());
            let changed = changed.map(|changes| format!("the recipe has changed: {}", changes.join(", ")));
            for warning in warnings.into_iter().chain(changed) {
                let _ = observe(&TrainEvent::Warning(warning));
            }
            state.log.resume(recipe, encoder.identity(), state.step)?;
            recipe.write(&copy)?;
            Ok((state, lock.expect("a folder with states is there")))
        }
        (true, false) => Err(Error::usage(format!(
            "there is no run to resume in {}: start one without --resume",
            run.folder.display()
        ))),
        (false, true) => Err(Error::usage(format!(
            "{} already holds a run: go on with --resume, or choose another folder",
            run.folder.display()
        ))),
        (false, false) => {
            let mut state = match &run.init_from {
                None => TrainState::new(&recipe.stage, &learning, seed, &run.device)?,
                Some(from) => {
                    let file = from.open(recipe.stage.stage)?;
                    let (state, report) = TrainState::from_stage(&recipe.stage, &learning, seed, &file, &run.device)?;
                    let from = from.label(recipe.stage.stage);
                    let _ = observe(&TrainEvent::Initialized { from, report });
                    state
                }
            };
            if recipe.stage.null_text == NullText::Empty {
                let empty = encoder.encode(&[""])?.sequence.into_data();
                state = state.with_null_text(&empty.try_to_vec::<f32>().expect("embeddings are f32"))?;
            }
            state.log.begin(recipe, encoder.identity(), run.init_from.as_ref());
            std::fs::create_dir_all(&run.folder).map_err(|e| Error::io("create", &run.folder, e))?;
            let lock = lock.map_or_else(|| Lock::folder(&run.folder), Ok)?;
            if checkpoints.exist() {
                // begun by another process since it was looked for
                return Err(Error::usage(format!(
                    "{} already holds a run: go on with --resume, or choose another folder",
                    run.folder.display()
                )));
            }
            recipe.write(&copy)?;
            Ok((state, lock))
        }
    }
}

//! Training: one stage, one loop that reads from top to bottom (sections 2.4, 4.1, appendix A).
//!
//! [`train`] is the only function that knows data, text, diffusion and network at once; each is entered once a step.
//! Everything random is a function of (seed, step), so a run that is stopped and resumed equals one that was not.

mod batch_loss;
mod checkpoint;
mod config;
mod digest;
mod ema;
mod enlargement;
mod event_file;
mod exchange;
mod export;
mod flat;
mod freeze;
mod gradients;
mod grid;
mod held_out;
mod helpers;
mod init;
mod keys;
mod known;
mod log;
mod lora;
mod metrics;
mod opening;
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
mod stop;
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
pub use gradients::GradientSum;
pub use grid::columns as grid_columns;
pub use init::{BUILT_IN, InitFrom};
pub use known::known_captions;
pub use lora::{LoraConfig, LoraPlace};
pub use metrics::{Interval, MetricsLine, Validated, metrics_path, read_metrics};
pub use optimizer::{Optimizer, UpdateStep};
pub use plan::Plan;
pub use proposal::{Proposal, Wanted};
pub use recipe::Recipe;
pub use reference::{Key, annotated, keys as recipe_keys};
pub use report::{LossByTime, ProbeReport, QUARTERS, StepReport};
pub use run::{Outcome, Run, TrainEvent};
pub use state::{Best, Learning, Log, TrainState};
pub use stop::{StopFile, ask_to_stop};

use crate::cascade::Stage;
use crate::data::{Source, Split};
use crate::error::{Error, ErrorKind, Result};
use crate::nn::parameter_count;
use crate::ranks::{Alone, Group, Ranks};
use crate::rng::Rng;
use crate::text::{self, TextOptions};
use batch_loss::{BatchLoss, Dealt};
use exchange::{Exchange, Exchanged, Outcome as BatchOutcome};
use export::{best_path, stage_path, write_averaged};
use log::RunLog;
use opening::open_state;
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
    train_among(run, &Alone, observe)
}

/// Trains as [`train`] does, with other ranks: each calls this with the same recipe and a folder that all of them see. The
/// batch's parts (`train.micro_batch`) are dealt by their places, and the run is the one that one rank would train, bit for
/// bit, whatever the number of ranks and however often it changes from start to start. The first rank writes. Each observer is
/// told what its own rank does; one that breaks stops them all.
///
/// # Errors
/// As [`train`], on all ranks alike; `Usage` where ranks differ in what they would compute, or are more than a batch has
/// parts; `Io` where a rank is gone.
pub fn train_among(
    run: &Run,
    ranks: &dyn Ranks,
    observe: &mut dyn FnMut(&TrainEvent) -> ControlFlow<()>,
) -> Result<Outcome> {
    Group::new(ranks).run(|group| train_in(run, group, observe))
}

/// The part of a set that is validated on.
fn held_out_of(pictures: &Source) -> Result<Source> {
    let part = pictures.split(Split::Validation);
    part.map_err(|error| Error::data(format!("{error}; or train without validation: train.validate_every = 0")))
}

/// What one rank of a group does.
fn train_in(run: &Run, group: &Group, observe: &mut dyn FnMut(&TrainEvent) -> ControlFlow<()>) -> Result<Outcome> {
    let recipe = &run.recipe;
    let config = &recipe.train;
    let checkpoints = Checkpoints::new(&run.folder, config.keep_last);
    let encoder = group.agree(text::load(run.text.clone(), &TextOptions::default(), &run.device))?;
    let mut exchange = group.agree(Exchange::new(group, recipe))?;
    let (mut state, _lock) = open_state(run, group, &checkpoints, encoder.as_ref(), observe)?;
    let open = || {
        let pictures = Source::open_allowing(&recipe.data.folder, recipe.data.max_bad)?;
        recipe.check_naming(&pictures).map(|()| pictures)
    };
    let pictures = group.agree(open())?;
    if group.size() > 1 {
        group.same(Ok(digest::of_run(recipe, encoder.identity(), &pictures, &state)))?;
    }
    let seen = digest::of_pictures(&pictures);
    if state.log.pictures.replace(seen.clone()).is_some_and(|before| before != seen) {
        let warning =
            "the pictures or their captions are not those that the run saw before: it goes on with what is there now";
        let _ = observe(&TrainEvent::Warning(warning.to_owned()));
    }
    // whoever wants to stop is heard when captions are encoded, or at the first step
    let _ = observe(&TrainEvent::Found { set: pictures.to_string() });
    let split = || {
        let held_out = (config.validate_every > 0).then(|| held_out_of(&pictures)).transpose()?;
        Ok((held_out, pictures.split(Split::Train)?))
    };
    let (held_out, source) = group.agree(split())?;
    let texts = load_texts(run, group, &source, held_out.as_ref(), encoder.as_ref(), observe)?;
    let ControlFlow::Continue(texts) = texts else { return Ok(Outcome::StoppedEncoding) };
    let batch_loss = BatchLoss::new(recipe, Rng::new(config.seed), texts.clone(), config.text_drop_prob);
    let probe_every = config.probe_every.unwrap_or(config.sample_every);
    let from_step = state.step;
    let prepared = group.by_first(|| {
        let validation = held_out.map(|held_out| Validation::new(run, held_out, texts.clone())).transpose()?;
        let texts = texts.filter(|_| probe_every > 0);
        let probe = texts.map(|texts| Probe::new(run, texts, &pictures)).transpose()?.flatten();
        Ok((validation, probe, RunLog::open(run, from_step, observe)?))
    })?;
    let (validation, probe, mut log) = match prepared {
        Some((validation, probe, log)) => (validation, probe, Some(log)),
        None => (None, None, None),
    };
    let loader = group.agree(recipe.loader(source).and_then(|loader| loader.look().map(|()| loader)))?;

    let started = TrainEvent::Started {
        parameters: parameter_count(&state.unet),
        pictures: loader.source().world().is_none().then(|| loader.source().examples().len()),
        from_step,
        steps: config.steps,
    };
    let mut stop = observe(&started).is_break();
    let mut batches = loader.batches_in(state.log.dealt, exchange.places());
    let mut wrote = Ok(());
    loop {
        // a grid that was due when the run was killed is drawn now
        let missing = group.is_first()
            && config.sample_every > 0
            && state.step > 0
            && state.step % config.sample_every == 0
            && !grid::path(&run.folder, state.step).exists();
        let (stopped, missing) = exchange.turn(std::mem::replace(&mut wrote, Ok(())), stop, missing)?;
        let finished = state.step >= config.steps;
        let done = stopped || finished;
        let due = |every: u64| every > 0 && state.step > from_step && state.step % every == 0;
        let save = done || due(config.checkpoint_every);
        let last_grid = finished && state.step > 0 && config.sample_every > 0;
        // who stops does not wait for a grid: one that is due is drawn when the run goes on
        let draw = !stopped && (missing || due(config.sample_every) || last_grid);
        let probing = probe_every > 0 && (due(probe_every) || (finished && state.step > from_step));
        let validating = due(config.validate_every);
        if save && group.size() > 1 {
            // whatever made them differ, what is saved is what all have
            group.same(Ok(vec![("state".to_owned(), digest::of_state(&state))]))?;
        }
        if save || draw || probing || validating {
            group.by_first(|| {
                let log = log.as_mut().expect("the first rank writes");
                let stage = Stage::new(recipe.stage.clone(), state.averaged()?);
                let write = |path: &Path, state: &TrainState| {
                    write_averaged(path, recipe, state, stage.unet()?, encoder.identity())
                };
                if let Some(probe) = probe.as_ref().filter(|_| probing) {
                    let report = probe.measure(stage.unet()?, state.step)?;
                    log.probe(&report)?;
                    stop |= observe(&TrainEvent::Probe(report)).is_break();
                }
                if let Some(validation) = validation.as_ref().filter(|_| validating) {
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
                Ok(())
            })?;
        }
        if done {
            break;
        }
        let begun = Instant::now();
        let batch = batches.next().unwrap_or_else(|| Err(Error::data("the loader ended before the run")));
        let first = exchange.places().start;
        let passes = batch.and_then(|batch| batch_loss.gradients(&state, Dealt::stretch(&batch, first, config.batch)));
        let Exchanged { outcome, skipped, exchange: exchanging, waiting } = exchange.step(passes, &state, &loader)?;
        for (_, reason) in skipped {
            stop |= observe(&TrainEvent::Warning(format!("skipped: {reason}"))).is_break();
        }
        let lr = recipe.learning_rate(state.step);
        state.log.deal(config.batch);
        let (gradients, loss, naming, loss_by_time, gradient_norm) = match outcome {
            BatchOutcome::Gradients { sum, loss, naming, by_time, norm } => (sum, loss, naming, by_time, norm),
            BatchOutcome::NotFinite(what) => {
                state.skip();
                wrote = log.as_mut().map_or(Ok(()), |log| log.skipped(state.step));
                let warning = not_finite(config, &state, &what, &checkpoints).map_err(|e| group.all_fail(e))?;
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
            naming,
            lr,
            gradient_norm,
            seconds: begun.elapsed().as_secs_f64(),
            exchange_seconds: exchanging.as_secs_f64(),
            waiting_seconds: waiting.as_secs_f64(),
            pictures: config.batch,
        };
        wrote = log.as_mut().map_or(Ok(()), |log| log.step(&report));
        stop |= observe(&TrainEvent::Step(report)).is_break();
    }
    if state.step < config.steps {
        return Ok(Outcome::Stopped { step: state.step });
    }
    if recipe.stage.low_size.is_some() && config.enlarge_pictures > 0 {
        group.by_first(|| {
            let stage = Stage::new(recipe.stage.clone(), state.averaged()?);
            let mut watch = |done, of| observe(&TrainEvent::Enlarging { done, of });
            let (count, encoder) = (config.enlarge_pictures, encoder.as_ref());
            enlargement::measure(&run.folder, recipe, &stage, state.step, count, encoder, &pictures, &mut watch)
        })?;
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

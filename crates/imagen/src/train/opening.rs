//! How a run begins: with a fresh state, or with the one that its folder holds.

use std::ops::ControlFlow;

use super::checkpoint::{Checkpoints, Loaded, adapted_path};
use super::run::{Run, TrainEvent};
use super::state::{Learning, TrainState};
use crate::cascade::NullText;
use crate::error::{Error, Result};
use crate::files::{self, Lock};
use crate::ranks::Group;
use crate::text::TextEncoder;

/// A fresh state, or the one that the folder holds. The first rank also gets the lock that makes the folder this run's; the
/// others come to the same state after it.
///
/// # Errors
/// As `train`, on all ranks alike.
pub(super) fn open_state(
    run: &Run,
    group: &Group,
    checkpoints: &Checkpoints,
    encoder: &dyn TextEncoder,
    observe: &mut dyn FnMut(&TrainEvent) -> ControlFlow<()>,
) -> Result<(TrainState, Option<Lock>)> {
    let first = group.by_first(|| {
        let opened = open_by_first(run, checkpoints, encoder, observe)?;
        files::room_for(&run.folder, opened.0.bytes(), "the run's state")?;
        Ok(opened)
    })?;
    let own = match first {
        Some((state, lock)) => Ok((state, Some(lock))),
        None => open_after_first(run, checkpoints, encoder, observe).map(|state| (state, None)),
    };
    group.agree(own)
}

/// The state of a rank that writes nothing.
fn open_after_first(
    run: &Run,
    checkpoints: &Checkpoints,
    encoder: &dyn TextEncoder,
    observe: &mut dyn FnMut(&TrainEvent) -> ControlFlow<()>,
) -> Result<TrainState> {
    let learning = Learning::of(&run.recipe)?;
    if !run.resume {
        return fresh(run, &learning, encoder, observe);
    }
    if !checkpoints.exist() {
        return Err(Error::usage(format!(
            "{} holds a run for the first rank and none here: the run's folder must be one that all ranks share",
            run.folder.display()
        )));
    }
    let Loaded { mut state, .. } = checkpoints.load(&run.recipe.stage, &learning, &run.device)?;
    state.log.resume(&run.recipe, encoder.identity(), state.step)?;
    Ok(state)
}

/// The state that a new run begins with.
fn fresh(
    run: &Run,
    learning: &Learning,
    encoder: &dyn TextEncoder,
    observe: &mut dyn FnMut(&TrainEvent) -> ControlFlow<()>,
) -> Result<TrainState> {
    let (recipe, seed) = (&run.recipe, run.recipe.train.seed);
    let mut state = match &run.init_from {
        None if learning.lora.is_some() => {
            return Err(Error::usage(
                "train.lora adapts a model's weights: name it with --init-from, e.g. --init-from built-in",
            ));
        }
        None => TrainState::new(&recipe.stage, learning, seed, &run.device)?,
        Some(from) => {
            let file = from.open(recipe.stage.stage)?;
            let (state, report) = TrainState::from_stage(&recipe.stage, learning, seed, &file, &run.device)?;
            let from = from.label(recipe.stage.stage);
            let _ = observe(&TrainEvent::Initialized { from, report });
            state
        }
    };
    // what adapts a network leaves its stand-in for a dropped text as it is
    if recipe.stage.null_text == NullText::Empty && learning.lora.is_none() {
        let empty = encoder.encode(&[""])?.sequence.into_data();
        state = state.with_null_text(&empty.try_to_vec::<f32>().expect("embeddings are f32"))?;
    }
    state.log.begin(recipe, encoder.identity(), run.init_from.as_ref());
    Ok(state)
}

/// [`open_state`] of the rank that writes.
fn open_by_first(
    run: &Run,
    checkpoints: &Checkpoints,
    encoder: &dyn TextEncoder,
    observe: &mut dyn FnMut(&TrainEvent) -> ControlFlow<()>,
) -> Result<(TrainState, Lock)> {
    let recipe = &run.recipe;
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
            if state.step > recipe.train.steps {
                return Err(Error::usage(format!(
                    "the run has taken {} steps, more than the {} that are asked for: ask for more with --steps",
                    state.step, recipe.train.steps
                )));
            }
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
            let state = fresh(run, &learning, encoder, observe)?;
            std::fs::create_dir_all(&run.folder).map_err(|e| Error::io("create", &run.folder, e))?;
            let lock = lock.map_or_else(|| Lock::folder(&run.folder), Ok)?;
            if checkpoints.exist() {
                // begun by another process since it was looked for
                return Err(Error::usage(format!(
                    "{} already holds a run: go on with --resume, or choose another folder",
                    run.folder.display()
                )));
            }
            if let (Some(_), Some(from)) = (&learning.lora, &run.init_from) {
                from.copy(recipe.stage.stage, &adapted_path(&run.folder))?;
            }
            recipe.write(&copy)?;
            Ok((state, lock))
        }
    }
}

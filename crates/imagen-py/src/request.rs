//! What Python asks for as a request of the library: one value for all stages, or one for each by its name.

use std::collections::BTreeMap;
use std::str::FromStr;

use imagen::cascade::{Request, StageName, StageOptions};
use imagen::diffusion::AugLevel;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

use crate::error::{raise, value};
use crate::worker::Facts;

/// The keyword arguments of `sample` and `steps`.
pub(crate) struct Arguments<'a, 'py> {
    pub(crate) seed: i128,
    pub(crate) count: i128,
    pub(crate) steps: Option<&'a Bound<'py, PyAny>>,
    pub(crate) guidance: Option<&'a Bound<'py, PyAny>>,
    pub(crate) sampler: Option<&'a Bound<'py, PyAny>>,
    pub(crate) thresholding: Option<&'a Bound<'py, PyAny>>,
    pub(crate) aug_level: Option<&'a Bound<'py, PyAny>>,
    pub(crate) until: Option<&'a str>,
    pub(crate) batch: i128,
}

/// A request, and whether it is for a single picture.
pub(crate) struct Asked {
    pub(crate) request: Request,
    pub(crate) single: bool,
}

type Options = BTreeMap<StageName, StageOptions>;

impl Arguments<'_, '_> {
    /// The request to a model.
    ///
    /// # Errors
    /// `ValueError` or `TypeError`, naming the argument and what it must be.
    pub(crate) fn over(&self, prompt: &Bound<'_, PyAny>, model: &Facts) -> PyResult<Asked> {
        let (prompts, one) = prompts(prompt)?;
        let until = self.until.map(|name| name.parse().map_err(raise)).transpose()?;
        let last = until.unwrap_or(model.default_until);
        let running = || model.stages.iter().map(|info| info.stage).filter(|stage| *stage <= last);
        let (all, larger): (Vec<_>, Vec<_>) =
            (running().collect(), running().filter(|stage| *stage != StageName::Base).collect());
        if self.aug_level.is_some() && larger.is_empty() {
            return Err(value("aug_level is for super-resolution stages, and none runs here"));
        }
        let mut options = Options::new();
        spread(&mut options, self.steps, &all, |v| count("steps", v.extract()?), |o, v| o.steps = Some(v))?;
        // one value is the base's: that is where the text decides, and super-resolution was trained to need none
        spread(&mut options, self.guidance, &all[..1], |v| number("guidance", v), |o, v| o.guidance = Some(v))?;
        spread(&mut options, self.sampler, &all, |v| named("sampler", v), |o, v| o.sampler = Some(v))?;
        spread(&mut options, self.thresholding, &all, |v| named("thresholding", v), |o, v| o.thresholding = Some(v))?;
        let level = |v: &Bound<'_, PyAny>| AugLevel::new(number("aug_level", v)?).map_err(raise);
        spread(&mut options, self.aug_level, &larger, level, |o, v| o.aug_level = Some(v))?;
        let seed = self.seed.try_into();
        let seed = seed.map_err(|_| value(format!("seed = {}: expected a number from 0 to 2^64 - 1", self.seed)))?;
        let (count, batch) = (count("count", self.count)?, count("batch", self.batch)?);
        let request = Request { options, until, batch: Some(batch), ..Request::new(prompts, count, seed) };
        Ok(Asked { single: one && count == 1, request })
    }
}

/// The prompts, and whether it was one that was not in a list.
fn prompts(prompt: &Bound<'_, PyAny>) -> PyResult<(Vec<String>, bool)> {
    if let Ok(text) = prompt.cast::<PyString>() {
        return Ok((vec![text.to_str()?.to_owned()], true));
    }
    let texts = prompt.extract().map_err(|_| PyTypeError::new_err("prompt: expected a text or a list of texts"))?;
    Ok((texts, false))
}

/// Gives stages their value: a dictionary by their names, anything else to each of `stages`.
fn spread<T: Copy>(
    options: &mut Options,
    given: Option<&Bound<'_, PyAny>>,
    stages: &[StageName],
    read: impl Fn(&Bound<'_, PyAny>) -> PyResult<T>,
    set: impl Fn(&mut StageOptions, T),
) -> PyResult<()> {
    let Some(given) = given else { return Ok(()) };
    let Ok(by_name) = given.cast::<PyDict>() else {
        let value = read(given)?;
        stages.iter().for_each(|stage| set(options.entry(*stage).or_default(), value));
        return Ok(());
    };
    for (name, each) in by_name {
        let stage = name.str()?.to_str()?.parse().map_err(raise)?;
        set(options.entry(stage).or_default(), read(&each)?);
    }
    Ok(())
}

/// How many there are to be. Wider than the result, so that a negative number is refused by name.
fn count(name: &str, given: i128) -> PyResult<usize> {
    let refused = || value(format!("{name} = {given}: expected a whole number of at least 1"));
    given.try_into().ok().filter(|count| *count > 0).ok_or_else(refused)
}

fn number(name: &str, given: &Bound<'_, PyAny>) -> PyResult<f64> {
    given.extract().map_err(|_| value(format!("{name} = {given}: expected a number")))
}

/// What the library reads from a text.
fn named<T: FromStr<Err = imagen::Error>>(name: &str, given: &Bound<'_, PyAny>) -> PyResult<T> {
    let text = given.cast::<PyString>().map_err(|_| value(format!("{name} = {given}: expected a text")))?;
    text.to_str()?.parse().map_err(|e: imagen::Error| value(format!("{name}: {e:#}")))
}

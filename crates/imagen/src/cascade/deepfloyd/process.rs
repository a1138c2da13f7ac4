//! The discrete process of DeepFloyd IF: diffusers' `DDPMScheduler` with the settings that its folders have.
//!
//! The rest of this library has no tables: noise is a function of log-SNR. Here a table of 1000 steps is part of the
//! format. Its numbers, and the coefficients of its own rule between two steps, are f32 in the original's order of operations,
//! because 1 − ᾱ_t/ᾱ_s of neighbouring steps cancels: exact arithmetic would draw another picture. Other samplers see the
//! log-SNRs of the steps and compute in f64, as everywhere.

use serde_json::{Map, Value};

use crate::cascade::settings::StageSettings;
use crate::diffusion::{AugLevel, Coefficients, LogSnr, PlannedStep, Sampler, Thresholding, Timesteps, Update};
use crate::error::{Error, Result};

/// Longer processes are damaged files.
const MAX_STEPS: usize = 100_000;

/// A process with its table.
#[derive(Clone, Debug, PartialEq)]
pub struct Process {
    /// ᾱ_t.
    bars: Vec<f32>,
    thresholding: Thresholding,
    /// Whether the network chooses the variance.
    learned: bool,
    /// Added to the steps of `leading`.
    offset: usize,
}

impl Process {
    /// Reads a `scheduler_config.json`. Keys that this class does not have are passed over, as diffusers does: published
    /// files carry those of other schedulers.
    ///
    /// # Errors
    /// `Model`, naming the key, where the file asks for what this process does not do.
    pub fn from_json(json: &[u8]) -> Result<Self> {
        let map: Map<String, Value> = serde_json::from_slice(json)
            .map_err(|e| Error::model("scheduler_config.json is not JSON").with_source(e))?;
        let keys = Keys(map);
        keys.choice("_class_name", None, &["DDPMScheduler"])?;
        keys.choice("beta_schedule", Some("linear"), &["squaredcos_cap_v2"])?;
        keys.choice("prediction_type", Some("epsilon"), &["epsilon"])?;
        keys.choice("timestep_spacing", Some("leading"), &["leading"])?;
        let learned = keys.choice("variance_type", Some("fixed_small"), &["fixed_small", "learned_range"])? == 1;
        if keys.flag("rescale_betas_zero_snr", false)? || keys.0.get("trained_betas").is_some_and(|v| !v.is_null()) {
            return Err(refuse("rescale_betas_zero_snr and trained_betas: this process knows neither".into()));
        }
        let steps = keys.number("num_train_timesteps", 1000.0)?;
        if steps.fract() != 0.0 || !(2.0..=MAX_STEPS as f64).contains(&steps) {
            return Err(refuse(format!("num_train_timesteps is {steps} (expected 2 to {MAX_STEPS})")));
        }
        let thresholding = if keys.flag("thresholding", false)? {
            let percentile = keys.number("dynamic_thresholding_ratio", 0.995)?;
            let cap = keys.number("sample_max_value", 1.0)?;
            if !(0.0..=1.0).contains(&percentile) || cap < 1.0 {
                let found = format!("dynamic_thresholding_ratio {percentile} and sample_max_value {cap}");
                return Err(refuse(format!("{found} (expected 0 to 1, and 1 or more)")));
            }
            Thresholding::Dynamic { percentile, cap }
        } else if keys.flag("clip_sample", true)? {
            let range = keys.number("clip_sample_range", 1.0)?;
            if range != 1.0 {
                return Err(refuse(format!("clip_sample_range is {range}; this program cuts off at 1")));
            }
            Thresholding::Static
        } else {
            Thresholding::None
        };
        let offset = keys.number("steps_offset", 0.0)? as usize;
        Ok(Self { bars: bars(steps as usize), thresholding, learned, offset })
    }

    /// How many steps the process has.
    pub fn len(&self) -> usize {
        self.bars.len()
    }

    /// Never: a process has steps.
    pub fn is_empty(&self) -> bool {
        self.bars.is_empty()
    }

    /// ᾱ of every step, low noise first.
    pub fn alphas_cumprod(&self) -> &[f32] {
        &self.bars
    }

    /// Whether the network's output has a second half that chooses the variance.
    pub fn learned_variance(&self) -> bool {
        self.learned
    }

    /// What happens to x̂ beyond [-1, 1].
    pub fn thresholding(&self) -> Thresholding {
        self.thresholding
    }

    /// The format's own rule.
    pub fn sampler(&self) -> Sampler {
        if self.learned { Sampler::Learned } else { Sampler::Ddpm { gamma: 0.0 } }
    }

    /// The steps that are run, the most noise first.
    ///
    /// # Errors
    /// [`Timesteps::steps`]'s.
    pub fn timesteps(&self, settings: &StageSettings) -> Result<Vec<usize>> {
        let choice = settings.timesteps.unwrap_or(Timesteps::Leading(settings.steps));
        choice.steps(self.len(), self.offset)
    }

    /// The step to which an enlarged picture is noised: the level's part of the process.
    pub fn noise_level(&self, level: AugLevel) -> usize {
        ((level.get() * self.len() as f64).round() as usize).min(self.len() - 1)
    }

    /// The plan of a rule over steps of the process, the most noise first.
    ///
    /// # Errors
    /// `Usage` where the rule needs variances that the network does not choose.
    pub fn plan(&self, sampler: Sampler, timesteps: &[usize]) -> Result<Vec<PlannedStep>> {
        if sampler == Sampler::Learned && !self.learned {
            return Err(Error::usage("the sampler `learned` is for networks that choose variances; this one does not"));
        }
        let own = matches!(sampler, Sampler::Learned | Sampler::Ddpm { gamma: 0.0 });
        let levels: Vec<LogSnr> = timesteps.iter().map(|t| self.level(*t)).collect();
        let step = |(i, by): (usize, Option<Coefficients>)| {
            let t = timesteps[i];
            let update = if own {
                self.update(sampler, t, timesteps.get(i + 1).copied())
            } else {
                by.map(|by| Update { by, log_variances: None })
            };
            PlannedStep { update, ..self.at(t) }
        };
        Ok(sampler.rules(&levels).into_iter().map(step).collect())
    }

    /// Step t, which must be one of the process, without an update.
    pub(super) fn at(&self, t: usize) -> PlannedStep {
        let bar = self.bars[t];
        let (alpha, sigma) = (f64::from(bar.sqrt()), f64::from((1.0 - bar).sqrt()));
        PlannedStep { level: self.level(t), alpha, sigma, timestep: Some(t), update: None, back: None }
    }

    /// ln ᾱ/(1 − ᾱ) of a step.
    fn level(&self, t: usize) -> LogSnr {
        let bar = f64::from(self.bars[t]);
        LogSnr::new((bar / (1.0 - bar)).ln())
    }

    /// The ancestral update from step t to `next` (none at the end), in f32 and the original's order of operations. Step 0 has
    /// none: x̂ is the picture.
    fn update(&self, sampler: Sampler, t: usize, next: Option<usize>) -> Option<Update> {
        if t == 0 {
            return None;
        }
        let bar = self.bars[t];
        let bar_next = next.map_or(1.0, |next| self.bars[next]);
        let (beta_bar, beta_bar_next) = (1.0 - bar, 1.0 - bar_next);
        let alpha = bar / bar_next;
        let beta = 1.0 - alpha;
        let smallest = (beta_bar_next / beta_bar * beta).max(1e-20);
        let by = Coefficients {
            z: f64::from(alpha.sqrt() * beta_bar_next / beta_bar),
            x_hat: f64::from(bar_next.sqrt() * beta / beta_bar),
            previous: 0.0,
            noise: f64::from(smallest.sqrt()),
        };
        let range = [f64::from(smallest.ln()), f64::from(beta.ln())];
        Some(Update { by, log_variances: (sampler == Sampler::Learned).then_some(range) })
    }
}

/// ᾱ of the cosine schedule: β_t = 1 − f(t + 1)/f(t), at most 0.999, multiplied up in f64 and kept in f32.
fn bars(steps: usize) -> Vec<f32> {
    let f = |t: usize| ((t as f64 / steps as f64 + 0.008) / 1.008 * std::f64::consts::FRAC_PI_2).cos().powi(2);
    let mut product = 1.0f64;
    let next = |t: usize| {
        let beta = (1.0 - f(t + 1) / f(t)).min(0.999) as f32;
        product *= f64::from(1.0 - beta);
        product as f32
    };
    (0..steps).map(next).collect()
}

fn refuse(what: String) -> Error {
    Error::model(format!("scheduler_config.json: {what}"))
}

/// The keys of a file.
struct Keys(Map<String, Value>);

impl Keys {
    fn get(&self, key: &str) -> Option<&Value> {
        self.0.get(key).filter(|value| !value.is_null())
    }

    /// Which of the known values the key has.
    fn choice(&self, key: &str, default: Option<&str>, known: &[&str]) -> Result<usize> {
        let found = self.get(key).map_or(default.unwrap_or("missing"), |value| value.as_str().unwrap_or("no text"));
        known
            .iter()
            .position(|known| *known == found)
            .ok_or_else(|| refuse(format!("{key} is `{found}`; this process knows `{}`", known.join("` and `"))))
    }

    fn flag(&self, key: &str, default: bool) -> Result<bool> {
        let value = self.get(key).map_or(Some(default), Value::as_bool);
        value.ok_or_else(|| refuse(format!("{key} is neither true nor false")))
    }

    fn number(&self, key: &str, default: f64) -> Result<f64> {
        let value = self.get(key).map_or(Some(default), Value::as_f64).filter(|value| *value >= 0.0);
        value.ok_or_else(|| refuse(format!("{key} is no number from 0")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(change: &str) -> Result<Process> {
        let json = format!(
            r#"{{"_class_name": "DDPMScheduler", "beta_schedule": "squaredcos_cap_v2",
            "variance_type": "learned_range", "lambda_min_clipped": -5.1{change}}}"#
        );
        Process::from_json(json.as_bytes())
    }

    #[test]
    fn what_this_process_does_not_do_is_refused_by_its_key() {
        assert!(config("").is_ok());
        for (change, expected) in [
            (r#", "_class_name": "DPMSolverMultistepScheduler""#, "_class_name is `DPMSolverMultistepScheduler`"),
            (r#", "beta_schedule": "linear""#, "beta_schedule is `linear`; this process knows `squaredcos_cap_v2`"),
            (r#", "prediction_type": "v_prediction""#, "prediction_type is `v_prediction`"),
            (r#", "timestep_spacing": "trailing""#, "timestep_spacing is `trailing`"),
            (r#", "variance_type": "learned""#, "variance_type is `learned`"),
            (r#", "num_train_timesteps": 0"#, "num_train_timesteps is 0"),
            (r#", "trained_betas": [0.1]"#, "trained_betas"),
            (r#", "thresholding": true, "sample_max_value": 0.5"#, "sample_max_value 0.5"),
        ] {
            let error = config(change).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn the_table_falls_from_nearly_one_to_nearly_nothing() {
        let process = config("").unwrap();
        let bars = process.alphas_cumprod();
        assert_eq!(bars.len(), 1000);
        assert!(bars.windows(2).all(|pair| pair[1] < pair[0]));
        assert!(bars[0] > 0.9999 && bars[999] < 1e-8 && bars[999] > 0.0);
    }
}

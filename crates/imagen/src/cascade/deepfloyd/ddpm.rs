//! The discrete process of DeepFloyd IF: diffusers' `DDPMScheduler` with the settings that its folders have.
//!
//! The rest of this library has no tables: noise is a function of log-SNR. Here a table of 1000 steps is part of the
//! format. Its numbers, and the coefficients between two steps, are f32 in the original's order of operations, because
//! 1 − ᾱ_t/ᾱ_s of neighbouring steps cancels: exact arithmetic would draw another picture.
//!
//! The network's output holds ε and v; v chooses the variance between the posterior's and the forward process',
//! log σ² = (1 + v)/2 · log β + (1 − v)/2 · log β̃ (Nichol & Dhariwal 2021, eq. 15).

use burn::tensor::Tensor;
use serde_json::{Map, Value};

use super::timesteps::Timesteps;
use crate::diffusion::{Thresholding, check_finite};
use crate::error::{Error, Result};

/// Longer processes are damaged files.
const MAX_STEPS: usize = 100_000;

/// A process with its table.
#[derive(Clone, Debug, PartialEq)]
pub struct Ddpm {
    /// ᾱ_t.
    bars: Vec<f32>,
    clipping: Clipping,
    /// Whether the network chooses the variance.
    learned: bool,
    /// Added to the steps of `leading`.
    offset: usize,
}

/// What happens to x̂ beyond [-1, 1].
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Clipping {
    /// Nothing.
    None,
    /// Cut off at this number.
    Range(f32),
    /// Dynamic thresholding with a cap.
    Dynamic {
        /// The percentile of |x̂|, as a ratio.
        percentile: f64,
        /// The largest divisor.
        cap: f64,
    },
}

/// What a step makes of a prediction.
#[derive(Clone, Debug)]
pub struct Stepped {
    /// z of the next, cleaner step.
    pub z: Tensor<4>,
    /// x̂, clipped.
    pub x_hat: Tensor<4>,
}

impl Ddpm {
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
        let clipping = if keys.flag("thresholding", false)? {
            let percentile = keys.number("dynamic_thresholding_ratio", 0.995)?;
            let cap = keys.number("sample_max_value", 1.0)?;
            if !(0.0..=1.0).contains(&percentile) || cap < 1.0 {
                let found = format!("dynamic_thresholding_ratio {percentile} and sample_max_value {cap}");
                return Err(refuse(format!("{found} (expected 0 to 1, and 1 or more)")));
            }
            Clipping::Dynamic { percentile, cap }
        } else if keys.flag("clip_sample", true)? {
            Clipping::Range(keys.number("clip_sample_range", 1.0)? as f32)
        } else {
            Clipping::None
        };
        let offset = keys.number("steps_offset", 0.0)? as usize;
        Ok(Self { bars: bars(steps as usize), clipping, learned, offset })
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
    pub fn clipping(&self) -> Clipping {
        self.clipping
    }

    /// The steps that a choice runs, the most noise first.
    ///
    /// # Errors
    /// [`Timesteps::steps`]'s.
    pub fn timesteps(&self, choice: &Timesteps) -> Result<Vec<usize>> {
        choice.steps(self.len(), self.offset)
    }

    /// `x` as it is at step t, with `noise` of the same shape: √ᾱ x + √(1 − ᾱ) ε.
    ///
    /// # Errors
    /// `Usage` where the process has no such step.
    pub fn noised(&self, x: Tensor<4>, noise: Tensor<4>, t: usize) -> Result<Tensor<4>> {
        let Some(bar) = self.bars.get(t) else {
            return Err(Error::usage(format!("noise level {t}: expected 0 to {}", self.len() - 1)));
        };
        Ok(x.mul_scalar(bar.sqrt()) + noise.mul_scalar((1.0 - bar).sqrt()))
    }

    /// From z at step t to the next step that is run (`next`, none at the end). `output [n, h, w, c or 2c]` is the network's,
    /// guided; `noise` is only asked for where the step takes some: at every t but 0.
    ///
    /// # Errors
    /// `NonFinite` where x̂ is; `Model` where the output has not the channels of z and of the variance.
    pub fn step(
        &self,
        output: Tensor<4>,
        z: Tensor<4>,
        t: usize,
        next: Option<usize>,
        noise: impl FnOnce() -> Tensor<4>,
    ) -> Result<Stepped> {
        let c = z.dims()[3];
        let channels = output.dims()[3];
        if channels != 2 * c && (channels != c || self.learned) {
            return Err(Error::model(format!(
                "the network gives {channels} channels for pictures of {c}: expected {}, with variances, for this scheduler",
                2 * c
            )));
        }
        let eps = output.clone().narrow(3, 0, c);
        let bar = self.bars[t];
        let bar_next = next.map_or(1.0, |next| self.bars[next]);
        let (beta_bar, beta_bar_next) = (1.0 - bar, 1.0 - bar_next);
        let alpha = bar / bar_next;
        let beta = 1.0 - alpha;
        let x_hat = (z.clone() - eps.mul_scalar(beta_bar.sqrt())).div_scalar(bar.sqrt());
        check_finite(&x_hat, "x_hat")?;
        let x_hat = match self.clipping {
            Clipping::None => x_hat,
            Clipping::Range(range) => x_hat.clamp(-range, range),
            Clipping::Dynamic { percentile, cap } => Thresholding::dynamic(x_hat, percentile, cap),
        };
        let of_x_hat = bar_next.sqrt() * beta / beta_bar;
        let of_z = alpha.sqrt() * beta_bar_next / beta_bar;
        let mut z = x_hat.clone().mul_scalar(of_x_hat) + z.mul_scalar(of_z);
        if t > 0 {
            let smallest = (beta_bar_next / beta_bar * beta).max(1e-20);
            z = z + if self.learned {
                let (low, high) = (smallest.ln(), beta.ln());
                let part = output.narrow(3, c, c).add_scalar(1.0).div_scalar(2.0);
                let log_variance = part.clone().mul_scalar(high) + (part.neg().add_scalar(1.0)).mul_scalar(low);
                log_variance.mul_scalar(0.5).exp() * noise()
            } else {
                noise().mul_scalar(smallest.sqrt())
            };
        }
        Ok(Stepped { z, x_hat })
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

    fn config(change: &str) -> Result<Ddpm> {
        let json = format!(
            r#"{{"_class_name": "DDPMScheduler", "beta_schedule": "squaredcos_cap_v2",
            "variance_type": "learned_range", "lambda_min_clipped": -5.1{change}}}"#
        );
        Ddpm::from_json(json.as_bytes())
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

//! Stages out of a checkpoint of imagen-pytorch: what its trainer saved, as `tools/pytorch_to_safetensors.py` writes it.
//!
//! The tensors are kept as they are, under their names without `unets.N.`; what they are part of is read from their shapes
//! ([`describe`]), and how they are drawn with from the settings that the package saves where a model was made from a
//! configuration, or that the user writes down: a JSON object with the arguments of its class `Imagen`.
//!
//! Three things differ from drawing with the package. λ begins at −20 and not at −34, which moves the first step alone; the
//! last step gives the estimate of the clean picture, where the package leaves a trace of noise; and guidance is the
//! paper's, whereas the package's newer releases take away its part along the prediction unless told not to
//! (`cfg_remove_parallel_component`).

use std::path::Path;

use burn::tensor::Device;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::checkpoint::{Record, header};
use super::config::{Enlargement, NetworkKind, NullText, StageConfig, StageName};
use super::settings::StageSettings;
use crate::diffusion::{AugLevel, NoiseSchedule, Parameterization, Sampler, Thresholding};
use crate::error::{Error, Result};
use crate::models::imagen_pytorch::{ImagenPytorchUnet, describe};
use crate::models::weights::{Content, RawTensor, Storage, Weights, write_checked};

/// Key of the header under which the script keeps the settings.
const SETTINGS: &str = "imagen.settings";
/// Guidance weight of a stage with text: that of the package's own examples.
const GUIDANCE: f64 = 3.0;

/// A stage that a checkpoint holds.
#[derive(Clone, Debug, PartialEq)]
pub struct ConvertedStage {
    /// What it is.
    pub config: StageConfig,
    /// Steps that it was trained for, where the checkpoint says so.
    pub steps: Option<u64>,
    /// The name of the text encoder that it was trained with, where the settings say so.
    pub text_encoder: Option<String>,
    prefix: String,
}

/// Whether a file holds U-Nets of imagen-pytorch.
pub fn is_checkpoint(weights: &Weights) -> bool {
    weights.names().any(|name| number_of(name).is_some())
}

/// The N of a name that begins with `unets.N.`.
fn number_of(name: &str) -> Option<usize> {
    name.strip_prefix("unets.")?.split_once('.')?.0.parse().ok()
}

/// What `imagen_type` and `imagen_params` are in the package's files.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Saved {
    r#type: Option<String>,
    parameters: Option<Map<String, Value>>,
    steps: Option<Vec<f64>>,
}

/// The stages of a checkpoint, in order. `settings` are the arguments of the package's class `Imagen` as a JSON object; they
/// stand before those that the file brings.
///
/// # Errors
/// `Model` where a network is of another kind or a tensor is missing; `Usage` where settings are missing, or no such
/// settings, or of what cannot be drawn here.
pub fn read(weights: &Weights, settings: Option<&Map<String, Value>>) -> Result<Vec<ConvertedStage>> {
    let label = weights.label();
    let saved: Saved = match weights.metadata().get(SETTINGS) {
        Some(text) => serde_json::from_str(text)
            .map_err(|e| Error::model(format!("{label}: {SETTINGS} in the header cannot be read")).with_source(e))?,
        None => Saved::default(),
    };
    if saved.r#type.as_deref() == Some("elucidated") {
        return Err(Error::model(format!(
            "{label} is of the class ElucidatedImagen, whose process (EDM) is another one than the paper's and is not \
             known here"
        )));
    }
    let mut parameters = saved.parameters.unwrap_or_default();
    parameters.extend(settings.cloned().unwrap_or_default());
    let settings = Settings(parameters);
    if settings.0.get("video").is_some_and(|video| *video == Value::Bool(true)) {
        return Err(Error::model(format!("{label} draws videos")));
    }
    let count = weights.names().filter_map(number_of).max().map_or(0, |last| last + 1);
    if count > StageName::ALL.len() {
        return Err(Error::model(format!("{label} has {count} U-Nets: this program knows cascades of up to three")));
    }
    let mut stages: Vec<ConvertedStage> = Vec::new();
    for i in 0..count {
        let prefix = format!("unets.{i}.");
        let own = |key: &str| settings.0.get("unets").and_then(|unets| unets.get(i)?.get(key));
        let is_true = |key: &str| match own(key) {
            Some(Value::Array(each)) => each.contains(&Value::Bool(true)),
            other => other == Some(&Value::Bool(true)),
        };
        if is_true("use_linear_cross_attn") {
            return Err(Error::model(format!("{label}: {prefix} cannot be drawn from: use_linear_cross_attn")));
        }
        let scaled_skips = own("scale_skip_connection") != Some(&Value::Bool(false));
        let unet = describe(weights, &prefix, scaled_skips)?;
        if unet.low_resolution != (i > 0) {
            return Err(Error::model(format!(
                "{label}: {prefix} {}",
                if i > 0 {
                    "takes no low-resolution picture, which a later stage must"
                } else {
                    "enlarges, and is the first"
                }
            )));
        }
        let size = settings.size(i, count)?;
        let guidance = if unet.text_dim > 0 { GUIDANCE } else { 1.0 };
        let null_text = if unet.text_dim > 0 { NullText::Learned } else { NullText::Zeros };
        let config = StageConfig {
            stage: StageName::ALL[i],
            size,
            low_size: stages.last().map(|stage| stage.config.size),
            network: NetworkKind::ImagenPytorch,
            unet,
            schedule: settings.schedule("noise_schedules", i, if i < 2 { "cosine" } else { "linear" })?,
            parameterization: settings.parameterization(i)?,
            null_text,
            max_aug_level: AugLevel::MAX,
            max_guidance: None,
            aug_schedule: match i {
                0 => NoiseSchedule::default(),
                _ => settings.schedule("lowres_noise_schedule", 0, "linear")?,
            },
            enlargement: if i == 0 { Enlargement::default() } else { settings.enlargement()? },
            on_request: false,
            sampling: StageSettings {
                steps: settings.number("timesteps", i, 1000.0)? as usize,
                guidance,
                sampler: Sampler::default(),
                thresholding: settings.thresholding(i)?,
                aug_level: AugLevel::new(settings.number("lowres_sample_noise_level", 0, 0.2)?)?,
                ..StageSettings::default()
            },
        };
        config.validate()?;
        let steps = saved.steps.as_ref().and_then(|steps| steps.get(i)).map(|steps| *steps as u64);
        let text_encoder = settings.0.get("text_encoder_name").and_then(Value::as_str).map(str::to_owned);
        stages.push(ConvertedStage { config, steps, text_encoder, prefix });
    }
    Ok(stages)
}

impl ConvertedStage {
    /// Writes the stage's file, after the whole network has been built of it once.
    ///
    /// # Errors
    /// `Model` where a tensor is missing, of another shape, not of this network or not finite; `Io`.
    pub fn write(&self, weights: &Weights, path: &Path, steps: u64, text_encoder: &str, device: &Device) -> Result<()> {
        ImagenPytorchUnet::new(self.config.unet.clone(), weights, &self.prefix, Storage::Stored, device)?;
        let tensor = |name: &str| {
            let own = name.strip_prefix(&self.prefix)?;
            let (dtype, shape, bytes) = weights.raw(name)?;
            Some(RawTensor { name: own.to_owned(), shape: shape.to_vec(), content: Content::Bytes(dtype, bytes) })
        };
        let tensors = weights.names().filter_map(tensor).collect();
        write_checked(path, tensors, &header(&self.config, &Record::of_steps(steps), text_encoder))
    }
}

/// Arguments of the package's class `Imagen`; what is not there has its default.
struct Settings(Map<String, Value>);

impl Settings {
    /// The value for U-Net `i`: of a list the i-th, otherwise the one for all.
    fn of(&self, key: &str, i: usize) -> Option<&Value> {
        match self.0.get(key)? {
            Value::Array(each) => each.get(i),
            Value::Null => None,
            one => Some(one),
        }
    }

    fn wrong(key: &str, value: &Value, expected: &str) -> Error {
        Error::usage(format!("the settings say {key} = {value}: expected {expected}"))
    }

    fn number(&self, key: &str, i: usize, default: f64) -> Result<f64> {
        let Some(value) = self.of(key, i) else { return Ok(default) };
        value.as_f64().filter(|number| *number >= 0.0).ok_or_else(|| Self::wrong(key, value, "a number"))
    }

    fn text(&self, key: &str, i: usize, default: &'static str) -> Result<&str> {
        let Some(value) = self.of(key, i) else { return Ok(default) };
        value.as_str().ok_or_else(|| Self::wrong(key, value, "a name"))
    }

    fn size(&self, i: usize, count: usize) -> Result<usize> {
        let Some(value) = self.of("image_sizes", i) else {
            return Err(Error::usage(format!(
                "the checkpoint does not say how large its pictures are: give image_sizes, a list of {count}, in the settings"
            )));
        };
        let size = value.as_u64().filter(|size| (1..=1 << 16).contains(size));
        Ok(size.ok_or_else(|| Self::wrong("image_sizes", value, "a number of pixels"))? as usize)
    }

    fn schedule(&self, key: &str, i: usize, default: &'static str) -> Result<NoiseSchedule> {
        // a list for some U-Nets leaves the defaults to the others
        match self.text(key, i, default)? {
            "cosine" => Ok(NoiseSchedule::CrowsonCosine),
            "linear" => Ok(NoiseSchedule::CrowsonLinear),
            other => Err(Self::wrong(key, &other.into(), "cosine or linear")),
        }
    }

    fn parameterization(&self, i: usize) -> Result<Parameterization> {
        match self.text("pred_objectives", i, "noise")? {
            "noise" => Ok(Parameterization::Eps),
            "x_start" => Ok(Parameterization::X),
            "v" => Ok(Parameterization::V),
            other => Err(Self::wrong("pred_objectives", &other.into(), "noise, x_start or v")),
        }
    }

    fn enlargement(&self) -> Result<Enlargement> {
        match self.text("resize_mode", 0, "nearest")? {
            "nearest" => Ok(Enlargement::Nearest),
            "bilinear" => Ok(Enlargement::Bilinear),
            other => Err(Self::wrong("resize_mode", &other.into(), "nearest or bilinear")),
        }
    }

    fn thresholding(&self, i: usize) -> Result<Thresholding> {
        let percentile = self.number("dynamic_thresholding_percentile", 0, 0.95)?;
        match self.of("dynamic_thresholding", i) {
            None | Some(Value::Bool(true)) => Ok(Thresholding::dynamic(percentile)),
            Some(Value::Bool(false)) => Ok(Thresholding::Static),
            Some(other) => Err(Self::wrong("dynamic_thresholding", other, "true or false")),
        }
    }
}

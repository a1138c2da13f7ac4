//! Which points a sweep has: lists of settings, every combination of which is drawn with every model, and the lists of the
//! paper's figures as presets.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::builder::PossibleValuesParser;
use serde::{Deserialize, Serialize};

use imagen::cascade::{StageName, StageSettings};
use imagen::diffusion::{AugLevel, Sampler, Thresholding};

use crate::cli::draw::Session;
use crate::failure::{Failure, Result};

/// Guidance weights of the paper's curves of base models, and of super-resolution (figure A.11).
const GUIDANCE: [f64; 13] = [1.0, 1.25, 1.5, 1.75, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0];
const GUIDANCE_SR: [f64; 9] = [1.0, 3.0, 5.0, 7.0, 8.0, 10.0, 12.0, 15.0, 18.0];
const AUG_LEVELS: [f64; 5] = [0.0, 0.1, 0.2, 0.3, 0.4];

/// A figure of the paper as lists of settings.
struct Preset {
    name: &'static str,
    title: &'static str,
    stage: StageName,
    guidance: &'static [f64],
    thresholding: &'static [Thresholding],
    aug_level: &'static [f64],
    /// Whether it compares models.
    models: bool,
}

const PLAIN: Preset = Preset {
    name: "guidance",
    title: "Agreement against fidelity over guidance weights",
    stage: StageName::Base,
    guidance: &GUIDANCE,
    thresholding: &[],
    aug_level: &[],
    models: false,
};

const PRESETS: [Preset; 8] = [
    PLAIN,
    Preset {
        name: "guidance-sr",
        title: "Guidance of the 64 to 256 stage",
        stage: StageName::Sr256,
        guidance: &GUIDANCE_SR,
        ..PLAIN
    },
    Preset {
        name: "thresholding",
        title: "Thresholding (figure 4c)",
        thresholding: &[Thresholding::None, Thresholding::Static, Thresholding::dynamic(0.995)],
        ..PLAIN
    },
    Preset {
        name: "aug-level",
        title: "Noise conditioning augmentation (figure A.11)",
        stage: StageName::Sr256,
        guidance: &GUIDANCE_SR,
        aug_level: &AUG_LEVELS,
        ..PLAIN
    },
    Preset { name: "encoder-size", title: "Text encoders (figure 4a)", models: true, ..PLAIN },
    Preset { name: "unet-size", title: "U-Net sizes (figure 4b)", models: true, ..PLAIN },
    Preset {
        name: "text-conditioning",
        title: "Pooling against cross-attention (figure A.13a)",
        models: true,
        ..PLAIN
    },
    Preset {
        name: "architecture",
        title: "U-Net against Efficient U-Net (figure A.14)",
        stage: StageName::Sr256,
        guidance: &GUIDANCE_SR,
        models: true,
        ..PLAIN
    },
];

/// Lists of settings; every combination is a point.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Grid (lists, separated by commas)")]
pub(super) struct Axes {
    /// The lists of a figure of the paper; lists that are given replace its own
    #[arg(long, value_name = "NAME", value_parser = PossibleValuesParser::new(PRESETS.map(|preset| preset.name)))]
    preset: Option<String>,
    /// Guidance weights; 1 is none
    #[arg(long, value_name = "W,...", value_delimiter = ',', allow_negative_numbers = true)]
    guidance: Vec<f64>,
    /// none, static, dynamic or dynamic:PERCENTILE
    #[arg(long, value_name = "T,...", value_delimiter = ',')]
    thresholding: Vec<Thresholding>,
    /// Samplers
    #[arg(long, value_name = "S,...", value_delimiter = ',')]
    sampler: Vec<Sampler>,
    /// Denoising steps
    #[arg(long, value_name = "N,...", value_delimiter = ',')]
    steps: Vec<usize>,
    /// Noise on the picture that is enlarged
    #[arg(long, value_name = "A,...", value_delimiter = ',')]
    aug_level: Vec<AugLevel>,
}

/// The lists as they are drawn; an empty one stands for what the stage suggests.
#[derive(Clone, Debug)]
pub(super) struct Resolved {
    pub(super) title: &'static str,
    pub(super) stage: StageName,
    guidance: Vec<f64>,
    thresholding: Vec<Thresholding>,
    sampler: Vec<Sampler>,
    steps: Vec<usize>,
    aug_level: Vec<AugLevel>,
    pub(super) models: usize,
}

/// A setting that points differ in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Axis {
    Guidance,
    Steps,
    AugLevel,
    Thresholding,
    Sampler,
    Model,
}

impl Axes {
    /// The lists with those of the preset where none were given.
    pub(super) fn resolve(&self, models: usize, stage: Option<StageName>) -> Result<Resolved> {
        let preset = self.preset.as_ref().and_then(|name| PRESETS.iter().find(|preset| preset.name == name));
        if let Some(preset) = preset.filter(|preset| preset.models && models < 2) {
            let failure =
                Failure::usage(format_args!("--preset {} compares models, and {models} was given", preset.name));
            return Err(failure.hint("name each: -m small=models/small -m large=models/large"));
        }
        // numbers run along the axes in their order, however they were typed
        let mut guidance = self.guidance.clone();
        if guidance.is_empty() {
            guidance.extend(preset.map_or(&[][..], |preset| preset.guidance));
        }
        guidance.sort_by(f64::total_cmp);
        let mut steps = self.steps.clone();
        steps.sort_unstable();
        let stage = stage.or(preset.map(|preset| preset.stage)).unwrap_or(StageName::Base);
        let mut aug_level = self.aug_level.clone();
        if aug_level.is_empty() {
            let levels = preset.map_or(&[][..], |preset| preset.aug_level);
            aug_level = levels.iter().map(|level| AugLevel::new(*level)).collect::<imagen::Result<_>>()?;
        }
        aug_level.sort_by(|a, b| a.get().total_cmp(&b.get()));
        if stage == StageName::Base && !aug_level.is_empty() {
            let failure = Failure::usage("--aug-level is of super-resolution, and the base is swept");
            return Err(failure.hint("add --stage sr256"));
        }
        let thresholding = match (&self.thresholding[..], preset) {
            ([], Some(preset)) => preset.thresholding.to_vec(),
            (given, _) => given.to_vec(),
        };
        let resolved = Resolved {
            title: preset.map_or("Agreement against fidelity", |preset| preset.title),
            stage,
            guidance,
            thresholding,
            sampler: self.sampler.clone(),
            steps,
            aug_level,
            models,
        };
        if resolved.varied().is_empty() {
            return Err(
                Failure::usage("nothing varies").hint("give a list, e.g. --guidance 1,2,4, or --preset guidance")
            );
        }
        Ok(resolved)
    }
}

impl Resolved {
    /// The settings that have more than one value; the first one runs along the curves.
    pub(super) fn varied(&self) -> Vec<Axis> {
        let counts = [
            (Axis::Guidance, self.guidance.len()),
            (Axis::Steps, self.steps.len()),
            (Axis::AugLevel, self.aug_level.len()),
            (Axis::Thresholding, self.thresholding.len()),
            (Axis::Sampler, self.sampler.len()),
            (Axis::Model, self.models),
        ];
        counts.into_iter().filter(|(_, count)| *count > 1).map(|(axis, _)| axis).collect()
    }

    /// Every point, curve by curve, the same setting never twice.
    pub(super) fn points(&self, models: &[Model], sessions: &[Session]) -> Result<Vec<Point>> {
        let mut points: Vec<Point> = Vec::new();
        for (model, session) in models.iter().zip(sessions) {
            let Some((_, own)) = session.stages.iter().find(|(stage, _)| *stage == self.stage) else {
                return Err(Failure::usage(format_args!("{} has no stage {}", model.name, self.stage)));
            };
            let mut settings = vec![*own];
            settings = every(&settings, &self.sampler, |settings, value| settings.sampler = value);
            settings = every(&settings, &self.thresholding, |settings, value| settings.thresholding = value);
            settings = every(&settings, &self.aug_level, |settings, value| settings.aug_level = value);
            settings = every(&settings, &self.steps, |settings, value| settings.steps = value);
            settings = every(&settings, &self.guidance, |settings, value| settings.guidance = value);
            for settings in settings {
                let point = Point { model: model.name.clone(), stage: self.stage, settings };
                if !points.contains(&point) {
                    points.push(point);
                }
            }
        }
        Ok(points)
    }
}

/// Each of the settings with each of the values; as they are where there are no values.
fn every<T: Copy>(settings: &[StageSettings], values: &[T], set: fn(&mut StageSettings, T)) -> Vec<StageSettings> {
    if values.is_empty() {
        return settings.to_vec();
    }
    let with = |settings: &StageSettings, value: T| {
        let mut settings = *settings;
        set(&mut settings, value);
        settings
    };
    settings.iter().flat_map(|settings| values.iter().map(|value| with(settings, *value))).collect()
}

/// One model under one choice of settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Point {
    pub(super) model: String,
    pub(super) stage: StageName,
    pub(super) settings: StageSettings,
}

impl Point {
    /// The value of an axis.
    pub(super) fn value(&self, axis: Axis) -> String {
        let settings = &self.settings;
        match axis {
            Axis::Guidance => settings.guidance.to_string(),
            Axis::Steps => settings.steps.to_string(),
            Axis::AugLevel if self.stage == StageName::Base => "–".to_owned(),
            Axis::AugLevel => settings.aug_level.to_string(),
            Axis::Thresholding => settings.thresholding.to_string(),
            Axis::Sampler => settings.sampler.to_string(),
            Axis::Model => self.model.clone(),
        }
    }

    /// All of it in words.
    pub(super) fn describe(&self) -> String {
        let Self { model, stage, settings } = self;
        let aug =
            if *stage == StageName::Base { String::new() } else { format!(", augmentation {}", settings.aug_level) };
        format!(
            "{model}, {stage}: guidance {}, {}, {} steps, {}{aug}",
            settings.guidance, settings.thresholding, settings.steps, settings.sampler
        )
    }

    /// The point's description as a file's name.
    pub(super) fn file_name(&self) -> String {
        let kept = |c: char| if c.is_alphanumeric() || c == '.' { c } else { '-' };
        let name: String = self.describe().replace([',', ':', '+'], "").chars().map(kept).collect();
        name.replace("--", "-")
    }
}

impl Axis {
    /// Its name in legends.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Guidance => "guidance",
            Self::Steps => "steps",
            Self::AugLevel => "augmentation",
            Self::Thresholding => "thresholding",
            Self::Sampler => "sampler",
            Self::Model => "model",
        }
    }
}

/// A model with the name that it goes by.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Model {
    pub(super) name: String,
    /// `None` is the built-in one.
    pub(super) folder: Option<PathBuf>,
}

impl Default for Model {
    fn default() -> Self {
        Self { name: "built-in".into(), folder: None }
    }
}

impl FromStr for Model {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, folder) = match text.split_once('=') {
            Some((name, folder)) => (name.to_owned(), folder),
            None => (Path::new(text).file_name().map_or(text.into(), |name| name.to_string_lossy().into_owned()), text),
        };
        if name.is_empty() || folder.is_empty() {
            return Err("expected NAME=FOLDER or FOLDER".into());
        }
        Ok(Self { name, folder: (text != "built-in").then(|| folder.into()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn axes(preset: Option<&str>) -> Axes {
        Axes { preset: preset.map(str::to_owned), ..Axes::default() }
    }

    #[test]
    fn lists_that_are_given_replace_those_of_the_preset() {
        let resolved = axes(Some("thresholding")).resolve(1, None).unwrap();
        assert_eq!((resolved.guidance.len(), resolved.thresholding.len(), resolved.stage), (13, 3, StageName::Base));
        assert_eq!(resolved.varied(), [Axis::Guidance, Axis::Thresholding]);
        let given = Axes { guidance: vec![1.0, 2.0], ..axes(Some("aug-level")) };
        let resolved = given.resolve(1, None).unwrap();
        assert_eq!(
            (resolved.guidance, resolved.aug_level.len(), resolved.stage),
            (vec![1.0, 2.0], 5, StageName::Sr256)
        );
    }

    #[test]
    fn numbers_run_along_their_axis_in_order() {
        let typed = Axes { steps: vec![4, 8, 2], guidance: vec![3.0, 1.0], ..axes(None) };
        let resolved = typed.resolve(1, None).unwrap();
        assert_eq!((resolved.steps, resolved.guidance), (vec![2, 4, 8], vec![1.0, 3.0]));
    }

    #[test]
    fn what_varies_nothing_or_compares_one_model_is_refused() {
        let with_aug = Axes { aug_level: vec![AugLevel::new(0.1).unwrap()], guidance: vec![1.0, 2.0], ..axes(None) };
        for (axes, words) in
            [(axes(None), "nothing varies"), (axes(Some("unet-size")), "compares models"), (with_aug, "--aug-level")]
        {
            let failure = axes.resolve(1, None).unwrap_err();
            assert!(failure.to_string().contains(words), "{failure}");
        }
    }

    #[test]
    fn a_model_is_named_by_its_folder_or_by_the_user() {
        let parse = |text: &str| text.parse::<Model>();
        assert_eq!(parse("a/b").unwrap(), Model { name: "b".into(), folder: Some("a/b".into()) });
        assert_eq!(parse("x=a/b").unwrap(), Model { name: "x".into(), folder: Some("a/b".into()) });
        assert_eq!(parse("built-in").unwrap(), Model::default());
        assert!(parse("=a").is_err() && parse("a=").is_err());
    }
}

//! How a model draws, as flags: a value for all stages or one for each.

use std::collections::BTreeMap;

use imagen::cascade::{Imagen, StageName, StageOptions, StageSettings};
use imagen::diffusion::{AugLevel, Interval, Sampler, Spacing, Thresholding, Timesteps};
use imagen::nn::Precision;

use super::HOW;
use super::model::only_deepfloyd;
use super::per_stage::PerStage;
use crate::failure::{Failure, Result};

type Options = BTreeMap<StageName, StageOptions>;

/// How a model draws; as its stages suggest where nothing is given.
#[derive(Clone, Debug, Default, PartialEq, clap::Args)]
pub(in crate::cli) struct DrawArgs {
    /// Denoising steps
    #[arg(long, value_name = "N", help_heading = HOW, aliases = ["num-inference-steps", "sampling-steps"])]
    steps: Option<PerStage<usize>>,
    /// Pull of the text: one value is for the base, 1 is none
    #[arg(long, value_name = "W", help_heading = HOW, aliases = ["cfg-scale", "guidance-scale"])]
    #[arg(allow_negative_numbers = true)]
    guidance: Option<PerStage<f64>>,
    /// Sampler, with its setting after a colon
    #[arg(long, value_name = "NAME", help_heading = HOW, alias = "sampling-method", help = samplers())]
    sampler: Option<PerStage<Sampler>>,
    /// How far the steps are apart: time, log-snr or rho, with EDM's rho after a colon
    #[arg(long, hide_short_help = true, value_name = "NAME", help_heading = HOW)]
    spacing: Option<PerStage<Spacing>>,
    /// Levels of noise sigma/alpha at which the text pulls, such as 0.3-5; one value is for the base
    #[arg(long, hide_short_help = true, value_name = "LOW-HIGH", help_heading = HOW)]
    guidance_interval: Option<PerStage<Interval>>,
    /// How far a guided picture is brought back to the spread of one without guidance, 0 to 1; one value is for the base
    #[arg(long, hide_short_help = true, value_name = "PART", help_heading = HOW)]
    guidance_rescale: Option<PerStage<f64>>,
    /// Values out of range: none, static, dynamic or dynamic:0.995
    #[arg(long, value_name = "NAME", help_heading = HOW)]
    thresholding: Option<PerStage<Thresholding>>,
    /// Noise on the small picture before it is enlarged, 0 to 1
    #[arg(long, value_name = "LEVEL", help_heading = HOW)]
    aug_level: Option<PerStage<AugLevel>>,
    /// What is multiplied: f32, or bf16, faster with AVX512-BF16 and a little less exact
    #[arg(long, hide_short_help = true, value_name = "NAME", help_heading = HOW)]
    precision: Option<PerStage<Precision>>,
    /// DeepFloyd IF: which steps, a list's name or counts, for both stages or one each: smart100/smart50
    #[arg(long, hide_short_help = true, value_name = "LIST", help_heading = HOW, conflicts_with = "steps")]
    timesteps: Option<String>,
    /// DeepFloyd IF: step to which the enlarged picture is noised, 0 to 999; a thousand times --aug-level
    #[arg(long, hide_short_help = true, value_name = "STEP", help_heading = HOW, conflicts_with = "aug_level")]
    #[arg(value_parser = clap::value_parser!(u16).range(0..=999))]
    noise_level: Option<u16>,
}

/// The help of `--sampler`; the library's list is the only one.
fn samplers() -> String {
    let names: Vec<String> = Sampler::ALL.iter().map(Sampler::to_string).collect();
    format!("Sampler: {}; learned is DeepFloyd IF's own", names.join(", "))
}

/// Whether a flag has a single value.
fn is_one<T: Copy>(values: &Option<PerStage<T>>) -> bool {
    values.as_ref().is_some_and(|values| values.of_base().is_some())
}

/// The stages of a model, and how many of them run.
struct Stages<'a> {
    model: &'a [StageName],
    running: usize,
}

impl DrawArgs {
    /// Whether a guidance was given.
    pub(in crate::cli) fn has_guidance(&self) -> bool {
        self.guidance.is_some()
    }

    /// The one precision of a network that is run by itself.
    pub(in crate::cli) fn one_precision(&self) -> Result<Precision> {
        let Some(values) = &self.precision else { return Ok(Precision::F32) };
        let one = values.of_base();
        one.ok_or_else(|| Failure::usage("--precision has several values, and a single network is run: give one"))
    }

    /// What the flags say over what is `remembered`, for the stages `from` one `until` another.
    pub(in crate::cli) fn over(
        &self,
        mut remembered: Options,
        imagen: &Imagen,
        (from, until): (Option<StageName>, Option<StageName>),
    ) -> Result<Options> {
        let model = imagen.stages().into_iter().map(|info| info.stage);
        let model: Vec<StageName> = model.filter(|stage| from.is_none_or(|from| *stage >= from)).collect();
        let last = until.unwrap_or_else(|| imagen.default_until());
        let running = model.iter().filter(|stage| **stage <= last).count();
        let bases = model.iter().filter(|stage| **stage == StageName::Base).count();
        let all = Stages { model: &model, running };
        let larger = Stages { model: &model[bases..], running: running.saturating_sub(bases) };
        // one guidance is the base's alone: that is where the text decides, and super-resolution needs little
        let guided = |one: bool| Stages { model: &model, running: if one { running.min(1) } else { running } };
        if self.aug_level.is_some() && larger.model.is_empty() {
            return Err(Failure::usage("--aug-level is for super-resolution stages, and this model has none"));
        }
        let options = &mut remembered;
        if self.steps.is_some() || self.timesteps.is_some() {
            options.values_mut().for_each(|options| (options.steps, options.timesteps) = (None, None));
        }
        all.set(options, "--steps", self.steps.as_ref(), |o| &mut o.steps)?;
        guided(is_one(&self.guidance)).set(options, "--guidance", self.guidance.as_ref(), |o| &mut o.guidance)?;
        let (interval, part) = (&self.guidance_interval, &self.guidance_rescale);
        guided(is_one(interval))
            .set(options, "--guidance-interval", interval.as_ref(), |o| &mut o.guidance_interval)?;
        guided(is_one(part)).set(options, "--guidance-rescale", part.as_ref(), |o| &mut o.guidance_rescale)?;
        all.set(options, "--spacing", self.spacing.as_ref(), |o| &mut o.spacing)?;
        all.set(options, "--sampler", self.sampler.as_ref(), |o| &mut o.sampler)?;
        all.set(options, "--thresholding", self.thresholding.as_ref(), |o| &mut o.thresholding)?;
        larger.set(options, "--aug-level", self.aug_level.as_ref(), |o| &mut o.aug_level)?;
        all.set(options, "--precision", self.precision.as_ref(), |o| &mut o.precision)?;
        self.set_deepfloyd(options, imagen, [&all, &larger])?;
        // values for stages that do not run this time are no contradiction, only unused
        options.retain(|stage, _| *stage <= last && from.is_none_or(|from| *stage >= from));
        Ok(remembered)
    }

    /// The flags that only DeepFloyd IF has.
    fn set_deepfloyd(&self, options: &mut Options, imagen: &Imagen, [all, larger]: [&Stages<'_>; 2]) -> Result<()> {
        let given = [("--timesteps", self.timesteps.is_some()), ("--noise-level", self.noise_level.is_some())];
        if let Some((flag, _)) = given.into_iter().find(|(_, given)| *given && imagen.deepfloyd().is_none()) {
            return Err(only_deepfloyd(flag));
        }
        if let Some(list) = &self.timesteps {
            let each: Vec<Timesteps> = list.split('/').map(str::parse).collect::<Result<_, imagen::Error>>()?;
            if each.len() != 1 && each.len() != all.model.len() {
                let (given, stages) = (each.len(), all.model.len());
                let message = format!("--timesteps has {given} lists, but this model has {stages} stages");
                return Err(
                    Failure::usage(message).hint("give one list for all stages, or one for each: smart100/smart50")
                );
            }
            for (i, stage) in all.model.iter().enumerate() {
                options.entry(*stage).or_default().timesteps = Some(each[i.min(each.len() - 1)]);
            }
        }
        if let Some(level) = self.noise_level {
            let Some(stage) = larger.model[..larger.running].first() else {
                return Err(Failure::usage("--noise-level is for the second stage, and it does not run"));
            };
            options.entry(*stage).or_default().aug_level = Some(AugLevel::new(f64::from(level) / 1000.0)?);
        }
        Ok(())
    }
}

impl Stages<'_> {
    /// Gives each running stage its value from a flag, if the flag was given.
    fn set<T: Copy>(
        &self,
        options: &mut Options,
        flag: &str,
        values: Option<&PerStage<T>>,
        field: fn(&mut StageOptions) -> &mut Option<T>,
    ) -> Result<()> {
        for (stage, value) in values.map_or(Ok(Vec::new()), |values| values.spread(flag, self.model, self.running))? {
            *field(options.entry(stage).or_default()) = Some(value);
        }
        Ok(())
    }
}

/// The flags that say these settings again, as far as a request departs from what the stages suggest.
pub(in crate::cli) fn flags(
    options: &BTreeMap<StageName, StageOptions>,
    stages: &[(StageName, StageSettings)],
) -> Vec<(&'static str, String)> {
    let mut flags = Vec::new();
    let mut list =
        |name: &'static str, given: fn(&StageOptions) -> bool, value: fn(&StageSettings) -> String, larger: bool| {
            if options.values().any(given) {
                let stages = stages.iter().filter(|(stage, _)| !larger || *stage != StageName::Base);
                let mut values: Vec<String> = stages.map(|(_, s)| value(s)).collect();
                // one guidance is the base's alone
                if !name.starts_with("--guidance") && values.iter().all(|v| *v == values[0]) {
                    values.truncate(1);
                }
                if !values.is_empty() {
                    flags.push((name, values.join(if name == "--timesteps" { "/" } else { "," })));
                }
            }
        };
    if stages.iter().any(|(_, settings)| settings.timesteps.is_some()) {
        let named = |s: &StageSettings| s.timesteps.unwrap_or(Timesteps::Leading(s.steps)).to_string();
        list("--timesteps", |_| true, named, false);
    } else {
        list("--steps", |o| o.steps.is_some() || o.timesteps.is_some(), |s| s.steps.to_string(), false);
    }
    list("--guidance", |o| o.guidance.is_some(), |s| s.guidance.to_string(), false);
    let interval =
        |s: &StageSettings| s.guidance_interval.map_or_else(|| "0-inf".into(), |interval| interval.to_string());
    list("--guidance-interval", |o| o.guidance_interval.is_some(), interval, false);
    let rescaled = |o: &StageOptions| o.guidance_rescale.is_some_and(|part| part != 0.0);
    list("--guidance-rescale", rescaled, |s| s.guidance_rescale.to_string(), false);
    let spaced = |o: &StageOptions| o.spacing.is_some_and(|spacing| spacing != Spacing::default());
    list("--spacing", spaced, |s| s.spacing.to_string(), false);
    list("--sampler", |o| o.sampler.is_some(), |s| s.sampler.to_string(), false);
    list("--thresholding", |o| o.thresholding.is_some(), |s| s.thresholding.to_string(), false);
    list("--aug-level", |o| o.aug_level.is_some(), |s| s.aug_level.to_string(), true);
    list("--precision", |o| o.precision.is_some(), |s| s.precision.to_string(), false);
    flags
}

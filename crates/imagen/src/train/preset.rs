//! `[stage] preset = "base64"`: a recipe's stage as one of the paper's, changed where the recipe says so.

use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use crate::cascade::Preset;
use crate::error::{Context, Error, Result};
use crate::models::unet::UnetConfig;

/// The tables of a stage in which a preset's keys stay where the recipe does not name them.
const MERGED: [&str; 2] = ["unet", "sampling"];

/// The keys of `[stage]` that stand for others. They are gone once a recipe is read.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StagePreset {
    /// Begin with a stage of the paper (appendix F): `base64`, `sr256` or `sr1024`. Every other key of `[stage]`,
    /// `[stage.unet]` and `[stage.sampling]` may then be left out, and replaces the preset's where it is given.
    pub(super) preset: Option<Preset>,
    /// Factor of all widths of the preset's network (its channels, embedding and text width): 0.125 makes an eighth as wide
    /// a network.
    #[serde(default = "whole")]
    pub(super) width_multiplier: f64,
}

fn whole() -> f64 {
    1.0
}

impl StagePreset {
    /// The names of its keys.
    pub(super) const KEYS: [&str; 2] = ["preset", "width_multiplier"];

    /// Whether a recipe names one of its keys.
    pub(super) fn is_in(recipe: &Table) -> bool {
        let stage = recipe.get("stage").and_then(Value::as_table);
        stage.is_some_and(|stage| Self::KEYS.iter().any(|key| stage.contains_key(*key)))
    }
}

/// Puts the stage that a recipe's preset stands for under the keys that it gives itself.
pub(super) fn expand(recipe: &mut Table) -> Result<()> {
    if !StagePreset::is_in(recipe) {
        return Ok(());
    }
    let Some(Value::Table(own)) = recipe.get_mut("stage") else { return Ok(()) };
    let keys: Table = StagePreset::KEYS.iter().filter_map(|key| Some((key.to_string(), own.remove(*key)?))).collect();
    let in_stage = |e: toml::de::Error| Error::data(format!("stage: {}", e.message()));
    let StagePreset { preset, width_multiplier } = keys.try_into().map_err(in_stage)?;
    let preset =
        preset.ok_or_else(|| Error::data("stage.width_multiplier belongs to a stage.preset; there is none"))?;
    let mut stage = preset.stage();
    scale(&mut stage.unet, width_multiplier).context(|| format!("stage.width_multiplier = {width_multiplier}"))?;
    let Value::Table(mut whole) = Value::try_from(&stage).expect("a description is plain data") else {
        unreachable!("a description is a table")
    };
    for (key, value) in std::mem::take(own) {
        match (whole.get_mut(&key), value) {
            (Some(Value::Table(preset)), Value::Table(given)) if MERGED.contains(&key.as_str()) => preset.extend(given),
            (_, value) => drop(whole.insert(key, value)),
        }
    }
    *own = whole;
    Ok(())
}

/// Makes a network as wide as this, which must come out even.
fn scale(unet: &mut UnetConfig, factor: f64) -> Result<()> {
    let levels = unet.levels.iter_mut().map(|level| &mut level.channels);
    let widths = [&mut unet.channels, &mut unet.embedding, &mut unet.text_width].into_iter().chain(levels);
    for width in widths {
        let scaled = *width as f64 * factor;
        if !(2.0..=f64::from(u32::MAX)).contains(&scaled) || scaled % 2.0 != 0.0 {
            return Err(Error::data(format!(
                "a width of {width} becomes {scaled}; choose one that keeps widths even, such as 0.5, 0.25 or 0.125"
            )));
        }
        *width = scaled as usize;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cascade::StageName;
    use crate::diffusion::{NoiseSchedule, Parameterization};
    use crate::train::Recipe;

    const REST: &str = "[data]\nfolder = \"d\"\n[train]\nsteps = 1\nbatch = 1\nlr = 1e-4\nwarmup = 0\nema_decay = 0.9";

    fn recipe(stage: &str, set: &[&str]) -> Result<Recipe> {
        Recipe::parse_with(&format!("[stage]\n{stage}\n{REST}"), set)
    }

    #[test]
    fn a_preset_is_the_stage_of_the_paper() {
        for preset in Preset::ALL {
            let read = recipe(&format!("preset = \"{preset}\""), &[]).unwrap();
            assert_eq!(read.stage, preset.stage());
            assert_eq!(read.stage.parameterization, Parameterization::Eps);
            assert_eq!(Recipe::parse(&read.to_toml()).unwrap(), read, "the resolved copy needs no preset");
        }
        let stage = recipe("preset = \"sr1024\"", &[]).unwrap().stage;
        assert_eq!((stage.stage, stage.size, stage.low_size), (StageName::Sr1024, 1024, Some(256)));
        assert_eq!(stage.schedule, NoiseSchedule::Linear);
    }

    #[test]
    fn what_a_recipe_says_beside_its_preset_counts() {
        let text = "preset = \"base64\"\nwidth_multiplier = 0.125\nsize = 32\nschedule = \"linear\"\n\
                    [stage.unet]\ntext_dim = 384\nheads = { count = 4 }\n[stage.sampling]\nsteps = 3";
        let stage = recipe(text, &["stage.unet.levels.0.channels=48"]).unwrap().stage;
        assert_eq!((stage.size, stage.unet.text_dim, stage.sampling.steps), (32, 384, 3));
        assert_eq!((stage.unet.channels, stage.unet.embedding, stage.unet.text_width), (64, 256, 256));
        let widths: Vec<usize> = stage.unet.levels.iter().map(|level| level.channels).collect();
        assert_eq!(widths, [48, 128, 192, 256]);
        assert_eq!(stage.sampling.guidance, 1.35, "what is not named stays the preset's");
        assert_eq!(stage.schedule, NoiseSchedule::Linear);
        let named = recipe("size = 32", &["stage.preset=sr256", "stage.size=128", "stage.low_size=32"]).unwrap().stage;
        assert_eq!((named.stage, named.size), (StageName::Sr256, 128));
    }

    #[test]
    fn a_preset_that_there_is_not_is_answered_with_those_that_there_are() {
        for (stage, set, words) in [
            ("preset = \"base46\"", None, "unknown preset 'base46', expected one of: base64, sr256, sr1024"),
            ("presett = \"base64\"", None, "did you mean \"preset\"?"),
            ("preset = \"base64\"\nsizze = 3", None, "did you mean \"size\"?"),
            ("preset = \"base64\"\nwidth_multiplier = 0.3", None, "a width of 512 becomes 153.6"),
            ("preset = \"base64\"\nwidth_multiplier = 0", None, "a width of 512 becomes 0"),
            ("width_multiplier = 0.5", None, "belongs to a stage.preset"),
            ("", Some("stage.preset=base46"), "expected one of: base64"),
        ] {
            let error = recipe(stage, set.as_slice()).unwrap_err();
            assert!(format!("{error:#}").contains(words), "{stage}: {error:#}");
        }
    }
}

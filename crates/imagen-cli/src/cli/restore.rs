//! `imagen restore`: a picture of which something was lost, by what a model knows of pictures.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::builder::RangedU64ValueParser;
use serde_json::json;

use imagen::cascade::{Restoration, Restorer};
use imagen::diffusion::inverse::{Ascent, BlockMeans, Frequencies, Grey, Operator, Pixels};
use imagen::image::{DecodeOptions, Filter, FloatPicture, MAX_CHANNELS, Picture, PngText, decode, png, psnr};
use imagen::nn::device::Found;

use super::draw::ModelArgs;
use super::shared::{Machine, one_of};
use crate::failure::{Failure, Result, print_line};
use crate::interrupt;
use crate::output::{shell, write_file};
use crate::progress::Progress;

const EXAMPLES: &str = "\
Examples:
  imagen restore blurred.png --operator blur:2
  imagen restore torn.png --operator inpaint:mask.png --prompt \"a red apple\"
  imagen restore tiny.png --operator superres:4 --method guided
  imagen restore whole.png --simulate --operator random-pixels:0.1 --json

What was measured, by --operator:
  blur:S            a Gaussian blur of S pixels (standard deviation)
  inpaint:MASK      everything but where the picture MASK is white
  superres:K        the means of blocks of K times K pixels: PICTURE is K times smaller
  random-pixels:P   the part P of all pixels, chosen by --seed
  spectral:P        the lowest part P of all frequencies
  grey              the brightness alone

The picture is cut to a square of the base's side, 64 pixels for the built-in model; then
`imagen sample --from sr256 --image RESTORED.png` enlarges it. The residual is how far what would
be measured of the result is from what was, on a scale from -1 to 1.";

/// Restore a blurred, torn, small, grey or otherwise damaged picture with a model as the prior
///
/// What was lost is a linear measurement; the base model fills in what it does not tell.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Restore {
    /// What was measured, or with --simulate a picture that is whole
    picture: PathBuf,
    /// What the measurement is: blur:S, inpaint:MASK, superres:K, random-pixels:P, spectral:P or grey
    #[arg(long, value_name = "OPERATOR")]
    operator: Measure,
    /// Measure the picture first, and say how near the result comes to it
    #[arg(long)]
    simulate: bool,
    /// What the picture shows; without it the model's own idea of pictures counts
    #[arg(short, long, value_name = "TEXT")]
    prompt: Option<String>,
    /// Pull of the prompt; the base's own by default
    #[arg(long, value_name = "W")]
    guidance: Option<f64>,
    /// ascent (Kadkhodaie & Simoncelli) or guided (ΠGDM, which differentiates the network)
    #[arg(long, value_name = "NAME", default_value = "ascent", value_parser = one_of::<Restorer>())]
    method: Restorer,
    /// The most steps: of the ascent, which ends when no noise is left, 1000; of the guided method 100
    #[arg(long, value_name = "N")]
    #[arg(value_parser = RangedU64ValueParser::<usize>::new().range(1..=100_000))]
    steps: Option<usize>,
    /// Seed of the noise
    #[arg(short, long, default_value_t = 0)]
    seed: u64,
    /// The restored picture; PICTURE-restored.png by default
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Write what was measured as a picture, too, as far as it tells one
    #[arg(long, value_name = "FILE")]
    measured: Option<PathBuf>,
    /// Overwrite files that exist
    #[arg(short, long)]
    force: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// Print nothing but the result
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    machine: Machine,
}

/// What was measured of a picture.
#[derive(Clone, Debug, PartialEq)]
enum Measure {
    Blur(f64),
    Inpaint(PathBuf),
    Superres(usize),
    RandomPixels(f64),
    Spectral(f64),
    Grey,
}

impl FromStr for Measure {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, setting) = text.split_once(':').map_or((text, None), |(name, setting)| (name, Some(setting)));
        let number = |what: &str| -> Result<f64, String> {
            let setting = setting.ok_or_else(|| format!("{name} needs {what}, e.g. {name}:2"))?;
            setting.parse().map_err(|_| format!("{name}:{setting}: expected {what}, a number"))
        };
        match name {
            "blur" => number("a standard deviation in pixels").map(Self::Blur),
            "superres" => match number("how many times smaller it is")? {
                side if side.fract() == 0.0 && (1.0..=1024.0).contains(&side) => Ok(Self::Superres(side as usize)),
                side => Err(format!("superres:{side}: expected a whole number from 1 to 1024")),
            },
            "random-pixels" => number("the part of the pixels that is known").map(Self::RandomPixels),
            "spectral" => number("the part of the frequencies that is known").map(Self::Spectral),
            "inpaint" => match setting {
                Some(mask) if !mask.is_empty() => Ok(Self::Inpaint(mask.into())),
                _ => Err("inpaint needs a picture that is white where something is lost: inpaint:mask.png".to_owned()),
            },
            "grey" | "gray" if setting.is_none() => Ok(Self::Grey),
            _ => Err(format!(
                "unknown measurement '{text}', expected blur:S, inpaint:MASK, superres:K, random-pixels:P, spectral:P or grey"
            )),
        }
    }
}

impl Restore {
    pub(crate) fn run(self) -> Result<()> {
        let output = self.output.clone().unwrap_or_else(|| restored_name(&self.picture));
        for path in std::iter::once(&output).chain(&self.measured) {
            if path == &self.picture || (path.exists() && !self.force) {
                let failure = Failure::usage(format_args!("{} is already there", path.display()));
                return Err(failure.hint("choose another name with --output, or write over it with --force"));
            }
        }
        let picture = open(&self.picture)?;
        let machine = self.machine;
        machine.compute(|found| self.on(found, &picture, &output))
    }

    fn on(&self, found: &Found, picture: &Picture, output: &Path) -> Result<()> {
        interrupt::watch("stopping; the picture is kept as it is")?;
        let mut progress = Progress::new(self.quiet);
        let model = self.model.open(&found.device, &progress)?;
        let shape = model.imagen.restored_shape()?;
        let operator = self.operator(shape)?;
        let [height, width, _] = shape;
        let [w, h] = [picture.width(), picture.height()];
        if (w, h) != (width, height) && !matches!(self.operator, Measure::Superres(_)) {
            progress.note(format_args!("the picture of {w}x{h} becomes {width}x{height}"));
        }
        let whole = self.simulate.then(|| float(picture, [shape[0], shape[1]], shape[2])).transpose()?;
        let measured = match &whole {
            Some(whole) => operator.measure(whole.values()),
            None => self.given(picture, shape, operator.as_ref())?,
        };
        if let Some(path) = &self.measured {
            write_file(path, &encode(operator.pseudo_inverse(&measured), shape)?)?;
        }
        let ascent = Ascent { most: self.steps.unwrap_or(Ascent::default().most), ..Ascent::default() };
        let wanted = Restoration {
            prompt: self.prompt.clone().unwrap_or_default(),
            guidance: self.guidance,
            method: self.method,
            ascent,
            steps: self.steps,
            seed: self.seed,
        };
        let most = match self.method {
            Restorer::Ascent => ascent.steps(),
            Restorer::Guided => wanted.guided_steps(),
        };
        let restored = model.imagen.restore(&wanted, operator.as_ref(), &measured, &mut |step| {
            progress.step("restore", step.step as u64, most as u64, format_args!("noise {:.3}", step.sigma));
            interrupt::flow()
        })?;
        progress.finish();
        let picture: Vec<f32> = restored.picture.iter().map(|value| value.clamp(-1.0, 1.0)).collect();
        let near = whole.map(|whole| psnr(whole.values(), &picture));
        write_file(output, &encode(picture, shape)?)?;
        if self.json {
            return print_line(json!({
                "path": output.display().to_string(),
                "steps": restored.steps,
                "residual": restored.residual,
                "psnr": near,
            }));
        }
        print_line(output.display())?;
        let near = near.map(|near| format!(", {near:.1} dB PSNR to the whole picture")).unwrap_or_default();
        progress.note(format_args!("{} steps, residual {:.4}{near}", restored.steps, restored.residual));
        if model.imagen.stages().len() > 1 {
            let output = shell::quote(&output.display().to_string());
            progress.note(format_args!("to enlarge it: imagen sample --from sr256 --image {output}"));
        }
        Ok(())
    }

    fn operator(&self, shape: [usize; 3]) -> Result<Box<dyn Operator>> {
        Ok(match &self.operator {
            Measure::Blur(sigma) => Box::new(Frequencies::blur(shape, *sigma)?),
            Measure::Superres(side) => Box::new(BlockMeans::new(shape, *side)?),
            Measure::RandomPixels(part) => Box::new(Pixels::random(shape, *part, self.seed)?),
            Measure::Spectral(part) => Box::new(Frequencies::lowest(shape, *part)?),
            Measure::Grey => Box::new(Grey::new(shape)?),
            Measure::Inpaint(path) => {
                let mask = float(&open(path)?, [shape[0], shape[1]], 1)?;
                Box::new(Pixels::new(shape, &mask.values().iter().map(|value| *value < 0.0).collect::<Vec<bool>>())?)
            }
        })
    }

    /// What the picture says of another.
    fn given(&self, picture: &Picture, shape: [usize; 3], operator: &dyn Operator) -> Result<Vec<f32>> {
        let [height, width, channels] = shape;
        Ok(match self.operator {
            Measure::Superres(side) => float(picture, [height / side, width / side], channels)?.into_values(),
            // it has these frequencies alone, and that it is a picture is its measurement
            Measure::Blur(_) | Measure::Spectral(_) => float(picture, [height, width], channels)?.into_values(),
            _ => operator.measure(float(picture, [height, width], channels)?.values()),
        })
    }
}

fn open(path: &Path) -> Result<Picture> {
    Ok(decode::open(path, &DecodeOptions { channels: MAX_CHANNELS, ..DecodeOptions::default() })?)
}

/// The middle square of a picture, on white where it is transparent, at this height and width.
fn float(picture: &Picture, [height, width]: [usize; 2], channels: usize) -> Result<FloatPicture> {
    let picture = picture.to_rgb([255; 3]).to_channels(channels)?.centre_square();
    let filter = if picture.width() > width { Filter::Area } else { Filter::Bicubic };
    let picture = if picture.width() == width { picture } else { picture.resize(width, height, filter)? };
    Ok(picture.to_float())
}

fn encode(values: Vec<f32>, [height, width, channels]: [usize; 3]) -> Result<Vec<u8>> {
    let picture = FloatPicture::new(width, height, channels, values)?.to_picture()?;
    Ok(png::encode(&picture, &PngText::default())?)
}

fn restored_name(picture: &Path) -> PathBuf {
    let stem = picture.file_stem().map_or_else(|| "picture".into(), |stem| stem.to_string_lossy());
    picture.with_file_name(format!("{stem}-restored.png"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measurements_are_read_by_name_and_setting() {
        let read = |text: &str| text.parse::<Measure>();
        assert_eq!(read("blur:1.5"), Ok(Measure::Blur(1.5)));
        assert_eq!(read("superres:4"), Ok(Measure::Superres(4)));
        assert_eq!(read("inpaint:a:b.png"), Ok(Measure::Inpaint("a:b.png".into())));
        assert_eq!(read("gray"), Ok(Measure::Grey));
        for (text, words) in [
            ("blur", "standard deviation"),
            ("blur:x", "a number"),
            ("superres:2.5", "whole number"),
            ("inpaint:", "mask.png"),
            ("grey:2", "unknown measurement"),
            ("sharpen", "expected blur:S"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(words), "{text}: {error}");
        }
    }

    #[test]
    fn a_restored_picture_is_named_after_its_measurement() {
        assert_eq!(restored_name(Path::new("a/b.jpg")), Path::new("a/b-restored.png"));
    }
}

//! What a base stage has understood, long before its pictures show it: a composed picture is noised and denoised under its own
//! caption and under others that differ in one factor, and the right one must leave the smallest error (a diffusion model as
//! a classifier, arXiv 2303.16203). `imagen eval compose` judges pictures; this compares two trainings after minutes.
//!
//! ```text
//! cargo run --release -p imagen --example caption_choice -- WORLD QUESTIONS all STAGE.safetensors ...
//! cargo run --release -p imagen --example caption_choice -- WORLD QUESTIONS left-right,subject STAGE.safetensors ...
//! ```

use std::path::Path;

use burn::tensor::{Device, Tensor, TensorData};
use imagen::Result;
use imagen::cascade::{Conditions, Stage, StageFile};
use imagen::data::World;
use imagen::data::source::compose::Factor;
use imagen::diffusion::{Guidance, Thresholding, Time, diffuse, noise};
use imagen::models::unet::Text;
use imagen::rng::Rng;
use imagen::text::{self, EncoderFiles, TextEncoder, TextOptions};

/// The moments of time at which a picture is denoised, where captions matter most.
const TIMES: [f64; 4] = [0.5, 0.65, 0.8, 0.9];
/// How often a picture is noised at each.
const DRAWS: u64 = 2;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [world, count, factors, stages @ ..] = &arguments[..] else {
        return Err(imagen::Error::usage("expected WORLD QUESTIONS FACTORS STAGE.safetensors ..."));
    };
    let count: u64 = count.parse().map_err(|_| imagen::Error::usage("QUESTIONS is a number"))?;
    let factors = match factors.as_str() {
        "all" => Factor::ALL.to_vec(),
        names => names.split(',').map(str::parse).collect::<Result<_>>()?,
    };
    let world = World::open(Path::new(world))?;
    let device = Device::flex();
    let files = EncoderFiles::open(Path::new("models/minilm"))?;
    let encoder = text::load(files, &TextOptions::default(), &device)?;
    for path in stages {
        let stage = StageFile::open(Path::new(path))?.build(&device)?;
        println!("{path}: right of {count} captions each, seen and held out, in per cent");
        for &factor in &factors {
            let shares = [false, true].map(|held_out| share(&world, factor, held_out, count, &stage, encoder.as_ref()));
            let [seen, held_out] = shares.map(|share| share.map_or("-".into(), |share| format!("{share:.0}")));
            println!("  {factor:12} {seen:>4} {held_out:>4}", factor = factor.to_string());
        }
    }
    Ok(())
}

/// The share of questions about a factor whose right caption explains the picture best, in per cent.
fn share(
    world: &World,
    factor: Factor,
    held_out: bool,
    count: u64,
    stage: &Stage,
    encoder: &dyn TextEncoder,
) -> Option<f64> {
    let mut right = 0.0;
    let mut asked = 0.0;
    for number in 0..count {
        let Some(question) = world.question(factor, held_out, number) else { continue };
        let picture = world.candidate(&question.candidates[0], number, stage.config.size).expect("a drawing");
        let captions: Vec<&str> = question.candidates.iter().map(|candidate| candidate.caption.as_str()).collect();
        let errors = errors(&picture.to_float(), &captions, number, stage, encoder).expect("a denoised picture");
        // a stage that makes nothing of its text leaves equal errors, and has not chosen
        right += f64::from(errors[1..].iter().all(|other| errors[0] < *other));
        asked += 1.0;
    }
    (asked > 0.0).then(|| 100.0 * right / asked)
}

/// The error that each caption leaves.
fn errors(
    picture: &imagen::image::FloatPicture,
    captions: &[&str],
    number: u64,
    stage: &Stage,
    encoder: &dyn TextEncoder,
) -> Result<Vec<f64>> {
    let device = Device::flex();
    let (n, side) = (captions.len(), stage.config.size);
    let x = Tensor::<4>::from_data(TensorData::new(picture.values().to_vec(), [1, side, side, 3]), &device);
    let encoded: Text = encoder.encode(captions)?.into();
    let conditions = Conditions {
        text: Some(encoded.into()),
        guidance: Guidance::new(1.0)?,
        thresholding: Thresholding::None,
        ..Conditions::default()
    };
    let mut sums = vec![0.0; n];
    for (place, time) in TIMES.into_iter().enumerate() {
        let level = stage.config.schedule.log_snr(Time::new(time)?);
        for draw in 0..DRAWS {
            let key = Rng::new(number).fold(place as u64).fold(draw);
            let z = diffuse(x.clone(), noise(&[key], [1, side, side, 3], &device), &[level]);
            let x_hat = stage.denoise(z.repeat_dim(0, n), level, &conditions)?;
            let squares = (x_hat - x.clone().repeat_dim(0, n)).powi_scalar(2).reshape([n, side * side * 3]).mean_dim(1);
            let errors = squares.into_data().try_to_vec::<f32>().expect("f32");
            // as an error of v, so that no level of noise counts for all
            errors.iter().zip(&mut sums).for_each(|(e, sum)| *sum += f64::from(*e) / level.sigma_squared());
        }
    }
    Ok(sums)
}

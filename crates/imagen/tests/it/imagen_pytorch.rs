//! Converted models of imagen-pytorch against the package (`golden/imagen_pytorch/make.py`): networks, every step of a
//! cascade, and what is refused.

use std::path::{Path, PathBuf};

use burn::tensor::Tensor;
use imagen::ErrorKind;
use imagen::cascade::{Conditions, Stage, StageFile, imagen_pytorch, upsample};
use imagen::diffusion::{
    Denoised, Draw, Guidance, Keep, LogSnr, Noise, NoiseSchedule, Outside, Parameterization, PlannedStep, Thresholding,
    Time, Trajectory, diffuse,
};
use imagen::models::imagen_pytorch::{ImagenPytorchUnet, describe};
use imagen::models::unet::{Conditioning, LowResolution, SkipScale, Text};
use imagen::models::weights::{Storage, Weights};
use imagen::nn::Precision;
use serde_json::{Map, Value, json};

use crate::error;
use crate::golden::{Golden, numbers};

/// What f32 leaves between two orders of summation in these networks.
const NEAR: f64 = 2e-5;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/imagen_pytorch")
}

fn open(name: &str) -> Weights {
    Weights::open(&folder().join(format!("{name}.safetensors"))).unwrap()
}

fn object(value: Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

fn log_snr(golden: &Golden, name: &str) -> Vec<f64> {
    golden.values(name).iter().map(|value| f64::from(*value)).collect()
}

#[test]
fn networks_of_every_option_compute_what_the_package_computes() {
    let golden = Golden::open(&folder());
    for (file, i, name, scaled) in [
        ("model", 0, "model.0", true),
        ("model", 1, "model.1", true),
        ("base", 0, "base", false),
        ("sr", 0, "sr", true),
    ] {
        let (weights, prefix) = (open(file), format!("unets.{i}."));
        let config = describe(&weights, &prefix, scaled).unwrap();
        assert_eq!(config.skip_scale == SkipScale::Long, scaled);
        let part = |part: &str| format!("{name}.{part}");
        for storage in [Storage::Stored, Storage::F32] {
            let unet = ImagenPytorchUnet::new(config.clone(), &weights, &prefix, storage, &Default::default()).unwrap();
            let text = golden
                .has(&part("text"))
                .then(|| Text { sequence: golden.tensor(&part("text")), mask: golden.tensor(&part("mask")) });
            let low_resolution = golden.has(&part("low")).then(|| LowResolution {
                picture: golden.tensor(&part("low")),
                log_snr: log_snr(&golden, &part("low_log_snr")),
            });
            let conditioning = Conditioning { log_snr: log_snr(&golden, &part("log_snr")), text, low_resolution };
            let forward = |dropped: bool| {
                numbers(&unet.forward(golden.tensor(&part("x")), &conditioning, &[dropped; 2]).unwrap())
            };
            let found = error(&forward(false), golden.values(&part("y")));
            assert!(found < NEAR, "{name} {storage:?}: {found:e}");
            let rounded = error(&Precision::Bf16.during(|| forward(false)), golden.values(&part("y")));
            assert!((1e-4..1e-1).contains(&rounded), "{name} {storage:?} in bf16: {rounded:e}");
            if conditioning.text.is_some() {
                let found = error(&forward(true), golden.values(&part("y_null")));
                assert!(found < NEAR, "{name} {storage:?} without text: {found:e}");
            } else {
                assert_eq!(config.text_dim, 0);
            }
        }
    }
}

/// Stage i of the converted model, through its file.
fn stage(i: usize) -> Stage {
    let weights = open("model");
    let stages = imagen_pytorch::read(&weights, None).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("stage.safetensors");
    stages[i].write(&weights, &path, 7, "an encoder", &Default::default()).unwrap();
    let file = StageFile::open(&path).unwrap();
    assert_eq!((file.record.step, file.text_encoder.as_str()), (7, "an encoder"));
    assert_eq!(file.cost().iter().map(|row| row.parameters).sum::<u64>(), parameters(&weights, i));
    file.build(&Default::default()).unwrap()
}

fn parameters(weights: &Weights, i: usize) -> u64 {
    let own = weights.names().filter(|name| name.starts_with(&format!("unets.{i}.")));
    own.map(|name| weights.shape(name).unwrap().iter().product::<usize>() as u64).sum()
}

#[test]
fn a_cascade_takes_the_same_steps_under_the_same_noise() {
    let golden = Golden::open(&folder());
    let text = Text { sequence: golden.tensor("model.text"), mask: golden.tensor("model.mask") };
    let mut picture: Option<Tensor<4>> = None;
    for (i, guidance) in [3.0, 1.5].into_iter().enumerate() {
        let stage = stage(i);
        let config = &stage.config;
        let drawn: Tensor<5> = golden.tensor(&format!("model.drawn.{i}"));
        let expected: Tensor<5> = golden.tensor(&format!("model.x_start.{i}"));
        let each = |of: &Tensor<5>, k: usize| -> Tensor<4> { of.clone().narrow(0, k, 1).squeeze_dim::<4>(0) };
        let mut noise = (0..drawn.dims()[0]).map(|k| each(&drawn, k));
        let low_resolution = picture.take().map(|low| {
            let level = config.sampling.aug_level.log_snr(config.aug_schedule);
            let enlarged = upsample(low, config.size, config.enlargement);
            LowResolution {
                picture: diffuse(enlarged, noise.next().unwrap(), &[level; 2]),
                log_snr: vec![level.get(); 2],
            }
        });
        let conditions = Conditions {
            text: Some(text.clone().into()),
            low_resolution,
            guidance: Guidance::new(guidance).unwrap(),
            thresholding: config.sampling.thresholding,
            ..Conditions::default()
        };
        let steps = config.sampling.steps;
        assert_eq!(steps, expected.dims()[0]);
        let level =
            |k: usize| -> LogSnr { config.schedule.log_snr(Time::new((steps - k) as f64 / steps as f64).unwrap()) };
        let mut z = noise.next().unwrap();
        for k in 0..steps {
            let x_hat = stage.denoise(z.clone(), level(k), &conditions).unwrap();
            let found = error(&numbers(&x_hat), &numbers(&each(&expected, k)));
            // the package computes (1 - c)/alpha in single precision, of which t = 1 leaves four digits
            assert!(found < 3e-4, "stage {i}, step {k}: {found:e}");
            let by = config.sampling.sampler.coefficients(None, level(k), level(k + 1));
            z = z.mul_scalar(by.z) + x_hat.mul_scalar(by.x_hat);
            if k + 1 < steps {
                z = z + noise.next().unwrap().mul_scalar(by.noise);
            }
        }
        // what the package hands on: the posterior's mean at t = 0
        picture = Some(z.clamp(-1.0, 1.0));
    }
}

/// Of a picture that is partly kept, every estimate of both stages and the finished pictures.
#[test]
fn a_part_of_a_picture_is_drawn_anew_as_the_package_draws_it_under_the_same_noise() {
    let golden = Golden::open(&folder());
    let inpaint = Golden::read(&folder().join("inpaint.safetensors"));
    let text = Text { sequence: golden.tensor("model.text"), mask: golden.tensor("model.mask") };
    for (i, guidance) in [3.0, 1.5].into_iter().enumerate() {
        let stage = stage(i);
        let config = &stage.config;
        let all = |part: &str| -> Tensor<5> { inpaint.tensor(&format!("{part}.{i}")) };
        let each = |of: &Tensor<5>, k: usize| -> Tensor<4> { of.clone().narrow(0, k, 1).squeeze_dim::<4>(0) };
        let (noises, expected) = (all("noise"), all("x_start"));
        let low_resolution = (i > 0).then(|| {
            let level = config.sampling.aug_level.log_snr(config.aug_schedule);
            let enlarged = upsample(inpaint.tensor("picture.0"), config.size, config.enlargement);
            LowResolution { picture: diffuse(enlarged, each(&noises, 0), &[level; 2]), log_snr: vec![level.get(); 2] }
        });
        let conditions = Conditions {
            text: Some(text.clone().into()),
            low_resolution,
            guidance: Guidance::new(guidance).unwrap(),
            thresholding: config.sampling.thresholding,
            ..Conditions::default()
        };
        let keep = Keep {
            picture: inpaint.tensor(&format!("image.{i}")),
            drawn: inpaint.tensor(&format!("drawn.{i}")),
            outside: Outside::Noised,
        };
        let first = usize::from(i > 0);
        let z = each(&noises, first);
        let draws = noises.clone();
        let noise: Noise = Box::new(move |draw, _| match draw {
            Draw::Kept(k) => each(&draws, first + 1 + 2 * k),
            Draw::Step(k) => each(&draws, first + 2 + 2 * k),
            other => unreachable!("{other:?}"),
        });
        let plan = config.sampling.sampler.plan(config.schedule, config.sampling.steps).unwrap();
        let denoise = |z: Tensor<4>, step: &PlannedStep| stage.denoise(z, step.level, &conditions).map(Denoised::from);
        let steps: Vec<_> =
            Trajectory::follow(plan, z, Some(keep.clone()), noise, denoise).map(Result::unwrap).collect();
        assert_eq!(steps.len(), expected.dims()[0]);
        for (k, step) in steps.iter().enumerate() {
            let found = error(&numbers(&step.x_hat), &numbers(&each(&expected, k)));
            assert!(found < 3e-4, "stage {i}, step {k}: {found:e}");
        }
        // the package's last step leaves a trace of noise where it draws; what is kept is the picture
        let (last, picture) = (&steps[steps.len() - 1].z, inpaint.tensor::<4>(&format!("picture.{i}")));
        let kept = keep.drawn.clone().neg().add_scalar(1.0);
        assert!(error(&numbers(&(last.clone() * kept.clone())), &numbers(&(picture.clone() * kept))) < 1e-6);
        let found = error(&numbers(last), &numbers(&picture));
        assert!(found < 0.01, "stage {i}, the picture: {found:e}");
    }
}

#[test]
fn the_settings_are_the_packages_or_its_defaults() {
    let weights = open("model");
    let stages = imagen_pytorch::read(&weights, None).unwrap();
    let [base, sr] = [&stages[0].config, &stages[1].config];
    assert_eq!((base.size, base.low_size, sr.size, sr.low_size), (16, None, 32, Some(16)));
    assert_eq!([base.parameterization, sr.parameterization], [Parameterization::Eps, Parameterization::V]);
    assert_eq!([base.schedule, sr.schedule], [NoiseSchedule::CrowsonCosine, NoiseSchedule::CrowsonLinear]);
    assert_eq!(base.sampling.thresholding, Thresholding::dynamic(0.95));
    assert_eq!(sr.sampling.thresholding, Thresholding::Static);
    assert_eq!((base.sampling.steps, sr.sampling.steps, sr.sampling.aug_level.get()), (5, 4, 0.2));
    let levels: Vec<_> = base.unet.levels.iter().map(|l| (l.channels, l.blocks, l.self_attention)).collect();
    assert_eq!(levels, [(8, 1, false), (16, 2, true)]);

    // given settings stand before them
    let given = object(json!({"timesteps": 50, "pred_objectives": "x_start", "resize_mode": "bilinear"}));
    let stages = imagen_pytorch::read(&weights, Some(&given)).unwrap();
    assert!(stages.iter().all(|stage| stage.config.sampling.steps == 50));
    assert!(stages.iter().all(|stage| stage.config.parameterization == Parameterization::X));

    // a checkpoint without settings has the package's defaults, but for the size
    let refused = imagen_pytorch::read(&open("base"), None).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Usage);
    assert!(refused.to_string().contains("give image_sizes, a list of 1"), "{refused}");
    let given = object(json!({"image_sizes": 16, "unets": [{"scale_skip_connection": false}]}));
    let config = imagen_pytorch::read(&open("base"), Some(&given)).unwrap().remove(0).config;
    assert_eq!((config.size, config.sampling.steps, config.unet.image_channels), (16, 1000, 1));
    assert_eq!(config.unet.skip_scale, SkipScale::None);
}

#[test]
fn what_cannot_be_drawn_from_is_refused_with_its_reason() {
    let given = |key: &str, value: Value| Map::from_iter([(key.to_owned(), value)]);
    for (settings, words) in [
        (
            given("pred_objectives", json!(["noise", "score"])),
            "pred_objectives = \"score\": expected noise, x_start or v",
        ),
        (given("noise_schedules", json!("sigmoid")), "noise_schedules = \"sigmoid\": expected cosine or linear"),
        (given("image_sizes", json!([16, 24])), "low_size that divides size"),
        (given("image_sizes", json!([17, 34])), "size = 17"),
        (given("timesteps", json!(-1)), "timesteps = -1: expected a number"),
        (given("video", json!(true)), "draws videos"),
        (given("unets", json!([{"use_linear_cross_attn": [false, true]}])), "unets.0. cannot be drawn from"),
    ] {
        let refused = imagen_pytorch::read(&open("model"), Some(&settings)).unwrap_err();
        assert!(refused.to_string().contains(words), "{words}: {refused}");
    }
    let given = given("image_sizes", json!(16));
    let refused = imagen_pytorch::read(&open("sr"), Some(&given)).unwrap_err();
    assert!(refused.to_string().contains("unets.0. enlarges, and is the first"), "{refused}");

    // damage: a tensor too many, too few, or of another shape
    let bytes = std::fs::read(folder().join("base.safetensors")).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: Map<String, Value> = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    let end = bytes.len() - 8 - length;
    let damaged = |change: &dyn Fn(&mut Map<String, Value>)| {
        let mut header = header.clone();
        header.insert("a.number".into(), json!({"dtype": "F32", "shape": [1], "data_offsets": [end, end + 4]}));
        change(&mut header);
        let header = Value::Object(header).to_string();
        let file =
            [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &bytes[8 + length..], &[0; 4]].concat();
        let weights = Weights::from_bytes(file, "damaged").unwrap();
        let config = describe(&weights, "unets.0.", false)?;
        ImagenPytorchUnet::new(config, &weights, "unets.0.", Storage::Stored, &Default::default()).map(drop)
    };
    let rename = |header: &mut Map<String, Value>, from: &str, to: &str| {
        let entry = header.remove(from).unwrap();
        header.insert(to.to_owned(), entry);
    };
    damaged(&|_| ()).unwrap();
    for (from, to, words) in [
        (
            "mid_block1.time_mlp.1.bias",
            "mid_block1.time_mlp.1.shift",
            "`unets.0.mid_block1.time_mlp.1.bias` is missing",
        ),
        ("norm_cond.weight", "norm_cond.g", "`unets.0.norm_cond.weight` is missing"),
        ("downs.0.1.block1.norm.gamma", "downs.0.1.block1.groupnorm.weight", "its blocks have GroupNorm"),
        ("init_conv.weight", "init_conv.temporal_conv.weight", "it draws videos"),
    ] {
        let [from, to] = [from, to].map(|name| format!("unets.0.{name}"));
        let refused = damaged(&|header| rename(header, &from, &to)).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Model);
        assert!(format!("{refused:#}").contains(words), "{words}: {refused:#}");
    }
    let refused = damaged(&|header| rename(header, "a.number", "unets.0.init_conv.gain")).unwrap_err();
    assert!(refused.to_string().contains("`unets.0.init_conv.gain` have no place"), "{refused}");
    let turned = |header: &mut Map<String, Value>| {
        header["unets.0.final_conv.weight"]["shape"] = json!([32, 1, 1, 1]);
    };
    let refused = damaged(&turned).unwrap_err();
    assert!(refused.to_string().contains("takes 1 channels where its pictures have 32"), "{refused}");
}

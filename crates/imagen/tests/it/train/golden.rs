//! Ten steps of training against PyTorch: losses, gradient norms, first gradients, weights and their average afterwards.
//!
//! `tests/golden/training/make.py` says what the golden file holds. Nothing is drawn here: the file gives the noised
//! pictures. That noise, times and dropped captions are drawn well is proved with `diffusion` and `train`.

use burn::tensor::{Device, Tensor};
use imagen::cascade::{StageConfig, StageName};
use imagen::models::unet::{Conditioning, Text};
use imagen::models::weights::{NamedTensor, Precision, write_safetensors};
use imagen::nn::export;
use imagen::train::{Average, GradientSum, Learning, Optimizer, TrainState};

use crate::unet::{Golden, distance, gradients_by_name};

/// The steps of the file.
const STEPS: usize = 10;

/// A state with the file's first weights (and averages), nothing learned yet.
fn first_state(golden: &Golden, config: &StageConfig, learning: &Learning, device: &Device) -> TrainState {
    let fresh = TrainState::new(config, learning, 0, device).unwrap();
    let mut tensors = Vec::new();
    for (name, parameter) in export(&fresh.unet) {
        let first = golden.numbers(&format!("param.{name}")).iter().map(|&v| v as f32).collect::<Vec<_>>();
        let zeros = vec![0.0; first.len()];
        for (slot, values) in [("w", first.clone()), ("ema", first), ("m", zeros.clone()), ("v", zeros)] {
            let (name, shape) = (format!("{slot}.{name}"), parameter.shape.clone());
            tensors.push(NamedTensor { name, shape, values: values.into() });
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.safetensors");
    let metadata = [("imagen.step".to_owned(), "0".to_owned())].into();
    write_safetensors(&path, &tensors, &metadata, Precision::F32).unwrap();
    TrainState::load(&path, config, learning, device).unwrap()
}

#[test]
fn ten_steps_of_training_are_those_of_pytorch() {
    let golden = Golden::read("training/training");
    let run: serde_json::Value = serde_json::from_str(&golden.config).unwrap();
    let number = |name: &str| run["train"][name].as_f64().unwrap();
    let unet = serde_json::from_value(run["unet"].clone()).unwrap();
    let config = StageConfig::new(StageName::Base, 8, None, unet);
    let device = crate::device();
    let autodiff = device.clone().autodiff();
    let learning = Learning {
        optimizer: Optimizer::Adam { beta1: number("beta1"), beta2: number("beta2"), weight_decay: 0.0 },
        averages: vec![Average { name: "average".into(), decay: number("ema_decay") }],
        freeze: Vec::new(),
        lora: None,
    };
    let mut state = first_state(&golden, &config, &learning, &device);

    let mut failures = Vec::new();
    let mut check = |what: String, found: &[f64], expected: &[f64], limit: f64| {
        let d = distance(found, expected);
        if d.is_nan() || d > limit {
            failures.push(format!("{what} is {d:.1e} away, expected at most {limit:.0e}"));
        }
    };
    for s in 0..STEPS {
        let z = golden.tensor::<5>("z", &autodiff).narrow(0, s, 1).squeeze_dim::<4>(0);
        let eps = golden.tensor::<5>("eps", &autodiff).narrow(0, s, 1).squeeze_dim::<4>(0);
        let n = z.dims()[0];
        let text = Text {
            sequence: golden.tensor::<4>("text.sequence", &autodiff).narrow(0, s, 1).squeeze_dim::<3>(0),
            mask: golden.tensor::<3>("text.mask", &autodiff).narrow(0, s, 1).squeeze_dim::<2>(0),
        };
        let log_snr = golden.numbers("log_snr")[s * n..][..n].to_vec();
        let conditioning = Conditioning { log_snr, text: Some(text), low_resolution: None };
        let error: Tensor<4> = state.unet.forward(z, &conditioning).unwrap() - eps;
        let loss = error.clone().mul(error).mean();
        check(
            format!("step {}: loss", s + 1),
            &[loss.clone().into_scalar::<f32>().into()],
            &golden.numbers("loss")[s..=s],
            1e-5,
        );
        let gradients = loss.backward();
        if s == 0 {
            for (name, found) in gradients_by_name(&state.unet, &gradients) {
                check(format!("first gradient of {name}"), &found, golden.numbers(&format!("grad.{name}")), 1e-4);
            }
        }
        let mut sum = GradientSum::default();
        sum.add(&state.unet, &gradients);
        let norm = sum.norm().unwrap();
        check(format!("step {}: gradient norm", s + 1), &[norm], &golden.numbers("grad_norm")[s..=s], 1e-4);
        let clip = (number("clip_norm") / norm).min(1.0);
        state = state.updated(sum, golden.numbers("lr")[s], clip);
    }
    assert_eq!(state.step, STEPS as u64);
    let wide = |values: &[f32]| values.iter().map(|&v| f64::from(v)).collect::<Vec<_>>();
    for (name, found) in export(&state.unet) {
        let (found, first) = (wide(&found.values), golden.numbers(&format!("param.{name}")));
        let expected = golden.numbers(&format!("final.{name}"));
        check(format!("{name} after ten steps"), &found, expected, 2e-5);
        let moved = |to: &[f64]| to.iter().zip(first).map(|(to, from)| to - from).collect::<Vec<_>>();
        check(format!("the way of {name}"), &moved(&found), &moved(expected), 1e-3);
    }
    for (name, found) in export(&state.averaged().unwrap()) {
        let expected = golden.numbers(&format!("ema.{name}"));
        check(format!("{name}, averaged, after ten steps"), &wide(&found.values), expected, 2e-5);
    }
    assert!(failures.is_empty(), "{} disagreements:\n{}", failures.len(), failures.join("\n"));
}

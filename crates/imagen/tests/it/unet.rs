//! The U-Net against an independent one in PyTorch, and the promises of its `forward`.
//!
//! `tests/golden/unet/make.py` says what the golden files hold; each case is one tiny network with its output, its loss
//! and the gradient of every parameter. Nothing here needs Python. How well a network learns or draws is not judged here.

use std::collections::BTreeMap;
use std::path::Path;

use burn::tensor::{Device, Gradients, Tensor, TensorData};
use imagen::models::unet::{
    Conditioning, Heads, Layout, Level, LowResolution, SkipJoin, SkipScale, Text, TextAttention, TextPooling, Unet,
    UnetConfig,
};
use imagen::nn::{self, Init, ops};
use imagen::rng::Rng;
use imagen::{Error, ErrorKind};
use safetensors::{Dtype, SafeTensors};

const CASES: [&str; 10] = [
    "adm_concatenated",
    "adm_without_text",
    "adm_uneven_separate",
    "adm_unconditional",
    "efficient_concatenated",
    "efficient_separate",
    "efficient_added",
    "efficient_wide",
    "efficient_output_blocks",
    "efficient_text_maps",
];

/// Largest relative distance (L2) of an output, and of a gradient, from PyTorch's in f64.
const FORWARD: f64 = 1e-5;
const BACKWARD: f64 = 1e-4;

/// Tensors of a golden file by name, widened to f64, and the JSON in its header.
pub(crate) struct Golden {
    tensors: BTreeMap<String, (Vec<usize>, Vec<f64>)>,
    pub(crate) config: String,
}

impl Golden {
    /// Reads `tests/golden/{path}.safetensors`.
    pub(crate) fn read(path: &str) -> Self {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(format!("{path}.safetensors"));
        let bytes = std::fs::read(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
        let config = header.metadata().as_ref().unwrap()["config"].clone();
        let wide = |dtype: Dtype, bytes: &[u8]| -> Vec<f64> {
            match dtype {
                Dtype::F32 => bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap()).into()).collect(),
                Dtype::F64 => bytes.chunks_exact(8).map(|b| f64::from_le_bytes(b.try_into().unwrap())).collect(),
                other => panic!("golden numbers are f32 or f64, not {other}"),
            }
        };
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let tensors =
            file.iter().map(|(name, t)| (name.to_owned(), (t.shape().to_vec(), wide(t.dtype(), t.data())))).collect();
        Self { tensors, config }
    }

    pub(crate) fn numbers(&self, name: &str) -> &[f64] {
        &self.tensors.get(name).unwrap_or_else(|| panic!("the golden file has no tensor {name}")).1
    }

    pub(crate) fn tensor<const D: usize>(&self, name: &str, device: &Device) -> Tensor<D> {
        let values: Vec<f32> = self.numbers(name).iter().map(|&v| v as f32).collect();
        Tensor::from_data(TensorData::new(values, self.tensors[name].0.clone()), device)
    }

    /// Whether there is a tensor of this name.
    fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// The network with the parameters `{prefix}.*`; refuses other names or shapes than the file's.
    pub(crate) fn network(&self, config: &UnetConfig, prefix: &str, device: &Device) -> Unet {
        let unet = Unet::new(config, &mut Init::zeros(device)).unwrap();
        let mut taken = 0;
        let unet = nn::import(unet, |name, shape| {
            let name = format!("{prefix}.{name}");
            let (golden_shape, values) =
                self.tensors.get(&name).ok_or_else(|| Error::model(format!("no golden {name}")))?;
            if golden_shape != shape {
                return Err(Error::model(format!("{name}: golden {golden_shape:?}, here {shape:?}")));
            }
            taken += 1;
            Ok(values.iter().map(|&v| v as f32).collect())
        })
        .unwrap_or_else(|e| panic!("{e:#}"));
        let golden = self.tensors.keys().filter(|name| name.starts_with(&format!("{prefix}."))).count();
        assert_eq!(taken, golden, "the golden network has parameters that this one has not");
        unet
    }
}

/// A golden file as a case of this module.
struct Case {
    golden: Golden,
    config: UnetConfig,
}

impl Case {
    fn read(name: &str) -> Self {
        let golden = Golden::read(&format!("unet/{name}"));
        let config = serde_json::from_str(&golden.config).unwrap_or_else(|e| panic!("{name}: {e}"));
        Self { golden, config }
    }

    fn network(&self, device: &Device) -> Unet {
        self.golden.network(&self.config, "param", device)
    }

    fn z(&self, device: &Device) -> Tensor<4> {
        self.golden.tensor("z", device)
    }

    fn conditioning(&self, device: &Device) -> Conditioning {
        let g = &self.golden;
        Conditioning {
            log_snr: g.numbers("log_snr").to_vec(),
            text: g
                .has("text.sequence")
                .then(|| Text { sequence: g.tensor("text.sequence", device), mask: g.tensor("text.mask", device) }),
            low_resolution: g.has("low.picture").then(|| LowResolution {
                picture: g.tensor("low.picture", device),
                log_snr: g.numbers("low.log_snr").to_vec(),
            }),
        }
    }
}

fn numbers<const D: usize>(tensor: Tensor<D>) -> Vec<f64> {
    tensor.into_data().try_to_vec::<f32>().unwrap().into_iter().map(f64::from).collect()
}

/// ‖a − b‖ / ‖b‖; where b vanishes, 0 or infinity.
pub(crate) fn distance(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len(), "as many numbers here as there");
    let difference = a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum::<f64>().sqrt();
    let norm = b.iter().map(|b| b * b).sum::<f64>().sqrt();
    if difference == 0.0 { 0.0 } else { difference / norm }
}

/// The gradient of every parameter by name; zeros where the parameter took no part.
pub(crate) fn gradients_by_name(unet: &Unet, gradients: &Gradients) -> BTreeMap<String, Vec<f64>> {
    let mut all = BTreeMap::new();
    nn::visit(unet, |name, parameter| {
        let zeros = || vec![0.0; parameter.shape().iter().product()];
        all.insert(name.to_owned(), parameter.gradient(gradients).map_or_else(zeros, numbers));
    });
    all
}

/// Output and gradients by name, that of z as `z`, of a network in training.
fn evaluate(
    unet: &Unet,
    z: Tensor<4>,
    conditioning: &Conditioning,
    loss_weight: Tensor<4>,
) -> (Vec<f64>, BTreeMap<String, Vec<f64>>) {
    let z = z.require_grad();
    let output = unet.forward(z.clone(), conditioning).unwrap_or_else(|e| panic!("{e:#}"));
    let found = (output.clone() * loss_weight).sum().backward();
    let mut gradients = gradients_by_name(unet, &found);
    gradients.insert("z".into(), numbers(z.grad(&found).expect("z takes part")));
    (numbers(output), gradients)
}

#[test]
fn outputs_and_all_gradients_are_those_of_pytorch() {
    let device = crate::device().autodiff();
    let mut failures = Vec::new();
    let mut check = |case: &str, what: &str, found: &[f64], golden: &[f64], limit: f64| -> f64 {
        let d = distance(found, golden);
        if d.is_nan() || d > limit {
            failures.push(format!("{case}: {what} is {d:.1e} away, expected at most {limit:.0e}"));
        }
        d
    };
    for name in CASES {
        let case = Case::read(name);
        let unet = case.network(&device);
        let run = || {
            let weight = case.golden.tensor("loss_weight", &device);
            evaluate(&unet, case.z(&device), &case.conditioning(&device), weight)
        };
        for (path, (output, gradients)) in [("kernels", run()), ("definitions", ops::by_definition(run))] {
            check(name, &format!("output by {path}"), &output, case.golden.numbers("output"), FORWARD);
            let (mut worst, mut culprit) = (0.0, String::new());
            for (parameter, found) in gradients {
                let golden = case.golden.numbers(&match parameter.as_str() {
                    "z" => "grad_z".to_owned(),
                    _ => format!("grad.{parameter}"),
                });
                let d = check(name, &format!("gradient of {parameter} by {path}"), &found, golden, BACKWARD);
                if d.is_nan() || d >= worst {
                    (worst, culprit) = (d, parameter);
                }
            }
            println!("{name} by {path}: worst gradient {worst:.1e}, of {culprit}"); // shown where the test fails
        }
    }
    assert!(failures.is_empty(), "{} disagreements:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn the_golden_cases_cover_every_choice() {
    let configs: Vec<UnetConfig> = CASES.map(|name| Case::read(name).config).into();
    let mut missing = Vec::new();
    let mut want = |name: String, found: &dyn Fn(&UnetConfig) -> bool| {
        if !configs.iter().any(found) {
            missing.push(name);
        }
    };
    for v in [Layout::Adm, Layout::Efficient] {
        want(format!("{v:?}"), &|c| c.layout == v);
        want(format!("{v:?} with text"), &|c| c.layout == v && c.text_dim > 0);
        for text in [TextAttention::Concatenated, TextAttention::Separate] {
            want(format!("{v:?} with {text:?}"), &|c| c.layout == v && c.text_attention == text);
        }
    }
    for v in [SkipScale::None, SkipScale::Residual, SkipScale::Long, SkipScale::Shortcut, SkipScale::Both] {
        want(format!("{v:?}"), &|c| c.skip_scale == v);
    }
    for v in [SkipJoin::Concatenate, SkipJoin::Add] {
        want(format!("{v:?}"), &|c| c.skip_join == v);
    }
    for v in [TextAttention::None, TextAttention::Concatenated, TextAttention::Separate] {
        want(format!("{v:?}"), &|c| c.text_attention == v);
    }
    for v in [TextPooling::None, TextPooling::Mean, TextPooling::Attention] {
        want(format!("{v:?}"), &|c| c.text_pooling == v);
    }
    want("heads by number".into(), &|c| matches!(c.heads, Heads::Count(_)));
    want("heads by width".into(), &|c| matches!(c.heads, Heads::Width(_)));
    want("no text".into(), &|c| c.text_dim == 0);
    want("low-resolution picture".into(), &|c| c.low_resolution);
    want("hidden width of attention".into(), &|c| c.attention_expansion == 2);
    want("blocks at full resolution".into(), &|c| c.output_blocks > 1);
    want("learned positions".into(), &|c| c.levels.iter().any(|level| level.position > 0));
    want("maps of the text".into(), &|c| c.levels.iter().any(|level| level.text_map > 0));
    assert!(missing.is_empty(), "no golden case has: {}", missing.join(", "));
}

/// The golden networks are too small for some of the kernels' ways; this one takes them all.
#[test]
fn a_network_of_working_size_is_the_same_by_kernels_and_by_definition() {
    let device = crate::device().autodiff();
    let level = |channels, blocks| Level { blocks, ..Level::plain(channels) };
    let config = UnetConfig {
        low_resolution: true,
        channels: 16,
        embedding: 48,
        text_width: 24,
        levels: vec![
            level(32, 1),
            Level { text_attention: true, position: 16, text_map: 4, ..level(64, 2) },
            Level { self_attention: true, text_attention: true, ..level(96, 1) },
        ],
        heads: Heads::Count(4),
        output_blocks: 1,
        groups: 8,
        ..UnetConfig::sr256(20)
    };
    let rng = Rng::new(5);
    let normal =
        |stream: u64, shape: &[usize]| TensorData::new(rng.fold(stream).normal(shape.iter().product()), shape.to_vec());
    let mut parameter = 100;
    let unet = nn::import(Unet::new(&config, &mut Init::zeros(&device)).unwrap(), |_, shape| {
        parameter += 1;
        let count: usize = shape.iter().product();
        let scale = if shape.len() == 1 { 0.3 } else { (*shape.last().unwrap() as f32 / count as f32).sqrt() };
        Ok(rng.fold(parameter).normal(count).into_iter().map(|v| scale * v).collect())
    })
    .unwrap();
    let picture = |stream| Tensor::<4>::from_data(normal(stream, &[2, 64, 64, 3]), &device);
    let mask = TensorData::new(vec![1.0f32, 1.0, 1.0, 1.0, 1.0, 0.0], [2, 3]);
    let conditioning = Conditioning {
        log_snr: vec![-1.5, 2.0],
        text: Some(Text {
            sequence: Tensor::from_data(normal(1, &[2, 3, 20]), &device),
            mask: Tensor::from_data(mask, &device),
        }),
        low_resolution: Some(LowResolution { picture: picture(2), log_snr: vec![3.0, 0.0] }),
    };
    let run = || evaluate(&unet, picture(3), &conditioning, picture(4));
    let (expected, expected_gradients) = ops::by_definition(run);
    // the second of two passes over the same weights reads what the first one transformed
    let again = || ops::keeping_weights(|| [run(), run()].into_iter().next_back().unwrap());
    for (path, (output, gradients)) in [("once", run()), ("kept weights", again())] {
        assert!(distance(&output, &expected) < FORWARD, "{path}, output: {:.1e}", distance(&output, &expected));
        for (name, expected) in &expected_gradients {
            let d = distance(&gradients[name], expected);
            assert!(d < BACKWARD, "{path}, gradient of {name}: {d:.1e}");
            assert!(expected.iter().any(|g| *g != 0.0), "{name} takes no part");
        }
    }
}

#[test]
fn inference_computes_what_training_computes() {
    let (plain, autodiff) = (crate::device(), crate::device().autodiff());
    let mut failures = Vec::new();
    for name in CASES {
        let case = Case::read(name);
        let trained = case.network(&autodiff).forward(case.z(&autodiff), &case.conditioning(&autodiff)).unwrap();
        let inferred = case.network(&plain).forward(case.z(&plain), &case.conditioning(&plain)).unwrap();
        let d = distance(&numbers(inferred), &numbers(trained));
        if d.is_nan() || d > FORWARD {
            failures.push(format!("{name}: {d:.1e}"));
        }
    }
    assert!(failures.is_empty(), "inference and training differ: {failures:?}");
}

#[test]
fn learned_positions_belong_to_one_size() {
    let device = crate::device();
    let case = Case::read("efficient_output_blocks");
    assert_eq!(case.config.side(), Some(8));
    let larger = Tensor::zeros([2, 8, 12, 3], &device);
    let error = case.network(&device).forward(larger, &case.conditioning(&device)).unwrap_err();
    assert!(error.kind() == ErrorKind::Usage && error.to_string().contains("12×8"), "{error}");
    let mut two = case.config.clone();
    two.levels[0].position = 2; // of pictures of 4, where the other level's are of 8
    assert_eq!(two.validate().unwrap_err().kind(), ErrorKind::Usage);
}

/// The conditions of the pictures `at` alone.
fn one_of(c: &Conditioning, at: usize) -> Conditioning {
    Conditioning {
        log_snr: vec![c.log_snr[at]],
        text: c
            .text
            .as_ref()
            .map(|t| Text { sequence: t.sequence.clone().narrow(0, at, 1), mask: t.mask.clone().narrow(0, at, 1) }),
        low_resolution: c
            .low_resolution
            .as_ref()
            .map(|l| LowResolution { picture: l.picture.clone().narrow(0, at, 1), log_snr: vec![l.log_snr[at]] }),
    }
}

#[test]
fn a_picture_does_not_depend_on_its_batch() {
    let device = crate::device();
    let mut failures = Vec::new();
    for name in CASES {
        let case = Case::read(name);
        let unet = case.network(&device);
        // four different pictures under the case's conditions
        let (z, c) = (case.z(&device), case.conditioning(&device));
        let rows: Vec<usize> = (0..4).map(|i| i % c.log_snr.len()).collect();
        let picture = |(i, &row): (usize, &usize)| z.clone().narrow(0, row, 1) * (1.0 - 0.2 * i as f32);
        let batch_z = Tensor::cat(rows.iter().enumerate().map(picture).collect(), 0);
        let parts: Vec<Conditioning> = rows.iter().map(|&r| one_of(&c, r)).collect();
        let together = Conditioning {
            log_snr: parts.iter().map(|p| p.log_snr[0]).collect(),
            text: c.text.is_some().then(|| {
                let texts = || parts.iter().map(|p| p.text.as_ref().unwrap());
                Text {
                    sequence: Tensor::cat(texts().map(|t| t.sequence.clone()).collect(), 0),
                    mask: Tensor::cat(texts().map(|t| t.mask.clone()).collect(), 0),
                }
            }),
            low_resolution: c.low_resolution.is_some().then(|| LowResolution {
                picture: Tensor::cat(
                    parts.iter().map(|p| p.low_resolution.as_ref().unwrap().picture.clone()).collect(),
                    0,
                ),
                log_snr: parts.iter().map(|p| p.low_resolution.as_ref().unwrap().log_snr[0]).collect(),
            }),
        };
        let batch = unet.forward(batch_z.clone(), &together).unwrap();
        for (i, part) in parts.iter().enumerate() {
            let alone = unet.forward(batch_z.clone().narrow(0, i, 1), part).unwrap();
            let d = distance(&numbers(batch.clone().narrow(0, i, 1)), &numbers(alone));
            if d.is_nan() || d > FORWARD {
                failures.push(format!("{name}, picture {i}: {d:.1e}"));
            }
        }
    }
    assert!(failures.is_empty(), "a picture of a batch differs from the same picture alone: {failures:?}");
}

#[test]
fn every_condition_changes_the_output() {
    let device = crate::device();
    let mut failures = Vec::new();
    for name in CASES {
        let case = Case::read(name);
        let unet = case.network(&device);
        let (z, c) = (case.z(&device), case.conditioning(&device));
        let output = |c: &Conditioning| numbers(unet.forward(z.clone(), c).unwrap());
        let given = output(&c);
        let mut changed = |what: &str, c: &Conditioning| {
            let d = distance(&output(c), &given);
            if d.is_nan() || d < 1e-3 {
                failures.push(format!("{name}: {what} changes the output by only {d:.1e}"));
            }
        };
        changed("another noise level", &Conditioning { log_snr: vec![0.7; c.log_snr.len()], ..c.clone() });
        if let Some(text) = &c.text {
            changed("leaving out the text", &Conditioning { text: None, ..c.clone() });
            let null = Text { sequence: text.sequence.zeros_like(), mask: text.mask.clone() };
            changed("an all-zero text", &Conditioning { text: Some(null), ..c.clone() });
            let longer = Text { sequence: text.sequence.clone(), mask: text.mask.ones_like() };
            if numbers(text.mask.clone()).contains(&0.0) {
                changed("reading the padding", &Conditioning { text: Some(longer), ..c.clone() });
            }
        }
        if let Some(low) = &c.low_resolution {
            let other = LowResolution { picture: low.picture.zeros_like(), log_snr: low.log_snr.clone() };
            changed("another low-resolution picture", &Conditioning { low_resolution: Some(other), ..c.clone() });
            let other = LowResolution { picture: low.picture.clone(), log_snr: vec![0.7; low.log_snr.len()] };
            changed("another augmentation level", &Conditioning { low_resolution: Some(other), ..c.clone() });
        }
    }
    assert!(failures.is_empty(), "conditions that do not condition:\n{}", failures.join("\n"));
}

#[test]
fn what_stands_in_the_padding_changes_nothing() {
    let device = crate::device();
    for name in ["adm_concatenated", "adm_uneven_separate", "efficient_concatenated", "efficient_separate"] {
        let case = Case::read(name);
        let unet = case.network(&device);
        let (z, c) = (case.z(&device), case.conditioning(&device));
        let text = c.text.clone().expect("these cases have a text");
        let [n, t, d] = text.sequence.dims();
        let padding = (text.mask.ones_like() - text.mask.clone()).reshape([n, t, 1]).expand([n, t, d]);
        let noisy = Text { sequence: text.sequence + padding * 7.0, mask: text.mask };
        let given = unet.forward(z.clone(), &c).unwrap();
        let other = unet.forward(z, &Conditioning { text: Some(noisy), ..c }).unwrap();
        assert_eq!(numbers(given), numbers(other), "{name}");
    }
}

#[test]
fn inputs_that_do_not_fit_are_refused_with_the_reason() {
    let device = crate::device();
    let base = Case::read("adm_concatenated");
    let (unet, c) = (base.network(&device), base.conditioning(&device));
    let super_resolution = Case::read("efficient_concatenated");
    let (unet_sr, c_sr) = (super_resolution.network(&device), super_resolution.conditioning(&device));
    let z = |n: usize, h: usize, w: usize| Tensor::<4>::zeros([n, h, w, 3], &device);
    let refused = |result: imagen::Result<Tensor<4>>, words: &str| {
        let error = result.expect_err(words);
        assert_eq!(error.kind(), ErrorKind::Usage, "{error:#}");
        assert!(format!("{error:#}").contains(words), "{error:#}: expected the words {words:?}");
    };
    refused(unet.forward(z(2, 5, 4), &c), "divisible by 2");
    refused(unet.forward(z(2, 4, 7), &c), "divisible by 2");
    refused(unet_sr.forward(z(2, 8, 6), &c_sr), "divisible by 4");
    refused(unet.forward(z(3, 4, 4), &c), "2 noise levels for 3 pictures");
    let one = one_of(&c, 0);
    refused(unet.forward(z(2, 4, 4), &Conditioning { text: one.text, ..c.clone() }), "1 texts for 2 pictures");
    let one = Conditioning { low_resolution: one_of(&c_sr, 0).low_resolution, ..c_sr.clone() };
    refused(unet_sr.forward(z(2, 8, 8), &one), "1 augmentation levels for 2 pictures");
    refused(unet_sr.forward(z(2, 8, 12), &c_sr), "a low-resolution picture of 8×8 beside one of 12×8");
    let without = Conditioning { low_resolution: None, ..c_sr.clone() };
    refused(unet_sr.forward(z(2, 8, 8), &without), "needs a low-resolution picture");
    let with = Conditioning { low_resolution: c_sr.low_resolution.clone(), ..c.clone() };
    refused(unet.forward(z(2, 8, 8), &with), "takes no low-resolution picture");
}

#[test]
fn descriptions_that_contradict_themselves_are_refused() {
    let valid = UnetConfig::base64(32);
    valid.validate().unwrap();
    let mut no_levels = valid.clone();
    no_levels.levels.clear();
    let mut no_blocks = valid.clone();
    no_blocks.levels[1].blocks = 0;
    let cases = [
        (no_levels, "levels"),
        (no_blocks, "blocks"),
        (UnetConfig { channels: 7, ..valid.clone() }, "channels even"),
        (UnetConfig { image_channels: 0, ..valid.clone() }, "image_channels"),
        (UnetConfig { text_width: 0, ..valid.clone() }, "text_width"),
        (UnetConfig { heads: Heads::Count(7), ..valid.clone() }, "7 heads do not divide"),
        (UnetConfig { skip_join: SkipJoin::Add, ..valid }, "skip_join"),
    ];
    for (config, words) in cases {
        let error = Unet::new(&config, &mut Init::zeros(&crate::device())).expect_err(words);
        assert_eq!(error.kind(), ErrorKind::Usage);
        assert!(format!("{error:#}").contains(words), "{error:#}: expected the words {words:?}");
    }
}

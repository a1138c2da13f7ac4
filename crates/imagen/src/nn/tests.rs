//! Each operation on the CPU's kernels, or on the device that `IMAGEN_TEST_DEVICE` names, against its definition in ordinary
//! tensor operations on the CPU, forward and backward, for random shapes; and what the operations promise beyond their values: no stale weights, no written inputs.
//!
//! The kernels themselves are held against loops in f64 in their own crate; whole networks against PyTorch in `tests/it`.

use burn::backend::Dispatch;
use burn::tensor::{Device, Gradients, Tensor, TensorData};

use super::device::DeviceName;
use super::ops::{self, Activation, AdamStep};
use super::{Init, Linear, Precision, export, import, parameter_count, reference};
use crate::error::{Error, ErrorKind};
use crate::rng::Rng;

mod frozen;

/// Where operations run that are held against their definitions.
fn device() -> Device {
    let name = std::env::var("IMAGEN_TEST_DEVICE").unwrap_or_else(|_| "cpu".into());
    name.parse::<DeviceName>().and_then(DeviceName::open).unwrap_or_else(|e| panic!("{e:#}"))
}

fn numbers<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().try_to_vec().unwrap()
}

fn normal<const D: usize>(rng: Rng, shape: [usize; D], device: &Device) -> Tensor<D> {
    Tensor::from_data(TensorData::new(rng.normal(shape.iter().product()), shape), device)
}

fn distance(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    let square = |x: f32| f64::from(x) * f64::from(x);
    let difference = a.iter().zip(b).map(|(a, b)| square(a - b)).sum::<f64>().sqrt();
    let norm = b.iter().map(|b| square(*b)).sum::<f64>().sqrt();
    if difference == 0.0 { 0.0 } else { difference / norm }
}

/// Finds one input's gradient.
type GradientOf = Box<dyn Fn(&Gradients) -> Vec<f32>>;

/// Draws an operation's inputs and remembers how to ask for their gradients.
struct Inputs {
    rng: Rng,
    device: Device,
    gradients: Vec<GradientOf>,
}

impl Inputs {
    /// A tensor whose gradient is compared.
    fn draw<const D: usize>(&mut self, shape: [usize; D]) -> Tensor<D> {
        let tensor = normal(self.rng.fold(self.gradients.len() as u64), shape, &self.device);
        let tensor = if self.device.is_autodiff() { tensor.require_grad() } else { tensor };
        let tracked = tensor.clone();
        self.gradients.push(Box::new(move |g| numbers(tracked.grad(g).expect("every input takes part"))));
        tensor
    }

    /// `[b, t]`: 1 with probability 2/3, else 0; the first row is all 0.
    fn mask(&self, b: usize, t: usize) -> Tensor<2> {
        let keep = |(i, u): (usize, f32)| if i >= t && u < 0.67 { 1.0 } else { 0.0 };
        let values: Vec<f32> = self.rng.fold(99).uniform(b * t).into_iter().enumerate().map(keep).collect();
        Tensor::from_data(TensorData::new(values, [b, t]), &self.device)
    }
}

/// Sizes of one random case.
struct Sizes(Rng, u64);

impl Sizes {
    /// A number in `from..=to`.
    fn pick(&mut self, from: usize, to: usize) -> usize {
        self.1 += 1;
        from + self.0.fold(self.1).below((to - from + 1) as u64) as usize
    }

    fn coin(&mut self) -> bool {
        self.pick(0, 1) == 1
    }

    fn activation(&mut self) -> Activation {
        [Activation::None, Activation::Silu, Activation::Gelu][self.pick(0, 2)]
    }
}

const CASES: u64 = 24;

/// Compares `run(inputs, true)`, the operation, with `run(inputs, false)`, its definition: output and gradients while
/// training, output in inference. `run` is asked for many sizes.
fn same<const D: usize>(operation: &str, run: impl Fn(&mut Inputs, &mut Sizes, bool) -> Tensor<D>) {
    let mut failures = Vec::new();
    for case in 0..CASES {
        let rng = Rng::new(case).fold(operation.len() as u64);
        let evaluate = |device: Device, fast: bool| {
            let mut inputs = Inputs { rng, device, gradients: Vec::new() };
            (run(&mut inputs, &mut Sizes(rng.fold(1), 0), fast), inputs.gradients)
        };
        let train = |fast: bool| {
            let (y, gradients) = evaluate(if fast { device() } else { Device::flex() }.autodiff(), fast);
            let weight = normal(rng.fold(2), y.dims(), &y.device());
            let found = (y.clone() * weight).sum().backward();
            (numbers(y), gradients.iter().map(|g| g(&found)).collect::<Vec<_>>())
        };
        let ((y, gradients), (expected, expected_gradients)) = (train(true), train(false));
        let mut check = |what: &str, found: &[f32], expected: &[f32], limit: f64| {
            let d = distance(found, expected);
            if d.is_nan() || d > limit {
                failures.push(format!("{operation}, case {case}: {what} is {d:.1e} away"));
            }
        };
        check("output", &y, &expected, 1e-5);
        for (i, (found, expected)) in gradients.iter().zip(&expected_gradients).enumerate() {
            check(&format!("gradient of input {i}"), found, expected, 5e-5);
        }
        check("output of inference", &numbers(evaluate(device(), true).0), &expected, 1e-5);
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn what_is_recorded_in_a_precision_goes_back_in_it() {
    let device = Device::flex().autodiff();
    let (rng, c) = (Rng::new(31), 24);
    let x = normal(rng.fold(1), [2, 9, 9, c], &device);
    let run = |recorded: Precision, back: Precision| {
        let draw = |i, n| normal(rng.fold(i), [n], &device);
        let w = normal(rng.fold(2), [3, 3, c, c], &device).require_grad();
        let m = normal(rng.fold(3), [c, c], &device).require_grad();
        let y = recorded.during(|| {
            let y = ops::conv3x3(x.clone(), w.clone(), draw(4, c), None, 1, 1.0);
            ops::linear(y, m.clone(), draw(5, c), None, 1.0)
        });
        let gradients = back.during(|| y.clone().powi_scalar(2).sum().backward());
        [numbers(y), numbers(w.grad(&gradients).unwrap()), numbers(m.grad(&gradients).unwrap())]
    };
    let exact = run(Precision::F32, Precision::F32);
    let rounded = run(Precision::Bf16, Precision::Bf16);
    assert_eq!(run(Precision::F32, Precision::Bf16), exact);
    assert_eq!(run(Precision::Bf16, Precision::F32), rounded);
    for (exact, rounded) in exact.iter().zip(&rounded) {
        let away = distance(rounded, exact);
        assert!((1e-4..4e-2).contains(&away), "{away:.1e} away");
    }
}

/// A tensor where there is one.
fn inner<const D: usize>(tensor: Option<Tensor<D>>) -> Option<burn::backend::tensor::FloatTensor<Dispatch>> {
    tensor.map(Tensor::into_dispatch)
}

#[test]
fn conv3x3_is_its_definition() {
    same("conv3x3", |inputs, sizes, fast| {
        // small and large maps, few and many channels: each takes another algorithm
        let side = if sizes.coin() { 2 } else { 11 };
        let (n, h, w) = (sizes.pick(1, 3), sizes.pick(1, side), sizes.pick(1, side));
        let few = if sizes.coin() { 1 } else { 12 };
        let (c, k, stride) = (sizes.pick(few, 25), sizes.pick(few, 25), if sizes.pick(0, 2) == 0 { 2 } else { 1 });
        let scale = if sizes.coin() { 1.0 } else { 0.6 };
        let (x, weight, b) = (inputs.draw([n, h, w, c]), inputs.draw([3, 3, c, k]), inputs.draw([k]));
        let residual = sizes.coin().then(|| inputs.draw([n, h.div_ceil(stride), w.div_ceil(stride), k]));
        if fast {
            return ops::conv3x3(x, weight, b, residual, stride, scale);
        }
        let (x, weight, b) = (x.into_dispatch(), weight.into_dispatch(), b.into_dispatch());
        Tensor::from_dispatch(reference::conv3x3::<Dispatch>(x, weight, b, inner(residual), stride, scale))
    });
}

#[test]
fn group_norm_is_its_definition() {
    same("group_norm", |inputs, sizes, fast| {
        let (n, h, w, groups) = (sizes.pick(1, 3), sizes.pick(2, 7), sizes.pick(1, 7), sizes.pick(1, 5));
        let (c, activation) = (groups * sizes.pick(2, 9), sizes.activation());
        let (x, gamma, beta) = (inputs.draw([n, h, w, c]), inputs.draw([c]), inputs.draw([c]));
        let film = sizes.coin().then(|| inputs.draw([n, 2 * c]));
        if fast {
            return ops::group_norm(x, gamma, beta, film, groups, activation);
        }
        let (x, gamma, beta) = (x.into_dispatch(), gamma.into_dispatch(), beta.into_dispatch());
        Tensor::from_dispatch(reference::group_norm::<Dispatch>(x, gamma, beta, inner(film), groups, activation))
    });
}

#[test]
fn residual_block_is_its_definition() {
    same("residual_block", |inputs, sizes, fast| {
        let (n, h, w) = (sizes.pick(1, 3), sizes.pick(2, 9), sizes.pick(2, 9));
        let groups = [sizes.pick(1, 3), sizes.pick(1, 3)];
        let (c, own) = (groups[0] * groups[1] * sizes.pick(2, 6), sizes.coin());
        let activation = sizes.activation();
        let k = if own { c } else { groups[1] * sizes.pick(2, 9) };
        let (x, film) = (inputs.draw([n, h, w, c]), inputs.draw([n, 2 * k]));
        let shortcut = (!own).then(|| (inputs.draw([c, k]), inputs.draw([k])));
        let block = ops::ResidualBlock {
            norm1: [inputs.draw([c]), inputs.draw([c])],
            weight1: inputs.draw([3, 3, c, k]),
            bias1: inputs.draw([k]),
            norm2: [inputs.draw([k]), inputs.draw([k])],
            weight2: inputs.draw([3, 3, k, k]),
            bias2: inputs.draw([k]),
            groups,
            activation,
            shortcut,
            shortcut_scale: if sizes.coin() { 1.0 } else { 0.8 },
            scale: if sizes.coin() { 1.0 } else { 0.6 },
        };
        if fast {
            return ops::residual_block(x, film, block);
        }
        let h = reference::group_norm::<Dispatch>(
            x.clone().into_dispatch(),
            block.norm1[0].clone().into_dispatch(),
            block.norm1[1].clone().into_dispatch(),
            None,
            groups[0],
            activation,
        );
        let (w1, b1) = (block.weight1.into_dispatch(), block.bias1.into_dispatch());
        let h = reference::conv3x3::<Dispatch>(h, w1, b1, None, 1, 1.0);
        let [gamma2, beta2] = block.norm2.map(Tensor::into_dispatch);
        let h = reference::group_norm::<Dispatch>(h, gamma2, beta2, Some(film.into_dispatch()), groups[1], activation);
        let (w2, b2) = (block.weight2.into_dispatch(), block.bias2.into_dispatch());
        let shortcut = match block.shortcut {
            Some((weight, bias)) => {
                let (x, weight, bias) = (x.into_dispatch(), weight.into_dispatch(), bias.into_dispatch());
                Tensor::from_dispatch(reference::dense::<Dispatch>(x, weight, bias, None, 1.0))
            }
            None => x,
        };
        let residual = (shortcut * block.shortcut_scale).into_dispatch();
        Tensor::from_dispatch(reference::conv3x3::<Dispatch>(h, w2, b2, Some(residual), 1, block.scale))
    });
}

#[test]
fn a_recomputed_residual_block_has_the_same_gradients() {
    let device = Device::flex().autodiff();
    let run = |recompute: bool| {
        let mut inputs = Inputs { rng: Rng::new(21), device: device.clone(), gradients: Vec::new() };
        let block = ops::ResidualBlock {
            norm1: [inputs.draw([12]), inputs.draw([12])],
            weight1: inputs.draw([3, 3, 12, 16]),
            bias1: inputs.draw([16]),
            norm2: [inputs.draw([16]), inputs.draw([16])],
            weight2: inputs.draw([3, 3, 16, 16]),
            bias2: inputs.draw([16]),
            groups: [3, 4],
            activation: Activation::Silu,
            shortcut: Some((inputs.draw([12, 16]), inputs.draw([16]))),
            shortcut_scale: 1.0,
            scale: 0.7,
        };
        let (x, film) = (inputs.draw([2, 9, 8, 12]), inputs.draw([2, 32]));
        let forward = || ops::residual_block(x, film, block);
        let y = if recompute { ops::recomputing(forward) } else { forward() };
        let found = (y.clone() * normal(Rng::new(22), y.dims(), &device)).sum().backward();
        (numbers(y), inputs.gradients.iter().map(|g| g(&found)).collect::<Vec<_>>())
    };
    let ((y, gradients), (expected, expected_gradients)) = (run(true), run(false));
    assert_eq!(y, expected);
    for (i, (found, expected)) in gradients.iter().zip(&expected_gradients).enumerate() {
        assert!(distance(found, expected) < 1e-6, "gradient of input {i}: {:.1e}", distance(found, expected));
    }
}

#[test]
fn layer_norm_is_its_definition() {
    same("layer_norm", |inputs, sizes, fast| {
        let (n, t, c) = (sizes.pick(1, 3), sizes.pick(1, 9), sizes.pick(2, 40));
        let (x, gamma, beta) = (inputs.draw([n, t, c]), inputs.draw([c]), inputs.draw([c]));
        if fast {
            return ops::layer_norm(x, gamma, beta);
        }
        let (x, gamma, beta) = (x.into_dispatch(), gamma.into_dispatch(), beta.into_dispatch());
        Tensor::from_dispatch(reference::layer_norm::<Dispatch>(x, gamma, beta))
    });
}

#[test]
fn attention_is_its_definition() {
    same("attention", |inputs, sizes, fast| {
        let (b, heads, d) = (sizes.pick(1, 3), sizes.pick(1, 4), sizes.pick(1, 17));
        let (tq, tk) = (sizes.pick(1, 20), sizes.pick(2, 40));
        let (q, kv) = (inputs.draw([b, tq, heads * d]), inputs.draw([b, tk, 2 * heads * d]));
        // the first text of a masked batch is empty; alone, its gradients would vanish and compare nothing
        let mask = (b > 1 && sizes.coin()).then(|| inputs.mask(b, tk));
        if fast {
            return ops::attention(q, kv, mask, heads);
        }
        let (q, kv) = (q.into_dispatch(), kv.into_dispatch());
        Tensor::from_dispatch(reference::attention::<Dispatch>(q, kv, inner(mask), heads))
    });
}

#[test]
fn linear_is_its_definition() {
    same("linear", |inputs, sizes, fast| {
        let (n, t) = (sizes.pick(1, 3), sizes.pick(1, 33));
        let (c, k, scale) = (sizes.pick(1, 40), sizes.pick(1, 40), if sizes.coin() { 1.0 } else { 0.6 });
        let (x, w, b) = (inputs.draw([n, t, c]), inputs.draw([c, k]), inputs.draw([k]));
        let residual = sizes.coin().then(|| inputs.draw([n, t, k]));
        if fast {
            return ops::linear(x, w, b, residual, scale);
        }
        let (x, w, b) = (x.into_dispatch(), w.into_dispatch(), b.into_dispatch());
        Tensor::from_dispatch(reference::dense::<Dispatch>(x, w, b, inner(residual), scale))
    });
}

#[test]
fn gelu_is_its_definition() {
    same("gelu", |inputs, sizes, fast| {
        let x = inputs.draw([sizes.pick(1, 9), sizes.pick(1, 99)]) * 3.0;
        if fast { ops::gelu(x) } else { Tensor::from_dispatch(reference::gelu::<Dispatch>(x.into_dispatch())) }
    });
}

#[test]
fn resampling_is_its_definition() {
    let sizes = |s: &mut Sizes| [s.pick(1, 3), 2 * s.pick(1, 5), 2 * s.pick(1, 5), s.pick(1, 19)];
    same("upsample2", |inputs, s, fast| {
        let x = inputs.draw(sizes(s));
        if fast {
            ops::upsample2(x)
        } else {
            Tensor::from_dispatch(reference::upsample2::<Dispatch>(x.into_dispatch()))
        }
    });
    same("average_pool2", |inputs, s, fast| {
        let x = inputs.draw(sizes(s));
        if fast {
            return ops::average_pool2(x);
        }
        Tensor::from_dispatch(reference::average_pool2::<Dispatch>(x.into_dispatch()))
    });
    same("pixel_shuffle", |inputs, s, fast| {
        let [n, h, w, c] = sizes(s);
        let x = inputs.draw([n, h, w, 4 * c]);
        if fast {
            return ops::pixel_shuffle(x);
        }
        Tensor::from_dispatch(reference::pixel_shuffle::<Dispatch>(x.into_dispatch()))
    });
}

#[test]
fn joining_is_its_definition() {
    same("concat", |inputs, sizes, fast| {
        let (n, h, w) = (sizes.pick(1, 3), sizes.pick(1, 6), sizes.pick(1, 6));
        let (a, b) = (inputs.draw([n, h, w, sizes.pick(1, 19)]), inputs.draw([n, h, w, sizes.pick(1, 19)]));
        if fast {
            return ops::concat(a, b);
        }
        Tensor::from_dispatch(reference::concat::<Dispatch>(a.into_dispatch(), b.into_dispatch()))
    });
    same("add", |inputs, sizes, fast| {
        let (shape, scale) = ([sizes.pick(1, 9), sizes.pick(1, 99)], if sizes.coin() { 1.0 } else { 0.6 });
        let (a, b) = (inputs.draw(shape), inputs.draw(shape));
        if fast {
            return ops::add(a, b, scale);
        }
        Tensor::from_dispatch(reference::add_scaled::<Dispatch>(a.into_dispatch(), b.into_dispatch(), scale))
    });
}

#[test]
fn tensors_that_are_not_in_row_major_order_are_read_as_they_are_meant() {
    same("linear of a transpose", |inputs, sizes, fast| {
        let (n, c, k) = (sizes.pick(1, 9), sizes.pick(1, 20), sizes.pick(1, 20));
        let (x, w, b) = (inputs.draw([c, n]).swap_dims(0, 1), inputs.draw([k, c]).swap_dims(0, 1), inputs.draw([k]));
        if fast {
            return ops::linear(x, w, b, None, 1.0);
        }
        let (x, w, b) = (x.into_dispatch(), w.into_dispatch(), b.into_dispatch());
        Tensor::from_dispatch(reference::dense::<Dispatch>(x, w, b, None, 1.0))
    });
    same("attention to a slice", |inputs, sizes, fast| {
        let (t, c) = (sizes.pick(1, 9), sizes.pick(1, 9));
        let both = inputs.draw([2, 3 * t, 3 * c]);
        let (q, kv) = (both.clone().narrow(2, 0, c).narrow(1, 1, t), both.narrow(2, c, 2 * c));
        if fast {
            return ops::attention(q, kv, None, 1);
        }
        Tensor::from_dispatch(reference::attention::<Dispatch>(q.into_dispatch(), kv.into_dispatch(), None, 1))
    });
}

fn step(number: u64) -> AdamStep {
    AdamStep {
        lr: 0.01,
        beta1: 0.9,
        beta2: 0.99,
        eps: 1e-8,
        weight_decay: 0.1,
        step: number,
        scale: 0.7,
        average_decay: 0.9,
    }
}

#[test]
fn adam_and_the_moving_average_are_their_definitions_and_write_no_shared_tensor() {
    let device = device();
    let rng = Rng::new(7);
    for (number, len) in [(1, 1), (2, 15), (100, 333)] {
        let draw = |stream: u64| normal(rng.fold(stream).fold(number), [len], &device);
        let all = [draw(0), draw(1), draw(2), draw(3).abs(), draw(4)];
        let before = all.clone().map(numbers);
        let [w, g, m, v, average] = all.clone();
        let found = ops::adam(w, g, m, v, average, step(number));
        assert_eq!(all.clone().map(numbers), before, "the caller's tensors were written");
        let [w, g, m, v, average] = all.map(|t| t.to_device(&Device::flex()).into_dispatch());
        let expected = reference::adam::<Dispatch>(w, g, m, v, average, step(number));
        let names = ["w", "m", "v", "average"];
        let found: [Tensor<1>; 4] = found.into();
        let expected = <[_; 4]>::from(expected).map(Tensor::<1>::from_dispatch);
        for ((name, found), expected) in names.into_iter().zip(found).zip(expected) {
            assert!(distance(&numbers(found), &numbers(expected)) < 1e-6, "{name}, step {number}");
        }
    }
}

#[test]
fn adafactor_is_its_definition_and_writes_no_shared_tensor() {
    let device = device();
    for (case, shape) in [[1, 1, 17], [1, 6, 9], [9, 4, 5]].into_iter().enumerate() {
        let rng = Rng::new(case as u64);
        let draw = |stream: u64, shape: [usize; 3]| normal(rng.fold(stream), shape, &device);
        let [n, rows, columns] = shape;
        for (relative, first_moment) in [(false, false), (true, false), (false, true)] {
            let step = ops::AdafactorStep {
                lr: 0.01,
                beta1: 0.9,
                beta2: 0.8,
                clip: 1.0,
                weight_decay: 0.1,
                relative,
                scale: 0.7,
            };
            let (w, g) = (draw(0, shape), draw(1, shape));
            let second = match rows {
                1 => ops::SecondMoment::Whole(draw(2, shape).abs()),
                _ => ops::SecondMoment::Factored {
                    row: draw(2, [n, rows, 1]).abs(),
                    column: draw(3, [n, 1, columns]).abs(),
                },
            };
            let m = first_moment.then(|| draw(4, shape));
            let before = numbers(w.clone());
            let run = |on: &Device| {
                let [w, g] = [&w, &g].map(|t| t.clone().to_device(on));
                let second = match second.clone() {
                    ops::SecondMoment::Whole(v) => ops::SecondMoment::Whole(v.to_device(on)),
                    ops::SecondMoment::Factored { row, column } => {
                        ops::SecondMoment::Factored { row: row.to_device(on), column: column.to_device(on) }
                    }
                };
                ops::adafactor(w, g, second, m.clone().map(|m| m.to_device(on)), step)
            };
            let parts = |(w, second, m): (Tensor<3>, ops::SecondMoment, Option<Tensor<3>>)| {
                let second = match second {
                    ops::SecondMoment::Factored { row, column } => vec![row, column],
                    ops::SecondMoment::Whole(v) => vec![v],
                };
                [vec![w], second, m.into_iter().collect()].concat().into_iter().map(numbers).collect::<Vec<_>>()
            };
            let defined = ops::by_definition(|| run(&Device::flex()));
            let (found, expected) = (parts(run(&device)), parts(defined));
            assert_eq!(found.len(), expected.len());
            for (i, (found, expected)) in found.iter().zip(&expected).enumerate() {
                assert!(distance(found, expected) < 1e-5, "{shape:?}, {relative}, {first_moment}: result {i}");
            }
            assert_eq!(numbers(w.clone()), before, "the caller's tensor was written");
        }
    }
}

#[test]
fn the_average_is_its_definition() {
    let device = device();
    let (a, w): (Tensor<1>, Tensor<1>) = (normal(Rng::new(1), [333], &device), normal(Rng::new(2), [333], &device));
    let run = |on: &Device| numbers(ops::average(a.clone().to_device(on), w.clone().to_device(on), 0.9));
    assert!(distance(&run(&device), &ops::by_definition(|| run(&Device::flex()))) < 1e-6);
}

#[test]
fn the_sum_of_squares_is_its_definition() {
    let device = device();
    for len in [1, 15, 100_003] {
        let x: Tensor<1> = normal(Rng::new(len as u64), [len], &device);
        let expected: f64 = numbers(x.clone()).into_iter().map(|v| f64::from(v) * f64::from(v)).sum();
        assert!((ops::sums_of_squares([x])[0] / expected - 1.0).abs() < 1e-6, "{len} numbers");
    }
}

/// A convolution in inference and its definition, of the same weights.
fn convolutions(x: &Tensor<4>, w: &Tensor<4>) -> (Vec<f32>, Vec<f32>) {
    let b = Tensor::zeros([w.dims()[3]], &x.device());
    let expected = reference::conv3x3::<Dispatch>(
        x.clone().into_dispatch(),
        w.clone().into_dispatch(),
        Tensor::<1>::into_dispatch(b.clone()),
        None,
        1,
        1.0,
    );
    (numbers(ops::conv3x3(x.clone(), w.clone(), b, None, 1, 1.0)), numbers(Tensor::<4>::from_dispatch(expected)))
}

#[test]
fn a_convolution_never_uses_the_weights_of_another() {
    let device = Device::flex();
    let rng = Rng::new(8);
    let x = normal(rng, [1, 8, 8, 16], &device);
    // freed and allocated again: the allocator likes to hand out the same address
    for round in 0..20 {
        let (found, expected) = convolutions(&x, &normal(rng.fold(round), [3, 3, 16, 16], &device));
        assert!(distance(&found, &expected) < 1e-5, "round {round}");
    }
    // two views of one buffer
    let buffer = normal(rng.fold(100), [6, 3, 16, 16], &device);
    for from in [0, 3, 0] {
        let (found, expected) = convolutions(&x, &buffer.clone().narrow(0, from, 3));
        assert!(distance(&found, &expected) < 1e-5, "the weights that start at row {from} of their buffer");
    }
}

#[test]
fn a_convolution_follows_its_weights_when_they_are_updated_in_place() {
    let device = Device::flex();
    let rng = Rng::new(9);
    let x = normal(rng, [1, 8, 8, 16], &device);
    let len = 9 * 16 * 16;
    let draw = |stream: u64| normal(rng.fold(stream), [len], &device);
    let (mut w, mut m, mut v, mut average) = (draw(0), draw(1), draw(2).abs(), draw(3));
    for number in 1..5 {
        let (found, expected) = convolutions(&x, &w.clone().reshape([3, 3, 16, 16]));
        assert!(distance(&found, &expected) < 1e-5, "before step {number}");
        (w, m, v, average) = ops::adam(w, draw(10 + number), m, v, average, AdamStep { lr: 0.5, ..step(number) });
    }
}

#[test]
fn new_layers_are_a_function_of_the_seed_within_the_bound() {
    let device = Device::flex();
    let layers = |seed| {
        let mut init = Init::new(&device, Rng::new(seed));
        [0, 1].map(|_| export(&Linear::new(&mut init, 16, 9, 1.0))["weight"].values.clone())
    };
    let [first, second] = layers(1);
    assert_eq!([first.clone(), second.clone()], layers(1));
    assert_ne!(first, layers(2)[0]);
    assert_ne!(first, second, "two layers of one network");
    let largest = first.iter().fold(0.0f32, |a, w| a.max(w.abs()));
    assert!((0.2..=0.25).contains(&largest), "1/√16 bounds the weights; the largest is {largest}");
    let mut init = Init::new(&device, Rng::new(1));
    let silent = Linear::new(&mut init, 16, 9, 0.0);
    assert!(export(&silent).values().all(|p| p.values.iter().all(|&v| v == 0.0)));
}

#[test]
fn parameters_come_back_as_they_went_and_wrong_ones_are_refused_by_name() {
    let device = Device::flex();
    let layer = Linear::new(&mut Init::new(&device, Rng::new(3)), 4, 3, 1.0);
    assert_eq!(parameter_count(&layer), 15);
    let values = export(&layer);
    let zeros = Linear::new(&mut Init::zeros(&device), 4, 3, 1.0);
    let copy = import(zeros.clone(), |name, shape| {
        assert_eq!(values[name].shape, shape);
        Ok(values[name].values.clone())
    });
    assert_eq!(export(&copy.unwrap()), values);
    let error = import(zeros.clone(), |_, _| Ok(vec![0.0; 12])).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Model);
    assert!(format!("{error:#}").contains("parameter bias: 12 values for the shape [3]"), "{error:#}");
    let error = import(zeros, |name, _| Err(Error::model(format!("no {name}")))).unwrap_err();
    assert_eq!(format!("{error:#}"), "no weight", "the first error is the one that is told");
}

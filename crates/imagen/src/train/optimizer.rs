//! The optimizers: what each keeps of a parameter's past, and how it moves the parameter.
//!
//! Adam and AdamW (Kingma & Ba; Loshchilov & Hutter) keep two numbers a weight. Adafactor (Shazeer & Stern), with which the
//! paper trained its base model, keeps two means for each matrix. The arithmetic is `nn::ops`'s.

use burn::tensor::{Device, Tensor, TensorData};

use super::config::{OptimizerName, TrainConfig};
use crate::error::{Error, Result};
use crate::nn::ops::{self, AdafactorStep, AdamStep, SecondMoment};

/// Exponent of Adafactor's second-moment decay: 1 − t^−0.8 in step t.
const DECAY_EXPONENT: f64 = -0.8;
/// Largest root mean square of an update of Adafactor before the rate.
const UPDATE_CLIP: f32 = 1.0;
const ADAM_EPS: f32 = 1e-8;

/// An optimizer with its numbers; learning rate and clipping come with each step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Optimizer {
    /// Adam, or AdamW where `weight_decay` is not 0.
    Adam {
        /// Decay of the first moment.
        beta1: f64,
        /// Decay of the second moment.
        beta2: f64,
        /// Decoupled weight decay.
        weight_decay: f64,
    },
    /// Adafactor: factored second moments for matrices and convolutions, updates bounded at 1.
    Adafactor {
        /// Decay of the first moment; none is kept by default.
        beta1: Option<f64>,
        /// Decoupled weight decay.
        weight_decay: f64,
        /// Whether the learning rate is a share of each parameter's root mean square.
        relative: bool,
        /// The smallest side of a matrix whose second moments are factored; those of others are kept whole.
        min_dim_size_to_factor: usize,
    },
}

impl Default for Optimizer {
    /// Adam with β₁ = 0.9, β₂ = 0.999.
    fn default() -> Self {
        Self::Adam { beta1: 0.9, beta2: 0.999, weight_decay: 0.0 }
    }
}

impl Optimizer {
    /// The optimizer that a recipe asks for.
    ///
    /// # Errors
    /// `Data` where a number is out of range or belongs to another optimizer.
    pub fn of(config: &TrainConfig) -> Result<Self> {
        let fail = |message: &str| Err(Error::data(format!("train: {message}")));
        let below_one = |x: f64| (0.0..1.0).contains(&x);
        if !config.beta1.is_none_or(below_one) || !config.beta2.is_none_or(below_one) {
            return fail("0 ≤ beta1 < 1, 0 ≤ beta2 < 1");
        }
        if !config.weight_decay.is_none_or(|decay| decay.is_finite() && decay >= 0.0) {
            return fail("weight_decay ≥ 0");
        }
        let adam = |weight_decay| Self::Adam {
            beta1: config.beta1.unwrap_or(0.9),
            beta2: config.beta2.unwrap_or(0.999),
            weight_decay,
        };
        match config.optimizer {
            OptimizerName::Adafactor if config.beta2.is_some() => {
                fail("adafactor's second decay is 1 − t^−0.8; remove beta2")
            }
            OptimizerName::Adafactor => Ok(Self::Adafactor {
                beta1: config.beta1,
                weight_decay: config.weight_decay.unwrap_or(0.0),
                relative: config.relative_lr,
                min_dim_size_to_factor: config.min_dim_size_to_factor,
            }),
            _ if config.relative_lr || config.min_dim_size_to_factor > 0 => {
                fail("relative_lr and min_dim_size_to_factor belong to optimizer \"adafactor\"")
            }
            OptimizerName::Adam if config.weight_decay.is_some() => {
                fail("adam has no weight_decay; choose optimizer \"adamw\" or remove it")
            }
            OptimizerName::Adam => Ok(adam(0.0)),
            OptimizerName::AdamW => Ok(adam(config.weight_decay.unwrap_or(0.01))),
        }
    }

    /// What it keeps for a parameter of this shape: names in a state's file, and lengths.
    fn layout(&self, shape: &[usize]) -> Vec<(&'static str, usize)> {
        let len = shape.iter().product();
        match self {
            Self::Adam { .. } => vec![("m", len), ("v", len)],
            Self::Adafactor { beta1, min_dim_size_to_factor, .. } => {
                let [n, rows, columns] = matrices(shape);
                let mut layout = if is_factored(shape, *min_dim_size_to_factor) {
                    vec![("row", n * rows), ("column", n * columns)]
                } else {
                    vec![("v", len)]
                };
                layout.extend(beta1.map(|_| ("m", len)));
                layout
            }
        }
    }

    /// One step of a parameter of `shape` and of one moving average of it; all flat `[len]`, on inner tensors.
    pub(super) fn step(
        &self,
        shape: &[usize],
        [w, g, average]: [Tensor<1>; 3],
        moments: Moments,
        step: &UpdateStep,
        average_decay: f64,
    ) -> (Tensor<1>, Tensor<1>, Moments) {
        let (lr, scale) = (step.lr as f32, step.scale as f32);
        match *self {
            Self::Adam { beta1, beta2, weight_decay } => {
                let [m, v] = <[_; 2]>::try_from(moments.0).expect("Adam keeps two moments");
                let adam = AdamStep {
                    lr,
                    beta1: beta1 as f32,
                    beta2: beta2 as f32,
                    eps: ADAM_EPS,
                    weight_decay: weight_decay as f32,
                    step: step.number,
                    scale,
                    average_decay,
                };
                let (w, m, v, average) = ops::adam(w, g, m, v, average, adam);
                (w, average, Moments(vec![m, v]))
            }
            Self::Adafactor { beta1, weight_decay, relative, min_dim_size_to_factor } => {
                let at = matrices(shape);
                let [n, rows, columns] = at;
                let mut moments = moments.0.into_iter();
                let mut next = || moments.next().expect("as many moments as the layout says");
                let second = if is_factored(shape, min_dim_size_to_factor) {
                    let (row, column) = (next().reshape([n, rows, 1]), next().reshape([n, 1, columns]));
                    SecondMoment::Factored { row, column }
                } else {
                    SecondMoment::Whole(next().reshape(at))
                };
                let m = beta1.map(|_| next().reshape(at));
                let adafactor = AdafactorStep {
                    lr,
                    beta1: beta1.unwrap_or(0.0) as f32,
                    beta2: (1.0 - (step.number as f64).powf(DECAY_EXPONENT)) as f32,
                    clip: UPDATE_CLIP,
                    weight_decay: weight_decay as f32,
                    relative,
                    scale,
                };
                let (w, second, m) = ops::adafactor(w.reshape(at), g.reshape(at), second, m, adafactor);
                let flat = |t: Tensor<3>| t.clone().reshape([t.dims().iter().product::<usize>()]);
                let second = match second {
                    SecondMoment::Factored { row, column } => vec![row, column],
                    SecondMoment::Whole(v) => vec![v],
                };
                let w = flat(w);
                let average = ops::average(average, w.clone(), average_decay);
                (w, average, Moments(second.into_iter().chain(m).map(flat).collect()))
            }
        }
    }
}

/// The numbers of one update of all parameters.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct UpdateStep {
    /// Learning rate.
    pub lr: f64,
    /// Factor of the gradient (clipping).
    pub scale: f64,
    /// 1 for the first update.
    pub(super) number: u64,
}

/// A parameter's shape as matrices: convolutions `[3, 3, c, k]` are nine of `[c, k]`.
fn matrices(shape: &[usize]) -> [usize; 3] {
    match shape {
        [leading @ .., rows, columns] => [leading.iter().product(), *rows, *columns],
        _ => [1, 1, shape.iter().product()],
    }
}

/// Whether Adafactor keeps the means of rows and columns of a parameter, instead of its whole second moment.
fn is_factored(shape: &[usize], min_dim_size: usize) -> bool {
    matches!(shape, [.., rows, columns] if *rows.min(columns) >= min_dim_size)
}

/// What an optimizer keeps of a parameter, flat `[len]` each, in the order of its layout; nothing for a frozen one.
#[derive(Clone, Debug, Default)]
pub(super) struct Moments(Vec<Tensor<1>>);

impl Moments {
    /// Moments of a parameter of this shape, from `values(name, length)`.
    pub(super) fn new(
        optimizer: &Optimizer,
        shape: &[usize],
        device: &Device,
        mut values: impl FnMut(&str, usize) -> Result<Vec<f32>>,
    ) -> Result<Self> {
        let layout = optimizer.layout(shape).into_iter();
        let tensor = |(name, len)| Ok(Tensor::from_data(TensorData::new(values(name, len)?, [len]), device));
        layout.map(tensor).collect::<Result<_>>().map(Self)
    }

    /// Each with its name in a state's file.
    pub(super) fn named(&self, optimizer: &Optimizer, shape: &[usize]) -> Vec<(&'static str, Tensor<1>)> {
        optimizer.layout(shape).into_iter().map(|(name, _)| name).zip(self.0.iter().cloned()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::weights::Weights;
    use crate::train::Recipe;

    const RECIPE: &str = include_str!("../../../../recipes/shapes/base.toml");

    fn adafactor_of(beta1: Option<f64>, weight_decay: f64, relative: bool, min_dim_size_to_factor: usize) -> Optimizer {
        Optimizer::Adafactor { beta1, weight_decay, relative, min_dim_size_to_factor }
    }

    #[test]
    fn a_recipe_says_which_optimizer_and_contradictions_are_refused() {
        let optimizer = |set: &[&str]| Recipe::parse_with(RECIPE, set).map(|r| Optimizer::of(&r.train).unwrap());
        assert_eq!(optimizer(&[]).unwrap(), Optimizer::Adam { beta1: 0.9, beta2: 0.99, weight_decay: 0.0 });
        let adamw = optimizer(&["train.optimizer=adamw"]).unwrap();
        assert_eq!(adamw, Optimizer::Adam { beta1: 0.9, beta2: 0.99, weight_decay: 0.01 });
        let text = RECIPE.replace("beta2 = 0.99", "optimizer = \"adafactor\"");
        let adafactor = Recipe::parse(&text).map(|r| Optimizer::of(&r.train).unwrap()).unwrap();
        assert_eq!(adafactor, adafactor_of(None, 0.0, false, 0));
        for (set, words) in [
            ("train.weight_decay=0.1", "adamw"),
            ("train.optimizer=adafactor", "remove beta2"),
            ("train.relative_lr=true", "adafactor"),
            ("train.min_dim_size_to_factor=128", "adafactor"),
            ("train.beta1=1", "beta1 < 1"),
            ("train.optimizer=adamm", "expected one of: adam, adamw"),
        ] {
            let error = optimizer(&[set]).unwrap_err();
            assert!(format!("{error:#}").contains(words), "{set}: {error:#}");
        }
    }

    /// `tests/golden/optimizers/make.py` says what is in it.
    const GOLDEN: &[u8] = include_bytes!("../../tests/golden/optimizers/optimizers.safetensors");

    #[test]
    fn twelve_steps_are_those_of_pytorch_and_transformers() {
        let golden = Weights::from_bytes(GOLDEN, "golden").unwrap();
        let numbers: serde_json::Value = serde_json::from_str(&golden.metadata()["numbers"]).unwrap();
        let number = |name: &str| numbers[name].as_f64().unwrap();
        let (lr, beta1, beta2, weight_decay) = (number("lr"), number("beta1"), number("beta2"), number("weight_decay"));
        let adafactor = |beta1, weight_decay, relative| adafactor_of(beta1, weight_decay, relative, 0);
        let variants = [
            ("adam", Optimizer::Adam { beta1, beta2, weight_decay: 0.0 }),
            ("adamw", Optimizer::Adam { beta1, beta2, weight_decay }),
            ("relative", adafactor(None, weight_decay, true)),
            ("absolute", adafactor(None, weight_decay, false)),
            ("momentum", adafactor(Some(beta1), 0.0, false)),
        ];
        let shapes: [(&str, &[usize]); 3] = [("vector", &[7]), ("matrix", &[5, 6]), ("convolution", &[3, 3, 4, 6])];
        assert_steps(&golden, lr, &variants, &shapes);
    }

    /// `tests/golden/optax/make.py` says what is in it.
    const OPTAX: &[u8] = include_bytes!("../../tests/golden/optax/optax.safetensors");

    #[test]
    fn adafactor_with_the_papers_settings_is_that_of_optax() {
        let golden = Weights::from_bytes(OPTAX, "golden").unwrap();
        let numbers: serde_json::Value = serde_json::from_str(&golden.metadata()["numbers"]).unwrap();
        let smallest = numbers["min_dim_size_to_factor"].as_u64().unwrap() as usize;
        let adafactor = |relative, smallest| adafactor_of(None, 0.0, relative, smallest);
        let variants = [
            ("defaults", adafactor(true, 128)),
            ("factored", adafactor(true, smallest)),
            ("unscaled", adafactor(false, smallest)),
        ];
        let shapes: [(&str, &[usize]); 5] = [
            ("vector", &[7]),
            ("wide", &[5, 6]),
            ("tall", &[9, 4]),
            ("convolution", &[3, 3, 4, 6]),
            ("narrow", &[3, 3, 3, 6]),
        ];
        assert_steps(&golden, numbers["lr"].as_f64().unwrap(), &variants, &shapes);
        assert_eq!(adafactor(true, smallest).layout(&[3, 3, 4, 6]), [("row", 36), ("column", 54)]);
        assert_eq!(adafactor(true, smallest).layout(&[3, 3, 3, 6]), [("v", 162)]);
    }

    /// Takes the golden file's steps with each optimizer and compares the weights.
    fn assert_steps(golden: &Weights, lr: f64, variants: &[(&str, Optimizer)], shapes: &[(&str, &[usize])]) {
        let device = Device::flex();
        for (variant, optimizer) in variants {
            for &(name, shape) in shapes {
                let len: usize = shape.iter().product();
                let flat = |values: &[f32]| Tensor::from_data(TensorData::new(values.to_vec(), [len]), &device);
                let read = |name: &str, shape: &[usize]| golden.tensor_f32(name, shape).unwrap();
                let start = read(&format!("start.{name}"), shape);
                let gradients = read(&format!("grad.{name}"), &[&[12], shape].concat());
                let mut moments = Moments::new(optimizer, shape, &device, |_, len| Ok(vec![0.0; len])).unwrap();
                let (mut w, mut average) = (flat(&start), flat(&start));
                for (i, gradient) in gradients.chunks(len).enumerate() {
                    let step = UpdateStep { lr, scale: 1.0, number: i as u64 + 1 };
                    (w, average, moments) = optimizer.step(shape, [w, flat(gradient), average], moments, &step, 0.0);
                }
                let found: Vec<f32> = w.into_data().try_to_vec().unwrap();
                let expected = read(&format!("final.{variant}.{name}"), shape);
                // an average that forgets everything is the weights
                let average: Vec<f32> = average.into_data().try_to_vec().unwrap();
                for (what, found) in [("weights", found), ("average", average)] {
                    let far = found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                    assert!(far < 2e-6, "{variant}, {what} of {name}: {far:e} away");
                }
            }
        }
    }

    #[test]
    fn adafactor_keeps_two_means_for_each_matrix_and_a_vector_whole() {
        let plain = adafactor_of(None, 0.0, false, 0);
        assert_eq!(plain.layout(&[64, 128]), [("row", 64), ("column", 128)]);
        assert_eq!(plain.layout(&[3, 3, 64, 128]), [("row", 9 * 64), ("column", 9 * 128)]);
        assert_eq!(plain.layout(&[128]), [("v", 128)]);
        let first = adafactor_of(Some(0.9), 0.0, false, 0);
        assert_eq!(first.layout(&[64, 128]), [("row", 64), ("column", 128), ("m", 64 * 128)]);
        assert_eq!(Optimizer::default().layout(&[64, 128]), [("m", 64 * 128), ("v", 64 * 128)]);
    }
}

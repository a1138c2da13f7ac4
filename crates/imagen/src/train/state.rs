//! What a run is at one moment: weights, their moving average, the optimizer's moments, the step.
//!
//! Nothing else has memory: the data's order, the noise and the dropped captions are functions of (seed, step). So a run
//! that is stopped and resumed from this state goes on as if it had never stopped, bit for bit.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{Device, Gradients, Tensor, TensorData};

use crate::cascade::{PartialLoad, StageConfig, StageFile};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::models::unet::Unet;
use crate::models::weights::{self, NamedTensor, Precision, Weights};
use crate::nn::{self, Init, ops};
use crate::rng::Rng;

/// Weights, moving average, moments, step.
#[derive(Debug)]
pub struct TrainState {
    /// The network that is trained, on an autodiff device.
    pub unet: Unet,
    /// Everything else that a parameter has, by its name.
    slots: BTreeMap<String, Slot>,
    /// Optimizer steps taken.
    pub step: u64,
    device: Device,
}

/// A parameter's companions, flat `[len]`.
#[derive(Clone, Debug)]
struct Slot {
    ema: Tensor<1>,
    m: Tensor<1>,
    v: Tensor<1>,
}

/// Summed gradients by parameter name, flat `[len]`.
#[derive(Debug, Default)]
pub struct GradientSum(BTreeMap<String, Tensor<1>>);

impl TrainState {
    /// A fresh run: random weights from `seed`, on `device` (an inner device; the state adds autodiff itself).
    ///
    /// # Errors
    /// The configuration's.
    pub fn new(config: &StageConfig, seed: u64, device: &Device) -> Result<Self> {
        let autodiff = device.clone().autodiff();
        let unet = Unet::new(&config.unet, &mut Init::new(&autodiff, Rng::new(seed).fold(INIT)))?;
        Ok(Self::of(unet, device))
    }

    /// A fresh run that begins with the weights of another stage where they fit, and random ones elsewhere.
    ///
    /// # Errors
    /// The configuration's, and those of [`StageFile::load_matching`].
    pub fn from_stage(
        config: &StageConfig,
        seed: u64,
        stage: &StageFile,
        device: &Device,
    ) -> Result<(Self, PartialLoad)> {
        let (unet, report) = stage.load_matching(Self::new(config, seed, device)?.unet)?;
        Ok((Self::of(unet, device), report))
    }

    /// The state of a network that no step was taken with.
    fn of(unet: Unet, device: &Device) -> Self {
        let mut slots = BTreeMap::new();
        for (name, tensor) in nn::export(&unet) {
            let zeros = || Tensor::zeros([tensor.values.len()], device);
            let ema = Tensor::from_data(TensorData::new(tensor.values.clone(), [tensor.values.len()]), device);
            slots.insert(name, Slot { ema, m: zeros(), v: zeros() });
        }
        Self { unet, slots, step: 0, device: device.clone() }
    }

    /// One Adam step with these gradients; the moving average follows. `adam.step` is replaced by this state's, and
    /// `adam.average_decay` is at most (1 + step)/(10 + step), so that early averages are not of random weights.
    ///
    /// The state is moved through, so that every tensor has one owner and is updated in place.
    #[must_use]
    pub fn updated(mut self, gradients: GradientSum, mut adam: ops::AdamStep) -> Self {
        self.step += 1;
        adam.step = self.step;
        let step = self.step as f64;
        adam.average_decay = adam.average_decay.min(((1.0 + step) / (10.0 + step)) as f32);
        let mut update = Update { path: Vec::new(), slots: &mut self.slots, gradients, adam };
        self.unet = self.unet.map(&mut update);
        self
    }

    /// The network with the averaged weights, on the inner device.
    ///
    /// # Errors
    /// None in practice; those of [`nn::import`].
    pub fn averaged(&self) -> Result<Unet> {
        nn::import(self.unet.valid(), |name, _| Ok(flat(&self.slots[name].ema)))
    }

    /// Writes everything that resuming needs.
    ///
    /// # Errors
    /// `Io`.
    pub fn save(&self, path: &Path) -> Result<()> {
        let mut tensors = Vec::new();
        for (name, w) in nn::export(&self.unet) {
            let slot = &self.slots[&name];
            let all = [("w", w.values), ("ema", flat(&slot.ema)), ("m", flat(&slot.m)), ("v", flat(&slot.v))];
            for (prefix, values) in all {
                let (name, shape) = (format!("{prefix}.{name}"), w.shape.clone());
                tensors.push(NamedTensor { name, shape, values: Cow::Owned(values) });
            }
        }
        let metadata = HashMap::from([(STEP.to_owned(), self.step.to_string())]);
        weights::write_safetensors(path, &tensors, &metadata, Precision::F32)
    }

    /// Reads what [`Self::save`] wrote.
    ///
    /// # Errors
    /// `Io`, or `Model` where the file is damaged or belongs to another network.
    pub fn load(path: &Path, config: &StageConfig, device: &Device) -> Result<Self> {
        let read = || {
            let file = Weights::open(path)?;
            let mut state = Self::new(config, 0, device)?;
            state.step = file.metadata().get(STEP).and_then(|s| s.parse().ok()).ok_or_else(|| {
                Error::model("this is no training state (its header has no step); expected a file written by `train`")
            })?;
            state.unet = nn::import(state.unet, |name, shape| file.tensor_f32(&format!("w.{name}"), shape))?;
            let mut shapes = BTreeMap::new();
            nn::visit_parameters(&state.unet, |name, shape| drop(shapes.insert(name.to_owned(), shape.to_vec())));
            for (name, slot) in &mut state.slots {
                for (prefix, tensor) in [("ema", &mut slot.ema), ("m", &mut slot.m), ("v", &mut slot.v)] {
                    let values = file.tensor_f32(&format!("{prefix}.{name}"), &shapes[name])?;
                    let len = values.len();
                    *tensor = Tensor::from_data(TensorData::new(values, [len]), device);
                }
            }
            Ok(state)
        };
        read().context(|| format!("training state {}", path.display()))
    }

    /// The device of the averages and moments.
    pub fn device(&self) -> &Device {
        &self.device
    }
}

const STEP: &str = "imagen.step";
/// Streams of the run's seed.
const INIT: u64 = 0x1417;

fn flat(tensor: &Tensor<1>) -> Vec<f32> {
    tensor.clone().into_data().try_to_vec().expect("state tensors are f32")
}

impl GradientSum {
    /// Adds the gradients of one backward pass of `unet`.
    pub fn add(&mut self, unet: &Unet, gradients: &Gradients) {
        struct Collect<'a>(Vec<String>, &'a Gradients, &'a mut BTreeMap<String, Tensor<1>>);
        impl burn::module::ModuleVisitor for Collect<'_> {
            fn enter_module(&mut self, name: &str, _: &str) {
                self.0.push(name.to_owned());
            }
            fn exit_module(&mut self, _: &str, _: &str) {
                self.0.pop();
            }
            fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
                let Some(gradient) = param.val().grad(self.1) else { return };
                let len = gradient.dims().iter().product::<usize>();
                let gradient = gradient.reshape([len]);
                let name = self.0.join(".");
                let sum = match self.2.remove(&name) {
                    Some(sum) => ops::add(sum, gradient, 1.0),
                    None => gradient,
                };
                self.2.insert(name, sum);
            }
        }
        unet.visit(&mut Collect(Vec::new(), gradients, &mut self.0));
    }

    /// The norm of all gradients together.
    ///
    /// # Errors
    /// `NonFinite`, naming the first parameter whose gradient is not finite.
    pub fn norm(&self) -> Result<f64> {
        let mut total = 0.0;
        for (name, gradient) in &self.0 {
            let sum = ops::sum_of_squares(gradient.clone());
            if !sum.is_finite() {
                return Err(Error::new(ErrorKind::NonFinite, format!("the gradient of {name} is not finite")));
            }
            total += sum;
        }
        Ok(total.sqrt())
    }
}

/// Walks the parameters and steps each.
struct Update<'a> {
    path: Vec<String>,
    slots: &'a mut BTreeMap<String, Slot>,
    gradients: GradientSum,
    adam: ops::AdamStep,
}

impl ModuleMapper for Update<'_> {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let name = self.path.join(".");
        let Some(gradient) = self.gradients.0.remove(&name) else { return param };
        let slot = self.slots.remove(&name).expect("every parameter has a slot");
        let (id, tensor, mapper) = param.consume();
        let shape = tensor.dims();
        let len = shape.iter().product::<usize>();
        let w = tensor.inner().reshape([len]);
        let (w, m, v, ema) = ops::adam(w, gradient, slot.m, slot.v, slot.ema, self.adam);
        self.slots.insert(name, Slot { ema, m, v });
        let w = Tensor::<D>::from_inner(w.reshape(shape)).require_grad();
        Param::from_mapped_value(id, w, mapper)
    }
}

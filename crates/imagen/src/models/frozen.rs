//! The layers of a frozen network and how they come out of a checkpoint in PyTorch's layouts.
//!
//! Matrices and 3×3 convolutions stay in memory as the file stores them, or as they are asked for ([`Storage`]), once; the
//! kernels widen them. The same walk without a checkpoint only lists what it would ask for: names and shapes are written down
//! once.

use burn::tensor::{Device, Tensor, TensorData};

use crate::error::{Error, Result};
use crate::models::tokens;
use crate::models::weights::{Storage, Table, Weights};
use crate::nn::ops::{self, Activation};
use crate::nn::{StoredConv, StoredLinear, StoredWeights};

/// Convolutions of fewer channels are kept in f32.
const FEW: usize = 12;

/// A network out of a file. It is walked twice: what it will ask for is listed first, so that everything that is missing or of
/// another shape is named at once.
///
/// # Errors
/// `Model` where tensors are missing or mis-shaped (all listed), or hold numbers that are not finite.
pub(in crate::models) fn read<T>(
    weights: &Weights,
    storage: Storage,
    device: &Device,
    build: impl Fn(&mut Loader<'_>) -> Result<T>,
) -> Result<T> {
    let mut listing = Loader::new(None, storage, device);
    build(&mut listing)?;
    weights.require(&listing.listed)?;
    build(&mut Loader::new(Some(weights), storage, device))
}

/// Finds, or only lists, the tensors of a network.
pub(in crate::models) struct Loader<'a> {
    source: Option<&'a Weights>,
    /// What every name begins with in the file.
    prefix: &'a str,
    storage: Storage,
    device: &'a Device,
    /// Name and shape of everything that was asked for.
    pub(in crate::models) listed: Vec<(String, Vec<usize>)>,
}

impl<'a> Loader<'a> {
    pub(in crate::models) fn new(source: Option<&'a Weights>, storage: Storage, device: &'a Device) -> Self {
        Self { source, prefix: "", storage, device, listed: Vec::new() }
    }

    /// A loader of the tensors whose names begin with `prefix`.
    pub(in crate::models) fn under(prefix: &'a str, source: &'a Weights, storage: Storage, device: &'a Device) -> Self {
        Self { prefix, ..Self::new(Some(source), storage, device) }
    }

    /// The shape that a tensor has in the file; nothing where there is none.
    pub(in crate::models) fn shape(&self, name: &str) -> Option<&'a [usize]> {
        self.source?.shape(&format!("{}{name}", self.prefix))
    }

    /// How many rows a tensor has in the file.
    ///
    /// # Errors
    /// `Model` where there are none.
    pub(in crate::models) fn rows(&self, name: &str) -> Result<usize> {
        let rows = self.shape(name).and_then(|shape| shape.first().copied()).filter(|rows| *rows > 0);
        rows.ok_or_else(|| Error::model(format!("`{}{name}` is missing or empty", self.prefix)))
    }

    /// What `read` reads, or nothing where this walk only lists.
    fn part<T>(
        &mut self,
        name: String,
        shape: Vec<usize>,
        read: impl FnOnce(&Weights, &str) -> Result<T>,
    ) -> Result<Option<T>> {
        let name = format!("{}{name}", self.prefix);
        let part = self.source.map(|source| read(source, &name)).transpose()?;
        self.listed.push((name, shape));
        Ok(part)
    }

    /// A small tensor as it is in the file; of no numbers where nothing is read.
    pub(in crate::models) fn tensor<const D: usize>(&mut self, name: String, shape: [usize; D]) -> Result<Tensor<D>> {
        let values = self.part(name, shape.to_vec(), |source, name| source.tensor_f32(name, &shape))?;
        let data = values.map_or_else(|| TensorData::new(Vec::<f32>::new(), [0; D]), |x| TensorData::new(x, shape));
        Ok(Tensor::from_data(data, self.device))
    }

    /// The numbers of a small tensor; none where nothing is read.
    pub(in crate::models) fn values(&mut self, name: String, shape: &[usize]) -> Result<Vec<f32>> {
        let values = self.part(name, shape.to_vec(), |source, name| source.tensor_f32(name, shape))?;
        Ok(values.unwrap_or_default())
    }

    /// The table of the tokens' vectors, `[vocabulary, d]`.
    pub(in crate::models) fn words(&mut self, name: String, shape: [usize; 2]) -> Result<Words> {
        self.part(name, shape.to_vec(), |source, name| source.table(name, shape)).map(Words)
    }

    /// A convolution whose windows lie side by side, `[k, c, p, p]`, as a matrix over windows of c·p·p numbers, in f32.
    pub(in crate::models) fn patches(&mut self, name: String, shape: [usize; 4]) -> Result<Linear> {
        let [k, c] = [shape[0], shape[1..].iter().product()];
        let read = |source: &Weights, name: &str| {
            Ok(StoredLinear::from_rows(c, k, StoredWeights::F32(&source.tensor_f32(name, &shape)?)))
        };
        Ok(Linear { weight: self.part(name, shape.to_vec(), read)?, bias: None })
    }

    pub(in crate::models) fn vector(&mut self, name: String, n: usize) -> Result<Tensor<1>> {
        self.tensor(name, [n])
    }

    /// `[1, n]`
    pub(in crate::models) fn row(&mut self, name: String, n: usize) -> Result<Tensor<2>> {
        self.tensor(name, [1, n])
    }

    pub(in crate::models) fn linear(&mut self, name: &str, c: usize, k: usize) -> Result<Linear> {
        Ok(Linear { bias: Some(self.vector(format!("{name}.bias"), k)?), ..self.matrix(name, c, k)? })
    }

    /// A linear layer without bias.
    pub(in crate::models) fn matrix(&mut self, name: &str, c: usize, k: usize) -> Result<Linear> {
        let storage = self.storage;
        let weight =
            self.part(format!("{name}.weight"), vec![k, c], |source, name| source.linear(name, [k, c], storage))?;
        Ok(Linear { weight, bias: None })
    }

    /// Two maps from the same input, whose outputs follow each other.
    pub(in crate::models) fn pair(&mut self, [first, second]: [String; 2], c: usize, k: usize) -> Result<Pair> {
        Ok(Pair([self.linear(&first, c, k)?, self.linear(&second, c, k)?]))
    }

    /// A 1×1 convolution, which is a matrix.
    pub(in crate::models) fn pointwise(&mut self, name: &str, c: usize, k: usize) -> Result<Linear> {
        let (storage, shape) = (self.storage, vec![k, c, 1, 1]);
        let weight = self.part(format!("{name}.weight"), shape, |source, name| source.pointwise(name, [k, c], storage));
        Ok(Linear { weight: weight?, bias: Some(self.vector(format!("{name}.bias"), k)?) })
    }

    /// The 1×1 convolution to `4k` channels before a sub-pixel up-sampling, in the order in which [`ops::pixel_shuffle`]
    /// takes them: the file has the four pixels of a channel beside each other, that operation the channels of a pixel.
    pub(in crate::models) fn before_pixel_shuffle(&mut self, name: &str, c: usize, k: usize) -> Result<Linear> {
        let by_pixel = |values: Vec<f32>, each: usize| -> Vec<f32> {
            let row = |r: usize| &values[r * each..][..each];
            (0..4 * k).flat_map(|i| row(i % k * 4 + i / k)).copied().collect()
        };
        let read = |source: &Weights, name: &str| {
            let values = by_pixel(source.tensor_f32(name, &[4 * k, c, 1, 1])?, c);
            Ok(StoredLinear::from_rows(c, 4 * k, StoredWeights::F32(&values)))
        };
        let weight = self.part(format!("{name}.weight"), vec![4 * k, c, 1, 1], read)?;
        let read = |source: &Weights, name: &str| Ok(by_pixel(source.tensor_f32(name, &[4 * k])?, 1));
        let bias = self.part(format!("{name}.bias"), vec![4 * k], read)?.unwrap_or_default();
        let count = bias.len();
        Ok(Linear { weight, bias: Some(Tensor::from_data(TensorData::new(bias, [count]), self.device)) })
    }

    /// A convolution of any odd window, stride 1, whose padding keeps the size.
    pub(in crate::models) fn window(&mut self, name: &str, [c, k, side]: [usize; 3]) -> Result<Window> {
        let (shape, taps) = ([k, c, side, side], side * side);
        let read = |source: &Weights, name: &str| Ok(turned(&source.tensor_f32(name, &shape)?, k, c, taps));
        let weight = self.part(format!("{name}.weight"), shape.to_vec(), read)?;
        self.windowed(weight, format!("{name}.bias"), [c, k, side], 1)
    }

    /// A 1×1 convolution of the four channels that 2×2 pixels of a channel become, as one of stride 2.
    pub(in crate::models) fn four_pixels(&mut self, name: &str, c: usize, k: usize) -> Result<Window> {
        let shape = [k, 4 * c, 1, 1];
        // [k, c, 2·2, 1, 1]
        let read = |source: &Weights, name: &str| Ok(turned(&source.tensor_f32(name, &shape)?, k, c, 4));
        let weight = self.part(format!("{name}.weight"), shape.to_vec(), read)?;
        self.windowed(weight, format!("{name}.bias"), [c, k, 2], 2)
    }

    fn windowed(
        &mut self,
        weight: Option<Vec<f32>>,
        bias: String,
        [c, k, side]: [usize; 3],
        stride: usize,
    ) -> Result<Window> {
        let tensor = |values| Tensor::from_data(TensorData::new(values, [side, side, c, k]), self.device);
        Ok(Window { weight: weight.map(tensor), bias: self.vector(bias, k)?, stride })
    }

    pub(in crate::models) fn conv(&mut self, name: &str, c: usize, k: usize) -> Result<Conv> {
        let (weight, shape) = (format!("{name}.weight"), vec![k, c, 3, 3]);
        let (storage, device) = (self.storage, self.device);
        let weight = if c.min(k) < FEW {
            // a picture's channels: next to nothing to keep, and the kernels for them read f32
            let read = |source: &Weights, name: &str| {
                let values = turned(&source.tensor_f32(name, &[k, c, 3, 3])?, k, c, 9);
                Ok(Tensor::from_data(TensorData::new(values, [3, 3, c, k]), device))
            };
            self.part(weight, shape, read)?.map(Taps::Tensor)
        } else {
            self.part(weight, shape, |source, name| source.conv3x3(name, [k, c], storage))?.map(Taps::Stored)
        };
        Ok(Conv { weight, bias: self.vector(format!("{name}.bias"), k)? })
    }

    pub(in crate::models) fn group_norm(&mut self, name: &str, c: usize, groups: usize) -> Result<GroupNorm> {
        let weight = self.vector(format!("{name}.weight"), c)?;
        Ok(GroupNorm { weight, bias: self.vector(format!("{name}.bias"), c)?, groups })
    }

    /// Layer normalisation without a shift, whose scale is called `g`.
    pub(in crate::models) fn scaled_norm(&mut self, name: &str, c: usize) -> Result<LayerNorm> {
        Ok(LayerNorm { weight: self.vector(format!("{name}.g"), c)?, bias: Tensor::zeros([c], self.device) })
    }

    pub(in crate::models) fn layer_norm(&mut self, name: &str, c: usize) -> Result<LayerNorm> {
        let weight = self.vector(format!("{name}.weight"), c)?;
        Ok(LayerNorm { weight, bias: self.vector(format!("{name}.bias"), c)? })
    }
}

/// `[k, c, taps]` → `[taps, c, k]`, a few input channels at a time: what is read lies side by side, and the rows that are
/// written stay in cache.
fn turned(values: &[f32], k: usize, c: usize, taps: usize) -> Vec<f32> {
    const CHANNELS: usize = 8;
    let mut out = vec![0.0; values.len()];
    for first in (0..c).step_by(CHANNELS) {
        let channels = CHANNELS.min(c - first);
        for column in 0..k {
            let from = &values[(column * c + first) * taps..][..channels * taps];
            for (channel, taps_of) in from.chunks_exact(taps).enumerate() {
                for (tap, value) in taps_of.iter().enumerate() {
                    out[(tap * c + first + channel) * k + column] = *value;
                }
            }
        }
    }
    out
}

/// Where a walk only lists, layers have no weights; such a network is never run.
const LISTED: &str = "a network that runs was read";

/// The vectors of a vocabulary.
#[derive(Debug)]
pub(in crate::models) struct Words(Option<Table>);

impl Words {
    /// The vectors of these tokens, row by row.
    ///
    /// # Errors
    /// `Model` when an id is not in the vocabulary.
    pub(in crate::models) fn embed(&self, ids: &[u32]) -> Result<Vec<f32>> {
        tokens::embed(self.0.as_ref().expect(LISTED), ids)
    }
}

#[derive(Debug)]
pub(in crate::models) struct Linear {
    weight: Option<StoredLinear>,
    bias: Option<Tensor<1>>,
}

impl Linear {
    pub(in crate::models) fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        self.weight.as_ref().expect(LISTED).forward(x, self.bias.clone(), None)
    }

    /// The layer's output plus `residual`.
    pub(in crate::models) fn forward_onto<const D: usize>(&self, x: Tensor<D>, residual: Tensor<D>) -> Tensor<D> {
        self.weight.as_ref().expect(LISTED).forward(x, self.bias.clone(), Some(residual))
    }
}

/// Keys and values of one input.
#[derive(Debug)]
pub(in crate::models) struct Pair([Linear; 2]);

impl Pair {
    /// `[.., c]` → `[.., 2 k]`, the first map's output before the second's.
    pub(in crate::models) fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        ops::concat(self.0[0].forward(x.clone()), self.0[1].forward(x))
    }
}

#[derive(Debug)]
pub(in crate::models) struct Conv {
    weight: Option<Taps>,
    bias: Tensor<1>,
}

#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "a network has a hundred of them, next to nothing beside its weights")]
enum Taps {
    Tensor(Tensor<4>),
    Stored(StoredConv),
}

impl Conv {
    pub(in crate::models) fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        self.run(x, None, 1.0)
    }

    /// `(conv(x) + residual) · scale`.
    pub(in crate::models) fn forward_onto(&self, x: Tensor<4>, residual: Tensor<4>, scale: f32) -> Tensor<4> {
        self.run(x, Some(residual), scale)
    }

    fn run(&self, x: Tensor<4>, residual: Option<Tensor<4>>, scale: f32) -> Tensor<4> {
        match self.weight.as_ref().expect(LISTED) {
            Taps::Tensor(weight) => ops::conv3x3(x, weight.clone(), self.bias.clone(), residual, 1, scale),
            Taps::Stored(weight) => weight.forward(x, self.bias.clone(), residual, scale),
        }
    }
}

/// A convolution of any window, padded so that what its stride leaves has the size of the input divided by it.
#[derive(Debug)]
pub(in crate::models) struct Window {
    weight: Option<Tensor<4>>,
    bias: Tensor<1>,
    stride: usize,
}

impl Window {
    pub(in crate::models) fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let weight = self.weight.clone().expect(LISTED);
        let padding = (weight.dims()[0] - self.stride) / 2;
        ops::conv2d(x, weight, self.bias.clone(), self.stride, [padding; 2], false)
    }
}

#[derive(Debug)]
pub(in crate::models) struct GroupNorm {
    weight: Tensor<1>,
    bias: Tensor<1>,
    groups: usize,
}

impl GroupNorm {
    pub(in crate::models) fn forward(
        &self,
        x: Tensor<4>,
        film: Option<Tensor<2>>,
        activation: Activation,
    ) -> Tensor<4> {
        ops::group_norm(x, self.weight.clone(), self.bias.clone(), film, self.groups, activation)
    }
}

#[derive(Debug)]
pub(in crate::models) struct LayerNorm {
    weight: Tensor<1>,
    bias: Tensor<1>,
}

impl LayerNorm {
    pub(in crate::models) fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        ops::layer_norm(x, self.weight.clone(), self.bias.clone())
    }
}

/// The activation of a small tensor, an embedding's.
pub(in crate::models) fn activate(activation: Activation, x: Tensor<2>) -> Tensor<2> {
    match activation {
        Activation::None => x,
        Activation::Silu => burn::tensor::activation::silu(x),
        Activation::Gelu => ops::gelu(x),
    }
}

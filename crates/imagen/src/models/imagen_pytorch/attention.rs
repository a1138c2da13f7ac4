//! The attention of imagen-pytorch: queries and keys of length one with a learned factor for each number, a learned empty
//! key and value beside the others, and a norm after the last matrix.

use burn::tensor::Tensor;

use super::norm::rms_norm;
use crate::error::{Error, Result};
use crate::models::frozen::{LayerNorm, Linear, Loader};
use crate::nn::ops;

/// Factor of the products of unit vectors before the softmax.
const SCALE: f32 = 8.0;

/// What makes queries and keys unit vectors with a factor for each number.
#[derive(Debug)]
pub(super) struct Directions {
    q: Tensor<1>,
    k: Tensor<1>,
    pub(super) heads: usize,
    pub(super) width: usize,
}

impl Directions {
    /// Heads and their width are what `q_scale` and `to_q` say.
    pub(super) fn load(loader: &mut Loader<'_>, name: &str) -> Result<Self> {
        let (width, all) = (loader.rows(&format!("{name}.q_scale"))?, loader.rows(&format!("{name}.to_q.weight"))?);
        if all % width != 0 {
            return Err(Error::model(format!(
                "`{name}.to_q.weight` has {all} rows, which heads of {width} do not divide"
            )));
        }
        let q: Tensor<1> = loader.vector(format!("{name}.q_scale"), width)?;
        // the norm's result is √width times as long as a unit vector, for both; softmax divides by √width once
        let q = q.mul_scalar(SCALE / (width as f32).sqrt());
        Ok(Self { q, k: loader.vector(format!("{name}.k_scale"), width)?, heads: all / width, width })
    }

    pub(super) fn inner(&self) -> usize {
        self.heads * self.width
    }

    pub(super) fn queries(&self, q: Tensor<3>) -> Tensor<3> {
        self.turned(q, &self.q)
    }

    pub(super) fn keys(&self, k: Tensor<3>) -> Tensor<3> {
        self.turned(k, &self.k)
    }

    /// `[n, t, heads · width]`, or keys of one head.
    fn turned(&self, x: Tensor<3>, gamma: &Tensor<1>) -> Tensor<3> {
        let [n, t, all] = x.dims();
        let x = x.reshape([n, t * all / self.width, self.width]);
        rms_norm(x, gamma).reshape([n, t, all])
    }
}

/// The learned empty key and value, for each of so many heads: `[1, 1, heads · width]`.
fn null(loader: &mut Loader<'_>, name: &str, width: usize, heads: usize) -> Result<[Tensor<3>; 2]> {
    let both: Tensor<2> = loader.tensor(format!("{name}.null_kv"), [2, width])?;
    Ok([0, 1].map(|i| both.clone().narrow(0, i, 1).repeat_dim(1, heads).unsqueeze::<3>()))
}

/// `first` for every picture before `rest [n, t, c]`.
fn before(first: &Tensor<3>, rest: Tensor<3>) -> Tensor<3> {
    let n = rest.dims()[0];
    Tensor::cat(vec![first.clone().repeat_dim(0, n), rest], 1)
}

/// The halves of the last axis.
pub(super) fn halves(x: Tensor<3>) -> [Tensor<3>; 2] {
    let half = x.dims()[2] / 2;
    [0, half].map(|from| x.clone().narrow(2, from, half))
}

/// Attention of pixels to the conditions, within a residual block.
#[derive(Debug)]
pub(super) struct CrossAttention {
    norm: LayerNorm,
    directions: Directions,
    null: [Tensor<3>; 2],
    q: Linear,
    kv: Linear,
    out: Linear,
    norm_out: LayerNorm,
}

impl CrossAttention {
    pub(super) fn load(loader: &mut Loader<'_>, name: &str, c: usize, conditions: usize) -> Result<Self> {
        let part = |part: &str| format!("{name}.{part}");
        let directions = Directions::load(loader, name)?;
        let inner = directions.inner();
        Ok(Self {
            norm: loader.scaled_norm(&part("norm"), c)?,
            null: null(loader, name, directions.width, directions.heads)?,
            q: loader.matrix(&part("to_q"), c, inner)?,
            kv: loader.matrix(&part("to_kv"), conditions, 2 * inner)?,
            out: loader.matrix(&part("to_out.0"), inner, c)?,
            norm_out: loader.scaled_norm(&part("to_out.1"), c)?,
            directions,
        })
    }

    /// `x [n, p, c]`, `context [n, t, conditions]` → x and what it takes from the context.
    pub(super) fn forward(&self, x: Tensor<3>, context: Tensor<3>) -> Tensor<3> {
        let q = self.directions.queries(self.q.forward(self.norm.forward(x.clone())));
        let [k, v] = halves(self.kv.forward(context));
        let k = self.directions.keys(before(&self.null[0], k));
        let attended = ops::attention(q, ops::concat(k, before(&self.null[1], v)), None, self.directions.heads);
        self.norm_out.forward(self.out.forward(attended)) + x
    }
}

/// Attention of pixels to each other, and layers of two matrices.
#[derive(Debug)]
pub(super) struct Transformer(Vec<(SelfAttention, FeedForward)>);

impl Transformer {
    /// Nothing where the file has none of that name.
    pub(super) fn load(
        loader: &mut Loader<'_>,
        name: &str,
        c: usize,
        conditions: Option<usize>,
    ) -> Result<Option<Self>> {
        let mut layers = Vec::new();
        while loader.shape(&format!("{name}.layers.{}.0.to_q.weight", layers.len())).is_some() {
            let layer = format!("{name}.layers.{}", layers.len());
            let attention = SelfAttention::load(loader, &format!("{layer}.0"), c, conditions)?;
            layers.push((attention, FeedForward::load(loader, &format!("{layer}.1"), c)?));
        }
        Ok((!layers.is_empty()).then_some(Self(layers)))
    }

    /// `x [n, h, w, c]` → the same shape.
    pub(super) fn forward(&self, x: Tensor<4>, context: Option<&Tensor<3>>) -> Tensor<4> {
        let [n, h, w, c] = x.dims();
        let mut x = x.reshape([n, h * w, c]);
        for (attention, feed_forward) in &self.0 {
            x = attention.forward(x, context);
            x = feed_forward.forward(x);
        }
        x.reshape([n, h, w, c])
    }
}

/// Many heads of queries, one of keys and values, which come from the pixels and from the conditions.
#[derive(Debug)]
struct SelfAttention {
    norm: LayerNorm,
    directions: Directions,
    null: [Tensor<3>; 2],
    q: Linear,
    kv: Linear,
    context: Option<(LayerNorm, Linear)>,
    out: Linear,
    norm_out: LayerNorm,
}

impl SelfAttention {
    fn load(loader: &mut Loader<'_>, name: &str, c: usize, conditions: Option<usize>) -> Result<Self> {
        let part = |part: &str| format!("{name}.{part}");
        let directions = Directions::load(loader, name)?;
        let (inner, width) = (directions.inner(), directions.width);
        let context = conditions.map(|conditions| {
            let norm = loader.layer_norm(&part("to_context.0"), conditions)?;
            Ok((norm, loader.linear(&part("to_context.1"), conditions, 2 * width)?))
        });
        Ok(Self {
            norm: loader.scaled_norm(&part("norm"), c)?,
            null: null(loader, name, width, 1)?,
            q: loader.matrix(&part("to_q"), c, inner)?,
            kv: loader.matrix(&part("to_kv"), c, 2 * width)?,
            context: context.transpose()?,
            out: loader.matrix(&part("to_out.0"), inner, c)?,
            norm_out: loader.scaled_norm(&part("to_out.1"), c)?,
            directions,
        })
    }

    fn forward(&self, x: Tensor<3>, context: Option<&Tensor<3>>) -> Tensor<3> {
        let [n, t, _] = x.dims();
        let Directions { heads, width, .. } = self.directions;
        let normal = self.norm.forward(x.clone());
        let q = self.directions.queries(self.q.forward(normal.clone()));
        let mut kv = self.kv.forward(normal);
        if let (Some((norm, matrix)), Some(context)) = (&self.context, context) {
            kv = Tensor::cat(vec![matrix.forward(norm.forward(context.clone())), kv], 1);
        }
        let [k, v] = halves(kv);
        let k = self.directions.keys(before(&self.null[0], k));
        let kv = ops::concat(k, before(&self.null[1], v));
        // all heads have the same keys: each head's query is a query of its own
        let attended = ops::attention(q.reshape([n, t * heads, width]), kv, None, 1).reshape([n, t, heads * width]);
        self.norm_out.forward(self.out.forward(attended)) + x
    }
}

/// `x + W₂ norm(gelu(W₁ norm(x)))`.
#[derive(Debug)]
pub(super) struct FeedForward {
    norm: LayerNorm,
    first: Linear,
    norm_hidden: LayerNorm,
    second: Linear,
}

impl FeedForward {
    pub(super) fn load(loader: &mut Loader<'_>, name: &str, c: usize) -> Result<Self> {
        let first = format!("{name}.1");
        let hidden = loader.rows(&format!("{first}.weight"))?;
        Ok(Self {
            norm: loader.scaled_norm(&format!("{name}.0"), c)?,
            first: loader.matrix(&first, c, hidden)?,
            norm_hidden: loader.scaled_norm(&format!("{name}.3"), hidden)?,
            second: loader.matrix(&format!("{name}.4"), hidden, c)?,
        })
    }

    pub(super) fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let hidden = ops::gelu(self.first.forward(self.norm.forward(x.clone())));
        self.second.forward_onto(self.norm_hidden.forward(hidden), x)
    }
}

//! What conditions a network of imagen-pytorch: noise levels as learned sinusoids, and the text as a short sequence and a
//! vector.

use burn::tensor::activation::silu;
use burn::tensor::{Device, Tensor, TensorData};

use super::attention::{Directions, FeedForward, halves};
use super::blocks::Sizes;
use crate::error::{Error, Result};
use crate::models::frozen::{LayerNorm, Linear, Loader};
use crate::models::unet::{Text, UnetConfig};
use crate::nn::ops;

/// A log-SNR as a vector for the blocks and as tokens to attend to.
#[derive(Debug)]
pub(super) struct NoiseLevel {
    frequencies: Vec<f32>,
    hidden: Linear,
    vector: Linear,
    tokens: Linear,
    width: usize,
}

impl NoiseLevel {
    pub(super) fn load(
        loader: &mut Loader<'_>,
        name: &str,
        Sizes { embedding, conditions: width }: Sizes,
    ) -> Result<Self> {
        let (frequencies, tokens) = (format!("{name}_hiddens.0.weights"), format!("{name}_tokens.0"));
        let (count, outputs) = (loader.rows(&frequencies)?, loader.rows(&format!("{tokens}.weight"))?);
        Ok(Self {
            frequencies: loader.vector(frequencies, count)?.into_data().try_to_vec().unwrap_or_default(),
            hidden: loader.linear(&format!("{name}_hiddens.1"), 2 * count + 1, embedding)?,
            vector: loader.linear(&format!("{name}_cond.0"), embedding, embedding)?,
            tokens: loader.linear(&tokens, embedding, outputs)?,
            width,
        })
    }

    /// `[n, e]` and `[n, r, width]`.
    pub(super) fn forward(&self, log_snr: &[f64], device: &Device) -> (Tensor<2>, Tensor<3>) {
        let n = log_snr.len();
        let row = |log_snr: &f64| {
            let x = *log_snr as f32;
            let angles: Vec<f32> =
                self.frequencies.iter().map(|frequency| x * frequency * 2.0 * std::f32::consts::PI).collect();
            let sines: Vec<f32> = angles.iter().map(|angle| angle.sin()).collect();
            [vec![x], sines, angles.iter().map(|angle| angle.cos()).collect()].concat()
        };
        let rows: Vec<f32> = log_snr.iter().flat_map(row).collect();
        let rows = Tensor::<2>::from_data(TensorData::new(rows, [n, 2 * self.frequencies.len() + 1]), device);
        let hidden = silu(self.hidden.forward(rows));
        let tokens = self.tokens.forward(hidden.clone());
        let count = tokens.dims()[1] / self.width;
        (self.vector.forward(hidden), tokens.reshape([n, count, self.width]))
    }
}

/// The text: every place without a token has a learned vector, and what a perceiver makes of all places is attended to.
#[derive(Debug)]
pub(super) struct TextConditions {
    project: Linear,
    /// `[1, places, width]`
    null: Tensor<3>,
    /// `[1, e]`
    null_vector: Tensor<2>,
    pool: Option<Perceiver>,
    norm: LayerNorm,
    first: Linear,
    second: Linear,
    text_dim: usize,
}

impl TextConditions {
    /// Nothing where the network takes no text; its stand-ins and perceiver are there all the same and are read over.
    pub(super) fn load(loader: &mut Loader<'_>, config: &UnetConfig) -> Result<Option<Self>> {
        let (width, embedding) = (config.text_width, config.embedding);
        let places = loader.shape("null_text_embed").and_then(|shape| shape.get(1).copied()).unwrap_or(0);
        let null = loader.tensor("null_text_embed".into(), [1, places, width])?;
        let null_vector = loader.row("null_text_hidden".into(), embedding)?;
        let has_pool = loader.shape("attn_pool.latents").is_some();
        let pool = has_pool.then(|| Perceiver::load(loader, "attn_pool", width)).transpose()?;
        if let Some(pool) = pool.as_ref().filter(|pool| pool.position.dims()[1] < places) {
            return Err(Error::model(format!(
                "`null_text_embed` has {places} places, and `attn_pool.pos_emb.weight` only {}",
                pool.position.dims()[1]
            )));
        }
        if config.text_dim == 0 {
            return Ok(None);
        }
        let part = |i: usize| format!("to_text_non_attn_cond.{i}");
        Ok(Some(Self {
            project: loader.linear("text_to_cond", config.text_dim, width)?,
            null,
            null_vector,
            pool,
            norm: loader.layer_norm(&part(0), width)?,
            first: loader.linear(&part(1), width, embedding)?,
            second: loader.linear(&part(3), embedding, embedding)?,
            text_dim: config.text_dim,
        }))
    }

    /// `[n, t, width]` and `[n, e]`.
    pub(super) fn forward(&self, text: &Text, dropped: &[bool]) -> Result<(Tensor<3>, Tensor<2>)> {
        let [n, length, d] = text.sequence.dims();
        if d != self.text_dim {
            return Err(Error::model(format!(
                "the text's vectors have {d} numbers, and this network was trained with {}",
                self.text_dim
            )));
        }
        let [_, places, width] = self.null.dims();
        let device = self.null.device();
        let taken = length.min(places);
        let own = self.project.forward(text.sequence.clone().narrow(1, 0, taken));
        let kept: Vec<f32> = dropped.iter().map(|dropped| if *dropped { 0.0 } else { 1.0 }).collect();
        let kept = Tensor::<2>::from_data(TensorData::new(kept, [n, 1]), &device);
        let mut own_mask = text.mask.clone().narrow(1, 0, taken) * kept.clone();
        let mut own = own;
        if taken < places {
            own = Tensor::cat(vec![own, Tensor::zeros([n, places - taken, width], &device)], 1);
            own_mask = Tensor::cat(vec![own_mask, Tensor::zeros([n, places - taken], &device)], 1);
        }
        let own_mask = own_mask.reshape([n, places, 1]);
        let mut tokens = own * own_mask.clone() + self.null.clone() * own_mask.mul_scalar(-1.0).add_scalar(1.0);
        if let Some(pool) = &self.pool {
            tokens = pool.forward(tokens);
        }
        let mean = tokens.clone().mean_dim(1).reshape([n, width]);
        let vector = self.second.forward(silu(self.first.forward(self.norm.forward(mean))));
        let vector = vector * kept.clone() + self.null_vector.clone() * kept.mul_scalar(-1.0).add_scalar(1.0);
        Ok((tokens, vector))
    }
}

/// Learned vectors, and some made of the sequence's mean, that attend to a sequence and to themselves.
#[derive(Debug)]
struct Perceiver {
    position: Tensor<3>,
    latents: Tensor<3>,
    mean: Option<(LayerNorm, Linear)>,
    layers: Vec<(PerceiverAttention, FeedForward)>,
}

impl Perceiver {
    fn load(loader: &mut Loader<'_>, name: &str, width: usize) -> Result<Self> {
        let has = |loader: &Loader<'_>, tensor: &str| loader.shape(&format!("{name}.{tensor}")).is_some();
        let places = loader.rows(&format!("{name}.pos_emb.weight"))?;
        let latents = loader.rows(&format!("{name}.latents"))?;
        let position: Tensor<2> = loader.tensor(format!("{name}.pos_emb.weight"), [places, width])?;
        let latents: Tensor<2> = loader.tensor(format!("{name}.latents"), [latents, width])?;
        let from_mean = "to_latents_from_mean_pooled_seq";
        let mean = has(loader, &format!("{from_mean}.1.weight")).then(|| {
            let matrix = format!("{name}.{from_mean}.1");
            let outputs = loader.rows(&format!("{matrix}.weight"))?;
            let norm = loader.scaled_norm(&format!("{name}.{from_mean}.0"), width)?;
            Ok((norm, loader.linear(&matrix, width, outputs)?))
        });
        let mean = mean.transpose()?;
        let mut layers = Vec::new();
        while has(loader, &format!("layers.{}.0.to_q.weight", layers.len())) {
            let layer = format!("{name}.layers.{}", layers.len());
            let attention = PerceiverAttention::load(loader, &format!("{layer}.0"), width)?;
            layers.push((attention, FeedForward::load(loader, &format!("{layer}.1"), width)?));
        }
        Ok(Self { position: position.unsqueeze(), latents: latents.unsqueeze(), mean, layers })
    }

    /// `x [n, t, width]` → `[n, latents, width]`.
    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let [n, t, width] = x.dims();
        let mut latents = self.latents.clone().repeat_dim(0, n);
        if let Some((norm, matrix)) = &self.mean {
            let mean = matrix.forward(norm.forward(x.clone().mean_dim(1).reshape([n, width])));
            let count = mean.dims()[1] / width;
            latents = Tensor::cat(vec![mean.reshape([n, count, width]), latents], 1);
        }
        let x = x + self.position.clone().narrow(1, 0, t);
        for (attention, feed_forward) in &self.layers {
            latents = feed_forward.forward(attention.forward(&x, latents));
        }
        latents
    }
}

#[derive(Debug)]
struct PerceiverAttention {
    norm: LayerNorm,
    norm_latents: LayerNorm,
    directions: Directions,
    q: Linear,
    kv: Linear,
    out: Linear,
    norm_out: LayerNorm,
}

impl PerceiverAttention {
    fn load(loader: &mut Loader<'_>, name: &str, width: usize) -> Result<Self> {
        let part = |part: &str| format!("{name}.{part}");
        let directions = Directions::load(loader, name)?;
        let inner = directions.inner();
        Ok(Self {
            norm: loader.layer_norm(&part("norm"), width)?,
            norm_latents: loader.layer_norm(&part("norm_latents"), width)?,
            q: loader.matrix(&part("to_q"), width, inner)?,
            kv: loader.matrix(&part("to_kv"), width, 2 * inner)?,
            out: loader.matrix(&part("to_out.0"), inner, width)?,
            norm_out: loader.layer_norm(&part("to_out.1"), width)?,
            directions,
        })
    }

    fn forward(&self, x: &Tensor<3>, latents: Tensor<3>) -> Tensor<3> {
        let normal = self.norm_latents.forward(latents.clone());
        let q = self.directions.queries(self.q.forward(normal.clone()));
        let [k, v] = halves(self.kv.forward(Tensor::cat(vec![self.norm.forward(x.clone()), normal], 1)));
        let attended = ops::attention(q, ops::concat(self.directions.keys(k), v), None, self.directions.heads);
        self.norm_out.forward(self.out.forward(attended)) + latents
    }
}

//! Attention of pixels to pixels and to the text, in one softmax or each in its own.
//!
//! The text's keys and values are put before the picture's (D.3.1); its embeddings are layer-normalised here, as section
//! 2.5 asks for attention and pooling layers. The layer adds to its input, and its output projection starts at zero.

use burn::module::Module;
use burn::tensor::Tensor;

use super::conditioning::Text;
use super::config::{Level, TextAttention, UnetConfig};
use crate::nn::{GroupNorm, Init, LayerNorm, Linear, ops};

/// One attention layer; it looks at the picture, at the text, or at both at once.
#[derive(Module, Debug)]
pub(super) struct Attention {
    norm: GroupNorm,
    q: Linear,
    /// Keys and values of the picture.
    kv: Option<Linear>,
    text_norm: Option<LayerNorm>,
    /// Keys and values of the text.
    text_kv: Option<Linear>,
    out: Linear,
    heads: usize,
}

impl Attention {
    fn new(init: &mut Init<'_>, config: &UnetConfig, channels: usize, picture: bool, text: bool) -> Self {
        let hidden = channels * config.attention_expansion;
        Self {
            norm: GroupNorm::new(init, channels, config.groups),
            q: Linear::new(init, channels, hidden, 1.0),
            kv: picture.then(|| Linear::new(init, channels, 2 * hidden, 1.0)),
            text_norm: text.then(|| LayerNorm::new(init, config.text_width)),
            text_kv: text.then(|| Linear::new(init, config.text_width, 2 * hidden, 1.0)),
            out: Linear::new(init, hidden, channels, 0.0),
            heads: config.heads.of(hidden),
        }
    }

    /// The attention layers of a level: none, one, or self- and cross-attention apart.
    pub(super) fn of_level(init: &mut Init<'_>, config: &UnetConfig, level: &Level) -> Vec<Self> {
        let text = level.text_attention && config.text_dim > 0 && config.text_attention != TextAttention::None;
        let mut layer = |picture, text| Self::new(init, config, level.channels, picture, text);
        match (level.self_attention, text, config.text_attention) {
            (true, true, TextAttention::Concatenated) => vec![layer(true, true)],
            (true, true, _) => vec![layer(true, false), layer(false, true)],
            (true, false, _) => vec![layer(true, false)],
            (false, true, _) => vec![layer(false, true)],
            (false, false, _) => Vec::new(),
        }
    }

    /// `x [n, h, w, c]` → the same shape.
    pub(super) fn forward(&self, x: Tensor<4>, text: Option<&Text>) -> Tensor<4> {
        let [n, h, w, c] = x.dims();
        let tokens = self.norm.forward(x.clone()).reshape([n, h * w, c]);
        let q = self.q.forward(tokens.clone());
        let own = self.kv.as_ref().map(|kv| kv.forward(tokens)); // [n, h*w, 2 hidden]
        let text = self.text_norm.as_ref().zip(self.text_kv.as_ref()).zip(text).map(|((norm, kv), text)| {
            (kv.forward(norm.forward(text.sequence.clone())), text.mask.clone()) // [n, t, 2 hidden], [n, t]
        });
        let (kv, mask) = match (text, own) {
            (Some((text, mask)), Some(own)) => {
                let all = Tensor::ones([n, h * w], &own.device());
                let [_, tokens, width] = text.dims();
                // a picture's tokens as one row
                let joined = ops::concat(text.reshape([n, tokens * width]), own.reshape([n, h * w * width]));
                (joined.reshape([n, tokens + h * w, width]), Some(Tensor::cat(vec![mask, all], 1)))
            }
            (Some((text, mask)), None) => (text, Some(mask)),
            (None, Some(own)) => (own, None),
            // a text layer of a network that is run without text
            (None, None) => return x,
        };
        let attended = ops::attention(q, kv, mask, self.heads);
        self.out.forward_onto(attended, x.reshape([n, h * w, c]), 1.0).reshape([n, h, w, c])
    }
}

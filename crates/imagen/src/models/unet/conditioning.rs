//! What conditions one evaluation of the network: noise level, text, and the low-resolution picture.

use burn::tensor::Tensor;

use crate::error::{Error, Result};

/// Everything that conditions one evaluation of the network.
#[derive(Clone, Debug)]
pub struct Conditioning {
    /// log-SNR of each picture's noise.
    pub log_snr: Vec<f64>,
    /// The text, unless the network is unconditional.
    pub text: Option<Text>,
    /// The low-resolution picture, for super-resolution networks.
    pub low_resolution: Option<LowResolution>,
}

/// An encoded text: `sequence [n, t, d]`, `mask [n, t]` (1 = a token, 0 = padding).
#[derive(Clone, Debug)]
pub struct Text {
    /// Contextual embeddings.
    pub sequence: Tensor<3>,
    /// 1 where there is a token.
    pub mask: Tensor<2>,
}

impl Text {
    /// Several batches of texts as one, the shorter sequences padded, the new places masked.
    ///
    /// # Panics
    /// Without texts.
    pub fn together<'a>(texts: impl IntoIterator<Item = &'a Self>) -> Self {
        let texts: Vec<&Self> = texts.into_iter().collect();
        let longest = texts.iter().map(|text| text.sequence.dims()[1]).max().expect("there are texts");
        let padded = |text: &&Self| {
            let [n, t, d] = text.sequence.dims();
            if t == longest {
                return (text.sequence.clone(), text.mask.clone());
            }
            let device = text.sequence.device();
            let sequence = vec![text.sequence.clone(), Tensor::zeros([n, longest - t, d], &device)];
            let mask = vec![text.mask.clone(), Tensor::zeros([n, longest - t], &device)];
            (Tensor::cat(sequence, 1), Tensor::cat(mask, 1))
        };
        let (sequences, masks) = texts.iter().map(padded).unzip();
        Self { sequence: Tensor::cat(sequences, 0), mask: Tensor::cat(masks, 0) }
    }
}

/// A low-resolution condition, already resized to the network's size and noised.
#[derive(Clone, Debug)]
pub struct LowResolution {
    /// `[n, h, w, c]`.
    pub picture: Tensor<4>,
    /// log-SNR of the noise in each picture.
    pub log_snr: Vec<f64>,
}

impl Conditioning {
    /// `Usage` unless there is one of everything for each of `n` pictures of `h`×`w`.
    pub(in crate::models) fn check(&self, [n, h, w]: [usize; 3]) -> Result<()> {
        let each = |what: &str, count: usize| {
            if count == n { Ok(()) } else { Err(Error::usage(format!("{count} {what} for {n} pictures"))) }
        };
        each("noise levels", self.log_snr.len())?;
        if let Some(text) = &self.text {
            each("texts", text.sequence.dims()[0])?;
        }
        if let Some(low) = &self.low_resolution {
            each("augmentation levels", low.log_snr.len())?;
            let [count, low_h, low_w, _] = low.picture.dims();
            each("low-resolution pictures", count)?;
            if [low_h, low_w] != [h, w] {
                return Err(Error::usage(format!(
                    "a low-resolution picture of {low_w}×{low_h} beside one of {w}×{h}: resize it to that first"
                )));
            }
        }
        Ok(())
    }
}

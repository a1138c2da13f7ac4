//! What steps and measurements of a run come to, in numbers.

use serde::{Deserialize, Serialize};

use crate::diffusion::Time;

/// Parts of [0, 1] that the loss is kept apart for.
pub const QUARTERS: usize = 4;

/// The loss of pictures by the quarter of [0, 1] that their time t lies in.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LossByTime {
    sums: [f64; QUARTERS],
    counts: [u64; QUARTERS],
}

impl LossByTime {
    /// Takes in the loss of a picture that was seen at this time.
    pub fn add(&mut self, time: Time, loss: f64) {
        let quarter = ((time.get() * QUARTERS as f64) as usize).min(QUARTERS - 1);
        self.sums[quarter] += loss;
        self.counts[quarter] += 1;
    }

    /// Takes in all that another one holds.
    pub fn merge(&mut self, other: &Self) {
        for quarter in 0..QUARTERS {
            self.sums[quarter] += other.sums[quarter];
            self.counts[quarter] += other.counts[quarter];
        }
    }

    /// The mean loss of each quarter; none where no picture fell.
    pub fn means(&self) -> [Option<f64>; QUARTERS] {
        std::array::from_fn(|q| (self.counts[q] > 0).then(|| self.sums[q] / self.counts[q] as f64))
    }
}

/// One optimizer step in numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepReport {
    /// Steps taken, this one included.
    pub step: u64,
    /// Steps in all.
    pub of: u64,
    /// Mean loss of the batch.
    pub loss: f64,
    /// The loss by the pictures' times.
    pub loss_by_time: LossByTime,
    /// Mean cross-entropy of the auxiliary head's names, where it is trained.
    pub naming: Option<f64>,
    /// Learning rate.
    pub lr: f64,
    /// Norm of the gradient before clipping.
    pub gradient_norm: f64,
    /// Wall time of the step.
    pub seconds: f64,
    /// The part of it in which ranks summed their gradients; 0 with one rank.
    pub exchange_seconds: f64,
    /// The part of it in which this rank waited until all others had computed; 0 with one rank.
    pub waiting_seconds: f64,
    /// Pictures in the step.
    pub pictures: usize,
}

/// Mean losses of the same pictures under the same noise.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProbeReport {
    /// Steps taken.
    pub step: u64,
    /// Pictures looked at.
    pub pictures: usize,
    /// Loss with each picture's own caption.
    pub right_caption: f64,
    /// Loss with the caption of another picture.
    pub shuffled_captions: f64,
    /// Loss without text.
    pub no_caption: f64,
}

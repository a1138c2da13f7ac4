//! Random numbers one after the other from one key.

use crate::rng::Rng;

/// A key and how often it was used.
pub(in crate::data) struct Dice {
    rng: Rng,
    thrown: u64,
}

impl Dice {
    pub(in crate::data) fn new(rng: Rng) -> Self {
        Self { rng, thrown: 0 }
    }

    /// A key of its own.
    pub(in crate::data) fn key(&mut self) -> Rng {
        self.thrown += 1;
        self.rng.fold(self.thrown)
    }

    /// A number below `n`.
    pub(in crate::data) fn below(&mut self, n: usize) -> usize {
        self.key().below(n as u64) as usize
    }

    /// Whether something of this probability happens.
    pub(in crate::data) fn happens(&mut self, probability: f64) -> bool {
        self.key().unit() < probability
    }

    /// A number in `low..high`.
    pub(in crate::data) fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.key().unit()
    }

    /// A number from `from` up to `to`.
    pub(in crate::data) fn within(&mut self, from: f32, to: f32) -> f32 {
        from + (to - from) * self.key().unit() as f32
    }

    /// One of these.
    ///
    /// # Panics
    /// If there are none.
    pub(in crate::data) fn one<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }

    /// The place of one of these weights, each as likely as it is heavy.
    pub(in crate::data) fn weighted(&mut self, weights: impl Iterator<Item = f64> + Clone) -> usize {
        let mut rest = self.key().unit() * weights.clone().sum::<f64>();
        let mut last = 0;
        for (place, weight) in weights.enumerate() {
            if weight > 0.0 {
                last = place;
                if rest < weight {
                    return place;
                }
                rest -= weight;
            }
        }
        last
    }
}

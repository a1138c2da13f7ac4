//! A look at every picture of a set before hours are spent on it: what cannot be read, what is small, what is there twice,
//! and the numbers of the rest.
//!
//! Pictures are looked at by several threads; the outcome does not depend on how many. Sums are of whole numbers, so that
//! they are exact. Nothing here judges: what is too small or too many, the caller says.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::channel;

use xxhash_rust::xxh64::xxh64;

use super::source::{Example, Source};
use crate::error::{Context, Result};
use crate::image::decode::{self, Stored};
use crate::image::{DecodeOptions, MAX_CHANNELS};

/// One picture.
#[derive(Clone, Debug, PartialEq)]
pub struct Look {
    /// Pixels in a row, upright.
    pub width: usize,
    /// Rows, upright.
    pub height: usize,
    /// How it is stored.
    pub stored: Stored,
    /// A digest, equal for pictures of equal size and pixels.
    pub content: u64,
    /// Sum and sum of squares of the bytes of each channel, as decoded.
    sums: [(u64, u64); MAX_CHANNELS],
}

/// What was seen of a set.
#[derive(Clone, Debug)]
pub struct Survey {
    /// The looks, or why there is none, by number of the example.
    pub looks: Vec<Result<Look, String>>,
    /// Channels as decoded.
    channels: usize,
}

/// Mean and standard deviation of a channel over all pixels; bytes are 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Moments {
    /// Mean.
    pub mean: f64,
    /// Standard deviation.
    pub std: f64,
}

impl Look {
    /// Reads and decodes one picture.
    ///
    /// # Errors
    /// As [`Source::picture`].
    pub fn at(source: &Source, example: &Example, options: &DecodeOptions) -> Result<Self> {
        let bytes = source.bytes(example, options.max_bytes)?;
        let (picture, stored) = decode::decode_stored(&bytes, options).context(|| source.called(example))?;
        let mut sums = [(0, 0); MAX_CHANNELS];
        for pixel in picture.pixels().chunks_exact(picture.channels()) {
            for ((sum, squares), &byte) in sums.iter_mut().zip(pixel) {
                *sum += u64::from(byte);
                *squares += u64::from(byte) * u64::from(byte);
            }
        }
        let content = xxh64(picture.pixels(), picture.width() as u64);
        Ok(Self { width: picture.width(), height: picture.height(), stored, content, sums })
    }

    /// The shorter side.
    pub fn side(&self) -> usize {
        self.width.min(self.height)
    }
}

impl Survey {
    /// Looks at every example with this many threads. `progress` is told how many are done, and may break; the survey is then
    /// none.
    pub fn take(
        source: &Source,
        options: &DecodeOptions,
        threads: usize,
        progress: &mut dyn FnMut(usize) -> ControlFlow<()>,
    ) -> Option<Self> {
        let examples = source.examples();
        let (next, stopped) = (AtomicUsize::new(0), AtomicBool::new(false));
        let (sender, receiver) = channel();
        let mut looks = vec![None; examples.len()];
        std::thread::scope(|scope| {
            for _ in 0..threads.max(1) {
                let (sender, next, stopped) = (sender.clone(), &next, &stopped);
                scope.spawn(move || {
                    while !stopped.load(Ordering::Relaxed) {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        let Some(example) = examples.get(number) else { return };
                        let look = Look::at(source, example, options).map_err(|e| format!("{e:#}"));
                        // Nobody listens any more after a break.
                        let _ = sender.send((number, look));
                    }
                });
            }
            drop(sender);
            for (done, (number, look)) in receiver.into_iter().enumerate() {
                looks[number] = Some(look);
                if progress(done + 1).is_break() {
                    stopped.store(true, Ordering::Relaxed);
                    break;
                }
            }
        });
        if stopped.into_inner() {
            return None;
        }
        let looks: Option<Vec<_>> = looks.into_iter().collect();
        looks.map(|looks| Self { looks, channels: options.channels })
    }

    /// The pictures that could be read, with their numbers.
    pub fn readable(&self) -> impl Iterator<Item = (usize, &Look)> {
        self.looks.iter().enumerate().filter_map(|(number, look)| Some((number, look.as_ref().ok()?)))
    }

    /// The pictures whose pixels are those of an earlier one: their numbers, and the earlier one's.
    pub fn copies(&self) -> Vec<(usize, usize)> {
        let mut seen = HashMap::new();
        let earlier = self.readable().filter_map(|(number, look)| {
            let first = *seen.entry((look.content, look.width, look.height)).or_insert(number);
            (first != number).then_some((number, first))
        });
        earlier.collect()
    }

    /// Mean and standard deviation of each channel over all pixels of all readable pictures; empty without any.
    pub fn moments(&self) -> Vec<Moments> {
        let pixels: u128 = self.readable().map(|(_, look)| (look.width * look.height) as u128).sum();
        if pixels == 0 {
            return Vec::new();
        }
        let moments = |channel: usize| {
            let sum: u128 = self.readable().map(|(_, look)| u128::from(look.sums[channel].0)).sum();
            let squares: u128 = self.readable().map(|(_, look)| u128::from(look.sums[channel].1)).sum();
            let mean = sum as f64 / pixels as f64 / 255.0;
            let variance = squares as f64 / pixels as f64 / (255.0 * 255.0) - mean * mean;
            Moments { mean, std: variance.max(0.0).sqrt() }
        };
        (0..self.channels).map(moments).collect()
    }
}

//! Quantiles of |x|, exact, for dynamic thresholding: one pass that counts, one that gathers a few candidates.
//!
//! The bits of a non-negative `f32` order as the number does, so their upper bits are bins of a histogram. The bins
//! that hold the wanted rank and its successor are found by counting; only their numbers, which for a high quantile
//! are few, are gathered and selected from. Both passes run on all threads, also for a single picture.

use crate::expect_len;
use crate::pool::for_each;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

/// Bins: the exponent's eight bits and the fraction's upper three.
const BINS: usize = 1 << 11;
const SHIFT: u32 = 31 - BINS.ilog2();

/// `quantiles[i]` = the quantile of |x| over picture i of x, which is `quantiles.len()` pictures of equal size.
///
/// `ratio` is in [0, 1] (0.995 is the 99.5th percentile). Between ranks the quantile is interpolated linearly, as
/// numpy and PyTorch have it by default. A number that is not one counts as larger than every number; the quantile
/// of an empty picture is not a number.
///
/// # Panics
/// If x does not hold whole pictures.
pub fn abs_quantiles(x: &[f32], ratio: f64, quantiles: &mut [f64]) {
    let size = x.len().checked_div(quantiles.len()).unwrap_or(0);
    expect_len("x", x, quantiles.len() * size);
    if size == 0 {
        return quantiles.fill(f64::NAN);
    }
    let position = ratio.clamp(0.0, 1.0) * (size - 1) as f64;
    let rank = position as usize;
    // Pieces of pictures, cut by shape.
    let piece = size.div_ceil(16).max(1 << 14);
    let pieces = size.div_ceil(piece);
    let of = |i: usize| {
        let (picture, first) = (i / pieces, i % pieces * piece);
        (picture, &x[picture * size + first..][..piece.min(size - first)])
    };
    let counts: Vec<AtomicU32> = (0..quantiles.len() * BINS).map(|_| AtomicU32::new(0)).collect();
    for_each(quantiles.len() * pieces, |i| {
        let (picture, numbers) = of(i);
        let counts = &counts[picture * BINS..][..BINS];
        for (total, count) in counts.iter().zip(histogram(numbers)).filter(|(_, count)| *count > 0) {
            total.fetch_add(count, Ordering::Relaxed);
        }
    });
    let windows: Vec<Window> = counts.chunks_exact(BINS).map(|counts| Window::around(rank, counts)).collect();
    for_each(quantiles.len() * pieces, |i| {
        let (picture, numbers) = of(i);
        windows[picture].gather(numbers);
    });
    for (quantile, window) in quantiles.iter_mut().zip(windows) {
        let (below, above) = window.select();
        let step = if position.fract() > 0.0 { position.fract() * (f64::from(above) - f64::from(below)) } else { 0.0 };
        *quantile = f64::from(below) + step;
    }
}

/// The bin of |x|.
fn bin(x: f32) -> usize {
    (x.abs().to_bits() >> SHIFT) as usize
}

/// How many of the numbers fall into each bin.
fn histogram(numbers: &[f32]) -> [u32; BINS] {
    // Two tables in turn: equal neighbours would wait for each other's counts.
    let mut counts = [[0; BINS]; 2];
    let [even, odd] = &mut counts;
    let (pairs, rest) = numbers.as_chunks();
    for [a, b] in pairs {
        even[bin(*a)] += 1;
        odd[bin(*b)] += 1;
    }
    rest.iter().for_each(|x| even[bin(*x)] += 1);
    even.iter_mut().zip(odd).for_each(|(even, odd)| *even += *odd);
    counts[0]
}

/// The numbers among which those of a rank and of the next one are.
struct Window {
    first: usize,
    last: usize,
    /// The rank, counted from the window's smallest number.
    rank: usize,
    numbers: Mutex<Vec<f32>>,
}

impl Window {
    /// The bins from that of `rank` to that of the next rank, if there is one.
    fn around(rank: usize, counts: &[AtomicU32]) -> Self {
        let mut below = 0;
        let mut bins = counts.iter().map(|count| count.load(Ordering::Relaxed) as usize).enumerate();
        let (first, count) = bins
            .by_ref()
            .find(|(_, count)| {
                below += count;
                below > rank
            })
            .expect("the rank is less than the number of numbers");
        let next = if below > rank + 1 { None } else { bins.find(|(_, count)| *count > 0) };
        let (last, more) = next.unwrap_or((first, 0));
        Self { first, last, rank: rank + count - below, numbers: Mutex::new(Vec::with_capacity(count + more)) }
    }

    /// Takes the magnitudes that are inside.
    fn gather(&self, numbers: &[f32]) {
        const BLOCK: usize = 1024;
        // The window's bins as a range of magnitudes' bits.
        let first = (self.first as u32) << SHIFT;
        let width = ((self.last as u32 + 1) << SHIFT) - first;
        for block in numbers.chunks(BLOCK) {
            // Each number is written, and overwritten unless it counts: quicker than a branch that nobody can guess.
            let (mut found, mut count) = ([0.0; BLOCK], 0);
            for x in block {
                let x = x.abs();
                found[count % BLOCK] = x;
                count += usize::from(x.to_bits().wrapping_sub(first) < width);
            }
            if count > 0 {
                let mut numbers = self.numbers.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
                numbers.extend_from_slice(&found[..count]);
            }
        }
    }

    /// The numbers of the rank and of the next one (of the rank again if it is the last).
    fn select(self) -> (f32, f32) {
        let mut numbers = self.numbers.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
        let (_, &mut below, rest) = numbers.select_nth_unstable_by(self.rank, f32::total_cmp);
        (below, rest.iter().copied().min_by(f32::total_cmp).unwrap_or(below))
    }
}

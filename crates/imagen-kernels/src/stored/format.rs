//! The forms in which weights are stored.

use crate::expect_len;
use crate::simd::Simd;

/// Weights `[c, k]` (or, where a function says so, `[k, c]`) as a file has them.
#[derive(Clone, Copy, Debug)]
pub enum Weights<'a> {
    /// Single-precision numbers.
    F32(&'a [f32]),
    /// Bits of half-precision numbers (IEEE binary16).
    F16(&'a [u16]),
    /// Bits of bfloat16 numbers.
    Bf16(&'a [u16]),
    /// Symmetric int8: a weight is its integer times the scale of its output feature.
    Int8 {
        /// The integers.
        integers: &'a [i8],
        /// One scale per output feature, `[k]`.
        scales: &'a [f32],
    },
}

/// The type of stored weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Single-precision numbers.
    F32,
    /// Half-precision numbers (IEEE binary16).
    F16,
    /// Bfloat16 numbers.
    Bf16,
    /// Integers of 8 bits with a scale for every output feature.
    Int8,
}

/// A type of stored weights.
pub(crate) trait Stored: Copy + Sync {
    /// What the memory holds.
    type Bits: Copy;

    /// Reads a vector of weights.
    ///
    /// # Safety
    /// As [`Simd::load`].
    unsafe fn load<V: Simd>(p: *const Self::Bits) -> V;
}

/// Implements [`Stored`] by one of the vector type's loads.
macro_rules! stored {
    ($($name:ident $bits:ty, $load:ident;)*) => { $(
        #[derive(Clone, Copy)]
        pub(crate) struct $name;
        impl Stored for $name {
            type Bits = $bits;

            #[inline(always)]
            unsafe fn load<V: Simd>(p: *const $bits) -> V {
                // SAFETY: the caller's.
                unsafe { V::$load(p) }
            }
        }
    )* };
}
stored! {
    F32 f32, load;
    F16 u16, load_f16;
    Bf16 u16, load_bf16;
    Int8 i8, load_i8;
}

/// Integers and scales of weights in rows, `[rows, columns]`: `integer = round(w / scale)` with
/// `scale = max |w| / 127` over the row (0 for a row of zeros), so that the error of a weight is at most half a scale.
///
/// # Panics
/// If the slice does not have the length of its shape.
pub fn quantize_rows(w: &[f32], rows: usize, columns: usize) -> (Vec<i8>, Vec<f32>) {
    expect_len("w", w, rows * columns);
    let mut integers = Vec::with_capacity(w.len());
    let mut scales = Vec::with_capacity(rows);
    for row in 0..rows {
        let row = &w[row * columns..][..columns];
        let scale = row.iter().fold(0.0, |largest: f32, w| largest.max(w.abs())) / 127.0;
        scales.push(scale);
        integers.extend(row.iter().map(|w| if scale > 0.0 { (w / scale).round_ties_even() as i8 } else { 0 }));
    }
    (integers, scales)
}

//! How a product's operands lie in memory, and the multiplication of two of them.

use super::Simd;
use std::marker::PhantomData;

/// Operands in units of 32 bits, each the numbers of [`Operands::STEP`] neighbouring depths.
pub(crate) trait Operands {
    /// The vector type of sums, and of what operands are made of.
    type V: Simd;
    /// A vector of units, as it is multiplied.
    type X: Copy;
    /// Depths of a unit.
    const STEP: usize;
    /// Whether numbers are rounded to bfloat16.
    const ROUNDED: bool;

    /// Reads `V::LANES` units.
    ///
    /// # Safety
    /// The instruction set must be available and `p` valid for reading them.
    unsafe fn load(p: *const f32) -> Self::X;

    /// The unit at `p` in every lane.
    ///
    /// # Safety
    /// The instruction set must be available and `p` valid for reading it.
    unsafe fn splat(p: *const f32) -> Self::X;

    /// `sum` and the products of all depths of the units.
    ///
    /// # Safety
    /// The instruction set must be available.
    unsafe fn mul_add(a: Self::X, b: Self::X, sum: Self::V) -> Self::V;

    /// Writes `V::LANES` neighbouring depths of a row, `V::LANES / STEP` units.
    ///
    /// # Safety
    /// `to` must be valid for writing them.
    unsafe fn store_row(depths: Self::V, to: *mut f32);

    /// Writes `V::LANES` units, each of the depths `first` and, where a unit has two, `second`.
    ///
    /// # Safety
    /// `to` must be valid for writing them.
    unsafe fn store_units(first: Self::V, second: Self::V, to: *mut f32);
}

/// Numbers kept and multiplied in f32, rounded to bfloat16 before where `ROUNDED`, for processors without instructions for it.
pub(crate) struct Plain<V, const ROUNDED: bool>(PhantomData<V>);

impl<V: Simd, const ROUNDED: bool> Operands for Plain<V, ROUNDED> {
    type V = V;
    type X = V;
    const STEP: usize = 1;
    const ROUNDED: bool = ROUNDED;

    #[inline(always)]
    unsafe fn load(p: *const f32) -> V {
        // SAFETY: passed on; so below.
        unsafe { V::load(p) }
    }

    #[inline(always)]
    unsafe fn splat(p: *const f32) -> V {
        // SAFETY: see `load`.
        unsafe { V::splat(*p) }
    }

    #[inline(always)]
    unsafe fn mul_add(a: V, b: V, sum: V) -> V {
        a.mul_add(b, sum)
    }

    #[inline(always)]
    unsafe fn store_row(depths: V, to: *mut f32) {
        // SAFETY: see `load`.
        unsafe { if ROUNDED { depths.to_bf16() } else { depths }.store(to) };
    }

    #[inline(always)]
    unsafe fn store_units(first: V, _: V, to: *mut f32) {
        // SAFETY: see `load`.
        unsafe { Self::store_row(first, to) };
    }
}

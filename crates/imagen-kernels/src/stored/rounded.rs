//! The product of rounded numbers: stored weights become operands of the plain product, some columns at a time.

use super::format::Stored;
use crate::kernel::OperandKernel;
use crate::linear;
use crate::pool::{Shared, for_each};
use crate::precision::Arithmetic;
use crate::rows::Epilogue;
use crate::scratch;
use crate::simd::{Operands, Simd};

/// Units of the weights that are operands at a time.
const AT_ONCE: usize = 1 << 22;

/// `y = epilogue(x w)` for x `[rows, c]`, y `[rows, k]` and w in panels, times the scales of k features if there are any.
///
/// # Safety
/// `w` must hold `[k / NR][c][NR]` numbers of the format, whatever their type.
pub(super) unsafe fn product<T: Stored>(
    on: Arithmetic,
    [rows, c, k]: [usize; 3],
    x: &[f32],
    w: &[f32],
    scales: &[f32],
    epilogue: Epilogue<'_>,
    y: &mut [f32],
) {
    let (panel, depth) = (on.panel(), on.depth(c));
    let panels = (AT_ONCE / (depth * panel).max(1)).max(1);
    for first in (0..k).step_by(panels * panel) {
        let columns = first..k.min(first + panels * panel);
        let count = columns.len().div_ceil(panel);
        let mut packed = scratch::take(count * depth * panel);
        let to = Shared::new(&mut packed);
        for_each(count, |j| {
            let column = first + j * panel;
            let scales = scales.get(column..).unwrap_or_default();
            // SAFETY: the panel of columns column.., by the contract; panels of operands do not overlap.
            unsafe {
                let (w, to) = (w.as_ptr().cast::<T::Bits>().add(column * c), to.get().add(j * depth * panel));
                on.run(PackStored::<T> { c, w, scales, to });
            }
        });
        linear::product(on, x, [rows, c, k], columns, &packed, epilogue, false, y);
    }
}

/// A panel as operands of a product, `[units of c][NR]`, times the scales of its columns if there are any.
///
/// Contract: `w` is valid for c rows of the panel, `to` for its units.
struct PackStored<'a, T: Stored> {
    c: usize,
    w: *const T::Bits,
    scales: &'a [f32],
    to: *mut f32,
}

impl<T: Stored> OperandKernel for PackStored<'_, T> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<O: Operands>(self) {
        let lanes = O::V::LANES;
        for half in [0, lanes] {
            // SAFETY: by the contract; a depth beyond the last one and a scale beyond the last column are not read.
            unsafe {
                let scale = match self.scales.len() {
                    0 => O::V::splat(1.0),
                    n => O::V::load_up_to(self.scales.as_ptr().wrapping_add(half), n.saturating_sub(half)),
                };
                let load = |p: usize| T::load::<O::V>(self.w.add(p * 2 * lanes + half)) * scale;
                for p in (0..self.c).step_by(O::STEP) {
                    let first = load(p);
                    let second = match O::STEP {
                        1 => first,
                        _ if p + 1 < self.c => load(p + 1),
                        _ => O::V::splat(0.0),
                    };
                    O::store_units(first, second, self.to.add(p / O::STEP * 2 * lanes + half));
                }
            }
        }
    }
}

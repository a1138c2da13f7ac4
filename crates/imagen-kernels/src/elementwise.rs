//! Operations without shape: sums, GELU with its gradient, the gate of T5; and concatenation of channels.
//! All threaded and memory-bound.

use crate::isa::Isa;
use crate::kernel::Kernel;
use crate::math;
use crate::pool::{Shared, for_each};
use crate::simd::Simd;

/// Numbers in one chunk of work.
const CHUNK: usize = 16 * 1024;

/// What is done to each number `y` of a chunk, given the number `x` at its place in another slice.
trait Each: Copy + Sync {
    fn apply<V: Simd>(self, x: V, y: V) -> V;
}

/// `to[i] = op(x[i], y[i])` over `len` numbers; `x` and `y` may be `to`.
struct Map<O> {
    op: O,
    x: *const f32,
    y: *const f32,
    to: *mut f32,
    len: usize,
}

impl<O: Each> Kernel for Map<O> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Simd>(self) {
        let mut i = 0;
        // SAFETY: all three are valid for `len` numbers; the tail is partial.
        unsafe {
            while i + V::LANES <= self.len {
                self.op.apply(V::load(self.x.add(i)), V::load(self.y.add(i))).store(self.to.add(i));
                i += V::LANES;
            }
            let n = self.len - i;
            if n > 0 {
                let (x, y) = (V::load_first(self.x.add(i), n), V::load_first(self.y.add(i), n));
                self.op.apply(x, y).store_first(self.to.add(i), n);
            }
        }
    }
}

/// `to = op(x, y)`; without `x` or `y`, that is what `to` holds.
fn map(op: impl Each, x: Option<&[f32]>, y: Option<&[f32]>, to: &mut [f32]) {
    let (isa, len) = (Isa::current(), to.len());
    assert!([x, y].into_iter().flatten().all(|given| given.len() == len), "the slices have different lengths");
    let to = Shared::new(to);
    for_each(len.div_ceil(CHUNK), |i| {
        let first = i * CHUNK;
        // SAFETY: equal lengths are asserted; chunks do not overlap.
        unsafe {
            let to = to.get().add(first);
            let [x, y] = [x, y].map(|given| given.map_or(to.cast_const(), |given| given.as_ptr().add(first)));
            isa.run(Map { op, x, y, to, len: CHUNK.min(len - first) });
        }
    });
}

/// Operations with at most one number of their own, by what becomes of `x` and `y`.
macro_rules! each {
    ($($name:ident { $($number:ident)? } ($x:ident, $y:pat) => $value:expr;)*) => {$(
        #[derive(Clone, Copy)]
        struct $name {
            $($number: f32)?
        }
        impl Each for $name {
            #[inline(always)]
            fn apply<V: Simd>(self, $x: V, $y: V) -> V {
                $(let $number = $x.all(self.$number);)?
                $value
            }
        }
    )*};
}
each! {
    Add { scale } (x, y) => (x + y) * scale;
    Scale { factor } (x, _) => x * factor;
    Gelu {} (x, _) => math::gelu(x);
    GeluBackward {} (x, dy) => dy * math::gelu_slope(x);
    GatedGeluTanh {} (x, y) => math::gelu_tanh(x) * y;
}

/// `y = (a + b) * scale`.
///
/// # Panics
/// If the lengths differ; so do all functions here.
pub fn add(a: &[f32], b: &[f32], scale: f32, y: &mut [f32]) {
    map(Add { scale }, Some(a), Some(b), y);
}

/// `y += x`.
pub fn add_assign(y: &mut [f32], x: &[f32]) {
    map(Add { scale: 1.0 }, Some(x), None, y);
}

/// `y *= factor`.
pub fn scale(y: &mut [f32], factor: f32) {
    map(Scale { factor }, None, None, y);
}

/// `y = x (1 + erf(x / sqrt 2)) / 2`, the exact GELU (absolute error below 1e-6).
pub fn gelu(x: &[f32], y: &mut [f32]) {
    map(Gelu {}, Some(x), Some(x), y);
}

/// Replaces the gradient of the output of [`gelu`] by the gradient of its input `x`.
pub fn gelu_backward(x: &[f32], dy_to_dx: &mut [f32]) {
    map(GeluBackward {}, Some(x), None, dy_to_dx);
}

/// `y = gelu_tanh(a) b` with `gelu_tanh(x) = x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2`, GELU as T5 ("gelu_new") has
/// it: the feed-forward gate of T5 1.1.
pub fn gated_gelu_tanh(a: &[f32], b: &[f32], y: &mut [f32]) {
    map(GatedGeluTanh {}, Some(a), Some(b), y);
}

/// Joins rows: `[.., ca]` and `[.., cb]` become `[.., ca + cb]`.
pub fn concat(a: &[f32], ca: usize, b: &[f32], cb: usize, y: &mut [f32]) {
    let rows = rows(a, ca, b, cb, y.len());
    let to = Shared::new(y);
    for_rows(rows, ca + cb, |r| {
        // SAFETY: `rows` checked the lengths; rows do not overlap.
        unsafe {
            let to = to.get().add(r * (ca + cb));
            to.copy_from_nonoverlapping(a.as_ptr().add(r * ca), ca);
            to.add(ca).copy_from_nonoverlapping(b.as_ptr().add(r * cb), cb);
        }
    });
}

/// The inverse of [`concat()`]: cuts rows `[.., ca + cb]` into `[.., ca]` and `[.., cb]`.
pub fn split(y: &[f32], ca: usize, cb: usize, a: &mut [f32], b: &mut [f32]) {
    let rows = rows(a, ca, b, cb, y.len());
    let (a, b) = (Shared::new(a), Shared::new(b));
    for_rows(rows, ca + cb, |r| {
        // SAFETY: `rows` checked the lengths; rows do not overlap.
        unsafe {
            let from = y.as_ptr().add(r * (ca + cb));
            a.get().add(r * ca).copy_from_nonoverlapping(from, ca);
            b.get().add(r * cb).copy_from_nonoverlapping(from.add(ca), cb);
        }
    });
}

/// The number of rows that three slices agree on.
#[track_caller]
fn rows(a: &[f32], ca: usize, b: &[f32], cb: usize, joined: usize) -> usize {
    let rows = joined.checked_div(ca + cb).unwrap_or(0);
    assert!(
        joined == rows * (ca + cb) && a.len() == rows * ca && b.len() == rows * cb,
        "rows of {ca} and {cb} do not fit slices of {}, {} and {joined} numbers",
        a.len(),
        b.len()
    );
    rows
}

fn for_rows(rows: usize, width: usize, f: impl Fn(usize) + Sync) {
    let chunk = (CHUNK / width.max(1)).max(1);
    for_each(rows.div_ceil(chunk), |i| (i * chunk..((i + 1) * chunk).min(rows)).for_each(&f));
}

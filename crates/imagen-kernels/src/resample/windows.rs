//! Windows of 3x3 pixels pooled, on `[n, h, w, c]`, for inference.

use crate::expect_len;
use crate::isa::Isa;
use crate::kernel::Kernel;
use crate::pool::{Shared, for_each};
use crate::simd::Simd;
use std::ops::Range;

/// What becomes of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Pooling {
    /// The mean of what of the picture is in it.
    Mean,
    /// The largest number.
    Largest,
}

/// Pooling by windows of 3x3 pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Pool3x3 {
    /// Pictures in the batch.
    pub n: usize,
    /// Height of the input.
    pub h: usize,
    /// Width of the input.
    pub w: usize,
    /// Channels.
    pub c: usize,
    /// What becomes of a window.
    pub pooling: Pooling,
    /// 1: a window around every pixel. 2: windows that lie inside the picture, two pixels apart.
    pub stride: usize,
}

impl Pool3x3 {
    /// Height and width of the output.
    pub fn out(&self) -> [usize; 2] {
        [self.h, self.w].map(|size| match self.stride {
            1 => size,
            _ => size.checked_sub(3).map_or(0, |rest| rest / 2 + 1),
        })
    }

    /// Rows or columns of window number `i`.
    #[inline(always)]
    fn window(&self, i: usize, size: usize) -> Range<usize> {
        match self.stride {
            1 => i.saturating_sub(1)..(i + 2).min(size),
            _ => 2 * i..2 * i + 3,
        }
    }

    /// `y[n, oh, ow, c]` from `x[n, h, w, c]`.
    ///
    /// # Panics
    /// If the stride is neither 1 nor 2, or a slice does not have the length of its shape.
    pub fn forward(&self, x: &[f32], y: &mut [f32]) {
        let Self { n, h, w, c, stride, .. } = *self;
        let [oh, ow] = self.out();
        assert!(stride == 1 || stride == 2, "stride {stride} is neither 1 nor 2");
        expect_len("x", x, n * h * w * c);
        expect_len("y", y, n * oh * ow * c);
        let isa = Isa::current();
        let to = Shared::new(y);
        for_each(n * oh, |line| {
            let (picture, rows) = (line / oh, self.window(line % oh, h));
            let x = &x[picture * h * w * c..][..h * w * c];
            // SAFETY: row `line` of y; rows do not overlap.
            unsafe { isa.run(Line { pool: self, x, rows, to: to.get().add(line * ow * c) }) };
        });
    }
}

/// A row of outputs.
///
/// Contract: `x` is a picture, `rows` are of it, `to` is writable for a row of outputs.
struct Line<'a> {
    pool: &'a Pool3x3,
    x: &'a [f32],
    rows: Range<usize>,
    to: *mut f32,
}

impl Kernel for Line<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Simd>(self) {
        let Pool3x3 { w, c, pooling, .. } = *self.pool;
        for j in 0..self.pool.out()[1] {
            let columns = self.pool.window(j, w);
            let mut q = 0;
            while q < c {
                let left = c - q;
                // SAFETY: channels q.. of pixels of the window and of output j; there is no window without a pixel.
                unsafe {
                    let at = |row: usize, column: usize| self.x.as_ptr().add((row * w + column) * c + q);
                    let mut y = V::load_up_to(at(self.rows.start, columns.start), left);
                    for (row, column) in
                        self.rows.clone().flat_map(|row| columns.clone().map(move |column| (row, column))).skip(1)
                    {
                        let pixel = V::load_up_to(at(row, column), left);
                        y = if pooling == Pooling::Mean { y + pixel } else { y.max(pixel) };
                    }
                    if pooling == Pooling::Mean {
                        y = y * V::splat(1.0 / (self.rows.len() * columns.len()) as f32);
                    }
                    y.store_up_to(self.to.add(j * c + q), left);
                }
                q += V::LANES;
            }
        }
    }
}

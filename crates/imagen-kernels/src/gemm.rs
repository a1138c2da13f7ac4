//! Matrix products on packed panels: the micro-kernel that every convolution, linear layer and attention runs on.
//!
//! The right-hand operand B (k x n) is packed into panels of two vectors: `[n / NR][k][NR]`, zero-padded to a whole
//! panel. The left-hand operand A is read in place with any row and column stride (so that `A^T` costs nothing),
//! one broadcast per number. C is written with a mask at its right edge, so n may be anything.

// Small matrices of vectors are indexed by row and column.
#![allow(clippy::needless_range_loop)]

mod ahead;
mod pack;

pub(crate) use ahead::{Ahead, Region};
pub(crate) use pack::{LayColumns, LayRows, PackPanel, PackTransposedPanel, pack, pack_transposed, packed_len};

use crate::isa::Isa;
use crate::kernel::OperandKernel;
use crate::precision::Arithmetic;
use crate::simd::{Operands, Simd};
use ahead::Asking;
use std::ptr;

/// Depth of one pass: a panel of this depth stays in the first-level cache.
pub(crate) const DEPTH: usize = 256;

/// A distance between rows of A that is compiled in: who lays A out itself may choose it.
pub(crate) const ROW: usize = 64;

/// C (m x n) = A (m x k) B, or += if `accumulate`.
///
/// Contract: `a` is readable at `i * a_row + p * a_col` for i < m, p < k, and one of the two distances is 1; `b` points to `ceil(n / NR)` panels that
/// are `b_panel` numbers apart; `c` is writable at `i * c_row + j` for j < n.
#[derive(Clone, Copy)]
pub(crate) struct Gemm {
    pub(crate) m: usize,
    pub(crate) k: usize,
    pub(crate) n: usize,
    pub(crate) a: *const f32,
    pub(crate) a_row: usize,
    pub(crate) a_col: usize,
    pub(crate) b: *const f32,
    pub(crate) b_panel: usize,
    pub(crate) c: *mut f32,
    pub(crate) c_row: usize,
    pub(crate) accumulate: bool,
}

impl Gemm {
    /// Runs the product with the depth cut into passes of [`DEPTH`].
    ///
    /// # Safety
    /// The instruction set must be available and the contract of [`Gemm`] must hold.
    #[inline(always)]
    pub(crate) unsafe fn run_deep(self, on: Arithmetic) {
        // SAFETY: the caller's.
        unsafe { self.run_deep_onto(on, ptr::null(), Ahead::NOTHING) }
    }

    /// As [`Gemm::run_deep`], on top of a row of n numbers, which may be null and goes not together with `accumulate`; asks
    /// for the memory `ahead`.
    ///
    /// # Safety
    /// As for [`Gemm::run_deep`].
    #[inline(always)]
    pub(crate) unsafe fn run_deep_onto(self, on: Arithmetic, bias: *const f32, ahead: Ahead) {
        debug_assert!(bias.is_null() || !self.accumulate, "a bias is what sums begin with");
        if self.k == 0 && !self.accumulate {
            // SAFETY: no depth: C is the bias, or zero.
            return unsafe { self.run_onto(on, bias, Ahead::NOTHING) };
        }
        let mut p = 0;
        while p < self.k {
            let part = Gemm {
                k: DEPTH.min(self.k - p),
                // SAFETY: inside A and B.
                a: unsafe { self.a.add(p * self.a_col) },
                // SAFETY: inside A and B.
                b: unsafe { self.b.add(p * on.panel()) },
                accumulate: self.accumulate || p > 0,
                ..self
            };
            let bias = if p == 0 { bias } else { ptr::null() };
            // SAFETY: a slice of the whole product.
            unsafe { part.run_onto(on, bias, if p == 0 { ahead } else { Ahead::NOTHING }) };
            p += DEPTH;
        }
    }
}

impl Gemm {
    /// The product, of a depth that needs no passes.
    ///
    /// # Safety
    /// As for [`Gemm::run_deep`].
    pub(crate) unsafe fn run(self, on: Arithmetic) {
        // SAFETY: the caller's.
        unsafe { self.run_onto(on, ptr::null(), Ahead::NOTHING) }
    }

    /// The product on top of a row of n numbers, which may be null; asks for the memory `ahead`.
    ///
    /// # Safety
    /// The instruction set must be available and the contract of [`Gemm`] must hold.
    pub(crate) unsafe fn run_onto(self, on: Arithmetic, bias: *const f32, ahead: Ahead) {
        // Each of these is compiled by itself; a constant distance between rows needs no address arithmetic in the inner loop.
        // SAFETY: passed on.
        unsafe {
            match (self.a_row, self.a_col, ahead.is_nothing()) {
                (ROW, 1, true) => on.multiply(Onto::<false, ROW, 1> { product: self, bias, ahead }),
                (_, 1, true) => on.multiply(Onto::<false, 0, 1> { product: self, bias, ahead }),
                (_, 1, false) => on.multiply(Onto::<true, 0, 1> { product: self, bias, ahead }),
                (1, _, true) => on.multiply(Onto::<false, 1, 0> { product: self, bias, ahead }),
                (1, _, false) => on.multiply(Onto::<true, 1, 0> { product: self, bias, ahead }),
                (row, column, _) => {
                    panic!("A is neither row-major nor column-major, its distances are {row} and {column}")
                }
            }
        }
    }
}

/// A product on top of a row of n numbers, which may be null, and what to ask for on the way if `ASK`; rows and columns of A
/// are `ROW` and `COL` apart where those are not 0.
struct Onto<const ASK: bool, const ROW: usize, const COL: usize> {
    product: Gemm,
    bias: *const f32,
    ahead: Ahead,
}

/// Steps of depth in one round of the inner loop.
const UNROLL: usize = 4;

impl<const ASK: bool, const ROW: usize, const COL: usize> OperandKernel for Onto<ASK, ROW, COL> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<O: Operands>(self) {
        let Self { product, bias, ahead } = self;
        // SAFETY: passed on.
        unsafe { product.all::<O, ASK, ROW, COL>(bias, ahead) };
    }
}

/// The most rows of a block of `vectors` vectors that an instruction set has registers for; rows are at any distance where
/// `row` is 0.
const fn most(isa: Isa, row: usize, vectors: usize) -> usize {
    match (isa, vectors) {
        // More do not leave registers for the addresses of rows.
        (Isa::Avx512, 2) if row == 0 => 12,
        (Isa::Avx512, _) => 14,
        // A panel of one vector has room for twice the rows.
        (Isa::Avx2, 2) => 6,
        (Isa::Neon | Isa::Avx2, _) => 12,
        (Isa::Portable, 2) => 4,
        (Isa::Portable, _) => 8,
    }
}

/// Calls a block of `$rows` rows; blocks that are too large for the instruction set are not compiled.
macro_rules! with_rows {
    ($self:ident, $rows:ident, $o:ty, $ask:ident, $row:ident, $col:ident, $vectors:literal, $i:expr, $j:expr, $bias:expr, $asking:expr; $($r:literal)*) => {
        match $rows {
            $($r => {
                if const { $r <= most(<$o as Operands>::V::ISA, $row, $vectors) } {
                    $self.block::<$o, $ask, $row, $col, $vectors, $r>($i, $j, $bias, $asking);
                } else {
                    unreachable!("a group has no more rows than its block");
                }
            })*
            _ => unreachable!("a group has 1..=most rows"),
        }
    };
}

/// `$body` for each row below `$rows`, at most 14, one after the other. A loop over all 14 is not always unrolled by
/// the compiler, and sums that a loop indexes live in memory.
macro_rules! each_row {
    ($rows:ident, |$r:ident| $body:expr) => {
        each_row!(@ $rows, $r, $body; 0 1 2 3 4 5 6 7 8 9 10 11 12 13)
    };
    (@ $rows:ident, $r:ident, $body:expr; $($number:literal)*) => {
        $(if $number < $rows {
            let $r: usize = $number;
            $body;
        })*
    };
}

impl Gemm {
    /// The whole product; rows and columns of A are `ROW` and `COL` apart where those are not 0.
    #[inline(always)]
    unsafe fn all<O: Operands, const ASK: bool, const ROW: usize, const COL: usize>(
        &self,
        bias: *const f32,
        ahead: Ahead,
    ) {
        if self.m == 0 {
            return;
        }
        let panels = self.n.div_ceil(2 * O::V::LANES);
        let mut asking = Asking::NOTHING;
        for j in 0..panels {
            let narrow = self.n - j * 2 * O::V::LANES <= O::V::LANES;
            let most = most(O::V::ISA, ROW, if narrow { 1 } else { 2 });
            // Rows in nearly equal groups rather than full ones and a small rest.
            let groups = self.m.div_ceil(most);
            let (short, longer) = (self.m / groups, self.m % groups);
            if ASK && j == 0 {
                asking = Asking::new(ahead, panels * groups * (self.k / UNROLL));
            }
            let asking = &mut asking;
            let mut i = 0;
            for group in 0..groups {
                let rows = short + usize::from(group < longer);
                // SAFETY: rows i.. and panel j are inside the product.
                unsafe {
                    if narrow {
                        /// Little to multiply: nothing to hide behind.
                        const NEVER: bool = false;
                        with_rows!(self, rows, O, NEVER, ROW, COL, 1, i, j, bias, asking; 1 2 3 4 5 6 7 8 9 10 11 12 13 14);
                    } else {
                        with_rows!(self, rows, O, ASK, ROW, COL, 2, i, j, bias, asking; 1 2 3 4 5 6 7 8 9 10 11 12 13 14);
                    }
                }
                i += rows;
            }
        }
    }

    /// Rows i..i + R, the first N vectors of panel j.
    #[inline(always)]
    unsafe fn block<
        O: Operands,
        const ASK: bool,
        const ROW: usize,
        const COL: usize,
        const N: usize,
        const R: usize,
    >(
        &self,
        i: usize,
        j: usize,
        bias: *const f32,
        asking: &mut Asking,
    ) {
        let lanes = O::V::LANES;
        let a_row = if ROW == 0 { self.a_row } else { ROW };
        let a_col = if COL == 0 { self.a_col } else { COL };
        // SAFETY: every address is inside the operands by the contract of `Gemm`.
        unsafe {
            let zero = O::V::splat(0.0);
            let mut sums = [[zero; N]; R];
            let first = j * 2 * lanes;
            let width = self.n - first;
            if !bias.is_null() {
                let mut row = [zero; N];
                for n in 0..N {
                    row[n] = O::V::load_up_to(bias.wrapping_add(first + n * lanes), width.saturating_sub(n * lanes));
                }
                sums = [row; R];
            }
            // Rows by threes from pointers of their own: their distance fits into the address, so that the loop is
            // multiplications and loads and hardly anything else.
            let mut a = [self.a; 5];
            for (g, a) in a.iter_mut().enumerate() {
                *a = self.a.wrapping_add((i + 3 * g) * a_row);
            }
            let mut b = self.b.add(j * self.b_panel);
            for _ in 0..self.k / UNROLL {
                if ASK {
                    asking.step();
                }
                steps::<O, N, R, UNROLL>(a, a_row, a_col, b, &mut sums);
                a = a.map(|a| a.wrapping_add(UNROLL * a_col));
                b = b.wrapping_add(UNROLL * 2 * lanes);
            }
            for _ in 0..self.k % UNROLL {
                steps::<O, N, R, 1>(a, a_row, a_col, b, &mut sums);
                a = a.map(|a| a.wrapping_add(a_col));
                b = b.wrapping_add(2 * lanes);
            }
            let c = self.c.add(i * self.c_row + first);
            if width < N * lanes {
                each_row!(R, |r| for n in 0..N {
                    let (c, width) = (c.wrapping_add(r * self.c_row + n * lanes), width.saturating_sub(n * lanes));
                    let old = if self.accumulate { O::V::load_up_to(c, width) } else { zero };
                    (sums[r][n] + old).store_up_to(c, width);
                });
            } else if self.accumulate {
                each_row!(R, |r| for n in 0..N {
                    let c = c.add(r * self.c_row + n * lanes);
                    (sums[r][n] + O::V::load(c)).store(c);
                });
            } else {
                each_row!(R, |r| for n in 0..N {
                    sums[r][n].store(c.add(r * self.c_row + n * lanes));
                });
            }
        }
    }
}

/// S steps of depth of R rows and N vectors; row r of A starts at `a[r / 3] + r % 3 * a_row`.
///
/// # Safety
/// The instruction set must be available; A and the panel B must hold S steps.
#[inline(always)]
unsafe fn steps<O: Operands, const N: usize, const R: usize, const S: usize>(
    a: [*const f32; 5],
    a_row: usize,
    a_col: usize,
    b: *const f32,
    sums: &mut [[O::V; N]; R],
) {
    for step in 0..S {
        // SAFETY: by the contract.
        unsafe {
            let mut columns = [O::load(b.add(step * 2 * O::V::LANES)); N];
            for n in 1..N {
                columns[n] = O::load(b.add((step * 2 + n) * O::V::LANES));
            }
            each_row!(R, |r| {
                let x = O::splat(a[r / 3].add(r % 3 * a_row + step * a_col));
                for n in 0..N {
                    sums[r][n] = O::mul_add(x, columns[n], sums[r][n]);
                }
            });
        }
    }
}

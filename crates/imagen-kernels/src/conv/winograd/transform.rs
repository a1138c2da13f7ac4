//! The one-dimensional transforms B^T, A^T, A, G, G^T of F(4, 3) and F(2, 3), on vectors of channels.
//!
//! Two-dimensional ones are these on columns, then on rows. Arrays have the size of F(4, 3); F(2, 3) uses the first
//! 4 inputs and 2 outputs of each and repeats something in the rest.

use crate::simd::{Operands, Simd};

/// A minimal filtering algorithm F(OUT, 3).
pub(crate) trait Transform: Copy + Send + Sync + 'static {
    /// Outputs of a tile, along one axis.
    const OUT: usize;
    /// Inputs of a tile, along one axis.
    const IN: usize = Self::OUT + 2;
    /// Points of a tile.
    const POINTS: usize = Self::IN * Self::IN;
    /// Whether it is for rounded operands, or for others; absent where it is for either. What it is not for is not compiled.
    const ROUNDED: Option<bool> = None;

    /// B^T d: inputs to points.
    fn input<V: Simd>(d: [V; 6]) -> [V; 6];
    /// A^T m: points to outputs.
    fn output<V: Simd>(m: [V; 6]) -> [V; 4];
    /// A y: gradients of outputs to points.
    fn output_adjoint<V: Simd>(y: [V; 4]) -> [V; 6];
    /// G w: taps to points.
    fn weight<V: Simd>(w: [V; 3]) -> [V; 6];
    /// G^T u: gradients of points to taps.
    fn weight_adjoint<V: Simd>(u: [V; 6]) -> [V; 3];
}

/// Whether a transform is for such operands.
pub(super) const fn fits<T: Transform, O: Operands>() -> bool {
    match T::ROUNDED {
        Some(rounded) => rounded == O::ROUNDED,
        None => true,
    }
}

/// F(4, 3) with the points 0, ±1, ±2, infinity.
#[derive(Clone, Copy)]
pub(crate) struct F4;

impl Transform for F4 {
    const OUT: usize = 4;
    const ROUNDED: Option<bool> = Some(false);

    #[inline(always)]
    fn input<V: Simd>(d: [V; 6]) -> [V; 6] {
        let (two, four, five) = (d[0].all(2.0), d[0].all(4.0), d[0].all(5.0));
        let (p, q) = (d[2].neg_mul_add(four, d[4]), d[1].neg_mul_add(four, d[3]));
        let (r, s) = (d[4] - d[2], d[3] - d[1]);
        [
            d[2].neg_mul_add(five, d[0].mul_add(four, d[4])),
            p + q,
            p - q,
            s.mul_add(two, r),
            s.neg_mul_add(two, r),
            d[3].neg_mul_add(five, d[1].mul_add(four, d[5])),
        ]
    }

    #[inline(always)]
    fn output<V: Simd>(m: [V; 6]) -> [V; 4] {
        let (two, four, eight) = (m[0].all(2.0), m[0].all(4.0), m[0].all(8.0));
        let (p, q) = (m[1] + m[2], m[1] - m[2]);
        let (r, s) = (m[3] + m[4], m[3] - m[4]);
        [m[0] + p + r, s.mul_add(two, q), r.mul_add(four, p), s.mul_add(eight, q) + m[5]]
    }

    #[inline(always)]
    fn output_adjoint<V: Simd>(y: [V; 4]) -> [V; 6] {
        let (two, four) = (y[0].all(2.0), y[0].all(4.0));
        let (even, odd) = (y[0] + y[2], y[1] + y[3]);
        let (even2, odd2) = (y[2].mul_add(four, y[0]), y[3].mul_add(four, y[1]) * two);
        [y[0], even + odd, even - odd, even2 + odd2, even2 - odd2, y[3]]
    }

    #[inline(always)]
    fn weight<V: Simd>(w: [V; 3]) -> [V; 6] {
        let sixth = w[0].all(1.0 / 6.0);
        let (p, q) = ((w[0] + w[2]) * w[0].all(-1.0 / 6.0), w[1] * sixth);
        let (r, s) = (w[0].mul_add(w[0].all(1.0 / 24.0), w[2] * sixth), w[1] * w[0].all(1.0 / 12.0));
        [w[0] * w[0].all(0.25), p - q, p + q, r + s, r - s, w[2]]
    }

    #[inline(always)]
    fn weight_adjoint<V: Simd>(u: [V; 6]) -> [V; 3] {
        let sixth = u[0].all(1.0 / 6.0);
        let (p, q) = (u[1] + u[2], u[2] - u[1]);
        let (r, s) = (u[3] + u[4], u[3] - u[4]);
        [
            r.mul_add(u[0].all(1.0 / 24.0), p.neg_mul_add(sixth, u[0] * u[0].all(0.25))),
            s.mul_add(u[0].all(1.0 / 12.0), q * sixth),
            (r - p).mul_add(sixth, u[5]),
        ]
    }
}

/// F(4, 3) with the points 0, ±2/3, ±3/2, infinity, for operands of few bits: of those in use for such tiles they lose least
/// (the products' error in bfloat16 is 0.43 of that with 0, ±1, ±2).
#[derive(Clone, Copy)]
pub(crate) struct RoundedF4;

/// The points ±a and ±1/a.
const A: f32 = 2.0 / 3.0;
const B: f32 = 1.5;
/// a² + 1/a²
const S: f32 = A * A + B * B;
/// The products of the distances to the other points, of ±a and of ±1/a.
const FA: f32 = 2.0 * A * A * (A * A - B * B);
const FB: f32 = 2.0 * B * B * (B * B - A * A);

impl Transform for RoundedF4 {
    const OUT: usize = 4;
    const ROUNDED: Option<bool> = Some(true);

    #[inline(always)]
    fn input<V: Simd>(d: [V; 6]) -> [V; 6] {
        let all = |x: f32| d[0].all(x);
        // d4 - b² d2 ± (a d3 - b d1), and with a and b exchanged.
        let (p, q) = (d[2].neg_mul_add(all(B * B), d[4]), d[1].neg_mul_add(all(B), d[3] * all(A)));
        let (r, s) = (d[2].neg_mul_add(all(A * A), d[4]), d[1].neg_mul_add(all(A), d[3] * all(B)));
        [d[2].neg_mul_add(all(S), d[0] + d[4]), p + q, p - q, r + s, r - s, d[3].neg_mul_add(all(S), d[1] + d[5])]
    }

    #[inline(always)]
    fn output<V: Simd>(m: [V; 6]) -> [V; 4] {
        let all = |x: f32| m[0].all(x);
        let (p, q) = (m[1] + m[2], m[1] - m[2]);
        let (r, s) = (m[3] + m[4], m[3] - m[4]);
        [
            m[0] + p + r,
            s.mul_add(all(B), q * all(A)),
            r.mul_add(all(B * B), p * all(A * A)),
            s.mul_add(all(B * B * B), q.mul_add(all(A * A * A), m[5])),
        ]
    }

    #[inline(always)]
    fn output_adjoint<V: Simd>(y: [V; 4]) -> [V; 6] {
        let all = |x: f32| y[0].all(x);
        let (even_a, odd_a) = (y[2].mul_add(all(A * A), y[0]), y[3].mul_add(all(A * A), y[1]) * all(A));
        let (even_b, odd_b) = (y[2].mul_add(all(B * B), y[0]), y[3].mul_add(all(B * B), y[1]) * all(B));
        [y[0], even_a + odd_a, even_a - odd_a, even_b + odd_b, even_b - odd_b, y[3]]
    }

    #[inline(always)]
    fn weight<V: Simd>(w: [V; 3]) -> [V; 6] {
        let all = |x: f32| w[0].all(x);
        let (p, q) = (w[2].mul_add(all(A * A / FA), w[0] * all(1.0 / FA)), w[1] * all(A / FA));
        let (r, s) = (w[2].mul_add(all(B * B / FB), w[0] * all(1.0 / FB)), w[1] * all(B / FB));
        [w[0], p + q, p - q, r + s, r - s, w[2]]
    }

    #[inline(always)]
    fn weight_adjoint<V: Simd>(u: [V; 6]) -> [V; 3] {
        let all = |x: f32| u[0].all(x);
        let (p, q) = (u[1] + u[2], u[1] - u[2]);
        let (r, s) = (u[3] + u[4], u[3] - u[4]);
        [
            r.mul_add(all(1.0 / FB), p.mul_add(all(1.0 / FA), u[0])),
            s.mul_add(all(B / FB), q * all(A / FA)),
            r.mul_add(all(B * B / FB), p.mul_add(all(A * A / FA), u[5])),
        ]
    }
}

/// F(2, 3) with the points 0, ±1, infinity.
#[derive(Clone, Copy)]
pub(crate) struct F2;

impl Transform for F2 {
    const OUT: usize = 2;

    #[inline(always)]
    fn input<V: Simd>(d: [V; 6]) -> [V; 6] {
        [d[0] - d[2], d[1] + d[2], d[2] - d[1], d[1] - d[3], d[4], d[5]]
    }

    #[inline(always)]
    fn output<V: Simd>(m: [V; 6]) -> [V; 4] {
        [m[0] + (m[1] + m[2]), (m[1] - m[2]) - m[3], m[4], m[5]]
    }

    #[inline(always)]
    fn output_adjoint<V: Simd>(y: [V; 4]) -> [V; 6] {
        [y[0], y[0] + y[1], y[0] - y[1], y[1] * y[1].all(-1.0), y[2], y[3]]
    }

    #[inline(always)]
    fn weight<V: Simd>(w: [V; 3]) -> [V; 6] {
        let half = w[0].all(0.5);
        let (p, q) = ((w[0] + w[2]) * half, w[1] * half);
        [w[0], p + q, p - q, w[2], w[2], w[2]]
    }

    #[inline(always)]
    fn weight_adjoint<V: Simd>(u: [V; 6]) -> [V; 3] {
        let half = u[0].all(0.5);
        let p = (u[1] + u[2]) * half;
        [u[0] + p, (u[1] - u[2]) * half, u[3] + p]
    }
}

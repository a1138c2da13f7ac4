//! The one-dimensional transforms B^T, A^T, A, G, G^T of F(4, 3) and F(2, 3), on vectors of channels.
//!
//! Two-dimensional ones are these on columns, then on rows. Arrays have the size of F(4, 3); F(2, 3) uses the first
//! 4 inputs and 2 outputs of each and repeats something in the rest.

use crate::simd::Simd;

/// A minimal filtering algorithm F(OUT, 3).
pub(crate) trait Transform: Copy + Send + Sync + 'static {
    /// Outputs of a tile, along one axis.
    const OUT: usize;
    /// Inputs of a tile, along one axis.
    const IN: usize = Self::OUT + 2;
    /// Points of a tile.
    const POINTS: usize = Self::IN * Self::IN;

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

/// F(4, 3) with the points 0, ±1, ±2, infinity.
#[derive(Clone, Copy)]
pub(crate) struct F4;

impl Transform for F4 {
    const OUT: usize = 4;

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

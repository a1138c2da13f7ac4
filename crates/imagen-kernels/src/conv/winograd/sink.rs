//! Where the points of a transform go: a vector of each to its plane.

use crate::simd::{Operands, Simd};

/// Takes the points of a transform one by one.
pub(super) trait Sink<V> {
    /// Takes point `xi`.
    ///
    /// # Safety
    /// The instruction set must be available, and the planes writable at the vector's place.
    unsafe fn put(&mut self, xi: usize, x: V);
}

/// To rows of operands, which are vectors of depths or, where a unit is one depth, of anything.
pub(super) struct Rows<O> {
    to: *mut f32,
    plane: usize,
    of: std::marker::PhantomData<O>,
}

impl<O: Operands> Rows<O> {
    /// Planes are `plane` units apart.
    #[inline(always)]
    pub(super) fn new(to: *mut f32, plane: usize) -> Self {
        Self { to, plane, of: std::marker::PhantomData }
    }
}

impl<O: Operands> Sink<O::V> for Rows<O> {
    #[inline(always)]
    unsafe fn put(&mut self, xi: usize, x: O::V) {
        // SAFETY: the caller's.
        unsafe { O::store_row(x, self.to.add(xi * self.plane)) };
    }
}

/// Kept until the points of the next depth are there.
pub(super) struct Keep<V>([V; 36]);

impl<V: Simd> Keep<V> {
    /// Of no points yet.
    ///
    /// # Safety
    /// The instruction set must be available.
    #[inline(always)]
    pub(super) unsafe fn new() -> Self {
        // SAFETY: the caller's.
        Self(unsafe { [V::splat(0.0); 36] })
    }
}

impl<V: Simd> Sink<V> for Keep<V> {
    #[inline(always)]
    unsafe fn put(&mut self, xi: usize, x: V) {
        self.0[xi] = x;
    }
}

/// To units of two depths, the first of which was kept.
pub(super) struct Units<'a, O: Operands> {
    first: &'a Keep<O::V>,
    to: *mut f32,
    plane: usize,
}

impl<'a, O: Operands> Units<'a, O> {
    /// Planes are `plane` units apart.
    #[inline(always)]
    pub(super) fn new(first: &'a Keep<O::V>, to: *mut f32, plane: usize) -> Self {
        Self { first, to, plane }
    }
}

impl<O: Operands> Sink<O::V> for Units<'_, O> {
    #[inline(always)]
    unsafe fn put(&mut self, xi: usize, x: O::V) {
        // SAFETY: the caller's.
        unsafe { O::store_units(self.first.0[xi], x, self.to.add(xi * self.plane)) };
    }
}

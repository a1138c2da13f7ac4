//! Tensors of the CPU as slices, and slices as tensors.

use burn::backend::flex::{FlexTensor, Layout};
use burn::tensor::{Bytes, DType, Shape};

use super::pool;

pub(super) type T = FlexTensor;

/// (which parents want a gradient, gradient of the output) → gradients of the parents.
pub(super) type BackwardFn<const N: usize> = dyn Fn([bool; N], T) -> [Option<T>; N] + Send + Sync;

/// The tensor with its elements in row-major order.
pub(super) fn contiguous(t: T) -> T {
    if t.as_slice::<f32>().is_some() { t } else { t.to_contiguous() }
}

pub(super) fn slice(t: &T) -> &[f32] {
    t.as_slice::<f32>().expect("operations make their inputs contiguous f32 first")
}

pub(super) fn dims<const D: usize>(t: &T) -> [usize; D] {
    t.layout().shape().to_vec().try_into().expect("the wrapper in `ops` fixes the rank")
}

pub(super) fn tensor(data: Vec<f32>, shape: Shape) -> T {
    FlexTensor::new(Bytes::from_elems(data), Layout::contiguous(shape), DType::F32)
}

/// A new tensor whose every element `fill` writes.
pub(super) fn filled(shape: impl Into<Shape>, fill: impl FnOnce(&mut [f32])) -> T {
    let shape = shape.into();
    let mut data = pool::take(shape.num_elements());
    fill(&mut data);
    tensor(data, shape)
}

/// A tensor whose storage may be overwritten: the same one if nobody else holds it, a copy otherwise.
pub(super) fn owned(t: T) -> T {
    let t = contiguous(t);
    let whole = t.layout().start_offset() == 0 && t.bytes().len() == 4 * t.layout().num_elements();
    if whole && t.is_unique() {
        return t;
    }
    filled(t.layout().shape().clone(), |copy| copy.copy_from_slice(slice(&t)))
}

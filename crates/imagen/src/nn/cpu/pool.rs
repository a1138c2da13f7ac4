//! Buffers that go from one operation to the next instead of back to the allocator.
//!
//! A training step asks for the same sizes in the same order as the one before it. Fresh memory for each would be cleared
//! by the system and written once more with zeros; what an operation or a finished backward pass lets go of is kept here
//! instead, by length, and handed out with its old values in it. Only as many buffers of a length are kept as were taken,
//! so what the tensor library allocates for itself does not pile up.

use std::collections::HashMap;
use std::ops::Deref;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use burn::backend::flex::FlexTensor;
use burn::tensor::DType;

/// Shorter buffers are left to the allocator, which is quick with them.
const SHORTEST: usize = 1 << 12;

/// Most numbers that wait here at a time: half a gibibyte.
const LIMIT: usize = 1 << 27;

#[derive(Default)]
struct Pool {
    lengths: HashMap<usize, Length>,
    /// Numbers in all buffers that wait.
    waiting: usize,
}

/// The buffers of one length.
#[derive(Default)]
struct Length {
    waiting: Vec<Vec<f32>>,
    /// Taken and not given back.
    out: usize,
}

static POOL: LazyLock<Mutex<Pool>> = LazyLock::new(Mutex::default);

fn pool() -> MutexGuard<'static, Pool> {
    POOL.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Pool {
    fn take(&mut self, len: usize) -> Option<Vec<f32>> {
        let length = self.lengths.entry(len).or_default();
        length.out += 1;
        let buffer = length.waiting.pop()?;
        self.waiting -= len;
        Some(buffer)
    }

    fn give(&mut self, buffer: Vec<f32>) {
        let len = buffer.len();
        let Some(length) = self.lengths.get_mut(&len).filter(|length| length.out > 0) else { return };
        length.out -= 1;
        if self.waiting + len <= LIMIT {
            self.waiting += len;
            length.waiting.push(buffer);
        }
    }

    fn clear(&mut self) {
        self.waiting = 0;
        self.lengths.values_mut().for_each(|length| length.waiting = Vec::new());
    }
}

/// `len` numbers of any value: the caller writes every one.
pub(super) fn take(len: usize) -> Vec<f32> {
    let kept = if len < SHORTEST { None } else { pool().take(len) };
    let buffer = kept.unwrap_or_else(|| vec![0.0; len]);
    // whoever reads before writing fails the tests instead of being right by chance
    if cfg!(test) { vec![f32::NAN; len] } else { buffer }
}

/// Takes back a buffer that nobody needs any more.
pub(super) fn give(buffer: Vec<f32>) {
    if buffer.len() >= SHORTEST {
        pool().give(buffer);
    }
}

/// Gives all buffers that wait back to the allocator.
pub(in crate::nn) fn clear() {
    pool().clear();
}

/// Lets go of a tensor; its buffer is kept unless somebody else still holds it.
pub(super) fn recycle(t: FlexTensor) {
    if t.layout().num_elements() < SHORTEST || t.dtype() != DType::F32 {
        return;
    }
    let bytes = t.data_arc();
    drop(t);
    if let Some(Ok(buffer)) = Arc::into_inner(bytes).map(|bytes| bytes.try_into_vec::<f32>()) {
        give(buffer);
    }
}

/// A tensor that a backward pass keeps; it is recycled when the last pass that keeps it is done.
pub(super) struct Saved(Option<FlexTensor>);

impl From<FlexTensor> for Saved {
    fn from(t: FlexTensor) -> Self {
        Self(Some(t))
    }
}

impl Deref for Saved {
    type Target = FlexTensor;

    fn deref(&self) -> &FlexTensor {
        self.0.as_ref().expect("a saved tensor is there until it is dropped")
    }
}

impl Drop for Saved {
    fn drop(&mut self) {
        if let Some(t) = self.0.take() {
            recycle(t);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_given_back_is_handed_out_again() {
        let mut pool = Pool::default();
        assert!(pool.take(SHORTEST).is_none(), "nothing waits at first");
        pool.give(vec![1.0; SHORTEST]);
        assert_eq!(pool.take(SHORTEST), Some(vec![1.0; SHORTEST]));
        assert_eq!(pool.waiting, 0);
    }

    #[test]
    fn what_waits_can_be_let_go_of() {
        let mut pool = Pool::default();
        pool.take(5000);
        pool.give(vec![0.0; 5000]);
        pool.clear();
        assert_eq!(pool.waiting, 0);
        assert!(pool.take(5000).is_none(), "nothing waits");
        pool.give(vec![1.0; 5000]);
        assert_eq!(pool.take(5000), Some(vec![1.0; 5000]), "it keeps again");
    }

    #[test]
    fn only_what_was_taken_is_kept_and_only_up_to_the_limit() {
        let mut pool = Pool::default();
        pool.give(vec![0.0; 5000]);
        assert_eq!(pool.waiting, 0, "nobody asked for this length");
        pool.take(5000);
        pool.give(vec![0.0; 5000]);
        pool.give(vec![0.0; 5000]);
        assert_eq!(pool.waiting, 5000, "one was taken, one is kept");
        pool.take(6000);
        pool.waiting = LIMIT - 5999;
        pool.give(vec![0.0; 6000]);
        assert_eq!(pool.waiting, LIMIT - 5999, "one number above the limit");
    }
}

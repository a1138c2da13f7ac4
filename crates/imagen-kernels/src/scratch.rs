//! Recycled scratch memory: aligned buffers that are taken, used and returned, so that a training step in its
//! steady state allocates nothing.
//!
//! The free list is one mutex around a few dozen entries; a kernel takes a buffer per call or per chunk of work,
//! not per element. Contents are whatever the last user left.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::ops::{Deref, DerefMut};
use std::sync::Mutex;

/// Alignment of small buffers: a cache line and the widest vector.
const LINE: usize = 64;
/// Alignment and granularity of large buffers: a huge page.
const HUGE: usize = 2 << 20;
/// Returned buffers beyond this number are given back to the system, smallest first.
const KEEP: usize = 64;

static FREE: Mutex<Vec<Aligned>> = Mutex::new(Vec::new());

/// Aligned, initialised memory of its own.
pub(crate) struct Aligned {
    pointer: *mut f32,
    layout: Layout,
}

// SAFETY: the memory is owned, and only reachable through the owner.
unsafe impl Send for Aligned {}
// SAFETY: shared references only read.
unsafe impl Sync for Aligned {}

impl Aligned {
    /// Room for at least `len` numbers, all zero.
    pub(crate) fn new(len: usize) -> Self {
        let bytes = (len * size_of::<f32>()).max(LINE);
        let alignment = if bytes >= HUGE / 2 { HUGE } else { LINE };
        let layout = Layout::from_size_align(bytes.next_multiple_of(alignment), alignment).expect("buffer size");
        // SAFETY: the size is not zero.
        let pointer = unsafe { alloc(layout) }.cast::<f32>();
        if pointer.is_null() {
            handle_alloc_error(layout);
        }
        // Before the first write, which is what decides the size of the pages.
        #[cfg(target_os = "linux")]
        if alignment == HUGE {
            // SAFETY: the range is this allocation; the call is advice and changes no contents.
            unsafe { libc::madvise(pointer.cast(), layout.size(), libc::MADV_HUGEPAGE) };
        }
        // SAFETY: inside the allocation; zeros are valid `f32`.
        unsafe { pointer.write_bytes(0, layout.size() / size_of::<f32>()) };
        Self { pointer, layout }
    }

    fn capacity(&self) -> usize {
        self.layout.size() / size_of::<f32>()
    }
}

impl Drop for Aligned {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with this layout.
        unsafe { dealloc(self.pointer.cast(), self.layout) }
    }
}

impl Deref for Aligned {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        // SAFETY: `capacity` initialised numbers are owned by `self`.
        unsafe { std::slice::from_raw_parts(self.pointer, self.capacity()) }
    }
}

impl DerefMut for Aligned {
    fn deref_mut(&mut self) -> &mut [f32] {
        // SAFETY: as above, and `self` is borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.pointer, self.capacity()) }
    }
}

/// A buffer that returns to the free list when dropped, if it came from there.
pub(crate) struct Scratch {
    buffer: Option<Aligned>,
    len: usize,
    returns: bool,
}

/// A buffer of `len` numbers, all zero, that goes back to the system when dropped: for what is kept.
pub(crate) fn keep(len: usize) -> Scratch {
    Scratch { buffer: Some(Aligned::new(len)), len, returns: false }
}

/// A buffer of `len` numbers with unspecified contents.
pub(crate) fn take(len: usize) -> Scratch {
    let mut free = FREE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    // The smallest that fits and is not wastefully large.
    let fit = (0..free.len())
        .filter(|&i| free[i].capacity() >= len && free[i].capacity() <= (4 * len).max(HUGE))
        .min_by_key(|&i| free[i].capacity());
    let buffer = fit.map(|i| free.swap_remove(i));
    drop(free);
    Scratch { buffer: Some(buffer.unwrap_or_else(|| Aligned::new(len))), len, returns: true }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if !self.returns {
            return;
        }
        let mut free = FREE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        free.extend(self.buffer.take());
        if free.len() > KEEP {
            let smallest = (0..free.len()).min_by_key(|&i| free[i].capacity());
            let surplus = smallest.map(|i| free.swap_remove(i));
            drop(free);
            drop(surplus);
        }
    }
}

impl Deref for Scratch {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.buffer.as_ref().expect("present until dropped")[..self.len]
    }
}

impl DerefMut for Scratch {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.buffer.as_mut().expect("present until dropped")[..self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_aligned_and_as_long_as_asked() {
        for len in [0, 1, 1000, 300_000, 5_000_000] {
            let buffer = take(len);
            assert_eq!(buffer.len(), len);
            assert_eq!(buffer.as_ptr() as usize % LINE, 0);
        }
    }
}

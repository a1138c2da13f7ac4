//! What a product asks for on the way, because the next one will need it.

use crate::simd::{prefetch, prefetch_write};
use std::ptr;

/// Numbers in a cache line.
const LINE: usize = 16;

/// Memory that will be needed next: it is asked for on the way, a little with every block of a product, so that it arrives
/// while there is something to multiply.
#[derive(Clone, Copy)]
pub(crate) struct Ahead {
    pub(crate) read: [Region; 2],
    pub(crate) write: Region,
}

/// Rows of numbers, `row` apart.
#[derive(Clone, Copy)]
pub(crate) struct Region {
    from: *const f32,
    row: usize,
    rows: usize,
    /// Cache lines of a row.
    lines: usize,
}

impl Region {
    pub(crate) const NONE: Self = Self { from: ptr::null(), row: 0, rows: 0, lines: 0 };

    /// Rows of `n` numbers.
    pub(crate) fn rows(from: *const f32, row: usize, rows: usize, n: usize) -> Self {
        Self { from, row, rows, lines: n.div_ceil(LINE) }
    }

    /// Numbers that follow each other.
    pub(crate) fn stretch(from: *const f32, n: usize) -> Self {
        Self { from, row: LINE, rows: n / LINE, lines: 1 }
    }

    /// The lines, to be taken a few at a time.
    fn lines(self) -> Lines {
        Lines { region: self, at: self.from, in_row: self.lines, left: self.rows * self.lines }
    }
}

/// The lines of a region that were not asked for yet.
struct Lines {
    region: Region,
    at: *const f32,
    in_row: usize,
    left: usize,
}

impl Lines {
    const NONE: Self = Self { region: Region::NONE, at: ptr::null(), in_row: 0, left: 0 };

    #[inline(always)]
    fn next(&mut self) -> Option<*const f32> {
        self.left = self.left.checked_sub(1)?;
        let at = self.at;
        self.in_row -= 1;
        self.at = at.wrapping_add(LINE);
        if self.in_row == 0 {
            self.at = self.at.wrapping_add(self.region.row).wrapping_sub(self.region.lines * LINE);
            self.in_row = self.region.lines;
        }
        Some(at)
    }
}

/// What is asked for with every step of a product.
pub(super) struct Asking {
    read: [Lines; 2],
    write: Lines,
    /// Lines of each with every step, those to be written last.
    each: [usize; 3],
}

impl Asking {
    pub(super) const NOTHING: Self = Self { read: [Lines::NONE; 2], write: Lines::NONE, each: [0; 3] };

    pub(super) fn new(ahead: Ahead, steps: usize) -> Self {
        let (read, write) = (ahead.read.map(Region::lines), ahead.write.lines());
        let each = [read[0].left, read[1].left, write.left].map(|lines| lines.div_ceil(steps.max(1)));
        Self { read, write, each }
    }

    #[inline(always)]
    pub(super) fn step(&mut self) {
        for (read, each) in self.read.iter_mut().zip(self.each) {
            for _ in 0..each {
                read.next().into_iter().for_each(prefetch);
            }
        }
        for _ in 0..self.each[2] {
            self.write.next().into_iter().for_each(prefetch_write);
        }
    }
}

impl Ahead {
    pub(crate) const NOTHING: Self = Self { read: [Region::NONE; 2], write: Region::NONE };

    pub(super) fn is_nothing(&self) -> bool {
        self.read[0].rows + self.read[1].rows + self.write.rows == 0
    }

    /// What will be read.
    pub(crate) fn read(read: [Region; 2]) -> Self {
        Self { read, ..Self::NOTHING }
    }
}

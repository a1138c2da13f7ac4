//! What is convolved with what: the shape that every algorithm is given.

/// A 3x3 convolution, padding 1: x `[n, h, w, c]`, w `[3, 3, c, k]`, y `[n, oh, ow, k]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Conv3x3 {
    /// Pictures in the batch.
    pub n: usize,
    /// Height of the input.
    pub h: usize,
    /// Width of the input.
    pub w: usize,
    /// Input channels.
    pub c: usize,
    /// Output channels.
    pub k: usize,
    /// 1 or 2.
    pub stride: usize,
}

impl Conv3x3 {
    /// Height of the output, `(h - 1) / stride + 1`; 0 if the input has none.
    pub fn out_h(&self) -> usize {
        self.h.div_ceil(self.stride)
    }

    /// Width of the output, `(w - 1) / stride + 1`; 0 if the input has none.
    pub fn out_w(&self) -> usize {
        self.w.div_ceil(self.stride)
    }

    #[track_caller]
    pub(super) fn check_stride(&self) {
        assert!(self.stride == 1 || self.stride == 2, "stride {} is neither 1 nor 2", self.stride);
    }
}

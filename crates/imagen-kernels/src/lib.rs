//! Kernels: in progress.

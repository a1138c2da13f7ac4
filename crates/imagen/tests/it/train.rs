//! Training: its numbers against PyTorch's.

mod golden;

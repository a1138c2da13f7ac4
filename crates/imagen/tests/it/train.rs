//! Training: its numbers against PyTorch's.

mod golden;
mod null_text;

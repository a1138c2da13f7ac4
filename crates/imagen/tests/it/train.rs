//! Training: its numbers against PyTorch's.

mod another_side;
mod golden;
mod lora;
mod naming;
mod null_text;
mod ranks;

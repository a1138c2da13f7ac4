//! Networks: tensors in, tensors out. No process (no schedule, no sampling, no tokenizer) lives here.

pub mod bert;
pub mod weights;

//! The networks, and nothing else: tensors and noise levels in, tensors out. No schedule, no process, no file format.

pub mod bert;
pub mod clip;
mod frozen;
pub mod if_unet;
pub mod imagen_pytorch;
pub mod inception;
pub mod t5;
mod tokens;
pub mod unet;
pub mod weights;

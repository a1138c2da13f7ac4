//! The library's one integration binary; each module protects one promise.

mod bert;
mod clip;
mod data;
mod deepfloyd;
mod eval;
mod floors;
mod fuzz;
mod human;
mod image;
mod inception;
mod laws;
mod roberta;
mod t5;
mod train;
mod unet;

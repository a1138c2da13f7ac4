//! The library's one integration binary; each module protects one promise.

mod bert;
mod data;
mod deepfloyd;
mod eval;
mod floors;
mod image;
mod laws;
mod train;
mod unet;

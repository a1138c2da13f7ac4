//! The library's one integration binary; each module protects one promise.

mod bert;
mod data;
mod eval;
mod floors;
mod image;
mod laws;
mod t5;
mod train;
mod unet;

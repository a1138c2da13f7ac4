//! The library's one integration binary; each module protects one promise.

mod bert;
mod data;
mod eval;
mod floors;
mod human;
mod image;
mod laws;
mod train;
mod unet;

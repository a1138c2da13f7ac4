//! Imagen: text → frozen language model → 64×64 base diffusion model → super-resolution diffusion models.
//!
//! The library is built in floors; arrows only run down (`tests/it/floors.rs` holds the table). It never prints,
//! exits, reads the environment or opens the network.

pub mod cascade;
pub mod data;
pub mod diffusion;
pub mod error;
pub mod eval;
pub mod files;
pub mod image;
pub mod input;
pub mod models;
pub mod names;
pub mod nn;
pub mod ranks;
pub mod rng;
pub mod said;
pub mod text;
pub mod train;

pub use error::{Error, ErrorKind, Result};

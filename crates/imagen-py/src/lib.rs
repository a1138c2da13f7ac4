//! The Python module `imagen`, on top of the library: models that draw, drawings that can be watched, distances of sets of
//! pictures.
//!
//! Everything is computed on threads of Rust's own, without the interpreter's lock; the thread that called looks out for
//! Ctrl-C. Arguments become the library's types here and results become those of NumPy and Pillow; nothing is decided here.
//! `python/imagen/_imagen.pyi` describes the same for type checkers, and a test holds the two together.

mod arrays;
mod error;
mod eval;
mod model;
mod request;
mod wait;
mod worker;

use pyo3::prelude::*;

/// The compiled part of `imagen`.
#[pymodule]
mod _imagen {
    #[pymodule_export]
    use crate::error::ImagenError;
    #[pymodule_export]
    use crate::eval::{Extractor, Score, Summary, fid, kid, precision_recall};
    #[pymodule_export]
    use crate::model::{Drawing, Model, Stage, Step, load};
    #[pymodule_export]
    use crate::set_threads;

    #[pymodule_export]
    #[allow(non_upper_case_globals)]
    const __version__: &str = env!("CARGO_PKG_VERSION");
}

/// Compute with so many threads; all cores are used where this is not called.
///
/// Must come before anything is computed.
///
/// Raises:
///     ValueError: if it is not a number from 1 to 1024.
///     ImagenError: if threads run already.
#[pyfunction]
fn set_threads(count: usize) -> PyResult<()> {
    if !(1..=1024).contains(&count) {
        return Err(error::value(format!("count = {count}: expected a number of threads from 1 to 1024")));
    }
    let pool = rayon::ThreadPoolBuilder::new().num_threads(count).build_global();
    pool.map_err(|_| ImagenError::new_err("threads run already: call set_threads before anything is computed"))?;
    imagen_kernels::set_threads(count);
    Ok(())
}

use error::ImagenError;

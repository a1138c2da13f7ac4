//! Errors of the library as Python's exceptions: its sentence, under the class that a Python program expects.

use imagen::{Error, ErrorKind};
use pyo3::exceptions::{PyException, PyOSError, PyValueError};
use pyo3::{PyErr, create_exception};

create_exception!(
    imagen,
    ImagenError,
    PyException,
    "A model, a file or a computation is not as it must be. Bad arguments are ValueError, and what the system refuses is OSError."
);

/// The exception for an error.
pub(crate) fn raise(error: Error) -> PyErr {
    let message = format!("{error:#}");
    match error.kind() {
        ErrorKind::Usage => PyValueError::new_err(message),
        ErrorKind::Io => PyOSError::new_err(message),
        _ => ImagenError::new_err(message),
    }
}

/// A bad argument.
pub(crate) fn value(message: impl Into<String>) -> PyErr {
    PyValueError::new_err(message.into())
}

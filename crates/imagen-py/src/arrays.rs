//! Pictures and numbers on their way to and from NumPy and Pillow.

use imagen::image::Picture;
use pyo3::buffer::PyBuffer;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyDict};

use crate::error::{raise, value};

/// A `float32` array of this shape.
pub(crate) fn array<'py, const N: usize>(
    py: Python<'py>,
    values: &[f32],
    shape: [usize; N],
) -> PyResult<Bound<'py, PyAny>> {
    // a bytearray can be written to, and so can the array over it
    let bytes = PyByteArray::new(py, bytemuck::cast_slice(values));
    py.import("numpy")?.call_method1("frombuffer", (bytes, "float32"))?.call_method1("reshape", (shape,))
}

/// A PIL image; `info` becomes its attribute of that name.
pub(crate) fn pillow<'py>(py: Python<'py>, picture: &Picture, info: Bound<'py, PyDict>) -> PyResult<Bound<'py, PyAny>> {
    let mode = ["L", "LA", "RGB", "RGBA"][picture.channels() - 1];
    let size = (picture.width(), picture.height());
    let image = py.import("PIL.Image")?.call_method1("frombytes", (mode, size, PyBytes::new(py, picture.pixels())))?;
    image.setattr("info", info)?;
    Ok(image)
}

/// The pictures of an array `[n, h, w, c]`, or of anything that gives arrays `[h, w, c]` or pictures of Pillow one by one.
pub(crate) fn pictures<'py>(set: &Bound<'py, PyAny>) -> PyResult<impl Iterator<Item = PyResult<Picture>> + use<'py>> {
    if let Ok(shape) = set.getattr("shape").and_then(|shape| shape.extract::<Vec<usize>>())
        && shape.len() != 4
    {
        return Err(value(format!("an array of shape {shape:?} is not a set of pictures: expected [n, h, w, c]")));
    }
    let items = set.try_iter().map_err(|_| {
        PyTypeError::new_err(
            "expected pictures: an array [n, h, w, c] of uint8, or a list of such arrays [h, w, c] or of Pillow's",
        )
    })?;
    let asarray = set.py().import("numpy")?.getattr("asarray")?;
    Ok(items.map(move |item| picture(&asarray.call1((item?,))?)))
}

/// The picture of an array `[h, w, c]`, or `[h, w]` in grey.
fn picture(array: &Bound<'_, PyAny>) -> PyResult<Picture> {
    let kind = array.getattr("dtype")?.to_string();
    if kind != "uint8" {
        return Err(value(format!("pictures of {kind}: expected uint8, from 0 to 255; scale, round and convert them")));
    }
    let shape = array.getattr("shape")?.extract::<Vec<usize>>()?;
    let (height, width, channels) = match shape[..] {
        [height, width] => (height, width, 1),
        [height, width, channels] => (height, width, channels),
        _ => return Err(value(format!("an array of shape {shape:?} is not a picture: expected [h, w, c]"))),
    };
    let pixels = PyBuffer::<u8>::get(array)?.to_vec(array.py())?;
    Picture::with_channels(width, height, channels, pixels).map_err(raise)
}

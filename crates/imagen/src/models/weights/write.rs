//! The writing half of [`super`]: one safetensors file, complete or not at all.
//!
//! The bytes are a function of the arguments (metadata sorted, no time, no random names), so that equal models are
//! equal files. A file is written under a temporary name in its own folder, synced, and renamed over the old one:
//! a full disk or a killed program leaves the old file as it was.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::{self, Write};
use std::path::Path;

use half::f16;
use safetensors::tensor::Dtype;
use serde_json::{Map, Value, json};

use super::{CHECKSUM, FileBytes};
use crate::error::{Error, ErrorKind, Result};
use crate::files::write_whole;

/// A tensor to be written: row-major values with their name and shape.
#[derive(Clone, Debug)]
pub struct NamedTensor<'a> {
    /// The name in the file.
    pub name: String,
    /// The extent of each axis; their product is the number of values.
    pub shape: Vec<usize>,
    /// The values in row-major order.
    pub values: Cow<'a, [f32]>,
}

/// How the values of a file are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// As they are: 4 bytes a value.
    F32,
    /// Half precision: 2 bytes a value, relative error up to 2⁻¹¹; values beyond ±65504 are refused.
    F16,
    /// Matrices `[rows, columns]` as 8-bit integers with one f32 scale per row, `max |row| / 127`; everything that
    /// is not a matrix (biases, norms, convolutions) stays f32.
    Int8Rows,
}

/// A tensor of the file; its bytes are made while writing, so that a model is never in memory twice.
pub(crate) struct RawTensor<'a> {
    pub(crate) name: String,
    pub(crate) shape: Vec<usize>,
    pub(crate) content: Content<'a>,
}

/// Where the bytes of a [`RawTensor`] come from.
pub(crate) enum Content<'a> {
    /// Little-endian bytes of this type, as they stand.
    Bytes(Dtype, &'a [u8]),
    /// Little-endian bytes of this type in parts, one after the other.
    Parts(Dtype, &'a [&'a [u8]]),
    /// Values that are stored as f32.
    F32(&'a [f32]),
    /// Values that are stored as f32 and made when they are written, so that not all are in memory at once.
    Late(Box<dyn Fn() -> Vec<f32> + 'a>),
    /// Values that are stored as f16.
    F16(&'a [f32]),
    /// The integers of the rows, each this long.
    Int8(&'a [f32], usize),
    /// The scales that belong to those integers.
    Scales(&'a [f32], usize),
}

impl Content<'_> {
    fn dtype(&self) -> Dtype {
        match self {
            Self::Bytes(dtype, _) | Self::Parts(dtype, _) => *dtype,
            Self::F32(_) | Self::Late(_) | Self::Scales(..) => Dtype::F32,
            Self::F16(_) => Dtype::F16,
            Self::Int8(..) => Dtype::I8,
        }
    }

    fn write_to(&self, out: &mut impl Write) -> io::Result<()> {
        match *self {
            Self::Late(ref values) => Content::F32(&values()).write_to(out),
            Self::Bytes(_, bytes) => out.write_all(bytes),
            Self::Parts(_, parts) => parts.iter().try_for_each(|bytes| out.write_all(bytes)),
            Self::F32(values) if cfg!(target_endian = "little") => out.write_all(bytemuck::cast_slice(values)),
            Self::F32(values) => values.iter().try_for_each(|x| out.write_all(&x.to_le_bytes())),
            Self::F16(values) => values.chunks(1024).try_for_each(|chunk| {
                let bytes: Vec<u8> = chunk.iter().flat_map(|&x| f16::from_f32(x).to_le_bytes()).collect();
                out.write_all(&bytes)
            }),
            Self::Int8(values, row) => values.chunks(row).try_for_each(|r| out.write_all(&integers(r))),
            Self::Scales(values, row) => values.chunks(row).try_for_each(|r| out.write_all(&scale(r).to_le_bytes())),
        }
    }
}

/// The step between two integers of a row: the largest magnitude becomes ±127.
fn scale(row: &[f32]) -> f32 {
    row.iter().fold(0f32, |m, x| m.max(x.abs())) / 127.0
}

fn integers(row: &[f32]) -> Vec<u8> {
    let scale = scale(row);
    // A row of zeros has scale 0, and 0 / 0 converts to the integer 0.
    row.iter().map(|x| ((x / scale).round_ties_even().clamp(-127.0, 127.0) as i8).cast_unsigned()).collect()
}

/// Copies a file as it is, whole or not at all. Whoever reads an old one at `to` meanwhile has it mapped and keeps it.
///
/// # Errors
/// `Io`.
pub(crate) fn copy(from: &Path, to: &Path) -> Result<()> {
    let bytes = FileBytes::map(from).map_err(|e| Error::io("read", from, e))?;
    write_whole(to, |file| file.write_all(&bytes)).map_err(|e| Error::io("write", to, e))
}

/// Writes tensors and metadata to `path`, atomically, with a checksum in the header ([`super::Weights::verify`]).
///
/// # Errors
/// `Usage` when names repeat or a shape contradicts its values; `NonFinite` when a value is infinite, not a number
/// or too large for `precision`; `Io` when the system refuses, in which case an older file at `path` is untouched.
pub fn write_safetensors(
    path: &Path,
    tensors: &[NamedTensor<'_>],
    metadata: &HashMap<String, String>,
    precision: Precision,
) -> Result<()> {
    let mut raw = Vec::with_capacity(tensors.len());
    for NamedTensor { name, shape, values } in tensors {
        if shape.iter().product::<usize>() != values.len() {
            return Err(Error::usage(format!("`{name}` has shape {shape:?} but {} values", values.len())));
        }
        let limit = if precision == Precision::F16 { f32::from(f16::MAX) } else { f32::MAX };
        if let Some(value) = values.iter().find(|x| x.is_nan() || x.abs() > limit) {
            let message = format!("`{name}` holds {value}, which {precision:?} cannot store (up to ±{limit:e})");
            return Err(Error::new(ErrorKind::NonFinite, message));
        }
        let mut push = |name, shape, content| raw.push(RawTensor { name, shape, content });
        match (precision, shape[..].as_ref()) {
            (Precision::F16, _) => push(name.clone(), shape.clone(), Content::F16(values)),
            (Precision::Int8Rows, &[rows, columns]) if columns > 0 => {
                push(name.clone(), shape.clone(), Content::Int8(values, columns));
                push(format!("{name}.scale"), vec![rows], Content::Scales(values, columns));
            }
            _ => push(name.clone(), shape.clone(), Content::F32(values)),
        }
    }
    write_checked(path, raw, metadata)
}

/// Name, shape and what makes the values.
pub(crate) type LateTensor<'a> = (String, Vec<usize>, Box<dyn Fn() -> Vec<f32> + 'a>);

/// Writes f32 tensors whose values are made one by one; otherwise as [`write_safetensors`].
pub(crate) fn write_late(path: &Path, tensors: Vec<LateTensor<'_>>, metadata: &HashMap<String, String>) -> Result<()> {
    for (name, shape, values) in &tensors {
        let values = values();
        assert_eq!(
            shape.iter().product::<usize>(),
            values.len(),
            "`{name}` has another number of values than its shape"
        );
        if let Some(value) = values.iter().find(|x| !x.is_finite()) {
            return Err(Error::new(ErrorKind::NonFinite, format!("`{name}` holds {value}; nothing was written")));
        }
    }
    let raw =
        tensors.into_iter().map(|(name, shape, values)| RawTensor { name, shape, content: Content::Late(values) });
    write_checked(path, raw.collect(), metadata)
}

/// [`write_raw`] with a checksum.
pub(crate) fn write_checked(
    path: &Path,
    mut raw: Vec<RawTensor<'_>>,
    metadata: &HashMap<String, String>,
) -> Result<()> {
    widest_first(&mut raw);
    let mut checksum = Checksum(crc32fast::Hasher::new());
    raw.iter().try_for_each(|t| t.content.write_to(&mut checksum)).expect("a checksum can always be written to");
    let mut metadata = metadata.clone();
    metadata.insert(CHECKSUM.to_owned(), format!("{:08x}", checksum.0.finalize()));
    write_raw(path, raw, &metadata)
}

/// What is written, as its checksum.
struct Checksum(crc32fast::Hasher);

impl Write for Checksum {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The order in a file: wide types first keeps every tensor aligned to its own element size. The sort is stable.
fn widest_first(tensors: &mut [RawTensor<'_>]) {
    tensors.sort_by_key(|t| std::cmp::Reverse(t.content.dtype().bitsize()));
}

/// Writes tensors of any content, without a checksum; otherwise as [`write_safetensors`].
pub(crate) fn write_raw(
    path: &Path,
    mut tensors: Vec<RawTensor<'_>>,
    metadata: &HashMap<String, String>,
) -> Result<()> {
    widest_first(&mut tensors);
    let mut names = HashSet::from(["__metadata__"]);
    if let Some(twice) = tensors.iter().find(|t| !names.insert(&t.name)) {
        return Err(Error::usage(format!("two entries of {} are named `{}`", path.display(), twice.name)));
    }
    let mut header = Map::new();
    header.insert("__metadata__".into(), json!(metadata.iter().collect::<BTreeMap<_, _>>()));
    let mut offset = 0;
    for RawTensor { name, shape, content } in &tensors {
        let dtype = content.dtype();
        let end = offset + shape.iter().product::<usize>() * dtype.bitsize() / 8;
        header.insert(name.clone(), json!({"dtype": dtype, "shape": shape, "data_offsets": [offset, end]}));
        offset = end;
    }
    let mut header = Value::Object(header).to_string().into_bytes();
    header.resize(header.len().next_multiple_of(8), b' ');
    write_whole(path, |file| {
        file.write_all(&(header.len() as u64).to_le_bytes())?;
        file.write_all(&header)?;
        tensors.iter().try_for_each(|t| t.content.write_to(file))
    })
    .map_err(|e| Error::io("write", path, e))
}

#[cfg(test)]
mod tests {
    use super::super::Weights;
    use super::*;

    fn tensor<'a>(name: &str, shape: &[usize], values: impl Into<Cow<'a, [f32]>>) -> NamedTensor<'a> {
        NamedTensor { name: name.into(), shape: shape.to_vec(), values: values.into() }
    }

    #[test]
    fn what_was_written_is_read_within_the_precision() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.safetensors");
        let matrix: Vec<f32> = (0..40).map(|i| (i as f32 * 0.7).sin() * (i / 10) as f32).collect();
        let bias = [0.1f32, -3.0, 1e-3];
        let metadata = HashMap::from([("config".to_string(), "{\"a\": \"ä\"}".to_string())]);
        let tensors = [tensor("w", &[4, 10], &matrix[..]), tensor("b", &[3], &bias[..])];
        for (precision, relative, row_step) in
            [(Precision::F32, 0.0, 0.0), (Precision::F16, 1.0 / 2048.0, 0.0), (Precision::Int8Rows, 0.0, 0.5 / 127.0)]
        {
            write_safetensors(&path, &tensors, &metadata, precision).unwrap();
            let weights = Weights::open(&path).unwrap();
            assert_eq!(*weights.metadata(), metadata);
            assert_eq!(weights.names().collect::<Vec<_>>(), ["b", "w"]);
            for (index, (read, value)) in weights.tensor_f32("w", &[4, 10]).unwrap().iter().zip(&matrix).enumerate() {
                let row = &matrix[index / 10 * 10..][..10];
                let largest = row.iter().fold(0f32, |m, x| m.max(x.abs()));
                let allowed = value.abs() * relative + largest * row_step * 1.0001;
                assert!((read - value).abs() <= allowed, "{precision:?}: {value} was read as {read}");
            }
            let read = weights.tensor_f32("b", &[3]).unwrap();
            assert!(
                read.iter().zip(&bias).all(|(r, b)| (r - b).abs() <= b.abs() * relative),
                "{precision:?}: {read:?}"
            );
        }
        let names: Vec<_> = folder.path().read_dir().unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names, ["m.safetensors"], "no temporary file stays");
    }

    #[test]
    fn equal_arguments_make_equal_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let paths = ["a", "b"].map(|n| folder.path().join(n));
        for path in &paths {
            // A new map each time, since every map iterates in its own order.
            let metadata = (0..20).map(|i| (i.to_string(), i.to_string())).collect();
            write_safetensors(path, &[tensor("x", &[1], vec![1.0])], &metadata, Precision::F16).unwrap();
        }
        assert_eq!(std::fs::read(&paths[0]).unwrap(), std::fs::read(&paths[1]).unwrap());
    }

    #[test]
    fn a_refused_write_leaves_the_old_file_and_no_litter() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m");
        std::fs::write(&path, "old").unwrap();
        let cases = [
            (vec![tensor("x", &[2], vec![1.0])], Precision::F32, ErrorKind::Usage),
            (vec![tensor("x", &[1], vec![1.0]); 2], Precision::F32, ErrorKind::Usage),
            (vec![tensor("__metadata__", &[1], vec![1.0])], Precision::F32, ErrorKind::Usage),
            (vec![tensor("x", &[1], vec![f32::NAN])], Precision::F32, ErrorKind::NonFinite),
            (vec![tensor("x", &[1], vec![65520.0])], Precision::F16, ErrorKind::NonFinite),
        ];
        for (tensors, precision, kind) in cases {
            let error = write_safetensors(&path, &tensors, &HashMap::new(), precision).unwrap_err();
            assert_eq!(error.kind(), kind, "{error:#}");
        }
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
        assert_eq!(folder.path().read_dir().unwrap().count(), 1);
    }

    #[test]
    fn a_folder_that_is_not_there_is_named() {
        let error = write_safetensors(Path::new("/nowhere/m"), &[], &HashMap::new(), Precision::F32).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Io);
        assert!(format!("{error:#}").starts_with("cannot write /nowhere/m"), "{error:#}");
    }
}

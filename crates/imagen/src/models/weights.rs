//! Named tensors in safetensors files: [`Weights`] reads them, [`write_safetensors`] writes them.
//!
//! Every network of this library takes its numbers from here as f32, whatever the file holds: f32, f16, bf16, or
//! int8 with one scale per row (`name` int8 `[rows, ..]` beside `name.scale` f32 `[rows]`, value = integer · scale).
//! A file is input from outside: its header is checked against its length before anything is believed, and a file
//! that does not fit a network is refused with the complete list of what is missing or mis-shaped.
//!
//! A checkpoint that is cut into several files under an index is one set of tensors ([`Weights::from_shards`],
//! [`Weights::open_checkpoint`]).
//!
//! Deliberately not here: which tensors a network wants (the network says so), and devices.

mod file_bytes;
mod linear;
mod shards;
mod storage;
mod write;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ops::Range;
use std::path::Path;

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use safetensors::tensor::{Dtype, Metadata};
use serde::de::{self, Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};

use crate::error::{Error, Result};

pub use file_bytes::FileBytes;
pub use shards::shard_names;
pub use storage::Storage;
pub(crate) use write::{Content, RawTensor, copy, write_checked, write_late, write_raw};
pub use write::{NamedTensor, Precision, write_safetensors};

/// The format's own limit on the size of a header.
const MAX_HEADER_BYTES: usize = 100_000_000;

/// The tensors of one safetensors file or of several, held as the bytes of the files and converted one by one on demand.
pub struct Weights {
    label: String,
    files: Vec<Opened>,
    metadata: HashMap<String, String>,
    entries: BTreeMap<String, Entry>,
}

/// What tensors take in memory; see [`Weights::kept`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeptSize {
    /// How many numbers they hold.
    pub numbers: u64,
    /// Bytes of all.
    pub bytes: u64,
    /// Bytes beside them while the largest is read: it as it is in the file, twice, and widened where it is converted.
    pub reading: u64,
}

/// A safetensors file whose header is read.
struct Opened {
    label: String,
    bytes: FileBytes,
    /// Checksum of the tensors' bytes, where the header gives one.
    checksum: Option<String>,
    /// Where the tensors' bytes begin.
    start: usize,
}

/// The header's entry for the CRC-32 of all bytes behind it, as eight hexadecimal digits.
const CHECKSUM: &str = "imagen.crc32";
/// What this library's entries of a header begin with.
const OWN: &str = "imagen.";

/// One tensor of the headers: `range` is absolute in the file and as long as `dtype` and `shape` demand.
struct Entry {
    file: usize,
    dtype: Dtype,
    shape: Vec<usize>,
    range: Range<usize>,
}

impl std::fmt::Debug for Weights {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Weights").field("label", &self.label).field("tensors", &self.entries.len()).finish()
    }
}

/// A header in which no name occurs twice: of two tensors of one name another reader might take the other one.
struct OnceEach;

impl<'de> Deserialize<'de> for OnceEach {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Names;

        impl<'de> Visitor<'de> for Names {
            type Value = OnceEach;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("tensors by name")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<OnceEach, A::Error> {
                let mut seen = HashSet::new();
                while let Some((name, IgnoredAny)) = map.next_entry::<String, IgnoredAny>()? {
                    if let Some(name) = seen.replace(name) {
                        return Err(de::Error::custom(format_args!("{name:?} is there twice")));
                    }
                }
                Ok(OnceEach)
            }
        }

        deserializer.deserialize_map(Names)
    }
}

impl Weights {
    /// Maps a file and checks its header; tensors are read from it when they are asked for.
    ///
    /// # Errors
    /// `Io` when the file cannot be read; `Model` when it is not a complete safetensors file.
    pub fn open(path: &Path) -> Result<Self> {
        let bytes = FileBytes::map(path).map_err(|e| Error::io("read", path, e).of_model())?;
        Self::from_bytes(bytes, path.display().to_string())
    }

    /// Reads weights from bytes at hand, which are not copied. `label` names the source in errors.
    ///
    /// # Errors
    /// `Model` when the bytes are not a complete safetensors file.
    pub fn from_bytes(bytes: impl Into<FileBytes>, label: impl Into<String>) -> Result<Self> {
        let (bytes, label) = (bytes.into(), label.into());
        let damaged = |why: String| Error::model(format!("{label} is not a usable safetensors file: {why}"));
        let length = bytes.first_chunk::<8>().ok_or_else(|| {
            damaged(format!("it holds {} bytes, and the length of its header alone takes 8", bytes.len()))
        })?;
        let length = usize::try_from(u64::from_le_bytes(*length)).unwrap_or(usize::MAX);
        if length > MAX_HEADER_BYTES.min(bytes.len() - 8) {
            return Err(damaged(format!(
                "it announces a header of {length} bytes, but holds {} (truncated, or another format)",
                bytes.len()
            )));
        }
        let start = 8 + length;
        // Parsing also proves that the tensors lie one behind the other, each as long as its type and shape say.
        let header: Metadata = serde_json::from_slice(&bytes[8..start]).map_err(|e| damaged(format!("header: {e}")))?;
        serde_json::from_slice::<OnceEach>(&bytes[8..start]).map_err(|e| damaged(format!("header: {e}")))?;
        if header.data_len() != bytes.len() - start {
            return Err(damaged(format!(
                "its header describes {} bytes of tensors, but {} follow (truncated or overwritten)",
                header.data_len(),
                bytes.len() - start
            )));
        }
        let entries = header.tensors().into_iter().map(|(name, info)| {
            let (from, to) = info.data_offsets;
            (name, Entry { file: 0, dtype: info.dtype, shape: info.shape.clone(), range: start + from..start + to })
        });
        let entries = entries.collect();
        let mut metadata = header.metadata().clone().unwrap_or_default();
        let checksum = metadata.remove(CHECKSUM);
        let files = vec![Opened { label: label.clone(), bytes, checksum, start }];
        Ok(Self { label, files, metadata, entries })
    }

    /// Checks the tensors' bytes against the header's checksum. A file of another program without one passes; this library
    /// writes none without.
    ///
    /// # Errors
    /// `Model` when they differ, or a file of this library has lost its checksum.
    pub fn verify(&self) -> Result<()> {
        let ours = self.metadata.keys().any(|key| key.starts_with(OWN));
        for Opened { label, bytes, checksum, start } in &self.files {
            let Some(expected) = checksum else {
                if ours {
                    return Err(Error::model(format!(
                        "{label} has no {CHECKSUM} in its header, as every file of this program has: another program has \
                         rewritten it, and nothing says whether its tensors are whole; use the file as it was written"
                    )));
                }
                continue;
            };
            let found = format!("{:08x}", crc32fast::hash(&bytes[*start..]));
            if found != *expected {
                return Err(Error::model(format!(
                    "{label} is damaged: its tensors have the checksum {found}, its header says {expected}; use a copy or \
                     train again"
                )));
            }
        }
        Ok(())
    }

    /// What names these tensors in errors: the file, or the index of several.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// The bytes of the file or files.
    pub fn size(&self) -> usize {
        self.files.iter().map(|file| file.bytes.len()).sum()
    }

    /// The text entries of the header (`__metadata__`), without the checksum.
    pub fn metadata(&self) -> &HashMap<String, String> {
        &self.metadata
    }

    /// The names of the tensors in alphabetical order, without the scales of int8 tensors.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str).filter(|name| {
            let owner = name.strip_suffix(".scale").and_then(|owner| self.entries.get(owner));
            owner.is_none_or(|owner| owner.dtype != Dtype::I8)
        })
    }

    /// The shape of a tensor, if the file has it.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.entries.get(name).map(|e| e.shape.as_slice())
    }

    /// Checks that every named tensor is there, has this shape and a type that can be read.
    ///
    /// # Errors
    /// `Model`, one line that lists everything that is wrong, with both shapes.
    pub fn require<S: AsRef<str>>(&self, expected: &[(S, Vec<usize>)]) -> Result<()> {
        let complaint = |(name, shape): &(S, Vec<usize>)| self.complaint(name.as_ref(), shape);
        let complaints: Vec<String> = expected.iter().filter_map(complaint).collect();
        if complaints.is_empty() {
            return Ok(());
        }
        Err(Error::model(format!(
            "{} does not fit its configuration ({} of {} tensors): {}",
            self.label,
            complaints.len(),
            expected.len(),
            complaints.join("; ")
        )))
    }

    /// Checks that there are these tensors, in these shapes, and no others.
    ///
    /// # Errors
    /// `Model`, one line that lists what is wrong.
    pub fn require_exactly(&self, expected: &[(String, Vec<usize>)]) -> Result<()> {
        const SHOWN: usize = 12;
        let mut complaints: Vec<String> =
            expected.iter().filter_map(|(name, shape)| self.complaint(name, shape)).collect();
        let known: BTreeSet<&str> = expected.iter().map(|(name, _)| name.as_str()).collect();
        let extra = self.names().filter(|name| !known.contains(name));
        complaints
            .extend(extra.map(|name| format!("`{name}` {:?} is not of this network", self.shape(name).unwrap_or(&[]))));
        if complaints.is_empty() {
            return Ok(());
        }
        let count = complaints.len();
        let more = if count > SHOWN { format!("; and {} more", count - SHOWN) } else { String::new() };
        complaints.truncate(SHOWN);
        let list = complaints.join("; ");
        Err(Error::model(format!("{} does not fit its config.json ({count} tensors): {list}{more}", self.label)))
    }

    /// What is wrong with a tensor, if anything is.
    fn complaint(&self, name: &str, shape: &[usize]) -> Option<String> {
        let Some(entry) = self.entries.get(name) else {
            return Some(format!("`{name}` is missing (expected {shape:?})"));
        };
        if entry.shape != shape {
            return Some(format!("`{name}` has shape {:?} (expected {shape:?})", entry.shape));
        }
        match entry.dtype {
            Dtype::F32 | Dtype::F16 | Dtype::BF16 => None,
            Dtype::I8 => {
                let rows = shape.first()?;
                let scale = self.entries.get(&format!("{name}.scale"));
                let fits = scale.is_some_and(|s| s.dtype == Dtype::F32 && s.shape == [*rows]);
                (!fits).then(|| format!("`{name}` is int8 without its `{name}.scale` of f32 [{rows}]"))
            }
            other => Some(format!("`{name}` has type {other:?} (expected F32, F16, BF16 or I8 with scales)")),
        }
    }

    /// What the tensors that `takes` takes become in memory where matrices and convolutions are kept as `storage` says and
    /// vectors in f32; from the header alone.
    pub fn kept(&self, storage: Storage, takes: impl Fn(&str) -> bool) -> KeptSize {
        let mut size = KeptSize::default();
        for name in self.names().filter(|name| takes(name)) {
            let entry = &self.entries[name];
            let (numbers, rows) = (entry.shape.iter().product::<usize>(), entry.shape.first().copied().unwrap_or(1));
            let bytes = match storage {
                _ if entry.shape.len() < 2 => 4 * numbers,
                Storage::Stored => entry.range.len(),
                Storage::F32 => 4 * numbers,
                Storage::F16 | Storage::Bf16 => 2 * numbers,
                Storage::Int8 => numbers + 4 * rows,
            };
            size.numbers += numbers as u64;
            size.bytes += bytes as u64;
            let widened = if storage == Storage::Stored { 0 } else { 4 * numbers };
            size.reading = size.reading.max((2 * entry.range.len() + widened + bytes) as u64);
        }
        size
    }

    /// The values of a tensor in row-major order.
    ///
    /// # Errors
    /// `Model` when the tensor is missing, has another shape, has a type that cannot be read, or holds a number that
    /// is infinite or not a number.
    pub fn tensor_f32(&self, name: &str, expected_shape: &[usize]) -> Result<Vec<f32>> {
        let (encoding, bytes) = self.encoded(name, expected_shape)?;
        let mut values = vec![0.0; expected_shape.iter().product()];
        encoding.decode(bytes, 0, &mut values);
        self.finite(name, &values)?;
        Ok(values)
    }

    /// A matrix `[rows, columns]` that stays as small as it is in the file and gives out single rows: an embedding
    /// table, of which a caption touches ten rows of thirty thousand.
    ///
    /// # Errors
    /// As [`Weights::tensor_f32`].
    pub fn table(&self, name: &str, expected_shape: [usize; 2]) -> Result<Table> {
        let (encoding, _) = self.encoded(name, &expected_shape)?;
        let bytes = self.part(&self.entries[name]);
        let [rows, columns] = expected_shape;
        let table = Table { encoding, rows, columns, bytes };
        match &table.encoding {
            // No integer can spoil a row, only its scale.
            Encoding::Int8 { scales, .. } => {
                self.finite(name, &scales.iter().map(|scale| scale * 128.0).collect::<Vec<_>>())?;
            }
            _ => {
                let mut row = vec![0.0; columns];
                for index in 0..rows {
                    table.row(index, &mut row);
                    self.finite(name, &row)?;
                }
            }
        }
        // Looked at once; what is used is read again.
        table.bytes.release(0..table.bytes.len());
        Ok(table)
    }

    /// A tensor that is not a network's weight (offsets, hashes), as type, shape and little-endian bytes.
    pub(crate) fn raw(&self, name: &str) -> Option<(Dtype, &[usize], &[u8])> {
        let entry = self.entries.get(name)?;
        Some((entry.dtype, &entry.shape, self.slice(entry)))
    }

    /// The bytes of such a tensor, which outlive this value and keep the file mapped.
    pub(crate) fn raw_bytes(&self, name: &str) -> Option<FileBytes> {
        self.entries.get(name).map(|entry| self.part(entry))
    }

    fn slice(&self, entry: &Entry) -> &[u8] {
        &self.files[entry.file].bytes[entry.range.clone()]
    }

    fn part(&self, entry: &Entry) -> FileBytes {
        self.files[entry.file].bytes.part(entry.range.clone())
    }

    /// How a tensor is stored, and its bytes, once it is known to be readable.
    fn encoded(&self, name: &str, shape: &[usize]) -> Result<(Encoding, &[u8])> {
        self.require(&[(name, shape.to_vec())])?;
        let entry = &self.entries[name];
        let encoding = match entry.dtype {
            Dtype::F16 => Encoding::F16,
            Dtype::BF16 => Encoding::Bf16,
            Dtype::I8 => {
                let scales = self.tensor_f32(&format!("{name}.scale"), &shape[..1])?;
                Encoding::Int8 { scales, row: shape[1..].iter().product() }
            }
            _ => Encoding::F32,
        };
        Ok((encoding, self.slice(entry)))
    }

    fn finite(&self, name: &str, values: &[f32]) -> Result<()> {
        // One comparison at the end, so that the loop runs in vector registers.
        let largest = values.iter().fold(0, |m, x| m.max(x.to_bits() & 0x7fff_ffff));
        if largest < f32::INFINITY.to_bits() {
            return Ok(());
        }
        Err(self.not_finite(name))
    }

    fn not_finite(&self, name: &str) -> Error {
        let label = self.entries.get(name).map_or(&self.label, |entry| &self.files[entry.file].label);
        Error::model(format!("{label}: `{name}` holds a number that is not finite; the file is damaged"))
    }
}

/// How the numbers of a tensor are stored.
#[derive(Debug)]
enum Encoding {
    F32,
    F16,
    Bf16,
    Int8 { scales: Vec<f32>, row: usize },
}

impl Encoding {
    fn element_bytes(&self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
            Self::Int8 { .. } => 1,
        }
    }

    /// Converts `bytes`, which begin at row `first_row`, into as many values as they hold.
    fn decode(&self, bytes: &[u8], first_row: usize, out: &mut [f32]) {
        match self {
            Self::F32 => {
                for (out, bytes) in out.iter_mut().zip(bytes.as_chunks().0) {
                    *out = f32::from_le_bytes(*bytes);
                }
            }
            Self::F16 => {
                let mut block = [f16::ZERO; 1024];
                for (out, bytes) in out.chunks_mut(block.len()).zip(bytes.chunks(2 * block.len())) {
                    for (half, bytes) in block.iter_mut().zip(bytes.as_chunks().0) {
                        *half = f16::from_le_bytes(*bytes);
                    }
                    block[..out.len()].convert_to_f32_slice(out);
                }
            }
            Self::Bf16 => {
                for (out, bytes) in out.iter_mut().zip(bytes.as_chunks().0) {
                    *out = bf16::from_le_bytes(*bytes).to_f32();
                }
            }
            // A row of no elements has no bytes to convert, and no chunk can be empty.
            Self::Int8 { row: 0, .. } => {}
            Self::Int8 { scales, row } => {
                let rows = out.chunks_mut(*row).zip(bytes.chunks(*row));
                for ((out, bytes), scale) in rows.zip(&scales[first_row..]) {
                    for (out, byte) in out.iter_mut().zip(bytes) {
                        *out = f32::from(byte.cast_signed()) * scale;
                    }
                }
            }
        }
    }
}

/// A matrix `[rows, columns]` kept in its stored form; see [`Weights::table`].
pub struct Table {
    encoding: Encoding,
    rows: usize,
    columns: usize,
    bytes: FileBytes,
}

impl std::fmt::Debug for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Table").field("rows", &self.rows).field("columns", &self.columns).finish()
    }
}

impl Table {
    /// How many rows there are; a row index is below this.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// How long a row is.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Writes row `index` into `out`, which is one row long.
    ///
    /// # Panics
    /// When `index` is not below [`Table::rows`].
    pub fn row(&self, index: usize, out: &mut [f32]) {
        let bytes = self.columns * self.encoding.element_bytes();
        self.encoding.decode(&self.bytes[index * bytes..(index + 1) * bytes], index, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use proptest::prelude::*;

    /// A safetensors file with this header and this many bytes of data.
    fn file(header: &str, data: &[u8]) -> Vec<u8> {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bytes.extend(data);
        bytes
    }

    fn read(bytes: Vec<u8>) -> Result<Weights> {
        Weights::from_bytes(bytes, "test")
    }

    #[test]
    fn every_stored_type_becomes_the_same_f32() {
        let header = r#"{"__metadata__":{"k":"v"},
            "a":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]},
            "b":{"dtype":"F16","shape":[2,2],"data_offsets":[16,24]},
            "c":{"dtype":"BF16","shape":[2,2],"data_offsets":[24,32]},
            "d.scale":{"dtype":"F32","shape":[2],"data_offsets":[32,40]},
            "d":{"dtype":"I8","shape":[2,2],"data_offsets":[40,44]}}"#;
        let values = [1.0f32, -2.0, 0.5, 0.25];
        let mut data: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
        data.extend(values.iter().flat_map(|&x| f16::from_f32(x).to_le_bytes()));
        data.extend(values.iter().flat_map(|&x| bf16::from_f32(x).to_le_bytes()));
        data.extend([1.0f32, 0.25].iter().flat_map(|x| x.to_le_bytes()));
        data.extend([1i8, -2, 2, 1].map(|x| x.cast_unsigned()));
        let weights = read(file(header, &data)).unwrap();
        assert_eq!(weights.metadata()["k"], "v");
        assert_eq!(weights.names().collect::<Vec<_>>(), ["a", "b", "c", "d"], "scales are not tensors");
        for name in weights.names() {
            assert_eq!(weights.tensor_f32(name, &[2, 2]).unwrap(), values, "{name}");
            let table = weights.table(name, [2, 2]).unwrap();
            let mut row = [0.0; 2];
            table.row(1, &mut row);
            assert_eq!(row, values[2..], "row 1 of {name}");
        }
    }

    #[test]
    fn everything_that_does_not_fit_is_listed_in_one_error() {
        let header = r#"{"a":{"dtype":"F32","shape":[1,2],"data_offsets":[0,8]},
            "n":{"dtype":"I64","shape":[1],"data_offsets":[8,16]},"q":{"dtype":"I8","shape":[2],"data_offsets":[16,18]},
            "ok":{"dtype":"F16","shape":[1],"data_offsets":[18,20]}}"#;
        let weights = read(file(header, &[0; 20])).unwrap();
        let expected =
            [("a", vec![2, 1]), ("n", vec![1]), ("q", vec![2]), ("lost.weight", vec![3, 4]), ("ok", vec![1])];
        let error = weights.require(&expected).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Model);
        let message = format!("{error:#}");
        for part in ["4 of 5", "`a` has shape [1, 2] (expected [2, 1])", "`n` has type I64", "`q.scale`", "[3, 4]"] {
            assert!(message.contains(part), "{part} is not in: {message}");
        }
        assert!(!message.contains("`ok`"), "{message}");
    }

    #[test]
    fn a_lying_header_is_refused_and_never_panics() {
        // Nine tensors whose sizes add up to more than the address space wrap around to nothing.
        let size = (1u64 << 61) - 1;
        let giant: Vec<String> = (0..9u64)
            .map(|i| {
                let (from, to) = (i.wrapping_mul(size), (i + 1).wrapping_mul(size));
                format!(r#""t{i}":{{"dtype":"U8","shape":[{size}],"data_offsets":[{from},{to}]}}"#)
            })
            .collect();
        let cases = [
            ("empty", vec![]),
            ("no header", vec![9, 0, 0, 0, 0, 0, 0, 0]),
            ("length of 2^64", [0xff; 16].to_vec()),
            ("not JSON", file("no", &[])),
            ("JSON of another kind", file("[1]", &[])),
            ("deep JSON", file(&"[".repeat(100_000), &[])),
            ("type unknown", file(r#"{"a":{"dtype":"F31","shape":[1],"data_offsets":[0,4]}}"#, &[0; 4])),
            ("too few bytes", file(r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#, &[0; 4])),
            ("too many bytes", file(r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#, &[0; 5])),
            ("shape and offsets differ", file(r#"{"a":{"dtype":"F32","shape":[3],"data_offsets":[0,4]}}"#, &[0; 4])),
            ("a gap", file(r#"{"a":{"dtype":"U8","shape":[1],"data_offsets":[3,4]}}"#, &[0; 4])),
            ("backwards", file(r#"{"a":{"dtype":"U8","shape":[1],"data_offsets":[1,0]}}"#, &[0; 4])),
            (
                "shape overflows",
                file(r#"{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}}"#, &[]),
            ),
            (
                "one name twice",
                file(
                    r#"{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}"#,
                    &[0; 4],
                ),
            ),
            ("sizes overflow", file(&format!("{{{}}}", giant.join(",")), &[])),
        ];
        for (what, bytes) in cases {
            let error = read(bytes).expect_err(what);
            assert_eq!(error.kind(), ErrorKind::Model, "{what}");
            assert!(format!("{error:#}").starts_with("test is not a usable safetensors file"), "{what}: {error:#}");
        }
    }

    #[test]
    fn a_number_that_is_not_finite_names_its_tensor() {
        let header = r#"{"a":{"dtype":"F32","shape":[1,2],"data_offsets":[0,8]}}"#;
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let weights = read(file(header, &[1.0, bad].map(f32::to_le_bytes).concat())).unwrap();
            let message = format!("{:#}", weights.tensor_f32("a", &[1, 2]).unwrap_err());
            assert!(message.contains("`a` holds a number that is not finite"), "{message}");
            assert!(weights.table("a", [1, 2]).is_err());
        }
    }

    #[test]
    fn a_missing_file_is_an_operating_system_error_with_its_path() {
        let error = Weights::open(Path::new("/nowhere/model.safetensors")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Io);
        assert!(format!("{error:#}").starts_with("cannot read /nowhere/model.safetensors"), "{error:#}");
    }

    proptest! {
        #[test]
        fn damage_anywhere_is_an_error_or_harmless_but_never_a_panic(at in 0usize..130, with in any::<u8>(), cut in 0usize..130) {
            let header = r#"{"a":{"dtype":"F16","shape":[2,3],"data_offsets":[0,12]},"b":{"dtype":"F32","shape":[1],"data_offsets":[12,16]}}"#;
            let mut bytes = file(header, &[1; 16]);
            let at = at % bytes.len();
            bytes[at] = with;
            bytes.truncate(bytes.len() - cut % 3 * cut % bytes.len());
            if let Ok(weights) = read(bytes) {
                for name in weights.names() {
                    let shape = weights.shape(name).unwrap();
                    if let Ok(values) = weights.tensor_f32(name, shape) {
                        prop_assert_eq!(values.len(), shape.iter().product::<usize>());
                    }
                }
            }
        }
    }
}

//! Statistics as pytorch-fid and clean-fid keep them: a NumPy archive of a mean `mu` and a covariance `sigma`.
//!
//! Neither the number of pictures, nor the weights, nor the resize is in such a file; who takes it vouches for these. Sizes are
//! checked before anything of that size is read.

use std::io::Read;
use std::path::Path;

use zip::ZipArchive;

use crate::error::{Context, Error, Result};
use crate::input;

/// More features than any extractor has.
const MOST_FEATURES: usize = 8192;
const MAGIC: &[u8; 6] = b"\x93NUMPY";
/// More than NumPy writes in front of an array.
const LONGEST_HEADER: u64 = 1 << 16;

/// Mean and covariance of a file.
///
/// # Errors
/// `Io`; [`crate::ErrorKind::Data`] where the file is no archive, lacks `mu` or `sigma`, or these do not go together.
pub(super) fn read(path: &Path) -> Result<(Vec<f64>, Vec<f64>)> {
    let file = input::open(path)?;
    let behind_wall = || {
        let mut archive = ZipArchive::new(file).map_err(|e| {
            Error::data("no NumPy archive; expected what pytorch-fid's --save-stats writes").with_source(e)
        })?;
        let (shape, mean) = array(&mut archive, "mu", &|shape| matches!(shape, [1..=MOST_FEATURES]))?;
        let square = |there: &[usize]| there == [shape[0], shape[0]];
        let (_, covariance) = array(&mut archive, "sigma", &square)?;
        let dim = shape[0];
        let symmetric = |at: usize| {
            let (a, b) = (covariance[at], covariance[at % dim * dim + at / dim]);
            (a - b).abs() <= 1e-6 * (1.0 + a.abs().max(b.abs()))
        };
        if !mean.iter().chain(&covariance).all(|x| x.is_finite()) || !(0..dim * dim).all(symmetric) {
            return Err(Error::data("`sigma` is no covariance: it is not symmetric, or holds what is no number"));
        }
        Ok((mean, covariance))
    };
    let read =
        input::guarded(behind_wall).unwrap_or_else(|said| Err(Error::data("a damaged archive").with_source(said)));
    read.context(|| path.display().to_string())
}

/// An array of the archive in rows, where its shape is welcome.
fn array(
    archive: &mut ZipArchive<std::fs::File>,
    name: &str,
    welcome: &dyn Fn(&[usize]) -> bool,
) -> Result<(Vec<usize>, Vec<f64>)> {
    let damaged = |what: &str| Error::data(format!("`{name}` {what}; expected what pytorch-fid's --save-stats writes"));
    let there: Vec<String> = archive.file_names().map(str::to_owned).collect();
    let mut entry = archive.by_name(&format!("{name}.npy")).map_err(|e| match e {
        zip::result::ZipError::FileNotFound => {
            let there = if there.is_empty() { "nothing".to_owned() } else { there.join(", ") };
            Error::data(format!("`{name}` is missing; expected `mu` and `sigma` of pytorch-fid, found {there}"))
        }
        e => damaged("cannot be read").with_source(e),
    })?;
    let mut read = |bytes: &mut [u8]| entry.read_exact(bytes).map_err(|e| damaged("ends early").with_source(e));
    let mut start = [0; 8];
    read(&mut start)?;
    let version = start[6];
    if &start[..6] != MAGIC || !(1..=3).contains(&version) {
        return Err(damaged("is no array"));
    }
    let mut length = [0; 4];
    read(&mut length[..if version == 1 { 2 } else { 4 }])?;
    let length = u64::from(u32::from_le_bytes(length));
    if length > LONGEST_HEADER {
        return Err(damaged("has a header that never ends"));
    }
    let mut header = vec![0; length as usize];
    read(&mut header)?;
    let header = String::from_utf8_lossy(&header).into_owned();
    let said = |key: &str| Some(header.split_once(&format!("'{key}':"))?.1.trim_start());
    let number_type = said("descr").and_then(|rest| rest.split('\'').nth(1)).unwrap_or("(none)");
    let wide = match number_type {
        "<f8" => true,
        "<f4" => false,
        other => return Err(damaged(&format!("is of numbers {other}, not <f8 or <f4"))),
    };
    // a covariance is its own transpose
    let shape: Option<Vec<usize>> =
        said("shape").and_then(|rest| rest.strip_prefix('(')?.split_once(')')).and_then(|(inner, _)| {
            inner.split(',').map(str::trim).filter(|side| !side.is_empty()).map(|side| side.parse().ok()).collect()
        });
    let shape = shape.filter(|shape| welcome(shape)).ok_or_else(|| {
        let given = said("shape").and_then(|rest| rest.split_once(')')).map_or("none", |(shape, _)| shape);
        damaged(&format!("has the shape {given}), not that of a mean [d] or of its covariance [d, d]"))
    })?;
    let count: usize = shape.iter().product();
    let mut bytes = vec![0; count * if wide { 8 } else { 4 }];
    read(&mut bytes)?;
    // the checksum is looked at where the entry ends
    if entry.read(&mut [0]).map_err(|e| damaged("is damaged").with_source(e))? > 0 {
        return Err(damaged("is longer than its shape"));
    }
    let numbers = if wide {
        bytes.as_chunks().0.iter().map(|b| f64::from_le_bytes(*b)).collect()
    } else {
        bytes.as_chunks().0.iter().map(|b| f64::from(f32::from_le_bytes(*b))).collect()
    };
    Ok((shape, numbers))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    fn golden(name: &str) -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/eval/npz").join(name)
    }

    #[test]
    fn archives_of_numpy_are_read() {
        let mean = [0.5, -1.0, 2.25];
        let covariance = [2.0, 0.5, 0.0, 0.5, 1.0, -0.25, 0.0, -0.25, 3.0];
        for name in ["compressed.npz", "stored.npz", "single.npz", "columns.npz"] {
            let read = read(&golden(name)).unwrap();
            assert_eq!((&read.0[..], &read.1[..]), (&mean[..], &covariance[..]), "{name}");
        }
    }

    #[test]
    fn archives_of_something_else_are_refused_with_the_reason() {
        for (name, words) in [
            ("other.npz", "`mu` is missing; expected `mu` and `sigma` of pytorch-fid, found features.npy"),
            ("shapes.npz", "`sigma` has the shape (3, 2), not that of a mean [d] or of its covariance [d, d]"),
            ("integers.npz", "`mu` is of numbers <i8, not <f8 or <f4"),
            ("lopsided.npz", "`sigma` is no covariance"),
            ("infinite.npz", "`sigma` is no covariance"),
            ("make.py", "no NumPy archive"),
        ] {
            let error = read(&golden(name)).unwrap_err();
            let message = format!("{error:#}");
            assert!(error.kind() == ErrorKind::Data && message.contains(words), "{name}: {message}");
        }
        // an archive that is cut or changed anywhere is read as it was, or refused
        let whole = std::fs::read(golden("compressed.npz")).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("changed.npz");
        for at in 0..whole.len() {
            for changed in [whole[..at].to_vec(), [&whole[..at], &[!whole[at]], &whole[at + 1..]].concat()] {
                std::fs::write(&path, changed).unwrap();
                if let Err(error) = read(&path) {
                    assert_eq!(error.kind(), ErrorKind::Data, "{at}: {error:#}");
                }
            }
        }
    }
}

//! What remains of a set of pictures: statistics of its features, the features themselves where they are kept, and a file.
//!
//! The file is a safetensors: `mean` f64 `[d]`, `scatter` f64 `[d, d]` (sum of products of deviations, so that files can be
//! merged exactly) and, where kept, `features` f32 `[n, d]`. Its header is the protocol: the extractor, with a digest of its
//! definition or weights, and the resize. Statistics of another protocol are never compared. A file of a set that was not read
//! to its end says so in its header (`imagen.unfinished`) and is no statistics of the set.

use std::collections::HashMap;
use std::path::Path;

use safetensors::tensor::Dtype;

use super::{Extractor, Protocol, Statistics, npz};
use crate::error::{Context, Error, Result};
use crate::image::Picture;
use crate::models::weights::{Content, RawTensor, Weights, write_raw};

const FORMAT: &str = "imagen.statistics";
const EXTRACTOR: &str = "imagen.extractor";
const DIGEST: &str = "imagen.extractor_digest";
const RESIZE: &str = "imagen.resize";
const COUNT: &str = "imagen.count";
const UNFINISHED: &str = "imagen.unfinished";

/// Features of a set of pictures, summed up.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    protocol: Protocol,
    statistics: Statistics,
    /// `[n, d]`, where they are kept.
    features: Option<Vec<f32>>,
    /// Whether the number of pictures is known.
    counted: bool,
}

impl Summary {
    /// Of no pictures yet. Kept features are what intervals and kernel distances need; they take four bytes a number.
    pub fn new(protocol: &Protocol, keep_features: bool) -> Self {
        let statistics = Statistics::new(protocol.features);
        Self { protocol: protocol.clone(), statistics, features: keep_features.then(Vec::new), counted: true }
    }

    /// Of these pictures, with features.
    ///
    /// # Errors
    /// As [`Extractor::features`] and [`Self::add_rows`].
    pub fn of(extractor: &Extractor, pictures: &[Picture]) -> Result<Self> {
        let mut summary = Self::new(extractor.protocol(), true);
        let prepared: Vec<_> = pictures.iter().map(|p| extractor.prepare(p)).collect::<Result<_>>()?;
        summary.add_rows(&extractor.features(&prepared)?)?;
        Ok(summary)
    }

    /// Adds the features of pictures, `[n, d]`.
    ///
    /// # Errors
    /// As [`Statistics::add_rows`].
    pub fn add_rows(&mut self, rows: &[f32]) -> Result<()> {
        self.statistics.add_rows(rows)?;
        if let Some(kept) = &mut self.features {
            kept.extend_from_slice(rows);
        }
        Ok(())
    }

    /// What the features are under.
    pub fn protocol(&self) -> &Protocol {
        &self.protocol
    }

    /// Joins another set. Features are kept if both have kept theirs.
    ///
    /// # Errors
    /// As [`Protocol::check_same`].
    pub fn merge(&mut self, other: &Self) -> Result<()> {
        self.protocol.check_same(&other.protocol)?;
        if !self.counted || !other.counted {
            return Err(Error::usage("statistics of an unknown number of pictures cannot be joined to others"));
        }
        self.statistics.merge(&other.statistics)?;
        match (&mut self.features, &other.features) {
            (Some(ours), Some(theirs)) => ours.extend_from_slice(theirs),
            (ours, _) => *ours = None,
        }
        Ok(())
    }

    /// Reads an archive of pytorch-fid or clean-fid (`.npz`), which holds a mean and a covariance and no more. That it was made
    /// under this protocol is the caller's word.
    ///
    /// # Errors
    /// `Io`; `Data` where the file is no such archive or of another number of features; `Usage` where the protocol is not
    /// Inception's.
    pub fn load_npz(path: &Path, protocol: &Protocol) -> Result<Self> {
        if !protocol.is_inception() {
            return Err(Error::usage(format!(
                "{} holds statistics of Inception's features, and these are of {protocol}: give --inception",
                path.display()
            )));
        }
        let (mean, covariance) = npz::read(path)?;
        if mean.len() != protocol.features {
            return Err(Error::data(format!(
                "{} holds {} features; expected the {} of Inception's last layer",
                path.display(),
                mean.len(),
                protocol.features
            )));
        }
        let statistics = Statistics::of_moments(mean, covariance)?;
        Ok(Self { protocol: protocol.clone(), statistics, features: None, counted: false })
    }

    /// How many pictures there are, where that is known.
    pub fn pictures(&self) -> Option<u64> {
        self.counted.then(|| self.statistics.count())
    }

    /// The statistics.
    pub fn statistics(&self) -> &Statistics {
        &self.statistics
    }

    /// The features, `[n, d]`, where they were kept.
    pub fn features(&self) -> Option<&[f32]> {
        self.features.as_deref()
    }

    /// Writes the file, whole or not at all.
    ///
    /// # Errors
    /// `Io` where the system refuses.
    pub fn save(&self, path: &Path) -> Result<()> {
        self.write(path, None)
    }

    /// Writes what was read so far of the set that `set` stands for: pictures by their number and order, and where they are.
    ///
    /// # Errors
    /// As [`Self::save`].
    pub fn save_unfinished(&self, path: &Path, set: &str) -> Result<()> {
        self.write(path, Some(set))
    }

    fn write(&self, path: &Path, unfinished: Option<&str>) -> Result<()> {
        if !self.counted {
            return Err(Error::usage("statistics of an unknown number of pictures cannot be written"));
        }
        let bytes = |values: &[f64]| values.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>();
        let (mean, scatter) = (bytes(self.statistics.mean()), bytes(self.statistics.scatter()));
        let (count, dim) = (self.statistics.count() as usize, self.protocol.features);
        let tensor = |name: &str, shape, content| RawTensor { name: name.to_owned(), shape, content };
        let mut tensors = vec![
            tensor("mean", vec![dim], Content::Bytes(Dtype::F64, &mean)),
            tensor("scatter", vec![dim, dim], Content::Bytes(Dtype::F64, &scatter)),
        ];
        if let Some(features) = &self.features {
            tensors.push(tensor("features", vec![count, dim], Content::F32(features)));
        }
        let mut metadata = HashMap::from([
            (FORMAT.to_owned(), "1".to_owned()),
            (EXTRACTOR.to_owned(), self.protocol.extractor.clone()),
            (DIGEST.to_owned(), self.protocol.digest.clone()),
            (RESIZE.to_owned(), self.protocol.resize.clone()),
            (COUNT.to_owned(), count.to_string()),
        ]);
        metadata.extend(unfinished.map(|set| (UNFINISHED.to_owned(), set.to_owned())));
        write_raw(path, tensors, &metadata)
    }

    /// Reads a file that [`Self::save`] wrote.
    ///
    /// # Errors
    /// `Io`; `Model` where it is damaged, no statistics, unfinished, or of an extractor that this program does not have.
    pub fn load(path: &Path) -> Result<Self> {
        let weights = Weights::open(path)?;
        if weights.metadata().contains_key(UNFINISHED) {
            return Err(Error::model(format!(
                "{}: the set was not read to its end; the `imagen eval stats` that began it goes on with it",
                path.display()
            )));
        }
        Self::parse(&weights).context(|| path.display().to_string())
    }

    /// Reads a file that [`Self::save_unfinished`] wrote, with what it said the set was.
    ///
    /// # Errors
    /// As [`Self::load`]; `Model` where the file is a finished one.
    pub fn load_unfinished(path: &Path) -> Result<(Self, String)> {
        let weights = Weights::open(path)?;
        let set = weights.metadata().get(UNFINISHED).cloned();
        let set = set.ok_or_else(|| Error::model(format!("{} is not of an unfinished set", path.display())))?;
        Ok((Self::parse(&weights).context(|| path.display().to_string())?, set))
    }

    fn parse(weights: &Weights) -> Result<Self> {
        let entry = |key: &str| weights.metadata().get(key).map(String::as_str);
        if entry(FORMAT) != Some("1") {
            return Err(Error::model(
                "these are no statistics of pictures in format 1; expected a file written by `imagen eval stats`",
            ));
        }
        let said = |key| entry(key).unwrap_or("(none)").to_owned();
        let dim = weights.shape("mean").map_or(0, |shape| shape.iter().product());
        let mut protocol =
            Protocol { extractor: said(EXTRACTOR), digest: said(DIGEST), resize: said(RESIZE), features: dim };
        // files of before there were two ways to resize
        if entry(RESIZE).is_none() && protocol.digest == Protocol::layout().digest {
            protocol.resize = Protocol::layout().resize;
        }
        protocol.check_known()?;
        let count: u64 = entry(COUNT)
            .and_then(|count| count.parse().ok())
            .ok_or_else(|| Error::model(format!("{COUNT} in the header is no count of pictures")))?;
        let f64s = |name: &str, shape: &[usize]| match weights.raw(name) {
            Some((Dtype::F64, there, bytes)) if there == shape => {
                Ok(bytes.as_chunks().0.iter().map(|bytes| f64::from_le_bytes(*bytes)).collect())
            }
            _ => Err(Error::model(format!("`{name}` is missing or not f64 of {shape:?}"))),
        };
        let statistics = Statistics::from_parts(count, f64s("mean", &[dim])?, f64s("scatter", &[dim, dim])?)?;
        let features = match weights.shape("features") {
            Some(_) => Some(weights.tensor_f32("features", &[count as usize, dim])?),
            None => None,
        };
        Ok(Self { protocol, statistics, features, counted: true })
    }
}

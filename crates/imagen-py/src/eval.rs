//! Distances of two sets of pictures over arrays: `Extractor`, `Summary`, `fid`, `kid`, `precision_recall`.

use std::path::PathBuf;
use std::sync::Arc;

use burn::tensor::Device;
use imagen::eval::{self, Interval, KidOptions};
use imagen::image::Picture;
use imagen::models::weights::Weights;
use pyo3::prelude::*;
use rayon::prelude::*;

use crate::arrays;
use crate::error::{raise, value};
use crate::wait::compute;

/// What Python shows as the default number of neighbours is the library's.
const _: () = assert!(eval::NEIGHBOURS == 3);

/// Pictures that are taken from Python at once, between two looks at Ctrl-C.
const CHUNK: usize = 32;

/// What turns pictures into features: without arguments the built-in `layout-1`, which needs no weights and sees layout,
/// colour and outline; with a file Inception-v3.
///
/// Distances are an FID and a KID as papers report them over Inception's features with the published weights alone.
///
/// Args:
///     inception: weights of Inception-v3, a safetensors file that tools/inception_weights.py makes of pytorch-fid's.
///     resize: how pictures come to its 299x299: "original" as in pytorch-fid, "clean" as in clean-fid.
///
/// Raises:
///     ImagenError: if the file holds other weights.
///     OSError: if the system refuses to read it.
#[pyclass(frozen, module = "imagen")]
pub(crate) struct Extractor(Arc<eval::Extractor>);

#[pymethods]
impl Extractor {
    #[new]
    #[pyo3(signature = (inception = None, *, resize = "original"))]
    fn new(py: Python<'_>, inception: Option<PathBuf>, resize: &str) -> PyResult<Self> {
        let way = resize.parse().map_err(raise)?;
        let Some(file) = inception else { return Ok(Self(Arc::default())) };
        let open = move || eval::Extractor::inception(&Weights::open(&file)?, way, &Device::flex());
        Ok(Self(Arc::new(compute(py, open)?)))
    }

    /// The features of a set of pictures, summed up, for several comparisons.
    ///
    /// Args:
    ///     pictures: an array [n, h, w, c] of uint8, or arrays [h, w, c] or pictures of Pillow one by one, as from a list or a
    ///         generator; they may differ in size.
    fn summary(&self, py: Python<'_>, pictures: &Bound<'_, PyAny>) -> PyResult<Summary> {
        let mut summary = eval::Summary::new(self.0.protocol(), true);
        let mut pictures = arrays::pictures(pictures)?;
        loop {
            let chunk: Vec<Picture> = pictures.by_ref().take(CHUNK).collect::<PyResult<_>>()?;
            if chunk.is_empty() {
                return Ok(Summary(Arc::new(summary)));
            }
            let extractor = self.0.clone();
            let features = move || {
                let prepared = chunk.par_iter().map(|picture| extractor.prepare(picture));
                extractor.features(&prepared.collect::<imagen::Result<Vec<_>>>()?)
            };
            summary.add_rows(&compute(py, features)?).map_err(raise)?;
        }
    }

    /// What its features are under, and the resize: numbers of different protocols are not comparable.
    #[getter]
    fn protocol(&self) -> String {
        self.0.protocol().to_string()
    }

    fn __repr__(&self) -> String {
        format!("<imagen.Extractor: {}>", self.0.protocol())
    }
}

/// The features of a set of pictures, summed up by `Extractor.summary` or read from a file of `imagen eval stats`.
#[pyclass(frozen, module = "imagen")]
pub(crate) struct Summary(Arc<eval::Summary>);

#[pymethods]
impl Summary {
    /// Read a file of `imagen eval stats` or of `save`.
    ///
    /// Raises:
    ///     ImagenError: if it is none.
    ///     OSError: if the system refuses to read it.
    #[staticmethod]
    fn load(py: Python<'_>, path: PathBuf) -> PyResult<Self> {
        Ok(Self(Arc::new(compute(py, move || eval::Summary::load(&path))?)))
    }

    /// Write a file that `load` and the program's `imagen eval` read.
    fn save(&self, py: Python<'_>, path: PathBuf) -> PyResult<()> {
        let summary = self.0.clone();
        compute(py, move || summary.save(&path))
    }

    /// The features of each picture, an array [n, d] of float32; None where a file does not hold them.
    #[getter]
    fn features<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let dim = self.0.protocol().features;
        self.0.features().map(|rows| arrays::array(py, rows, [rows.len() / dim, dim])).transpose()
    }

    /// What the features are under.
    #[getter]
    fn protocol(&self) -> String {
        self.0.protocol().to_string()
    }

    fn __len__(&self) -> usize {
        self.0.statistics().count() as usize
    }

    fn __repr__(&self) -> String {
        format!("<imagen.Summary: {} pictures; {}>", self.__len__(), self.0.protocol())
    }
}

/// A number with an interval of 95 %. `float(score)` is the number.
#[pyclass(frozen, get_all, module = "imagen")]
pub(crate) struct Score {
    /// What it is called: an FID over other features than Inception's is a "Frechet distance".
    name: &'static str,
    /// The number.
    value: f64,
    /// Where further pictures would have put it in 95 of 100 cases, low and high; None where it is not known.
    interval: Option<(f64, f64)>,
    /// What the features are under.
    protocol: String,
}

#[pymethods]
impl Score {
    fn __float__(&self) -> f64 {
        self.value
    }

    fn __repr__(&self) -> String {
        let Self { name, value, protocol, .. } = self;
        let interval = self.interval.map(|(low, high)| format!(" ({low:.4} to {high:.4})")).unwrap_or_default();
        format!("<{name} {value:.4}{interval}; {protocol}>")
    }
}

impl Score {
    fn new(name: &'static str, value: f64, interval: Option<Interval>, of: &eval::Summary) -> Self {
        let interval = interval.map(|interval| (interval.low, interval.high));
        Self { name, value, interval, protocol: of.protocol().to_string() }
    }
}

/// Frechet distance of two sets of pictures: the FID, equal to pytorch-fid's, over Inception's features.
///
/// It grows as sets get smaller: compare only distances of sets of equal sizes.
///
/// Args:
///     a, b: pictures as `Extractor.summary` takes them, or a `Summary`.
///     extractor: what looks at pictures; `Extractor()` by default.
///
/// Raises:
///     ValueError: if a set has fewer than two pictures or the sets are under different protocols.
#[pyfunction]
#[pyo3(signature = (a, b, *, extractor = None))]
pub(crate) fn fid(
    py: Python<'_>,
    a: &Bound<'_, PyAny>,
    b: &Bound<'_, PyAny>,
    extractor: Option<&Extractor>,
) -> PyResult<Score> {
    let [a, b] = sets(py, [a, b], extractor)?;
    compute(py, move || {
        let found = eval::frechet(&a, &b)?;
        let name = if a.protocol().is_inception() { "FID" } else { "Frechet distance" };
        Ok(Score::new(name, found.distance, found.interval, &a))
    })
}

/// Kernel distance of two sets of pictures, as papers report it over Inception's features. Unbiased at any number of
/// pictures; may be negative.
///
/// Args:
///     a, b: pictures as `Extractor.summary` takes them, or a `Summary` that holds features.
///     seed: of the blocks in which sets of more than 4,096 pictures are compared.
///     extractor: what looks at pictures; `Extractor()` by default.
///
/// Raises:
///     ValueError: if a set has fewer than three pictures, holds no features, or the sets are under different protocols.
#[pyfunction]
#[pyo3(signature = (a, b, *, seed = 0, extractor = None))]
pub(crate) fn kid(
    py: Python<'_>,
    a: &Bound<'_, PyAny>,
    b: &Bound<'_, PyAny>,
    seed: u64,
    extractor: Option<&Extractor>,
) -> PyResult<Score> {
    let [a, b] = sets(py, [a, b], extractor)?;
    check_features(&a, &b)?;
    compute(py, move || {
        let (dim, options) = (a.protocol().features, KidOptions { seed, ..KidOptions::default() });
        let [rows_a, rows_b] = [&a, &b].map(|set| set.features().unwrap_or_default());
        let found = eval::kid(rows_a, rows_b, dim, &options)?;
        Ok(Score::new("KID", found.value, Some(found.interval), &a))
    })
}

/// Improved precision and recall: the share of drawn pictures that lie among real ones, and of real ones among drawn.
///
/// Both depend on the number of pictures: compare only sets of equal sizes.
///
/// Args:
///     drawn, real: pictures as `Extractor.summary` takes them, or a `Summary` that holds features.
///     neighbours: how far a picture's neighbourhood reaches.
///     extractor: what looks at pictures; `Extractor()` by default.
///
/// Raises:
///     ValueError: if a set has no more pictures than neighbours, holds no features, or the sets are under different protocols.
#[pyfunction]
#[pyo3(signature = (drawn, real, *, neighbours = 3, extractor = None))]
pub(crate) fn precision_recall(
    py: Python<'_>,
    drawn: &Bound<'_, PyAny>,
    real: &Bound<'_, PyAny>,
    neighbours: usize,
    extractor: Option<&Extractor>,
) -> PyResult<(Score, Score)> {
    let [drawn, real] = sets(py, [drawn, real], extractor)?;
    check_features(&drawn, &real)?;
    compute(py, move || {
        let dim = drawn.protocol().features;
        let [rows_drawn, rows_real] = [&drawn, &real].map(|set| set.features().unwrap_or_default());
        let found = eval::precision_recall(rows_drawn, rows_real, dim, neighbours)?;
        let score = |name, covered: eval::Covered| Score::new(name, covered.rate, Some(covered.interval), &drawn);
        Ok((score("precision", found.precision), score("recall", found.recall)))
    })
}

/// Both sets, looked at by this extractor, or by `layout-1` where there is none.
fn sets(
    py: Python<'_>,
    sets: [&Bound<'_, PyAny>; 2],
    extractor: Option<&Extractor>,
) -> PyResult<[Arc<eval::Summary>; 2]> {
    let of = |set: &Bound<'_, PyAny>| match (set.cast::<Summary>(), extractor) {
        (Ok(summary), _) => Ok(summary.get().0.clone()),
        (Err(_), Some(extractor)) => extractor.summary(py, set).map(|summary| summary.0),
        (Err(_), None) => Extractor(Arc::default()).summary(py, set).map(|summary| summary.0),
    };
    Ok([of(sets[0])?, of(sets[1])?])
}

/// Refuses what cannot be compared picture by picture.
fn check_features(a: &eval::Summary, b: &eval::Summary) -> PyResult<()> {
    a.protocol().check_same(b.protocol()).map_err(raise)?;
    if a.features().is_some() && b.features().is_some() {
        return Ok(());
    }
    Err(value("a set holds no features of single pictures: make its file anew with `imagen eval stats --features`"))
}

//! `load`, `Model`, `Drawing` and `Step`.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use imagen::cascade::ModelFiles;
use imagen::image::FloatPicture;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyRange, PyTuple};

use crate::arrays;
use crate::error::raise;
use crate::request::{Arguments, Asked};
use crate::worker::{Estimate, Facts, Progress, Worker};

/// Open a model: the built-in one, or that of a folder which `imagen export` made.
///
/// Networks are read when they are first needed.
///
/// Raises:
///     ImagenError: if there is no usable model in the folder.
///     OSError: if the system refuses to read it.
#[pyfunction]
#[pyo3(signature = (model = None))]
pub(crate) fn load(py: Python<'_>, model: Option<PathBuf>) -> PyResult<Model> {
    let files = match model {
        None => ModelFiles::BuiltIn(imagen_builtin::FILES),
        Some(folder) => ModelFiles::Folder(folder),
    };
    let (worker, facts) = Worker::open(py, files)?;
    Ok(Model { worker, facts: Arc::new(facts), drawings: AtomicU64::new(0) })
}

/// A text encoder and the stages of a cascade. `load` opens one.
///
/// Calls from several threads take turns.
#[pyclass(frozen, module = "imagen")]
pub(crate) struct Model {
    worker: Worker,
    facts: Arc<Facts>,
    /// Drawings that were begun.
    drawings: AtomicU64,
}

/// What a model has of a stage, and how it draws where nothing is said.
#[pyclass(frozen, get_all, skip_from_py_object, module = "imagen")]
#[derive(Clone)]
pub(crate) struct Stage {
    /// "base", "sr256" or "sr1024".
    name: &'static str,
    /// Side of its pictures, in pixels.
    size: usize,
    /// Evaluations of the network per picture.
    steps: usize,
    /// Guidance weight; 1 is none.
    guidance: f64,
    /// The sampler.
    sampler: String,
    /// What happens to values beyond those of a picture.
    thresholding: String,
    /// Whether it runs only where `until` asks for it.
    on_request: bool,
}

#[pymethods]
impl Stage {
    fn __repr__(&self) -> String {
        let Self { name, size, steps, guidance, .. } = self;
        format!("Stage(name={name:?}, size={size}, steps={steps}, guidance={guidance})")
    }
}

#[pymethods]
impl Model {
    /// Draw pictures.
    ///
    /// A picture is a function of model, prompt, seed and settings: the same call gives the same picture. Its attribute
    /// `info` holds the prompt and the seed. Ctrl-C ends a drawing.
    ///
    /// Args:
    ///     prompt: a text, or a list of texts.
    ///     seed: of the first picture of a prompt; the others count up from it.
    ///     count: pictures for each prompt.
    ///     steps: evaluations of the network per picture, for all stages or {"base": 50, "sr256": 20}.
    ///     guidance: how closely the text is followed, of the base alone or by stage; 1 is none.
    ///     sampler: for example "ddpm" or "ddim", for all stages or by stage.
    ///     thresholding: "none", "static" or "dynamic:0.995", for all stages or by stage.
    ///     aug_level: noise in what is enlarged, 0 to 1, for all super-resolution stages or by stage.
    ///     until: the last stage to run: "base", "sr256" or "sr1024".
    ///     batch: pictures that are drawn together; changes speed and memory alone.
    ///
    /// Returns:
    ///     A PIL image for one prompt and a count of 1, a list of pictures otherwise.
    ///
    /// Raises:
    ///     ValueError: if an argument is out of range.
    ///     ImagenError: if the model lacks a stage or computes something that is no number.
    #[pyo3(signature = (prompt, *, seed = 0, count = 1, steps = None, guidance = None, sampler = None, thresholding = None,
                        aug_level = None, until = None, batch = 4))]
    fn sample<'py>(
        &self,
        py: Python<'py>,
        prompt: &Bound<'py, PyAny>,
        seed: i128,
        count: i128,
        steps: Option<&Bound<'py, PyAny>>,
        guidance: Option<&Bound<'py, PyAny>>,
        sampler: Option<&Bound<'py, PyAny>>,
        thresholding: Option<&Bound<'py, PyAny>>,
        aug_level: Option<&Bound<'py, PyAny>>,
        until: Option<&str>,
        batch: i128,
    ) -> PyResult<Bound<'py, PyAny>> {
        let arguments = Arguments { seed, count, steps, guidance, sampler, thresholding, aug_level, until, batch };
        let asked = arguments.over(prompt, &self.facts)?;
        let single = asked.single;
        let mut drawing = self.begin(py, asked)?;
        while drawing.advance(py)?.is_some() {}
        let pictures = PyList::new(py, &drawing.pictures)?;
        if single { pictures.get_item(0) } else { Ok(pictures.into_any()) }
    }

    /// Draw, and see every step: an iterator of `Step`, which computes the next step when it is asked for it.
    ///
    /// Whoever stops iterating has cancelled the drawing. The finished pictures are in its attribute `pictures`.
    /// The arguments are those of `sample`.
    ///
    /// Example:
    ///     for step in model.steps("a red apple"):
    ///         print(step.stage, step.index + 1, step.of, step.x_hat.shape)
    #[pyo3(signature = (prompt, *, seed = 0, count = 1, steps = None, guidance = None, sampler = None, thresholding = None,
                        aug_level = None, until = None, batch = 4))]
    fn steps(
        &self,
        py: Python<'_>,
        prompt: &Bound<'_, PyAny>,
        seed: i128,
        count: i128,
        steps: Option<&Bound<'_, PyAny>>,
        guidance: Option<&Bound<'_, PyAny>>,
        sampler: Option<&Bound<'_, PyAny>>,
        thresholding: Option<&Bound<'_, PyAny>>,
        aug_level: Option<&Bound<'_, PyAny>>,
        until: Option<&str>,
        batch: i128,
    ) -> PyResult<Drawing> {
        let arguments = Arguments { seed, count, steps, guidance, sampler, thresholding, aug_level, until, batch };
        self.begin(py, arguments.over(prompt, &self.facts)?)
    }

    /// The stages, in the order in which they run.
    #[getter]
    fn stages(&self) -> Vec<Stage> {
        let stage = |info: &imagen::cascade::StageInfo| Stage {
            name: info.stage.name(),
            size: info.size,
            steps: info.settings.steps,
            guidance: info.settings.guidance,
            sampler: info.settings.sampler.to_string(),
            thresholding: info.settings.thresholding.to_string(),
            on_request: info.on_request,
        };
        self.facts.stages.iter().map(stage).collect()
    }

    fn __repr__(&self) -> String {
        let names: Vec<&str> = self.facts.stages.iter().map(|info| info.stage.name()).collect();
        format!("<imagen.Model: {}; {}>", self.facts.label, names.join(", "))
    }
}

impl Model {
    fn begin(&self, py: Python<'_>, asked: Asked) -> PyResult<Drawing> {
        let number = self.drawings.fetch_add(1, Ordering::Relaxed);
        // made first, so that the drawing is ended whatever happens
        let drawing = Drawing { worker: self.worker.clone(), number, pictures: Vec::new() };
        self.worker.begin(py, number, asked.request)?;
        Ok(drawing)
    }
}

/// A drawing under way: an iterator of `Step`.
#[pyclass(module = "imagen")]
pub(crate) struct Drawing {
    worker: Worker,
    number: u64,
    /// The finished pictures so far, in order; all of them after the last step.
    #[pyo3(get)]
    pictures: Vec<Py<PyAny>>,
}

impl Drawing {
    /// The next step, with finished pictures kept on the way; none at the end.
    fn advance(&mut self, py: Python<'_>) -> PyResult<Option<Estimate>> {
        loop {
            match self.worker.next(py, self.number)? {
                Some(Progress::Step(estimate)) => return Ok(Some(estimate)),
                Some(Progress::Finished { prompt, seed, stage, picture }) => {
                    let info = PyDict::new(py);
                    info.set_item("prompt", prompt)?;
                    info.set_item("seed", seed)?;
                    info.set_item("stage", stage.name())?;
                    self.pictures.push(arrays::pillow(py, &picture, info)?.unbind());
                }
                Some(Progress::Passed) => {}
                None => return Ok(None),
            }
        }
    }
}

#[pymethods]
impl Drawing {
    fn __iter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __next__(&mut self, py: Python<'_>) -> PyResult<Option<Step>> {
        let Some(estimate) = self.advance(py)? else { return Ok(None) };
        let Estimate { stage, index, of, pictures: (from, to), x_hat, shape } = estimate;
        let array = arrays::array(py, &x_hat, shape)?.unbind();
        let pictures = PyRange::new(py, from as isize, to as isize)?.unbind();
        Ok(Some(Step { stage: stage.name(), index, of, pictures, x_hat: array, values: x_hat, shape }))
    }

    /// End the drawing; its next step is never computed. `with` does the same, and so does forgetting it.
    fn close(&self) {
        self.worker.end(self.number);
    }

    fn __enter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, _exception: &Bound<'_, PyTuple>) {
        self.close();
    }
}

impl Drop for Drawing {
    fn drop(&mut self) {
        self.worker.end(self.number);
    }
}

/// A step of a drawing: one evaluation of a network for a batch of pictures.
#[pyclass(frozen, module = "imagen")]
pub(crate) struct Step {
    /// The stage: "base", "sr256" or "sr1024".
    #[pyo3(get)]
    stage: &'static str,
    /// This step, from 0.
    #[pyo3(get)]
    index: usize,
    /// Steps of the stage.
    #[pyo3(get)]
    of: usize,
    /// Which pictures of the drawing, counted over all prompts.
    #[pyo3(get)]
    pictures: Py<PyRange>,
    /// The clean pictures as they are estimated now: an array [n, h, w, c] of float32, in [-1, 1].
    #[pyo3(get)]
    x_hat: Py<PyAny>,
    values: Vec<f32>,
    shape: [usize; 4],
}

#[pymethods]
impl Step {
    /// The estimate as PIL images.
    fn images<'py>(&self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyAny>>> {
        let [_, height, width, channels] = self.shape;
        let image = |values: &[f32]| {
            let picture = FloatPicture::new(width, height, channels, values.to_vec()).and_then(|p| p.to_picture());
            arrays::pillow(py, &picture.map_err(raise)?, PyDict::new(py))
        };
        self.values.chunks_exact(height * width * channels).map(image).collect()
    }

    fn __repr__(&self) -> String {
        format!("<imagen.Step: {} {} of {}; {:?}>", self.stage, self.index + 1, self.of, self.shape)
    }
}

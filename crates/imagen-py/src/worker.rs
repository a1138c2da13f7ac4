//! The thread that owns a model, and the channels to it.
//!
//! Networks are built on first use behind cells that belong to one thread, and drawings borrow the model; so both live on one
//! thread, and objects of Python hold numbers of drawings. Nothing runs before it is asked for: a `Next` evaluates a
//! network once or hands out a finished picture, and a drawing that was ended costs nothing more.

use std::collections::HashMap;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use burn::tensor::Device;
use imagen::cascade::{Drawing, Event, Imagen, ModelFiles, Request, StageInfo, StageName};
use imagen::image::Picture;
use imagen::{Error, Result};
use pyo3::prelude::*;

use crate::error::{ImagenError, raise};
use crate::wait::wait;

/// Stack of a model's thread: as much as a program's main thread has.
const STACK: usize = 8 << 20;

/// What a model is asked for.
enum Job {
    /// To begin a drawing under a number.
    Begin { drawing: u64, request: Box<Request>, reply: Sender<Result<()>> },
    /// For the next that happens in a drawing; nothing where it is finished.
    Next { drawing: u64, reply: Sender<Option<Result<Progress>>> },
    /// To forget a drawing.
    End { drawing: u64 },
}

/// An [`Event`] without a tensor of the library.
pub(crate) enum Progress {
    /// A network was evaluated.
    Step(Estimate),
    /// A picture of the last stage is finished.
    Finished { prompt: String, seed: u64, stage: StageName, picture: Picture },
    /// A picture of a stage before it is finished.
    Passed,
}

/// The clean pictures as a step estimates them.
pub(crate) struct Estimate {
    pub(crate) stage: StageName,
    pub(crate) index: usize,
    pub(crate) of: usize,
    /// The first picture and the one behind the last.
    pub(crate) pictures: (usize, usize),
    pub(crate) x_hat: Vec<f32>,
    /// `[n, h, w, c]`
    pub(crate) shape: [usize; 4],
}

/// What is known of a model once it is open.
pub(crate) struct Facts {
    pub(crate) label: String,
    pub(crate) stages: Vec<StageInfo>,
    pub(crate) default_until: StageName,
}

/// The way to a model's thread. The thread ends when nothing refers to it any more.
#[derive(Clone)]
pub(crate) struct Worker {
    jobs: Sender<Job>,
    process: u32,
}

impl Worker {
    /// Opens a model on a thread of its own.
    pub(crate) fn open(py: Python<'_>, files: ModelFiles) -> PyResult<(Self, Facts)> {
        let (jobs, inbox) = channel();
        let (opened, facts) = channel();
        let thread = thread::Builder::new().name("imagen".into()).stack_size(STACK);
        thread
            .spawn(move || serve(&files, inbox, &opened))
            .map_err(|e| ImagenError::new_err(format!("no thread: {e}")))?;
        let facts = wait(py, facts)?.map_err(raise)?;
        Ok((Self { jobs, process: std::process::id() }, facts))
    }

    /// Begins a drawing under a number that no other drawing of the model has.
    pub(crate) fn begin(&self, py: Python<'_>, drawing: u64, request: Request) -> PyResult<()> {
        let (reply, answer) = channel();
        self.send(Job::Begin { drawing, request: Box::new(request), reply })?;
        wait(py, answer)?.map_err(raise)
    }

    /// The next that happens in a drawing.
    pub(crate) fn next(&self, py: Python<'_>, drawing: u64) -> PyResult<Option<Progress>> {
        let (reply, answer) = channel();
        self.send(Job::Next { drawing, reply })?;
        wait(py, answer)?.transpose().map_err(raise)
    }

    /// Ends a drawing. What its current step computes is thrown away.
    pub(crate) fn end(&self, drawing: u64) {
        // a thread that has gone has no drawings
        drop(self.jobs.send(Job::End { drawing }));
    }

    fn send(&self, job: Job) -> PyResult<()> {
        if self.process != std::process::id() {
            return Err(ImagenError::new_err(
                "this model was loaded before the process was forked, and threads do not come along: load it in the process \
                 that draws",
            ));
        }
        self.jobs
            .send(job)
            .map_err(|_| ImagenError::new_err("the model's thread has ended, which is a fault of this module"))
    }
}

/// What the thread does until nobody can ask any more.
fn serve(files: &ModelFiles, inbox: Receiver<Job>, opened: &Sender<Result<Facts>>) {
    let imagen = match Imagen::open_with(files, Some(&ModelFiles::BuiltIn(imagen_builtin::FILES)), &Device::flex()) {
        Ok(imagen) => imagen,
        Err(error) => return drop(opened.send(Err(error))),
    };
    let facts = Facts { label: files.label(), stages: imagen.stages(), default_until: imagen.default_until() };
    if opened.send(Ok(facts)).is_err() {
        return; // Ctrl-C while it was opened
    }
    let mut drawings: HashMap<u64, Drawing<'_>> = HashMap::new();
    for job in inbox {
        match job {
            Job::Begin { drawing, request, reply } => {
                let begun = imagen.sample(&request).map(|sampling| drop(drawings.insert(drawing, sampling)));
                // whoever has stopped waiting ends the drawing too
                drop(reply.send(begun));
            }
            Job::Next { drawing, reply } => {
                let event = drawings.get_mut(&drawing).and_then(Iterator::next);
                drop(reply.send(event.map(|event| event.and_then(progress))));
            }
            Job::End { drawing } => drop(drawings.remove(&drawing)),
        }
    }
}

/// An event in plain numbers.
fn progress(event: Event) -> Result<Progress> {
    Ok(match event {
        Event::Step { stage, index, of, pictures, x_hat } => {
            let shape = x_hat.dims();
            let values = x_hat.into_data().try_to_vec::<f32>();
            let x_hat = values.map_err(|e| Error::model(format!("pictures are f32: {e:?}")))?;
            Progress::Step(Estimate { stage, index, of, pictures: (pictures.start, pictures.end), x_hat, shape })
        }
        Event::Image { last: true, stage, prompt, seed, picture, .. } => {
            Progress::Finished { prompt, seed, stage, picture }
        }
        Event::Image { .. } => Progress::Passed,
    })
}

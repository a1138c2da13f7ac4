//! What the program lends to the studio: the models that it was started with, and what a picture says about itself. The studio
//! opens no file of a model itself, so that nothing that a client sends can name one.

use axum::Router;
use imagen::cascade::deepfloyd::Verdict;
use imagen::cascade::{Edges, Imagen, Remarks, Request, StageName, StageSettings};
use imagen::image::{Picture, PngText};
use serde_json::Value;

/// Opens one of the configured models, on the thread that will own it.
pub type Open = Box<dyn Fn(&str) -> imagen::Result<Model> + Send>;

/// Says what a finished picture is.
pub type Describe = Box<dyn Fn(&Imagen, &Finished<'_>) -> Description>;

/// Sweeps and studies of a folder, which the program reads.
pub trait Evaluations: Send + Sync {
    /// All of them: `{"sweeps": […], "studies": […]}`.
    ///
    /// # Errors
    /// What the files fail with.
    fn list(&self) -> imagen::Result<Value>;

    /// The report of the one of a name as an HTML page; nothing where there is none.
    ///
    /// # Errors
    /// What the files fail with.
    fn report(&self, name: &str) -> imagen::Result<Option<String>>;

    /// The names of the studies that may be rated.
    fn studies(&self) -> Vec<String>;

    /// The pages of a study's raters, which stand below the address `base`; nothing where there is no such study.
    ///
    /// # Errors
    /// What the files fail with.
    fn pages(&self, name: &str, base: &str) -> imagen::Result<Option<Router>>;
}

impl std::fmt::Debug for dyn Evaluations {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Evaluations")
    }
}

/// Multiply-adds a second that a training reaches on this machine; measured when it is asked for.
pub type Pace = Box<dyn Fn() -> f64 + Send + Sync>;

/// The models of a studio.
pub struct Lender {
    /// What they are called; the first is drawn with where a request names none.
    pub names: Vec<String>,
    /// Opens the one of a name.
    pub open: Open,
    /// Bytes that drawing may take; nothing is refused where they are not known.
    pub memory: Option<u64>,
    /// How fast this machine trains, where that can be told.
    pub pace: Option<Pace>,
    /// Evaluations that may be looked at.
    pub evals: Option<Box<dyn Evaluations>>,
}

/// A model that is open.
pub struct Model {
    /// Draws.
    pub imagen: Imagen,
    /// Says what was drawn.
    pub describe: Describe,
    /// Says what will not be drawn.
    pub remarks: Remarks,
    /// Prompts for those who do not know where to begin.
    pub examples: Vec<String>,
}

/// A picture that is finished, with what it was drawn by.
#[derive(Clone, Copy, Debug)]
pub struct Finished<'a> {
    /// What was asked for.
    pub request: &'a Request,
    /// How each stage ran.
    pub stages: &'a [(StageName, StageSettings)],
    /// Which picture of the request.
    pub index: usize,
    /// The picture.
    pub picture: &'a Picture,
    /// What a safety checker found.
    pub verdict: Option<Verdict>,
    /// What it began with.
    pub began: Option<&'a Began>,
}

/// What a drawing began with, as it was given.
#[derive(Clone, Debug)]
pub struct Began {
    /// The picture, before any room was added.
    pub picture: Picture,
    /// White where it was drawn anew.
    pub mask: Option<Picture>,
    /// The room that was added at its edges.
    pub extend: Option<Edges>,
}

/// What a picture is.
#[derive(Clone, Debug)]
pub struct Description {
    /// The texts of its PNG.
    pub text: PngText,
    /// The command that draws it again.
    pub command: String,
}

impl std::fmt::Debug for Lender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lender").field("names", &self.names).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Model {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Model").field("imagen", &self.imagen).finish_non_exhaustive()
    }
}

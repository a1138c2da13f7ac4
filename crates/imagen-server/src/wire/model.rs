//! Models, as clients see them.

use serde::Serialize;

use imagen::cascade::{Request, StageInfo, StageName, StageSettings};

use crate::lender::Model;

/// A model, as clients see it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct ModelView {
    pub(crate) name: String,
    pub(crate) stages: Vec<StageView>,
    pub(crate) default_until: StageName,
    /// Prompts for those who do not know where to begin.
    pub(crate) examples: Vec<String>,
    /// Whether a safety checker judges every picture.
    pub(crate) checked: bool,
    /// Whether its base draws squares alone.
    pub(crate) square: bool,
}

/// A stage of a model, as clients see it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct StageView {
    pub(crate) stage: StageName,
    /// Side of its pictures, in pixels.
    pub(crate) size: usize,
    /// How it runs where nothing is said.
    pub(crate) defaults: StageSettings,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) max_guidance: Option<f64>,
    /// Whether it runs only where a request names it or a later stage.
    pub(crate) on_request: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) trained_steps: Option<u64>,
    pub(crate) parameters: u64,
    /// Bytes that it takes for one picture.
    pub(crate) memory: u64,
    /// Multiply-adds of one evaluation of its network for one picture.
    pub(crate) multiply_adds: u64,
}

impl ModelView {
    pub(crate) fn of(name: &str, Model { imagen, examples, .. }: &Model) -> imagen::Result<Self> {
        let infos = imagen.stages();
        let last = infos.last().map(|info| info.stage);
        let one = Request { until: last, batch: Some(1), ..Request::new(vec!["a".into()], 1, 0) };
        let needs = imagen.needs(&one)?;
        let side = |info: &StageInfo| info.config.as_ref().and_then(|config| config.unet.side());
        let square = infos.first().is_some_and(|info| side(info).is_some());
        let stages = infos.into_iter().map(|info| {
            let need = needs.iter().find(|need| need.stage == Some(info.stage));
            StageView {
                stage: info.stage,
                size: info.size,
                defaults: info.settings,
                max_guidance: info.max_guidance,
                on_request: info.on_request,
                trained_steps: info.step,
                parameters: need.map_or(0, |need| need.parameters),
                memory: need.map_or(0, imagen::cascade::Need::bytes),
                multiply_adds: need.map_or(0, |need| need.multiply_adds),
            }
        });
        Ok(Self {
            name: name.to_owned(),
            stages: stages.collect(),
            default_until: imagen.default_until(),
            examples: examples.clone(),
            checked: imagen.deepfloyd().is_some_and(imagen::cascade::deepfloyd::DeepFloyd::has_checker),
            square,
        })
    }

    /// The stages that run up to this one.
    pub(crate) fn running(&self, until: StageName) -> impl Iterator<Item = &StageView> {
        self.stages.iter().filter(move |stage| stage.stage <= until)
    }
}

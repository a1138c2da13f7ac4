//! Whole pictures of a model of any family, as `imagen sample` draws them, without writing them.

use std::path::Path;

use serde_json::{Map, Value, json};

use imagen::cascade::{Event, Request, StageName};
use imagen::nn::device::Found;

use super::work::Work;
use crate::cli::draw::{DrawArgs, MaxMemory, ModelArgs, Session};
use crate::failure::{Failure, Result};
use crate::progress::Progress;

/// What is drawn: the captions matter to nothing that is measured.
const PROMPT: &str = "a red apple";

/// A batch of pictures through the stages that a request runs.
struct Pictures {
    session: Session,
    multiply_adds: u64,
}

/// The work that was asked for, ready to run.
pub(super) fn work(
    model: &ModelArgs,
    how: &DrawArgs,
    until: Option<StageName>,
    batch: usize,
    memory: &MaxMemory,
    found: &Found,
) -> Result<Box<dyn Work>> {
    let open = model.open(&found.device, &Progress::new(true))?;
    let options = how.over(Default::default(), &open.imagen, (None, until))?;
    let request = Request { options, until, batch: Some(batch), ..Request::new(vec![PROMPT.to_owned()], batch, 1) };
    let session = Session::new(open, request)?;
    memory.check_drawing(found, &session.imagen, &session.request, &model.frozen)?;
    let needs = session.imagen.needs(&session.request)?;
    let stages = needs.iter().filter(|need| need.stage.is_some());
    let multiply_adds = stages.map(|need| need.evaluations * need.multiply_adds).sum();
    Ok(Box::new(Pictures { session, multiply_adds }))
}

impl Work for Pictures {
    fn title(&self) -> String {
        let stages: Vec<String> =
            self.session.stages.iter().map(|(stage, settings)| format!("{stage} {} steps", settings.steps)).collect();
        let (name, count) = (&self.session.record.name, self.session.request.pictures.len());
        format!("pictures of {name}, {}, batch {count}", stages.join(", "))
    }

    fn details(&self) -> Map<String, Value> {
        let stages: Map<String, Value> =
            self.session.stages.iter().map(|(stage, settings)| (stage.to_string(), json!(settings))).collect();
        Map::from_iter([("model".into(), json!(self.session.record)), ("stages".into(), Value::Object(stages))])
    }

    fn multiply_adds(&self) -> u64 {
        self.multiply_adds
    }

    fn run(&mut self) -> Result<()> {
        let mut finished = 0;
        for event in self.session.imagen.sample(&self.session.request)? {
            finished += usize::from(matches!(event?, Event::Image { last: true, .. }));
        }
        debug_assert_eq!(finished, self.session.request.pictures.len());
        Ok(())
    }

    fn dump(&mut self, _: &Path) -> Result<()> {
        Err(Failure::usage("--dump is for a network or an operation; `imagen sample` writes pictures"))
    }
}

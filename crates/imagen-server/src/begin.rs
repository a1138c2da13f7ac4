//! A picture to begin with: what a client says of it, and what the library gets. Pictures are named by ids that were made here,
//! of what was sent before or of the gallery; no address and no path of a client's is one.

use serde::{Deserialize, Serialize};

use imagen::cascade::{Edges, StageName, StartPicture};
use imagen::diffusion::Outside;
use imagen::image::{DecodeOptions, MAX_CHANNELS, Picture, decode};

use crate::ids;
use crate::lender::Began;
use crate::limits::Limits;
use crate::problem::Problem;
use crate::store::Store;
use crate::wire::{ModelView, Order};

/// What a drawing begins with.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct BeginOrder {
    /// The id of a picture that was sent, or of one of the gallery.
    pub(crate) picture: String,
    /// The id of a picture that is white where the other is drawn anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) mask: Option<String>,
    /// How much of the picture is drawn over, 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) strength: Option<f64>,
    /// Pixels over which the mask's edges are soft.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) feather: Option<usize>,
    /// How often each step is taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) resample: Option<usize>,
    /// What the network sees outside the mask.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) outside: Option<Outside>,
    /// Pixels beyond each edge that are drawn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) extend: Option<Room>,
}

/// Pixels beyond each edge of a picture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Room {
    pub(crate) left: usize,
    pub(crate) right: usize,
    pub(crate) top: usize,
    pub(crate) bottom: usize,
}

impl From<Room> for Edges {
    fn from(Room { left, right, top, bottom }: Room) -> Self {
        Self { left, right, top, bottom }
    }
}

impl BeginOrder {
    /// The pictures that it names.
    pub(crate) fn ids(&self) -> impl Iterator<Item = &str> {
        [Some(self.picture.as_str()), self.mask.as_deref()].into_iter().flatten()
    }

    fn settle(&mut self, enlarges: bool, limits: &Limits) -> Result<(), Problem> {
        if self.ids().any(|id| !ids::well_formed(id)) {
            let message = "a picture to begin with is named by the id that POST /api/v1/uploads gave it, or by one of the gallery";
            return Err(Problem::invalid("begin", message));
        }
        self.extend = self.extend.filter(|room| *room != Room::default());
        if self.mask.is_none() && self.extend.is_none() {
            // they soften and repeat nothing
            (self.feather, self.resample, self.outside) = (None, None, None);
        }
        if enlarges && (self.mask.is_some() || self.extend.is_some() || self.strength.is_some()) {
            let message = "a picture that is enlarged has no mask, no room and no strength";
            return Err(Problem::invalid("begin", message));
        }
        if self.strength.is_some_and(|strength| !(0.0..=1.0).contains(&strength)) {
            return Err(Problem::invalid("strength", "strength: expected 0 to 1"));
        }
        if self.resample.is_some_and(|times| !(1..=limits.resample).contains(&times)) {
            return Err(Problem::invalid("resample", format!("resample: expected 1 to {} times", limits.resample)));
        }
        let room = self.extend.unwrap_or_default();
        let most = limits.picture_side;
        if [room.left, room.right, room.top, room.bottom].into_iter().any(|pixels| pixels > most) {
            return Err(Problem::invalid("extend", format!("extend: expected at most {most} pixels beyond an edge")));
        }
        Ok(())
    }
}

/// What an order says of where it begins, brought to its settled form.
pub(crate) fn settle(order: &mut Order, model: &ModelView, until: StageName, limits: &Limits) -> Result<(), Problem> {
    let first = model.stages[0].stage;
    order.from = order.from.filter(|from| *from != first);
    if let Some(from) = order.from {
        if !model.stages.iter().any(|stage| stage.stage == from) || from > until {
            return Err(Problem::invalid("from", format!("{from} is no stage of {} up to {until}", model.name)));
        }
        if order.begin.is_none() {
            return Err(Problem::invalid("from", format!("{from} enlarges: say with begin which picture")));
        }
    }
    let enlarges = order.from.is_some();
    order.begin.as_mut().map_or(Ok(()), |begin| begin.settle(enlarges, limits))
}

/// How much more or less work an order is than a square picture from noise: its size, checked against what the model draws.
pub(crate) fn size(order: &Order, model: &ModelView, store: &Store, limits: &Limits) -> Result<f64, Problem> {
    let Some(begin) = &order.begin else { return Ok(1.0) };
    let mut sizes = Vec::new();
    for id in begin.ids() {
        let size = store.size_of(id)?;
        sizes.push(size.ok_or_else(|| Problem::invalid("begin", "there is no picture of that id; send it again"))?);
    }
    let room = begin.extend.unwrap_or_default();
    let [width, height] = [sizes[0][0] + room.left + room.right, sizes[0][1] + room.top + room.bottom];
    let (long, short) = (width.max(height) as f64, width.min(height) as f64);
    if long / short > 8.0 {
        return Err(Problem::invalid(
            "begin",
            format!("a picture of {width}x{height}: expected sides of at most 8 to 1"),
        ));
    }
    let Some(from) = order.from else {
        if model.square && width != height {
            let message = format!(
                "{} draws squares, and this is {width}x{height}: cut a square out of the picture, or extend it to one",
                model.name
            );
            return Err(Problem::invalid("begin", message));
        }
        return Ok(long / short);
    };
    let at = model.stages.iter().position(|stage| stage.stage == from).unwrap_or(1).max(1);
    let low = model.stages[at - 1].size as f64;
    let until = order.until.unwrap_or(model.default_until);
    let last = model.running(until).last().map_or(0, |stage| stage.size);
    let times = last as f64 / low;
    if long * times > limits.enlarged_side as f64 {
        let most = (limits.enlarged_side as f64 / times) as usize;
        let message =
            format!("a picture of {width}x{height} is enlarged {times} times: expected sides of at most {most}");
        return Err(Problem::invalid("begin", message));
    }
    // a picture that is smaller than what the stage enlarges is brought to that size first
    Ok((short / low).max(1.0).powi(2) * (long / short))
}

impl BeginOrder {
    /// Reads the pictures.
    pub(crate) fn read(&self, store: &Store) -> Result<(StartPicture, Began), Problem> {
        let read = |id: &str| -> Result<Picture, Problem> {
            let gone =
                || Problem::invalid("begin", "the picture that this begins with is no longer there; send it again");
            let file = store.file_of(id)?.ok_or_else(gone)?;
            let options = DecodeOptions { channels: MAX_CHANNELS, ..DecodeOptions::default() };
            decode::open(&file, &options).map_err(|e| {
                tracing::error!(cause = %format!("{e:#}"), "a picture to begin with cannot be read");
                gone()
            })
        };
        let began = Began {
            picture: read(&self.picture)?,
            mask: self.mask.as_deref().map(read).transpose()?,
            extend: self.extend.map(Edges::from),
        };
        let start = StartPicture {
            picture: began.picture.clone(),
            mask: began.mask.clone(),
            strength: self.strength,
            feather: self.feather,
            resample: self.resample,
            outside: self.outside,
        };
        let start = began.extend.map_or(Ok(start.clone()), |edges| start.extended(edges))?;
        Ok((start, began))
    }

    /// Which part of its steps a stage takes, and how often.
    pub(crate) fn effort(&self) -> f64 {
        let again = self.resample.unwrap_or(1) as f64;
        let within = self.mask.is_some() || self.extend.is_some();
        self.strength.unwrap_or(if within { 1.0 } else { 0.75 }) * if within { again } else { 1.0 }
    }
}

/// A place between two seeds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Vary {
    /// The seed that is varied.
    pub(crate) seed: u64,
    /// How far each picture has gone from it to its own seed, 0 to 1.
    pub(crate) part: f64,
}

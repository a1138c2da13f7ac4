//! A picture to begin with: what a client says of it, and what the library gets. Pictures are named by ids that were made here,
//! of what was sent before or of the gallery; no address and no path of a client's is one.

use serde::{Deserialize, Serialize};

use imagen::cascade::{Edges, StageName};
use imagen::diffusion::Outside;

use crate::ids;
use crate::limits::Limits;
use crate::problem::Problem;

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

/// Where an order begins, brought to its settled form: the first stage and the picture, for a model of this name with these
/// stages.
pub(crate) fn settle(
    (from, begin): (&mut Option<StageName>, &mut Option<BeginOrder>),
    (model, stages): (&str, &[StageName]),
    until: StageName,
    limits: &Limits,
) -> Result<(), Problem> {
    *from = from.filter(|from| *from != stages[0]);
    if let Some(from) = *from {
        if !stages.contains(&from) || from > until {
            return Err(Problem::invalid("from", format!("{from} is no stage of {model} up to {until}")));
        }
        if begin.is_none() {
            return Err(Problem::invalid("from", format!("{from} enlarges: say with begin which picture")));
        }
    }
    let enlarges = from.is_some();
    begin.as_mut().map_or(Ok(()), |begin| begin.settle(enlarges, limits))
}

impl BeginOrder {
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

//! The picture that an order begins with: its size before it is drawn from, and its pixels then.

use imagen::cascade::{Edges, StartPicture};
use imagen::image::{DecodeOptions, MAX_CHANNELS, Picture, decode};

use crate::begin::BeginOrder;
use crate::lender::Began;
use crate::limits::Limits;
use crate::problem::Problem;
use crate::store::Store;
use crate::wire::{ModelView, Order};

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

/// The pictures that an order begins with.
pub(crate) fn read(begin: &BeginOrder, store: &Store) -> Result<(StartPicture, Began), Problem> {
    let read = |id: &str| -> Result<Picture, Problem> {
        let gone = || Problem::invalid("begin", "the picture that this begins with is no longer there; send it again");
        let file = store.file_of(id)?.ok_or_else(gone)?;
        let options = DecodeOptions { channels: MAX_CHANNELS, ..DecodeOptions::default() };
        decode::open(&file, &options).map_err(|e| {
            tracing::error!(cause = %format!("{e:#}"), "a picture to begin with cannot be read");
            gone()
        })
    };
    let began = Began {
        picture: read(&begin.picture)?,
        mask: begin.mask.as_deref().map(read).transpose()?,
        extend: begin.extend.map(Edges::from),
    };
    let start = StartPicture {
        picture: began.picture.clone(),
        mask: began.mask.clone(),
        strength: begin.strength,
        feather: begin.feather,
        resample: begin.resample,
        outside: begin.outside,
    };
    let start = began.extend.map_or(Ok(start.clone()), |edges| start.extended(edges))?;
    Ok((start, began))
}

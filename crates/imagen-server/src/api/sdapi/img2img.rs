//! `/sdapi/v1/img2img`: a picture that is drawn over, within a mask or everywhere.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use serde::Deserialize;
use serde_json::Value;

use imagen::image::{Filter, Picture};

use super::{Txt2Img, answer};
use crate::api::uploads::{decoded, inline};
use crate::api::{PictureBody, blocking, peers};
use crate::begin::BeginOrder;
use crate::problem::Problem;
use crate::studio::Studio;

/// What clients send beside what they send for a picture from noise.
#[derive(Debug, Deserialize)]
pub(crate) struct Img2Img {
    #[serde(flatten)]
    drawing: Txt2Img,
    #[serde(default)]
    init_images: Vec<String>,
    mask: Option<String>,
    denoising_strength: Option<f64>,
    /// 1: drawn anew where the mask is black.
    inpainting_mask_invert: Option<Value>,
    mask_blur: Option<usize>,
    /// 1: cut to shape; otherwise pulled into it.
    resize_mode: Option<u8>,
    inpaint_full_res: Option<bool>,
    inpainting_fill: Option<u8>,
}

impl Img2Img {
    /// What of this is not heeded.
    fn ignored(&self) -> Vec<&'static str> {
        let masked = self.mask.is_some();
        let all = [
            (masked && self.inpaint_full_res == Some(true), "inpaint_full_res: the whole picture is drawn"),
            (masked && self.inpainting_fill.is_some_and(|fill| fill != 1), "inpainting_fill"),
            (self.resize_mode.is_some_and(|mode| mode > 1), "resize_mode"),
        ];
        all.into_iter().filter_map(|(given, what)| given.then_some(what)).collect()
    }

    fn inverted(&self) -> bool {
        match &self.inpainting_mask_invert {
            Some(Value::Bool(given)) => *given,
            Some(Value::Number(given)) => given.as_i64() == Some(1),
            _ => false,
        }
    }
}

/// A picture as a square: cut out of its middle, or pulled into it.
fn squared(picture: &Picture, cut: bool) -> Result<Picture, Problem> {
    let side = picture.width().min(picture.height());
    Ok(match cut {
        _ if picture.width() == picture.height() => picture.clone(),
        true => picture.centre_square(),
        false => picture.resize(side, side, Filter::Bicubic)?,
    })
}

/// White for black.
fn inverse(mask: &Picture) -> Picture {
    let channels = mask.channels();
    let colours = if channels.is_multiple_of(2) { channels - 1 } else { channels };
    let pixels =
        mask.pixels().iter().enumerate().map(|(k, value)| if k % channels < colours { 255 - value } else { *value });
    Picture::with_channels(mask.width(), mask.height(), channels, pixels.collect()).expect("as many values as before")
}

/// `POST /sdapi/v1/img2img`
pub(crate) async fn img2img(
    State(studio): State<Arc<Studio>>,
    PictureBody(asked, turn): PictureBody<Img2Img>,
) -> Result<Response, Problem> {
    let (mut order, mut ignored) = asked.drawing.order(&studio)?;
    ignored.extend(asked.ignored());
    let square = order.model.as_deref().and_then(|name| studio.model(name)).is_some_and(|model| model.square);
    let keeper = studio.clone();
    let (begin, asked) = blocking(move || {
        let [image] = asked.init_images.as_slice() else {
            return Err(Problem::invalid("init_images", "init_images: expected one picture"));
        };
        let picture = decoded(&inline(image, "init_images")?, &keeper.limits, "init_images")?;
        let mask =
            asked.mask.as_deref().map(|mask| decoded(&inline(mask, "mask")?, &keeper.limits, "mask")).transpose()?;
        let mask = match mask {
            // masks of any size are laid over the whole picture
            Some(mask) => {
                let filter = if mask.width() > picture.width() { Filter::Area } else { Filter::Bilinear };
                Some(mask.resize(picture.width(), picture.height(), filter)?)
            }
            None => None,
        };
        let shaped = |picture: &Picture| {
            if square { squared(picture, asked.resize_mode == Some(1)) } else { Ok(picture.clone()) }
        };
        let (picture, mask) = (shaped(&picture)?, mask.as_ref().map(shaped).transpose()?);
        let mask = mask.map(|mask| if asked.inverted() { inverse(&mask) } else { mask });
        let begin = peers::begin(&keeper, &picture, mask.as_ref())?;
        let feather = asked.mask_blur.filter(|pixels| *pixels > 0).map(|pixels| pixels.min(picture.width()));
        drop(turn);
        let strength = Some(asked.denoising_strength.unwrap_or(0.75));
        Ok((BeginOrder { strength, feather, ..begin }, asked))
    })
    .await?;
    order.begin = Some(begin);
    answer(studio, &asked.drawing, order, ignored).await
}

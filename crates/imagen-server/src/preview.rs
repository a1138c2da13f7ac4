//! x̂ as a browser shows it: in a pixel cascade the estimate is a picture already, so that a preview costs its encoding alone.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use burn::tensor::Tensor;
use serde_json::{Value, json};

use imagen::Error;
use imagen::cascade::to_pictures;
use imagen::image::{Filter, Picture, grid, png};
use jpeg_encoder::{ColorType, Encoder, SamplingFactor};

/// The largest side of a preview of one picture, and of several; a larger x̂ is shrunk to it.
const SIDE: usize = 256;
const SIDE_OF_SEVERAL: usize = 128;
/// How well a JPEG keeps colours, of 100: it is looked at for less than a second.
const QUALITY: u8 = 85;
/// Up to this side a preview loses nothing; beyond it JPEG is a tenth of the bytes.
const LOSSLESS: usize = 64;

/// The pictures of a batch below each other in one, as base64, with the size of each.
pub(crate) fn of(x_hat: &Tensor<4>) -> imagen::Result<Value> {
    let pictures = to_pictures(x_hat)?;
    let most = if pictures.len() == 1 { SIDE } else { SIDE_OF_SEVERAL };
    let shrunk: Vec<Picture> =
        pictures.into_iter().map(|picture| shrink(picture, most)).collect::<imagen::Result<_>>()?;
    let (width, height) = (shrunk[0].width(), shrunk[0].height());
    let column = match shrunk.as_slice() {
        [one] => one,
        several => &grid(several, 1, 0, [255; 3])?,
    };
    let (kind, bytes) = if width.max(height) <= LOSSLESS {
        ("image/png", png::encode_quickly(column)?)
    } else {
        ("image/jpeg", jpeg(column)?)
    };
    Ok(json!({ "width": width, "height": height, "type": kind, "data": STANDARD.encode(bytes) }))
}

/// The bytes of a JPEG, by the quickest way: a picture has a few dozen previews, and together they are to cost a hundredth of it.
fn jpeg(picture: &Picture) -> imagen::Result<Vec<u8>> {
    let rgb = if picture.channels() == 3 { Cow::Borrowed(picture) } else { Cow::Owned(picture.to_rgb([255; 3])) };
    let side =
        |length: usize| u16::try_from(length).map_err(|_| Error::usage("a preview is larger than a JPEG may be"));
    let mut bytes = Vec::new();
    let mut encoder = Encoder::new(&mut bytes, QUALITY);
    encoder.set_sampling_factor(SamplingFactor::F_2_2);
    let encoded = encoder.encode(rgb.pixels(), side(rgb.width())?, side(rgb.height())?, ColorType::Rgb);
    encoded.map_err(|e| Error::data("a preview could not be encoded").with_source(e))?;
    Ok(bytes)
}

fn shrink(picture: Picture, most: usize) -> imagen::Result<Picture> {
    let side = picture.width().max(picture.height());
    if side <= most {
        return Ok(picture);
    }
    let scaled = |length: usize| (length * most / side).max(1);
    picture.resize(scaled(picture.width()), scaled(picture.height()), Filter::Area)
}

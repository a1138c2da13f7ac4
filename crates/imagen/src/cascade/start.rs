//! Where a stage starts: from noise, from a noised picture (SDEdit, arXiv 2108.01073), or from a picture of which only a part
//! is drawn anew.

use burn::tensor::{Device, Tensor, TensorData};

use crate::diffusion::{Draw, Noise, PlannedStep};
use crate::error::{Error, Result};
use crate::image::{Filter, FloatPicture, Picture};

/// A picture to start from.
#[derive(Clone, Debug)]
pub struct StartPicture {
    /// The picture; what is transparent is white.
    pub picture: Picture,
    /// White where the picture is drawn anew, black where it stays; everywhere by default.
    pub mask: Option<Picture>,
    /// How much of the picture is drawn over, in (0, 1]; as the model suggests by default.
    pub strength: Option<f64>,
}

/// Where the pictures of a batch start.
#[derive(Clone, Debug)]
pub struct Start {
    /// `[n, h, w, c]` in [-1, 1].
    pub pictures: Tensor<4>,
    /// Which part of the steps is run, the last ones; in (0, 1].
    pub strength: f64,
    /// 1 where the picture is drawn anew, 0 where it stays, `[n, h, w, 1]`; everywhere by default.
    pub mask: Option<Tensor<4>>,
}

impl StartPicture {
    /// The start of a batch of `n` pictures of `h`×`w` pixels.
    ///
    /// # Errors
    /// `Usage` where the picture cannot be resized.
    pub(super) fn at(&self, [h, w]: [usize; 2], n: usize, strength: f64, device: &Device) -> Result<Start> {
        let repeat = |x: Tensor<4>| Tensor::cat(vec![x; n], 0);
        let picture = self.picture.to_rgb([255; 3]).resize(w, h, Filter::Bicubic)?;
        let mask = match &self.mask {
            None => None,
            Some(mask) => {
                let mask = grey(mask)?.resize(w, h, Filter::Bicubic)?;
                let drawn = |value: &u8| if f32::from(*value) / 255.0 < 0.5 { 0.0 } else { 1.0f32 };
                let values: Vec<f32> = mask.pixels().iter().map(drawn).collect();
                Some(repeat(Tensor::from_data(TensorData::new(values, [1, h, w, 1]), device)))
            }
        };
        Ok(Start { pictures: repeat(tensor(&picture.to_float(), device)), strength, mask })
    }
}

/// The steps of a plan that run, the first z `[n, h, w, c]`, and the mask.
///
/// # Errors
/// `Usage` where the starting pictures are of another shape, or no step is left.
pub(super) fn begin(
    mut plan: Vec<PlannedStep>,
    start: Option<Start>,
    shape: [usize; 4],
    noise: &mut Noise,
) -> Result<(Vec<PlannedStep>, Tensor<4>, Option<Tensor<4>>)> {
    let Some(Start { pictures, strength, mask }) = start else {
        let z = noise(Draw::Initial, shape);
        return Ok((plan, z, None));
    };
    if pictures.dims() != shape {
        return Err(Error::usage(format!("the starting pictures are {:?}: expected {shape:?}", pictures.dims())));
    }
    let run = (plan.len() as f64 * strength) as usize;
    if !(strength > 0.0 && strength <= 1.0) || run == 0 {
        return Err(Error::usage(format!(
            "strength {strength} of {} steps: expected a number above 0, at most 1, that leaves a step",
            plan.len()
        )));
    }
    plan.drain(..plan.len() - run);
    let noised = plan[0].noised(pictures.clone(), noise(Draw::Initial, shape));
    let z = match &mask {
        Some(mask) => pictures * mask.clone().neg().add_scalar(1.0) + noised * mask.clone(),
        None => noised,
    };
    Ok((plan, z, mask))
}

/// A picture as `[1, h, w, c]`.
pub(super) fn tensor(picture: &FloatPicture, device: &Device) -> Tensor<4> {
    let shape = [1, picture.height(), picture.width(), picture.channels()];
    Tensor::from_data(TensorData::new(picture.values().to_vec(), shape), device)
}

/// One channel: luma as Pillow has it.
fn grey(picture: &Picture) -> Result<Picture> {
    let rgb = picture.to_rgb([0; 3]);
    let luma = |p: &[u8]| {
        let [r, g, b] = [p[0], p[1], p[2]].map(u32::from);
        ((r * 19_595 + g * 38_470 + b * 7_471 + 0x8000) >> 16) as u8
    };
    let pixels = rgb.pixels().chunks_exact(3).map(luma).collect();
    Picture::with_channels(rgb.width(), rgb.height(), 1, pixels)
}

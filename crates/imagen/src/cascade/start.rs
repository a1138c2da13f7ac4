//! Where a stage starts: from noise, from a noised picture (SDEdit, arXiv 2108.01073), or from a picture of which only a part
//! is drawn anew.

use burn::tensor::{Device, Tensor, TensorData};

use super::edges::Edges;
use crate::diffusion::{Draw, Keep, Noise, Outside, PlannedStep, beginnings, repeated};
use crate::error::{Error, Result};
use crate::image::{Filter, FloatPicture, Picture};

/// A picture to start from.
#[derive(Clone, Debug)]
pub struct StartPicture {
    /// The picture; what is transparent is white where the model knows no opacity.
    pub picture: Picture,
    /// White where the picture is drawn anew, black where it stays, mixed by weight between; everywhere by default.
    pub mask: Option<Picture>,
    /// How much of the picture is drawn over, in [0, 1]; as the model suggests by default. 0 is the picture itself.
    pub strength: Option<f64>,
    /// Pixels of the picture over which the mask's edges become soft, to either side; 0 by default.
    pub feather: Option<usize>,
    /// How often each step is taken, so that what is drawn fits what stays; 1 by default.
    pub resample: Option<usize>,
    /// What the network sees where the picture stays.
    pub outside: Option<Outside>,
}

/// Where the pictures of a batch start.
#[derive(Clone, Debug)]
pub struct Start {
    /// `[n, h, w, c]` in [-1, 1].
    pub pictures: Tensor<4>,
    /// Which part of the steps is run, the last ones; in [0, 1].
    pub strength: f64,
    /// How much of each pixel is drawn anew, in [0, 1], `[n, h, w, 1]`; everywhere by default.
    pub mask: Option<Tensor<4>>,
    /// What the network sees where the mask is 0.
    pub outside: Outside,
    /// How often each step is taken.
    pub resample: usize,
}

/// A picture that begins a drawing is at most so many times as long as it is wide, or wide as it is long.
const LONGEST: usize = 8;
/// Repetitions of a step beyond which a number is a mistake and not a wish.
const MOST_REPEATED: usize = 1000;

impl StartPicture {
    /// All of a picture, as strongly as the model suggests.
    pub fn new(picture: Picture) -> Self {
        Self { picture, mask: None, strength: None, feather: None, resample: None, outside: None }
    }

    /// The picture with room at its edges that is drawn anew: its own edge pixels until then.
    ///
    /// # Errors
    /// `Usage` where no edge is moved, or the picture would become larger than any is.
    pub fn extended(self, edges: Edges) -> Result<Self> {
        let picture = edges.around(&self.picture, None)?;
        let mask = match &self.mask {
            None => Picture::filled(self.picture.width(), self.picture.height(), [0]),
            Some(mask) => {
                self.check_mask(mask)?;
                grey(mask)?.resize(self.picture.width(), self.picture.height(), Filter::Bilinear)?
            }
        };
        Ok(Self { picture, mask: Some(edges.around(&mask, Some(255))?), ..self })
    }

    /// # Errors
    /// `Usage`, naming what is out of range or contradicts the rest.
    pub(super) fn check(&self) -> Result<()> {
        let (width, height) = (self.picture.width(), self.picture.height());
        if width > LONGEST * height || height > LONGEST * width {
            return Err(Error::usage(format!(
                "a picture of {width}x{height} to start from: expected sides of at most {LONGEST} to 1; cut a part out of it"
            )));
        }
        if let Some(strength) = self.strength.filter(|strength| !(0.0..=1.0).contains(strength)) {
            return Err(Error::usage(format!("strength {strength}: expected a number from 0 to 1")));
        }
        let only_masked = [
            ("feather", self.feather.is_some()),
            ("resample", self.resample.is_some()),
            ("outside", self.outside.is_some()),
        ];
        let Some(mask) = &self.mask else {
            return match only_masked.into_iter().find(|(_, given)| *given) {
                Some((name, _)) => {
                    Err(Error::usage(format!("{name} is for a mask or an extension, and there is neither")))
                }
                None => Ok(()),
            };
        };
        self.check_mask(mask)?;
        if let Some(times) = self.resample.filter(|times| !(1..=MOST_REPEATED).contains(times)) {
            return Err(Error::usage(format!("resample {times}: expected 1 to {MOST_REPEATED} times")));
        }
        if let Some(pixels) = self.feather.filter(|pixels| *pixels > width.max(height)) {
            return Err(Error::usage(format!("feather {pixels}: expected at most the picture's longer side")));
        }
        Ok(())
    }

    /// # Errors
    /// `Usage` where the mask has other proportions than the picture.
    fn check_mask(&self, mask: &Picture) -> Result<()> {
        let ([w, h], [mw, mh]) = ([self.picture.width(), self.picture.height()], [mask.width(), mask.height()]);
        // what rounding to whole pixels leaves of equal proportions
        if (w * mh).abs_diff(h * mw) <= w.max(h).max(mw).max(mh) {
            return Ok(());
        }
        Err(Error::usage(format!(
            "a mask of {mw}x{mh} for a picture of {w}x{h}: expected the picture's size, or its proportions"
        )))
    }

    /// The start of a batch of `n` pictures of `h`×`w` pixels of so many channels; `strength` where nothing else is said.
    ///
    /// # Errors
    /// `Usage` where the picture cannot be resized.
    pub(super) fn at(
        &self,
        [h, w]: [usize; 2],
        channels: usize,
        n: usize,
        strength: f64,
        device: &Device,
    ) -> Result<Start> {
        let repeat = |x: Tensor<4>| Tensor::cat(vec![x; n], 0);
        let picture = self.picture.to_channels(channels)?.resize(w, h, Filter::Bicubic)?;
        let outside = self.outside.unwrap_or_default();
        let mask = match &self.mask {
            None => None,
            Some(mask) => {
                let values = self.soft(mask, [h, w], outside)?;
                Some(repeat(Tensor::from_data(TensorData::new(values, [1, h, w, 1]), device)))
            }
        };
        let pictures = repeat(tensor(&picture.to_float(), device));
        let (strength, resample) = (self.strength.unwrap_or(strength), self.resample.unwrap_or(1));
        Ok(Start { pictures, strength, mask, outside, resample })
    }

    /// How much of each of `h`×`w` pixels is drawn anew.
    fn soft(&self, mask: &Picture, [h, w]: [usize; 2], outside: Outside) -> Result<Vec<f32>> {
        let mut mask = grey(mask)?;
        if outside == Outside::Clean {
            // as diffusers has it: a pixel is either drawn or not
            let mask = mask.resize(w, h, Filter::Bicubic)?;
            let drawn = |value: &u8| if f32::from(*value) / 255.0 < 0.5 { 0.0 } else { 1.0f32 };
            return Ok(mask.pixels().iter().map(drawn).collect());
        }
        if let Some(pixels) = self.feather.filter(|pixels| *pixels > 0) {
            let (width, height) = (self.picture.width(), self.picture.height());
            mask = softened(&mask.resize(width, height, Filter::Bilinear)?, pixels);
        }
        // no filter that overshoots: what is black stays black
        let mask = mask.resize(w, h, Filter::Bilinear)?;
        Ok(mask.pixels().iter().map(|value| f32::from(*value) / 255.0).collect())
    }
}

/// What a stage begins with.
pub(super) struct Begun {
    /// The steps that run; none where the picture is what is asked for.
    pub(super) plan: Vec<PlannedStep>,
    /// The first z `[n, h, w, c]`.
    pub(super) z: Tensor<4>,
    /// What stays.
    pub(super) keep: Option<Keep>,
}

/// The steps of a plan that run, the first z `[n, h, w, c]`, and what stays.
///
/// # Errors
/// `Usage` where the starting pictures are of another shape, or the strength is none.
pub(super) fn begin(
    mut plan: Vec<PlannedStep>,
    start: Option<Start>,
    shape: [usize; 4],
    noise: &mut Noise,
) -> Result<Begun> {
    let Some(Start { pictures, strength, mask, outside, resample }) = start else {
        let z = noise(Draw::Initial, shape);
        return Ok(Begun { plan, z, keep: None });
    };
    if pictures.dims() != shape {
        return Err(Error::usage(format!("the starting pictures are {:?}: expected {shape:?}", pictures.dims())));
    }
    if !(0.0..=1.0).contains(&strength) {
        return Err(Error::usage(format!("strength {strength}: expected a number from 0 to 1")));
    }
    let begins = beginnings(&plan);
    let run = steps_of(begins.len(), strength);
    plan.drain(..begins.get(begins.len() - run).copied().unwrap_or(plan.len()));
    let Some(first) = plan.first() else { return Ok(Begun { plan, z: pictures, keep: None }) };
    let eps = noise(Draw::Initial, shape);
    // all noise is all noise: the trace of a picture that the last level holds is none of what is asked for
    let z = if strength == 1.0 && outside == Outside::Noised { eps } else { first.noised(pictures.clone(), eps) };
    let keep = mask.map(|drawn| Keep { picture: pictures, drawn, outside });
    Ok(Begun { plan: repeated(&plan, resample), z, keep })
}

/// How many of a plan's steps are run at a strength.
pub(super) fn steps_of(steps: usize, strength: f64) -> usize {
    (steps as f64 * strength) as usize
}

/// Height and width of a picture of this shape whose shorter side is `side`; the longer one is rounded to a multiple of `unit`.
pub(super) fn sides([h, w]: [usize; 2], side: usize, unit: usize) -> [usize; 2] {
    let rounded = |ratio: f64| ((side as f64 / unit as f64 * ratio).round_ties_even() as usize).max(1) * unit;
    let ratio = w as f64 / h as f64;
    match ratio {
        1.0 => [side; 2],
        ratio if ratio > 1.0 => [side, rounded(ratio)],
        ratio => [rounded(1.0 / ratio), side],
    }
}

/// A picture as `[1, h, w, c]`.
pub(super) fn tensor(picture: &FloatPicture, device: &Device) -> Tensor<4> {
    let shape = [1, picture.height(), picture.width(), picture.channels()];
    Tensor::from_data(TensorData::new(picture.values().to_vec(), shape), device)
}

/// One channel: luma as Pillow has it; what is transparent is black.
fn grey(picture: &Picture) -> Result<Picture> {
    let rgb = picture.to_rgb([0; 3]);
    let luma = |p: &[u8]| {
        let [r, g, b] = [p[0], p[1], p[2]].map(u32::from);
        ((r * 19_595 + g * 38_470 + b * 7_471 + 0x8000) >> 16) as u8
    };
    let pixels = rgb.pixels().chunks_exact(3).map(luma).collect();
    Picture::with_channels(rgb.width(), rgb.height(), 1, pixels)
}

/// A mask whose edges rise over `radius` pixels to either side: the mean of the square around each pixel, edges held.
fn softened(mask: &Picture, radius: usize) -> Picture {
    let (width, height) = (mask.width(), mask.height());
    let means = |line: &[u8]| -> Vec<u8> {
        let at = |i: isize| u64::from(line[i.clamp(0, line.len() as isize - 1) as usize]);
        let (radius, count) = (radius as isize, 2 * radius as u64 + 1);
        let mut sum: u64 = (-radius..=radius).map(at).sum();
        let mut out = Vec::with_capacity(line.len());
        for i in 0..line.len() as isize {
            out.push(((sum + count / 2) / count) as u8);
            sum = sum + at(i + radius + 1) - at(i - radius);
        }
        out
    };
    let rows: Vec<u8> = mask.pixels().chunks_exact(width).flat_map(means).collect();
    let mut pixels = vec![0; rows.len()];
    for x in 0..width {
        let column: Vec<u8> = (0..height).map(|y| rows[y * width + x]).collect();
        means(&column).into_iter().enumerate().for_each(|(y, value)| pixels[y * width + x] = value);
    }
    Picture::with_channels(width, height, 1, pixels).expect("as many pixels as before")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_feathered_edge_rises_evenly_and_one_colour_stays() {
        let pixels: Vec<u8> = (0..3).flat_map(|_| [0, 0, 0, 0, 255, 255, 255, 255]).collect();
        let mask = Picture::with_channels(8, 3, 1, pixels).unwrap();
        assert_eq!(softened(&mask, 1).pixels()[..8], [0, 0, 0, 85, 170, 255, 255, 255]);
        for value in [0, 255] {
            let plain = Picture::filled(5, 9, [value]);
            assert_eq!(softened(&plain, 4), plain);
        }
    }

    #[test]
    fn the_shorter_side_is_the_stages_and_the_longer_a_multiple() {
        for (shape, expected) in
            [([10, 10], [64, 64]), ([300, 200], [96, 64]), ([199, 301], [64, 96]), ([1, 1], [64, 64])]
        {
            assert_eq!(sides(shape, 64, 8), expected, "{shape:?}");
        }
    }
}

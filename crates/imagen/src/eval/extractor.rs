//! What turns pictures into features, and the protocol that its numbers are under: which network with which weights, and
//! how pictures were brought to its size.
//!
//! Two extractors: [`Layout`], which needs no weights, and Inception-v3 with weights from outside, whose distances are FID
//! and KID as papers report them. Resizing changes an FID by as much as better models do (Parmar et al., "On aliased
//! resizing and surprising subtleties in GAN evaluation", 2022), so it is part of the protocol.

use burn::tensor::{Device, Tensor, TensorData};
use xxhash_rust::xxh64::Xxh64;

use super::Layout;
use crate::error::{Error, Result};
use crate::image::{CHANNELS, Filter, FloatPicture, Picture};
use crate::models::inception::Inception;
use crate::models::weights::Weights;
use crate::names::named;

/// The name of Inception-v3 in protocols.
const INCEPTION: &str = "inception-v3";
/// What is behind transparent pixels.
const BEHIND: [u8; CHANNELS] = [255; CHANNELS];

/// How pictures come to the 299×299 pixels that Inception-v3 takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum InceptionResize {
    /// pytorch-fid's: between the two nearest pixels, nothing is averaged; values in [-1, 1].
    #[default]
    Original,
    /// clean-fid's: Pillow's cubic, which averages what a pixel covers; values (byte − 128) / 128, as there.
    Clean,
}

named!(InceptionResize, "way to resize", Original = "original", Clean = "clean");

impl InceptionResize {
    /// What it does, for people.
    fn describe(self) -> &'static str {
        match self {
            Self::Original => "original: 299x299, bilinear without filter, as in pytorch-fid; on white",
            Self::Clean => "clean: 299x299, Pillow's bicubic, as in clean-fid; on white",
        }
    }
}

/// What features depend on beside the pictures. Numbers of different protocols are not comparable.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Protocol {
    /// The extractor's name.
    pub extractor: String,
    /// A digest of its definition, or of its weights.
    #[serde(rename = "extractor_digest")]
    pub digest: String,
    /// What happens to a picture before it is looked at.
    pub resize: String,
    /// Features of a picture.
    pub features: usize,
}

impl Protocol {
    /// That of [`Layout`].
    pub fn layout() -> Self {
        Self {
            extractor: Layout::NAME.to_owned(),
            digest: Layout::digest(),
            resize: Layout::RESIZE.to_owned(),
            features: Layout::DIM,
        }
    }

    /// Whether distances under it are those that papers call FID and KID.
    pub fn is_inception(&self) -> bool {
        self.extractor == INCEPTION
    }

    /// Refuses to compare numbers of another protocol.
    ///
    /// # Errors
    /// `Usage`, which says what differs.
    pub fn check_same(&self, other: &Self) -> Result<()> {
        if self == other {
            return Ok(());
        }
        Err(Error::usage(format!(
            "features of {self} cannot be compared with those of {other}: make both sets with the same extractor and resize"
        )))
    }

    /// What this program cannot have made.
    pub(super) fn check_known(&self) -> Result<()> {
        if self.is_inception() && self.features == Inception::DIM || *self == Self::layout() {
            return Ok(());
        }
        Err(Error::model(format!(
            "the statistics are of {self}; this program has {} and {INCEPTION}: make them anew with `imagen eval stats`",
            Self::layout()
        )))
    }
}

impl std::fmt::Display for Protocol {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({}; {})", self.extractor, self.digest, self.resize)
    }
}

/// Turns pictures into features.
#[derive(Debug)]
pub struct Extractor {
    protocol: Protocol,
    network: Option<(Box<Inception>, InceptionResize)>,
    /// Side of the middle square that is cut out first.
    crop: Option<usize>,
}

/// A picture as an extractor takes it: small, and independent of the others.
#[derive(Clone, Debug)]
pub struct Prepared(Vec<f32>);

impl Default for Extractor {
    fn default() -> Self {
        Self { protocol: Protocol::layout(), network: None, crop: None }
    }
}

impl Extractor {
    /// Inception-v3 with these weights ([`Inception::new`]).
    ///
    /// # Errors
    /// As [`Inception::new`].
    pub fn inception(weights: &Weights, resize: InceptionResize, device: &Device) -> Result<Self> {
        let network = Inception::new(weights, device)?;
        let mut hash = Xxh64::new(0);
        for (name, shape) in Inception::tensors() {
            hash.update(name.as_bytes());
            let values = weights.tensor_f32(&name, &shape)?;
            values.iter().for_each(|value| hash.update(&value.to_le_bytes()));
        }
        let protocol = Protocol {
            extractor: INCEPTION.to_owned(),
            digest: format!("{:016x}", hash.digest()),
            resize: resize.describe().to_owned(),
            features: Inception::DIM,
        };
        Ok(Self { protocol, network: Some((Box::new(network), resize)), crop: None })
    }

    /// Looks at the middle of pictures: the shorter side is resized to `side` with Pillow's cubic and the square in
    /// the middle is cut out, before anything else happens. [`Layout`] sees the middle square alone already and stays as it is.
    pub fn cropped(mut self, side: usize) -> Self {
        if self.network.is_some() {
            self.protocol.resize = format!("middle {side}x{side}, Pillow's bicubic; {}", self.protocol.resize);
            self.crop = Some(side);
        }
        self
    }

    /// What its features are under.
    pub fn protocol(&self) -> &Protocol {
        &self.protocol
    }

    /// A picture at the extractor's size. Of different pictures this can be done at once, before [`Self::features`].
    ///
    /// # Errors
    /// None that a picture can cause; resizing returns a `Result`.
    pub fn prepare(&self, picture: &Picture) -> Result<Prepared> {
        match self.network {
            None => Layout::of(picture),
            Some((_, resize)) => {
                let picture = picture.to_rgb(BEHIND);
                match self.crop {
                    Some(side) => enlarge(&picture.middle(side, Filter::Bicubic)?, resize),
                    None => enlarge(&picture, resize),
                }
            }
        }
        .map(Prepared)
    }

    /// The features of pictures, `[n, d]`; those of one do not depend on the others beyond rounding.
    ///
    /// # Errors
    /// As [`Inception::features`].
    pub fn features(&self, pictures: &[Prepared]) -> Result<Vec<f32>> {
        let mut features = Vec::with_capacity(pictures.len() * self.protocol.features);
        let Some((network, _)) = &self.network else {
            pictures.iter().for_each(|picture| features.extend_from_slice(&picture.0));
            return Ok(features);
        };
        let side = Inception::SIDE;
        for batch in pictures.chunks(BATCH) {
            let values = batch.iter().flat_map(|picture| picture.0.iter().copied()).collect();
            let data = TensorData::new::<f32, _>(values, [batch.len(), side, side, CHANNELS]);
            let found = network.features(Tensor::from_data(data, network.device()))?.into_data();
            features.extend(found.iter::<f32>());
        }
        Ok(features)
    }
}

/// Pictures that pass through the network at once: more are no faster and take memory.
const BATCH: usize = 4;

/// A picture `[299, 299, 3]` as the network takes it.
fn enlarge(picture: &Picture, resize: InceptionResize) -> Result<Vec<f32>> {
    let (side, wide, high) = (Inception::SIDE, picture.width(), picture.height());
    Ok(match resize {
        InceptionResize::Original => {
            between_pixels(picture.pixels(), [high, wide], side).into_iter().map(|x| 2.0 * x - 1.0).collect()
        }
        InceptionResize::Clean => {
            let bytes = picture.pixels().iter().copied().map(f32::from);
            let picture = FloatPicture::new(wide, high, CHANNELS, bytes.collect())?;
            let picture = picture.resize(side, side, Filter::Bicubic)?;
            picture.into_values().into_iter().map(|x| (x.clamp(0.0, 255.0) - 128.0) / 128.0).collect()
        }
    })
}

/// A picture `[h, w, 3]` of bytes at `[side, side, 3]`, 0 to 1: each pixel's centre falls between two of the source, and the border repeats.
fn between_pixels(x: &[u8], [h, w]: [usize; 2], side: usize) -> Vec<f32> {
    let taps = |size: usize| -> Vec<(usize, usize, f32)> {
        let scale = size as f32 / side as f32;
        let tap = |i: usize| {
            let at = (scale * (i as f32 + 0.5) - 0.5).max(0.0);
            let low = (at as usize).min(size - 1);
            (low, (low + 1).min(size - 1), at - low as f32)
        };
        (0..side).map(tap).collect()
    };
    let (lines, columns) = (taps(h), taps(w));
    let mut y = Vec::with_capacity(side * side * CHANNELS);
    for (top, bottom, down) in lines {
        let [top, bottom] = [top, bottom].map(|row| &x[row * w * CHANNELS..][..w * CHANNELS]);
        for &(left, right, along) in &columns {
            for channel in 0..CHANNELS {
                let across = |row: &[u8]| {
                    let at = |column: usize| f32::from(row[column * CHANNELS + channel]) / 255.0;
                    (1.0 - along) * at(left) + along * at(right)
                };
                y.push((1.0 - down) * across(top) + down * across(bottom));
            }
        }
    }
    y
}

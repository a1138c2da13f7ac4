//! How a picture becomes what CLIP's image tower sees, as `preprocessor_config.json` says: the shorter side resized with
//! Pillow's cubic, the middle cut out, bytes to [0, 1], mean and deviation per channel. What is transparent shows white.

use serde::Deserialize;

use super::{Filter, Picture};
use crate::error::{Error, Result};

/// What `preprocessor_config.json` says; the rest of that file is about libraries.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default)]
pub struct Preparation {
    image_mean: [f32; 3],
    image_std: [f32; 3],
    /// Pillow's number of the filter.
    resample: u32,
    /// The side that the shorter one becomes.
    size: Option<Side>,
    /// The side of the window.
    crop_size: Option<Side>,
}

impl Default for Preparation {
    fn default() -> Self {
        Self {
            image_mean: [0.481_454_66, 0.457_827_5, 0.408_210_73],
            image_std: [0.268_629_54, 0.261_302_6, 0.275_777_1],
            resample: 3,
            size: None,
            crop_size: None,
        }
    }
}

/// A side as old and new files say it.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(untagged)]
enum Side {
    Number(usize),
    Shortest { shortest_edge: usize },
    Both { height: usize, width: usize },
}

impl Side {
    fn square(&self) -> Option<usize> {
        match *self {
            Self::Number(side) | Self::Shortest { shortest_edge: side } => Some(side),
            Self::Both { height, width } => (height == width).then_some(height),
        }
    }
}

impl Preparation {
    /// Reads such a file.
    ///
    /// # Errors
    /// `Model` when it is none.
    pub fn read(json: &[u8]) -> Result<Self> {
        serde_json::from_slice(json)
            .map_err(|e| Error::model("preprocessor_config.json is not that of a CLIP").with_source(e))
    }

    /// Checks that it prepares pictures of this side, with the filter that is known here.
    ///
    /// # Errors
    /// `Model`, naming the key.
    pub fn check(&self, side: usize) -> Result<()> {
        let sides = [("size", &self.size), ("crop_size", &self.crop_size)];
        if let Some((key, _)) = sides.iter().find(|(_, given)| given.as_ref().is_some_and(|s| s.square() != Some(side)))
        {
            return Err(Error::model(format!("preprocessor_config.json: {key} is not the network's {side}")));
        }
        if self.resample != 3 || !self.image_std.iter().all(|std| *std > 0.0) {
            let Self { resample, image_std, .. } = self;
            return Err(Error::model(format!(
                "preprocessor_config.json: resample is {resample} (expected 3, cubic), image_std {image_std:?}"
            )));
        }
        Ok(())
    }

    /// Appends a picture as the network sees it, `[side, side, 3]`.
    ///
    /// # Errors
    /// `Usage` when it cannot be resized.
    pub fn apply(&self, picture: &Picture, side: usize, to: &mut Vec<f32>) -> Result<()> {
        let picture = picture.to_rgb([255; 3]).middle(side, Filter::Bicubic)?;
        let value =
            |(i, byte): (usize, &u8)| (f32::from(*byte) / 255.0 - self.image_mean[i % 3]) / self.image_std[i % 3];
        to.extend(picture.pixels().iter().enumerate().map(value));
        Ok(())
    }
}

//! CLIP over captions and pictures: how well a picture fits a text (Hessel et al. 2021; spec A8).
//!
//! Pictures are prepared as `preprocessor_config.json` says: the shorter side resized with Pillow's cubic, the middle cut
//! out, bytes to [0, 1], mean and deviation per channel. What is transparent shows white.

use std::path::Path;

use burn::tensor::{Device, Tensor, TensorData};
use serde::Deserialize;

use crate::error::{Context, Error, Result};
use crate::image::{Filter, Picture};
use crate::models::clip::{ClipConfig, ClipImage, logit_scale, similarity};
use crate::text::{ClipTextEncoder, EncoderFiles, TextEncoder, TextOptions};

/// Both towers of a CLIP with what prepares their inputs.
#[derive(Debug)]
pub struct Clip {
    text: ClipTextEncoder,
    image: ClipImage,
    preparation: Preparation,
    scale: f32,
}

/// What `preprocessor_config.json` says; the rest of that file is about libraries.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default)]
struct Preparation {
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

/// The CLIP score of a cosine: 100 max(cos, 0), as papers state it.
pub fn clip_score(cosine: f64) -> f64 {
    100.0 * cosine.max(0.0)
}

impl Clip {
    /// The network of a folder, which reads as many tokens as it has positions.
    ///
    /// # Errors
    /// As [`Self::new`]; `Io` when a file cannot be read.
    pub fn open(folder: &Path, device: &Device) -> Result<Self> {
        let files = EncoderFiles::open(folder)?;
        let config = ClipConfig::from_json(files.file("config.json")?).context(|| files.label().to_owned())?;
        let positions = config.text.map_or(0, |text| text.max_position_embeddings);
        let options = TextOptions { max_length: positions, ..TextOptions::default() };
        let path = folder.join("preprocessor_config.json");
        let preparation = match std::fs::read(&path) {
            Ok(bytes) => Some(bytes),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => None,
            Err(e) => return Err(Error::io("read", &path, e)),
        };
        Self::new(&files, preparation.as_deref(), &options, device)
    }

    /// The network of a folder's files, with `preparation` the content of its `preprocessor_config.json` if it has one.
    ///
    /// # Errors
    /// `Model` when a file is missing or damaged, or the preparation is another one than CLIP's.
    pub fn new(
        files: &EncoderFiles,
        preparation: Option<&[u8]>,
        options: &TextOptions,
        device: &Device,
    ) -> Result<Self> {
        let load = || {
            let config = ClipConfig::from_json(files.file("config.json")?)?;
            let image = config.image.ok_or_else(|| Error::model("config.json describes no image tower"))?;
            let preparation = preparation.map_or_else(|| Ok(Preparation::default()), Preparation::read)?;
            preparation.check(image.image_size)?;
            let text = ClipTextEncoder::new(files, options, device)?;
            let weights = files.weights()?;
            let scale = logit_scale(&weights)?;
            Ok(Self { text, image: ClipImage::new(image, &weights, options.storage, device)?, preparation, scale })
        };
        load().context(|| files.label().to_owned())
    }

    /// The embeddings of captions `[n, p]`.
    ///
    /// # Errors
    /// As [`ClipTextEncoder::embed`].
    pub fn embed_texts(&self, captions: &[&str]) -> Result<Tensor<2>> {
        self.text.embed(captions)
    }

    /// The embeddings of pictures `[n, p]`.
    ///
    /// # Errors
    /// `Usage` when there are none.
    pub fn embed_pictures(&self, pictures: &[Picture]) -> Result<Tensor<2>> {
        if pictures.is_empty() {
            return Err(Error::usage("there is no picture to embed"));
        }
        self.embed_prepared(self.prepare(pictures)?)
    }

    /// The embeddings of pictures that [`Self::prepare`] has made ready, `[n, side, side, 3]`.
    ///
    /// # Errors
    /// As the image tower's.
    pub fn embed_prepared(&self, pictures: Tensor<4>) -> Result<Tensor<2>> {
        self.image.embed(pictures)
    }

    /// The cosine of every picture `[n]` and every caption `[m]`, `[n, m]`. The CLIP score of a pair is its cosine, which
    /// papers state as it is or times 100.
    ///
    /// # Errors
    /// As [`Clip::embed_texts`] and [`Clip::embed_pictures`].
    pub fn similarity(&self, pictures: &[Picture], captions: &[&str]) -> Result<Tensor<2>> {
        Ok(similarity(self.embed_pictures(pictures)?, self.embed_texts(captions)?))
    }

    /// The same text for networks that give the same numbers, but for how pictures are prepared.
    pub fn identity(&self) -> &str {
        self.text.identity()
    }

    /// What happens to a picture before it is looked at, for people.
    pub fn resize(&self) -> String {
        let side = self.image.config().image_size;
        format!("shorter side to {side}, Pillow's bicubic, middle square; on white")
    }

    /// The factor of the cosines that training ended with: their logits.
    pub fn logit_scale(&self) -> f32 {
        self.scale
    }

    /// Pictures as the network sees them, `[n, side, side, 3]`.
    ///
    /// # Errors
    /// `Usage` when a picture cannot be resized.
    pub fn prepare(&self, pictures: &[Picture]) -> Result<Tensor<4>> {
        let side = self.image.config().image_size;
        let mut all = Vec::with_capacity(pictures.len() * side * side * 3);
        for picture in pictures {
            self.preparation.apply(picture, side, &mut all)?;
        }
        Ok(Tensor::from_data(TensorData::new(all, [pictures.len(), side, side, 3]), self.image.device()))
    }
}

impl Preparation {
    fn read(json: &[u8]) -> Result<Self> {
        serde_json::from_slice(json)
            .map_err(|e| Error::model("preprocessor_config.json is not that of a CLIP").with_source(e))
    }

    fn check(&self, side: usize) -> Result<()> {
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

    /// Appends a picture, `[side, side, 3]`.
    fn apply(&self, picture: &Picture, side: usize, to: &mut Vec<f32>) -> Result<()> {
        let picture = picture.to_rgb([255; 3]);
        let (wide, high) = (picture.width(), picture.height());
        let short = wide.min(high);
        // The longer side is cut down to whole pixels, and so is the border.
        let picture = picture.resize(side * wide / short, side * high / short, Filter::Bicubic)?;
        let picture = picture.crop((picture.width() - side) / 2, (picture.height() - side) / 2, side, side)?;
        let value =
            |(i, byte): (usize, &u8)| (f32::from(*byte) / 255.0 - self.image_mean[i % 3]) / self.image_std[i % 3];
        to.extend(picture.pixels().iter().enumerate().map(value));
        Ok(())
    }
}

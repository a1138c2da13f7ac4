//! CLIP over captions and pictures: how well a picture fits a text (Hessel et al. 2021).
//!
//! Pictures are prepared as `preprocessor_config.json` says ([`Preparation`]).

use std::path::Path;

use burn::tensor::{Device, Tensor, TensorData};

use crate::error::{Context, Error, Result};
use crate::image::{Picture, Preparation};
use crate::input;
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
        let preparation = input::read_if_there(&path, input::MOST_TEXT).map_err(Error::of_model)?;
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

    /// Equal for networks that give equal numbers, but for how pictures are prepared.
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

//! The safety checker that DeepFloyd IF's folders ship, which their licence asks to leave in place.
//!
//! CLIP's image tower (ViT-L/14) turns a picture into a vector, two heads turn that into the logits of what must not be shown
//! and of a watermark. As in diffusers, a logit above 0.5 replaces the picture by a black one, and the result says so.
//! Its files are looked at when a model is opened, and read when the first picture is judged.

use std::path::PathBuf;

use burn::tensor::{Device, Tensor, TensorData};
use tracing::info_span;

use super::folder::{CHECKER, StageFolder};
use crate::error::{Context, Error, Result};
use crate::image::{Picture, Preparation};
use crate::input;
use crate::models::clip::{ClipConfig, ClipImage, ClipImageConfig};
use crate::models::weights::{Storage, Weights};

/// The logit above which a picture is withheld.
const THRESHOLD: f32 = 0.5;

/// The part that says how pictures are prepared for the checker.
const EXTRACTOR: &str = "feature_extractor";

/// A checker whose files are there and fit each other.
#[derive(Debug)]
pub(super) struct CheckerFiles {
    path: PathBuf,
    config: ClipImageConfig,
    preparation: Preparation,
    weights: Weights,
}

/// The tower with the two heads.
#[derive(Debug)]
pub struct SafetyChecker {
    tower: ClipImage,
    preparation: Preparation,
    /// Weights and bias, of `p_head` and `w_head`.
    heads: [(Vec<f32>, f32); 2],
}

/// What the checker found in a picture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Something that must not be shown.
    pub unsafe_content: bool,
    /// A watermark of somebody else.
    pub watermark: bool,
}

impl Verdict {
    /// Whether the picture is replaced.
    pub fn withheld(self) -> bool {
        self.unsafe_content || self.watermark
    }
}

impl CheckerFiles {
    /// The folder's files, where it ships them.
    pub(super) fn of(folder: &StageFolder) -> Result<Option<Self>> {
        if !folder.ships(CHECKER) {
            return Ok(None);
        }
        let path = folder.path.join(CHECKER);
        let read = |path: PathBuf| {
            let bytes = input::read_if_there(&path, input::MOST_TEXT).map_err(Error::of_model)?;
            let missing = || Error::model(format!("{} is missing, which the safety checker needs", path.display()));
            bytes.ok_or_else(missing)
        };
        let open = || {
            let config = ClipConfig::from_json(&read(path.join("config.json"))?)?;
            let mut config = config.image.ok_or_else(|| Error::model("config.json describes no image tower"))?;
            let weights = Weights::open_checkpoint(&path, "model")?;
            // the width that the heads see, which files say in two places
            let Some([1, width]) = weights.shape(HEADS[0][0]) else {
                return Err(Error::model(format!("{}: expected `{}` of [1, width]", weights.label(), HEADS[0][0])));
            };
            config.projection_dim = *width;
            weights.require(&HEADS.map(|[weight, _]| (weight, vec![1, config.projection_dim])))?;
            weights.require(&HEADS.map(|[_, bias]| (bias, vec![1])))?;
            let extractor = folder.path.join(EXTRACTOR);
            let preparation = Preparation::read(&read(extractor.join("preprocessor_config.json"))?)
                .and_then(|preparation| preparation.check(config.image_size).map(|()| preparation))
                .context(|| extractor.display().to_string())?;
            Ok(Self { path: path.clone(), config, preparation, weights })
        };
        open().map(Some).context(|| path.display().to_string())
    }

    /// Bytes of the weights.
    pub(super) fn bytes(&self) -> usize {
        self.weights.size()
    }

    fn build(&self, device: &Device) -> Result<SafetyChecker> {
        let _span = info_span!("build safety checker").entered();
        let head = |[weight, bias]: [&str; 2]| {
            let weight = self.weights.tensor_f32(weight, &[1, self.config.projection_dim])?;
            Ok::<_, Error>((weight, self.weights.tensor_f32(bias, &[1])?[0]))
        };
        let heads = [head(HEADS[0])?, head(HEADS[1])?];
        let tower = ClipImage::new(self.config.clone(), &self.weights, Storage::Stored, device)?;
        Ok(SafetyChecker { tower, preparation: self.preparation.clone(), heads })
    }
}

/// Weight and bias of what must not be shown and of a watermark.
const HEADS: [[&str; 2]; 2] = [["p_head.weight", "p_head.bias"], ["w_head.weight", "w_head.bias"]];

impl SafetyChecker {
    /// The checker of a folder, where it ships one.
    ///
    /// # Errors
    /// `Model` where a file of it is missing or damaged, or it is another network.
    pub fn open(folder: &StageFolder, device: &Device) -> Result<Option<Self>> {
        CheckerFiles::of(folder)?.map(|files| Self::build(&files, device)).transpose()
    }

    pub(super) fn build(files: &CheckerFiles, device: &Device) -> Result<Self> {
        files.build(device).context(|| files.path.display().to_string())
    }

    /// The logits of something that must not be shown and of a watermark.
    ///
    /// # Errors
    /// `Usage` where the picture cannot be resized for the tower.
    pub fn logits(&self, picture: &Picture) -> Result<[f32; 2]> {
        let side = self.tower.config().image_size;
        let mut pixels = Vec::with_capacity(side * side * 3);
        self.preparation.apply(picture, side, &mut pixels)?;
        let pixels = Tensor::from_data(TensorData::new(pixels, [1, side, side, 3]), self.tower.device());
        let vector = self.tower.embed(pixels)?.into_data().try_to_vec::<f32>();
        let vector = vector.map_err(|e| Error::model(format!("embeddings are f32: {e:?}")))?;
        Ok(self
            .heads
            .each_ref()
            .map(|(weight, bias)| weight.iter().zip(&vector).map(|(w, x)| w * x).sum::<f32>() + bias))
    }

    /// Judges a picture; what must be withheld comes back black.
    ///
    /// # Errors
    /// As [`SafetyChecker::logits`]; `NonFinite` where a logit is not a number, so that nothing passes unseen.
    pub fn check(&self, picture: Picture) -> Result<(Picture, Verdict)> {
        let _span = info_span!("safety checker").entered();
        let logits = self.logits(&picture)?;
        if logits.iter().any(|logit| !logit.is_finite()) {
            let message = format!("the safety checker's logits are {logits:?}; its weights are damaged");
            return Err(Error::new(crate::error::ErrorKind::NonFinite, message));
        }
        let [unsafe_content, watermark] = logits.map(|logit| logit > THRESHOLD);
        let verdict = Verdict { unsafe_content, watermark };
        if !verdict.withheld() {
            return Ok((picture, verdict));
        }
        let black = vec![0; picture.pixels().len()];
        Picture::with_channels(picture.width(), picture.height(), picture.channels(), black)
            .map(|black| (black, verdict))
    }
}

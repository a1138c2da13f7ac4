//! The safety checker that DeepFloyd IF's folders ship, which their licence asks to leave in place.
//!
//! A tower (CLIP ViT-L/14) turns a picture into a vector, two heads turn that into the logits of what must not be shown and
//! of a watermark. As in diffusers, a logit above 0.5 replaces the picture by a black one, and the result says so.

use burn::tensor::{Tensor, TensorData};

use crate::error::{Error, Result};
use crate::image::Picture;
use crate::models::weights::Checkpoint;

/// Pictures to vectors `[n, d]`: the image tower of CLIP with its projection.
pub type Tower = Box<dyn Fn(&[Picture]) -> Result<Tensor<2>> + Send + Sync>;

/// The logit above which a picture is withheld.
const THRESHOLD: f32 = 0.5;

/// A tower with the two heads.
pub struct SafetyChecker {
    tower: Tower,
    /// Weights and bias, of `p_head` and `w_head`.
    heads: [(Vec<f32>, f32); 2],
}

impl std::fmt::Debug for SafetyChecker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SafetyChecker").field("width", &self.heads[0].0.len()).finish_non_exhaustive()
    }
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

impl SafetyChecker {
    /// The heads of a checkpoint (`p_head`, `w_head`) behind a tower.
    ///
    /// # Errors
    /// `Model` where a head is missing or damaged.
    pub fn new(tower: Tower, weights: &Checkpoint) -> Result<Self> {
        let head = |name: &str| {
            let (weight, bias) = (format!("{name}.weight"), format!("{name}.bias"));
            let width = match weights.shape(&weight) {
                Some([1, width]) => *width,
                _ => return Err(Error::model(format!("{}: expected `{weight}` of [1, width]", weights.label()))),
            };
            Ok((weights.tensor_f32(&weight, &[1, width])?, weights.tensor_f32(&bias, &[1])?[0]))
        };
        Ok(Self { tower, heads: [head("p_head")?, head("w_head")?] })
    }

    /// Judges a picture; what must be withheld comes back black.
    ///
    /// # Errors
    /// The tower's; `Model` where its vectors do not fit the heads.
    pub fn check(&self, picture: Picture) -> Result<(Picture, Verdict)> {
        let vector = (self.tower)(std::slice::from_ref(&picture))?;
        let width = self.heads[0].0.len();
        if vector.dims() != [1, width] {
            let found = vector.dims();
            return Err(Error::model(format!("the safety checker's tower gives {found:?}: expected [1, {width}]")));
        }
        let found = self.heads.each_ref().map(|(weight, bias)| {
            let head = Tensor::<2>::from_data(TensorData::new(weight.clone(), [width, 1]), &vector.device());
            vector.clone().matmul(head).into_scalar::<f32>() + bias > THRESHOLD
        });
        let verdict = Verdict { unsafe_content: found[0], watermark: found[1] };
        if !verdict.withheld() {
            return Ok((picture, verdict));
        }
        let black = vec![0; picture.pixels().len()];
        Picture::with_channels(picture.width(), picture.height(), picture.channels(), black)
            .map(|black| (black, verdict))
    }
}

//! What the interfaces of others have in common: a size means a stage, and pictures travel in the answer.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use imagen::cascade::StageName;
use imagen::image::{DecodeOptions, Picture, decode, export};

use super::blocking;
use crate::begin::BeginOrder;
use crate::problem::Problem;
use crate::studio::Studio;
use crate::wire::{ModelView, PictureView};

/// The stage whose pictures are of this side; where there is none, of the next larger one, or else of the largest.
pub(super) fn stage_of(model: &ModelView, side: usize) -> StageName {
    let fitting = model.stages.iter().find(|stage| stage.size >= side);
    fitting.or(model.stages.last()).map_or(model.default_until, |stage| stage.stage)
}

/// A form in which pictures travel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Format {
    /// With its settings.
    #[default]
    Png,
    Jpeg,
    Webp,
}

impl Format {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Png => "png",
            Self::Jpeg => "jpeg",
            Self::Webp => "webp",
        }
    }
}

/// A finished picture as base64.
pub(super) async fn encoded(studio: &Arc<Studio>, picture: &PictureView, format: Format) -> Result<String, Problem> {
    let file = studio.store.file(&picture.id);
    blocking(move || {
        let bytes = imagen::input::read(&file, DecodeOptions::default().max_bytes)
            .map_err(|_| Problem::not_found("picture"))?;
        let bytes = match format {
            Format::Png => bytes,
            Format::Jpeg => export::jpeg(&decode::decode(&bytes, &DecodeOptions::default())?)?,
            Format::Webp => export::webp(&decode::decode(&bytes, &DecodeOptions::default())?)?,
        };
        Ok(STANDARD.encode(bytes))
    })
    .await
}

/// Keeps a picture and its mask, and begins with them.
pub(super) fn begin(studio: &Studio, picture: &Picture, mask: Option<&Picture>) -> Result<BeginOrder, Problem> {
    let keep = |picture: &Picture| studio.store.keep_upload(picture, studio.limits.kept_bytes).map(|kept| kept.id);
    Ok(BeginOrder { picture: keep(picture)?, mask: mask.map(keep).transpose()?, ..BeginOrder::default() })
}

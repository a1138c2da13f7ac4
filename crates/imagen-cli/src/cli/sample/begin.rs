//! `--image` and what belongs to it: a picture to start from, to mend, to draw on beyond its edges, or to enlarge.

use std::path::PathBuf;

use imagen::cascade::{Edges, Imagen, Request, StartPicture};
use imagen::diffusion::Outside;
use imagen::image::{DecodeOptions, MAX_CHANNELS, decode};

use crate::cli::shared::one_of;
use crate::failure::{Failure, Result};
use crate::output::record::{Remembered, StartRecord, digest};

const FROM: &str = "From a picture";

/// A picture to begin with.
#[derive(Debug, Default, clap::Args)]
pub(super) struct BeginArgs {
    /// Start from this picture; with --from sr256, enlarge it
    #[arg(long, value_name = "FILE", help_heading = FROM, aliases = ["init-image", "init-img", "image-path"])]
    pub(super) image: Option<PathBuf>,
    /// How much of the picture is drawn over: 0 is the picture itself, 1 all of it
    #[arg(long, value_name = "PART", help_heading = FROM, requires = "image")]
    strength: Option<f64>,
    /// Draw only where this picture is white
    #[arg(long, value_name = "FILE", help_heading = FROM, requires = "image")]
    pub(super) mask: Option<PathBuf>,
    /// Draw beyond its edges, so many of its pixels: left=64,top=16 or all=32
    #[arg(long, value_name = "EDGES", help_heading = FROM, requires = "image")]
    extend: Option<Edges>,
    /// Soften the mask's edges over so many pixels of the picture
    #[arg(long, hide_short_help = true, value_name = "PIXELS", help_heading = FROM, requires = "image")]
    feather: Option<usize>,
    /// Take each step so many times, so that what is drawn fits what stays
    #[arg(long, hide_short_help = true, value_name = "N", help_heading = FROM, requires = "image")]
    resample: Option<usize>,
    /// What is seen of the picture outside the mask: noised as the step is, or clean as diffusers has it
    #[arg(long, hide_short_help = true, value_name = "WAY", help_heading = FROM, requires = "image")]
    #[arg(value_parser = one_of::<Outside>())]
    outside: Option<Outside>,
}

/// A picture to begin with, and what the record says of it.
pub(super) struct Begin {
    pub(super) start: StartPicture,
    pub(super) record: StartRecord,
}

impl BeginArgs {
    /// Reads the picture and its mask; what is not given is as remembered.
    pub(super) fn open(&self, remembered: Option<&Remembered>) -> Result<Option<Begin>> {
        let before = remembered.and_then(|remembered| remembered.start.clone()).unwrap_or_default();
        let Some(image) = &self.image else {
            return match before.picture {
                None => Ok(None),
                Some(_) => Err(Failure::usage("the picture of --params-from began with another picture")
                    .hint("give that one with --image, or the prompt without --params-from")),
            };
        };
        if before.mask.is_some() && self.mask.is_none() {
            return Err(Failure::usage("the picture of --params-from was drawn within a mask")
                .hint("give the mask with --mask, or the prompt without --params-from"));
        }
        let open = |path: &PathBuf| decode::open(path, &DecodeOptions { channels: MAX_CHANNELS, ..Default::default() });
        let (picture, mask) = (open(image)?, self.mask.as_ref().map(open).transpose()?);
        let record = StartRecord {
            picture: Some(digest(&picture)),
            mask: mask.as_ref().map(digest),
            extend: self.extend.or(before.extend),
            feather: self.feather.or(before.feather),
            resample: self.resample.or(before.resample),
            outside: self.outside.or(before.outside),
        };
        let strength = self.strength.or(remembered.and_then(|remembered| remembered.strength));
        let (feather, resample, outside) = (record.feather, record.resample, record.outside);
        let start = StartPicture { picture, mask, strength, feather, resample, outside };
        let start = record.extend.map_or(Ok(start.clone()), |edges| start.extended(edges))?;
        Ok(Some(Begin { start, record }))
    }

    /// The flags that say it again.
    pub(super) fn flags(&self, request: &Request, record: Option<&StartRecord>) -> Vec<(&'static str, String)> {
        let file = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
        let record = record.cloned().unwrap_or_default();
        let strength = request.start.as_ref().and_then(|start| start.strength);
        let files = [("--image", file(&self.image)), ("--mask", file(&self.mask))];
        let strength = [("--strength", strength.map(|part| part.to_string()))];
        let given = |(flag, value): (_, Option<String>)| Some((flag, value?));
        let files = files.into_iter().filter_map(given);
        files.chain(record.flags()).chain(strength.into_iter().filter_map(given)).collect()
    }
}

/// What is said of the picture that a drawing begins with, if anything.
pub(super) fn note(imagen: &Imagen, request: &Request) -> Option<String> {
    let start = request.start.as_ref()?;
    let [w, h] = [start.picture.width(), start.picture.height()];
    let sizes = imagen.sizes_of(request).ok()?;
    let (stage, [height, width]) = sizes.first()?;
    let shown = format!("{width}x{height}");
    match start.strength {
        Some(part) if part > 0.0 && imagen.needs(request).ok()?.iter().any(|need| need.evaluations == 0) => {
            Some(format!("strength {part} leaves no step of a stage: it returns the picture as it is"))
        }
        _ if (w, h) != (*width, *height) => Some(format!("the picture of {w}x{h} becomes {shown} at stage {stage}")),
        _ => None,
    }
}

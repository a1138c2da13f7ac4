//! A study's pictures as raters get them: PNG without any text, so that neither form nor metadata tell who drew it; for
//! controls, spoilt.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use imagen::image::{DecodeOptions, Picture, PngText, decode, png};
use imagen::rng::Rng;

/// Bytes that are kept; a study that is larger is read again now and then.
const KEPT: usize = 256 << 20;
/// A spoilt picture is cut into so many pieces each way.
const PIECES: usize = 8;

/// Pictures that were made ready.
#[derive(Debug, Default)]
pub(super) struct Pictures(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    ready: HashMap<(String, bool), Arc<[u8]>>,
    bytes: usize,
}

impl Pictures {
    /// The PNG of a file of the study.
    pub(super) fn get(&self, study: &Path, file: &str, spoilt: bool) -> imagen::Result<Arc<[u8]>> {
        let key = (file.to_owned(), spoilt);
        if let Some(png) = self.0.lock().unwrap_or_else(PoisonError::into_inner).ready.get(&key) {
            return Ok(png.clone());
        }
        let path = own(study, file)?;
        let picture = decode::open(&path, &DecodeOptions::default())?;
        let picture = if spoilt { spoil(&picture)? } else { picture };
        let png: Arc<[u8]> = png::encode(&picture, &PngText::default())?.into();
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.bytes + png.len() > KEPT {
            *kept = Kept::default();
        }
        kept.bytes += png.len();
        kept.ready.insert(key, png.clone());
        Ok(png)
    }
}

/// The file of a study, wherever links within it lead; one that leads out of it is nobody's to see.
fn own(study: &Path, file: &str) -> imagen::Result<PathBuf> {
    let path = study.join(file);
    let real = |path: &Path| path.canonicalize().map_err(|e| imagen::Error::io("read", path, e));
    let found = real(&path)?;
    if !found.starts_with(real(study)?) {
        return Err(imagen::Error::data(format!("{} leads out of the study", path.display())));
    }
    Ok(found)
}

/// A picture in pieces that lie about: anybody who looks prefers the whole one.
fn spoil(picture: &Picture) -> imagen::Result<Picture> {
    let (width, height, channels) = (picture.width(), picture.height(), picture.channels());
    let (w, h) = ((width / PIECES).max(1), (height / PIECES).max(1));
    let (across, down) = (width / w, height / h);
    let order = Rng::new(0).permutation(across * down);
    let mut pixels = picture.pixels().to_vec();
    for (to, from) in order.into_iter().enumerate() {
        for row in 0..h {
            let at = |piece: usize| ((piece / across * h + row) * width + piece % across * w) * channels;
            let length = w * channels;
            pixels[at(to)..at(to) + length].copy_from_slice(&picture.pixels()[at(from)..at(from) + length]);
        }
    }
    Picture::with_channels(width, height, channels, pixels)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(unix)]
    fn a_picture_from_outside_is_not_shown() {
        let (study, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let png = png::encode(&Picture::filled(8, 8, [1, 2, 3]), &PngText::default()).unwrap();
        std::fs::write(outside.path().join("private.png"), &png).unwrap();
        std::fs::write(study.path().join("own.png"), &png).unwrap();
        std::os::unix::fs::symlink(outside.path().join("private.png"), study.path().join("a.png")).unwrap();
        std::os::unix::fs::symlink(study.path().join("own.png"), study.path().join("b.png")).unwrap();
        let pictures = Pictures::default();
        let refused = pictures.get(study.path(), "a.png", false).unwrap_err().to_string();
        assert!(refused.contains("leads out of the study"), "{refused}");
        assert!(pictures.get(study.path(), "../private.png", false).is_err());
        pictures.get(study.path(), "b.png", false).unwrap();
    }

    #[test]
    fn what_is_shown_has_no_text_and_the_spoilt_one_the_same_pixels_elsewhere() {
        let folder = tempfile::tempdir().unwrap();
        let pixels: Vec<u8> = (0..17 * 16 * 3).map(|k| (k * 7 % 251) as u8).collect();
        let picture = Picture::new(17, 16, pixels).unwrap();
        let text = PngText { parameters: Some("Model: secret-model".into()), imagen: Some("{}".into()) };
        std::fs::write(folder.path().join("a.png"), png::encode(&picture, &text).unwrap()).unwrap();
        let pictures = Pictures::default();
        let options = DecodeOptions::default();
        let [intact, spoilt] = [false, true].map(|spoilt| pictures.get(folder.path(), "a.png", spoilt).unwrap());
        assert!(!intact.windows(6).any(|bytes| bytes == b"secret") && !intact.windows(4).any(|bytes| bytes == b"tEXt"));
        assert!(decode::decode(&intact, &options).unwrap() == picture);
        let spoilt = decode::decode(&spoilt, &options).unwrap();
        assert!(spoilt != picture);
        let sorted = |picture: &Picture| {
            let mut pixels: Vec<[u8; 3]> = picture.pixels().as_chunks().0.to_vec();
            pixels.sort();
            pixels
        };
        assert_eq!(sorted(&spoilt), sorted(&picture));
    }
}

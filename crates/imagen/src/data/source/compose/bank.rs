//! A bank of cut-outs: nouns with their words, and for each noun drawings on transparent backgrounds in several styles.
//!
//! `bank.json` is the index (`recipes/world/prepare.mjs` writes one); a drawing is a PNG with opacity. The index is
//! checked as a whole when it is opened, drawings are read when they are needed and kept, reduced to what is asked for.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use rayon::iter::{IntoParallelRefIterator, ParallelIterator};
use serde::Deserialize;

use crate::error::{Context, Error, Result};
use crate::image::Picture;
use crate::image::decode::{self, DecodeOptions};
use crate::input;

/// The index's name in a bank's folder.
pub(super) const INDEX: &str = "bank.json";
/// The version of the index that is read.
const VERSION: u32 = 1;
/// The most bytes of drawings that are kept.
const KEPT_BYTES: usize = 3 << 29;

/// A thing's words and drawings.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Noun {
    /// The name as people write it, without an article.
    pub noun: String,
    pub plural: String,
    /// `a`, `an`, `the`, or nothing.
    pub article: String,
    #[serde(default)]
    pub synonyms: Vec<Synonym>,
    #[serde(default)]
    pub group: String,
    /// Whether it is one of the well-known things that appear in every arrangement.
    #[serde(default)]
    pub core: bool,
    /// Whether its mirror image is as good.
    #[serde(default = "yes")]
    pub flip: bool,
    /// Whether it may be turned a little.
    #[serde(default = "yes")]
    pub turn: bool,
    pub cutouts: Vec<Cutout>,
}

/// Another name of the same thing.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Synonym {
    pub noun: String,
    pub plural: String,
    pub article: String,
}

/// One drawing; what else an index says of it is for people.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Cutout {
    /// The file below the bank's folder.
    pub file: String,
    /// The kind of drawing, a word that the grammar's styles refer to.
    pub style: String,
    /// The colour that tells it from other drawings of the noun, where its name has one.
    #[serde(default)]
    pub colour: Option<String>,
    /// The mean colour of what is seen.
    pub mean: [u8; 3],
}

#[derive(Deserialize)]
struct Index {
    imagen_bank: u32,
    digest: String,
    nouns: Vec<Noun>,
}

/// Rows of pixels with opacity; the colours are multiplied by it.
pub(super) struct Drawing {
    width: usize,
    pixels: Vec<[u8; 4]>,
    /// The part that is drawn on, in its pixels: halving rounds the sides up.
    span: [f32; 2],
}

/// The nouns, and their drawings as far as they were read.
pub(super) struct Bank {
    folder: PathBuf,
    digest: String,
    nouns: Vec<Noun>,
    /// The place of each noun's first drawing in `kept`.
    firsts: Vec<usize>,
    kept: Vec<Kept>,
    kept_bytes: AtomicUsize,
}

/// What is known of a drawing.
#[derive(Default)]
struct Kept {
    /// The sides of the file's picture.
    size: OnceLock<[usize; 2]>,
    /// The drawing by how often it is halved.
    levels: [OnceLock<Arc<Drawing>>; LEVELS],
}

/// How often a drawing is halved at most, and the whole one.
const LEVELS: usize = 5;

fn yes() -> bool {
    true
}

impl Bank {
    /// Reads the index of a folder; every file that it names must be there.
    pub(super) fn open(folder: &Path) -> Result<Self> {
        let path = folder.join(INDEX);
        let bytes = input::read(&path, input::MOST_TEXT)?;
        let index: Index = serde_json::from_slice(&bytes).map_err(|e| {
            Error::data(format!("{} is no index of cut-outs; make the bank again", path.display())).with_source(e)
        })?;
        if index.imagen_bank != VERSION {
            return Err(Error::data(format!(
                "{} has version {}, and version {VERSION} is read; make the bank again",
                path.display(),
                index.imagen_bank
            )));
        }
        check(folder, &index.nouns).context(|| path.display().to_string())?;
        let mut firsts = Vec::with_capacity(index.nouns.len());
        let mut kept = Vec::new();
        for noun in &index.nouns {
            firsts.push(kept.len());
            kept.extend(noun.cutouts.iter().map(|_| Kept::default()));
        }
        let (folder, kept_bytes) = (folder.to_owned(), AtomicUsize::new(0));
        Ok(Self { folder, digest: index.digest, nouns: index.nouns, firsts, kept, kept_bytes })
    }

    pub(super) fn nouns(&self) -> &[Noun] {
        &self.nouns
    }

    /// What tells this bank from others.
    pub(super) fn digest(&self) -> &str {
        &self.digest
    }

    /// Width and height of a drawing's file, in pixels.
    pub(super) fn size(&self, noun: usize, cutout: usize) -> Result<[usize; 2]> {
        let kept = &self.kept[self.firsts[noun] + cutout];
        if let Some(size) = kept.size.get() {
            return Ok(*size);
        }
        let size = decode::size(&self.path(noun, cutout)).context(|| "cut-out".to_owned())?;
        Ok(*kept.size.get_or_init(|| size))
    }

    /// A drawing whose longer side has at least `least` pixels where the file has so many, and less than twice that.
    pub(super) fn drawing(&self, noun: usize, cutout: usize, least: f32) -> Result<Arc<Drawing>> {
        let [width, height] = self.size(noun, cutout)?;
        let halvings = (width.max(height) as f32 / least.max(1.0)).log2().floor();
        let level = halvings.clamp(0.0, LEVELS as f32 - 1.0) as usize;
        let place = &self.kept[self.firsts[noun] + cutout].levels[level];
        if let Some(known) = place.get() {
            return Ok(Arc::clone(known));
        }
        let drawing = Arc::new((0..level).fold(self.read(noun, cutout)?, |drawing, _| drawing.halved()));
        let bytes = size_of_val(drawing.pixels.as_slice());
        if self.kept_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes > KEPT_BYTES
            || place.set(Arc::clone(&drawing)).is_err()
        {
            self.kept_bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
        Ok(drawing)
    }

    /// About how many bytes are kept once every drawing was wanted at the sizes that things have in a picture of this side:
    /// up to twice the picture's, and down to half of it, each as a square.
    pub(super) fn kept_bytes(&self, side: usize) -> u64 {
        let square = |side: usize| (side * side * size_of::<[u8; 4]>()) as u64;
        let each: u64 = [side / 2, side, 2 * side].map(square).iter().sum();
        (self.kept.len() as u64 * each).min(KEPT_BYTES as u64)
    }

    /// Reads every drawing; what is wrong with those that cannot be used.
    pub(super) fn check_drawings(&self) -> Vec<(String, String)> {
        let places: Vec<(usize, usize)> = (0..self.nouns.len())
            .flat_map(|noun| (0..self.nouns[noun].cutouts.len()).map(move |cutout| (noun, cutout)))
            .collect();
        let broken = |&(noun, cutout): &(usize, usize)| {
            let error = self.read(noun, cutout).err()?;
            Some((self.nouns[noun].cutouts[cutout].file.clone(), format!("{error:#}")))
        };
        places.par_iter().filter_map(broken).collect()
    }

    fn path(&self, noun: usize, cutout: usize) -> PathBuf {
        self.folder.join(&self.nouns[noun].cutouts[cutout].file)
    }

    fn read(&self, noun: usize, cutout: usize) -> Result<Drawing> {
        let path = self.path(noun, cutout);
        let options = DecodeOptions { channels: 4, ..DecodeOptions::default() };
        let picture = decode::open(&path, &options).context(|| "cut-out".to_owned())?;
        Ok(Drawing::of(&picture))
    }
}

impl Drawing {
    /// Of an RGBA picture.
    fn of(picture: &Picture) -> Self {
        let pixel = |pixel: &[u8]| {
            let alpha = u32::from(pixel[3]);
            let [r, g, b] = [0, 1, 2].map(|i| ((u32::from(pixel[i]) * alpha + 127) / 255) as u8);
            [r, g, b, pixel[3]]
        };
        let span = [picture.width() as f32, picture.height() as f32];
        Self { width: picture.width(), pixels: picture.pixels().chunks_exact(4).map(pixel).collect(), span }
    }

    pub(super) fn width(&self) -> usize {
        self.width
    }

    pub(super) fn height(&self) -> usize {
        self.pixels.len() / self.width
    }

    /// Each pixel the mean of four; what has an odd side ends in clear pixels.
    fn halved(&self) -> Self {
        let (width, height) = (self.width.div_ceil(2), self.height().div_ceil(2));
        let mut pixels = Vec::with_capacity(width * height);
        for y in 0..height {
            for x in 0..width {
                let corners = [(0, 0), (1, 0), (0, 1), (1, 1)].map(|(dx, dy)| self.at(2 * x + dx, 2 * y + dy));
                pixels.push([0, 1, 2, 3].map(|i| {
                    let sum: u32 = corners.iter().map(|corner| u32::from(corner[i])).sum();
                    ((sum + 2) / 4) as u8
                }));
            }
        }
        Self { width, pixels, span: self.span.map(|side| side / 2.0) }
    }

    /// The part that is drawn on, in pixels.
    pub(super) fn span(&self) -> [f32; 2] {
        self.span
    }

    /// The pixel of a column and row; clear outside.
    pub(super) fn at(&self, x: usize, y: usize) -> [u8; 4] {
        if x < self.width { self.pixels.get(y * self.width + x).copied().unwrap_or_default() } else { [0; 4] }
    }
}

/// Refuses an index whose words are missing or doubled, or that names files that are not there or lie outside.
fn check(folder: &Path, nouns: &[Noun]) -> Result<()> {
    if nouns.is_empty() {
        return Err(Error::data("there is no noun; add cut-outs and make the bank again"));
    }
    let mut seen = HashSet::new();
    for noun in nouns {
        let name = &noun.noun;
        let names = noun.synonyms.iter().map(|synonym| (&synonym.noun, &synonym.plural, &synonym.article));
        for (word, plural, article) in std::iter::once((name, &noun.plural, &noun.article)).chain(names) {
            if word.is_empty() || plural.is_empty() && (article != "the" || !noun.plural.is_empty()) {
                return Err(Error::data(format!("noun {name:?} has a name without letters or without plural; add it")));
            }
            if !seen.insert(word) {
                return Err(Error::data(format!("the name {word:?} is there twice; join the two nouns or rename one")));
            }
        }
        if noun.cutouts.is_empty() {
            return Err(Error::data(format!("noun {name:?} has no cut-out; add one or remove the noun")));
        }
        for article in std::iter::once(&noun.article).chain(noun.synonyms.iter().map(|synonym| &synonym.article)) {
            if !["", "a", "an", "the"].contains(&article.as_str()) {
                return Err(Error::data(format!("noun {name:?} has article {article:?}; expected a, an, the or none")));
            }
        }
        for cutout in &noun.cutouts {
            let inside = super::super::files::inside(&cutout.file).context(|| format!("noun {name:?}"))?;
            if !folder.join(inside).is_file() {
                return Err(Error::data(format!(
                    "noun {name:?} names {}, which is not in {}; make the bank again",
                    cutout.file,
                    folder.display()
                )));
            }
        }
    }
    Ok(())
}

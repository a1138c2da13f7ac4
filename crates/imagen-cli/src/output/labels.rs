//! Words below pictures, for sheets that people look at.
//!
//! The font is compiled in, so that a machine without fonts draws the same. Small pictures are magnified by whole numbers,
//! pixel by pixel, until words have room below them.

use std::sync::LazyLock;

use ab_glyph::{Font, FontRef, PxScaleFont, ScaleFont, point};

use imagen::image::Picture;

use crate::failure::Result;

/// Pixels of a line, and around the words.
const LINE: usize = 17;
const MARGIN: usize = 4;
/// Height of the letters, from the highest to the lowest.
const SIZE: f32 = 0.8 * LINE as f32;
/// Grey of the paper, and how much darker ink is.
const PAPER: u8 = 255;
const INK: f32 = 223.0;
/// The least width that words have.
const LEAST: usize = 160;
/// The most lines below a picture; longer texts end in an ellipsis.
const MOST_LINES: usize = 4;

static FONT: LazyLock<PxScaleFont<FontRef<'static>>> = LazyLock::new(|| {
    let font = FontRef::try_from_slice(epaint_default_fonts::UBUNTU_LIGHT).expect("a font is compiled in");
    font.into_scaled(SIZE)
});

/// The pictures, each with its words below, all with room for as many lines as the longest needs.
pub(crate) fn below(pictures: Vec<Picture>, words: &[String]) -> Result<Vec<Picture>> {
    let magnified: Vec<Picture> = pictures.into_iter().map(magnified).collect::<Result<_>>()?;
    let texts: Vec<Vec<String>> =
        magnified.iter().zip(words).map(|(picture, words)| wrapped(words, picture.width())).collect();
    let lines = texts.iter().map(Vec::len).max().unwrap_or(0);
    magnified.iter().zip(&texts).map(|(picture, text)| with_band(picture, text, lines)).collect()
}

/// A picture whose pixels are squares of so many pixels that it is wide enough for words.
fn magnified(picture: Picture) -> Result<Picture> {
    let factor = LEAST.div_ceil(picture.width());
    let (width, channels) = (picture.width(), picture.channels());
    let mut pixels = Vec::with_capacity(factor * factor * picture.pixels().len());
    for row in picture.pixels().chunks_exact(width * channels) {
        let wide: Vec<u8> = row.chunks_exact(channels).flat_map(|pixel| pixel.repeat(factor)).collect();
        (0..factor).for_each(|_| pixels.extend_from_slice(&wide));
    }
    Ok(Picture::with_channels(factor * width, factor * picture.height(), channels, pixels)?)
}

/// Where each letter of a line begins, and where the line ends.
fn places(line: &str) -> (Vec<f32>, f32) {
    let (mut x, mut before, mut places) = (0.0, None, Vec::new());
    for letter in line.chars().map(|c| FONT.glyph_id(c)) {
        x += before.map_or(0.0, |before| FONT.kern(before, letter));
        places.push(x);
        x += FONT.h_advance(letter);
        before = Some(letter);
    }
    (places, x)
}

/// Words in lines of at most this width.
fn wrapped(words: &str, width: usize) -> Vec<String> {
    let fits = |line: &str| places(line).1 as usize + 2 * MARGIN <= width;
    let mut lines: Vec<String> = Vec::new();
    for word in words.split_whitespace() {
        let longer = lines.last().map(|line| format!("{line} {word}"));
        match longer {
            Some(longer) if fits(&longer) => *lines.last_mut().expect("there is a line") = longer,
            _ => lines.push(word.to_owned()),
        }
    }
    let cut = lines.len() > MOST_LINES;
    lines.truncate(MOST_LINES);
    if let Some(last) = lines.last_mut() {
        // one word may be wider than the picture, and what was cut needs a mark
        let mut ellipsis = cut;
        while !last.is_empty() && !fits(&if ellipsis { format!("{last}…") } else { last.clone() }) {
            last.pop();
            ellipsis = true;
        }
        if ellipsis {
            last.push('…');
        }
    }
    lines
}

/// The picture above a white band with room for so many lines.
fn with_band(picture: &Picture, text: &[String], lines: usize) -> Result<Picture> {
    let (width, channels) = (picture.width(), picture.channels());
    let height = lines * LINE + MARGIN;
    let mut band = vec![PAPER; width * height];
    for (number, line) in text.iter().enumerate() {
        let baseline = (number * LINE + 2) as f32 + FONT.ascent();
        for (c, x) in line.chars().zip(places(line).0) {
            let glyph = FONT.glyph_id(c).with_scale_and_position(SIZE, point(x + MARGIN as f32, baseline));
            let Some(outline) = FONT.font().outline_glyph(glyph) else { continue };
            let corner = outline.px_bounds().min;
            outline.draw(|x, y, ink| {
                let (x, y) = (corner.x as i32 + x as i32, corner.y as i32 + y as i32);
                if (0..width as i32).contains(&x) && (0..height as i32).contains(&y) {
                    let grey = &mut band[y as usize * width + x as usize];
                    *grey = (*grey).min(PAPER - (INK * ink.min(1.0)) as u8);
                }
            });
        }
    }
    let mut pixels = picture.pixels().to_vec();
    // the last of an even number of channels is opacity
    for grey in band {
        let colours = channels - usize::from(channels % 2 == 0);
        pixels.extend(std::iter::repeat_n(grey, colours).chain((colours < channels).then_some(255)));
    }
    Ok(Picture::with_channels(width, picture.height() + height, channels, pixels)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_stand_below_a_picture_that_is_whole() {
        let picture = Picture::filled(64, 48, [200, 10, 10]);
        let words = ["a red apple".to_owned(), "an elephant to the left of a very long bridge at night".to_owned()];
        let [one, other] = below(vec![picture.clone(), picture], &words).unwrap().try_into().unwrap();
        assert_eq!((one.width(), one.height()), (other.width(), other.height()));
        assert_eq!(one.width(), 192);
        let (above, band) = one.pixels().split_at(192 * 144 * 3);
        assert!(above.chunks_exact(3).all(|pixel| pixel == [200, 10, 10]));
        assert!(
            band.iter().any(|value| *value < 100)
                && band.iter().filter(|value| **value == 255).count() > band.len() / 2
        );
        // the longer text has more lines, so the band of the shorter is white at its end
        assert!(band[band.len() - 192 * 3 * 10..].iter().all(|value| *value == 255));
    }

    #[test]
    fn lines_fit_and_what_is_cut_ends_in_a_mark() {
        let lines = wrapped(&"word ".repeat(60), 160);
        assert_eq!(lines.len(), MOST_LINES);
        assert!(lines[3].ends_with('…') && !lines[2].ends_with('…'));
        let lines = wrapped(&"x".repeat(200), 160);
        assert!(lines.len() == 1 && lines[0].ends_with('…'));
    }
}

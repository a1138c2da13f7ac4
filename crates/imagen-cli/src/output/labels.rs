//! Words below pictures, for sheets that people look at.
//!
//! The font is compiled in, so that a machine without fonts draws the same. Small pictures are magnified by whole numbers,
//! pixel by pixel, until words have room below them.

use plotters::prelude::*;
use plotters::style::{FontStyle, register_font};

use imagen::image::Picture;

use crate::failure::{Exit, Failure, Result};

/// The font's name.
pub(crate) const FONT: &str = "sans-serif";
/// Pixels of a line, and around the words.
const LINE: u32 = 17;
const MARGIN: u32 = 4;
/// The least width that words have.
const LEAST: usize = 160;
/// The most lines below a picture; longer texts end in an ellipsis.
const MOST_LINES: usize = 4;

/// Makes the compiled-in font known; doing so again is harmless.
pub(crate) fn register() {
    let _ = register_font(FONT, FontStyle::Normal, epaint_default_fonts::UBUNTU_LIGHT);
}

/// The pictures, each with its words below, all with room for as many lines as the longest needs.
pub(crate) fn below(pictures: Vec<Picture>, words: &[String]) -> Result<Vec<Picture>> {
    register();
    let magnified: Vec<Picture> = pictures.into_iter().map(magnified).collect::<Result<_>>()?;
    let texts: Vec<Vec<String>> = magnified
        .iter()
        .zip(words)
        .map(|(picture, words)| wrapped(words, picture.width() as u32))
        .collect::<Result<_>>()?;
    let lines = texts.iter().map(Vec::len).max().unwrap_or(0);
    magnified.iter().zip(&texts).map(|(picture, text)| with_band(picture, text, lines)).collect()
}

fn failed(e: impl std::fmt::Display) -> Failure {
    Failure::new(Exit::Runtime, format_args!("cannot draw the captions: {e}"))
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

/// Words in lines of at most this width.
fn wrapped(words: &str, width: u32) -> Result<Vec<String>> {
    let mut pixels = vec![0; 3];
    let area = BitMapBackend::with_buffer(&mut pixels, (1, 1)).into_drawing_area();
    let style = (FONT, f64::from(LINE) * 0.8).into_text_style(&area);
    let fits = |line: &str| -> Result<bool> {
        Ok(area.estimate_text_size(line, &style).map_err(failed)?.0 + 2 * MARGIN <= width)
    };
    let mut lines: Vec<String> = Vec::new();
    for word in words.split_whitespace() {
        let longer = lines.last().map(|line| format!("{line} {word}"));
        match longer {
            Some(longer) if fits(&longer)? => *lines.last_mut().expect("there is a line") = longer,
            _ => lines.push(word.to_owned()),
        }
    }
    let cut = lines.len() > MOST_LINES;
    lines.truncate(MOST_LINES);
    if let Some(last) = lines.last_mut() {
        // one word may be wider than the picture, and what was cut needs a mark
        let mut ellipsis = cut;
        while !last.is_empty() && !fits(&if ellipsis { format!("{last}…") } else { last.clone() })? {
            last.pop();
            ellipsis = true;
        }
        if ellipsis {
            last.push('…');
        }
    }
    Ok(lines)
}

/// The picture above a white band with room for so many lines.
fn with_band(picture: &Picture, text: &[String], lines: usize) -> Result<Picture> {
    let (width, channels) = (picture.width(), picture.channels());
    let height = lines as u32 * LINE + MARGIN;
    let mut band = vec![0; width * height as usize * 3];
    let area = BitMapBackend::with_buffer(&mut band, (width as u32, height)).into_drawing_area();
    area.fill(&WHITE).map_err(failed)?;
    let style = (FONT, f64::from(LINE) * 0.8).into_text_style(&area).color(&RGBColor(32, 32, 32));
    for (line, text) in text.iter().enumerate() {
        let at = (MARGIN as i32, line as i32 * LINE as i32 + 2);
        area.draw_text(text, &style, at).map_err(failed)?;
    }
    area.present().map_err(failed)?;
    drop(area);
    let mut pixels = picture.pixels().to_vec();
    // the words are grey, so that one channel says all; the last of an even number is opacity
    for grey in band.chunks_exact(3).map(|rgb| rgb[0]) {
        let colours = channels - usize::from(channels % 2 == 0);
        pixels.extend(std::iter::repeat_n(grey, colours).chain((colours < channels).then_some(255)));
    }
    Ok(Picture::with_channels(width, picture.height() + height as usize, channels, pixels)?)
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
        register();
        let lines = wrapped(&"word ".repeat(60), 160).unwrap();
        assert_eq!(lines.len(), MOST_LINES);
        assert!(lines[3].ends_with('…') && !lines[2].ends_with('…'));
        let lines = wrapped(&"x".repeat(200), 160).unwrap();
        assert!(lines.len() == 1 && lines[0].ends_with('…'));
    }
}

//! How far a picture is drawn on beyond its edges (outpainting).

use std::fmt;
use std::str::FromStr;

use super::config::StageConfig;
use crate::error::{Error, Result};
use crate::image::Picture;
use crate::names;

/// Pixels beyond each edge of a picture. Written `left=64,top=8`, `all=32` or `32`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Edges {
    /// To the left.
    pub left: usize,
    /// To the right.
    pub right: usize,
    /// Above.
    pub top: usize,
    /// Below.
    pub bottom: usize,
}

impl Edges {
    /// The picture with this room around it, of one value or of its own edge pixels.
    ///
    /// # Errors
    /// `Usage` where no edge is moved, or the picture becomes larger than any is.
    pub(super) fn around(&self, picture: &Picture, value: Option<u8>) -> Result<Picture> {
        let (w, h, c) = (picture.width(), picture.height(), picture.channels());
        let (width, height) = (self.left + w + self.right, self.top + h + self.bottom);
        if *self == Self::default() {
            return Err(Error::usage(
                "extend by nothing: expected pixels for at least one of left, right, top and bottom",
            ));
        }
        if width > StageConfig::MAX_SIZE || height > StageConfig::MAX_SIZE {
            return Err(Error::usage(format!(
                "extend to {width}x{height}: expected sides of at most {}",
                StageConfig::MAX_SIZE
            )));
        }
        let mut pixels = Vec::with_capacity(width * height * c);
        for y in 0..height {
            for x in 0..width {
                let inside = (self.left..self.left + w).contains(&x) && (self.top..self.top + h).contains(&y);
                let nearest = |at: usize, before: usize, length: usize| at.saturating_sub(before).min(length - 1);
                let at = (nearest(y, self.top, h) * w + nearest(x, self.left, w)) * c;
                match value.filter(|_| !inside) {
                    Some(value) => pixels.extend(std::iter::repeat_n(value, c)),
                    None => pixels.extend_from_slice(&picture.pixels()[at..at + c]),
                }
            }
        }
        Picture::with_channels(width, height, c, pixels)
    }
}

impl fmt::Display for Edges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let each = [("left", self.left), ("right", self.right), ("top", self.top), ("bottom", self.bottom)];
        let given: Vec<String> =
            each.iter().filter(|(_, pixels)| *pixels > 0).map(|(name, pixels)| format!("{name}={pixels}")).collect();
        f.pad(&given.join(","))
    }
}

impl FromStr for Edges {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = |part: &str| {
            Error::usage(format!(
                "extend `{part}`: expected left=64, right, top, bottom or all with pixels, separated by commas"
            ))
        };
        let mut edges = Self::default();
        for part in text.split(',').map(str::trim) {
            let (name, pixels) = part.split_once('=').unwrap_or(("all", part));
            let pixels: u16 = pixels.trim().parse().map_err(|_| wrong(part))?;
            let pixels = usize::from(pixels);
            match name.trim() {
                "left" => edges.left = pixels,
                "right" => edges.right = pixels,
                "top" => edges.top = pixels,
                "bottom" => edges.bottom = pixels,
                "all" => edges = Self { left: pixels, right: pixels, top: pixels, bottom: pixels },
                _ => return Err(wrong(part)),
            }
        }
        Ok(edges)
    }
}

names::by_text!(Edges);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_shows_the_nearest_pixel_and_is_white_in_the_mask() {
        let picture = Picture::with_channels(2, 1, 1, vec![10, 20]).unwrap();
        let edges: Edges = "left=1, bottom=1".parse().unwrap();
        assert_eq!(edges.to_string(), "left=1,bottom=1");
        assert_eq!(edges.around(&picture, None).unwrap().pixels(), [10, 10, 20, 10, 10, 20]);
        assert_eq!(edges.around(&picture, Some(255)).unwrap().pixels(), [255, 10, 20, 255, 255, 255]);
        assert_eq!("8".parse::<Edges>().unwrap(), "all=8".parse().unwrap());
        for text in ["", "up=3", "left=-1", "left=x", "left"] {
            assert!(text.parse::<Edges>().is_err(), "{text}");
        }
        assert!(Edges::default().around(&picture, None).is_err());
    }
}

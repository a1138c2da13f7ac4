//! A forced choice by pixels, for pictures of which everything but place and size is known: flat shapes on plain backgrounds.
//!
//! A candidate is known by many drawings of it; a picture is as far from it as from the nearest of these. What is soft or faint
//! in a picture counts as little here as to the eye; edges and textures are what [`super::Appearance`] looks at.

use crate::image::Picture;

/// The candidate that a picture is nearest to by the sum of squared differences, by drawings of each in its size; of equally near
/// ones the last.
///
/// # Panics
/// If there is no candidate, or a drawing is of another size than the picture.
pub fn nearest_by_pixels(picture: &Picture, candidates: &[Vec<Picture>]) -> usize {
    let distance = |drawing: &Picture| -> u64 {
        assert_eq!(drawing.pixels().len(), picture.pixels().len(), "drawings of the picture's size");
        let pairs = drawing.pixels().iter().zip(picture.pixels());
        pairs.map(|(a, b)| u64::from(a.abs_diff(*b)).pow(2)).sum()
    };
    let far: Vec<u64> =
        candidates.iter().map(|drawings| drawings.iter().map(distance).min().unwrap_or(u64::MAX)).collect();
    (0..far.len()).rev().min_by_key(|&at| far[at]).expect("there is a candidate")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_drawing_of_all_decides_and_of_equal_ones_not_the_first() {
        let grey = |value: u8| Picture::filled(8, 8, [value; 3]);
        let candidates = [vec![grey(0), grey(100)], vec![grey(60), grey(250)]];
        for (value, nearest) in [(10, 0), (95, 0), (65, 1), (255, 1), (80, 1)] {
            assert_eq!(nearest_by_pixels(&grey(value), &candidates), nearest, "{value}");
        }
    }
}

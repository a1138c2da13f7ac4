//! Whether a drawn picture is found to be of the right thing: its rank among real pictures, by plain pixels.
//!
//! Pictures are compared as 32×32 pixels (middle square on white, area) by the mean squared difference of their bytes, in whole
//! numbers. That is a blunt measure on purpose: it needs no network, anybody can compute it, and it works where a set has
//! one picture of a thing on a plain background. Where things look different each time it says little.
//!
//! [`caption_ranks`] is the other way, over embeddings of pictures and texts: which place a picture's own caption has among
//! others' (R-precision; Xu et al., "AttnGAN", 2018).

use crate::error::{Error, Result};
use crate::image::{CHANNELS, Filter, Picture};
use crate::rng::Rng;

/// Side of the pictures that are compared.
pub const SIDE: usize = 32;

/// Real pictures, each with the number of the thing that it shows.
#[derive(Clone, Debug, Default)]
pub struct References {
    thumbnails: Vec<Thumbnail>,
    things: Vec<usize>,
}

/// The bytes of a picture of 32×32.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thumbnail(Vec<u8>);

/// Where a picture landed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Found {
    /// Place of the nearest reference of the right thing, from 1; references of other things that are as near come first.
    pub rank: usize,
    /// The nearest reference.
    pub nearest: usize,
    /// Its mean squared difference, of values in [0, 1].
    pub distance: f64,
}

impl Thumbnail {
    /// The picture at 32×32.
    ///
    /// # Errors
    /// None that a picture can cause; resizing returns a `Result`.
    pub fn of(picture: &Picture) -> Result<Self> {
        Ok(Self(picture.centre_square().to_rgb([255; CHANNELS]).resize(SIDE, SIDE, Filter::Area)?.into_pixels()))
    }

    /// Sum of squared differences of bytes: at most 2 · 10⁸.
    fn distance(&self, other: &Self) -> u32 {
        self.0.iter().zip(&other.0).map(|(a, b)| u32::from(a.abs_diff(*b)).pow(2)).sum()
    }
}

impl References {
    /// Adds a picture of this thing; its number is the count before.
    pub fn push(&mut self, thumbnail: Thumbnail, thing: usize) {
        self.thumbnails.push(thumbnail);
        self.things.push(thing);
    }

    /// How many pictures.
    pub fn len(&self) -> usize {
        self.things.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.things.is_empty()
    }

    /// Where a picture of `thing` lands.
    ///
    /// # Errors
    /// `Usage` if no reference shows the thing.
    pub fn find(&self, picture: &Thumbnail, thing: usize) -> Result<Found> {
        let distances: Vec<u32> = self.thumbnails.iter().map(|other| picture.distance(other)).collect();
        let of_thing = distances.iter().zip(&self.things).filter(|(_, t)| **t == thing).map(|(distance, _)| *distance);
        let right = of_thing
            .min()
            .ok_or_else(|| Error::usage(format!("none of the {} references shows thing {thing}", self.len())))?;
        let before = distances.iter().zip(&self.things).filter(|(d, t)| **t != thing && **d <= right).count();
        // of equally near ones a wrong one, as in the rank
        let nearest = (0..self.len()).min_by_key(|at| (distances[*at], self.things[*at] == thing));
        let nearest = nearest.expect("there is at least the right one");
        let scale = (SIDE * SIDE * CHANNELS) as f64 * 255.0 * 255.0;
        Ok(Found { rank: before + 1, nearest, distance: f64::from(distances[nearest]) / scale })
    }
}

/// The place, from 1, of each picture's own caption among `among` captions: it and others at random. A caption that fits as well
/// comes first.
///
/// `pictures [n, dim]` and `captions [m, dim]` are embeddings, the latter of different texts; `own` is the number of each
/// picture's caption.
///
/// # Errors
/// `Usage` where there are fewer captions than `among`, or this is below two, or the sizes do not fit.
pub fn caption_ranks(
    pictures: &[f32],
    captions: &[f32],
    own: &[usize],
    dim: usize,
    among: usize,
    seed: u64,
) -> Result<Vec<usize>> {
    let count = captions.len() / dim.max(1);
    if dim == 0 || pictures.len() != own.len() * dim || captions.len() % dim != 0 || own.iter().any(|own| *own >= count)
    {
        let (n, m) = (pictures.len(), captions.len());
        return Err(Error::usage(format!(
            "{n} and {m} numbers are not embeddings of {dim} for {} pictures",
            own.len()
        )));
    }
    if among < 2 || among > count {
        return Err(Error::usage(format!(
            "a caption cannot be looked for among {among}: there are {count} different ones, and it takes two"
        )));
    }
    let rank = |(at, picture): (usize, &[f32])| {
        let fits = |caption: usize| cosine(picture, &captions[caption * dim..][..dim]);
        let (own, order) = (own[at], Rng::new(seed).fold(at as u64).permutation(count));
        let right = fits(own);
        let others = order.into_iter().filter(|caption| *caption != own).take(among - 1);
        1 + others.filter(|caption| fits(*caption) >= right).count()
    };
    Ok(pictures.chunks_exact(dim).enumerate().map(rank).collect())
}

/// The cosine of two vectors, in f64; 0 where one is nothing.
pub fn cosine(x: &[f32], y: &[f32]) -> f64 {
    let dot = |x: &[f32], y: &[f32]| x.iter().zip(y).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum::<f64>();
    dot(x, y) / (dot(x, x) * dot(y, y)).sqrt().max(1e-12)
}

/// How often a random order has one of `right` pictures among its first `k` of `of`.
pub fn by_chance(right: usize, of: usize, k: usize) -> f64 {
    let wrong = of - right;
    let missed = (0..k.min(of)).map(|i| wrong.saturating_sub(i) as f64 / (of - i) as f64).product::<f64>();
    1.0 - missed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn thumbnail(grey: u8) -> Thumbnail {
        Thumbnail::of(&Picture::filled(64, 48, [grey; 3])).unwrap()
    }

    fn references(greys: &[(u8, usize)]) -> References {
        let mut references = References::default();
        greys.iter().for_each(|(grey, thing)| references.push(thumbnail(*grey), *thing));
        references
    }

    #[test]
    fn the_rank_counts_the_wrong_pictures_before_the_first_right_one() {
        let references = references(&[(0, 0), (10, 0), (50, 1), (60, 2), (200, 1)]);
        let rank = |grey, thing| references.find(&thumbnail(grey), thing).unwrap().rank;
        assert_eq!([rank(48, 1), rank(58, 1), rank(0, 1), rank(255, 0)], [1, 2, 3, 4]);
        let found = references.find(&thumbnail(201), 2).unwrap();
        assert_eq!((found.rank, found.nearest), (2, 4));
        assert!((found.distance - (1.0f64 / 255.0).powi(2)).abs() < 1e-9);
    }

    #[test]
    fn a_wrong_picture_that_is_as_near_counts_against() {
        let references = references(&[(90, 1), (90, 0)]);
        for thing in [0, 1] {
            let found = references.find(&thumbnail(95), thing).unwrap();
            assert_eq!((found.rank, found.nearest), (2, 1 - references.things[thing]));
        }
        assert!(references.find(&thumbnail(95), 7).is_err());
    }

    #[test]
    fn a_caption_is_ranked_among_so_many_others_and_one_that_fits_as_well_counts_against() {
        // captions at 0°, 30°, 60° and 90°, one of them twice as long
        let captions = [1.0, 0.0, 0.866, 0.5, 1.0, 1.732, 0.0, 1.0];
        let ranks = |pictures: &[f32], own: &[usize], among| caption_ranks(pictures, &captions, own, 2, among, 3);
        assert_eq!(ranks(&[1.0, 0.1, 1.0, 0.1, 0.1, 1.0], &[0, 3, 1], 4).unwrap(), [1, 4, 3]);
        assert_eq!(ranks(&[0.0, 0.0], &[2], 4).unwrap(), [4], "what fits nothing fits all alike");
        // among two, the other is any of three: a caption in the middle wins or loses by whom it meets
        let pictures: Vec<f32> = [0.9, 0.1].repeat(60);
        let among_two = ranks(&pictures, &[1; 60], 2).unwrap();
        let won = among_two.iter().filter(|rank| **rank == 1).count();
        assert!((20..60).contains(&won), "{won} of 60, two thirds expected");
        assert!(ranks(&[1.0, 0.0], &[0], 5).is_err() && ranks(&[1.0, 0.0], &[4], 2).is_err());
    }

    #[test]
    fn chance_is_that_of_drawing_without_putting_back() {
        assert!((by_chance(1, 1000, 1) - 0.001).abs() < 1e-12);
        assert!((by_chance(1, 1000, 5) - 0.005).abs() < 1e-12);
        assert!((by_chance(2, 4, 2) - 5.0 / 6.0).abs() < 1e-12);
        assert_eq!((by_chance(3, 4, 2), by_chance(0, 4, 2)), (1.0, 0.0));
    }
}

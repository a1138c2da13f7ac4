//! What a composed picture looks like, for a forced choice: is a picture nearer to what was asked for than to what was not?
//!
//! `appearance-1` describes a picture of 64×64 twice, as a whole and cut to what stands out from its rim: histograms of
//! oriented gradients of the three channels of Oklab in 8×8 overlapping cells (Dalal and Triggs, 2005; square roots,
//! divided by the norm of all), and 8×8 mean colours. The whole sees backgrounds, places, numbers and scenes; the cut sees
//! the thing, wherever it is. A picture is as far from a candidate as from its two nearest references.
//!
//! It was chosen by how often a true picture of other drawings in other places wins against pictures that differ in one
//! factor (`imagen eval compose` reports this ceiling beside every accuracy): plain pixels, lightness alone, finer cells, and
//! either half by itself all won less often in some factor.

use super::features::oklab;
use crate::error::Result;
use crate::image::{CHANNELS, Filter, Picture};

/// Side of the squares that are described.
const SIDE: usize = 64;
/// Cells in a row, of gradients and of colours.
const CELLS: usize = 8;
/// Orientations of a histogram, over half a turn.
const ORIENTATIONS: usize = 8;
/// Weight of the colours beside the gradients.
const COLOUR_WEIGHT: f32 = 0.25;
/// Added to the norm of the gradients, so that a faint rest of noise is not blown up.
const FLOOR: f32 = 0.5;
/// How far a colour is from the rim's to stand out, in Oklab.
const STANDS_OUT: f32 = 0.09;
/// How many references of a candidate count.
const NEAREST: usize = 2;

/// The features of a picture.
#[derive(Clone, Debug, PartialEq)]
pub struct Appearance(Vec<f32>);

impl Appearance {
    /// The name, which stands for the whole definition.
    pub const NAME: &'static str = "appearance-1";

    /// Of the largest square in the middle, on white.
    ///
    /// # Errors
    /// None that a picture can cause; resizing returns a `Result`.
    pub fn of(picture: &Picture) -> Result<Self> {
        let whole = picture.centre_square().to_rgb([255; CHANNELS]).resize(SIDE, SIDE, Filter::Area)?;
        let mut features = described(&whole)?;
        features.extend(described(&cut(&whole)?)?);
        Ok(Self(features))
    }

    /// The sum of squared differences.
    fn distance(&self, other: &Self) -> f32 {
        self.0.iter().zip(&other.0).map(|(a, b)| (a - b).powi(2)).sum()
    }
}

/// The candidate that a picture is nearest to, by references of each; of equally near ones the last.
///
/// # Panics
/// If there is no candidate, or one without references.
pub fn forced_choice(picture: &Appearance, candidates: &[Vec<Appearance>]) -> usize {
    let far = |references: &Vec<Appearance>| {
        let mut distances: Vec<f32> = references.iter().map(|reference| picture.distance(reference)).collect();
        distances.sort_by(f32::total_cmp);
        let nearest = &distances[..NEAREST.min(distances.len())];
        nearest.iter().sum::<f32>() / nearest.len() as f32
    };
    let far: Vec<f32> = candidates.iter().map(far).collect();
    (0..far.len()).rev().min_by(|a, b| far[*a].total_cmp(&far[*b])).expect("there is a candidate")
}

/// Gradients and colours of a square of 64×64.
fn described(picture: &Picture) -> Result<Vec<f32>> {
    let mut features = gradients(&lab(picture));
    let small = picture.resize(CELLS, CELLS, Filter::Area)?;
    features.extend(lab(&small).into_iter().flatten().map(|x| COLOUR_WEIGHT * x));
    Ok(features)
}

fn lab(picture: &Picture) -> Vec<[f32; CHANNELS]> {
    picture.pixels().as_chunks().0.iter().map(oklab).collect()
}

/// Histograms of gradients `[8, 8, channel, 8]`; each pixel counts for the four nearest cells and two orientations.
fn gradients(lab: &[[f32; CHANNELS]]) -> Vec<f32> {
    let mut histograms = vec![0.0f32; CELLS * CELLS * CHANNELS * ORIENTATIONS];
    let cell = (SIDE / CELLS) as f32;
    for (y, x) in (0..SIDE).flat_map(|y| (0..SIDE).map(move |x| (y, x))) {
        let at = |y: usize, x: usize| &lab[y.min(SIDE - 1) * SIDE + x.min(SIDE - 1)];
        let [left, right] = [at(y, x.saturating_sub(1)), at(y, x + 1)];
        let [above, below] = [at(y.saturating_sub(1), x), at(y + 1, x)];
        let place = [y, x].map(|at| (at as f32 + 0.5) / cell - 0.5);
        for channel in 0..CHANNELS {
            let (gx, gy) = (right[channel] - left[channel], below[channel] - above[channel]);
            let strength = gx.hypot(gy);
            if strength == 0.0 {
                continue;
            }
            let turn = (gy.atan2(gx) / std::f32::consts::PI).rem_euclid(1.0) * ORIENTATIONS as f32;
            let (low, share) = (turn as usize, turn.fract());
            for corner in 0..4 {
                let row = place[0].floor() + (corner / 2) as f32;
                let column = place[1].floor() + (corner % 2) as f32;
                if row < 0.0 || column < 0.0 || row >= CELLS as f32 || column >= CELLS as f32 {
                    continue;
                }
                let weight = strength * (1.0 - (place[0] - row).abs()) * (1.0 - (place[1] - column).abs());
                let base = ((row as usize * CELLS + column as usize) * CHANNELS + channel) * ORIENTATIONS;
                histograms[base + low % ORIENTATIONS] += weight * (1.0 - share);
                histograms[base + (low + 1) % ORIENTATIONS] += weight * share;
            }
        }
    }
    histograms.iter_mut().for_each(|x| *x = x.sqrt());
    let norm = histograms.iter().map(|x| x * x).sum::<f32>().sqrt() + FLOOR;
    histograms.iter_mut().for_each(|x| *x /= norm);
    histograms
}

/// What stands out from the middle colour of the rim, at 64×64; the whole picture where nothing does.
fn cut(picture: &Picture) -> Result<Picture> {
    let lab = lab(picture);
    let rim = (0..SIDE).flat_map(|i| [i, (SIDE - 1) * SIDE + i, i * SIDE, i * SIDE + SIDE - 1]);
    let rim: Vec<usize> = rim.collect();
    let median = |channel: usize| {
        let mut values: Vec<f32> = rim.iter().map(|&at| lab[at][channel]).collect();
        values.sort_by(f32::total_cmp);
        values[values.len() / 2]
    };
    let background: [f32; CHANNELS] = std::array::from_fn(median);
    let stands_out = |at: &usize| {
        let square: f32 = (0..CHANNELS).map(|i| (lab[*at][i] - background[i]).powi(2)).sum();
        square > STANDS_OUT * STANDS_OUT
    };
    let (mut from, mut to) = ([SIDE; 2], [0; 2]);
    for at in (0..SIDE * SIDE).filter(stands_out) {
        for (axis, place) in [at % SIDE, at / SIDE].into_iter().enumerate() {
            (from[axis], to[axis]) = (from[axis].min(place), to[axis].max(place + 1));
        }
    }
    if from[0] + 4 >= to[0] || from[1] + 4 >= to[1] {
        return Ok(picture.clone());
    }
    picture.crop(from[0], from[1], to[0] - from[0], to[1] - from[1])?.resize(SIDE, SIDE, Filter::Area)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A disc or a square of a colour on a background.
    fn drawn(round: bool, colour: [u8; 3], background: [u8; 3], centre: [i32; 2], radius: i32) -> Appearance {
        let inside = |x: i32, y: i32| {
            let [dx, dy] = [x - centre[0], y - centre[1]];
            if round { dx * dx + dy * dy <= radius * radius } else { dx.abs().max(dy.abs()) <= radius }
        };
        let pixel = |at: i32| if inside(at % 64, at / 64) { colour } else { background };
        let pixels = (0..64 * 64).flat_map(pixel).collect();
        Appearance::of(&Picture::new(64, 64, pixels).unwrap()).unwrap()
    }

    #[test]
    fn a_picture_is_nearest_to_the_same_thing_elsewhere() {
        let (red, blue, white, green) = ([210, 40, 40], [40, 60, 200], [255; 3], [60, 160, 70]);
        let references = |round, colour, background| {
            vec![drawn(round, colour, background, [30, 34], 20), drawn(round, colour, background, [36, 30], 16)]
        };
        let candidates = [
            references(true, red, white),
            references(false, red, white),
            references(true, blue, white),
            references(true, red, green),
        ];
        for (truth, (round, colour, background)) in
            [(true, red, white), (false, red, white), (true, blue, white), (true, red, green)].into_iter().enumerate()
        {
            let picture = drawn(round, colour, background, [32, 32], 18);
            assert_eq!(forced_choice(&picture, &candidates), truth);
        }
    }

    #[test]
    fn of_equally_near_candidates_the_first_does_not_win() {
        let plain = Appearance::of(&Picture::filled(64, 64, [90; 3])).unwrap();
        assert_eq!(forced_choice(&plain, &[vec![plain.clone()], vec![plain.clone()]]), 1);
    }
}

//! Features of a picture that need no weights: where which colour is, and which way its edges run.
//!
//! `layout-1`, 320 numbers: the largest square in the middle, on white, is resized to 64×64 (area); 8×8 mean colours in Oklab
//! (Ottosson, 2020), then 4×4 histograms of oriented gradients of the lightness (Dalal and Triggs, 2005): 8 unsigned
//! orientations, each cell divided by the energy of its neighbourhood. The halves are weighted so that both vary alike
//! (by about 160, the sum over their numbers) over the pictures of Fluent Emoji.
//!
//! They see layout, colour and outline; they do not know what a picture shows, and a distance over them is no FID. The
//! definition never changes under its name: another one gets another number.

use xxhash_rust::xxh64::xxh64;

use crate::error::Result;
use crate::image::{CHANNELS, Filter, Picture};

/// Side of the square that everything is computed from.
const SIDE: usize = 64;
/// The colour behind transparent pixels.
const BEHIND: [u8; CHANNELS] = [255; CHANNELS];
/// Cells of the colour grid in a row.
const COLOUR_CELLS: usize = 8;
/// Cells of the gradient grid in a row.
const GRADIENT_CELLS: usize = 4;
/// Orientations of a histogram, over half a turn.
const ORIENTATIONS: usize = 8;
/// Weight of the colours.
const COLOUR_WEIGHT: f32 = 10.0;
/// Weight of the gradients.
const GRADIENT_WEIGHT: f32 = 7.0;
/// What the lightness is taken relative to.
const MIDDLE: f32 = 0.5;
/// Added to the energy that a cell is divided by, so that faint noise is not blown up.
const FLOOR: f32 = 0.02;

/// The extractor `layout-1`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Layout;

impl Layout {
    /// The name, which stands for the whole definition.
    pub const NAME: &'static str = "layout-1";
    /// How many numbers a picture becomes.
    pub const DIM: usize = COLOUR_CELLS * COLOUR_CELLS * CHANNELS + GRADIENT_CELLS * GRADIENT_CELLS * ORIENTATIONS;

    /// What happens to a picture before it is looked at, for people.
    pub const RESIZE: &'static str = "middle square on white, 64x64, area";

    /// A digest of the definition: files of another one are refused.
    pub fn digest() -> String {
        let protocol = format!(
            "{}; {}; oklab {COLOUR_CELLS} {MIDDLE} {COLOUR_WEIGHT}; gradients {GRADIENT_CELLS} {ORIENTATIONS} {FLOOR} \
             {GRADIENT_WEIGHT}",
            Self::NAME,
            Self::RESIZE
        );
        format!("{:016x}", xxh64(protocol.as_bytes(), 0))
    }

    /// The features of a picture: colours `[8, 8, (L, a, b)]`, then gradients `[4, 4, 8]`.
    ///
    /// # Errors
    /// None that a picture can cause; resizing returns a `Result`.
    pub fn of(picture: &Picture) -> Result<Vec<f32>> {
        let square = picture.centre_square().to_rgb(BEHIND).resize(SIDE, SIDE, Filter::Area)?;
        let lab: Vec<[f32; CHANNELS]> = square.pixels().as_chunks().0.iter().map(oklab).collect();
        let mut features = Vec::with_capacity(Self::DIM);
        features.extend(colours(&lab).into_iter().map(|x| COLOUR_WEIGHT * x));
        features.extend(gradients(&lab).into_iter().map(|x| GRADIENT_WEIGHT * x));
        Ok(features)
    }
}

/// sRGB to Oklab: L in [0, 1], a and b within about ±0.4.
pub(super) fn oklab(rgb: &[u8; CHANNELS]) -> [f32; CHANNELS] {
    let [r, g, b] = rgb.map(|byte| {
        let c = f32::from(byte) / 255.0;
        if c <= 0.04045 { c / 12.92 } else { ((c + 0.055) / 1.055).powf(2.4) }
    });
    let l = (0.412_221_47 * r + 0.536_332_55 * g + 0.051_445_995 * b).cbrt();
    let m = (0.211_903_5 * r + 0.680_699_5 * g + 0.107_396_96 * b).cbrt();
    let s = (0.088_302_46 * r + 0.281_718_85 * g + 0.629_978_7 * b).cbrt();
    [
        0.210_454_26 * l + 0.793_617_8 * m - 0.004_072_047 * s,
        1.977_998_5 * l - 2.428_592_2 * m + 0.450_593_7 * s,
        0.025_904_037 * l + 0.782_771_77 * m - 0.808_675_77 * s,
    ]
}

/// Mean colours, `[8, 8, 3]`.
fn colours(lab: &[[f32; CHANNELS]]) -> Vec<f32> {
    let cell = SIDE / COLOUR_CELLS;
    let mut sums = vec![[0.0; CHANNELS]; COLOUR_CELLS * COLOUR_CELLS];
    for (at, colour) in lab.iter().enumerate() {
        let sum = &mut sums[at / SIDE / cell * COLOUR_CELLS + at % SIDE / cell];
        sum.iter_mut().zip(colour).for_each(|(sum, c)| *sum += c);
    }
    let mean = |[l, a, b]: [f32; CHANNELS]| {
        let n = (cell * cell) as f32;
        [l / n - MIDDLE, a / n, b / n]
    };
    sums.into_iter().flat_map(mean).collect()
}

/// Normalised histograms of the lightness's gradients, `[4, 4, 8]`.
fn gradients(lab: &[[f32; CHANNELS]]) -> Vec<f32> {
    let cell = SIDE / GRADIENT_CELLS;
    let lightness = |y: usize, x: usize| lab[y.min(SIDE - 1) * SIDE + x.min(SIDE - 1)][0];
    let mut histograms = vec![[0.0; ORIENTATIONS]; GRADIENT_CELLS * GRADIENT_CELLS];
    for (y, x) in (0..SIDE).flat_map(|y| (0..SIDE).map(move |x| (y, x))) {
        let gx = (lightness(y, x + 1) - lightness(y, x.saturating_sub(1))) / 2.0;
        let gy = (lightness(y + 1, x) - lightness(y.saturating_sub(1), x)) / 2.0;
        let share_of_pixel = gx.hypot(gy) / (cell * cell) as f32;
        // unsigned: an edge and its negative run the same way; shared between the two nearest orientations
        let turn = gy.atan2(gx) / std::f32::consts::PI;
        let position = turn.rem_euclid(1.0) * ORIENTATIONS as f32;
        let (low, share) = (position as usize, position.fract());
        let histogram = &mut histograms[y / cell * GRADIENT_CELLS + x / cell];
        histogram[low % ORIENTATIONS] += share_of_pixel * (1.0 - share);
        histogram[(low + 1) % ORIENTATIONS] += share_of_pixel * share;
    }
    let energy: Vec<f32> = histograms.iter().map(|h| h.iter().map(|x| x * x).sum()).collect();
    let neighbourhood = |at: usize| {
        let span = |i: usize| i.saturating_sub(1)..(i + 2).min(GRADIENT_CELLS);
        let (rows, columns) = (span(at / GRADIENT_CELLS), span(at % GRADIENT_CELLS));
        let cells = rows.len() * columns.len();
        let energies = rows.flat_map(|y| columns.clone().map(move |x| y * GRADIENT_CELLS + x)).map(|i| energy[i]);
        energies.sum::<f32>() / cells as f32
    };
    let normal = |(at, histogram): (usize, &[f32; ORIENTATIONS])| {
        let norm = (neighbourhood(at) + FLOOR * FLOOR).sqrt();
        histogram.map(|x| x / norm)
    };
    histograms.iter().enumerate().flat_map(normal).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn white_is_the_lightest_colour_and_grey_has_none() {
        for (rgb, expected) in [([255; 3], 1.0), ([0; 3], 0.0), ([119; 3], 0.568)] {
            let [l, a, b] = oklab(&rgb);
            assert!((l - expected).abs() < 2e-3 && a.abs() < 1e-3 && b.abs() < 1e-3, "{rgb:?}: {l} {a} {b}");
        }
        // the published value of pure red
        let red = oklab(&[255, 0, 0]);
        assert!(red.iter().zip([0.628, 0.225, 0.126]).all(|(x, y)| (x - y).abs() < 1e-3), "{red:?}");
    }

    #[test]
    fn an_edge_falls_into_the_bin_of_its_direction_whichever_side_is_bright() {
        let stripes = |flip: bool, across: bool| {
            let bright = |x: usize, y: usize| ((if across { y } else { x }) / 8 % 2 == 0) != flip;
            let pixels = (0..64 * 64).flat_map(|at| [if bright(at % 64, at / 64) { 220 } else { 30 }; 3]).collect();
            let features = Layout::of(&Picture::new(64, 64, pixels).unwrap()).unwrap();
            let gradients = &features[192..];
            let by_orientation = |o: usize| gradients.iter().skip(o).step_by(8).sum::<f32>();
            std::array::from_fn::<f32, 8, _>(by_orientation)
        };
        for flip in [false, true] {
            let (upright, lying) = (stripes(flip, false), stripes(flip, true));
            for other in 1..8 {
                assert!(upright[0] > 100.0 * upright[other].abs(), "{upright:?}");
            }
            assert!((0..8).filter(|o| *o != 4).all(|o| lying[4] > 100.0 * lying[o].abs()), "{lying:?}");
        }
    }

    #[test]
    fn a_plain_picture_has_colours_and_no_edges() {
        let features = Layout::of(&Picture::filled(90, 40, [200, 40, 90])).unwrap();
        assert_eq!(features.len(), Layout::DIM);
        assert!(features[192..].iter().all(|x| *x == 0.0));
        assert!(features[..192].chunks(3).all(|c| c.iter().zip(&features).all(|(a, b)| (a - b).abs() < 1e-4)));
    }
}

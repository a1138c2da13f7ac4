//! A small captioned set that is drawn, not downloaded: coloured shapes with sizes, places, counts and backgrounds.
//!
//! A model learns it in minutes, and whether a picture obeys its caption is plain to see, so it serves the tests, the
//! first steps and prompt-obedience curves. Edges are antialiased from exact distances. Example i of a seed is always the
//! same, at every size; nothing comes from the platform's mathematics library but the (exact) square root.
//!
//! The folder has the `metadata.jsonl` layout of [`super::source`]. This is no renderer: five kinds of scene, no more.

use std::ops::ControlFlow;
use std::path::Path;

use super::dice::Dice;
use super::write::{Captioned, write_set};
use crate::error::{Error, Result};
use crate::image::Picture;
use crate::rng::Rng;

const COLOURS: [(&str, [u8; 3]); 10] = [
    ("red", [220, 40, 40]),
    ("orange", [245, 140, 30]),
    ("yellow", [245, 215, 50]),
    ("green", [50, 165, 70]),
    ("blue", [45, 95, 215]),
    ("purple", [135, 60, 185]),
    ("pink", [240, 130, 180]),
    ("brown", [130, 80, 45]),
    ("black", [25, 25, 25]),
    ("white", [250, 250, 250]),
];

/// Backgrounds, and the colour that cannot be seen on each.
const BACKGROUNDS: [(&str, [u8; 3], &str); 4] = [
    ("white", [255, 255, 255], "white"),
    ("black", [10, 10, 10], "black"),
    ("gray", [150, 150, 150], ""),
    ("light blue", [185, 220, 245], ""),
];

const NUMBERS: [&str; 5] = ["no", "one", "two", "three", "four"];

/// An outline within the unit circle, y downwards.
enum Outline {
    Polygon(&'static [[f64; 2]]),
    /// Outer and inner radius.
    Ring(f64, f64),
}

/// Sines and cosines of the pentagon's and the hexagon's angles.
const C18: f64 = 0.951_056_516_295_153_6;
const S18: f64 = 0.309_016_994_374_947_45;
const C54: f64 = 0.587_785_252_292_473_1;
const S54: f64 = 0.809_016_994_374_947_5;
const H: f64 = 0.866_025_403_784_438_6;
/// Inner radius of the star.
const I: f64 = 0.42;
/// Half the width of the cross's arms.
const A: f64 = 0.32;

const SHAPES: [(&str, &str, Outline); 8] = [
    ("circle", "circles", Outline::Ring(0.92, -1.0)),
    ("square", "squares", Outline::Polygon(&[[-0.8, -0.8], [0.8, -0.8], [0.8, 0.8], [-0.8, 0.8]])),
    ("triangle", "triangles", Outline::Polygon(&[[0.0, -0.9], [0.95, 0.75], [-0.95, 0.75]])),
    (
        "star",
        "stars",
        Outline::Polygon(&[
            [0.0, -1.0],
            [I * C54, -I * S54],
            [C18, -S18],
            [I * C18, I * S18],
            [C54, S54],
            [0.0, I],
            [-C54, S54],
            [-I * C18, I * S18],
            [-C18, -S18],
            [-I * C54, -I * S54],
        ]),
    ),
    ("diamond", "diamonds", Outline::Polygon(&[[0.0, -1.0], [0.7, 0.0], [0.0, 1.0], [-0.7, 0.0]])),
    ("hexagon", "hexagons", Outline::Polygon(&[[1.0, 0.0], [0.5, H], [-0.5, H], [-1.0, 0.0], [-0.5, -H], [0.5, -H]])),
    (
        "cross",
        "crosses",
        Outline::Polygon(&[
            [-A, -0.95],
            [A, -0.95],
            [A, -A],
            [0.95, -A],
            [0.95, A],
            [A, A],
            [A, 0.95],
            [-A, 0.95],
            [-A, A],
            [-0.95, A],
            [-0.95, -A],
            [-A, -A],
        ]),
    ),
    ("ring", "rings", Outline::Ring(0.95, 0.5)),
];

/// A shape in its place: numbers in [`SHAPES`] and [`COLOURS`], centre and radius in sides of the picture.
struct Figure {
    shape: usize,
    colour: usize,
    centre: [f64; 2],
    radius: f64,
}

/// One picture and what it may be called.
struct Scene {
    background: usize,
    figures: Vec<Figure>,
    /// Phrases without background, the canonical one first.
    phrases: Vec<String>,
}

/// What [`write()`] has written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShapesSummary {
    /// Pictures that train.
    pub train: usize,
    /// Pictures that validate.
    pub validation: usize,
}

/// Example `index` of a seed: the picture of `size`×`size` pixels and its captions, the canonical one first.
pub fn example(index: u64, size: usize, seed: u64) -> (Picture, Vec<String>) {
    let scene = Scene::new(Dice::new(Rng::new(seed).fold(index)));
    (scene.draw(size), scene.captions())
}

/// Writes `count` examples as `folder/images/*.png` and `folder/metadata.jsonl`.
///
/// # Errors
/// [`crate::ErrorKind::Usage`] if `count` is 0 or `size` is less than 8; [`crate::ErrorKind::Io`] if the folder cannot be
/// written.
pub fn write(folder: &Path, count: usize, size: usize, seed: u64) -> Result<ShapesSummary> {
    if count == 0 || size < 8 {
        return Err(Error::usage(format!(
            "{count} shapes of {size}x{size} make no set; expected at least 1 picture of at least 8x8"
        )));
    }
    let drawn = |index: usize| {
        let (picture, captions) = example(index as u64, size, seed);
        Ok(Captioned { picture, captions, split: None })
    };
    let train = write_set(folder, count, drawn, &mut |_| ControlFlow::Continue(()))?.expect("nothing breaks");
    Ok(ShapesSummary { train, validation: count - train })
}

impl Scene {
    fn new(mut dice: Dice) -> Self {
        let background = dice.below(BACKGROUNDS.len());
        let (figures, phrases) = match dice.below(5) {
            0 => one(&mut dice, background),
            1 => one_of_a_size(&mut dice, background),
            2 => one_in_a_place(&mut dice, background),
            3 => several(&mut dice, background),
            _ => two_kinds(&mut dice, background),
        };
        Self { background, figures, phrases }
    }

    fn captions(&self) -> Vec<String> {
        let canonical = &self.phrases[0];
        let background = BACKGROUNDS[self.background].0;
        let mut captions = self.phrases.clone();
        captions.push(format!("{canonical} on a {background} background"));
        captions.push(format!("{canonical}, {background} background"));
        captions.push(format!("a picture of {canonical}"));
        captions
    }

    fn draw(&self, size: usize) -> Picture {
        let mut pixels = BACKGROUNDS[self.background].1.repeat(size * size);
        for figure in &self.figures {
            let scale = figure.radius * size as f64;
            for (at, pixel) in pixels.chunks_exact_mut(3).enumerate() {
                let place = [at % size, at / size];
                let offset = [0, 1].map(|axis| (place[axis] as f64 + 0.5 - figure.centre[axis] * size as f64) / scale);
                // A pixel is about one unit wide: the part inside falls from 1 to 0 over it.
                let inside = (0.5 - SHAPES[figure.shape].2.distance(offset) * scale).clamp(0.0, 1.0);
                for (under, over) in pixel.iter_mut().zip(COLOURS[figure.colour].1) {
                    *under = (f64::from(*under) * (1.0 - inside) + f64::from(over) * inside).round() as u8;
                }
            }
        }
        Picture::new(size, size, pixels).expect("three bytes for each pixel")
    }
}

impl Outline {
    /// The signed distance from a point to the outline, negative inside.
    fn distance(&self, [x, y]: [f64; 2]) -> f64 {
        match *self {
            Outline::Ring(outer, inner) => {
                let radius = (x * x + y * y).sqrt();
                (radius - outer).max(inner - radius)
            }
            Outline::Polygon(corners) => {
                let mut nearest = f64::INFINITY;
                let mut inside = false;
                for (i, &[ax, ay]) in corners.iter().enumerate() {
                    let [bx, by] = corners[(i + 1) % corners.len()];
                    let (ex, ey) = (bx - ax, by - ay);
                    let along = (((x - ax) * ex + (y - ay) * ey) / (ex * ex + ey * ey)).clamp(0.0, 1.0);
                    let (dx, dy) = (x - ax - along * ex, y - ay - along * ey);
                    nearest = nearest.min(dx * dx + dy * dy);
                    // A ray to the right crosses the edge.
                    if (ay > y) != (by > y) && x < ax + (y - ay) * ex / ey {
                        inside = !inside;
                    }
                }
                if inside { -nearest.sqrt() } else { nearest.sqrt() }
            }
        }
    }
}

/// A colour that can be seen on the background.
fn visible(dice: &mut Dice, background: usize) -> usize {
    loop {
        let colour = dice.below(COLOURS.len());
        if COLOURS[colour].0 != BACKGROUNDS[background].2 {
            return colour;
        }
    }
}

fn article(phrase: &str) -> &'static str {
    if phrase.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" }
}

fn singular(shape: usize, colour: usize) -> String {
    format!("{} {}", COLOURS[colour].0, SHAPES[shape].0)
}

fn with_article(phrase: &str) -> String {
    format!("{} {phrase}", article(phrase))
}

/// "a red circle", in the middle.
fn one(dice: &mut Dice, background: usize) -> (Vec<Figure>, Vec<String>) {
    let (shape, colour) = (dice.below(SHAPES.len()), visible(dice, background));
    let centre = [0.5 + dice.between(-0.04, 0.04), 0.5 + dice.between(-0.04, 0.04)];
    let name = singular(shape, colour);
    let phrases = vec![with_article(&name), name.clone(), format!("one {name}")];
    (vec![Figure { shape, colour, centre, radius: dice.between(0.25, 0.32) }], phrases)
}

/// "a small red circle".
fn one_of_a_size(dice: &mut Dice, background: usize) -> (Vec<Figure>, Vec<String>) {
    let (shape, colour) = (dice.below(SHAPES.len()), visible(dice, background));
    let (words, radius) =
        if dice.below(2) == 0 { (["small", "tiny"], [0.12, 0.16]) } else { (["large", "big"], [0.4, 0.46]) };
    let centre = [0.5 + dice.between(-0.03, 0.03), 0.5 + dice.between(-0.03, 0.03)];
    let names = words.map(|word| format!("{word} {}", singular(shape, colour)));
    let phrases = vec![with_article(&names[0]), with_article(&names[1]), names[0].clone()];
    (vec![Figure { shape, colour, centre, radius: dice.between(radius[0], radius[1]) }], phrases)
}

/// "a red circle on the left".
fn one_in_a_place(dice: &mut Dice, background: usize) -> (Vec<Figure>, Vec<String>) {
    const PLACES: [([&str; 2], [f64; 2]); 4] = [
        (["on the left", "on the left side"], [0.24, 0.5]),
        (["on the right", "on the right side"], [0.76, 0.5]),
        (["at the top", "in the upper half"], [0.5, 0.24]),
        (["at the bottom", "in the lower half"], [0.5, 0.76]),
    ];
    let (shape, colour) = (dice.below(SHAPES.len()), visible(dice, background));
    let (words, centre) = PLACES[dice.below(PLACES.len())];
    let centre = centre.map(|at| at + dice.between(-0.03, 0.03));
    let name = singular(shape, colour);
    let mut phrases: Vec<String> = words.iter().map(|place| format!("{} {place}", with_article(&name))).collect();
    phrases.push(format!("{name} {}", words[0]));
    (vec![Figure { shape, colour, centre, radius: dice.between(0.16, 0.2) }], phrases)
}

/// "three red circles".
fn several(dice: &mut Dice, background: usize) -> (Vec<Figure>, Vec<String>) {
    const PLACES: [&[[f64; 2]]; 3] = [
        &[[0.28, 0.5], [0.72, 0.5]],
        &[[0.5, 0.27], [0.27, 0.71], [0.73, 0.71]],
        &[[0.28, 0.28], [0.72, 0.28], [0.28, 0.72], [0.72, 0.72]],
    ];
    let (shape, colour) = (dice.below(SHAPES.len()), visible(dice, background));
    let places = PLACES[dice.below(PLACES.len())];
    let radius = dice.between(0.14, 0.18);
    let figures = places.iter().map(|place| {
        let centre = place.map(|at| at + dice.between(-0.03, 0.03));
        Figure { shape, colour, centre, radius }
    });
    let figures: Vec<Figure> = figures.collect();
    let name = format!("{} {}", COLOURS[colour].0, SHAPES[shape].1);
    let count = figures.len();
    (
        figures,
        vec![
            format!("{} {name}", NUMBERS[count]),
            format!("{count} {name}"),
            format!("a group of {} {name}", NUMBERS[count]),
        ],
    )
}

/// "a red circle to the left of a blue square".
fn two_kinds(dice: &mut Dice, background: usize) -> (Vec<Figure>, Vec<String>) {
    let first = (dice.below(SHAPES.len()), visible(dice, background));
    // Another shape and another colour, so that the words tell the two apart.
    let second = (
        (first.0 + 1 + dice.below(SHAPES.len() - 1)) % SHAPES.len(),
        loop {
            let colour = visible(dice, background);
            if colour != first.1 {
                break colour;
            }
        },
    );
    let beside = dice.below(2) == 0;
    let radius = dice.between(0.16, 0.2);
    let figure = |(shape, colour): (usize, usize), along: f64, dice: &mut Dice| {
        let (along, across) = (along + dice.between(-0.03, 0.03), 0.5 + dice.between(-0.03, 0.03));
        Figure { shape, colour, centre: if beside { [along, across] } else { [across, along] }, radius }
    };
    let figures = vec![figure(first, 0.27, dice), figure(second, 0.73, dice)];
    let [a, b] = [first, second].map(|(shape, colour)| with_article(&singular(shape, colour)));
    let phrases = if beside {
        vec![format!("{a} to the left of {b}"), format!("{b} to the right of {a}"), format!("{a} and {b} side by side")]
    } else {
        vec![format!("{a} above {b}"), format!("{b} below {a}"), format!("{a} on top and {b} below")]
    };
    (figures, phrases)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_negative_inside_and_zero_on_the_outline() {
        for (name, _, outline) in &SHAPES {
            let centre = outline.distance([0.0, 0.0]);
            assert_eq!(centre > 0.0, *name == "ring", "{name}: {centre}");
            assert!(outline.distance([1.5, 1.5]) > 0.5, "{name}");
            if let Outline::Polygon(corners) = outline {
                for &corner in *corners {
                    assert!(outline.distance(corner).abs() < 1e-12, "{name}");
                    assert!(corner[0].powi(2) + corner[1].powi(2) < 1.55, "{name} leaves its place");
                }
            }
        }
    }

    #[test]
    fn the_colour_that_the_caption_names_is_in_the_picture() {
        for index in 0..200 {
            let (picture, captions) = example(index, 32, 5);
            let words: Vec<&str> = captions[0].split(' ').collect();
            let named = COLOURS.iter().filter(|(name, _)| words.contains(name));
            for (name, colour) in named {
                let seen = picture.pixels().chunks_exact(3).any(|pixel| pixel == colour);
                assert!(seen, "example {index}, {:?}: no {name}", captions[0]);
            }
        }
    }

    #[test]
    fn edges_are_smooth_and_a_larger_size_shows_the_same_scene() {
        let mut blended = 0;
        for index in 0..20 {
            let (small, captions) = example(index, 32, 1);
            let (large, same) = example(index, 128, 1);
            assert_eq!(captions, same);
            let reduced = large.resize(32, 32, crate::image::Filter::Area).unwrap();
            let pairs = small.pixels().iter().zip(reduced.pixels());
            let mean = pairs.map(|(a, b)| f64::from(a.abs_diff(*b))).sum::<f64>() / small.pixels().len() as f64;
            assert!(mean < 1.5, "example {index}: {mean}");
            let mut colours: Vec<&[u8]> = small.pixels().chunks_exact(3).collect();
            colours.sort();
            colours.dedup();
            blended += usize::from(colours.len() > 4);
        }
        assert_eq!(blended, 20);
    }
}

//! A small captioned set that is drawn, not downloaded: coloured shapes with sizes, places, counts and backgrounds.
//!
//! A model learns it in minutes, and whether a picture obeys its caption is plain to see, so it serves the tests, the
//! first steps and prompt-obedience curves. Edges are antialiased from exact distances. Example i of a seed is always the
//! same, at every size; nothing comes from the platform's mathematics library but the (exact) square root.
//!
//! The folder has the `metadata.jsonl` layout of [`super::source`]. Whether a model draws what it is asked for, [`question()`]
//! asks. This is no renderer: five kinds of scene, no more.

mod question;

use std::ops::ControlFlow;
use std::path::Path;

pub use self::question::{Factor, Placed, question};
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

/// A shape in its place: centre and radius in sides of the picture.
struct Figure {
    kind: Kind,
    centre: [f64; 2],
    radius: f64,
}

/// What a picture shows, as far as captions say it: places and sizes within their words are thrown when it is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Plan {
    background: usize,
    scene: Scene,
}

/// A shape of a colour, by their numbers in [`SHAPES`] and [`COLOURS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Kind {
    shape: usize,
    colour: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scene {
    /// "a red circle", in the middle.
    One(Kind),
    /// "a small red circle", by its number in [`SIZES`].
    Sized(Kind, usize),
    /// "a red circle on the left", by its number in [`SIDES`].
    Placed(Kind, usize),
    /// "three red circles", by their number in [`GROUPS`].
    Several(Kind, usize),
    /// "a red circle to the left of a blue square", or above it.
    Pair { first: Kind, second: Kind, beside: bool },
}

/// Words of a size, and what radius they mean.
const SIZES: [([&str; 2], [f64; 2]); 2] = [(["small", "tiny"], [0.12, 0.16]), (["large", "big"], [0.4, 0.46])];

/// Words of a place, and where it is.
const SIDES: [([&str; 2], [f64; 2]); 4] = [
    (["on the left", "on the left side"], [0.24, 0.5]),
    (["on the right", "on the right side"], [0.76, 0.5]),
    (["at the top", "in the upper half"], [0.5, 0.24]),
    (["at the bottom", "in the lower half"], [0.5, 0.76]),
];

/// Where two, three and four of a kind are.
const GROUPS: [&[[f64; 2]]; 3] = [
    &[[0.28, 0.5], [0.72, 0.5]],
    &[[0.5, 0.27], [0.27, 0.71], [0.73, 0.71]],
    &[[0.28, 0.28], [0.72, 0.28], [0.28, 0.72], [0.72, 0.72]],
];

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
    let mut dice = Dice::new(Rng::new(seed).fold(index));
    let plan = Plan::new(&mut dice);
    (plan.draw(size, &mut dice), plan.captions())
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

impl Plan {
    fn new(dice: &mut Dice) -> Self {
        let background = dice.below(BACKGROUNDS.len());
        let scenes: [fn(&mut Dice, usize) -> Scene; 5] =
            [Scene::one, Scene::sized, Scene::placed, Scene::several, Scene::pair];
        let scene = dice.one(&scenes)(dice, background);
        Self { background, scene }
    }

    fn captions(&self) -> Vec<String> {
        let mut captions = self.scene.phrases().to_vec();
        let canonical = &captions[0];
        let background = BACKGROUNDS[self.background].0;
        let more = [
            format!("{canonical} on a {background} background"),
            format!("{canonical}, {background} background"),
            format!("a picture of {canonical}"),
        ];
        captions.extend(more);
        captions
    }

    fn draw(&self, size: usize, dice: &mut Dice) -> Picture {
        let mut pixels = BACKGROUNDS[self.background].1.repeat(size * size);
        for figure in &self.scene.figures(dice) {
            let scale = figure.radius * size as f64;
            for (at, pixel) in pixels.chunks_exact_mut(3).enumerate() {
                let place = [at % size, at / size];
                let offset = [0, 1].map(|axis| (place[axis] as f64 + 0.5 - figure.centre[axis] * size as f64) / scale);
                // A pixel is about one unit wide: the part inside falls from 1 to 0 over it.
                let inside = (0.5 - SHAPES[figure.kind.shape].2.distance(offset) * scale).clamp(0.0, 1.0);
                for (under, over) in pixel.iter_mut().zip(COLOURS[figure.kind.colour].1) {
                    *under = (f64::from(*under) * (1.0 - inside) + f64::from(over) * inside).round() as u8;
                }
            }
        }
        Picture::new(size, size, pixels).expect("three bytes for each pixel")
    }
}

impl Kind {
    /// A shape of a colour that can be seen on the background.
    fn any(dice: &mut Dice, background: usize) -> Self {
        Self { shape: dice.below(SHAPES.len()), colour: visible(dice, background) }
    }

    /// "red circle"
    fn singular(self) -> String {
        format!("{} {}", COLOURS[self.colour].0, SHAPES[self.shape].0)
    }

    /// "red circles"
    fn plural(self) -> String {
        format!("{} {}", COLOURS[self.colour].0, SHAPES[self.shape].1)
    }
}

impl Scene {
    fn one(dice: &mut Dice, background: usize) -> Self {
        Self::One(Kind::any(dice, background))
    }

    fn sized(dice: &mut Dice, background: usize) -> Self {
        Self::Sized(Kind::any(dice, background), dice.below(SIZES.len()))
    }

    fn placed(dice: &mut Dice, background: usize) -> Self {
        Self::Placed(Kind::any(dice, background), dice.below(SIDES.len()))
    }

    fn several(dice: &mut Dice, background: usize) -> Self {
        Self::Several(Kind::any(dice, background), dice.below(GROUPS.len()))
    }

    fn pair(dice: &mut Dice, background: usize) -> Self {
        let first = Kind::any(dice, background);
        // Another shape and another colour, so that the words tell the two apart.
        let shape = (first.shape + 1 + dice.below(SHAPES.len() - 1)) % SHAPES.len();
        let colour = loop {
            let colour = visible(dice, background);
            if colour != first.colour {
                break colour;
            }
        };
        Self::Pair { first, second: Kind { shape, colour }, beside: dice.below(2) == 0 }
    }

    /// What there is, in its places.
    fn figures(&self, dice: &mut Dice) -> Vec<Figure> {
        let near = |[x, y]: [f64; 2], by: f64, dice: &mut Dice| [x + dice.between(-by, by), y + dice.between(-by, by)];
        match *self {
            Self::One(kind) => {
                let centre = near([0.5, 0.5], 0.04, dice);
                vec![Figure { kind, centre, radius: dice.between(0.25, 0.32) }]
            }
            Self::Sized(kind, size) => {
                let [low, high] = SIZES[size].1;
                let centre = near([0.5, 0.5], 0.03, dice);
                vec![Figure { kind, centre, radius: dice.between(low, high) }]
            }
            Self::Placed(kind, side) => {
                let centre = near(SIDES[side].1, 0.03, dice);
                vec![Figure { kind, centre, radius: dice.between(0.16, 0.2) }]
            }
            Self::Several(kind, group) => {
                let radius = dice.between(0.14, 0.18);
                GROUPS[group].iter().map(|&place| Figure { kind, centre: near(place, 0.03, dice), radius }).collect()
            }
            Self::Pair { first, second, beside } => {
                let radius = dice.between(0.16, 0.2);
                let mut figure = |kind: Kind, along: f64| {
                    let [along, across] = near([along, 0.5], 0.03, dice);
                    Figure { kind, centre: if beside { [along, across] } else { [across, along] }, radius }
                };
                vec![figure(first, 0.27), figure(second, 0.73)]
            }
        }
    }

    /// What it is called without its background, the canonical phrase first.
    fn phrases(&self) -> [String; 3] {
        match *self {
            Self::One(kind) => {
                let name = kind.singular();
                [with_article(&name), name.clone(), format!("one {name}")]
            }
            Self::Sized(kind, size) => {
                let names = SIZES[size].0.map(|word| format!("{word} {}", kind.singular()));
                [with_article(&names[0]), with_article(&names[1]), names[0].clone()]
            }
            Self::Placed(kind, side) => {
                let (words, name) = (SIDES[side].0, kind.singular());
                let [first, second] = words.map(|place| format!("{} {place}", with_article(&name)));
                [first, second, format!("{name} {}", words[0])]
            }
            Self::Several(kind, group) => {
                let (count, name) = (GROUPS[group].len(), kind.plural());
                let number = NUMBERS[count];
                [format!("{number} {name}"), format!("{count} {name}"), format!("a group of {number} {name}")]
            }
            Self::Pair { first, second, beside } => {
                let [a, b] = [first, second].map(|kind| with_article(&kind.singular()));
                if beside {
                    [
                        format!("{a} to the left of {b}"),
                        format!("{b} to the right of {a}"),
                        format!("{a} and {b} side by side"),
                    ]
                } else {
                    [format!("{a} above {b}"), format!("{b} below {a}"), format!("{a} on top and {b} below")]
                }
            }
        }
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

/// Whether a colour can be seen on a background.
fn is_visible(colour: usize, background: usize) -> bool {
    COLOURS[colour].0 != BACKGROUNDS[background].2
}

/// A colour that can be seen on the background.
fn visible(dice: &mut Dice, background: usize) -> usize {
    loop {
        let colour = dice.below(COLOURS.len());
        if is_visible(colour, background) {
            return colour;
        }
    }
}

fn article(phrase: &str) -> &'static str {
    if phrase.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" }
}

fn with_article(phrase: &str) -> String {
    format!("{} {phrase}", article(phrase))
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

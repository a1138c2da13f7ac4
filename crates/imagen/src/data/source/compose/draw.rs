//! A plan as a picture, at any size.
//!
//! Everything is placed in shares of the side, and drawings are reduced before they are sampled, so that the picture of
//! 64×64 is the one of 256×256 seen from further away. Computed styles work at twice a small size.

use super::arrangement::{Arrangement, Backdrop, Place, Relation, Size, Thing};
use super::bank::Drawing;
use super::grammar::Tint;
use super::layer::{Layer, Pixel, colour, over};
use super::plan::Plan;
use super::vocabulary::Vocabulary;
use crate::data::dice::Dice;
use crate::error::Result;
use crate::image::Picture;
use crate::rng::Rng;

/// Samples of a pixel in each direction.
const SAMPLES: usize = 2;
/// The side that computed styles have at least.
const EFFECT_SIDE: usize = 128;
/// How dark the shadow under a thing is.
const SHADOW: f32 = 0.38;

/// A drawing in its place; lengths in shares of the picture's side.
struct Stamp {
    thing: Thing,
    centre: [f32; 2],
    /// Sides of the drawing's box.
    size: [f32; 2],
    /// Turn in radians, to the right.
    turn: f32,
    mirrored: bool,
    /// Whether it stands on a ground that it darkens.
    stands: bool,
}

impl Stamp {
    /// Whether a place lies in its box.
    fn holds(&self, at: [f32; 2]) -> bool {
        let (sin, cos) = self.turn.sin_cos();
        let [dx, dy] = [0, 1].map(|axis| at[axis] - self.centre[axis]);
        (cos * dx + sin * dy).abs() <= self.size[0] / 2.0 && (cos * dy - sin * dx).abs() <= self.size[1] / 2.0
    }
}

/// What becomes of a drawing's colours.
#[derive(Clone, Copy)]
enum Paint {
    AsDrawn,
    /// One colour.
    Fill([f32; 3]),
    /// Its light and dark in shades of one colour.
    Shade([f32; 3]),
}

/// The picture of a plan, `side`×`side`.
pub(super) fn draw(words: &Vocabulary, plan: &Plan, side: usize, key: Rng) -> Result<Picture> {
    let style = &words.grammar.styles[plan.style];
    let mut dice = Dice::new(key);
    let canvas = if style.effect.is_some() && side < EFFECT_SIDE { 2 * side } else { side };
    let (scene_key, effect_key) = (dice.key(), dice.key());
    let white = Layer::filled(canvas, canvas, [1.0; 3]);
    let background = match plan.backdrop {
        Backdrop::Own => white,
        Backdrop::Colour(index) => Layer::filled(canvas, canvas, colour(words.grammar.colours[index].rgb)),
        Backdrop::Scene(scene) => words.scenes[scene].draw(canvas, scene_key),
    };
    let stamps = stamps(words, plan, &mut dice)?;
    let paint = |thing: &Thing| match (style.tint, thing.tint) {
        (Tint::Fill, tint) => Paint::Fill(colour(words.grammar.colours[tint.unwrap_or(words.black)].rgb)),
        (Tint::Shade, Some(tint)) => Paint::Shade(colour(words.grammar.colours[tint].rgb)),
        _ => Paint::AsDrawn,
    };
    let lay = |canvas: &mut Layer, shadows: bool| -> Result<()> {
        for stamp in &stamps {
            let longest = stamp.size[0].max(stamp.size[1]) * canvas.width() as f32;
            let drawing = words.bank.drawing(stamp.thing.noun, stamp.thing.cutout, 1.4 * longest)?;
            if shadows && stamp.stands {
                shade_ground(canvas, stamp);
            }
            lay_drawing(canvas, &drawing, stamp, paint(&stamp.thing));
        }
        Ok(())
    };
    let finished = match style.effect {
        None => {
            let mut canvas = background;
            lay(&mut canvas, true)?;
            canvas
        }
        Some(effect) => {
            let mut objects = Layer::clear(canvas, canvas);
            lay(&mut objects, false)?;
            effect.apply(&objects, &background, effect_key)
        }
    };
    if canvas == side { finished.to_picture() } else { finished.halved().to_picture() }
}

/// What is at each of `cells`×`cells` places of a plan's picture, in rows: the noun whose box holds the middle of the place, the
/// foremost of them, or the background.
pub(super) fn nouns(words: &Vocabulary, plan: &Plan, cells: usize, key: Rng) -> Result<Vec<Option<usize>>> {
    let mut dice = Dice::new(key);
    let _ = (dice.key(), dice.key()); // the scene's and the effect's
    let stamps = stamps(words, plan, &mut dice)?;
    let middle = |cell: usize| (cell as f32 + 0.5) / cells as f32;
    let at = |place: usize| {
        let at = [middle(place % cells), middle(place / cells)];
        stamps.iter().rev().find(|stamp| stamp.holds(at)).map(|stamp| stamp.thing.noun)
    };
    Ok((0..cells * cells).map(at).collect())
}

/// What is being arranged.
struct Layout<'a> {
    words: &'a Vocabulary,
    dice: &'a mut Dice,
    /// Where things stand, in a scene that has a ground.
    ground: Option<f32>,
    /// The hindmost first.
    stamps: Vec<Stamp>,
}

/// Where everything goes, the hindmost first.
fn stamps(words: &Vocabulary, plan: &Plan, dice: &mut Dice) -> Result<Vec<Stamp>> {
    let scene = if let Backdrop::Scene(scene) = plan.backdrop { Some(words.scenes[scene]) } else { None };
    let ground = scene.filter(|scene| !scene.floats()).map(|scene| scene.ground());
    let mut layout = Layout { words, dice, ground, stamps: Vec::new() };
    match plan.arrangement {
        Arrangement::One { thing, place, size } => layout.one(thing, place, size, scene.is_some())?,
        Arrangement::Pair { first, relation, second } => layout.pair(first, relation, second)?,
        Arrangement::Count { thing, count } => layout.count(thing, count)?,
    }
    Ok(layout.stamps)
}

impl Layout<'_> {
    /// A stamp for a thing: fitted into a box around a centre, or with its foot on the ground; always inside the picture.
    fn put(&mut self, thing: Thing, centre: [f32; 2], room: [f32; 2], foot: Option<f32>) -> Result<Stamp> {
        let [width, height] = self.words.bank.size(thing.noun, thing.cutout)?.map(|side| side as f32);
        let scale = (room[0] / width).min(room[1] / height);
        let noun = &self.words.bank.nouns()[thing.noun];
        let most = if foot.is_some() { 0.05 } else { 0.15 };
        let turn = if noun.turn { self.dice.within(-most, most) } else { 0.0 };
        let mirrored = noun.flip && self.dice.happens(0.5);
        // the box around the turned thing lies inside, with a little air
        let [across, along] = [turn.cos().abs(), turn.sin().abs()];
        let turned = |[w, h]: [f32; 2]| [w * across + h * along, w * along + h * across];
        let [w, h] = turned([width * scale, height * scale]);
        let scale = scale * (0.98 / w.max(h)).min(1.0);
        let size = [width * scale, height * scale];
        let reach = turned(size).map(|side| side / 2.0 + 0.01);
        let wanted = [centre[0], foot.map_or(centre[1], |foot| foot - size[1] / 2.0)];
        let centre = [0, 1].map(|axis| wanted[axis].clamp(reach[axis].min(0.5), (1.0 - reach[axis]).max(0.5)));
        Ok(Stamp { thing, centre, size, turn, mirrored, stands: foot.is_some() })
    }

    /// Adds such a stamp, before all that are there.
    fn add(&mut self, thing: Thing, centre: [f32; 2], room: [f32; 2], foot: Option<f32>) -> Result<()> {
        let stamp = self.put(thing, centre, room, foot)?;
        self.stamps.push(stamp);
        Ok(())
    }

    /// A number around another.
    fn about(&mut self, middle: f32, spread: f32) -> f32 {
        self.dice.within(middle - spread, middle + spread)
    }

    fn one(&mut self, thing: Thing, place: Option<Place>, size: Option<Size>, in_scene: bool) -> Result<()> {
        if let Some(place) = place {
            let room = self.dice.within(0.3, 0.42);
            let [x, y] = place.cell().map(|cell| [0.22, 0.5, 0.78][cell]);
            let centre = [self.about(x, 0.03), self.about(y, 0.03)];
            return self.add(thing, centre, [room; 2], None);
        }
        let room = match (size, in_scene) {
            (Some(Size::Small), _) => self.dice.within(0.24, 0.34),
            (Some(Size::Large), _) => self.dice.within(0.9, 0.98),
            (None, true) => self.dice.within(0.42, 0.6),
            (None, false) => self.dice.within(0.64, 0.84),
        };
        let centre = if in_scene {
            [self.about(0.5, 0.2), self.about(0.5, 0.06)]
        } else {
            [self.about(0.5, 0.06), self.about(0.5, 0.06)]
        };
        let foot = self.foot(0.03);
        self.add(thing, centre, [room; 2], foot)
    }

    /// Where a foot stands on the ground.
    fn foot(&mut self, spread: f32) -> Option<f32> {
        let ground = self.ground?;
        Some(self.about(ground, spread))
    }

    fn pair(&mut self, first: Thing, relation: Relation, second: Thing) -> Result<()> {
        match relation {
            Relation::Left => {
                let y = self.about(0.5, 0.06);
                for (thing, x) in [(first, 0.26), (second, 0.74)] {
                    let centre = [self.about(x, 0.02), self.about(y, 0.03)];
                    let room = self.dice.within(0.38, 0.46);
                    let foot = self.foot(0.02);
                    self.add(thing, centre, [room, 1.15 * room], foot)?;
                }
                Ok(())
            }
            Relation::Above => {
                let x = self.about(0.5, 0.08);
                for (thing, y) in [(first, 0.26), (second, 0.74)] {
                    let centre = [self.about(x, 0.03), self.about(y, 0.02)];
                    let room = self.dice.within(0.38, 0.46);
                    self.add(thing, centre, [1.15 * room, room], None)?;
                }
                Ok(())
            }
            Relation::On => {
                let (x, room) = (self.about(0.5, 0.06), self.dice.within(0.44, 0.5));
                let foot = self.foot(0.02).or(Some(self.about(0.93, 0.02)));
                let mut below = self.put(second, [x, 0.7], [1.2 * room, room], foot)?;
                below.stands = self.ground.is_some();
                let top = below.centre[1] - below.size[1] / 2.0;
                let (x, room) = (self.about(below.centre[0], 0.02), self.dice.within(0.32, 0.38));
                let mut above = self.put(first, [x, 0.3], [room; 2], Some(top + 0.04 * below.size[1]))?;
                above.stands = false;
                self.stamps.extend([below, above]);
                Ok(())
            }
            Relation::Front => {
                let side = if self.dice.happens(0.5) { 1.0 } else { -1.0 };
                let (behind, front) = (self.dice.within(0.56, 0.64), self.dice.within(0.38, 0.44));
                let x = 0.5 - side * self.about(0.09, 0.02);
                let foot = self.foot(0.01);
                self.add(second, [x, self.ground.map_or(0.42, |_| 0.5)], [behind; 2], foot)?;
                let x = 0.5 + side * self.about(0.17, 0.02);
                let foot = self.ground.map(|ground| (ground + 0.08).min(0.97));
                self.add(first, [x, 0.7], [front; 2], foot)
            }
        }
    }

    fn count(&mut self, thing: Thing, count: usize) -> Result<()> {
        let places: &[&[[f32; 2]]] = match count {
            2 => &[&[[0.27, 0.5], [0.73, 0.5]], &[[0.3, 0.3], [0.7, 0.7]], &[[0.7, 0.3], [0.3, 0.7]]],
            3 => &[&[[0.5, 0.27], [0.26, 0.73], [0.74, 0.73]], &[[0.26, 0.27], [0.74, 0.27], [0.5, 0.73]]],
            4 => &[&[[0.27, 0.27], [0.73, 0.27], [0.27, 0.73], [0.73, 0.73]]],
            _ => &[&[[0.22, 0.22], [0.78, 0.22], [0.5, 0.5], [0.22, 0.78], [0.78, 0.78]]],
        };
        let (from, to) = if count < 5 { (0.36, 0.42) } else { (0.28, 0.32) };
        let places = *self.dice.one(places);
        let room = self.dice.within(from, to);
        for &[x, y] in places {
            let centre = [self.about(x, 0.025), self.about(y, 0.025)];
            self.add(thing, centre, [room; 2], None)?;
        }
        Ok(())
    }
}

/// Darkens the ground under a thing, softly.
fn shade_ground(canvas: &mut Layer, stamp: &Stamp) {
    let side = canvas.width() as f32;
    let [width, height] = stamp.size;
    let centre = [stamp.centre[0], stamp.centre[1] + height / 2.0 - 0.01];
    let radius = [0.5 * width + 0.02, 0.035 + 0.03 * width];
    let rows = ((centre[1] - radius[1]) * side).max(0.0) as usize..((centre[1] + radius[1]) * side).ceil() as usize;
    let columns = ((centre[0] - radius[0]) * side).max(0.0) as usize..((centre[0] + radius[0]) * side).ceil() as usize;
    for y in rows.start..rows.end.min(canvas.height()) {
        for x in columns.start..columns.end.min(canvas.width()) {
            let at = [(x as f32 + 0.5) / side, (y as f32 + 0.5) / side];
            let [u, v] = [0, 1].map(|i| (at[i] - centre[i]) / radius[i]);
            let near = (1.0 - (u * u + v * v)).max(0.0);
            let light = 1.0 - SHADOW * near * near.sqrt();
            let pixel = canvas.at_mut(x, y);
            (0..3).for_each(|i| pixel[i] *= light);
        }
    }
}

/// Lays a drawing on a canvas: each pixel is the mean of samples, each of which blends four pixels of the drawing.
fn lay_drawing(canvas: &mut Layer, drawing: &Drawing, stamp: &Stamp, paint: Paint) {
    let side = canvas.width() as f32;
    let (sin, cos) = stamp.turn.sin_cos();
    let half = stamp.size.map(|size| size * side / 2.0);
    let centre = stamp.centre.map(|at| at * side);
    // the box around the turned drawing
    let reach = [half[0] * cos.abs() + half[1] * sin.abs(), half[0] * sin.abs() + half[1] * cos.abs()];
    let range = |axis: usize, most: usize| {
        let from = (centre[axis] - reach[axis]).floor().max(0.0) as usize;
        from..((centre[axis] + reach[axis]).ceil().max(0.0) as usize).min(most)
    };
    let scale = [0, 1].map(|axis| drawing.span()[axis] / (2.0 * half[axis]));
    let mirror = if stamp.mirrored { -1.0 } else { 1.0 };
    let middle = drawing.span().map(|side| side / 2.0);
    for y in range(1, canvas.height()) {
        for x in range(0, canvas.width()) {
            let mut sum = [0.0; 4];
            for sample in 0..SAMPLES * SAMPLES {
                let offset = [sample % SAMPLES, sample / SAMPLES].map(|i| (i as f32 + 0.5) / SAMPLES as f32);
                let [dx, dy] = [x as f32 + offset[0] - centre[0], y as f32 + offset[1] - centre[1]];
                let u = mirror * (cos * dx + sin * dy) * scale[0] + middle[0];
                let v = (cos * dy - sin * dx) * scale[1] + middle[1];
                let pixel = blend(drawing, u - 0.5, v - 0.5);
                (0..4).for_each(|i| sum[i] += pixel[i]);
            }
            if sum[3] > 0.0 {
                let pixel = painted(sum.map(|sum| sum * (1.0 / (255 * SAMPLES * SAMPLES) as f32)), paint);
                let under = canvas.at_mut(x, y);
                *under = over(pixel, *under);
            }
        }
    }
}

/// The drawing between four of its pixels, in bytes.
fn blend(drawing: &Drawing, u: f32, v: f32) -> Pixel {
    let (left, top) = (u.floor(), v.floor());
    if left < -1.0 || top < -1.0 || left >= drawing.width() as f32 || top >= drawing.height() as f32 {
        return [0.0; 4];
    }
    let (right_share, bottom_share) = (u - left, v - top);
    let (left, top) = (left as isize, top as isize);
    let at = |x: isize, y: isize| match (usize::try_from(x), usize::try_from(y)) {
        (Ok(x), Ok(y)) => drawing.at(x, y),
        _ => [0; 4],
    };
    let corners = [at(left, top), at(left + 1, top), at(left, top + 1), at(left + 1, top + 1)];
    std::array::from_fn(|i| {
        let [a, b, c, d] = corners.map(|corner| f32::from(corner[i]));
        let (above, below) = (a + (b - a) * right_share, c + (d - c) * right_share);
        above + (below - above) * bottom_share
    })
}

/// A pixel of a drawing in the colours that it gets.
fn painted([r, g, b, alpha]: Pixel, paint: Paint) -> Pixel {
    let tone = match paint {
        Paint::AsDrawn => return [r, g, b, alpha],
        Paint::Fill(colour) => colour,
        Paint::Shade(colour) => {
            let light = (0.2126 * r + 0.7152 * g + 0.0722 * b) / alpha.max(1e-6);
            // between a half-dark and a light shade, so that the colour is seen whatever was there, and black stays apart
            // from grey and grey from white
            let [r, g, b] = colour;
            let (darkest, lightest) = match 0.2126 * r + 0.7152 * g + 0.0722 * b {
                tone if tone < 0.15 => (0.22, 0.55),
                tone if tone > 0.9 => (0.38, 0.8),
                _ => (0.22, 0.8),
            };
            let light = darkest + (lightest - darkest) * light.min(1.0);
            let (from, to, share) =
                if light < 0.5 { ([0.0; 3], colour, light * 2.0) } else { (colour, [1.0; 3], light * 2.0 - 1.0) };
            std::array::from_fn(|i| from[i] + (to[i] - from[i]) * share)
        }
    };
    let [r, g, b] = tone.map(|tone| tone * alpha);
    [r, g, b, alpha]
}

//! What stands and hangs in more than one scene: clouds, trees, stars, hills.

use super::brush::{Canvas, Colour, Paint, Point, Shape, hand, hex, mix, wave};
use crate::data::dice::Dice;

/// Hills around height `y`, up to `amplitude` higher or lower, down to the lower edge.
pub(super) fn hills(canvas: &mut Canvas, dice: &mut Dice, y: f32, amplitude: f32, bends: usize, paint: Paint) {
    let wave = wave(dice, bends);
    canvas.fill(&Shape::below(|x| y + amplitude * wave(x), 1.02), paint);
}

/// A heap of discs on a flat base, `width` wide, its base at `at`.
pub(super) fn cloud(canvas: &mut Canvas, dice: &mut Dice, at: Point, width: f32, paint: Paint) {
    let [x, y] = at;
    let mut shape = Shape::rect([x - width * 0.36, y - width * 0.14], [x + width * 0.36, y]);
    for (place, radius) in [(-0.36, 0.11), (-0.16, 0.19), (0.09, 0.24), (0.27, 0.15), (0.39, 0.10)] {
        let radius = width * radius * dice.within(0.85, 1.12);
        shape = shape.and(Shape::disc([x + width * (place + dice.within(-0.03, 0.03)), y - radius], radius));
    }
    canvas.fill(&shape, paint);
}

/// Fair-weather clouds in the upper part.
pub(super) fn clouds(canvas: &mut Canvas, dice: &mut Dice, white: u32, shade: u32) {
    let count = 2 + dice.below(2);
    let first = dice.within(0.0, 1.0);
    for i in 0..count {
        let x = (first + i as f32 / count as f32 + dice.within(-0.08, 0.08)).rem_euclid(1.0);
        let at = [x, dice.within(0.18, 0.34)];
        let width = dice.within(0.22, 0.36);
        cloud(canvas, dice, at, width, Paint::fade(hex(white), hex(shade)).alpha(0.95));
    }
}

/// A disc with light around it.
pub(super) fn sun(canvas: &mut Canvas, at: Point, radius: f32, disc: Colour, light: Colour) {
    canvas.glow(at, radius * 4.0, light, 0.55);
    canvas.fill(&Shape::disc(at, radius), disc);
}

/// Many small discs between the upper edge and `bottom`.
pub(super) fn dots(canvas: &mut Canvas, dice: &mut Dice, count: usize, bottom: f32, sizes: [f32; 2], colours: &[u32]) {
    for _ in 0..count {
        let at = [dice.within(0.0, 1.0), dice.within(0.0, bottom)];
        let radius = dice.within(sizes[0], sizes[1]);
        canvas.fill(&Shape::disc(at, radius), *dice.one(colours));
    }
}

/// A conifer, its foot at `foot`; `snow` tops its branches.
pub(super) fn pine(canvas: &mut Canvas, foot: Point, height: f32, green: Colour, snow: Option<Colour>) {
    let [x, y] = foot;
    let trunk = Shape::rect([x - height * 0.035, y - height * 0.2], [x + height * 0.035, y]);
    canvas.fill(&trunk, mix(green, hex(0x4a3528), 0.6));
    for step in (0..3).rev() {
        let step = step as f32;
        let (top, bottom) = (y - height * (1.0 - 0.21 * step), y - height * (0.56 - 0.21 * step));
        let half = height * (0.17 + 0.06 * step);
        let branch = |half: f32, bottom: f32| Shape::polygon(vec![[x, top], [x + half, bottom], [x - half, bottom]]);
        canvas.fill(&branch(half, bottom), Paint::fade(mix(green, [1.0; 3], 0.12), mix(green, [0.0; 3], 0.12)));
        if let Some(snow) = snow {
            canvas.fill(&branch(half * 0.6, top + (bottom - top) * 0.6), snow);
        }
    }
}

/// A tree with a round crown, its foot at `foot`.
pub(super) fn tree(canvas: &mut Canvas, dice: &mut Dice, foot: Point, height: f32, crown: Colour, bark: Colour) {
    let [x, y] = foot;
    canvas.fill(&Shape::stroke([x, y], [x, y - height * 0.6], height * 0.10, height * 0.05), bark);
    let bough = height * 0.16 * hand(dice);
    canvas.fill(
        &Shape::stroke([x, y - height * 0.3], [x + bough, y - height * 0.55], height * 0.04, height * 0.03),
        bark,
    );
    let heap = |dice: &mut Dice, scale: f32, [dx, dy]: Point| {
        let discs = [(0.0, 0.74, 0.25), (-0.2, 0.6, 0.18), (0.2, 0.6, 0.18), (-0.11, 0.82, 0.17), (0.13, 0.8, 0.17)];
        Shape::all(discs.map(|(right, up, radius)| {
            let jitter = dice.within(0.92, 1.08);
            let middle = [x + height * (right * scale + dx), y - height * (0.68 + (up - 0.68) * scale + dy)];
            Shape::disc(middle, height * radius * scale * jitter)
        }))
    };
    let (all, lit) = (heap(dice, 1.0, [0.0, 0.0]), heap(dice, 0.58, [-0.07, 0.06]));
    canvas.fill(&all, Paint::fade(crown, mix(crown, [0.0, 0.05, 0.1], 0.28)));
    canvas.fill(&lit, Paint::from(mix(crown, [1.0, 1.0, 0.7], 0.3)).alpha(0.5));
}

/// A tuft of three blades.
pub(super) fn tuft(canvas: &mut Canvas, at: Point, height: f32, colour: impl Into<Paint>) {
    let blades = [-0.55, 0.0, 0.5].map(|lean: f32| {
        let tip = [at[0] + lean * height, at[1] - height * (1.0 - 0.3 * lean.abs())];
        Shape::leaf(at, tip, height * 0.08, lean * height * 0.12)
    });
    canvas.fill(&Shape::all(blades), colour);
}

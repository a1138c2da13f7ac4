//! Scenes of the open country: by landscape, by season and by time of day.

use super::brush::{Canvas, Paint, Point, Shape, hand, hex, mix, wave};
use super::props::{cloud, clouds, dots, hills, pine, sun, tree, tuft};
use crate::data::dice::Dice;

fn fade(top: u32, bottom: u32) -> Paint {
    Paint::fade(hex(top), hex(bottom))
}

/// Places at the sides, far from the middle: `count` on each.
fn beside(dice: &mut Dice, count: usize, reach: f32) -> Vec<f32> {
    let mut places = Vec::new();
    for side in [0, 1] {
        for i in 0..count {
            let x = (i as f32 + dice.within(0.1, 0.9)) / count as f32 * reach;
            places.push(if side == 0 { x } else { 1.0 - x });
        }
    }
    places
}

pub(super) fn meadow(side: usize, dice: &mut Dice) -> Canvas {
    let mut canvas = Canvas::sky(side, &[(0.0, 0x5fb2f2), (0.66, 0xe2f4fd)]);
    if dice.happens(0.6) {
        let x = 0.5 + 0.36 * hand(dice);
        sun(&mut canvas, [x, dice.within(0.10, 0.16)], 0.065, hex(0xffe36e), hex(0xfff6c8));
    }
    clouds(&mut canvas, dice, 0xffffff, 0xe6f2fb);
    hills(&mut canvas, dice, 0.59, 0.10, 3, fade(0xa5d9a0, 0x7cc07c));
    hills(&mut canvas, dice, 0.66, 0.07, 2, fade(0x93d36f, 0x6cbc52));
    for x in beside(dice, 1, 0.3) {
        let height = dice.within(0.13, 0.22);
        tree(&mut canvas, dice, [x, 0.70], height, hex(0x4fa24c), hex(0x7a5a3e));
    }
    hills(&mut canvas, dice, 0.71, 0.03, 2, fade(0x86cf5c, 0x4ea23f));
    for _ in 0..9 {
        let at = [dice.within(0.0, 1.0), dice.within(0.78, 1.0)];
        tuft(&mut canvas, at, 0.035, Paint::from(0x3f9036).alpha(0.7));
    }
    let colours = *dice.one(&[[0xffffff, 0xffe15a], [0xffffff, 0xf58fb6], [0xffd84d, 0xe9604f]]);
    for _ in 0..14 {
        let at = [dice.within(0.0, 1.0), dice.within(0.80, 0.99)];
        canvas.fill(&Shape::disc(at, dice.within(0.008, 0.013)), *dice.one(&colours));
    }
    canvas
}

pub(super) fn beach(side: usize, dice: &mut Dice) -> Canvas {
    let mut canvas = Canvas::sky(side, &[(0.0, 0x49b4ee), (0.46, 0xdaf3fb), (1.0, 0xdaf3fb)]);
    let hand = hand(dice);
    sun(&mut canvas, [0.5 - hand * 0.34, dice.within(0.11, 0.18)], 0.07, hex(0xffe26a), hex(0xfff4c0));
    let at = [dice.within(0.3, 0.7), dice.within(0.2, 0.34)];
    cloud(&mut canvas, dice, at, 0.26, Paint::from(0xffffff).alpha(0.9));
    canvas.fill(&Shape::rect([0.0, 0.46], [1.0, 0.8]), fade(0x1f8fc4, 0x6fdcd8));
    for i in 0..9 {
        let (y, x, half) = (0.475 + 0.019 * i as f32, dice.within(0.0, 1.0), dice.within(0.03, 0.12));
        let glint = Shape::leaf([x - half, y], [x + half, y], 0.003, 0.0);
        canvas.fill(&glint, Paint::from(0xffffff).alpha(0.5));
    }
    let wave = wave(dice, 4);
    let shore = |x: f32| 0.66 + 0.035 * wave(x);
    canvas.fill(&Shape::below(|x| shore(x) - 0.022, 1.02), Paint::from(0xffffff).alpha(0.9));
    canvas.fill(&Shape::below(shore, 1.02), fade(0xe2c58d, 0xe2c58d));
    canvas.fill(&Shape::below(|x| shore(x) + 0.02, 1.02), fade(0xf7e3b4, 0xe9c987));
    palm(&mut canvas, dice, [0.5 + hand * 0.42, 0.74], hand);
    for _ in 0..26 {
        let at = [dice.within(0.0, 1.0), dice.within(0.76, 1.0)];
        canvas.fill(&Shape::disc(at, dice.within(0.003, 0.006)), Paint::from(0xb98f52).alpha(0.5));
    }
    canvas
}

/// A palm that leans to the middle.
fn palm(canvas: &mut Canvas, dice: &mut Dice, foot: Point, hand: f32) {
    let height = dice.within(0.46, 0.54);
    let at = |t: f32| [foot[0] - hand * 0.10 * t * t, foot[1] - height * t];
    let trunk = (0..8).map(|i| i as f32 / 8.0).map(|t| Shape::stroke(at(t), at(t + 0.14), 0.036 - 0.012 * t, 0.028));
    canvas.fill(&Shape::all(trunk), fade(0xa9794a, 0x7d5733));
    let top = at(1.0);
    let leaves =
        [(-0.21, 0.02), (-0.17, -0.10), (-0.04, -0.15), (0.12, -0.12), (0.20, -0.01), (-0.12, 0.13), (0.11, 0.12)];
    for (i, (dx, dy)) in leaves.into_iter().enumerate() {
        let (dx, dy) = (dx + dice.within(-0.02, 0.02), dy + dice.within(-0.02, 0.02));
        let bend = if dx < 0.0 { 0.035 } else { -0.035 };
        let leaf = Shape::leaf(top, [top[0] + dx, top[1] + dy], 0.022, -bend);
        canvas.fill(&leaf, if i % 2 == 0 { 0x2f9a55u32 } else { 0x49b562 });
    }
    canvas.fill(
        &Shape::disc([top[0] - 0.012, top[1] + 0.02], 0.018).and(Shape::disc([top[0] + 0.018, top[1] + 0.018], 0.017)),
        0x6b4528,
    );
}

pub(super) fn snow(side: usize, dice: &mut Dice) -> Canvas {
    let mut canvas = Canvas::sky(side, &[(0.0, 0x9cc3e6), (0.7, 0xecf3fa)]);
    hills(&mut canvas, dice, 0.50, 0.16, 4, fade(0xc3d5ea, 0xe0eaf5));
    hills(&mut canvas, dice, 0.60, 0.08, 3, fade(0xd9e5f3, 0xeef4fb));
    let mut pines: Vec<_> = beside(dice, 3, 0.4).into_iter().map(|x| (dice.within(0.66, 0.73), x)).collect();
    pines.sort_by(|a, b| a.0.total_cmp(&b.0));
    for (y, x) in pines {
        let height = (y - 0.56) * dice.within(1.9, 2.5);
        pine(&mut canvas, [x, y], height, hex(0x3c7a6c), Some(hex(0xf6fafe)));
    }
    hills(&mut canvas, dice, 0.72, 0.03, 2, fade(0xfdfeff, 0xd6e4f3));
    hills(&mut canvas, dice, 0.90, 0.05, 2, fade(0xffffff, 0xe2ecf7));
    dots(&mut canvas, dice, 46, 1.0, [0.005, 0.011], &[0xffffff]);
    canvas
}

pub(super) fn night(side: usize, dice: &mut Dice) -> Canvas {
    let mut canvas = Canvas::sky(side, &[(0.0, 0x0b1140), (0.45, 0x27337a), (0.72, 0x5b62a8)]);
    dots(&mut canvas, dice, 60, 0.58, [0.002, 0.007], &[0xffffff, 0xfff3c4, 0xcfe0ff]);
    let moon = [0.5 + hand(dice) * dice.within(0.22, 0.36), dice.within(0.14, 0.22)];
    canvas.glow(moon, 0.3, hex(0xb9c6ff), 0.5);
    canvas.fill(&Shape::disc(moon, 0.085), fade(0xfffbe6, 0xf4e7b4));
    for (dx, dy, radius) in [(-0.03, -0.02, 0.018), (0.025, 0.03, 0.022), (0.035, -0.035, 0.011)] {
        canvas.fill(&Shape::disc([moon[0] + dx, moon[1] + dy], radius), Paint::from(0xdccb92).alpha(0.7));
    }
    hills(&mut canvas, dice, 0.60, 0.12, 3, fade(0x3c4a8c, 0x2c386f));
    hills(&mut canvas, dice, 0.67, 0.06, 3, fade(0x2c3a72, 0x22305f));
    for x in beside(dice, 2, 0.3) {
        let height = dice.within(0.14, 0.22);
        pine(&mut canvas, [x, 0.73], height, hex(0x1d2a55), None);
    }
    hills(&mut canvas, dice, 0.72, 0.03, 2, fade(0x2e4a72, 0x1a2b4e));
    canvas
}

pub(super) fn desert(side: usize, dice: &mut Dice) -> Canvas {
    let mut canvas = Canvas::sky(side, &[(0.0, 0xf6b26b), (0.6, 0xfdeabf)]);
    sun(&mut canvas, [dice.within(0.2, 0.8), dice.within(0.16, 0.26)], 0.09, hex(0xfffbe4), hex(0xfff2c4));
    let (x, width) = (dice.within(0.1, 0.9), dice.within(0.14, 0.22));
    for (x, width, top) in [(x, width, 0.46), (x + width * 1.3, width * 0.7, 0.51)] {
        let mesa = [[x - width, 0.66], [x - width * 0.62, top], [x + width * 0.62, top], [x + width, 0.66]];
        canvas.fill(&Shape::polygon(mesa.to_vec()), fade(0xd88a5c, 0xeeb585));
    }
    // dunes: the side in the shade starts at the crest
    for (y, height, light, dark) in [(0.63, 0.11, 0xf0be7a, 0xd99b5c), (0.73, 0.08, 0xecae63, 0xcc8545)] {
        let crest = dice.within(0.15, 0.85);
        let wave = wave(dice, 3);
        let slope = |x: f32| {
            let away = (x - crest).abs();
            y + 0.012 * wave(x) - height * (1.0 - away * 1.5).max(0.0) * (1.0 - away * 1.5).max(0.0)
        };
        canvas.fill(&Shape::below(slope, 1.02), fade(light, 0xe2a25a));
        let top = slope(crest);
        let shade = (0..=24).map(|i| crest + i as f32 / 24.0 * 0.75).map(|x| [x, slope(x)]);
        let foot = [[crest + 0.5, y + 0.14], [crest + 0.22, y + 0.09], [crest + 0.07, (top + y) * 0.5 + 0.04]];
        canvas.fill(&Shape::polygon(shade.chain(foot).collect()), Paint::from(dark).alpha(0.6));
    }
    hills(&mut canvas, dice, 0.80, 0.03, 2, fade(0xefb86c, 0xd99a50));
    for x in beside(dice, 1, 0.2) {
        let (y, height) = (dice.within(0.76, 0.82), dice.within(0.16, 0.26));
        cactus(&mut canvas, [x, y], height);
    }
    canvas
}

fn cactus(canvas: &mut Canvas, [x, y]: Point, height: f32) {
    let pillar = |x: f32, top: f32, bottom: f32, half: f32| {
        Shape::rect([x - half, top], [x + half, bottom])
            .and(Shape::disc([x, top], half))
            .and(Shape::disc([x, bottom], half))
    };
    let (thick, thin, arm) = (height * 0.11, height * 0.075, height * 0.27);
    let shape = pillar(x, y - height, y, thick)
        .and(pillar(x - arm, y - height * 0.72, y - height * 0.45, thin))
        .and(Shape::rect([x - arm, y - height * 0.45 - thin], [x, y - height * 0.45 + thin]))
        .and(pillar(x + arm, y - height * 0.85, y - height * 0.58, thin))
        .and(Shape::rect([x, y - height * 0.58 - thin], [x + arm, y - height * 0.58 + thin]));
    canvas.fill(&shape, fade(0x5fa35c, 0x3b7d4b));
}

pub(super) fn forest(side: usize, dice: &mut Dice) -> Canvas {
    let mut canvas = Canvas::sky(side, &[(0.0, 0x8fcf8d), (0.5, 0xdff3c8), (0.72, 0xcdeab4)]);
    canvas.glow([dice.within(0.35, 0.65), 0.3], 0.55, hex(0xfdffe6), 0.8);
    for (count, width, colour) in [(8, 0.022, 0xa3cf9a), (6, 0.034, 0x79b07c)] {
        for i in 0..count {
            let x = (i as f32 + dice.within(0.1, 0.9)) / count as f32;
            canvas.fill(&Shape::stroke([x, 0.75], [x + dice.within(-0.02, 0.02), 0.0], width, width * 0.7), colour);
        }
    }
    hills(&mut canvas, dice, 0.68, 0.05, 3, fade(0x8cc57a, 0x6fb066));
    for x in beside(dice, 2, 0.32) {
        let (width, foot) = (dice.within(0.06, 0.085), dice.within(0.74, 0.79));
        let lean = dice.within(-0.03, 0.03);
        let trunk = Shape::stroke([x, foot], [x + lean, 0.0], width, width * 0.75);
        let root = Shape::polygon(vec![[x - width, foot + 0.01], [x, foot - 0.12], [x + width, foot + 0.01]]);
        canvas.fill(&trunk.and(root), fade(0x5f4a36, 0x7a5a3c));
        let light = Shape::stroke([x - width * 0.3, foot], [x + lean - width * 0.22, 0.0], width * 0.2, width * 0.15);
        canvas.fill(&light, Paint::from(0xb08a5c).alpha(0.45));
    }
    for (y, paint) in [(0.06, fade(0x3f8a4a, 0x4f9d52)), (0.0, fade(0x2c6f40, 0x37803f))] {
        let leaves = (0..13).map(|i| {
            let (x, off) = (i as f32 / 12.0, (i as f32 / 6.0 - 1.0).abs());
            let radius = dice.within(0.07, 0.11);
            Shape::disc([x, y + 0.10 * off], radius)
        });
        canvas.fill(&Shape::all(leaves.collect::<Vec<_>>()), paint);
    }
    hills(&mut canvas, dice, 0.75, 0.03, 2, fade(0x67a84f, 0x3f7d3e));
    for x in beside(dice, 3, 0.42) {
        let at = [x, dice.within(0.76, 0.98)];
        tuft(&mut canvas, at, dice.within(0.05, 0.08), 0x2f6e3a);
    }
    canvas
}

/// A range of peaks with snow on them: the heights of the peaks and the paint of the rock.
fn peaks(canvas: &mut Canvas, dice: &mut Dice, foot: f32, heights: [f32; 2], count: usize, rock: [u32; 2]) {
    for i in 0..count {
        let x = (i as f32 + dice.within(0.15, 0.85)) / count as f32;
        let height = dice.within(heights[0], heights[1]);
        let (left, right) = (height * dice.within(0.85, 1.1), height * dice.within(0.85, 1.1));
        let (top, bend) = (foot - height, dice.within(-0.06, 0.06));
        canvas.fill(&Shape::polygon(vec![[x, top], [x + right, foot], [x - left, foot]]), fade(rock[0], rock[1]));
        let shade =
            vec![[x, top], [x + right, foot], [x + right * 0.25, foot], [x + bend * height, top + height * 0.45]];
        canvas.fill(&Shape::polygon(shade), Paint::from(0x24345c).alpha(0.28));
        let line = |t: f32, down: f32| [x - left * down * (1.0 - t) + right * down * t, top + height * down];
        let cap = vec![
            [x, top],
            line(1.0, 0.36),
            line(0.76, 0.28),
            line(0.6, 0.40),
            line(0.42, 0.29),
            line(0.24, 0.38),
            line(0.12, 0.30),
            line(0.0, 0.34),
        ];
        canvas.fill(&Shape::polygon(cap), 0xf8fbff);
        let shade = vec![[x, top], line(1.0, 0.36), line(0.76, 0.28), line(0.6, 0.40), line(0.52, 0.2)];
        canvas.fill(&Shape::polygon(shade), Paint::from(0xb4c6e4).alpha(0.7));
    }
}

pub(super) fn mountains(side: usize, dice: &mut Dice) -> Canvas {
    let mut canvas = Canvas::sky(side, &[(0.0, 0x6fb4e8), (0.6, 0xe6f1f8)]);
    let at = [dice.within(0.1, 0.9), dice.within(0.17, 0.24)];
    cloud(&mut canvas, dice, at, 0.28, Paint::from(0xffffff).alpha(0.9));
    peaks(&mut canvas, dice, 0.71, [0.38, 0.46], 3, [0x9aabcb, 0xc3d0e2]);
    peaks(&mut canvas, dice, 0.72, [0.36, 0.50], 2, [0x74829f, 0x98a6bd]);
    hills(&mut canvas, dice, 0.66, 0.04, 3, fade(0x5d8a72, 0x4a7660));
    for x in beside(dice, 4, 0.46) {
        let height = dice.within(0.07, 0.13);
        pine(&mut canvas, [x, dice.within(0.69, 0.73)], height, hex(0x2f5d4c), None);
    }
    hills(&mut canvas, dice, 0.73, 0.025, 2, fade(0x9db878, 0x7a965c));
    for x in beside(dice, 2, 0.45) {
        let (y, size) = (dice.within(0.78, 0.97), dice.within(0.02, 0.045));
        let stone = [[-1.0, 0.0], [-0.7, -0.6], [-0.1, -0.9], [0.6, -0.6], [1.0, 0.0]];
        canvas.fill(
            &Shape::polygon(stone.map(|[dx, dy]| [x + size * dx, y + size * dy]).to_vec()),
            fade(0xb4b6bb, 0x83868e),
        );
    }
    canvas
}

pub(super) fn sunset(side: usize, dice: &mut Dice) -> Canvas {
    let mut canvas =
        Canvas::sky(side, &[(0.0, 0x5a3d8c), (0.28, 0xb8527f), (0.48, 0xf58a5c), (0.66, 0xffd27a), (1.0, 0xffd27a)]);
    let at = [dice.within(0.25, 0.75), dice.within(0.53, 0.58)];
    sun(&mut canvas, at, 0.14, hex(0xffef9e), hex(0xffd98a));
    for _ in 0..6 {
        let (x, y, half) = (dice.within(0.0, 1.0), dice.within(0.10, 0.46), dice.within(0.12, 0.26));
        let strip = Shape::leaf([x - half, y], [x + half, y], dice.within(0.008, 0.014), 0.0);
        canvas.fill(&strip, Paint::from(if y < 0.28 { 0xe88aa0 } else { 0xffd0a0 }).alpha(0.7));
    }
    hills(&mut canvas, dice, 0.62, 0.07, 4, fade(0xb5567c, 0xa04a78));
    hills(&mut canvas, dice, 0.68, 0.06, 3, fade(0x7f3f78, 0x6b3670));
    hills(&mut canvas, dice, 0.74, 0.03, 2, fade(0x553069, 0x3a2352));
    canvas
}

pub(super) fn autumn(side: usize, dice: &mut Dice) -> Canvas {
    let mut canvas = Canvas::sky(side, &[(0.0, 0xbfdcea), (0.66, 0xfbf0d8)]);
    hills(&mut canvas, dice, 0.58, 0.10, 4, fade(0xe8b878, 0xd99a5c));
    let far = [0xe07a35, 0xd9572f, 0xf0a93a];
    for i in 0..7 {
        let (x, height) = ((i as f32 + dice.within(0.1, 0.9)) / 7.0, dice.within(0.14, 0.2));
        tree(&mut canvas, dice, [x, 0.69], height, mix(hex(far[i % 3]), hex(0xfbe3b8), 0.35), hex(0xa08468));
    }
    hills(&mut canvas, dice, 0.68, 0.03, 2, fade(0xd8b45c, 0xc99a48));
    let near = *dice.one(&[[0xd9452b, 0xf09a2e], [0xee8a2a, 0xc8402c], [0xf0b32f, 0xdc5a2c]]);
    for (hand, crown) in [(-1.0, near[0]), (1.0, near[1])] {
        let foot = [0.5 + hand * dice.within(0.38, 0.48), dice.within(0.74, 0.80)];
        let height = dice.within(0.55, 0.7);
        tree(&mut canvas, dice, foot, height, hex(crown), hex(0x5c4030));
    }
    hills(&mut canvas, dice, 0.77, 0.03, 2, fade(0xdcae55, 0xb8813c));
    let leaves = [0xd9452b, 0xf09a2e, 0xf6c445, 0xa8482c];
    for i in 0..34 {
        let low = if i < 10 { [0.1, 0.7] } else { [0.79, 1.0] };
        let [x, y] = [dice.within(0.0, 1.0), dice.within(low[0], low[1])];
        let (dx, dy) = (dice.within(-0.03, 0.03), dice.within(-0.016, 0.016));
        canvas.fill(&Shape::leaf([x - dx, y - dy], [x + dx, y + dy], 0.009, 0.0), *dice.one(&leaves));
    }
    canvas
}

pub(super) fn rain(side: usize, dice: &mut Dice) -> Canvas {
    let mut canvas = Canvas::sky(side, &[(0.0, 0x5d7188), (0.66, 0xaebcc9)]);
    hills(&mut canvas, dice, 0.58, 0.09, 3, fade(0x8fa3ae, 0x80959f));
    hills(&mut canvas, dice, 0.66, 0.05, 3, fade(0x728a8c, 0x647d7f));
    for i in 0..4 {
        let at = [(i as f32 + dice.within(0.2, 0.8)) / 4.0, dice.within(0.10, 0.2)];
        let width = dice.within(0.4, 0.55);
        cloud(
            &mut canvas,
            dice,
            at,
            width,
            if i % 2 == 0 { fade(0x6b7d92, 0x4c5d72) } else { fade(0x8596a8, 0x5d6f84) },
        );
    }
    hills(&mut canvas, dice, 0.72, 0.02, 2, fade(0x7f9290, 0x56696b));
    for _ in 0..5 {
        let (at, across) = ([dice.within(0.0, 1.0), dice.within(0.80, 0.97)], dice.within(0.08, 0.16));
        canvas.fill(&Shape::ellipse(at, [across, across * 0.18]), fade(0xb4c6d4, 0x93a9bb).alpha(0.8));
    }
    for _ in 0..70 {
        let (x, y, length) = (dice.within(0.0, 1.1), dice.within(0.1, 1.0), dice.within(0.05, 0.09));
        let drop = Shape::stroke([x, y - length], [x - length * 0.25, y], 0.004, 0.008);
        canvas.fill(&drop, Paint::from(0xe4f0fa).alpha(0.6));
    }
    canvas
}

//! Scenes with walls around them and scenes without a ground.

use super::brush::{Canvas, Paint, Point, Shape, hand, hex, mix};
use super::props::{cloud, dots, hills, sun};
use crate::data::dice::Dice;

fn fade(top: u32, bottom: u32) -> Paint {
    Paint::fade(hex(top), hex(bottom))
}

/// A rectangle from its upper left corner, its width and its height.
fn block([x, y]: Point, width: f32, height: f32) -> Shape {
    Shape::rect([x, y], [x + width, y + height])
}

pub(super) fn city(side: usize, dice: &mut Dice) -> Canvas {
    let mut canvas = Canvas::sky(side, &[(0.0, 0x8cc4ee), (0.7, 0xfbeedd)]);
    let at = [dice.within(0.1, 0.9), dice.within(0.16, 0.22)];
    cloud(&mut canvas, dice, at, 0.26, Paint::from(0xffffff).alpha(0.85));
    let mut x = -0.04;
    while x < 1.0 {
        let (width, height) = (dice.within(0.07, 0.13), dice.within(0.28, 0.52));
        canvas.fill(&block([x, 0.76 - height], width, height), fade(0xa9bcd8, 0xd5dfea));
        x += width + dice.within(0.0, 0.02);
    }
    let walls = [[0x6a7fa8, 0x8797ba], [0x57688f, 0x7484a8], [0x8a7fa6, 0xa498b8], [0x5f8a9e, 0x84a8b8]];
    let mut x = -dice.within(0.02, 0.08);
    while x < 1.0 {
        // tall at the sides, low in the middle
        let away = ((x + 0.06) * 2.0 - 1.0).abs().min(1.0);
        let (width, height) = (dice.within(0.12, 0.18), dice.within(0.20, 0.30) + 0.24 * away);
        let [top, bottom] = *dice.one(&walls);
        canvas.fill(&block([x, 0.76 - height], width, height), fade(top, bottom));
        canvas.fill(&block([x + width * 0.82, 0.76 - height], width * 0.18, height), Paint::from(0x2c3a5c).alpha(0.25));
        if dice.happens(0.5) {
            canvas.fill(&block([x + width * 0.3, 0.73 - height], width * 0.3, 0.032), hex(top));
        }
        let columns = 3 + dice.below(2);
        let step = width * 0.8 / columns as f32;
        let mut y = 0.785 - height;
        while y < 0.70 {
            for column in 0..columns {
                let lit = if dice.happens(0.3) { 0xffe9a8u32 } else { 0xd4e4f4 };
                let at = [x + step * (column as f32 + 0.28), y];
                canvas.fill(&block(at, step * 0.55, 0.022), Paint::from(lit).alpha(0.85));
            }
            y += 0.046;
        }
        x += width + 0.004;
    }
    canvas.fill(&block([0.0, 0.755], 1.0, 0.25), fade(0xc9c6c4, 0xc9c6c4));
    canvas.fill(&block([0.0, 0.80], 1.0, 0.25), fade(0x73767f, 0x5a5d67));
    canvas.fill(&block([0.0, 0.80], 1.0, 0.010), 0x9a9a9c);
    let first = dice.within(-0.2, 0.0);
    for i in 0..6 {
        canvas.fill(&block([first + 0.24 * i as f32, 0.905], 0.13, 0.016), 0xf4f0dc);
    }
    canvas
}

pub(super) fn street(side: usize, dice: &mut Dice) -> Canvas {
    let mut canvas = Canvas::sky(side, &[(0.0, 0x86c8f2), (0.6, 0xe8f5fc)]);
    let at = [dice.within(0.1, 0.9), dice.within(0.15, 0.19)];
    cloud(&mut canvas, dice, at, 0.24, Paint::from(0xffffff).alpha(0.9));
    let walls = [0xf2c879, 0xe8907a, 0x9cc7d8, 0xf3e6cf, 0xb5cf9c, 0xe6aeb4];
    let roofs = [0xb5523f, 0x8c4a44, 0x6c5a62];
    let mut x = -dice.within(0.02, 0.2);
    let mut colour = dice.below(6);
    while x < 1.0 {
        let (width, top) = (dice.within(0.24, 0.31), dice.within(0.32, 0.40));
        let wall = hex(walls[colour % 6]);
        colour += 1 + dice.below(3);
        let gable = top - dice.within(0.11, 0.16);
        let roof = if dice.happens(0.6) {
            vec![[x - 0.012, top + 0.012], [x + width / 2.0, gable], [x + width + 0.012, top + 0.012]]
        } else {
            let inset = width * 0.16;
            vec![
                [x - 0.012, top + 0.012],
                [x + inset, gable + 0.04],
                [x + width - inset, gable + 0.04],
                [x + width + 0.012, top + 0.012],
            ]
        };
        canvas.fill(&block([x + width * 0.72, gable + 0.01], 0.034, 0.1), 0x7a5048);
        canvas.fill(
            &block([x, top], width, 0.78 - top),
            Paint::fade(mix(wall, [1.0; 3], 0.12), mix(wall, [0.3, 0.2, 0.2], 0.12)),
        );
        canvas.fill(&Shape::polygon(roof), hex(*dice.one(&roofs)));
        let door = dice.below(2);
        for (i, along) in [0.16, 0.58].into_iter().enumerate() {
            let pane = width * 0.27;
            window(&mut canvas, [x + width * along, top + 0.06], pane, 0.10);
            if i == door {
                let tint = *dice.one(&[0x5a7d5c, 0x7a4b3a, 0x4a6a92, 0x9c3f3c]);
                canvas.fill(&block([x + width * along, 0.60], pane, 0.17), tint);
                canvas.fill(&Shape::disc([x + width * along + pane * 0.8, 0.69], 0.007), 0xf2d98a);
            } else {
                window(&mut canvas, [x + width * along, 0.58], pane, 0.10);
            }
        }
        x += width + 0.004;
    }
    canvas.fill(&block([0.0, 0.765], 1.0, 0.3), fade(0xd9d2c6, 0xc2bab0));
    canvas.fill(&block([0.0, 0.815], 1.0, 0.012), 0xa39c94);
    canvas.fill(&block([0.0, 0.827], 1.0, 0.2), fade(0x9a989c, 0x7e7c84));
    for row in 0..3 {
        let y = 0.855 + 0.05 * row as f32;
        for i in 0..8 {
            let x = (i as f32 + dice.within(0.1, 0.9)) / 8.0;
            canvas.fill(&block([x, y], 0.05, 0.008), Paint::from(0xc2c0c4).alpha(0.5));
        }
    }
    canvas
}

/// A window with a white frame and a cross.
fn window(canvas: &mut Canvas, [x, y]: Point, width: f32, height: f32) {
    canvas.fill(&block([x - 0.010, y - 0.010], width + 0.02, height + 0.02), 0xfdfaf4);
    canvas.fill(&block([x, y], width, height), fade(0x7fb2d6, 0xbfe0f2));
    canvas.fill(&block([x + width / 2.0 - 0.004, y], 0.008, height), 0xfdfaf4);
    canvas.fill(&block([x, y + height * 0.45], width, 0.008), 0xfdfaf4);
}

pub(super) fn room(side: usize, dice: &mut Dice) -> Canvas {
    let walls = [0xf0d9bd, 0xc9dde2, 0xd6dfc6, 0xeccfd0, 0xd9d2e6];
    let wall = hex(*dice.one(&walls));
    let mut canvas = Canvas::sky(side, &[(0.0, 0xffffff), (1.0, 0xffffff)]);
    canvas.fill(&block([0.0, 0.0], 1.0, 0.75), Paint::fade(mix(wall, [1.0; 3], 0.2), wall));
    canvas.fill(&block([0.0, 0.72], 1.0, 0.3), fade(0xc4935f, 0xa8743f));
    for i in 0..=12 {
        let across = i as f32 / 6.0 - 1.0;
        let board = Shape::stroke([0.5 + across * 0.7, 0.74], [0.5 + across * 1.3, 1.0], 0.004, 0.007);
        canvas.fill(&board, Paint::from(0x835629).alpha(0.55));
    }
    canvas.fill(&block([0.0, 0.70], 1.0, 0.034), fade(0xfffdf8, 0xe9e2d6));
    let hand = hand(dice);
    // the window, with curtains
    let (x, y, width, height) = (0.5 - hand * 0.22 - 0.14, dice.within(0.12, 0.16), 0.28, 0.32);
    canvas.fill(&block([x - 0.02, y - 0.02], width + 0.04, height + 0.04), 0xfffcf4);
    canvas.fill(&block([x, y], width, height), fade(0x8fc8f0, 0xdff1fb));
    let hill = Shape::ellipse([x + width / 2.0, y + height], [width / 2.0, 0.06]);
    canvas.fill(&hill, 0x8cc878);
    canvas.fill(&block([x, y + height], width, 0.07), Paint::fade(wall, wall));
    canvas.fill(&block([x + width / 2.0 - 0.008, y], 0.016, height), 0xfffcf4);
    canvas.fill(&block([x, y + height * 0.42], width, 0.014), 0xfffcf4);
    canvas.fill(&block([x - 0.035, y + height + 0.012], width + 0.07, 0.022), 0xf4eee2);
    let cloth = *dice.one(&[[0xd9604f, 0xb8473c], [0x4f8fb0, 0x3a7394], [0xe0a63e, 0xc4892c], [0x6a9a66, 0x517f52]]);
    for edge in [-1.0, 1.0] {
        let at = x + width / 2.0 + edge * (width / 2.0 + 0.01);
        let curtain = [
            [at - edge * 0.055, y - 0.04],
            [at + edge * 0.045, y - 0.04],
            [at + edge * 0.05, y + height + 0.05],
            [at, y + height + 0.05],
        ];
        canvas.fill(&Shape::polygon(curtain.to_vec()), fade(cloth[0], cloth[1]));
    }
    canvas.fill(&block([x - 0.08, y - 0.052], width + 0.16, 0.014), 0x7a5638);
    // a picture on the wall
    let x = 0.5 + hand * 0.27;
    canvas.fill(&block([x - 0.085, 0.17], 0.17, 0.15), 0x8a6442);
    canvas.fill(&block([x - 0.068, 0.187], 0.136, 0.116), fade(0xfbe7b8, 0xf4b892));
    canvas.fill(&Shape::polygon(vec![[x - 0.06, 0.303], [x - 0.01, 0.23], [x + 0.04, 0.303]]), 0x6a8fa8);
    canvas.fill(&Shape::disc([x + 0.035, 0.222], 0.015), 0xf0704a);
    // the rug
    canvas.fill(&Shape::ellipse([0.5, 0.875], [0.40, 0.075]), hex(cloth[0]));
    canvas.fill(&Shape::ellipse([0.5, 0.875], [0.36, 0.062]), mix(hex(cloth[0]), [1.0, 0.97, 0.9], 0.55));
    plant(&mut canvas, dice, 0.5 + hand * 0.43);
    canvas
}

fn plant(canvas: &mut Canvas, dice: &mut Dice, x: f32) {
    for (dx, dy) in [(-0.10, -0.12), (0.10, -0.11), (-0.05, -0.2), (0.05, -0.21), (0.0, -0.25)] {
        let tip = [x + dx + dice.within(-0.01, 0.01), 0.68 + dy + dice.within(-0.01, 0.01)];
        canvas.fill(&Shape::leaf([x, 0.69], tip, 0.025, -dx * 0.15), if dx < 0.0 { 0x4a9a5cu32 } else { 0x3b8550 });
    }
    let pot = [[x - 0.065, 0.66], [x + 0.065, 0.66], [x + 0.048, 0.79], [x - 0.048, 0.79]];
    canvas.fill(&Shape::polygon(pot.to_vec()), fade(0xd98860, 0xb5643f));
    canvas.fill(&block([x - 0.075, 0.65], 0.15, 0.028), 0xe29a72);
}

pub(super) fn underwater(side: usize, dice: &mut Dice) -> Canvas {
    let mut canvas = Canvas::sky(side, &[(0.0, 0x7fe0ea), (0.35, 0x2fa9d0), (1.0, 0x0d4f93)]);
    hills(&mut canvas, dice, 0.80, 0.10, 4, fade(0x1f6ea6, 0x185c94));
    for i in 0..4 {
        let (x, width) = ((i as f32 + dice.within(0.1, 0.9)) / 4.0, dice.within(0.05, 0.11));
        let ray = vec![[x, -0.01], [x + width, -0.01], [x + width * 0.4 - 0.2, 1.0], [x - width - 0.24, 1.0]];
        canvas.fill(&Shape::polygon(ray), Paint::from(0xffffff).alpha(0.11));
    }
    hills(&mut canvas, dice, 0.88, 0.04, 3, fade(0xe6d3a0, 0xb89d6c));
    let greens = [0x2f9e78, 0x3cb47c, 0x237d6a];
    for i in 0..6 {
        let near = dice.within(0.02, 0.26);
        let (x, height) = (if i < 3 { near } else { 1.0 - near }, dice.within(0.18, 0.36));
        let bend = hand(dice) * 0.02;
        let middle = [x + dice.within(-0.02, 0.02), 0.90 - height * 0.5];
        let weed = Shape::leaf([x, 0.92], middle, 0.010, bend).and(Shape::leaf(
            middle,
            [x + dice.within(-0.03, 0.03), 0.90 - height],
            0.012,
            -bend,
        ));
        canvas.fill(&weed, greens[i % 3]);
    }
    for hand in [-1.0, 1.0] {
        let (x, colour) = (0.5 + hand * dice.within(0.30, 0.46), *dice.one(&[0xf2706e, 0xf59a5c, 0xd96fb0]));
        let fingers = [(-0.05, -0.07), (-0.02, -0.11), (0.02, -0.10), (0.055, -0.065)];
        let coral = fingers.map(|(dx, dy)| {
            Shape::stroke([x + dx * 0.3, 0.95], [x + dx, 0.94 + dy], 0.024, 0.020)
                .and(Shape::disc([x + dx, 0.94 + dy], 0.013))
        });
        canvas.fill(&Shape::all(coral), colour);
    }
    for _ in 0..13 {
        let (at, radius) = ([dice.within(0.02, 0.98), dice.within(0.05, 0.8)], dice.within(0.008, 0.024));
        canvas.fill(&Shape::disc(at, radius), Paint::from(0xe6fbff).alpha(0.35));
        canvas.fill(
            &Shape::disc([at[0] - radius * 0.3, at[1] - radius * 0.35], radius * 0.4),
            Paint::from(0xffffff).alpha(0.9),
        );
    }
    canvas
}

pub(super) fn space(side: usize, dice: &mut Dice) -> Canvas {
    let mut canvas = Canvas::sky(side, &[(0.0, 0x0a0826), (1.0, 0x1c1244)]);
    let clouds = *dice.one(&[[0x7a3fb0, 0x2f5fc0], [0xb03f8a, 0x4a3fb8], [0x2f8fb0, 0x6a3fb0]]);
    for i in 0..5 {
        let at = [dice.within(0.0, 1.0), dice.within(0.1, 0.95)];
        canvas.glow(at, dice.within(0.25, 0.5), hex(clouds[i % 2]), 0.45);
    }
    dots(&mut canvas, dice, 90, 1.0, [0.002, 0.007], &[0xffffff, 0xfff0c8, 0xc8dcff]);
    for _ in 0..4 {
        let ([x, y], size) = ([dice.within(0.0, 1.0), dice.within(0.0, 1.0)], dice.within(0.022, 0.034));
        let star = Shape::leaf([x - size, y], [x + size, y], size * 0.12, 0.0).and(Shape::leaf(
            [x, y - size],
            [x, y + size],
            size * 0.12,
            0.0,
        ));
        canvas.fill(&star, 0xffffff);
    }
    let hand = hand(dice);
    let (x, y, radius) = (0.5 + hand * dice.within(0.26, 0.36), dice.within(0.14, 0.22), dice.within(0.10, 0.13));
    let [light, dark, band] =
        *dice.one(&[[0xf2a65e, 0xb5563c, 0xffd9a0], [0x7cc4ec, 0x2f62a8, 0xc4e8fa], [0xe8c27a, 0xa87840, 0xfff0c4]]);
    let ring = |half: [f32; 2]| {
        let around = (0..=16).map(move |i| i as f32 / 8.0 - 1.0);
        let arc = |scale: f32| {
            around.clone().map(move |t| {
                [x + radius * scale * t, y + radius * (half[0] * t + half[1] * scale * (1.0 - t * t).max(0.0).sqrt())]
            })
        };
        Shape::polygon(arc(2.0).chain(arc(1.55).rev()).collect())
    };
    canvas.fill(&ring([-0.3, -0.28]), Paint::from(band).alpha(0.8));
    canvas.fill(&Shape::disc([x, y], radius), fade(light, dark));
    canvas.fill(
        &Shape::leaf(
            [x - radius * 0.98, y - radius * 0.1],
            [x + radius * 0.95, y - radius * 0.35],
            radius * 0.06,
            0.02,
        ),
        Paint::from(band).alpha(0.6),
    );
    canvas.fill(&ring([-0.3, 0.28]), Paint::from(band).alpha(0.9));
    let (x, y, radius) = (0.5 - hand * dice.within(0.34, 0.44), dice.within(0.72, 0.9), dice.within(0.045, 0.065));
    canvas.fill(&Shape::disc([x, y], radius), fade(0xd9dbe6, 0x8486a0));
    for (dx, dy, size) in [(-0.3, -0.2, 0.25), (0.35, 0.25, 0.2), (0.2, -0.45, 0.14)] {
        canvas.fill(&Shape::disc([x + dx * radius, y + dy * radius], size * radius), Paint::from(0x6f7190).alpha(0.6));
    }
    canvas
}

pub(super) fn sky(side: usize, dice: &mut Dice) -> Canvas {
    let mut canvas = Canvas::sky(side, &[(0.0, 0x3f97e6), (0.6, 0x9ad2f8), (1.0, 0xd8effc)]);
    let hand = hand(dice);
    sun(&mut canvas, [0.5 + hand * 0.36, 0.13], 0.07, hex(0xfff0a0), hex(0xfffbe0));
    for (x, y) in [(0.5 - hand * 0.38, 0.2), (0.5 + hand * 0.42, 0.44), (0.5 - hand * 0.44, 0.58)] {
        let at = [x + dice.within(-0.05, 0.05), y + dice.within(-0.04, 0.04)];
        let width = dice.within(0.26, 0.38);
        cloud(&mut canvas, dice, at, width, fade(0xffffff, 0xe0f0fb).alpha(0.92));
    }
    // a sea of clouds
    for (y, paint) in [(0.86, fade(0xe3f1fc, 0xcfe5f7)), (0.94, fade(0xffffff, 0xe6f2fc))] {
        let mut shape = Shape::rect([0.0, y + 0.04], [1.0, 1.02]);
        for i in 0..9 {
            let radius = dice.within(0.07, 0.13);
            shape = shape.and(Shape::disc([i as f32 / 8.0, y + 0.05], radius));
        }
        canvas.fill(&shape, paint);
    }
    canvas
}

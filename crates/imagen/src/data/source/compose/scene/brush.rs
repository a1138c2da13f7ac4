//! What scenes are painted with: a canvas, outlines that are filled to the exact share of each pixel, and waves.
//!
//! Every length is a fraction of the side, and a pixel gets the part of an outline that lies in it, so the same strokes
//! give the same picture at every size. Nothing but IEEE arithmetic and square roots is used: the bits are the same
//! everywhere.

use super::super::layer::{Layer, over};
use crate::data::dice::Dice;

/// Red, green and blue from 0 to 1.
pub(super) type Colour = [f32; 3];
/// A place: right and down from the upper left corner, in sides.
pub(super) type Point = [f32; 2];

/// A colour as people write it: 0xRRGGBB.
pub(super) const fn hex(code: u32) -> Colour {
    [(code >> 16 & 255) as f32 / 255.0, (code >> 8 & 255) as f32 / 255.0, (code & 255) as f32 / 255.0]
}

/// `a` where `t` is 0, `b` where it is 1.
pub(super) fn mix(a: Colour, b: Colour, t: f32) -> Colour {
    std::array::from_fn(|i| a[i] + (b[i] - a[i]) * t)
}

/// 1 or -1: right or left.
pub(super) fn hand(dice: &mut Dice) -> f32 {
    *dice.one(&[-1.0, 1.0])
}

/// A smooth random curve over [0, 1] with about `bends` bends, within [-1, 1].
pub(super) fn wave(dice: &mut Dice, bends: usize) -> impl Fn(f32) -> f32 + use<> {
    let nodes: Vec<f32> = dice.key().uniform(bends + 4).into_iter().map(|node| 2.0 * node - 1.0).collect();
    move |x| {
        // a uniform cubic B-spline
        let place = x.clamp(0.0, 1.0) * bends as f32;
        let first = place as usize;
        let (t, n) = (place - first as f32, &nodes[first..]);
        let u = 1.0 - t;
        let inner = |t: f32| 3.0 * t * t * t - 6.0 * t * t + 4.0;
        let weights = [u * u * u, inner(t), inner(u), t * t * t];
        weights.iter().zip(n).map(|(weight, node)| weight * node).sum::<f32>() / 6.0
    }
}

/// Closed outlines; what any of them surrounds is inside.
#[derive(Clone, Default)]
pub(super) struct Shape {
    outlines: Vec<Vec<Point>>,
}

impl Shape {
    pub(super) fn polygon(mut points: Vec<Point>) -> Self {
        // all turn the same way, so that outlines that overlap add up
        let pairs = points.iter().zip(points.iter().cycle().skip(1));
        if pairs.map(|(a, b)| a[0] * b[1] - a[1] * b[0]).sum::<f32>() < 0.0 {
            points.reverse();
        }
        Self { outlines: vec![points] }
    }

    pub(super) fn rect([left, top]: Point, [right, bottom]: Point) -> Self {
        Self::polygon(vec![[left, top], [right, top], [right, bottom], [left, bottom]])
    }

    pub(super) fn ellipse([x, y]: Point, [across, down]: Point) -> Self {
        // cosine and sine of the turn from corner to corner
        let ([cos, sin], corners): ([f64; 2], _) = match across.max(down) {
            ..0.015 => ([0.923_879_532_511_286_7, 0.382_683_432_365_089_8], 16),
            ..0.05 => ([0.980_785_280_403_230_4, 0.195_090_322_016_128_3], 32),
            _ => ([0.995_184_726_672_196_9, 0.098_017_140_329_560_6], 64),
        };
        let turn = |[c, s]: [f64; 2]| [c * cos - s * sin, c * sin + s * cos];
        let around = std::iter::successors(Some([1.0, 0.0]), |at| Some(turn(*at))).take(corners);
        Self::polygon(around.map(|[c, s]| [x + across * c as f32, y + down * s as f32]).collect())
    }

    pub(super) fn disc(middle: Point, radius: f32) -> Self {
        Self::ellipse(middle, [radius, radius])
    }

    /// A stroke from `a` to `b` whose width changes from `from` to `to`.
    pub(super) fn stroke(a: Point, b: Point, from: f32, to: f32) -> Self {
        let (dx, dy) = (b[0] - a[0], b[1] - a[1]);
        let length = (dx * dx + dy * dy).sqrt().max(1e-6);
        let (nx, ny) = (-dy / length / 2.0, dx / length / 2.0);
        let side = |at: Point, width: f32| [at[0] + nx * width, at[1] + ny * width];
        Self::polygon(vec![side(a, from), side(b, to), side(b, -to), side(a, -from)])
    }

    /// A leaf or blade: from `a` to `b`, bulging by `bulge` to both sides and bent sideways by `bend`.
    pub(super) fn leaf(a: Point, b: Point, bulge: f32, bend: f32) -> Self {
        let (dx, dy) = (b[0] - a[0], b[1] - a[1]);
        let length = (dx * dx + dy * dy).sqrt().max(1e-6);
        let side = |t: f32, width: f32| {
            let off = 4.0 * t * (1.0 - t) * (bend + width) / length;
            [a[0] + dx * t - dy * off, a[1] + dy * t + dx * off]
        };
        let there = (0..12).map(|i| side(i as f32 / 12.0, bulge));
        let back = (1..=12).rev().map(|i| side(i as f32 / 12.0, -bulge));
        Self::polygon(there.chain(back).collect())
    }

    /// All that is below `height`, down to `bottom`.
    pub(super) fn below(height: impl Fn(f32) -> f32, bottom: f32) -> Self {
        const STEPS: usize = 96;
        let top = (0..=STEPS).map(|i| i as f32 / STEPS as f32).map(|x| [x, height(x)]);
        Self::polygon(top.chain([[1.0, bottom], [0.0, bottom]]).collect())
    }

    /// Both.
    pub(super) fn and(mut self, other: Self) -> Self {
        self.outlines.extend(other.outlines);
        self
    }

    /// Every one of them.
    pub(super) fn all(shapes: impl IntoIterator<Item = Self>) -> Self {
        shapes.into_iter().fold(Self::default(), Self::and)
    }

    fn edges(&self) -> impl Iterator<Item = [Point; 2]> + '_ {
        self.outlines.iter().flat_map(|points| points.iter().zip(points.iter().cycle().skip(1))).map(|(a, b)| [*a, *b])
    }

    /// Left, top, right and bottom.
    fn bounds(&self) -> [f32; 4] {
        self.outlines.iter().flatten().fold([f32::MAX, f32::MAX, f32::MIN, f32::MIN], |[l, t, r, b], [x, y]| {
            [l.min(*x), t.min(*y), r.max(*x), b.max(*y)]
        })
    }
}

/// One colour, or two from the top of what is painted to its bottom.
#[derive(Clone, Copy)]
pub(super) struct Paint {
    top: Colour,
    bottom: Colour,
    alpha: f32,
}

impl Paint {
    pub(super) fn fade(top: Colour, bottom: Colour) -> Self {
        Self { top, bottom, alpha: 1.0 }
    }

    pub(super) fn alpha(self, alpha: f32) -> Self {
        Self { alpha, ..self }
    }
}

impl From<Colour> for Paint {
    fn from(colour: Colour) -> Self {
        Self::fade(colour, colour)
    }
}

impl From<u32> for Paint {
    fn from(code: u32) -> Self {
        hex(code).into()
    }
}

/// A square picture in the making.
pub(super) struct Canvas {
    side: usize,
    layer: Layer,
    /// What each edge changes in the share that is inside, from its pixel on.
    change: Vec<f32>,
}

impl Canvas {
    /// Covered with colours from the top to the bottom: each with its height, in order.
    pub(super) fn sky(side: usize, stops: &[(f32, u32)]) -> Self {
        let mut layer = Layer::clear(side, side);
        for (y, row) in layer.pixels_mut().chunks_exact_mut(side).enumerate() {
            let at = (y as f32 + 0.5) / side as f32;
            let below = stops.iter().position(|(height, _)| *height >= at).unwrap_or(stops.len() - 1).max(1);
            let ((from, above), (to, below)) = (stops[below - 1], stops[below]);
            let [r, g, b] = mix(hex(above), hex(below), ((at - from) / (to - from)).clamp(0.0, 1.0));
            row.fill([r, g, b, 1.0]);
        }
        Self { side, layer, change: Vec::new() }
    }

    pub(super) fn finish(self) -> Layer {
        self.layer
    }

    /// Paints a shape.
    pub(super) fn fill(&mut self, shape: &Shape, paint: impl Into<Paint>) {
        let (paint, side, scale) = (paint.into(), self.side, self.side as f32);
        let bounds = shape.bounds();
        let [left, top] = [bounds[0], bounds[1]].map(|low| (low * scale).floor().clamp(0.0, scale) as usize);
        let [right, bottom] = [bounds[2], bounds[3]].map(|high| (high * scale).ceil().clamp(0.0, scale) as usize);
        if left >= right || top >= bottom {
            return;
        }
        let (width, height) = (right - left, bottom - top);
        self.change.clear();
        self.change.resize((width + 2) * height, 0.0);
        for edge in shape.edges() {
            let [a, b] = edge.map(|[x, y]| [x * scale - left as f32, y * scale - top as f32]);
            add_edge(&mut self.change, width, height, a, b);
        }
        let extent = (bounds[3] - bounds[1]).max(1e-6);
        for (y, change) in self.change.chunks_exact(width + 2).enumerate() {
            let at = (((y + top) as f32 + 0.5) / scale - bounds[1]) / extent;
            let colour = mix(paint.top, paint.bottom, at.clamp(0.0, 1.0));
            let row = &mut self.layer.pixels_mut()[(y + top) * side + left..][..width];
            let mut inside = 0.0;
            for (pixel, change) in row.iter_mut().zip(change) {
                inside += change;
                let alpha = inside.abs().min(1.0) * paint.alpha;
                if alpha > 1e-4 {
                    *pixel = over([colour[0] * alpha, colour[1] * alpha, colour[2] * alpha, alpha], *pixel);
                }
            }
        }
    }

    /// Light around a place that fades to nothing at `radius`.
    pub(super) fn glow(&mut self, [x, y]: Point, radius: f32, colour: Colour, strength: f32) {
        let scale = self.side as f32;
        let [top, bottom] = [y - radius, y + radius].map(|edge| (edge * scale).clamp(0.0, scale) as usize);
        let [left, right] = [x - radius, x + radius].map(|edge| (edge * scale).clamp(0.0, scale) as usize);
        for row in top..bottom {
            let dy = (row as f32 + 0.5) / scale - y;
            for column in left..right {
                let dx = (column as f32 + 0.5) / scale - x;
                let rest = (1.0 - (dx * dx + dy * dy) / (radius * radius)).max(0.0);
                let alpha = strength * rest * rest * rest;
                let pixel = &mut self.layer.pixels_mut()[row * self.side + column];
                *pixel = over([colour[0] * alpha, colour[1] * alpha, colour[2] * alpha, alpha], *pixel);
            }
        }
    }
}

/// Notes what an edge, in pixels, does to the share of each pixel that is inside. What is left of the first column
/// counts as on its border; to the right of the last nothing is left to change.
fn add_edge(change: &mut [f32], width: usize, height: usize, a: Point, b: Point) {
    let (direction, [mut x0, mut y0], [x1, mut y1]) = if a[1] < b[1] { (1.0, a, b) } else { (-1.0, b, a) };
    let limit = height as f32;
    if y0 >= limit || y1 <= 0.0 || y0 == y1 {
        return;
    }
    let slope = (x1 - x0) / (y1 - y0);
    if y0 < 0.0 {
        (x0, y0) = (x0 - y0 * slope, 0.0);
    }
    y1 = y1.min(limit);
    let mut cross = |y0: f32, y1: f32, x0: f32, x1: f32| {
        // one row, x within the columns
        if y1 <= y0 {
            return;
        }
        let row = (y0 as usize).min(height - 1) * (width + 2);
        let (low, high) = if x0 < x1 { (x0, x1) } else { (x1, x0) };
        let turn = direction * (y1 - y0);
        let (first, last) = (low as usize, (high as usize).min(width));
        for column in first..=last {
            let (from, to) = (low.max(column as f32), high.min(column as f32 + 1.0));
            let part = if high > low { turn * (to - from).max(0.0) / (high - low) } else { turn };
            let away = if high > low { (from + to) / 2.0 - column as f32 } else { low - column as f32 };
            change[row + column] += part * (1.0 - away);
            change[row + column + 1] += part * away;
            if high <= low {
                break;
            }
        }
    };
    let right = width as f32;
    for row in y0 as usize..(y1.ceil() as usize).min(height) {
        let (top, bottom) = (y0.max(row as f32), y1.min(row as f32 + 1.0));
        let (xt, xb) = (x0 + (top - y0) * slope, x0 + (bottom - y0) * slope);
        // the heights at which the edge passes the first and the last column
        let mut cuts = [top, bottom, bottom, bottom];
        if xt.min(xb) < 0.0 || xt.max(xb) > right {
            let mut passes = [0.0, right].map(|x| (top + (x - xt) / slope).clamp(top, bottom));
            if slope == 0.0 {
                passes = [top, bottom];
            }
            passes.sort_by(f32::total_cmp);
            cuts = [top, passes[0], passes[1], bottom];
        }
        for pair in cuts.windows(2) {
            let [xa, xb] = [pair[0], pair[1]].map(|y| (x0 + (y - y0) * slope).clamp(0.0, right));
            cross(pair[0].max(row as f32), pair[1], xa, xb);
        }
    }
}

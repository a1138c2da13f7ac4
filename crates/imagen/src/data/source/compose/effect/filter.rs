//! What effects are made of: blurs, lines along borders, smooth noise and reduced colours.
//!
//! Lengths are in sides, so that an effect looks alike at every size.

use super::super::layer::{Layer, Pixel, halved};
use crate::rng::Rng;

/// Values of `N` channels in rows of one width.
#[derive(Clone)]
pub(super) struct Plane<const N: usize> {
    pub(super) width: usize,
    pub(super) values: Vec<[f32; N]>,
}

impl Plane<4> {
    pub(super) fn of(layer: &Layer) -> Self {
        Self { width: layer.width(), values: layer.pixels().to_vec() }
    }
}

impl<const N: usize> Plane<N> {
    pub(super) fn map<const M: usize>(&self, f: impl FnMut(&[f32; N]) -> [f32; M]) -> Plane<M> {
        Plane { width: self.width, values: self.values.iter().map(f).collect() }
    }

    pub(super) fn height(&self) -> usize {
        self.values.len() / self.width
    }

    /// Blurred twice by a box that reaches `radius` sides to every side; the borders go on outside.
    pub(super) fn blur(mut self, radius: f32) -> Self {
        let reach = radius * self.width as f32;
        if reach < 0.05 {
            return self;
        }
        if reach >= 3.0 && self.width.is_multiple_of(2) && self.height().is_multiple_of(2) {
            // so smooth that half of the rows and columns tell the rest
            let half = Self { width: self.width / 2, values: halved(self.width, &self.values) };
            return half.blur(radius).doubled();
        }
        let mut spare = Vec::with_capacity(self.values.len());
        for _ in 0..2 {
            self.box_across(reach);
            self.box_down(reach, &mut spare);
        }
        self
    }

    /// Twice as large, linear between the pixels.
    fn doubled(&self) -> Self {
        let (width, height) = (self.width, self.height());
        let mut values = Vec::with_capacity(4 * self.values.len());
        let between = |a: &[f32; N], b: &[f32; N]| std::array::from_fn(|i| 0.75 * a[i] + 0.25 * b[i]);
        let mut row = Vec::with_capacity(width);
        for y in 0..2 * height {
            let other = if y % 2 == 0 { (y / 2).saturating_sub(1) } else { (y / 2 + 1).min(height - 1) };
            let [near, far] = [y / 2, other].map(|y| &self.values[y * width..][..width]);
            row.clear();
            row.extend(near.iter().zip(far).map(|(near, far)| between(near, far)));
            for x in 0..width {
                let (left, right) = (&row[x.saturating_sub(1)], &row[(x + 1).min(width - 1)]);
                values.extend([between(&row[x], left), between(&row[x], right)]);
            }
        }
        Self { width: 2 * width, values }
    }

    fn box_across(&mut self, reach: f32) {
        let (whole, part) = (reach as usize, reach.fract());
        let scale = 1.0 / (2.0 * reach + 1.0);
        // a row with its ends repeated
        let mut row = vec![[0.0; N]; self.width + 2 * (whole + 1)];
        for values in self.values.chunks_exact_mut(self.width) {
            let (first, last) = (values[0], values[values.len() - 1]);
            row[..=whole].fill(first);
            row[whole + 1..][..values.len()].copy_from_slice(values);
            row[whole + 1 + values.len()..].fill(last);
            let mut sum = [0.0; N];
            row[1..2 * whole + 2].iter().for_each(|value| add(&mut sum, *value, 1.0));
            let ends = row.iter().zip(&row[1..]).zip(&row[2 * whole + 2..]);
            for (value, ((before, first), after)) in values.iter_mut().zip(ends) {
                *value = std::array::from_fn(|i| (sum[i] + part * (before[i] + after[i])) * scale);
                (0..N).for_each(|i| sum[i] += after[i] - first[i]);
            }
        }
    }

    fn box_down(&mut self, reach: f32, spare: &mut Vec<[f32; N]>) {
        let (whole, part) = (reach as usize as isize, reach.fract());
        let scale = 1.0 / (2.0 * reach + 1.0);
        let last = self.height() as isize - 1;
        let row = |y: isize| &self.values[y.clamp(0, last) as usize * self.width..][..self.width];
        let mut sum = vec![[0.0; N]; self.width];
        for y in -whole..=whole {
            sum.iter_mut().zip(row(y)).for_each(|(sum, value)| add(sum, *value, 1.0));
        }
        spare.clear();
        for y in 0..=last {
            let (before, first, after) = (row(y - whole - 1), row(y - whole), row(y + whole + 1));
            let ends = before.iter().zip(first).zip(after);
            spare.extend(sum.iter_mut().zip(ends).map(|(sum, ((before, first), after))| {
                let value = std::array::from_fn(|i| (sum[i] + part * (before[i] + after[i])) * scale);
                (0..N).for_each(|i| sum[i] += after[i] - first[i]);
                value
            }));
        }
        std::mem::swap(&mut self.values, spare);
    }

    /// How steeply the values change around each pixel: about 1 along the border between 0 and 1, in lines `width`
    /// sides wide, but no narrower than a pixel.
    pub(super) fn borders(&self, width: f32) -> Plane<1> {
        let reach = width / 2.0 * self.width as f32 - 0.5;
        if reach <= 0.0 {
            return self.steepness(0, 1.0);
        }
        let reach = reach.max(0.25);
        self.clone().blur(reach / self.width as f32).steepness(1, reach + 0.5)
    }

    /// The largest difference over the channels between the pixels after and those `before` places before, times
    /// `scale`.
    fn steepness(&self, before: usize, scale: f32) -> Plane<1> {
        let (width, last) = (self.width, self.height() - 1);
        let row = |y: usize| &self.values[y * width..][..width];
        let mut values = Vec::with_capacity(self.values.len());
        for y in 0..=last {
            let (above, here, below) = (row(y.saturating_sub(before)), row(y), row((y + 1).min(last)));
            for x in 0..width {
                let (left, right) = (&here[x.saturating_sub(before)], &here[(x + 1).min(width - 1)]);
                let square = |value: f32| value * value;
                let steep = |i: usize| square(right[i] - left[i]) + square(below[x][i] - above[x][i]);
                values.push([(0..N).map(steep).fold(0.0, f32::max).sqrt() * scale]);
            }
        }
        Plane { width, values }
    }

    /// The values at other places: each pixel looks up to `reach` sides away, where the two parts of `towards`, around
    /// 0.5, point to.
    pub(super) fn warp(&self, towards: &[Vec<f32>; 2], reach: f32) -> Self {
        let (reach, width, height) = (2.0 * reach * self.width as f32, self.width, self.height());
        let mut values = Vec::with_capacity(self.values.len());
        for (y, (across, down)) in towards[0].chunks_exact(width).zip(towards[1].chunks_exact(width)).enumerate() {
            for (x, (right, below)) in across.iter().zip(down).enumerate() {
                let x = (x as f32 + reach * (right - 0.5)).clamp(0.0, (width - 1) as f32);
                let y = (y as f32 + reach * (below - 0.5)).clamp(0.0, (height - 1) as f32);
                let (left, top) = (x as u32 as usize, y as u32 as usize);
                let (dx, dy) = (x - left as f32, y - top as f32);
                let (right, bottom) = ((left + 1).min(width - 1), (top + 1).min(height - 1));
                let (a, b) = (&self.values[top * width + left], &self.values[top * width + right]);
                let (c, d) = (&self.values[bottom * width + left], &self.values[bottom * width + right]);
                values.push(std::array::from_fn(|i| {
                    let (above, below) = (a[i] + dx * (b[i] - a[i]), c[i] + dx * (d[i] - c[i]));
                    above + dy * (below - above)
                }));
            }
        }
        Self { width, values }
    }
}

fn add<const N: usize>(sum: &mut [f32; N], value: [f32; N], times: f32) {
    (0..N).for_each(|i| sum[i] += times * value[i]);
}

/// 0 up to `low`, 1 from `high` on, smooth between them.
pub(super) fn step(low: f32, high: f32, value: f32) -> f32 {
    let t = ((value - low) / (high - low)).clamp(0.0, 1.0);
    t * t * (3.0 - 2.0 * t)
}

/// Smooth noise from 0 to 1 with `cells` random values along a side.
pub(super) fn noise(width: usize, height: usize, cells: usize, rng: Rng) -> Vec<f32> {
    let across = cells + 2;
    let scale = cells as f32 / width as f32;
    let rows = (height as f32 * scale) as usize + 2;
    let grid = rng.uniform(across * rows);
    let place = |at: usize| {
        let place = (at as f32 + 0.5) * scale;
        (place as usize, step(0.0, 1.0, place.fract()))
    };
    let columns: Vec<_> = (0..width).map(place).collect();
    let mut values = Vec::with_capacity(width * height);
    let mut line = vec![0.0; across];
    for y in 0..height {
        let (row, down) = place(y);
        let (above, below) = (&grid[row * across..][..across], &grid[(row + 1) * across..][..across]);
        line.iter_mut().zip(above.iter().zip(below)).for_each(|(at, (a, b))| *at = a + down * (b - a));
        values.extend(columns.iter().map(|(column, right)| line[*column] + right * (line[column + 1] - line[*column])));
    }
    values
}

/// At most `count` colours that stand for the samples.
///
/// The group that is spread most is split at its mean until there are enough; then the colours move to the middles of
/// what they stand for.
pub(super) fn palette(samples: &[[f32; 3]], count: usize) -> Vec<[f32; 3]> {
    if samples.is_empty() {
        return vec![[0.5; 3]];
    }
    let mut groups = vec![samples.to_vec()];
    while groups.len() < count {
        let spreads: Vec<_> = groups.iter().map(|group| spread(group)).collect();
        let widest = (0..groups.len()).max_by(|a, b| spreads[*a].1.total_cmp(&spreads[*b].1)).unwrap_or(0);
        let (channel, amount) = spreads[widest];
        if amount < 1e-4 * samples.len() as f32 {
            break;
        }
        let middle = mean(&groups[widest])[channel];
        let (low, high) = groups[widest].iter().partition(|sample| sample[channel] < middle);
        groups[widest] = low;
        groups.push(high);
    }
    let mut colours: Vec<_> = groups.iter().map(|group| mean(group)).collect();
    for _ in 0..3 {
        let mut sums = vec![([0.0; 3], 0.0); colours.len()];
        for sample in samples {
            let (sum, number) = &mut sums[nearest(&colours, *sample)];
            add(sum, *sample, 1.0);
            *number += 1.0;
        }
        for (colour, (sum, number)) in colours.iter_mut().zip(sums).filter(|(_, (_, number))| *number > 0.0) {
            *colour = sum.map(|sum| sum / number);
        }
    }
    colours
}

/// The place of the colour that is most alike.
pub(super) fn nearest(colours: &[[f32; 3]], to: [f32; 3]) -> usize {
    let mut best = (f32::MAX, 0);
    for (i, colour) in colours.iter().enumerate() {
        let away = (0..3).map(|c| WEIGHTS[c] * (colour[c] - to[c]) * (colour[c] - to[c])).sum::<f32>();
        if away < best.0 {
            best = (away, i);
        }
    }
    best.1
}

/// How much the eye minds a difference of red, green and blue.
const WEIGHTS: [f32; 3] = [1.0, 1.4, 0.8];

fn mean(samples: &[[f32; 3]]) -> [f32; 3] {
    let mut sum = [0.0; 3];
    samples.iter().for_each(|sample| add(&mut sum, *sample, 1.0));
    sum.map(|sum| sum / samples.len().max(1) as f32)
}

/// The channel with the largest squared distance from the mean, and that distance.
fn spread(samples: &[[f32; 3]]) -> (usize, f32) {
    let middle = mean(samples);
    let of = |c: usize| WEIGHTS[c] * samples.iter().map(|sample| (sample[c] - middle[c]).powi(2)).sum::<f32>();
    (0..3).map(|c| (c, of(c))).max_by(|a, b| a.1.total_cmp(&b.1)).unwrap_or((0, 0.0))
}

/// The mean colour, premultiplied, of each of `cells` × `cells` equal parts, at least a pixel each.
pub(super) fn reduce(layer: &Layer, cells: usize) -> Plane<4> {
    let (width, height) = (layer.width(), layer.height());
    let range = |cell: usize, length: usize| {
        let start = cell * length / cells;
        start..((cell + 1) * length / cells).max(start + 1)
    };
    let mut values = Vec::with_capacity(cells * cells);
    for row in 0..cells {
        for column in 0..cells {
            let (rows, columns) = (range(row, height), range(column, width));
            let number = (rows.len() * columns.len()) as f32;
            let mut sum: Pixel = [0.0; 4];
            for y in rows {
                layer.pixels()[y * width..][columns.clone()].iter().for_each(|pixel| add(&mut sum, *pixel, 1.0));
            }
            values.push(sum.map(|sum| sum / number));
        }
    }
    Plane { width: cells, values }
}

/// The colour that was multiplied by opacity.
pub(super) fn straight([r, g, b, alpha]: Pixel) -> [f32; 3] {
    if alpha > 1e-4 { [r, g, b].map(|value| (value / alpha).clamp(0.0, 1.0)) } else { [0.0; 3] }
}

pub(super) fn mix(a: [f32; 3], b: [f32; 3], t: f32) -> [f32; 3] {
    std::array::from_fn(|i| a[i] + (b[i] - a[i]) * t)
}

/// How light a colour is.
pub(super) fn luma([r, g, b]: [f32; 3]) -> f32 {
    0.299 * r + 0.587 * g + 0.114 * b
}

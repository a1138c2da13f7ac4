//! Coefficients to pixels, number by number as libjpeg's defaults have it, which Pillow and with it every training and measure
//! in Python see: the slow integer transform, triangular interpolation of colours where it has one, and its colours.

use std::num::Wrapping;

/// Where the coefficients of a block stand, in the order of the file; a run that leads beyond the block ends at its last.
pub(super) const PLACES: [u8; 80] = {
    let mut places = [63; 80];
    let (mut x, mut y, mut k) = (0i8, 0i8, 0);
    let mut up = true;
    while k < 64 {
        places[k] = (8 * y + x) as u8;
        (x, y, up) = match (up, x, y) {
            (true, 7, _) => (x, y + 1, false),
            (true, _, 0) => (x + 1, y, false),
            (true, ..) => (x + 1, y - 1, true),
            (false, _, 7) => (x + 1, y, true),
            (false, 0, _) => (x, y + 1, true),
            (false, ..) => (x - 1, y + 1, false),
        };
        k += 1;
    }
    places
};

/// Bits of the constants of the transform, and bits that its first pass keeps behind the point.
const CONSTANT_BITS: usize = 13;
const KEPT_BITS: usize = 2;

/// Eight values of the inverse cosine transform, of which the last `shift` bits are rounded away (`jidctint.c`; Loeffler,
/// Ligtenberg and Moschytz, 1989). Damaged files may overflow, which changes what is damaged anyway.
fn transform(values: [i32; 8], shift: usize) -> [i32; 8] {
    let [v0, v1, v2, v3, v4, v5, v6, v7] = values.map(Wrapping);
    let constant = |value: i32| Wrapping(value);
    let shared = (v2 + v6) * constant(4433);
    let (even2, even3) = (shared - v6 * constant(15137), shared + v2 * constant(6270));
    let (even0, even1) = ((v0 + v4) << CONSTANT_BITS, (v0 - v4) << CONSTANT_BITS);
    let even = [even0 + even3, even1 + even2, even1 - even2, even0 - even3];

    let (z1, z2, z3, z4) = (v7 + v1, v5 + v3, v7 + v3, v5 + v1);
    let shared = (z3 + z4) * constant(9633);
    let (z1, z2) = (z1 * constant(-7373), z2 * constant(-20995));
    let (z3, z4) = (z3 * constant(-16069) + shared, z4 * constant(-3196) + shared);
    let odd = [
        v1 * constant(12299) + z1 + z4,
        v3 * constant(25172) + z2 + z3,
        v5 * constant(16819) + z2 + z4,
        v7 * constant(2446) + z1 + z3,
    ];
    let half = Wrapping(1 << (shift - 1));
    std::array::from_fn(|i| {
        let whole = if i < 4 { even[i] + odd[i] } else { even[7 - i] - odd[7 - i] };
        ((whole + half) >> shift).0
    })
}

/// Transforms a block and writes its 64 samples, of which a row begins every `width` places.
pub(super) fn write_block(coefficients: &[i16; 64], quantisation: &[u16; 64], to: &mut [u8], width: usize) {
    let value = |at: usize| i32::from(coefficients[at].wrapping_mul(quantisation[at] as i16));
    if coefficients[1..].iter().all(|&c| c == 0) {
        let level = ((((value(0) << KEPT_BITS) + 16) >> 5) + 128).clamp(0, 255) as u8;
        to.chunks_mut(width).take(8).for_each(|row| row[..8].fill(level));
        return;
    }
    let mut columns = [[0; 8]; 8];
    for (x, column) in columns.iter_mut().enumerate() {
        *column = transform(std::array::from_fn(|y| value(8 * y + x)), CONSTANT_BITS - KEPT_BITS);
    }
    for (y, row) in to.chunks_mut(width).take(8).enumerate() {
        let levels = transform(std::array::from_fn(|x| columns[x][y]), CONSTANT_BITS + KEPT_BITS + 3);
        for (pixel, level) in row.iter_mut().zip(levels) {
            *pixel = level.saturating_add(128).clamp(0, 255) as u8;
        }
    }
}

/// The samples of one colour.
pub(super) struct Plane {
    /// Whole blocks, row by row.
    pub(super) samples: Vec<u8>,
    pub(super) stride: usize,
    /// The samples that count, across and down.
    pub(super) size: [usize; 2],
    /// Pixels for a sample, across and down.
    pub(super) step: [usize; 2],
}

impl Plane {
    fn row(&self, y: usize) -> &[u8] {
        &self.samples[y * self.stride..][..self.size[0]]
    }

    /// One row of the picture, at its resolution; a few values more than it is wide (`jdsample.c`).
    fn enlarge(&self, y: usize, out: &mut Vec<u8>) {
        out.clear();
        let near = self.row(y / self.step[1]);
        // of two rows of pixels the first lies towards the row above, the second towards the one below
        let towards = |y: usize| match y % 2 {
            0 => self.row((y / 2).saturating_sub(1)),
            _ => self.row((y / 2 + 1).min(self.size[1] - 1)),
        };
        let wide = near.len() > 2;
        match self.step {
            [1, 1] => out.extend_from_slice(near),
            [2, 1] if wide => {
                let last = near.len() - 1;
                for (x, &sample) in near.iter().enumerate() {
                    let left = u16::from(near[x.saturating_sub(1)]);
                    let right = u16::from(near[(x + 1).min(last)]);
                    let own = 3 * u16::from(sample);
                    out.push(if x == 0 { sample } else { ((own + left + 1) >> 2) as u8 });
                    out.push(if x == last { sample } else { ((own + right + 2) >> 2) as u8 });
                }
            }
            [1, 2] => {
                let bias = 1 + (y % 2) as u16;
                let mixed = near.iter().zip(towards(y));
                out.extend(mixed.map(|(&near, &far)| ((3 * u16::from(near) + u16::from(far) + bias) >> 2) as u8));
            }
            [2, 2] if wide => {
                let far = towards(y);
                let sum = |x: usize| 3 * u16::from(near[x]) + u16::from(far[x]);
                let last = near.len() - 1;
                let (mut left, mut own) = (sum(0), sum(0));
                for x in 0..=last {
                    let right = if x == last { own } else { sum(x + 1) };
                    out.push(((3 * own + left + 8) >> 4) as u8);
                    out.push(((3 * own + right + 7) >> 4) as u8);
                    (left, own) = (own, right);
                }
            }
            [across, _] => near.iter().for_each(|&sample| out.extend(std::iter::repeat_n(sample, across))),
        }
    }
}

/// What the colours of a file stand for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Colours {
    Grey,
    Rgb,
    /// Brightness and two differences of colour.
    YCbCr,
    /// Inverted inks, as every program writes them.
    Cmyk,
    /// Inks as brightness and differences, and black.
    Ycck,
}

/// The pixels of a picture: one byte each of grey, else three.
pub(super) fn pixels(planes: &[Plane], colours: Colours, [width, height]: [usize; 2]) -> Vec<u8> {
    let channels = if colours == Colours::Grey { 1 } else { 3 };
    let mut out = Vec::with_capacity(width * height * channels);
    let mut rows: Vec<Vec<u8>> = planes.iter().map(|_| Vec::new()).collect();
    for y in 0..height {
        for (plane, row) in planes.iter().zip(&mut rows) {
            plane.enlarge(y, row);
        }
        let row = |number: usize| &rows[number][..width];
        match colours {
            Colours::Grey => out.extend_from_slice(row(0)),
            Colours::Rgb => {
                let samples = row(0).iter().zip(row(1)).zip(row(2));
                out.extend(samples.flat_map(|((&r, &g), &b)| [r, g, b]));
            }
            Colours::YCbCr => {
                let samples = row(0).iter().zip(row(1)).zip(row(2));
                out.extend(samples.flat_map(|((&y, &cb), &cr)| rgb(y, cb, cr)));
            }
            Colours::Cmyk => {
                let samples = row(0).iter().zip(row(1)).zip(row(2)).zip(row(3));
                out.extend(samples.flat_map(|(((&c, &m), &y), &k)| under_ink([c, m, y], k)));
            }
            Colours::Ycck => {
                let samples = row(0).iter().zip(row(1)).zip(row(2)).zip(row(3));
                out.extend(
                    samples.flat_map(|(((&y, &cb), &cr), &k)| under_ink(rgb(y, cb, cr).map(|ink| 255 - ink), k)),
                );
            }
        }
    }
    out
}

/// Red, green and blue (`jdcolor.c`).
fn rgb(y: u8, cb: u8, cr: u8) -> [u8; 3] {
    const HALF: i32 = 1 << 15;
    let (y, cb, cr) = (i32::from(y), i32::from(cb) - 128, i32::from(cr) - 128);
    let red = y + ((91881 * cr + HALF) >> 16);
    let green = y + ((-22554 * cb - 46802 * cr + HALF) >> 16);
    let blue = y + ((116_130 * cb + HALF) >> 16);
    [red, green, blue].map(|level| level.clamp(0, 255) as u8)
}

/// What inverted inks leave of white, as Pillow converts them.
fn under_ink(light: [u8; 3], black: u8) -> [u8; 3] {
    light.map(|light| {
        let product = u32::from(255 - light) * u32::from(black) + 128;
        black.saturating_sub((((product >> 8) + product) >> 8) as u8)
    })
}

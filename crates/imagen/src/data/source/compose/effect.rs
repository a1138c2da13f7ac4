//! Picture styles that are computed from placed things: pixel art, a pencil sketch, neon light, watercolour and paper
//! cut-outs.
//!
//! An effect gets the things, on nothing, and what is behind them, and gives the whole picture. Where a style has a
//! ground of its own (the sheet of a sketch, the dark behind neon) what is behind does not show.

mod filter;

use super::layer::Layer;
use crate::names::named;
use crate::rng::Rng;
use filter::{Plane, luma, mix, nearest, noise, palette, reduce, step, straight};

/// A computed style.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Effect {
    PixelArt,
    Sketch,
    Neon,
    Watercolour,
    PaperCut,
}

named!(
    Effect,
    "effect",
    PixelArt = "pixel art",
    Sketch = "pencil sketch",
    Neon = "neon",
    Watercolour = "watercolour",
    PaperCut = "paper cut-out"
);

impl Effect {
    /// The picture in this style: `objects`, on nothing, before the opaque `background` of the same size.
    pub(super) fn apply(self, objects: &Layer, background: &Layer, rng: Rng) -> Layer {
        debug_assert_eq!((objects.width(), objects.height()), (background.width(), background.height()));
        match self {
            Self::PixelArt => pixel_art(objects, background),
            Self::Sketch => sketch(objects, rng),
            Self::Neon => neon(objects, rng),
            Self::Watercolour => watercolour(objects, background, rng),
            Self::PaperCut => paper_cut(objects, background, rng),
        }
    }
}

/// An opaque picture from the colour at each index, column and row.
fn picture(width: usize, height: usize, colour: impl Fn(usize, usize, usize) -> [f32; 3]) -> Layer {
    let mut layer = Layer::clear(width, height);
    for (y, row) in layer.pixels_mut().chunks_exact_mut(width).enumerate() {
        for (x, pixel) in row.iter_mut().enumerate() {
            let [r, g, b] = colour(y * width + x, x, y).map(|value| value.clamp(0.0, 1.0));
            *pixel = [r, g, b, 1.0];
        }
    }
    layer
}

/// Few colours in large squares: 32 to a side. Things get a dark outline.
fn pixel_art(objects: &Layer, background: &Layer) -> Layer {
    let cells = 32.min(objects.width()).min(objects.height());
    let (things, behind) = (reduce(objects, cells), reduce(background, cells));
    // a thing is where it covers most of a cell; thin parts of it may cover less
    let solid = |at: usize| things.values[at][3] > 0.42;
    let colours: Vec<_> = things.values.iter().map(|pixel| straight(*pixel)).collect();
    let sharp: Vec<_> = (0..cells * cells).map(|at| sharpen(&things, &colours, at)).collect();
    let few = palette(&(0..cells * cells).filter(|at| solid(*at)).map(|at| sharp[at]).collect::<Vec<_>>(), 12);
    let grounds: Vec<_> = behind.values.iter().map(|pixel| straight(*pixel)).collect();
    let few_grounds = palette(&grounds, 14);
    let cell = |at: usize| {
        if solid(at) {
            return few[nearest(&few, sharp[at])];
        }
        let ground = few_grounds[nearest(&few_grounds, grounds[at])];
        match around(at, cells).find(|near| solid(*near)) {
            Some(near) => mix(few[nearest(&few, sharp[near])].map(|value| value * 0.32), [0.08, 0.06, 0.14], 0.4),
            None => ground,
        }
    };
    let painted: Vec<_> = (0..cells * cells).map(cell).collect();
    let (width, height) = (objects.width(), objects.height());
    picture(width, height, |_, x, y| painted[y * cells / height * cells + x * cells / width])
}

/// The places above, left, right and below in a square of cells.
fn around(at: usize, cells: usize) -> impl Iterator<Item = usize> {
    let (x, y) = (at % cells, at / cells);
    let places = [
        (y > 0).then(|| at - cells),
        (x > 0).then(|| at - 1),
        (x + 1 < cells).then(|| at + 1),
        (y + 1 < cells).then(|| at + cells),
    ];
    places.into_iter().flatten()
}

/// A cell's colour, away from those around it, so that small features outlast the few colours.
fn sharpen(things: &Plane<4>, colours: &[[f32; 3]], at: usize) -> [f32; 3] {
    let (mut sum, mut weight) = ([0.0; 3], 1e-4);
    for near in around(at, things.width) {
        let alpha = things.values[near][3];
        (0..3).for_each(|i| sum[i] += alpha * colours[near][i]);
        weight += alpha;
    }
    std::array::from_fn(|i| {
        (colours[at][i] + 0.45 * (colours[at][i] - sum[i] / weight).clamp(-0.3, 0.3)).clamp(0.0, 1.0)
    })
}

/// Graphite on warm paper: lines along borders, drawn twice, and hatching in the shade.
fn sketch(objects: &Layer, rng: Rng) -> Layer {
    let (width, height) = (objects.width(), objects.height());
    let [sway, again] = [0, 2].map(|n| [n, n + 1].map(|n| noise(width, height, 9, rng.fold(n))));
    let (grain, pressure) = (noise(width, height, 110, rng.fold(4)), noise(width, height, 7, rng.fold(5)));
    // over white, and opacity on its own, which outlines what is white
    let things = Plane::of(objects).warp(&sway, 0.006);
    let tones = things.map(|[r, g, b, a]| [r + 1.0 - a, g + 1.0 - a, b + 1.0 - a, *a]);
    let lines = tones.borders(0.011);
    let second = lines.warp(&again, 0.014);
    let soft = tones.map(|[r, g, b, a]| [(1.0 - luma([*r, *g, *b])) * step(0.2, 0.8, *a)]).blur(0.006);
    // how far along the way across the strokes a place is, in strokes
    let strokes = 23.0 / width as f32;
    picture(width, height, |at, x, y| {
        let (x, y) = ((x as f32 + 0.5) * strokes, (y as f32 + 0.5) * strokes);
        let (dark, uneven) = (soft.values[at][0], pressure[at] - 0.5);
        let stroke = |place: f32, share: f32| {
            let away = place - place as i32 as f32 - 0.5;
            step(share + 0.24, share - 0.24, 2.0 * away.abs())
        };
        // two directions, the second in the deep shade only
        let first = stroke(40.0 + x + y + 0.5 * uneven, 0.2 + 0.6 * dark) * step(0.08, 0.45, dark);
        let cross = stroke(40.0 + x - 0.6 * y + 0.5 * uneven, 0.15 + 0.6 * dark) * step(0.45, 0.8, dark);
        let tooth = 0.7 + 0.6 * grain[at];
        let shade = (0.34 * first + 0.26 * cross + 0.12 * dark + 0.30 * dark * dark) * tooth * (1.0 + 0.4 * uneven);
        let line = |strength: f32| step(0.13, 0.5, strength) * (0.8 + 0.2 * tooth);
        let drawn = line(lines.values[at][0]) * (0.88 + 0.3 * uneven);
        let redrawn = line(second.values[at][0]) * (0.45 - 0.5 * uneven);
        let clear = (1.0 - shade.min(0.88)) * (1.0 - drawn.min(1.0)) * (1.0 - redrawn.clamp(0.0, 1.0));
        let sheet = [0.975, 0.96, 0.925].map(|value| value - 0.035 * grain[at]);
        mix([0.15, 0.15, 0.17], sheet, clear)
    })
}

/// Tubes of light along borders, in the things' own hues, before the dark.
fn neon(objects: &Layer, rng: Rng) -> Layer {
    let (width, height) = (objects.width(), objects.height());
    let things = Plane::of(objects);
    let lines = things.borders(0.022);
    let near = things.clone().blur(0.012);
    // what has no hue of its own glows in the colour of the sign
    let signs = [[0.1, 0.9, 1.0], [1.0, 0.2, 0.8], [0.35, 1.0, 0.45], [1.0, 0.55, 0.15]];
    let sign = signs[rng.below(4) as usize];
    let hue = |at: usize| {
        let colour = straight(near.values[at]);
        let (low, high) = (colour.iter().copied().fold(1.0, f32::min), colour.iter().copied().fold(0.0, f32::max));
        let pure = colour.map(|value| (value - 0.9 * low) / (high - 0.9 * low).max(1e-3));
        mix(sign, pure.map(|value| value.clamp(0.06, 1.0)), step(0.05, 0.22, high - low))
    };
    let mut light = things.clone();
    for (at, value) in light.values.iter_mut().enumerate() {
        let strength = step(0.12, 0.5, lines.values[at][0]);
        let [r, g, b] = hue(at).map(|value| value * strength);
        *value = [r, g, b, strength];
    }
    let (narrow, wide) = (light.clone().blur(0.016), light.clone().blur(0.05));
    picture(width, height, |at, x, y| {
        let (x, y) = (x as f32 / width as f32 - 0.5, y as f32 / height as f32 - 0.5);
        let dark = mix([0.075, 0.045, 0.17], [0.025, 0.015, 0.07], (2.0 * (x * x + y * y)).min(1.0));
        let (tube, near, far) = (light.values[at], narrow.values[at], wide.values[at]);
        let core = tube[3] * tube[3] * tube[3] * 0.35;
        let body = things.values[at];
        // light adds up, but never to more than white
        std::array::from_fn(|i| {
            let sum = [0.9 * tube[i], 0.55 * near[i], 0.6 * far[i], core, 0.07 * body[i]];
            1.0 - sum.iter().fold(1.0 - dark[i], |rest, value| rest * (1.0 - value.clamp(0.0, 1.0)))
        })
    })
}

/// Paint laid over paper: nothing at density 0, its colour at 1, deeper beyond.
fn wash(paper: [f32; 3], paint: [f32; 3], density: f32) -> [f32; 3] {
    std::array::from_fn(|i| {
        let absorbed = 1.0 - paint[i];
        let (once, twice) = (density.min(1.0), (density - 1.0).clamp(0.0, 1.0));
        paper[i] * (1.0 - absorbed * once) * (1.0 - absorbed * twice)
    })
}

/// Pigment that runs, gathers along edges and settles in the grain of the paper.
fn watercolour(objects: &Layer, background: &Layer, rng: Rng) -> Layer {
    let (width, height) = (objects.width(), objects.height());
    let flow = [0, 1].map(|i| noise(width, height, 16, rng.fold(i)));
    let (pools, grain) = (noise(width, height, 6, rng.fold(2)), noise(width, height, 100, rng.fold(3)));
    let mottle = noise(width, height, 22, rng.fold(4));
    let things = Plane::of(objects).warp(&flow, 0.014).blur(0.003);
    let run = things.clone().blur(0.026);
    let behind = Plane::of(background).warp(&flow, 0.022).blur(0.006);
    let behind_run = behind.map(|[r, g, b, _]| [luma([*r, *g, *b])]).blur(0.025);
    picture(width, height, |at, x, y| {
        let [left, top] = [(x as f32 + 0.5) / width as f32, (y as f32 + 0.5) / height as f32];
        let uneven = 0.64 * pools[at] + 0.36 * mottle[at] - 0.5;
        let settle = 0.11 * (grain[at] - 0.5);
        let sheet = [0.99, 0.98, 0.955].map(|value| value - 0.025 * grain[at]);
        let (thing, near) = (things.values[at], run.values[at]);
        let alpha = step(0.3, 0.7, thing[3]);
        // the background: a wash that ends before the edge of the sheet and leaves a gap around things
        let edge =
            left.min(top).min(1.0 - left).min(1.0 - top) + 0.034 * (pools[at] - 0.5) + 0.018 * (flow[0][at] - 0.5);
        let inside = step(0.026, 0.040, edge);
        let gathered = 0.26 * step(0.075, 0.035, edge);
        let gap = 1.0 - 0.8 * step(0.22, 0.48, near[3]);
        let [r, g, b, _] = behind.values[at];
        let contour = (behind_run.values[at][0] - luma([r, g, b])).max(0.0);
        let density = (0.76 + 0.5 * uneven + gathered + 1.2 * contour + settle) * inside * gap;
        let wet = wash(sheet, [r, g, b], density.max(0.0));
        // colour that runs out of the things where it is wet
        let near_colour = straight(near);
        let bleeds = step(0.55, 0.8, 0.6 * pools[at] + 0.4 * flow[1][at]) * near[3].min(0.6) * 1.3;
        let wet = mix(wet, wash(wet, near_colour, 0.8), bleeds);
        // the things
        let colour = straight(thing);
        let rim = 1.0 - step(0.55, 0.98, near[3]);
        let inner = (luma(near_colour) - luma(colour)).max(0.0);
        let density = 0.88 + 0.75 * uneven + 0.5 * rim + 1.1 * inner + 1.3 * settle;
        mix(wet, wash(sheet, mix(colour, [1.0; 3], 0.05), density.max(0.3)), alpha)
    })
}

/// Flat tones of paper, one on another, on a white rim that casts a shadow.
fn paper_cut(objects: &Layer, background: &Layer, rng: Rng) -> Layer {
    let (width, height) = (objects.width(), objects.height());
    let fibre = noise(width, height, 90, rng.fold(0));
    let (things, levels) = sheets(objects, 6);
    let (behind, behind_levels) = sheets(background, 9);
    let opaque = Plane::of(objects).map(|pixel| [pixel[3]]);
    let rim = opaque.clone().blur(0.026).map(|[alpha]| [step(0.05, 0.14, *alpha)]);
    let cast = rim.clone().blur(0.018);
    let pixels = |sides: f32| (sides * width as f32).round() as usize;
    let (relief, right, down) = (pixels(0.010).max(1), pixels(0.016), pixels(0.024));
    // how much higher than here the paper to the upper left is
    let shade = |levels: &Plane<1>, at: usize, x: usize, y: usize| {
        let above = levels.values[y.saturating_sub(relief) * width + x.saturating_sub(relief)][0];
        (above - levels.values[at][0]).clamp(0.0, 1.0)
    };
    picture(width, height, |at, x, y| {
        let texture = 1.0 + 0.05 * (fibre[at] - 0.5);
        let cast = cast.values[y.saturating_sub(down) * width + x.saturating_sub(right)][0];
        let light = texture * (1.0 - 0.5 * cast) * (1.0 - 0.28 * shade(&behind_levels, at, x, y));
        let ground = behind.values[at].map(|value| value * light);
        let white = [0.995, 0.99, 0.975].map(|value| value * texture);
        let light = texture * (1.0 - 0.34 * shade(&levels, at, x, y));
        let tone = things.values[at].map(|value| value * light);
        mix(mix(ground, white, rim.values[at][0]), tone, step(0.3, 0.7, opaque.values[at][0]))
    })
}

/// The picture in `count` flat colours, and how high the paper of each lies, from 0 to 1: the lightest on top.
fn sheets(layer: &Layer, count: usize) -> (Plane<3>, Plane<1>) {
    let samples = reduce(layer, 48.min(layer.width()).min(layer.height()));
    let samples: Vec<_> = samples.values.iter().filter(|pixel| pixel[3] > 0.6).map(|pixel| straight(*pixel)).collect();
    let mut tones = palette(&samples, count);
    tones.sort_by(|a, b| luma(*a).total_cmp(&luma(*b)));
    let highest = (tones.len() - 1).max(1) as f32;
    let pixel = 1.0 / layer.width() as f32;
    let smooth = Plane::of(layer).blur((0.008 - 0.4 * pixel).max(0.0));
    let tone = |pixel: &[f32; 4]| {
        if pixel[3] > 0.0 && tones.len() > 1 { nearest(&tones, straight(*pixel)) as f32 } else { 0.0 }
    };
    let chosen = smooth.map(|pixel| [tone(pixel)]);
    let flat = chosen.map(|[tone]| tones[*tone as usize]).blur(0.25 * pixel);
    (flat, chosen.map(|[tone]| [tone / highest]).blur(0.003))
}

#[cfg(test)]
mod tests {
    use super::super::layer::over;
    use super::*;

    /// A red disc with a blue square in it on nothing, before yellow.
    fn scene(side: usize) -> (Layer, Layer) {
        let mut objects = Layer::clear(side, side);
        for (at, pixel) in objects.pixels_mut().iter_mut().enumerate() {
            let [x, y] = [at % side, at / side].map(|at| (at as f32 + 0.5) / side as f32 - 0.5);
            *pixel = match (x * x + y * y < 0.14, x.abs().max(y.abs()) < 0.12) {
                (_, true) => [0.1, 0.2, 0.8, 1.0],
                (true, _) => [0.85, 0.15, 0.1, 1.0],
                _ => [0.0; 4],
            };
        }
        (objects, Layer::filled(side, side, [0.97, 0.84, 0.3]))
    }

    #[test]
    fn effects_are_opaque_keep_the_size_and_repeat_themselves() {
        for (effect, side) in Effect::ALL.into_iter().flat_map(|effect| [(effect, 64), (effect, 50), (effect, 9)]) {
            let (objects, background) = scene(side);
            let result = effect.apply(&objects, &background, Rng::new(1));
            assert_eq!((result.width(), result.height()), (side, side));
            let fine = |pixel: &[f32; 4]| pixel[3] == 1.0 && pixel.iter().all(|value| (0.0..=1.0).contains(value));
            assert!(result.pixels().iter().all(fine), "{} {side}", effect.name());
            assert_eq!(result, effect.apply(&objects, &background, Rng::new(1)), "{} {side}", effect.name());
        }
    }

    #[test]
    fn effects_differ_from_one_another_and_from_the_plain_picture() {
        let (objects, background) = scene(64);
        let mut plain = background.clone();
        plain.pixels_mut().iter_mut().zip(objects.pixels()).for_each(|(under, top)| *under = over(*top, *under));
        let mut pictures = vec![plain];
        pictures.extend(Effect::ALL.map(|effect| effect.apply(&objects, &background, Rng::new(2))));
        for (i, a) in pictures.iter().enumerate() {
            for (j, b) in pictures.iter().enumerate().skip(i + 1) {
                let pairs = a.pixels().iter().zip(b.pixels());
                let away = pairs.map(|(a, b)| (0..3).map(|c| (a[c] - b[c]).abs()).sum::<f32>()).sum::<f32>();
                assert!(away / (64.0 * 64.0 * 3.0) > 0.02, "{i} and {j}");
            }
        }
    }

    #[test]
    fn pixel_art_has_whole_cells_of_few_colours() {
        let (objects, background) = scene(128);
        let art = Effect::PixelArt.apply(&objects, &background, Rng::new(0));
        let mut colours = std::collections::BTreeSet::new();
        for (y, x) in (0..128).flat_map(|y| (0..128).map(move |x| (y, x))) {
            assert_eq!(art.at(x, y), art.at(x / 4 * 4, y / 4 * 4));
            colours.insert(art.at(x, y).map(f32::to_bits));
        }
        assert!(colours.len() < 32, "{}", colours.len());
    }

    #[test]
    fn nothing_on_a_ground_is_possible() {
        let background = Layer::filled(32, 32, [1.0; 3]);
        for effect in Effect::ALL {
            let result = effect.apply(&Layer::clear(32, 32), &background, Rng::new(0));
            assert!(result.pixels().iter().flatten().all(|value| value.is_finite()), "{}", effect.name());
        }
    }

    #[test]
    fn names_are_unique() {
        let names: std::collections::BTreeSet<_> = Effect::ALL.iter().map(|effect| effect.name()).collect();
        assert_eq!(names.len(), Effect::ALL.len());
    }
}

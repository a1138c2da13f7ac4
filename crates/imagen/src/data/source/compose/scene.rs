//! Painted backgrounds: a place, a time or a weather behind the things of a composed picture.
//!
//! Each scene keeps its character and varies in detail: where the sun and the clouds are, how the hills run, what
//! stands at the sides. What is of interest stays above and beside the middle, for that is where things are put. A
//! scene looks the same at every size.

mod brush;
mod nature;
mod places;
mod props;

use super::layer::Layer;
use crate::data::dice::Dice;
use crate::names::named;
use crate::rng::Rng;
use brush::Canvas;

/// A background.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Scene {
    Meadow,
    Beach,
    Snow,
    Night,
    City,
    Desert,
    Forest,
    Room,
    Underwater,
    Space,
    Mountains,
    Street,
    Sunset,
    Sky,
    Autumn,
    Rain,
}

named!(
    Scene,
    "scene",
    Meadow = "meadow",
    Beach = "beach",
    Snow = "snow",
    Night = "night",
    City = "city",
    Desert = "desert",
    Forest = "forest",
    Room = "room",
    Underwater = "underwater",
    Space = "space",
    Mountains = "mountains",
    Street = "street",
    Sunset = "sunset",
    Sky = "sky",
    Autumn = "autumn",
    Rain = "rain"
);

impl Scene {
    /// Whether things hang in the middle instead of standing on the ground.
    pub(super) fn floats(self) -> bool {
        matches!(self, Self::Underwater | Self::Space | Self::Sky)
    }

    /// The part of the height at which the feet of things stand; the lower edge of things that float.
    pub(super) fn ground(self) -> f32 {
        match self {
            Self::Space | Self::Sky => 0.76,
            Self::Underwater => 0.74,
            Self::City | Self::Street | Self::Room => 0.88,
            _ => 0.86,
        }
    }

    /// Paints it, opaque, `side` pixels wide and high.
    pub(super) fn draw(self, side: usize, rng: Rng) -> Layer {
        let dice = &mut Dice::new(rng);
        let canvas: Canvas = match self {
            Self::Meadow => nature::meadow(side, dice),
            Self::Beach => nature::beach(side, dice),
            Self::Snow => nature::snow(side, dice),
            Self::Night => nature::night(side, dice),
            Self::City => places::city(side, dice),
            Self::Desert => nature::desert(side, dice),
            Self::Forest => nature::forest(side, dice),
            Self::Room => places::room(side, dice),
            Self::Underwater => places::underwater(side, dice),
            Self::Space => places::space(side, dice),
            Self::Mountains => nature::mountains(side, dice),
            Self::Street => places::street(side, dice),
            Self::Sunset => nature::sunset(side, dice),
            Self::Sky => places::sky(side, dice),
            Self::Autumn => nature::autumn(side, dice),
            Self::Rain => nature::rain(side, dice),
        };
        canvas.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scenes_are_opaque_squares_and_repeat_themselves() {
        for scene in Scene::ALL {
            let layer = scene.draw(48, Rng::new(3));
            assert_eq!((layer.width(), layer.height()), (48, 48));
            let fine = |pixel: &[f32; 4]| {
                (pixel[3] - 1.0).abs() < 1e-3 && pixel.iter().all(|value| (-1e-3..=1.001).contains(value))
            };
            assert!(layer.pixels().iter().all(fine), "{}", scene.name());
            assert_eq!(layer, scene.draw(48, Rng::new(3)), "{}", scene.name());
            assert_ne!(layer, scene.draw(48, Rng::new(4)), "{}", scene.name());
        }
    }

    #[test]
    fn a_scene_is_the_same_picture_at_every_size() {
        for scene in Scene::ALL {
            for seed in 0..4 {
                let (small, large) = (scene.draw(64, Rng::new(seed)), scene.draw(256, Rng::new(seed)));
                let mut difference = 0.0;
                for (y, x) in (0..64).flat_map(|y| (0..64).map(move |x| (y, x))) {
                    for channel in 0..3 {
                        let of = |i: usize| large.at(x * 4 + i % 4, y * 4 + i / 4)[channel];
                        let mean = (0..16).map(of).sum::<f32>() / 16.0;
                        difference += (mean - small.at(x, y)[channel]).abs() / (64.0 * 64.0 * 3.0);
                    }
                }
                assert!(difference < 0.01, "{} {seed}: {difference}", scene.name());
            }
        }
    }

    #[test]
    fn names_are_unique_and_things_stand_on_the_ground() {
        let names: std::collections::BTreeSet<_> = Scene::ALL.iter().map(|scene| scene.name()).collect();
        assert_eq!(names.len(), Scene::ALL.len());
        assert!(Scene::ALL.iter().all(|scene| (0.7..0.95).contains(&scene.ground())));
    }
}

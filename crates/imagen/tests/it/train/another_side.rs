//! Weights of one picture side begin the training of another: all of them fit, and learned positions are stretched.

use imagen::cascade::{NullText, Record, StageConfig, StageFile, write_stage};
use imagen::models::unet::{Level, Unet, UnetConfig};
use imagen::nn::{self, Init};
use imagen::rng::Rng;

use super::null_text;

/// A stage of `side` pixels whose deepest map, `side / 2`, has learned positions.
fn stage(side: usize) -> StageConfig {
    let mut config = null_text::config(NullText::Zeros);
    config.size = side;
    let level = Level { position: side / 2, ..Level::plain(8) };
    config.unet = UnetConfig { levels: vec![Level::plain(8), level], ..config.unet };
    config.validate().unwrap();
    config
}

#[test]
fn weights_of_eight_pixels_begin_a_training_at_sixteen() {
    let device = crate::device();
    let small = Unet::new(&stage(8).unet, &mut Init::zeros(&device)).unwrap();
    let mut drawn = 0;
    let small = nn::import(small, |_, shape| {
        drawn += 1;
        Ok(Rng::new(8).fold(drawn).normal(shape.iter().product()))
    });
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("base.safetensors");
    write_stage(&path, &stage(8), &Record::of_steps(1), "", &small.unwrap()).unwrap();

    let large = Unet::new(&stage(16).unet, &mut Init::new(&device, Rng::new(9))).unwrap();
    let file = StageFile::open(&path).unwrap();
    let (large, report) = file.load_matching(large).unwrap();
    assert_eq!((report.misshapen.len(), report.missing.len(), report.unexpected.len()), (0, 0, 0), "{report:?}");

    let (from, to) = (nn::export(file.build(&device).unwrap().unet().unwrap()), nn::export(&large));
    let mut stretched = 0;
    for (name, values) in &to {
        let (here, there) = (&values.shape, &from[name].shape);
        if here == there {
            assert_eq!(values.values, from[name].values, "{name}");
            continue;
        }
        let (&[h, w, c], &[_, from_w, _]) = (&here[..], &there[..]) else { panic!("{name}: {there:?} to {here:?}") };
        assert_eq!((h, w), (8, 8));
        // outer corners coincide, so a corner keeps its value and the second pixel is a quarter on the way to the next
        let (old, new) = (&from[name].values, &values.values);
        for channel in 0..c {
            assert_eq!(new[channel], old[channel]);
            assert_eq!(new[(h * w - 1) * c + channel], old[(from_w * from_w - 1) * c + channel]);
            let expected = 0.75 * old[channel] + 0.25 * old[c + channel];
            assert!((new[c + channel] - expected).abs() < 1e-6, "{} instead of {expected}", new[c + channel]);
        }
        stretched += 1;
    }
    assert_eq!(stretched, 1);
}

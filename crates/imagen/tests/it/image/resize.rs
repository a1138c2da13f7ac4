//! Resizing against Pillow, without and with opacity.

use super::*;

#[test]
fn resizing_equals_pillow() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/resize/resize.safetensors");
    let bytes = std::fs::read(path).unwrap();
    let golden = SafeTensors::deserialize(&bytes).unwrap();
    let floats = |name: &str| -> Vec<f32> {
        let view = golden.tensor(name).unwrap();
        view.data().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
    };
    let bytes_of = |name: &str| golden.tensor(name).unwrap().data().to_vec();
    let (height, width) = (37, 29);
    let picture = Picture::new(width, height, bytes_of("u8.input")).unwrap();
    let field = FloatPicture::new(width, height, 1, floats("f32.input")).unwrap();
    let mut cases = 0;
    let mut failures = Vec::new();
    for (name, filter) in [("area", Filter::Area), ("bilinear", Filter::Bilinear), ("bicubic", Filter::Bicubic)] {
        for (w, h) in [(10, 7), (16, 16), (29, 37), (29, 5), (50, 61), (64, 20)] {
            cases += 1;
            let key = format!("{name}.{w}x{h}");
            let ours = picture.resize(w, h, filter).unwrap();
            let differing = ours.pixels().iter().zip(&bytes_of(&format!("u8.{key}"))).filter(|(a, b)| a != b).count();
            if differing > 0 {
                failures.push(format!("u8.{key}: {differing} bytes differ"));
            }
            let ours = field.resize(w, h, filter).unwrap();
            let theirs = floats(&format!("f32.{key}"));
            let worst = ours.values().iter().zip(&theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            if worst > 1e-6 || ours.values().len() != theirs.len() {
                failures.push(format!("f32.{key}: off by {worst}"));
            }
        }
    }
    assert_eq!(golden.len(), 2 * cases + 2);
    assert!(failures.is_empty(), "{failures:#?}");
}

#[test]
fn resizing_with_opacity_equals_pillow() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/resize/alpha.safetensors");
    let bytes = std::fs::read(path).unwrap();
    let golden = SafeTensors::deserialize(&bytes).unwrap();
    let read = |name: &str| {
        let view = golden.tensor(name).unwrap();
        let [h, w, c] = *view.shape() else { panic!("{name}") };
        Picture::with_channels(w, h, c, view.data().to_vec()).unwrap()
    };
    let mut cases = 0;
    for mode in ["la", "rgba"] {
        let picture = read(&format!("{mode}.input"));
        for (name, filter) in [("area", Filter::Area), ("bilinear", Filter::Bilinear), ("bicubic", Filter::Bicubic)] {
            for (w, h) in [(10, 7), (16, 16), (50, 61)] {
                let expected = read(&format!("{mode}.{name}.{w}x{h}"));
                let ours = picture.resize(w, h, filter).unwrap();
                let differing = ours.pixels().iter().zip(expected.pixels()).filter(|(a, b)| a != b).count();
                assert_eq!(differing, 0, "{mode}.{name}.{w}x{h}");
                cases += 1;
            }
        }
    }
    assert_eq!(golden.len(), cases + 2);
}

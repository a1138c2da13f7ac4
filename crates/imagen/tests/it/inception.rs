//! Inception-v3 against pytorch-fid (`golden/inception/make.py`), with weights that a formula gives to both.

use std::path::Path;

use burn::tensor::Tensor;
use imagen::ErrorKind;
use imagen::eval::{
    Extractor, InceptionResize, KidOptions, NEIGHBOURS, Protocol, Statistics, Summary, frechet, frechet_distance, kid,
    precision_recall,
};
use imagen::image::Picture;
use imagen::models::inception::Inception;
use imagen::models::weights::Weights;
use safetensors::SafeTensors;

/// The numbers of a tensor, as the script has them.
fn formula(name: &str, shape: &[usize]) -> Vec<f32> {
    let count: usize = shape.iter().product();
    let (spread, middle) = match name {
        _ if name.ends_with("conv.weight") => (5.0 / (shape[1..].iter().product::<usize>() as f64).sqrt(), 0.0),
        _ if name.ends_with("running_var") || name.ends_with("bn.weight") => (0.5, 1.0),
        _ => (0.4, 0.0),
    };
    let seed = crc32fast::hash(name.as_bytes());
    let number = |i: u32| {
        let mut h = (i + 1).wrapping_mul(2_654_435_761).wrapping_add(seed);
        h ^= h >> 15;
        h = h.wrapping_mul(2_246_822_519);
        h ^= h >> 13;
        ((f64::from(h) / 4_294_967_296.0 - 0.5) * spread + middle) as f32
    };
    (0..count as u32).map(number).collect()
}

/// A safetensors file of these tensors.
fn file(tensors: &[(String, Vec<usize>)]) -> Vec<u8> {
    let (mut header, mut data) = (serde_json::Map::new(), Vec::new());
    for (name, shape) in tensors {
        let from = data.len();
        data.extend(formula(name, shape).into_iter().flat_map(f32::to_le_bytes));
        let entry = serde_json::json!({"dtype": "F32", "shape": shape, "data_offsets": [from, data.len()]});
        header.insert(name.clone(), entry);
    }
    let header = serde_json::Value::Object(header).to_string();
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &data].concat()
}

fn weights() -> Weights {
    Weights::from_bytes(file(&Inception::tensors()), "inception").unwrap()
}

fn extractor(weights: &Weights, resize: InceptionResize) -> Extractor {
    Extractor::inception(weights, resize, &crate::device()).unwrap()
}

fn features(extractor: &Extractor, pictures: &[Picture]) -> Vec<f32> {
    let prepared: Vec<_> = pictures.iter().map(|picture| extractor.prepare(picture).unwrap()).collect();
    extractor.features(&prepared).unwrap()
}

/// What pytorch-fid and its kin made.
struct Golden(Vec<u8>);

impl Golden {
    fn open() -> Self {
        Self::named("inception")
    }

    fn named(name: &str) -> Self {
        let path = format!("tests/golden/inception/{name}.safetensors");
        Self(std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap())
    }

    /// Shape and bytes of a tensor.
    fn tensor(&self, name: &str) -> (Vec<usize>, Vec<u8>) {
        let file = SafeTensors::deserialize(&self.0).unwrap();
        let tensor = file.tensor(name).unwrap();
        (tensor.shape().to_vec(), tensor.data().to_vec())
    }

    fn numbers(&self, name: &str) -> Vec<f32> {
        self.tensor(name).1.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
    }

    fn number(&self, name: &str) -> f64 {
        f64::from_le_bytes(self.tensor(name).1.try_into().unwrap())
    }

    fn picture(&self, name: &str) -> Picture {
        let (shape, pixels) = self.tensor(name);
        Picture::new(shape[1], shape[0], pixels).unwrap()
    }

    /// The pictures of a set `[n, h, w, 3]`.
    fn set(&self, name: &str) -> Vec<Picture> {
        let (shape, pixels) = self.tensor(name);
        let size = shape[1..].iter().product();
        pixels.chunks_exact(size).map(|p| Picture::new(shape[2], shape[1], p.to_vec()).unwrap()).collect()
    }
}

#[test]
fn the_features_are_those_of_pytorch_fid_and_of_its_network_behind_clean_fids_resize() {
    let (golden, weights) = (Golden::open(), weights());
    assert_eq!(Inception::tensors().len(), 94 * 5, "94 convolutions, each with its normalisation");
    for resize in InceptionResize::ALL {
        let extractor = extractor(&weights, resize);
        assert!(extractor.protocol().is_inception() && extractor.protocol().resize.starts_with(resize.name()));
        let pictures: Vec<Picture> = (0..3).map(|n| golden.picture(&format!("picture.{n}"))).collect();
        let found = features(&extractor, &pictures);
        for (n, found) in found.chunks_exact(Inception::DIM).enumerate() {
            let expected = golden.numbers(&format!("{}.{n}", resize.name()));
            let square = |x: f64| x * x;
            let difference: f64 = found.iter().zip(&expected).map(|(x, y)| square(f64::from(x - y))).sum();
            let error = (difference / expected.iter().map(|y| square(f64::from(*y))).sum::<f64>()).sqrt();
            println!("{}, picture {n}: relative error {error:.1e}", resize.name());
            assert!(error <= 1e-5, "{}, picture {n}: relative error {error:e}", resize.name());
        }
    }
    let network = Inception::new(&weights, &crate::device()).unwrap();
    for dims in [[1, 80, 80, 1], [1, 74, 80, 3], [0, 80, 80, 3]] {
        let wrong: Tensor<4> = Tensor::zeros(dims, &crate::device());
        assert_eq!(network.features(wrong).unwrap_err().kind(), ErrorKind::Usage, "{dims:?}");
    }
}

#[test]
fn the_distances_are_those_of_pytorch_fid_and_torch_fidelity() {
    let golden = Golden::open();
    let extractor = extractor(&weights(), InceptionResize::Original);
    let [a, b] = ["set.a", "set.b"].map(|name| features(&extractor, &golden.set(name)));
    let dim = Inception::DIM;
    let statistics = |rows: &[f32]| Statistics::of_rows(rows, dim).unwrap();
    let shares = precision_recall(&a, &b, dim, NEIGHBOURS).unwrap();
    for (name, found) in [
        ("frechet", frechet_distance(&statistics(&a), &statistics(&b)).unwrap()),
        ("kid", kid(&a, &b, dim, &KidOptions::default()).unwrap().value),
        ("precision", shares.precision.rate),
        ("recall", shares.recall.rate),
    ] {
        let expected = golden.number(name);
        println!("{name}: {found}, expected {expected}");
        assert!((found - expected).abs() <= 1e-3 * expected.abs(), "{name}: {found}, expected {expected}");
    }
    assert!(0.1 < shares.recall.rate && shares.recall.rate < 0.95, "the sets tell a right measure from a wrong one");
}

#[test]
fn the_middles_of_pictures_are_those_that_pytorch_fid_is_given_by_custom() {
    let (golden, cropped) = (Golden::open(), Golden::named("cropped"));
    let extractor = extractor(&weights(), InceptionResize::Original).cropped(256);
    assert!(extractor.protocol().resize.starts_with("middle 256x256, Pillow's bicubic; original: "));
    let pictures: Vec<Picture> = (0..3).map(|n| golden.picture(&format!("picture.{n}"))).collect();
    for (n, found) in features(&extractor, &pictures).chunks_exact(Inception::DIM).enumerate() {
        let expected = cropped.numbers(&format!("cropped.{n}"));
        let square = |x: f64| x * x;
        let difference: f64 = found.iter().zip(&expected).map(|(x, y)| square(f64::from(x - y))).sum();
        let error = (difference / expected.iter().map(|y| square(f64::from(*y))).sum::<f64>()).sqrt();
        println!("picture {n}: relative error {error:.1e}");
        assert!(error <= 1e-5, "picture {n}: relative error {error:e}");
    }
    let [a, b] = ["set.a", "set.b"].map(|name| features(&extractor, &golden.set(name)));
    let statistics = |rows: &[f32]| Statistics::of_rows(rows, Inception::DIM).unwrap();
    let (found, expected) = (frechet_distance(&statistics(&a), &statistics(&b)).unwrap(), cropped.number("frechet"));
    assert!((found - expected).abs() <= 1e-3 * expected, "{found}, expected {expected}");
    assert!(
        (found - golden.number("frechet")).abs() > 0.01 * expected,
        "it is another distance than of whole pictures"
    );
}

#[test]
fn statistics_of_inception_are_kept_and_are_compared_with_no_other_resize_weights_or_extractor() {
    let (golden, weights) = (Golden::open(), weights());
    let extractor = extractor(&weights, InceptionResize::Original);
    let pictures = golden.set("set.a");
    let (a, b) = (Summary::of(&extractor, &pictures[..4]).unwrap(), Summary::of(&extractor, &pictures[4..8]).unwrap());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.safetensors");
    a.save(&path).unwrap();
    let loaded = Summary::load(&path).unwrap();
    assert_eq!(loaded, a);
    assert_eq!(frechet(&loaded, &b).unwrap(), frechet(&a, &b).unwrap());

    let clean = self::extractor(&weights, InceptionResize::Clean);
    let of_weights = extractor.protocol().digest.clone();
    assert_eq!(clean.protocol().digest, of_weights, "the same weights");
    let mut bytes = file(&Inception::tensors());
    let last = bytes.len() - 4;
    bytes[last..].copy_from_slice(&0.25f32.to_le_bytes());
    let others = self::extractor(&Weights::from_bytes(bytes, "others").unwrap(), InceptionResize::Original);
    assert_ne!(others.protocol().digest, of_weights);
    for other in [clean.protocol(), others.protocol(), &Protocol::layout()] {
        let mut empty = Summary::new(other, false);
        empty.add_rows(&vec![0.0; 2 * other.features]).unwrap();
        let error = frechet(&a, &empty).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage);
        assert!(format!("{error:#}").contains(&other.to_string()), "{error:#}");
    }
}

//! CLIP's towers, tokenizer and preparation of pictures against transformers and Pillow (`golden/clip/make.py`).

use std::path::{Path, PathBuf};

use burn::tensor::{Tensor, TensorData};
use imagen::ErrorKind;
use imagen::eval::retrieval::cosine;
use imagen::eval::{Clip, clip_score};
use imagen::image::Picture;
use imagen::models::clip::{ClipConfig, ClipImage, ClipText, logit_scale, similarity};
use imagen::models::weights::{Storage, Weights};
use imagen::text::{ClipTextEncoder, EncoderFiles, TextOptions, load};
use safetensors::SafeTensors;

use crate::error;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/clip").join(name)
}

fn files() -> EncoderFiles {
    EncoderFiles::open(&golden("tiny")).unwrap()
}

fn options() -> TextOptions {
    TextOptions { max_length: 24, ..TextOptions::default() }
}

fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    let data: TensorData = tensor.into_data();
    data.iter::<f32>().collect()
}

/// The reference's tensors.
struct Golden(Vec<u8>);

impl Golden {
    fn open() -> Self {
        Self(std::fs::read(golden("clip.safetensors")).unwrap())
    }

    fn words(&self, name: &str) -> Vec<[u8; 4]> {
        SafeTensors::deserialize(&self.0).unwrap().tensor(name).unwrap().data().as_chunks().0.to_vec()
    }

    fn numbers(&self, name: &str) -> Vec<f32> {
        self.words(name).into_iter().map(f32::from_le_bytes).collect()
    }

    fn ids(&self) -> (Vec<u32>, Vec<bool>) {
        let words = |name| self.words(name).into_iter().map(u32::from_le_bytes);
        (words("ids").collect(), words("mask").map(|m| m != 0).collect())
    }

    fn pictures(&self) -> Vec<Picture> {
        let file = SafeTensors::deserialize(&self.0).unwrap();
        let picture = |n: usize| {
            let tensor = file.tensor(&format!("picture.{n}")).unwrap();
            Picture::new(tensor.shape()[1], tensor.shape()[0], tensor.data().to_vec()).unwrap()
        };
        (0..3).map(picture).collect()
    }
}

/// The states of padding mean nothing to anyone; only those of tokens are compared.
fn of_tokens(states: &[f32], mask: &[bool]) -> Vec<f32> {
    let d = states.len() / mask.len();
    states.chunks(d).zip(mask).filter(|(_, real)| **real).flat_map(|(state, _)| state).copied().collect()
}

#[test]
fn the_text_tower_gives_the_states_and_embeddings_of_transformers() {
    let (reference, device) = (Golden::open(), crate::device());
    let (ids, mask) = reference.ids();
    for (folder, prefix) in [("tiny", ""), ("gelu", "gelu.")] {
        let weights = Weights::open(&golden(folder).join("model.safetensors")).unwrap();
        let config = ClipConfig::from_json(&std::fs::read(golden(folder).join("config.json")).unwrap()).unwrap();
        let tower = ClipText::new(config.text.unwrap(), &weights, Storage::Stored, &device).unwrap();
        let states = tower.forward(&ids, &mask, 3).unwrap();
        for (name, found) in [("penultimate", states.penultimate), ("last", states.last)] {
            let expected = of_tokens(&reference.numbers(&format!("{prefix}{name}")), &mask);
            let e = error(&of_tokens(&values(found), &mask), &expected);
            assert!(e <= 2e-6, "{folder}, {name}: relative error {e:e}");
        }
        let embedding = tower.embed(&ids, &mask, 3);
        if prefix.is_empty() {
            let e = error(&values(embedding.unwrap()), &reference.numbers("text"));
            assert!(e <= 2e-6, "embedding: relative error {e:e}");
        } else {
            assert_eq!(embedding.unwrap_err().kind(), ErrorKind::Model, "the tower alone has no projection");
        }
    }
}

#[test]
fn the_image_tower_gives_the_embeddings_of_transformers() {
    let (reference, device) = (Golden::open(), crate::device());
    let weights = files().weights().unwrap();
    let config = ClipConfig::from_json(files().file("config.json").unwrap()).unwrap();
    let tower = ClipImage::new(config.image.unwrap(), &weights, Storage::Stored, &device).unwrap();
    let pixels = Tensor::from_data(TensorData::new(reference.numbers("pixels"), [3, 24, 24, 3]), &device);
    let image = tower.embed(pixels).unwrap();
    let e = error(&values(image.clone()), &reference.numbers("image"));
    assert!(e <= 2e-6, "relative error {e:e}");
    let text = Tensor::from_data(TensorData::new(reference.numbers("text"), [3, 20]), &device);
    let e = error(&values(similarity(image, text)), &reference.numbers("similarity"));
    assert!(e <= 1e-5, "similarity: relative error {e:e}");
    assert!((logit_scale(&weights).unwrap() / reference.numbers("scale")[0] - 1.0).abs() <= 1e-6);
    let wrong: Tensor<4> = Tensor::zeros([1, 23, 24, 3], &device);
    assert_eq!(tower.embed(wrong).unwrap_err().kind(), ErrorKind::Usage);
}

#[test]
fn pictures_are_prepared_as_with_pillow() {
    let reference = Golden::open();
    let preparation = std::fs::read(golden("tiny/preprocessor_config.json")).unwrap();
    let clip = Clip::new(&files(), Some(&preparation), &options(), &crate::device()).unwrap();
    let pictures = reference.pictures();
    let e = error(&values(clip.prepare(&pictures).unwrap()), &reference.numbers("pixels"));
    assert!(e <= 1e-6, "relative error {e:e}");
    let e = error(&values(clip.embed_pictures(&pictures).unwrap()), &reference.numbers("image"));
    assert!(e <= 5e-6, "relative error {e:e}");
    let captions = ["a red apple", ""];
    let cosines = values(clip.similarity(&pictures, &captions).unwrap());
    assert!(cosines.len() == 6 && cosines.iter().all(|c| c.abs() <= 1.0 + 1e-6), "{cosines:?}");
    for (from, to) in [("\"resample\": 3", "\"resample\": 2"), ("\"shortest_edge\": 24", "\"shortest_edge\": 25")] {
        let other = String::from_utf8(preparation.clone()).unwrap().replace(from, to);
        let error = Clip::new(&files(), Some(other.as_bytes()), &options(), &crate::device()).unwrap_err();
        assert!(format!("{error:#}").contains("preprocessor_config.json: "), "{error:#}");
    }
}

#[test]
fn the_tokenizer_of_vocabulary_and_merges_gives_the_ids_of_transformers() {
    let encoder = ClipTextEncoder::new(&files(), &options(), &crate::device()).unwrap();
    crate::assert_tokens(&golden("tokens.json"), |caption| encoder.tokens(caption).unwrap());
}

#[test]
fn the_encoder_gives_the_penultimate_states_and_ignores_padding() {
    let encoder = load(files(), &options(), &crate::device()).unwrap();
    assert!(encoder.identity().starts_with("clip-") && encoder.dim() == 24);
    let captions = ["a red apple on a wooden table", "a", ""];
    let together = encoder.encode(&captions).unwrap();
    let [_, t, d] = together.sequence.dims();
    let together = values(together.sequence);
    for (caption, row) in captions.iter().zip(together.chunks(t * d)) {
        let alone = values(encoder.encode(&[caption]).unwrap().sequence);
        assert!(error(&row[..alone.len()], &alone) <= 1e-5, "{caption:?}");
        assert!(row[alone.len()..].iter().all(|&x| x == 0.0), "{caption:?}");
    }
    let too_long = TextOptions { max_length: 25, ..TextOptions::default() };
    assert_eq!(load(files(), &too_long, &crate::device()).err().expect("refused").kind(), ErrorKind::Usage);
}

#[derive(serde::Deserialize)]
struct Score {
    picture: usize,
    caption: String,
    score: f64,
}

#[test]
fn the_clip_score_is_that_of_transformers() {
    let clip = Clip::open(&golden("tiny"), &crate::device()).unwrap();
    let pictures = Golden::open().pictures();
    let rows: Vec<Score> = serde_json::from_slice(&std::fs::read(golden("score.json")).unwrap()).unwrap();
    let mut zeros = 0;
    for Score { picture, caption, score } in &rows {
        let picture = values(clip.embed_pictures(&pictures[*picture..=*picture]).unwrap());
        let found = clip_score(cosine(&picture, &values(clip.embed_texts(&[caption]).unwrap())));
        assert!((found - score).abs() <= 1e-3 * score.max(0.1), "`{caption}`: {found}, expected {score}");
        zeros += usize::from(*score == 0.0);
    }
    assert!(0 < zeros && zeros < rows.len(), "{zeros} of {} scores are 0: both sides of 0 are held", rows.len());
}

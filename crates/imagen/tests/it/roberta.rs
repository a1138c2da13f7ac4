//! RoBERTa and its tokenizer against transformers (`golden/roberta/make.py`).

use std::path::{Path, PathBuf};

use imagen::ErrorKind;
use imagen::models::bert::{Bert, BertConfig};
use imagen::models::weights::Storage;
use imagen::text::{BertEncoder, EncoderFiles, TextEncoder, TextOptions, load};
use safetensors::SafeTensors;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/roberta").join(name)
}

fn files() -> EncoderFiles {
    EncoderFiles::open(&golden("tiny")).unwrap()
}

#[test]
fn positions_are_counted_from_behind_the_padding_token() {
    let config = BertConfig::from_json(files().file("config.json").unwrap()).unwrap();
    assert_eq!(config.positions(), 20);
    let network = Bert::new(config, &files().weights().unwrap(), Storage::Stored, &crate::device()).unwrap();
    let bytes = std::fs::read(golden("states.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let words = |name: &str| file.tensor(name).unwrap().data().as_chunks().0.to_vec();
    let ids: Vec<u32> = words("ids").into_iter().map(u32::from_le_bytes).collect();
    let mask: Vec<bool> = words("mask").into_iter().map(|m| u32::from_le_bytes(m) != 0).collect();
    let expected: Vec<f32> = words("states").into_iter().map(f32::from_le_bytes).collect();
    let found: Vec<f32> = network.forward(&ids, &mask, 3).unwrap().into_data().iter::<f32>().collect();
    let error = crate::error(&found, &expected);
    assert!(error <= 1e-5, "relative error {error:e}");
}

#[test]
fn the_tokenizer_of_vocabulary_and_merges_gives_the_ids_of_transformers() {
    let options = TextOptions { max_length: 20, ..TextOptions::default() };
    let encoder = BertEncoder::new(files(), &options, &crate::device()).unwrap();
    crate::assert_tokens(&golden("tokens.json"), |caption| encoder.tokens(caption).unwrap());
    assert_eq!(encoder.encode(&["a red apple", ""]).unwrap().sequence.dims()[2], 24);
    let too_long = TextOptions { max_length: 21, ..TextOptions::default() };
    assert_eq!(load(files(), &too_long, &crate::device()).err().expect("refused").kind(), ErrorKind::Usage);
}

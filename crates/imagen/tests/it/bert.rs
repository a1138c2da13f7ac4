//! BERT and its tokenizer against transformers (`golden/bert/make.py`), and the text encoder that this project ships.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

use burn::tensor::TensorData;
use imagen::ErrorKind;
use imagen::models::bert::{Bert, BertConfig};
use imagen::models::weights::{FileBytes, NamedTensor, Precision, Storage, Weights, write_safetensors};
use imagen::text::{BertEncoder, EmbeddingCache, EncoderFiles, TextEncoder, TextOptions, load};
use safetensors::SafeTensors;

use crate::error;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/bert").join(name)
}

fn shipped() -> EncoderFiles {
    EncoderFiles::open(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/minilm")).unwrap()
}

fn shipped_encoder() -> BertEncoder {
    BertEncoder::new(shipped(), &TextOptions::default(), &crate::device()).unwrap()
}

fn tiny_config() -> BertConfig {
    BertConfig::from_json(&std::fs::read(golden("tiny/config.json")).unwrap()).unwrap()
}

fn values(data: TensorData) -> Vec<f32> {
    data.iter::<f32>().collect()
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

/// The ids, the mask and the states that transformers made of them.
fn tiny_golden() -> (Vec<u32>, Vec<bool>, Vec<f32>) {
    let bytes = std::fs::read(golden("tiny.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let words = |name| file.tensor(name).unwrap().data().as_chunks().0.to_vec();
    let ids = words("ids").into_iter().map(u32::from_le_bytes).collect();
    let mask = words("mask").into_iter().map(|w| u32::from_le_bytes(w) != 0).collect();
    (ids, mask, words("last_hidden_state").into_iter().map(f32::from_le_bytes).collect())
}

#[test]
fn a_bert_of_random_weights_gives_the_states_of_transformers() {
    let weights = Weights::open(&golden("tiny/model.safetensors")).unwrap();
    let network = Bert::new(tiny_config(), &weights, Storage::Stored, &crate::device()).unwrap();
    let (ids, mask, expected) = tiny_golden();
    let states = network.forward(&ids, &mask, 3).unwrap();
    assert_eq!(states.dims(), [3, 11, 32]);
    let error = error(&values(states.into_data()), &expected);
    assert!(error <= 1e-5, "relative error {error:e}");
}

#[test]
fn padding_does_not_change_the_states_of_a_sequence() {
    let weights = Weights::open(&golden("tiny/model.safetensors")).unwrap();
    let network = Bert::new(tiny_config(), &weights, Storage::Stored, &crate::device()).unwrap();
    let (ids, _, expected) = tiny_golden();
    for (row, length) in [(1, 7), (2, 1)] {
        let states = network.forward(&ids[row * 11..][..length], &vec![true; length], 1).unwrap();
        let error = error(&values(states.into_data()), &expected[row * 11 * 32..][..length * 32]);
        assert!(error <= 1e-5, "sequence {row}: relative error {error:e}");
    }
}

/// The tiny network's tensors as (name, shape, values).
fn tiny_tensors() -> Vec<NamedTensor<'static>> {
    let weights = Weights::open(&golden("tiny/model.safetensors")).unwrap();
    let tensor = |name: &str| {
        let shape = weights.shape(name).unwrap().to_vec();
        let values = weights.tensor_f32(name, &shape).unwrap();
        NamedTensor { name: name.into(), shape, values: Cow::Owned(values) }
    };
    weights.names().map(tensor).collect()
}

#[test]
fn the_names_of_older_and_larger_checkpoints_are_understood() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("old.safetensors");
    let mut tensors = tiny_tensors();
    for tensor in &mut tensors {
        let name =
            tensor.name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta");
        tensor.name = format!("bert.{name}");
    }
    tensors.push(NamedTensor { name: "cls.bias".into(), shape: vec![1], values: vec![0.0].into() });
    write_safetensors(&path, &tensors, &HashMap::new(), Precision::F32).unwrap();
    let network = Bert::new(tiny_config(), &Weights::open(&path).unwrap(), Storage::Stored, &crate::device()).unwrap();
    let (ids, mask, expected) = tiny_golden();
    assert!(error(&values(network.forward(&ids, &mask, 3).unwrap().into_data()), &expected) <= 1e-5);
}

#[test]
fn weights_that_do_not_fit_are_refused_with_a_complete_list() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let mut tensors = tiny_tensors();
    tensors.retain(|t| t.name != "encoder.layer.1.output.dense.bias" && t.name != "embeddings.LayerNorm.weight");
    write_safetensors(&path, &tensors, &HashMap::new(), Precision::F32).unwrap();
    let config = BertConfig { intermediate_size: 79, ..tiny_config() };
    let error = Bert::new(config, &Weights::open(&path).unwrap(), Storage::Stored, &crate::device()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Model);
    let message = format!("{error:#}");
    for part in [
        "`embeddings.LayerNorm.weight` is missing (expected [32])",
        "`encoder.layer.1.output.dense.bias` is missing (expected [32])",
        "`encoder.layer.0.intermediate.dense.weight` has shape [80, 32] (expected [79, 32])",
        "`encoder.layer.1.output.dense.weight` has shape [32, 80] (expected [32, 79])",
    ] {
        assert!(message.contains(part), "{part} is not in: {message}");
    }
}

#[test]
fn a_configuration_that_this_network_is_not_is_refused_by_its_key() {
    let good = serde_json::to_value(tiny_config()).unwrap();
    for (key, value) in [
        ("hidden_act", serde_json::json!("relu")),
        ("position_embedding_type", serde_json::json!("relative_key")),
        ("num_attention_heads", serde_json::json!(5)),
        ("num_hidden_layers", serde_json::json!(1u64 << 60)),
        ("hidden_size", serde_json::json!(0)),
        ("layer_norm_eps", serde_json::json!(-1.0)),
        ("vocab_size", serde_json::json!("many")),
    ] {
        let mut config = good.clone();
        config[key] = value;
        let result = BertConfig::from_json(config.to_string().as_bytes());
        let error = result.expect_err(key);
        assert_eq!(error.kind(), ErrorKind::Model);
        let message = format!("{error:#}");
        assert!(message.contains(key) || message.contains("many"), "{key}: {message}");
    }
}

#[test]
fn ids_that_are_no_batch_too_long_or_unknown_are_errors() {
    let weights = Weights::open(&golden("tiny/model.safetensors")).unwrap();
    let network = Bert::new(tiny_config(), &weights, Storage::Stored, &crate::device()).unwrap();
    for (ids, mask, batch, kind) in [
        (vec![], vec![], 0, ErrorKind::Usage),
        (vec![1], vec![true], 0, ErrorKind::Usage),
        (vec![1; 3], vec![true; 3], 2, ErrorKind::Usage),
        (vec![1; 4], vec![true; 3], 2, ErrorKind::Usage),
        (vec![1; 17], vec![true; 17], 1, ErrorKind::Usage),
        (vec![53], vec![true], 1, ErrorKind::Model),
    ] {
        assert_eq!(network.forward(&ids, &mask, batch).unwrap_err().kind(), kind, "{ids:?} as {batch}");
    }
}

#[test]
fn the_tokenizer_gives_the_ids_of_transformers() {
    let encoder = shipped_encoder();
    crate::assert_tokens(&golden("tokens.json"), |caption| {
        let ids = encoder.tokens(caption).unwrap();
        assert_eq!(encoder.token_count(caption).unwrap(), ids.len());
        ids
    });
}

/// Stated for the shipped 8- and 16-bit weights: for every caption, also one of almost no text, the cosine per token
/// is at least 0.999 on average, and the relative error what belongs to that cosine, √(2 · 0.001).
#[test]
fn the_shipped_weights_give_the_states_of_the_original_within_the_stated_tolerance() {
    let file = Weights::open(&golden("minilm.safetensors")).unwrap();
    let captions: Vec<String> = serde_json::from_str(&file.metadata()["captions"]).unwrap();
    let captions: Vec<&str> = captions.iter().map(String::as_str).collect();
    let encoder = shipped_encoder();
    let embedding = encoder.encode(&captions).unwrap();
    let [_, t, d] = embedding.sequence.dims();
    let (sequence, mask) = (values(embedding.sequence.into_data()), values(embedding.mask.into_data()));
    for (index, caption) in captions.iter().enumerate() {
        let name = index.to_string();
        let shape = file.shape(&name).unwrap();
        let expected = file.tensor_f32(&name, shape).unwrap();
        let (states, padding) = sequence[index * t * d..][..t * d].split_at(expected.len());
        let ones = mask[index * t..][..t].iter().filter(|&&m| m == 1.0).count();
        assert_eq!(ones, shape[0], "tokens of {caption:?}");
        assert!(padding.iter().all(|&x| x == 0.0), "padding of {caption:?}");
        let error = error(states, &expected);
        assert!(error <= 0.0447, "{caption:?}: relative error {error}");
        let tokens = states.chunks(d).zip(expected.chunks(d));
        let cosine = tokens.map(|(ours, theirs)| cosine(ours, theirs)).sum::<f64>() / shape[0] as f64;
        assert!(cosine >= 0.999, "{caption:?}: cosine {cosine}");
    }
}

#[test]
fn a_caption_is_encoded_alike_alone_in_a_batch_and_from_the_cache() {
    let encoder = shipped_encoder();
    let captions = ["a red apple", "a very small elephant in a very large teacup", ""];
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("text.safetensors");
    let cache = EmbeddingCache::build(&path, &captions, &encoder, &mut |_| {}).unwrap();
    let ids = captions.map(|caption| cache.id(caption).unwrap());
    let together = encoder.encode(&captions).unwrap();
    let cached = cache.batch(&ids, encoder.max_length(), &crate::device()).unwrap();
    assert_eq!(values(cached.mask.into_data()), values(together.mask.into_data()));
    let (together, cached) = (values(together.sequence.into_data()), values(cached.sequence.into_data()));
    assert!(error(&cached, &together) <= 1e-3, "f16: {}", error(&cached, &together));
    for (caption, row) in captions.iter().zip(together.chunks(together.len() / 3)) {
        let alone = values(encoder.encode(&[caption]).unwrap().sequence.into_data());
        assert!(error(&alone, &row[..alone.len()]) <= 1e-5, "{caption:?}: {}", error(&alone, &row[..alone.len()]));
    }
}

#[test]
fn text_beyond_the_maximum_length_is_named() {
    let options = TextOptions { max_length: 6, ..TextOptions::default() };
    let encoder = load(shipped(), &options, &crate::device()).unwrap();
    for (caption, lost) in [
        ("a red apple", None),
        ("one two three four", None),
        ("one two three four five", Some(" five")),
        ("một hai ba bốn năm sáu", Some(" bốn năm sáu")),
        ("🍎 🍎 🍎 🍎🍎", None),
        ("🍎 🍎 🍎 🍎 🍎", Some(" 🍎")),
    ] {
        assert_eq!(encoder.cut_text(caption).unwrap(), lost, "{caption}");
        assert!(encoder.encode(&[caption]).unwrap().sequence.dims()[1] <= 6);
    }
}

#[test]
fn the_identity_changes_with_the_files_and_the_maximum_length_and_with_nothing_else() {
    let identity = |files: EncoderFiles, max_length| {
        let options = TextOptions { max_length, ..TextOptions::default() };
        load(files, &options, &crate::device()).unwrap().identity().to_string()
    };
    let first = identity(shipped(), 64);
    let elsewhere = shipped();
    let named = |name| (name, elsewhere.get(name).unwrap().clone());
    let files = ["config.json", "tokenizer.json", "model.safetensors"].map(named);
    assert_eq!(identity(EncoderFiles::new("elsewhere", files), 64), first);
    assert_ne!(identity(shipped(), 63), first);
    let mut weights = shipped().get("model.safetensors").unwrap().to_vec();
    *weights.last_mut().unwrap() ^= 1;
    assert_ne!(identity(shipped().with("model.safetensors", weights), 64), first);
    let mut config: serde_json::Value = serde_json::from_slice(shipped().get("config.json").unwrap()).unwrap();
    config["layer_norm_eps"] = serde_json::json!(1e-9);
    assert_ne!(identity(shipped().with("config.json", config.to_string().into_bytes()), 64), first);
}

#[test]
fn files_and_options_that_do_not_belong_together_are_errors() {
    let refused = |files, options: &TextOptions| load(files, options, &crate::device()).err().expect("refused").kind();
    for max_length in [0, 2, 513] {
        assert_eq!(
            refused(shipped(), &TextOptions { max_length, ..TextOptions::default() }),
            ErrorKind::Usage,
            "{max_length}"
        );
    }
    let options = TextOptions::default();
    let tiny = |name: &str| FileBytes::map(&golden(name)).unwrap();
    let other_weights = shipped().with("model.safetensors", tiny("tiny/model.safetensors"));
    assert_eq!(refused(other_weights, &options), ErrorKind::Model);
    let truncated =
        shipped().with("model.safetensors", shipped().get("model.safetensors").unwrap()[..1 << 20].to_vec());
    assert_eq!(refused(truncated, &options), ErrorKind::Model);
    let broken = shipped().with("tokenizer.json", &b"{}"[..]);
    assert_eq!(refused(broken, &options), ErrorKind::Model);
    // a tiny network with a large tokenizer
    let tiny_network = shipped()
        .with("config.json", tiny("tiny/config.json"))
        .with("model.safetensors", tiny("tiny/model.safetensors"));
    let encoder =
        load(tiny_network, &TextOptions { max_length: 16, ..TextOptions::default() }, &crate::device()).unwrap();
    assert_eq!(encoder.encode(&["a red apple"]).unwrap_err().kind(), ErrorKind::Model);
    assert_eq!(encoder.encode(&[]).unwrap_err().kind(), ErrorKind::Usage);
}

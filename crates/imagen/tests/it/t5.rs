//! T5 and its tokenizers against transformers and sentencepiece (`golden/t5/make.py`).

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

use burn::tensor::TensorData;
use imagen::ErrorKind;
use imagen::models::t5::{FeedForwardKind, T5, T5Config};
use imagen::models::weights::{NamedTensor, Precision, Storage, Weights, write_safetensors};
use imagen::nn::ops;
use imagen::rng::Rng;
use imagen::text::{EncoderFiles, Padding, T5Encoder, TextEncoder, TextOptions, load};
use safetensors::SafeTensors;

use crate::error;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/t5").join(name)
}

fn files(name: &str) -> EncoderFiles {
    EncoderFiles::open(&golden(name)).unwrap()
}

fn network(name: &str, storage: Storage) -> T5 {
    let files = files(name);
    let config = T5Config::from_json(files.file("config.json").unwrap()).unwrap();
    T5::new(config, &files.weights().unwrap(), storage, &crate::device()).unwrap()
}

fn encoder(name: &str, max_length: usize, padding: Padding) -> T5Encoder {
    let options = TextOptions { max_length, padding, ..TextOptions::default() };
    T5Encoder::new(files(name), &options, &crate::device()).unwrap()
}

fn values(data: TensorData) -> Vec<f32> {
    data.iter::<f32>().collect()
}

/// Ids, mask, states and the batch size of a case.
fn case(network: &str, case: &str) -> (Vec<u32>, Vec<bool>, Vec<f32>, usize) {
    let bytes = std::fs::read(golden("states.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let tensor = |name: &str| file.tensor(&format!("{network}.{case}.{name}")).unwrap();
    let words = |name: &str| tensor(name).data().as_chunks().0.to_vec();
    let ids = words("ids").into_iter().map(u32::from_le_bytes).collect();
    let mask = words("mask").into_iter().map(|w| u32::from_le_bytes(w) != 0).collect();
    (ids, mask, words("states").into_iter().map(f32::from_le_bytes).collect(), tensor("ids").shape()[0])
}

#[test]
fn both_generations_give_the_states_of_transformers() {
    for name in ["gated", "plain"] {
        let network = network(name, Storage::Stored);
        for length in ["batch", "one", "long"] {
            let (ids, mask, expected, b) = case(name, length);
            let found = values(network.forward(&ids, &mask, b).unwrap().into_data());
            let e = error(&found, &expected);
            assert!(e <= 2e-6, "{name}, {length}: relative error {e:e}");
            let defined = ops::by_definition(|| values(network.forward(&ids, &mask, b).unwrap().into_data()));
            assert!(error(&defined, &expected) <= 2e-6, "{name}, {length} by definition");
        }
    }
}

#[test]
fn a_caption_is_encoded_alike_alone_in_a_batch_and_padded() {
    for name in ["gated", "plain"] {
        let (longest, padded) = (encoder(name, 24, Padding::Longest), encoder(name, 24, Padding::MaxLength));
        let captions = ["a red apple", "", "một quả táo đỏ trên chiếc bàn gỗ, phở bò"];
        let embedding = longest.encode(&captions).unwrap();
        let ([_, t, d], whole) = (embedding.sequence.dims(), padded.encode(&captions).unwrap());
        assert_eq!((d, whole.sequence.dims()), (24, [3, 24, 24]));
        let (sequence, whole_sequence) = (values(embedding.sequence.into_data()), values(whole.sequence.into_data()));
        let mask = values(whole.mask.into_data());
        for (i, caption) in captions.iter().enumerate() {
            let alone = values(longest.encode(&[caption]).unwrap().sequence.into_data());
            let row = &sequence[i * t * d..][..t * d];
            let (states, zeros) = row.split_at(alone.len());
            assert!(error(states, &alone) <= 1e-5 && zeros.iter().all(|&x| x == 0.0), "{caption}");
            let row = &whole_sequence[i * 24 * d..][..24 * d];
            assert!(error(&row[..alone.len()], &alone) <= 1e-5, "{caption}, padded");
            assert!(row.chunks(d).all(|state| state.iter().any(|&x| x != 0.0)), "padding has states");
            assert_eq!(mask[i * 24..][..24].iter().sum::<f32>() as usize, longest.token_count(caption).unwrap());
        }
    }
}

#[derive(serde::Deserialize)]
struct Row {
    caption: String,
    transformers: Vec<u32>,
    bare: Vec<u32>,
    sentencepiece: Option<Vec<u32>>,
}

/// The tokenizer of `spiece.model` equals transformers' everywhere, and sentencepiece itself but for two captions: the
/// former looks characters up in the table by what is one letter to a reader, the latter from byte to byte, which differs
/// where a letter carries two marks of its own, and at some separators of lines.
#[test]
fn the_tokenizers_give_the_ids_of_the_reference() {
    let rows: Vec<Row> = serde_json::from_slice(&std::fs::read(golden("tokens.json")).unwrap()).unwrap();
    let from_pieces = encoder("gated", 128, Padding::Longest);
    let from_json = encoder("plain", 128, Padding::Longest);
    let (mut wrong, mut different) = (Vec::new(), Vec::new());
    for row in &rows {
        for (what, found, expected) in [
            ("spiece.model", from_pieces.tokens(&row.caption).unwrap(), &row.transformers),
            ("tokenizer.json", from_json.tokens(&row.caption).unwrap(), &row.bare),
        ] {
            assert!(found.len() <= 128 && found.last() == Some(&1), "{:?} ends with its mark", row.caption);
            if found != *expected {
                wrong.push(format!("{what}, {:?}: {found:?}, expected {expected:?}", row.caption));
            }
        }
        if row.sentencepiece.as_ref().is_some_and(|ids| *ids != row.transformers) {
            different.push(row.caption.as_str());
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), rows.len(), wrong.join("\n"));
    assert_eq!(different.len(), 2, "{different:?}");
    assert!(different[0].contains('\u{323}') && different[1].contains('\u{2028}'), "{different:?}");
}

#[test]
fn text_beyond_the_maximum_length_is_named() {
    let encoder = encoder("gated", 6, Padding::Longest);
    for (caption, lost) in [("a red", None), ("a red apple on a table", Some(" on a table"))] {
        let kept = &caption[..caption.len() - lost.map_or(0, str::len)];
        // The tiny vocabulary cuts words into pieces; what is kept and what is lost are the caption all the same.
        match encoder.cut_text(caption).unwrap() {
            None => assert_eq!(lost, None, "{caption}"),
            Some(cut) => {
                assert!(lost.is_some() && caption.ends_with(cut) && cut.len() >= lost.unwrap().len(), "{kept}")
            }
        }
    }
    assert_eq!(encoder.tokens("a red apple on a table").unwrap().len(), 6);
}

#[test]
fn the_folder_and_the_options_make_the_identity() {
    let identity = |name, padding, storage| {
        let options = TextOptions { max_length: 77, padding, storage };
        load(files(name), &options, &crate::device()).unwrap().identity().to_string()
    };
    let all = [
        identity("gated", Padding::Longest, Storage::Stored),
        identity("gated", Padding::MaxLength, Storage::Stored),
        identity("gated", Padding::Longest, Storage::Int8),
        identity("plain", Padding::Longest, Storage::Stored),
    ];
    assert!(all[0].starts_with("t5-") && all[2].ends_with("-77-int8"), "{all:?}");
    assert_eq!(all.iter().collect::<std::collections::HashSet<_>>().len(), 4, "{all:?}");
}

#[test]
fn damaged_files_are_refused_by_what_is_wrong() {
    let refused = |files: EncoderFiles| {
        let error = load(files, &TextOptions::default(), &crate::device()).err().expect("refused");
        assert_eq!(error.kind(), ErrorKind::Model);
        format!("{error:#}")
    };
    let second = "model-00002-of-00002.safetensors";
    let plain = files("plain");
    let truncated = plain.get(second).unwrap()[..5000].to_vec();
    let mut not_finite = files("gated").get("model.safetensors").unwrap().to_vec();
    let end = not_finite.len();
    not_finite[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    let other_layers = String::from_utf8(plain.get("config.json").unwrap().to_vec()).unwrap();
    let other_layers =
        other_layers.replace("\"num_layers\": 2", "\"num_layers\": 3").replace("\"d_ff\": 36", "\"d_ff\": 35");
    for (files, parts) in [
        (plain.clone().with(second, truncated), vec![second, "not a usable safetensors file", "truncated"]),
        (
            plain.clone().with("config.json", other_layers.into_bytes()),
            vec![
                "model.safetensors.index.json does not fit",
                "`encoder.block.2.layer.0.SelfAttention.q.weight` is missing (expected [32, 24])",
                "`encoder.block.0.layer.1.DenseReluDense.wi.weight` has shape [36, 24] (expected [35, 24])",
            ],
        ),
        (plain.clone().with("tokenizer.json", &b"{}"[..]), vec!["tokenizer.json is not a usable tokenizer"]),
        (files("gated").with("spiece.model", &b"??"[..]), vec!["spiece.model is not a SentencePiece model"]),
    ] {
        let message = refused(files);
        for part in parts {
            assert!(message.contains(part), "{part} is not in: {message}");
        }
    }
    // the last tensor of the file is one of the decoder or of the table: whichever it is, only what is read is judged
    let options = TextOptions::default();
    if let Err(error) = load(files("gated").with("model.safetensors", not_finite), &options, &crate::device()) {
        assert!(format!("{error:#}").contains("holds a number that is not finite"), "{error:#}");
    }
    for max_length in [0, 1, 2049] {
        let options = TextOptions { max_length, ..TextOptions::default() };
        let error = load(files("plain"), &options, &crate::device()).err().expect("refused");
        assert_eq!(error.kind(), ErrorKind::Usage, "{error:#}");
    }
}

#[test]
fn a_configuration_that_this_network_is_not_is_refused_by_its_key() {
    let good: serde_json::Value = serde_json::from_slice(files("plain").get("config.json").unwrap()).unwrap();
    for (key, value) in [
        ("model_type", serde_json::json!("umt5")),
        ("feed_forward_proj", serde_json::json!("gated-silu")),
        ("d_model", serde_json::json!(0)),
        ("num_layers", serde_json::json!(1u64 << 20)),
        ("d_ff", serde_json::json!(1u64 << 60)),
        ("relative_attention_num_buckets", serde_json::json!(31)),
        ("relative_attention_max_distance", serde_json::json!(8)),
        ("layer_norm_epsilon", serde_json::json!(-1.0)),
    ] {
        let mut config = good.clone();
        config[key] = value.clone();
        let error = T5Config::from_json(config.to_string().as_bytes()).expect_err(key);
        let message = format!("{error:#}");
        assert!(message.contains(key) || message.contains("gated-silu"), "{key}: {message}");
    }
}

/// Random weights of T5 v1.1 small's shape, spread as in a trained network: each matrix keeps the size of what it maps.
fn small(path: &Path) -> T5Config {
    let config = T5Config {
        model_type: "t5".into(),
        vocab_size: 512,
        d_model: 512,
        d_kv: 64,
        d_ff: 1024,
        num_layers: 8,
        num_heads: 6,
        relative_attention_num_buckets: 32,
        relative_attention_max_distance: 128,
        layer_norm_epsilon: 1e-6,
        feed_forward_proj: FeedForwardKind::GatedGelu,
    };
    let (rng, mut tensors) = (Rng::new(9), Vec::new());
    let mut add = |name: String, shape: [usize; 2], std: f32| {
        let values = rng.fold(tensors.len() as u64).normal(shape[0] * shape[1]).into_iter().map(|x| x * std).collect();
        tensors.push(NamedTensor { name, shape: shape.to_vec(), values: Cow::Owned(values) });
    };
    add("shared.weight".into(), [512, 512], 1.0);
    let distances = "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight";
    add(distances.into(), [32, 6], 1.0);
    for block in (0..8).map(|i| format!("encoder.block.{i}.layer")) {
        // scores are not scaled: queries are small
        for (part, std) in [("q", 0.0055), ("k", 0.044), ("v", 0.044)] {
            add(format!("{block}.0.SelfAttention.{part}.weight"), [384, 512], std);
        }
        add(format!("{block}.0.SelfAttention.o.weight"), [512, 384], 0.05);
        for part in ["wi_0", "wi_1"] {
            add(format!("{block}.1.DenseReluDense.{part}.weight"), [1024, 512], 0.044);
        }
        add(format!("{block}.1.DenseReluDense.wo.weight"), [512, 1024], 0.03);
    }
    let ones = |name: String| NamedTensor { name, shape: vec![512], values: Cow::Owned(vec![1.0; 512]) };
    for block in (0..8).map(|i| format!("encoder.block.{i}.layer")) {
        tensors.extend([0, 1].map(|part| ones(format!("{block}.{part}.layer_norm.weight"))));
    }
    tensors.push(ones("encoder.final_layer_norm.weight".into()));
    write_safetensors(path, &tensors, &HashMap::new(), Precision::F32).unwrap();
    config
}

/// Stated for T5 v1.1 small's shape with random weights: the embeddings' relative error against f32 is at most 3e-2 in int8 (it is 2.3e-2),
/// 1e-2 in bf16 and 1e-3 in f16.
#[test]
fn smaller_weights_change_embeddings_by_no_more_than_stated() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let config = small(&path);
    let weights = Weights::open(&path).unwrap();
    let ids: Vec<u32> = (0..77).map(|i| (i * 37 + 11) % 512).collect();
    let states = |storage| {
        let network = T5::new(config.clone(), &weights, storage, &crate::device()).unwrap();
        values(network.forward(&ids, &[true; 77], 1).unwrap().into_data())
    };
    let exact = states(Storage::Stored);
    for (storage, limit) in [(Storage::F32, 0.0), (Storage::F16, 1e-3), (Storage::Bf16, 1e-2), (Storage::Int8, 3e-2)] {
        let e = error(&states(storage), &exact);
        println!("{storage:?}: relative error {e:.2e}");
        assert!(e <= limit, "{storage:?}: relative error {e:e}");
        assert!(limit == 0.0 || e > limit / 100.0, "{storage:?} is another form: {e:e}");
    }
}

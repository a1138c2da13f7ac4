//! Input from outside that nobody wrote: headers of safetensors, indexes of shards and configurations, changed at random. Whatever
//! comes of it is a value or an error of the documented kind with one line of text, never a panic, and never memory beyond
//! what a file of that size could ask for.
//!
//! Each case starts from a golden file; `PROPTEST_CASES=100000 cargo test --release -p imagen --test it fuzz::` looks longer.

use std::path::Path;

use burn::tensor::Device;
use imagen::cascade::deepfloyd::Process;
use imagen::image::Preparation;
use imagen::models::bert::BertConfig;
use imagen::models::clip::ClipConfig;
use imagen::models::if_unet::{IfUnet, IfUnetConfig};
use imagen::models::t5::T5Config;
use imagen::models::weights::{Weights, shard_names};
use imagen::{Error, ErrorKind};
use proptest::prelude::*;
use serde_json::{Value, json};

fn golden(name: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)).unwrap()
}

/// A source of choices.
struct Choices(u64);

impl Choices {
    fn pick(&mut self, below: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % below.max(1)
    }

    /// A value that a careless or hostile writer might put anywhere.
    fn awkward(&mut self) -> Value {
        let all = [
            json!(null),
            json!(true),
            json!(0),
            json!(-1),
            json!(1),
            json!(7),
            json!(1e308),
            json!(0.5),
            json!(u64::MAX),
            json!(i64::MIN),
            json!(1u64 << 40),
            json!(""),
            json!("silu"),
            json!("\u{0}\u{202e}"),
            json!([]),
            json!([8, 8]),
            json!([[0]]),
            json!(vec![1; 300]),
            json!({}),
            json!({"a": {"b": []}}),
        ];
        all[self.pick(all.len())].clone()
    }

    /// Changes one place of a document.
    fn change(&mut self, value: &mut Value) {
        match value {
            Value::Object(map) if !map.is_empty() && self.pick(8) > 0 => {
                let key = map.keys().nth(self.pick(map.len())).unwrap().clone();
                match self.pick(6) {
                    0 => drop(map.remove(&key)),
                    1 => drop(map.insert(format!("{key}x"), self.awkward())),
                    _ => self.change(map.get_mut(&key).unwrap()),
                }
            }
            Value::Array(list) if !list.is_empty() && self.pick(4) > 0 => {
                let index = self.pick(list.len());
                match self.pick(5) {
                    0 => drop(list.remove(index)),
                    1 => list.push(self.awkward()),
                    _ => self.change(&mut list[index]),
                }
            }
            Value::Number(number) if self.pick(2) > 0 => {
                let near = number.as_i64().unwrap_or(1);
                let all = [near.wrapping_add(1), near.wrapping_sub(1), near.wrapping_mul(2), near.wrapping_neg()];
                *value = json!(all[self.pick(all.len())]);
            }
            _ => *value = self.awkward(),
        }
    }

    /// Some changes of a JSON text; now and then of its bytes.
    fn changed(&mut self, text: &[u8]) -> Vec<u8> {
        let mut value: Value = serde_json::from_slice(text).unwrap();
        for _ in 0..=self.pick(3) {
            self.change(&mut value);
        }
        let mut bytes = value.to_string().into_bytes();
        if self.pick(4) == 0 {
            self.bytes(&mut bytes);
        }
        bytes
    }

    fn bytes(&mut self, bytes: &mut Vec<u8>) {
        for _ in 0..=self.pick(3) {
            let at = self.pick(bytes.len());
            match self.pick(3) {
                0 => bytes.truncate(at),
                1 if !bytes.is_empty() => bytes[at] = self.pick(256) as u8,
                _ => bytes.insert(at.min(bytes.len()), self.pick(256) as u8),
            }
        }
    }
}

/// An error that a program can act on and a person can read.
fn sound<T>(result: Result<T, Error>) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(error) => {
            let text = format!("{error:#}");
            assert_eq!(error.kind(), ErrorKind::Model, "{text}");
            assert!(!text.is_empty() && !text.contains('\n'), "{text:?}");
            None
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn configurations_changed_at_random_are_read_or_refused(seed in any::<u64>()) {
        let mut choices = Choices(seed);
        for name in ["if/one/unet/config.json", "if/two/unet/config.json"] {
            let changed = choices.changed(&golden(name));
            if let Some(config) = sound(IfUnetConfig::from_json(&changed)) {
                // what is read can be listed, and counted
                let tensors = IfUnet::tensors(&config, &Device::flex());
                prop_assert!(!tensors.is_empty());
                let side = config.sample_size.min(1 << 12);
                prop_assert!(config.map_bytes(side) < u64::MAX / 2);
            }
        }
        for name in ["if/one/scheduler/scheduler_config.json", "if/two/image_noising_scheduler/scheduler_config.json"] {
            if let Some(process) = sound(Process::from_json(&choices.changed(&golden(name)))) {
                prop_assert!(process.alphas_cumprod().iter().all(|bar| bar.is_finite()));
            }
        }
        for name in ["t5/gated/config.json", "t5/plain/config.json"] {
            sound(T5Config::from_json(&choices.changed(&golden(name))));
        }
        for name in ["bert/tiny/config.json", "roberta/tiny/config.json"] {
            sound(BertConfig::from_json(&choices.changed(&golden(name))));
        }
        for name in ["clip/tiny/config.json", "if/safety/safety_checker/config.json"] {
            sound(ClipConfig::from_json(&choices.changed(&golden(name))));
        }
        let preparation = choices.changed(&golden("clip/tiny/preprocessor_config.json"));
        if let Some(preparation) = sound(Preparation::read(&preparation)) {
            sound(preparation.check(24));
        }
        let index = choices.changed(&golden("if/one/unet/diffusion_pytorch_model.safetensors.index.json"));
        for name in sound(shard_names("index", &index)).unwrap_or_default() {
            prop_assert!(!name.contains('/') && name != "..", "{}", name);
        }
    }

    #[test]
    fn headers_changed_at_random_are_read_or_refused(seed in any::<u64>()) {
        let mut choices = Choices(seed);
        let header = r#"{"__metadata__":{"format":"pt"},"a":{"dtype":"F16","shape":[2,3],"data_offsets":[0,12]},
            "b":{"dtype":"F32","shape":[1],"data_offsets":[12,16]},"c":{"dtype":"I8","shape":[2,2],"data_offsets":[16,20]},
            "c.scale":{"dtype":"F32","shape":[2],"data_offsets":[20,28]}}"#;
        let header = choices.changed(header.as_bytes());
        let announced = if choices.pick(8) == 0 { choices.pick(1 << 30) } else { header.len() };
        let mut file = (announced as u64).to_le_bytes().to_vec();
        file.extend(header);
        file.extend(vec![1; 28]);
        if choices.pick(4) == 0 {
            choices.bytes(&mut file);
        }
        if let Some(weights) = sound(Weights::from_bytes(file, "changed")) {
            let names: Vec<String> = weights.names().map(str::to_owned).collect();
            for name in names {
                let shape = weights.shape(&name).unwrap().to_vec();
                if let Some(values) = sound(weights.tensor_f32(&name, &shape)) {
                    prop_assert_eq!(values.len(), shape.iter().product::<usize>());
                }
            }
            sound(weights.require_exactly(&[("a".into(), vec![2, 3])]));
        }
    }
}

//! Makes a weaker text encoder from a folder of BERT's family, for ablations of the encoder (figure 4a of the paper):
//! of its first blocks only, or of the same shape with weights that were never trained.
//!
//! ```sh
//! cargo run --release --package imagen --example text_encoder_variant -- models/minilm encoders/two --blocks 2
//! cargo run --release --package imagen --example text_encoder_variant -- models/minilm encoders/random --random 1
//! ```
//!
//! Untrained matrices are normal with a standard deviation of 0.02, biases 0 and scales of normalisations 1, as before the
//! pretraining of BERT (Devlin et al. 2019, its published code).

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::path::Path;

use imagen::rng::Rng;
use safetensors::tensor::{Dtype, SafeTensors, TensorView, serialize};

const USAGE: &str = "usage: text_encoder_variant FOLDER OUTPUT --blocks N | --random SEED";
const DEVIATION: f32 = 0.02;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [from, to, what, number] = arguments.as_slice() else { return Err(USAGE.into()) };
    let (from, to, number) = (Path::new(from), Path::new(to), number.parse::<u64>()?);
    let mut config: serde_json::Value = serde_json::from_slice(&fs::read(from.join("config.json"))?)?;
    let bytes = fs::read(from.join("model.safetensors"))?;
    let weights = SafeTensors::deserialize(&bytes)?;
    let mut kept: BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)> = BTreeMap::new();
    match what.as_str() {
        "--blocks" => {
            let blocks = config["num_hidden_layers"].as_u64().unwrap_or(0);
            if !(1..=blocks).contains(&number) {
                return Err(format!("--blocks {number}: the encoder has {blocks}").into());
            }
            config["num_hidden_layers"] = number.into();
            for (name, tensor) in weights.tensors() {
                if block(&name).is_none_or(|block| block < number) {
                    kept.insert(name, (tensor.dtype(), tensor.shape().to_vec(), tensor.data().to_vec()));
                }
            }
        }
        "--random" => {
            for (at, (name, tensor)) in
                weights.tensors().into_iter().collect::<BTreeMap<_, _>>().into_iter().enumerate()
            {
                let n = tensor.shape().iter().product();
                let values = match (tensor.shape().len(), name.ends_with("weight") || name.ends_with("gamma")) {
                    (1, true) => vec![1.0; n],
                    (1, false) => vec![0.0; n],
                    _ => Rng::new(number).fold(at as u64).normal(n).into_iter().map(|x| DEVIATION * x).collect(),
                };
                let bytes = values.iter().flat_map(|x: &f32| x.to_le_bytes()).collect();
                kept.insert(name, (Dtype::F32, tensor.shape().to_vec(), bytes));
            }
        }
        _ => return Err(USAGE.into()),
    }
    let views =
        kept.iter().map(|(name, (dtype, shape, data))| Ok((name, TensorView::new(*dtype, shape.clone(), data)?)));
    let views: Vec<_> = views.collect::<Result<_, safetensors::SafeTensorError>>()?;
    fs::create_dir_all(to)?;
    fs::write(to.join("model.safetensors"), serialize(views, None)?)?;
    fs::copy(from.join("tokenizer.json"), to.join("tokenizer.json"))?;
    // last: a folder with it is whole
    fs::write(to.join("config.json"), serde_json::to_string_pretty(&config)?)?;
    Ok(())
}

/// The number of the block that a tensor belongs to.
fn block(name: &str) -> Option<u64> {
    name.split_once("encoder.layer.")?.1.split('.').next()?.parse().ok()
}

//! Where a stage's error sits, by noise level and by frequency, on coloured shapes that it was not trained on: what DESIGN.md says
//! about residual blocks at full resolution.
//!
//!     cargo run --release -p imagen --example error_by_frequency -- STAGE.safetensors...
//!
//! Each cell is the part of the target that the network's output does not explain: of the means of 2×2 pixels ("coarse", which a
//! network at half resolution holds as they are), and of what pixels differ from them by ("fine"). 1.00 is an output of zeros.
//! Every caption is dropped.

use std::error::Error;
use std::path::Path;

use burn::tensor::{Device, Tensor, TensorData};
use imagen::cascade::StageFile;
use imagen::data::shapes;
use imagen::diffusion::{LogSnr, diffuse, noise};
use imagen::models::unet::{Conditioning, Text};
use imagen::rng::Rng;

const PICTURES: usize = 64;
/// Seed of the pictures: no recipe's.
const SEED: u64 = 77;
const LEVELS: [f64; 8] = [-8.0, -4.0, -2.0, 0.0, 2.0, 4.0, 6.0, 8.0];

/// Squares of the means of 2×2 pixels, and of what is left, summed over `[n, h, w, c]`.
fn powers(x: Tensor<4>) -> Result<[f64; 2], Box<dyn Error>> {
    let [n, h, w, c] = x.dims();
    let blocks = x.reshape([n * h / 2, 2, w / 2, 2, c]);
    let means = blocks.clone().mean_dim(3).mean_dim(1);
    let sum = |x: Tensor<5>| f64::from(x.square().sum().into_scalar::<f32>());
    Ok([4.0 * sum(means.clone()), sum(blocks - means)])
}

fn main() -> Result<(), Box<dyn Error>> {
    let device = Device::flex();
    for path in std::env::args().skip(1) {
        let stage = StageFile::open(Path::new(&path))?.build(&device)?;
        let (config, unet) = (&stage.config, stage.unet()?);
        if config.unet.low_resolution {
            return Err(format!("{path}: expected a base stage").into());
        }
        let drawn = (0..PICTURES as u64).map(|index| shapes::example(index, config.size, SEED).0);
        let values: Vec<f32> =
            drawn.flat_map(|p| p.pixels().iter().map(|&x| f32::from(x) / 127.5 - 1.0).collect::<Vec<_>>()).collect();
        let x = Tensor::<4>::from_data(TensorData::new(values, [PICTURES, config.size, config.size, 3]), &device);
        let keys: Vec<Rng> = (0..PICTURES as u64).map(|k| Rng::new(SEED).fold(k)).collect();
        let eps = noise(&keys, x.dims(), &device);
        println!("{path}, {}-prediction\n  log-SNR   coarse   fine", config.parameterization);
        for level in LEVELS {
            let levels = [LogSnr::new(level); PICTURES];
            let z = diffuse(x.clone(), eps.clone(), &levels);
            let text = Text {
                sequence: Tensor::zeros([PICTURES, 1, config.unet.text_dim], &device),
                mask: Tensor::ones([PICTURES, 1], &device),
            };
            let conditioning = Conditioning { log_snr: vec![level; PICTURES], text: Some(text), low_resolution: None };
            let target = config.parameterization.target(x.clone(), eps.clone(), &levels);
            let error = powers(unet.forward(z, &conditioning)? - target.clone())?;
            let whole = powers(target)?;
            println!("  {level:>7.0} {:>8.3} {:>6.3}", error[0] / whole[0], error[1] / whole[1]);
        }
    }
    Ok(())
}

//! What stands in for a dropped text is one thing in training and in drawing: without guidance's conditional half, a stage
//! predicts what it predicts for the null text itself.

use burn::tensor::{Tensor, TensorData};
use imagen::cascade::{Conditions, NullText, Stage, StageConfig, StageName};
use imagen::diffusion::{Guidance, LogSnr, Parameterization, Thresholding};
use imagen::models::unet::{Level, Text, Unet, UnetConfig};
use imagen::nn::{self, Init};
use imagen::rng::Rng;

const D: usize = 6;

fn normal<const N: usize>(stream: u64, shape: [usize; N]) -> Tensor<N> {
    let values = Rng::new(5).fold(stream).normal(shape.iter().product());
    Tensor::from_data(TensorData::new(values, shape), &crate::device())
}

/// A base of 8×8 pixels with one level that attends to itself and to the text.
pub(super) fn config(null_text: NullText) -> StageConfig {
    let tokens = if null_text == NullText::Zeros { 0 } else { 2 };
    let level = Level { self_attention: true, text_attention: true, ..Level::plain(8) };
    let unet = UnetConfig {
        channels: 8,
        embedding: 16,
        text_width: 8,
        levels: vec![level],
        heads: imagen::models::unet::Heads::Count(2),
        groups: 2,
        null_text: tokens,
        ..UnetConfig::base64(D)
    };
    let parameterization = Parameterization::V;
    StageConfig { parameterization, null_text, ..StageConfig::new(StageName::Base, 8, None, unet) }
}

fn stage(null_text: NullText) -> Stage {
    let config = config(null_text);
    config.validate().unwrap();
    let unet = Unet::new(&config.unet, &mut Init::zeros(&crate::device())).unwrap();
    let mut drawn = 0;
    let unet = nn::import(unet, |_, shape| {
        drawn += 1;
        Ok(Rng::new(6).fold(drawn).normal(shape.iter().product()).into_iter().map(|x| 0.3 * x).collect())
    });
    Stage::new(config, unet.unwrap())
}

#[test]
fn the_unconditional_prediction_is_that_of_the_null_text() {
    for null_text in [NullText::Zeros, NullText::Learned, NullText::Empty] {
        let stage = stage(null_text);
        let z = normal(1, [2, 8, 8, 3]);
        let predict = |text: Text, guidance: f64| {
            let guidance = Guidance::new(guidance).unwrap();
            let conditions = Conditions {
                text: Some(text.into()),
                low_resolution: None,
                guidance,
                thresholding: Thresholding::None,
                ..Conditions::default()
            };
            let x_hat = stage.denoise(z.clone(), LogSnr::new(0.5), &conditions).unwrap();
            x_hat.into_data().try_to_vec::<f32>().unwrap()
        };
        for tokens in [1, 4] {
            let text = Text { sequence: normal(2, [2, tokens, D]), mask: Tensor::ones([2, tokens], &crate::device()) };
            let null = match stage.unet().unwrap().null_text() {
                None => Text { sequence: text.sequence.zeros_like(), mask: text.mask.clone() },
                Some(null) => Text {
                    sequence: null.unsqueeze_dim::<3>(0).repeat_dim(0, 2),
                    mask: Tensor::ones([2, 2], &crate::device()),
                },
            };
            let (unconditional, expected) = (predict(text.clone(), 0.0), predict(null, 1.0));
            let far = unconditional.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(far < 1e-5, "{null_text:?}, {tokens} tokens: {far:e} away");
            assert!(predict(text, 1.0).iter().zip(&expected).any(|(a, b)| (a - b).abs() > 1e-3), "text says nothing");
        }
    }
}

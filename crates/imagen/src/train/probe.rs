//! The conditioning probe: what the captions are worth to the network.
//!
//! The loss of held-out pictures under fixed noise, at times spread evenly over [0, 1], is taken three times: with the
//! right captions, with captions that belong to other pictures, and with none. A network that reads its text is best
//! with the right ones and worst with the wrong ones; equal losses say that the text is not used. All three see the same
//! noise, so that their differences are far quieter than each of them.
//!
//! Nothing is learned from here, and no number depends on the run's seed or on micro-batches.

use std::ops::Range;
use std::rc::Rc;

use burn::tensor::{Device, Tensor};

use super::batch_loss::{low_resolution, objective, pictures};
use super::held_out;
use super::report::ProbeReport;
use super::run::Run;
use super::texts::Texts;
use crate::data::{Pixels, Source};
use crate::error::Result;
use crate::models::unet::{Conditioning, LowResolution, Text, Unet};
use crate::rng::Rng;

/// Pictures that are looked at.
const PICTURES: usize = 32;
/// The probe's own seed, and its streams.
const SEED: u64 = 0x9b0e;
mod stream {
    pub(super) const WINDOW: u64 = 0;
    pub(super) const DIFFUSION: u64 = 1;
    pub(super) const AUG_LEVEL: u64 = 2;
    pub(super) const AUG_NOISE: u64 = 3;
}

/// The fixed pictures and captions.
pub(super) struct Probe<'a> {
    run: &'a Run,
    texts: Rc<Texts<'a>>,
    pictures: Pixels,
    low: Option<Pixels>,
    /// No two are equal.
    captions: Vec<String>,
}

impl<'a> Probe<'a> {
    /// Held-out pictures of `source` with captions that differ from one another; none where there are not two. `texts` has
    /// the captions' embeddings.
    pub(super) fn new(run: &'a Run, texts: Rc<Texts<'a>>, source: &Source) -> Result<Option<Self>> {
        let transform = run.recipe.transform();
        let source = held_out::source(source)?;
        let (mut values, mut low_values, mut captions) = (Vec::new(), Vec::new(), Vec::new());
        for (example, picture) in held_out::examples(&source, &transform) {
            let caption = example.captions.first().map(|caption| &source.captions()[*caption]);
            let Some(caption) = caption.filter(|caption| !captions.contains(*caption)) else { continue };
            let key = Rng::new(SEED).fold(stream::WINDOW).fold(captions.len() as u64);
            let sample = transform.sample(&picture, key)?;
            values.extend(sample.picture.into_values());
            low_values.extend(sample.low_res.into_iter().flat_map(crate::image::FloatPicture::into_values));
            captions.push(caption.clone());
            if captions.len() == PICTURES {
                break;
            }
        }
        let (n, side) = (captions.len(), transform.side());
        let pixels = |values, side| Pixels { values, shape: [n, side, side, transform.channels] };
        let low = transform.low_size.map(|_| pixels(low_values, side / transform.factor()));
        Ok((n > 1).then(|| Self { run, texts, pictures: pixels(values, side), low, captions }))
    }

    /// The three losses of a network on the inner device, after `step` steps.
    ///
    /// # Errors
    /// The network's.
    pub(super) fn measure(&self, unet: &Unet, step: u64) -> Result<ProbeReport> {
        let n = self.captions.len();
        let train = &self.run.recipe.train;
        let size = train.micro_batch.unwrap_or(train.batch).min(n);
        let mut sums = [0.0; 3];
        for first in (0..n).step_by(size) {
            let losses = self.part(unet, first..(first + size).min(n))?;
            (0..3).for_each(|i| sums[i] += losses[i]);
        }
        let [right_caption, shuffled_captions, no_caption] = sums.map(|sum| sum / n as f64);
        Ok(ProbeReport { step, pictures: n, right_caption, shuffled_captions, no_caption })
    }

    /// The summed losses of some of the pictures: right captions, others', none.
    fn part(&self, unet: &Unet, part: Range<usize>) -> Result<[f64; 3]> {
        let (device, n) = (&self.run.device, self.captions.len());
        let (rng, count) = (Rng::new(SEED), part.len());
        let x = pictures(&self.pictures, &part, device);
        let noised = objective(&self.run.recipe).q_sample(x, rng.fold(stream::DIFFUSION), part.clone(), n);
        let low_resolution = self.low_resolution(rng, part.clone(), device);
        let right = self.text(part.clone().map(|i| &self.captions[i]), device)?;
        // every caption moves on by one, so none stays
        let shuffled = self.text(part.map(|i| &self.captions[(i + 1) % n]), device)?;
        let none = self.run.recipe.stage.null_text.replace(unet, right.clone(), &vec![true; count]);
        let loss = |text: Text| -> Result<f64> {
            let log_snr = noised.levels().iter().map(|level| level.get()).collect();
            let low_resolution = low_resolution.clone();
            let prediction = unet.forward(noised.z(), &Conditioning { log_snr, text: Some(text), low_resolution })?;
            Ok(noised.clone().loss(prediction).per_picture.into_data().iter::<f64>().sum())
        };
        Ok([loss(right)?, loss(shuffled)?, loss(none)?])
    }

    fn low_resolution(&self, rng: Rng, part: Range<usize>, device: &Device) -> Option<LowResolution> {
        let low: Tensor<4> = pictures(self.low.as_ref()?, &part, device);
        let keys = [stream::AUG_LEVEL, stream::AUG_NOISE].map(|stream| rng.fold(stream));
        Some(low_resolution(low, &self.run.recipe.stage, self.pictures.shape[2], keys, part))
    }

    /// Captions as a batch.
    fn text<'c>(&self, captions: impl Iterator<Item = &'c String>, device: &Device) -> Result<Text> {
        Ok(self.texts.embed(&captions.collect::<Vec<_>>(), device)?.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::shapes;
    use crate::nn::{self, Init};
    use crate::text::{EmbeddingCache, EncoderFiles, TextEmbedding, TextEncoder};
    use crate::train::{Recipe, Run};

    const RECIPE: &str = r#"
        [stage]
        stage = "sr256"
        size = 16
        low_size = 8
        schedule = "cosine"
        parameterization = "v"

        [stage.unet]
        layout = "efficient"
        image_channels = 3
        low_resolution = true
        channels = 4
        embedding = 8
        text_dim = 6
        text_width = 8
        levels = [{ channels = 8, blocks = 1, text_attention = true }]
        heads = { count = 2 }
        attention_expansion = 1
        text_attention = "concatenated"
        text_pooling = "attention"
        skip_scale = "residual"
        skip_join = "concatenate"
        groups = 2

        [data]
        folder = "data"
        crop = 8

        [train]
        steps = 1
        batch = 8
        lr = 1e-3
        warmup = 0
        ema_decay = 0.9
    "#;

    /// A vector of its own for each caption; as many tokens as words.
    struct Words;

    impl TextEncoder for Words {
        fn encode(&self, captions: &[&str]) -> Result<TextEmbedding> {
            let words: Vec<usize> = captions.iter().map(|caption| caption.split(' ').count()).collect();
            let most = *words.iter().max().unwrap();
            let (mut sequence, mut mask) = (Vec::new(), Vec::new());
            for (caption, words) in captions.iter().zip(words) {
                let key = caption.bytes().fold(Rng::new(0), |key, byte| key.fold(u64::from(byte)));
                sequence.extend(key.normal(words * 6));
                sequence.extend(vec![0.0; (most - words) * 6]);
                mask.extend((0..most).map(|i| f32::from(u8::from(i < words))));
            }
            let (device, n) = (Device::flex(), captions.len());
            Ok(TextEmbedding {
                sequence: Tensor::from_data(burn::tensor::TensorData::new(sequence, [n, most, 6]), &device),
                mask: Tensor::from_data(burn::tensor::TensorData::new(mask, [n, most]), &device),
            })
        }

        fn cut_text<'a>(&self, _: &'a str) -> Result<Option<&'a str>> {
            Ok(None)
        }

        fn dim(&self) -> usize {
            6
        }

        fn max_length(&self) -> usize {
            64
        }

        fn identity(&self) -> &str {
            "words"
        }
    }

    /// Probes a network whose weights are random, or as they are before training.
    fn probe(random: bool, micro_batch: Option<usize>) -> ProbeReport {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        shapes::write(&data, 300, 16, 1).unwrap();
        let mut recipe = Recipe::parse(RECIPE).unwrap();
        recipe.train.micro_batch = micro_batch;
        let text = EncoderFiles::new("", []);
        let device = Device::flex();
        let run = Run {
            recipe,
            folder: folder.path().to_owned(),
            resume: false,
            init_from: None,
            text,
            device: device.clone(),
        };
        let source = Source::open(&data).unwrap();
        let cache = folder.path().join("captions.safetensors");
        let cache = EmbeddingCache::build(&cache, source.captions(), &Words, &mut |_| {}).unwrap();
        let unet = Unet::new(&run.recipe.stage.unet, &mut Init::new(&device, Rng::new(3))).unwrap();
        let unet = if random { with_random_weights(unet) } else { unet };
        let texts = Rc::new(Texts::Cached { cache, max_tokens: 64 });
        let probe = Probe::new(&run, texts, &source).unwrap().unwrap();
        probe.measure(&unet, 7).unwrap()
    }

    /// New networks end in zeros; this one says something.
    fn with_random_weights(unet: Unet) -> Unet {
        let mut drawn = 0;
        nn::import(unet, |_, shape| {
            drawn += 1;
            let values = Rng::new(1).fold(drawn).normal(shape.iter().product());
            Ok(values.into_iter().map(|x| 0.2 * x).collect())
        })
        .unwrap()
    }

    #[test]
    fn to_an_untrained_network_all_captions_are_alike() {
        let report = probe(false, None);
        assert!(report.pictures > 1 && report.step == 7 && report.right_caption > 0.1, "{report:?}");
        assert_eq!(report.right_caption, report.shuffled_captions);
        assert_eq!(report.right_caption, report.no_caption);
    }

    #[test]
    fn the_numbers_are_the_same_for_any_micro_batch() {
        let whole = probe(true, None);
        let gaps = [whole.right_caption - whole.shuffled_captions, whole.right_caption - whole.no_caption];
        assert!(gaps.iter().all(|gap| gap.abs() > 1e-4), "captions make a difference: {whole:?}");
        for micro_batch in [1, 4] {
            let parts = probe(true, Some(micro_batch));
            let close = |a: f64, b: f64| (a / b - 1.0).abs() < 1e-5;
            assert!(close(parts.right_caption, whole.right_caption), "{parts:?}, {whole:?}");
            assert!(close(parts.shuffled_captions, whole.shuffled_captions), "{parts:?}, {whole:?}");
            assert!(close(parts.no_caption, whole.no_caption), "{parts:?}, {whole:?}");
        }
    }
}

//! The loop that draws, as an iterator of events: the caller pulls, one evaluation of a network per event.
//!
//! ```text
//! for window in pictures { for stage in stages { for batch in window { for step in stage.steps(batch) } } }
//! ```
//!
//! A window is a batch where all networks may be in memory, so that a picture is there as soon as it is ready; it is all
//! pictures where only one network is (DeepFloyd IF). Every random number is keyed by (the picture's seed, the stage, its use),
//! so that a batch's size and neighbours do not matter.

use std::collections::VecDeque;
use std::ops::Range;

use burn::tensor::Tensor;
use tracing::info_span;

use super::config::StageName;
use super::deepfloyd::Verdict;
use super::model::{Denoiser, Imagen};
use super::request::Request;
use super::settings::StageSettings;
use super::stage::Steps;
use super::texts::Texts;
use crate::diffusion::{Key, StepEvent, noise_of};
use crate::error::{Context, Error, Result};
use crate::image::Picture;
use crate::nn::ops;

/// What happens while pictures are drawn.
#[derive(Clone, Debug)]
pub enum Event {
    /// A network was evaluated once for a batch of pictures.
    Step {
        /// The stage that runs.
        stage: StageName,
        /// This step, from 0.
        index: usize,
        /// Steps of the stage.
        of: usize,
        /// Which pictures of the request.
        pictures: Range<usize>,
        /// The current estimate of the clean pictures, `[n, h, w, c]`.
        x_hat: Tensor<4>,
    },
    /// A stage has finished a picture.
    Image {
        /// The stage.
        stage: StageName,
        /// Whether it is the request's last stage.
        last: bool,
        /// Which picture of the request.
        index: usize,
        /// Its prompt.
        prompt: String,
        /// Its seed.
        seed: u64,
        /// The picture; black where a safety checker withholds it.
        picture: Picture,
        /// What the safety checker found, where the model has one.
        verdict: Option<Verdict>,
    },
}

/// A request in progress; see [`Imagen::sample`].
pub struct Drawing<'a> {
    imagen: &'a Imagen,
    request: Request,
    stages: Vec<(StageName, StageSettings)>,
    batch: usize,
    /// First picture that is in no window yet.
    next: usize,
    window: Option<Window>,
    ready: VecDeque<Event>,
    failed: bool,
}

/// Pictures on their way through the stages.
struct Window {
    pictures: Range<usize>,
    /// At each stage.
    texts: Vec<Texts>,
    /// Index into `Drawing::stages`.
    stage: usize,
    network: Option<Denoiser>,
    /// First picture that has not entered this stage.
    next: usize,
    running: Option<(Range<usize>, Steps)>,
    /// What this stage enlarges, a picture each `[1, h, w, c]`; nothing at the first.
    low: Vec<Tensor<4>>,
    /// What this stage has drawn, a picture each `[1, h, w, c]`.
    drawn: Vec<Tensor<4>>,
}

impl std::fmt::Debug for Drawing<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Drawing").field("stages", &self.stages).field("next", &self.next).finish_non_exhaustive()
    }
}

impl Imagen {
    /// Draws. Nothing runs until the iterator is pulled. The path of a picture:
    ///
    /// 1. [`Self::resolve`] lays the request's options over what each stage suggests.
    /// 2. The frozen language model encodes the prompts of a window.
    /// 3. z begins as normal noise, keyed by the picture's seed and the stage, or as a given picture with noise.
    /// 4. At each step the network predicts with the text and without, the two are guided and x̂ is thresholded
    ///    ([`Event::Step`]).
    /// 5. The sampler's rule takes z and x̂ to the next noise level; the last x̂ is the stage's picture.
    /// 6. Each super-resolution stage enlarges the picture before it, adds noise of its augmentation level, and does 3 to 5
    ///    at its own size.
    /// 7. x̂ in [-1, 1] becomes bytes ([`Event::Image`]).
    ///
    /// ```no_run
    /// use burn::tensor::Device;
    /// use imagen::cascade::{Event, Imagen, ModelFiles, Request};
    ///
    /// let model = Imagen::open(&ModelFiles::Folder("models/mine".into()), &Device::flex())?;
    /// for event in model.sample(&Request::new(vec!["a red apple".into()], 4, 7))? {
    ///     if let Event::Image { last: true, picture, seed, .. } = event? {
    ///         std::fs::write(format!("apple-{seed}.png"), imagen::image::png::encode(&picture, &Default::default())?)?;
    ///     }
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Self::resolve`]; `Usage` without prompts, or with embeddings of another number.
    pub fn sample(&self, request: &Request) -> Result<Drawing<'_>> {
        let stages = self.resolve(request)?;
        request.check()?;
        let batch = self.batch(request);
        let (request, ready) = (request.clone(), VecDeque::new());
        Ok(Drawing { imagen: self, request, stages, batch, next: 0, window: None, ready, failed: false })
    }
}

impl Drawing<'_> {
    /// How many pictures the request asks for.
    pub fn pictures(&self) -> usize {
        self.request.pictures.len()
    }

    /// The stages that run, each with its settings.
    pub fn stages(&self) -> &[(StageName, StageSettings)] {
        &self.stages
    }

    /// Encodes the next window's prompts; nothing at the end.
    fn open_window(&mut self) -> Result<Option<Window>> {
        let all = self.pictures();
        let length = if self.imagen.one_network_at_a_time() { all } else { self.batch };
        let pictures = self.next..(self.next + length).min(all);
        if pictures.is_empty() {
            return Ok(None);
        }
        self.next = pictures.end;
        let stages: Vec<StageName> = self.stages.iter().map(|(stage, _)| *stage).collect();
        let texts = self.imagen.encode(&self.request, &stages, pictures.clone())?;
        let low = match self.imagen.first_low(&self.request)? {
            Some(low) => vec![low; pictures.len()],
            None => Vec::new(),
        };
        let next = pictures.start;
        Ok(Some(Window { pictures, texts, stage: 0, network: None, next, running: None, low, drawn: Vec::new() }))
    }

    /// Lets the next batch of a window enter its stage.
    fn enter(&self, window: &mut Window) -> Result<()> {
        let (name, settings) = &self.stages[window.stage];
        if window.next == window.pictures.start {
            // buffers of the sizes that the stage before worked with
            ops::release_buffers();
        }
        let network = match &window.network {
            Some(network) => network,
            None => window.network.insert(self.imagen.network(*name)?),
        };
        let pictures = window.next..(window.next + self.batch).min(window.pictures.end);
        window.next = pictures.end;
        let within = pictures.start - window.pictures.start..pictures.end - window.pictures.start;
        let low = if window.low.is_empty() { None } else { Some(Tensor::cat(window.low[within.clone()].to_vec(), 0)) };
        let size = self.imagen.size(*name, &self.request, low.as_ref())?;
        let start = self.imagen.start(*name, &self.request, size, pictures.len())?;
        let keys: Vec<Key> = self.request.pictures[pictures.clone()].iter().map(|one| one.key(*name)).collect();
        let noise = noise_of(keys, self.imagen.device().clone());
        let steps = network.steps(settings, &window.texts[window.stage].of(within), size, low, start, noise)?;
        window.running = Some((pictures, steps));
        Ok(())
    }

    /// Hands out the pictures `[n, h, w, c]` of a finished batch.
    fn finish(&mut self, window: &mut Window, pictures: Range<usize>, drawn: &Tensor<4>) -> Result<()> {
        let stage = self.stages[window.stage].0;
        let last = window.stage + 1 == self.stages.len();
        if last && window.next == window.pictures.end {
            // the network goes before a safety checker comes
            window.network = None;
            ops::release_buffers();
        }
        for (i, (picture, index)) in to_pictures(drawn)?.into_iter().zip(pictures).enumerate() {
            let (picture, verdict) = self.imagen.judge(picture)?;
            if !last {
                window.drawn.push(drawn.clone().narrow(0, i, 1));
            }
            let (prompt, seed) = self.request.subject(index);
            let prompt = prompt.to_owned();
            self.ready.push_back(Event::Image { stage, last, index, prompt, seed, picture, verdict });
        }
        Ok(())
    }

    /// The next step of a window; nothing where it has passed all stages.
    fn step(&mut self, window: &mut Window) -> Result<Option<Event>> {
        while window.running.is_none() {
            if window.next == window.pictures.end {
                if window.stage + 1 == self.stages.len() {
                    return Ok(None);
                }
                window.stage += 1;
                window.next = window.pictures.start;
                // the old network goes before the new one comes
                window.network = None;
                window.low = std::mem::take(&mut window.drawn);
            }
            self.enter(window)?;
        }
        let (pictures, mut steps) = window.running.take().expect("just entered");
        let stage = self.stages[window.stage].0;
        let step = info_span!("step", stage = %stage).in_scope(|| steps.next());
        let step =
            step.unwrap_or_else(|| Err(Error::usage("there are no steps"))).context(|| format!("stage {stage}"))?;
        let StepEvent { index, of, x_hat, z, .. } = step;
        if index + 1 == of {
            drop(steps);
            self.finish(window, pictures.clone(), &z)?;
        } else {
            window.running = Some((pictures.clone(), steps));
        }
        Ok(Some(Event::Step { stage, index, of, pictures, x_hat }))
    }

    fn advance(&mut self) -> Result<Option<Event>> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Ok(Some(event));
            }
            let window = match self.window.take() {
                Some(window) => Some(window),
                None => self.open_window()?,
            };
            let Some(mut window) = window else { return Ok(None) };
            if let Some(event) = self.step(&mut window)? {
                self.window = Some(window);
                return Ok(Some(event));
            }
        }
    }
}

impl Iterator for Drawing<'_> {
    type Item = Result<Event>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let event = self.advance().transpose();
        self.failed = matches!(event, Some(Err(_)));
        event
    }
}

/// Pictures from `[n, h, w, c]` in [-1, 1], of 1 to 4 channels.
///
/// # Errors
/// `Usage` where the tensor has other channels.
pub fn to_pictures(x: &Tensor<4>) -> Result<Vec<Picture>> {
    let _span = tracing::debug_span!("to pictures").entered();
    let [n, h, w, c] = x.dims();
    let data = x.clone().into_data();
    let values = data.as_slice::<f32>().map_err(|e| Error::model(format!("pictures are f32: {e:?}")))?;
    (0..n).map(|i| Picture::from_floats(w, h, c, &values[i * h * w * c..(i + 1) * h * w * c])).collect()
}

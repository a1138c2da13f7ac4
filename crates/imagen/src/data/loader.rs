//! Batches whose content is a function of (seed, position).
//!
//! Position p of the endless stream of examples is picture `order(p / n)[p % n]`, where `order(e)` is the e-th epoch's
//! permutation of the n pictures, or of the n concepts, of which one picture each is then drawn; picture, caption, window
//! and mirror image are drawn from a key folded with p. So neither the batch size, the number of workers nor a stop and
//! resume changes what the p-th example is, and a checkpoint needs to keep one number.
//!
//! A picture that cannot be read, or is smaller than is asked for, is counted and named, and the next usable one of the
//! order takes its place; too many of them stop the run. Of an endless set, example p is its p-th picture, and a
//! drawing that cannot be read stops the run at once. Prepared pictures are kept as bytes up to a budget; what is
//! kept changes the speed and nothing else.

use std::collections::{BTreeMap, HashSet};
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;

use rayon::iter::{IntoParallelIterator, ParallelIterator};

use super::source::compose::Composition;
use super::source::{Source, Split, allowed};
use super::transform::{Sample, Transform};
use crate::error::{Error, Result};
use crate::image::{CHANNELS, DecodeOptions, Picture, decode};
use crate::rng::Rng;

/// Keys under the seed, one for each purpose.
const ORDER: u64 = 0;
const DRAW: u64 = 1;
/// Keys under an example's draw.
const CAPTION: u64 = 0;
const WINDOW: u64 = 1;
const MEMBER: u64 = 3;
const CANONICAL: u64 = 4;
/// How many of the pictures that stopped a run are named.
const SHOWN: usize = 3;
/// Pictures of which the headers are looked at beforehand: a second or two.
const LOOKED: usize = 50_000;

/// What a [`Loader`] deals: with the pictures and the transform, all that its batches are a function of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Deal {
    /// Examples in a batch.
    pub batch: usize,
    /// Seed of order, captions and windows.
    pub seed: u64,
    /// Whether an epoch deals one picture of each concept ([`Source::concepts`]) instead of every picture, so that what
    /// has many versions is not seen more often than what has one.
    pub by_concept: bool,
    /// Probability of the canonical caption; otherwise any of the captions, the canonical one included.
    pub canonical_prob: f64,
    /// The least length of a picture's shorter side; smaller ones are skipped. 0 takes any.
    pub min_side: usize,
    /// The largest part of the pictures that may be skipped; above it the run stops. Above 0, one is always forgiven.
    pub max_bad: f64,
    /// Rows, and columns, of places whose things are named in each picture of an endless set ([`Batch::things`]); 0 for none.
    pub cells: usize,
}

impl Default for Deal {
    fn default() -> Self {
        Self { batch: 1, seed: 0, by_concept: false, canonical_prob: 0.0, min_side: 0, max_bad: 0.01, cells: 0 }
    }
}

/// How a [`Loader`] works; nothing here changes what it deals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoaderOptions {
    /// Threads that prepare batches in the background; 1.
    pub workers: usize,
    /// Batches that each worker may be ahead; 2.
    pub ahead: usize,
    /// Bytes of prepared pictures that are kept; 1 GiB.
    pub cache_bytes: usize,
    /// How pictures are read; their channels are the transform's.
    pub decode: DecodeOptions,
}

impl Default for LoaderOptions {
    fn default() -> Self {
        Self { workers: 1, ahead: 2, cache_bytes: 1 << 30, decode: DecodeOptions::default() }
    }
}

/// Numbers of a batch of pictures.
#[derive(Clone, Debug, PartialEq)]
pub struct Pixels {
    /// In [-1, 1], row-major.
    pub values: Vec<f32>,
    /// `[n, height, width, channels]`.
    pub shape: [usize; 4],
}

/// `n` examples.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// Position of the first example; the next batch begins at `position + n`.
    pub position: u64,
    /// Which of [`Source::examples`] they are; of an endless set, their numbers there.
    pub examples: Vec<usize>,
    /// The caption that each drew; `None` in an unconditional set.
    pub captions: Vec<Option<String>>,
    /// The pictures or windows.
    pub pictures: Pixels,
    /// The windows at the lower resolution, for super-resolution.
    pub low_res: Option<Pixels>,
    /// What is at each of [`Deal::cells`]² places of each picture, as [`Composition::things`] says it; empty where it is not asked for.
    pub things: Vec<usize>,
}

/// Deals batches; clones share the kept pictures.
#[derive(Clone)]
pub struct Loader(Arc<Inner>);

struct Inner {
    source: Source,
    transform: Transform,
    deal: Deal,
    /// Whether the training pictures of an endless set are dealt, not the sample of it that is listed.
    deals_world: bool,
    /// The pictures of each concept, where those are dealt.
    concepts: Option<Vec<Vec<usize>>>,
    options: LoaderOptions,
    kept: Vec<OnceLock<Picture>>,
    kept_bytes: AtomicUsize,
    bad: Mutex<Bad>,
    /// The latest epochs' permutations.
    orders: Mutex<BTreeMap<u64, Arc<Vec<usize>>>>,
}

/// What cannot be used.
#[derive(Default)]
struct Bad {
    /// Numbers of examples.
    known: HashSet<usize>,
    /// The numbers with their reasons, in the order in which they were found out.
    reasons: Vec<(usize, String)>,
}

impl Loader {
    /// A loader of `batch` examples at a time with the default options.
    ///
    /// # Errors
    /// As [`Self::with_options`].
    pub fn new(source: Source, transform: Transform, batch: usize, seed: u64) -> Result<Self> {
        Self::with_options(source, transform, Deal { batch, seed, ..Deal::default() }, LoaderOptions::default())
    }

    /// A loader that deals as `deal` says.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Usage`] if the transform does not fit together, the batch or the number of workers is 0, or
    /// `canonical_prob` or `max_bad` is not from 0 to 1.
    pub fn with_options(source: Source, transform: Transform, deal: Deal, options: LoaderOptions) -> Result<Self> {
        transform.check()?;
        if deal.batch == 0 || options.workers == 0 {
            return Err(Error::usage("a loader needs a batch of at least 1 and at least 1 worker"));
        }
        if !(0.0..=1.0).contains(&deal.canonical_prob) {
            return Err(Error::usage("canonical_prob is a probability, from 0 to 1"));
        }
        if !(0.0..=1.0).contains(&deal.max_bad) {
            return Err(Error::usage("max_bad is a part of the pictures, from 0 to 1"));
        }
        if source.world().is_some() && (transform.channels != CHANNELS || transform.flip) {
            return Err(Error::usage(format!(
                "a world is composed in colour and may speak of left and right: it needs image_channels = {CHANNELS} and \
                 data.flip = false"
            )));
        }
        let deals_world =
            source.world().is_some() && source.examples().iter().all(|example| example.split == Split::Train);
        let concepts = deal.by_concept.then(|| source.concepts());
        let kept = (0..source.examples().len()).map(|_| OnceLock::new()).collect();
        Ok(Self(Arc::new(Inner {
            source,
            transform,
            deal,
            deals_world,
            concepts,
            options,
            kept,
            kept_bytes: AtomicUsize::new(0),
            bad: Mutex::default(),
            orders: Mutex::default(),
        })))
    }

    /// Where the pictures come from.
    pub fn source(&self) -> &Source {
        &self.0.source
    }

    /// How they become examples.
    pub fn transform(&self) -> &Transform {
        &self.0.transform
    }

    /// Examples in a batch.
    pub fn batch_size(&self) -> usize {
        self.0.deal.batch
    }

    /// The pictures that were skipped so far, each name with the reason, in the order in which they were found out; without
    /// the first `from`, which the caller knows already.
    pub fn skipped(&self, from: usize) -> Vec<(String, String)> {
        let examples = self.0.source.examples();
        let bad = self.0.bad.lock().unwrap_or_else(PoisonError::into_inner);
        let new = bad.reasons.iter().skip(from);
        new.map(|(number, reason)| (examples[*number].name.clone(), reason.clone())).collect()
    }

    /// Looks at what can be known of pictures without decoding them all: a file that is no picture is found before the first
    /// batch, and not when its turn comes.
    ///
    /// # Errors
    /// As [`Self::batch_at`].
    pub fn look(&self) -> Result<()> {
        let (inner, examples) = (&self.0, self.0.source.examples());
        let odd = |number: &usize| {
            let file = inner.source.file(&examples[*number]);
            // what a header does not say the decoder may still read
            file.is_some_and(|file| decode::size(&file).is_err())
        };
        let odd: Vec<usize> = (0..examples.len().min(LOOKED)).into_par_iter().filter(odd).collect();
        for number in odd {
            if let Err(error) = inner.read(number) {
                inner.note_bad(number, &format!("{error:#}"))?;
            }
        }
        Ok(())
    }

    /// The batch of the examples `position..position + batch_size`.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Data`] if more of the pictures than [`Deal::max_bad`] cannot be used.
    pub fn batch_at(&self, position: u64) -> Result<Batch> {
        self.0.batch_at(position, 0..self.0.deal.batch)
    }

    /// The batches from `position` on, endless, prepared in the background. After an error the iterator ends; dropping it
    /// stops the workers.
    pub fn batches(&self, position: u64) -> Batches {
        self.batches_in(position, 0..self.0.deal.batch)
    }

    /// As [`Self::batches`], of whose examples only those in these places of each batch are prepared.
    pub fn batches_in(&self, position: u64, places: Range<usize>) -> Batches {
        let workers = self.0.options.workers as u64;
        let start = |worker| self.start_worker(position, places.clone(), worker, workers);
        let (batches, threads) = (0..workers).map(start).unzip();
        Batches { batches, threads, turn: 0 }
    }

    /// Counts pictures, by their names, that somebody else who deals the same set found unusable, with the reason.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Data`] if they are too many.
    pub fn learn_skipped(&self, skipped: &[(String, String)]) -> Result<()> {
        for (name, reason) in skipped {
            if let Some(example) = self.0.source.examples().iter().position(|example| example.name == *name) {
                self.0.note_bad(example, reason)?;
            }
        }
        Ok(())
    }

    /// Starts a thread that prepares every `of`-th batch from the `worker`-th on.
    fn start_worker(
        &self,
        position: u64,
        places: Range<usize>,
        worker: u64,
        of: u64,
    ) -> (Receiver<Result<Batch>>, JoinHandle<()>) {
        let (sender, receiver) = sync_channel(self.0.options.ahead);
        let inner = Arc::clone(&self.0);
        let work = move || {
            for turn in (worker..).step_by(of as usize) {
                let batch = inner.batch_at(position + turn * inner.deal.batch as u64, places.clone());
                let failed = batch.is_err();
                // Nobody listens any more when the iterator was dropped.
                if sender.send(batch).is_err() || failed {
                    return;
                }
            }
        };
        (receiver, std::thread::spawn(work))
    }
}

/// Batches in order, from workers that each prepare every w-th one; see [`Loader::batches`].
pub struct Batches {
    batches: Vec<Receiver<Result<Batch>>>,
    threads: Vec<JoinHandle<()>>,
    turn: usize,
}

impl Iterator for Batches {
    type Item = Result<Batch>;

    fn next(&mut self) -> Option<Self::Item> {
        let batch = self.batches.get(self.turn)?.recv();
        self.turn = (self.turn + 1) % self.batches.len();
        if !matches!(batch, Ok(Ok(_))) {
            self.batches.clear();
        }
        match batch {
            Ok(batch) => Some(batch),
            Err(_) => Some(Err(Error::data("a thread that reads pictures ended unexpectedly"))),
        }
    }
}

impl Drop for Batches {
    fn drop(&mut self) {
        self.batches.clear();
        for thread in self.threads.drain(..) {
            // A panic of the worker was reported by `next` already.
            let _ = thread.join();
        }
    }
}

impl Inner {
    /// The examples in these places of the batch that begins at `position`.
    fn batch_at(&self, position: u64, places: Range<usize>) -> Result<Batch> {
        let (position, n) = (position + places.start as u64, places.len());
        let factor = self.transform.factor();
        let side = self.transform.side();
        let channels = self.transform.channels;
        let block = |side: usize| Pixels {
            values: Vec::with_capacity(n * side * side * channels),
            shape: [n, side, side, channels],
        };
        let mut batch = Batch {
            position,
            examples: Vec::with_capacity(n),
            captions: Vec::with_capacity(n),
            pictures: block(side),
            low_res: self.transform.low_size.map(|_| block(side / factor)),
            things: Vec::new(),
        };
        for position in position..position + n as u64 {
            let key = Rng::new(self.deal.seed).fold(DRAW).fold(position);
            let (example, caption, Sample { picture, low_res }) = match self.source.world() {
                Some(world) if self.deals_world => {
                    let composition = world.composition(Split::Train, position)?;
                    if self.deal.cells > 0 {
                        batch.things.extend(composition.things(self.deal.cells)?);
                    }
                    let (caption, sample) = self.composed(&composition, key)?;
                    (position as usize, caption, sample)
                }
                _ => {
                    let (example, sample) = self.sample(position, key)?;
                    (example, self.caption(example, key), sample)
                }
            };
            batch.examples.push(example);
            batch.captions.push(caption);
            batch.pictures.values.extend_from_slice(picture.values());
            if let (Some(block), Some(low_res)) = (&mut batch.low_res, low_res) {
                block.values.extend_from_slice(low_res.values());
            }
        }
        Ok(batch)
    }

    /// A picture of an endless set and the caption that it gets.
    fn composed(&self, composition: &Composition<'_>, key: Rng) -> Result<(Option<String>, Sample)> {
        let mut captions = composition.captions();
        let caption = self.chosen(captions.len(), key).map(|chosen| captions.swap_remove(chosen));
        let picture = composition.picture(self.transform.size)?;
        Ok((caption, self.transform.sample(&picture, key.fold(WINDOW))?))
    }

    /// The caption that an example gets this time.
    fn caption(&self, example: usize, key: Rng) -> Option<String> {
        let captions = &self.source.examples()[example].captions;
        let chosen = captions[self.chosen(captions.len(), key)?];
        Some(self.source.captions()[chosen].clone())
    }

    /// Which of so many captions a picture gets this time.
    fn chosen(&self, captions: usize, key: Rng) -> Option<usize> {
        let canonical = captions < 2 || key.fold(CANONICAL).unit() < self.deal.canonical_prob;
        let any = || key.fold(CAPTION).below(captions as u64) as usize;
        (captions > 0).then(|| if canonical { 0 } else { any() })
    }

    /// The example that is due at a position, or the next usable one of its epoch's order: what is unusable is a property of
    /// the pictures, so that neither who finds it out nor when changes what is dealt.
    fn sample(&self, position: u64, key: Rng) -> Result<(usize, Sample)> {
        let n = self.concepts.as_ref().map_or(self.source.examples().len(), Vec::len);
        let order = self.order(position / n as u64, n);
        let first = (position % n as u64) as usize;
        for place in (first..n).chain(0..first) {
            let example = match &self.concepts {
                Some(concepts) => {
                    let members = &concepts[order[place]];
                    members[key.fold(MEMBER).below(members.len() as u64) as usize]
                }
                None => order[place],
            };
            let read;
            let picture = match self.kept[example].get() {
                Some(kept) => kept,
                None if self.bad.lock().unwrap_or_else(PoisonError::into_inner).known.contains(&example) => continue,
                None => match self.read(example) {
                    Ok(picture) => {
                        read = picture;
                        &read
                    }
                    Err(error) => {
                        self.note_bad(example, &format!("{error:#}"))?;
                        continue;
                    }
                },
            };
            return Ok((example, self.transform.sample(picture, key.fold(WINDOW))?));
        }
        Err(Error::data(format!("none of the pictures in {} can be used", self.source.folder().display())))
    }

    /// Reads and prepares a picture, and keeps it if there is room.
    fn read(&self, example: usize) -> Result<Picture> {
        let described = &self.source.examples()[example];
        let options = DecodeOptions { channels: self.transform.channels, ..self.options.decode };
        let picture = self.source.picture(described, &options)?;
        let (width, height) = (picture.width(), picture.height());
        if width.min(height) < self.deal.min_side {
            let least = self.deal.min_side;
            return Err(Error::data(format!(
                "picture {} has {width}x{height} pixels, fewer than min_side = {least}",
                described.name
            )));
        }
        let picture = self.transform.prepare(&picture)?;
        let bytes = picture.pixels().len();
        let before = self.kept_bytes.fetch_add(bytes, Ordering::Relaxed);
        let room = before.checked_add(bytes).is_some_and(|sum| sum <= self.options.cache_bytes);
        if !room || self.kept[example].set(picture.clone()).is_err() {
            self.kept_bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
        Ok(picture)
    }

    /// Counts a picture that cannot be used; an error if there are too many.
    fn note_bad(&self, example: usize, reason: &str) -> Result<()> {
        // What was unusable before a picture was opened counts too.
        let before = self.source.odd().unusable();
        let n = self.source.examples().len();
        let mut bad = self.bad.lock().unwrap_or_else(PoisonError::into_inner);
        if bad.known.insert(example) {
            bad.reasons.push((example, reason.to_owned()));
        }
        let max_bad = self.deal.max_bad;
        let allowed = allowed(max_bad, n + before);
        let count = bad.reasons.len();
        if count + before <= allowed && count < n {
            return Ok(());
        }
        let what = if before > 0 { "pictures and other entries" } else { "pictures" };
        let few: Vec<&str> = bad.reasons.iter().take(SHOWN).map(|(_, reason)| reason.as_str()).collect();
        Err(Error::data(format!(
            "{} of {} {what} in {} cannot be used, and max_bad = {max_bad} allows {allowed}: {}{}; mend or remove them \
             (`imagen data check` names all), or raise data.max_bad",
            count + before,
            n + before,
            self.source.folder().display(),
            few.join("; "),
            if count > SHOWN { "; ..." } else { "" },
        )))
    }

    /// The order of an epoch of `n` pictures or concepts.
    fn order(&self, epoch: u64, n: usize) -> Arc<Vec<usize>> {
        let mut orders = self.orders.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(order) = orders.get(&epoch) {
            return Arc::clone(order);
        }
        let order = Arc::new(Rng::new(self.deal.seed).fold(ORDER).fold(epoch).permutation(n));
        // Batches at the end of an epoch reach into the next one; older epochs are done.
        orders.retain(|&known, _| known + 1 >= epoch && known <= epoch + 1);
        orders.insert(epoch, Arc::clone(&order));
        order
    }
}

//! A recipe for a set that nobody has written one for: sizes, network, batch, steps and prompts that suit the pictures, the
//! machine and the time that there is.
//!
//! The numbers are those that the committed recipes were found with, moved by a few rules, each of which is said in the
//! recipe beside its result. How fast a step is the caller measures or estimates.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::config::{DataConfig, TrainConfig};
use super::lora::LoraConfig;
use super::plan::Plan;
use super::recipe::Recipe;
use super::reference;
use crate::cascade::{StageConfig, StageName, StageSettings};
use crate::data::{Example, Source, Split};
use crate::diffusion::{AugLevel, NoiseSchedule, Parameterization, Sampler, Thresholding};
use crate::error::{Error, ErrorKind, Result};
use crate::models::unet::{Heads, Layout, Level, SkipScale, TextAttention, TextPooling, UnetConfig};
use crate::said;

/// How often a picture is seen by a network that begins at random, and by one that is taught something new.
const PASSES: [u64; 2] = [100, 60];
/// How many pictures are seen at least.
const SEEN: [u64; 2] = [32_000, 4_000];
/// Part of the memory that a run is planned for.
const MEMORY_SHARE: f64 = 0.8;
/// So few pictures that are held out say little of which weights are better.
const HELD_OUT: usize = 8;
/// Prompts of the sample grids, and how long one may be.
const PROMPTS: usize = 8;
const PROMPT_LENGTH: usize = 80;
/// One picture in so many may be smaller than its stage's: the tenth of the sides decides.
const SMALL: usize = 10;

/// What is known before a recipe is proposed.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The stage.
    pub stage: StageName,
    /// The stage that it begins with; a network of its own by default.
    pub from: Option<StageConfig>,
    /// The rank of the adapters that are learned in place of its weights.
    pub lora: Option<usize>,
    /// Side of the pictures that are drawn; what suits the set by default.
    pub size: Option<usize>,
    /// Width of the text encoder's vectors; 0 for a stage without text.
    pub text_dim: usize,
    /// Shorter sides of pictures of the set, some or all of them; empty for a set without end.
    pub sides: Vec<usize>,
    /// Names of pictures that cannot be read, and how many were looked at.
    pub unreadable: (BTreeSet<String>, usize),
    /// Bytes that there are, where that is known.
    pub memory: Option<u64>,
}

/// A recipe and why it is as it is.
#[derive(Clone, Debug)]
pub struct Proposal {
    /// The recipe; its steps are for an hour of one step a second until [`Proposal::pace`] sets them.
    pub recipe: Recipe,
    notes: BTreeMap<&'static str, String>,
    /// Pictures that a pass over the set shows; none where it has no end.
    pictures: Option<u64>,
    held_out: usize,
    /// Whether it begins with the weights of another stage.
    begun: bool,
}

impl Proposal {
    /// A recipe for the set at `folder`.
    ///
    /// # Errors
    /// `Data` where the set has no captions and the stage wants some, or its pictures are too small; `Usage` where a size does
    /// not fit; `Memory` where nothing fits.
    pub fn new(folder: &Path, source: &Source, wanted: &Wanted) -> Result<Self> {
        let conditional = wanted.from.as_ref().map_or(wanted.text_dim, |from| from.unet.text_dim) > 0;
        if conditional && source.captions().is_empty() {
            let pictures = source.examples().len();
            return Err(Error::data(format!(
                "none of the {pictures} pictures in {} has a caption, and this stage draws what a text asks for; put a .txt \
                 beside each, or a metadata.jsonl in the folder",
                folder.display()
            )));
        }
        let mut notes = BTreeMap::new();
        let stage = match &wanted.from {
            Some(from) => from.clone(),
            None => stage(wanted, &mut notes)?,
        };
        stage.validate()?;
        let in_split = |split| source.examples().iter().filter(|example| example.split == split).count();
        let (train, held_out) = (in_split(Split::Train), in_split(Split::Validation));
        let concepts = source.concepts().len();
        let mut data: DataConfig = of_toml("folder = \"\"");
        data.folder = folder.to_owned();
        data.by_concept = source.world().is_none() && concepts * 10 < source.examples().len() * 9;
        if source.examples().iter().any(|example| example.captions.len() > 1) {
            data.canonical_prob = 0.5;
        }
        if stage.low_size.is_some() && stage.unet.side().is_none() && stage.size >= 256 {
            data.crop = Some(if stage.size > 256 { 256 } else { 128 });
        }
        if stage.low_size.is_some() && wanted.sides.iter().any(|side| *side < stage.size) {
            data.min_side = stage.size;
            data.max_bad = 0.2;
            notes.insert(
                "data.min_side",
                "Smaller pictures would be enlarged first, and that is what would be learned".into(),
            );
        }
        let (unreadable, looked) = (wanted.unreadable.0.len(), wanted.unreadable.1);
        if unreadable > 0 {
            // of those that were looked at, with room for a few more among the others
            let share = (150.0 * unreadable as f64 / looked.max(1) as f64).ceil() / 100.0;
            data.max_bad = share.clamp(data.max_bad, 1.0);
            let said = format!(
                "Part of the pictures that may be passed over: {unreadable} of {looked} cannot be read (`imagen data check` names \
                 them)"
            );
            notes.insert("data.max_bad", said);
        }
        let mut train_config: TrainConfig = of_toml("steps = 1\nbatch = 1\nlr = 1e-3\nwarmup = 0");
        let batch = match (stage.stage, &wanted.from) {
            (StageName::Base, None) => 16,
            (StageName::Base, Some(_)) | (StageName::Sr256, _) => 8,
            (StageName::Sr1024, _) => 4,
        };
        let fewest = if source.world().is_some() { batch } else { train.max(1) };
        train_config.batch = (0..).map(|k| 1 << k).take_while(|n| *n <= batch.min(fewest)).last().unwrap_or(1);
        train_config.lr = match (stage.stage, &wanted.from) {
            (StageName::Base, None) if stage.size <= 32 => 1e-3,
            (StageName::Base | StageName::Sr256, None) => 5e-4,
            (StageName::Base, Some(_)) | (StageName::Sr1024, None) => 3e-4,
            (_, Some(_)) => 2e-4,
        };
        if let Some(rank) = wanted.lora {
            train_config.lora = Some(LoraConfig::of_rank(rank));
            train_config.lr = 1e-3;
            notes.insert("train.lr", "Peak learning rate: that of adapters, which begin at nothing".into());
        } else if wanted.from.is_some() {
            notes.insert(
                "train.lr",
                "Peak learning rate: lower than from random weights, which have nothing to forget".into(),
            );
        }
        (train_config.cosine_decay, train_config.beta2, train_config.clip_norm) = (true, Some(0.99), Some(1.0));
        train_config.seed = 1;
        let (prompts, words) = if conditional {
            (prompts(source, &wanted.unreadable.0), "Captions of the set, for sample grids; put your own here")
        } else {
            (vec![String::new(); 4], "A sample grid has so many pictures; a stage without text reads none")
        };
        train_config.sample_prompts = prompts;
        notes.insert("train.sample_prompts", words.into());
        let by_concept = data.by_concept;
        let mut proposal = Self {
            recipe: Recipe { stage, data, train: train_config },
            notes,
            pictures: source.world().is_none().then_some(if by_concept { concepts.min(train) } else { train } as u64),
            held_out,
            begun: wanted.from.is_some(),
        };
        proposal.pace(1.0, 60.0, "not measured");
        proposal.fit(source, wanted.memory)?;
        Ok(proposal)
    }

    /// Divides the batch until a step fits into the memory.
    fn fit(&mut self, source: &Source, memory: Option<u64>) -> Result<()> {
        let Some(memory) = memory else { return Ok(()) };
        let limit = (memory as f64 * MEMORY_SHARE) as u64;
        let mut part = self.recipe.train.batch;
        loop {
            let takes = Plan::with(&self.recipe, Some(source))?.bytes();
            if takes <= limit {
                break;
            }
            match (part, self.recipe.train.checkpoint_blocks) {
                (1, true) => {
                    let (takes, there) = (said::bytes(takes), said::bytes(memory));
                    let message = format!("even one picture at a time takes {takes}, and there are {there}");
                    return Err(Error::new(ErrorKind::Memory, message));
                }
                (1, false) => self.recipe.train.checkpoint_blocks = true,
                _ => {
                    part /= 2;
                    self.recipe.train.micro_batch = Some(part);
                }
            }
        }
        let takes = said::bytes(Plan::with(&self.recipe, Some(source))?.bytes());
        let takes = format!("a step takes about {takes} of {}", said::bytes(memory));
        let (path, words) = match self.recipe.train.micro_batch {
            Some(_) => ("train.micro_batch", "Pictures that pass through the network at once"),
            None => ("train.batch", "Pictures a step"),
        };
        self.notes.insert(path, format!("{words}; {takes}"));
        Ok(())
    }

    /// Sets the steps, and what goes by them, from a step's time, the minutes that there are, and how the time is known.
    pub fn pace(&mut self, seconds: f64, minutes: f64, how: &str) {
        let config = &mut self.recipe.train;
        let batch = config.batch as u64;
        let which = usize::from(self.begun);
        let enough = self.pictures.map(|pictures| (PASSES[which] * pictures).max(SEEN[which]).div_ceil(batch));
        let fits = (minutes * 60.0 / seconds.max(1e-6)) as u64;
        let steps = two_digits(enough.unwrap_or(u64::MAX).min(fits)).max(50);
        config.steps = steps;
        config.warmup = (steps / 50).clamp(10, 500).min(steps / 2);
        // not more often than once a minute
        let minute = (60.0 / seconds.max(1e-6)).ceil().min(1e12) as u64;
        config.checkpoint_every = two_digits((steps / 10).max(minute).min(steps.div_ceil(2)).clamp(25, 1000));
        config.sample_every = two_digits(steps / 4);
        config.ema_decay = Some(match steps {
            ..2000 => 0.99,
            2000..5000 => 0.995,
            5000..15_000 => 0.998,
            15_000..40_000 => 0.999,
            _ => 0.9995,
        });
        config.validate_every = if self.held_out >= HELD_OUT { config.checkpoint_every } else { 0 };
        config.validate_pictures = self.held_out.clamp(1, 64);
        let mut words = format!(
            "Optimizer steps: at about {} each ({how}) they take {}",
            said::duration(seconds),
            said::duration(seconds * steps as f64)
        );
        if let (Some(pictures), Some(enough)) = (self.pictures, enough) {
            let times = |steps: u64| (steps * batch).div_ceil(pictures);
            words.push_str(&format!(", and each of {pictures} pictures is seen {} times", times(steps)));
            if enough > fits {
                words.push_str(&format!("; with {} steps it would be {} times", two_digits(enough), times(enough)));
            }
        }
        self.notes.insert("train.steps", words);
        let held_out = match self.held_out {
            0 => "No picture is held out: the set says no split, and of so few names none is drawn for validation"
                .to_owned(),
            1..HELD_OUT => format!(
                "{} held out, too few to choose weights by",
                if self.held_out == 1 { "1 picture is".to_owned() } else { format!("{} pictures are", self.held_out) }
            ),
            n => format!(
                "Steps between validations on the {n} pictures that are held out, whose best weights `imagen export --best` takes"
            ),
        };
        self.notes.insert("train.validate_every", held_out);
        self.notes.insert(
            "train.ema_decay",
            "Decay of the moving average that is drawn with: over about a tenth of the steps".into(),
        );
    }

    /// The recipe's text, with what each key means and why it is so.
    pub fn to_toml(&self) -> String {
        reference::annotated(&self.recipe, &self.notes)
    }
}

/// A stage with a network of its own.
fn stage(wanted: &Wanted, notes: &mut BTreeMap<&'static str, String>) -> Result<StageConfig> {
    let mut sides = wanted.sides.clone();
    sides.sort_unstable();
    let side = sides.get(sides.len() / SMALL).copied().unwrap_or(usize::MAX);
    let sizes: &[usize] = match wanted.stage {
        StageName::Base => &[64, 32, 16],
        StageName::Sr256 => &[256, 128, 64],
        StageName::Sr1024 => &[1024, 512],
    };
    let size = match wanted.size {
        Some(size) => size,
        None => *sizes.iter().find(|size| **size <= side).ok_or_else(|| {
            let least = sizes.last().copied().unwrap_or_default();
            Error::data(format!(
                "the pictures are too small for stage {}: one in ten has a side of at most {side} pixels, and {least} are needed; \
                 --size takes a size all the same",
                wanted.stage
            ))
        })?,
    };
    let seen = match sides.as_slice() {
        [] => "the set draws any size".to_owned(),
        [first, .., last] if first != last => {
            format!("the shorter sides of the set's pictures are {first} to {last} pixels")
        }
        [first, ..] => format!("the set's pictures have {first} pixels"),
    };
    notes.insert("stage.size", format!("Side of its pictures, in pixels; {seen}"));
    let low_size = (wanted.stage != StageName::Base).then_some(size / 4);
    let unet = network(wanted, size);
    let unit = unet.granularity();
    if size % unit != 0 {
        return Err(Error::usage(format!(
            "a size of {size} does not fit: this stage's network takes multiples of {unit}"
        )));
    }
    let (schedule, steps, guidance) = match wanted.stage {
        StageName::Base if size > 32 => (NoiseSchedule::ShiftedCosine { shift: -3.0 }, 50, 2.0),
        StageName::Base => (NoiseSchedule::ShiftedCosine { shift: -1.4 }, 25, 2.0),
        _ => (NoiseSchedule::Cosine, 32, 1.0),
    };
    if wanted.stage == StageName::Base {
        let words = "Noise schedule: this much noise suits drawings on plain grounds; \"cosine\" is the paper's, for photographs";
        notes.insert("stage.schedule", words.into());
    }
    let level = |level: f64| AugLevel::new(level).expect("between 0 and 1");
    Ok(StageConfig {
        schedule,
        parameterization: Parameterization::V,
        max_aug_level: if low_size.is_some() { level(0.4) } else { AugLevel::MAX },
        on_request: wanted.stage == StageName::Sr1024,
        sampling: StageSettings {
            steps,
            guidance: if wanted.text_dim > 0 { guidance } else { 1.0 },
            sampler: Sampler::default(),
            thresholding: Thresholding::Static,
            aug_level: level(if low_size.is_some() { 0.05 } else { 0.1 }),
            ..StageSettings::default()
        },
        ..StageConfig::new(wanted.stage, size, low_size, unet)
    })
}

/// A small network for pictures of this side.
fn network(wanted: &Wanted, size: usize) -> UnetConfig {
    let base = wanted.stage == StageName::Base;
    let level = |channels, blocks| Level { blocks, ..Level::plain(channels) };
    let texts = |level: Level| Level { text_attention: wanted.text_dim > 0, ..level };
    let large = base && size > 32;
    // of a base, level k works at a half, a quarter, an eighth of the side
    let bases = |[a, b, c]: [usize; 3], [middle, deepest]: [usize; 2]| {
        let middle = Level { position: size / 4, ..texts(level(b, middle)) };
        vec![level(a, 1), middle, Level { self_attention: true, position: size / 8, ..texts(level(c, deepest)) }]
    };
    let (channels, width, levels) = match (base, large) {
        (true, true) => (24, 256, bases([64, 128, 256], [2, 3])),
        (true, false) => (16, 192, bases([64, 96, 128], [1, 2])),
        (false, _) => (16, 192, vec![level(32, 1), level(64, 2), level(96, 2), texts(level(128, 2))]),
    };
    let text = wanted.text_dim > 0;
    UnetConfig {
        layout: Layout::Efficient,
        low_resolution: !base,
        channels,
        embedding: width,
        text_width: if text { width } else { 0 },
        levels,
        heads: Heads::Count(4),
        text_attention: match (text, base) {
            (false, _) => TextAttention::None,
            (true, true) => TextAttention::Concatenated,
            (true, false) => TextAttention::Separate,
        },
        text_pooling: if text { TextPooling::Attention } else { TextPooling::None },
        skip_scale: SkipScale::Residual,
        output_blocks: 1,
        groups: 8,
        ..UnetConfig::base64(wanted.text_dim)
    }
}

/// Captions from all over the training pictures, each once, long ones only where there are no others.
fn prompts(source: &Source, unreadable: &BTreeSet<String>) -> Vec<String> {
    let shown = |example: &&Example| example.split == Split::Train && !unreadable.contains(&example.name);
    let examples: Vec<_> = source.examples().iter().filter(shown).collect();
    let mut prompts: Vec<String> = Vec::new();
    let count = PROMPTS.min(examples.len());
    for k in 0..count {
        // from the place of the k-th on, the first that is new and short
        let from = k * examples.len() / count;
        let found = examples[from..].iter().find_map(|example| {
            let caption = source.captions().get(*example.captions.first()?)?;
            (caption.chars().count() <= PROMPT_LENGTH && !prompts.contains(caption)).then(|| caption.clone())
        });
        prompts.extend(found);
    }
    if prompts.is_empty() {
        prompts.extend(source.captions().first().cloned());
    }
    prompts
}

/// The number rounded down to two digits that are not 0.
fn two_digits(number: u64) -> u64 {
    let unit = 10u64.pow(number.max(1).ilog10().saturating_sub(1));
    number / unit * unit
}

/// A table with these keys and the defaults of the others.
fn of_toml<T: serde::de::DeserializeOwned>(text: &str) -> T {
    toml::from_str(text).expect("the keys that have no default are there")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::shapes;

    fn wanted(stage: StageName) -> Wanted {
        Wanted {
            stage,
            from: None,
            lora: None,
            size: None,
            text_dim: 384,
            sides: vec![256; 80],
            unreadable: Default::default(),
            memory: None,
        }
    }

    fn set() -> (tempfile::TempDir, Source) {
        let folder = tempfile::tempdir().unwrap();
        shapes::write(folder.path(), 80, 16, 1).unwrap();
        let source = Source::open(folder.path()).unwrap();
        (folder, source)
    }

    fn proposal(wanted: &Wanted) -> Result<Proposal> {
        let (folder, source) = set();
        Proposal::new(folder.path(), &source, wanted)
    }

    #[test]
    fn a_proposal_is_a_recipe_for_every_stage_and_size() {
        for stage in StageName::ALL {
            for (side, text_dim) in [(1024, 384), (1024, 0), (70, 384), (33, 384), (16, 0)] {
                let wanted = Wanted { sides: vec![side; 80], text_dim, ..wanted(stage) };
                match proposal(&wanted) {
                    Ok(proposal) => {
                        let read = Recipe::parse(&proposal.to_toml())
                            .unwrap_or_else(|e| panic!("{e:#}\n{}", proposal.to_toml()));
                        assert_eq!(read, proposal.recipe);
                        assert!(read.stage.size <= side);
                    }
                    Err(error) => {
                        assert!(stage != StageName::Base, "{error:#}");
                        assert!(format!("{error:#}").contains("too small for stage"), "{error:#}");
                    }
                }
            }
        }
    }

    #[test]
    fn steps_follow_pictures_time_and_speed() {
        let new = wanted(StageName::Base);
        let recipe = Recipe::parse(include_str!("../../../../recipes/shapes/base.toml")).unwrap();
        let begun = Wanted { from: Some(recipe.stage), ..new.clone() };
        let steps = |wanted, seconds, minutes| {
            let mut proposal = proposal(wanted).unwrap();
            proposal.pace(seconds, minutes, "measured");
            proposal.recipe.train.steps
        };
        assert_eq!(steps(&new, 0.01, 1000.0), 2000, "32,000 pictures in batches of 16");
        assert_eq!(steps(&new, 1.0, 10.0), 600, "as many as fit");
        assert_eq!(
            steps(&begun, 0.01, 1000.0),
            590,
            "the 79 pictures that are not held out, sixty times in batches of 8"
        );
        assert_eq!(steps(&new, 100.0, 1.0), 50, "fewer are no training");
    }

    #[test]
    fn the_batch_is_divided_until_it_fits_into_the_memory() {
        // large pictures, whose maps outweigh the network
        let mut wanted = Wanted { size: Some(128), ..wanted(StageName::Base) };
        wanted.memory = Some(64 << 30);
        let whole = proposal(&wanted).unwrap().recipe;
        assert_eq!(whole.train.micro_batch, None);
        wanted.memory = Some((Plan::of(&whole).unwrap().bytes() as f64 / MEMORY_SHARE * 0.9) as u64);
        let parts = proposal(&wanted).unwrap().recipe.train;
        assert!(parts.micro_batch.is_some_and(|part| part < parts.batch), "{parts:?}");
        wanted.memory = Some(1 << 20);
        assert_eq!(proposal(&wanted).unwrap_err().kind(), ErrorKind::Memory);
    }

    #[test]
    fn numbers_are_rounded_down_to_two_digits() {
        for (number, expected) in [(0, 0), (7, 7), (99, 99), (1234, 1200), (99_999, 99_000)] {
            assert_eq!(two_digits(number), expected);
        }
    }
}

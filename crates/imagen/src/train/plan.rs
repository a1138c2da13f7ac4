//! What a training run needs before anything of it is allocated: memory by what holds it, and multiply-adds.
//!
//! Counted from the recipe (`models::unet::cost`) and, where they can be read, the names and captions of its pictures. Three
//! things are estimates: the working memory of one operation on its way back, for which the largest map stands, the tokens
//! of a caption, and the program itself. Frozen parameters count like others.

use super::optimizer::Optimizer;
use super::recipe::Recipe;
use super::state::Learning;
use crate::cascade::drawing_bytes;
use crate::data::Source;
use crate::error::Result;
use crate::models::unet::{Layout, LevelCost, UnetConfig, cost};

/// Maps of the largest size that exist besides those that are kept: gradients on their way, outputs, scratch.
const WORKING_MAPS: u64 = 6;
/// The program with its text encoder at work, and batches that wait; about 120 MiB less where every caption is encoded.
const PROGRAM: u64 = 230 << 20;

/// What a run takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Numbers that are learned.
    pub parameters: u64,
    /// Bytes that are held all the time, by what they hold.
    pub held: Vec<(&'static str, u64)>,
    /// Bytes that a step needs besides.
    pub step: Vec<(&'static str, u64)>,
    /// Bytes that saving needs besides: the averaged network, built and on its way to the disk, and what it is looked at
    /// with. What a step has let go of the allocator keeps for the next, so that this comes on top.
    pub saving: u64,
    /// Multiply-adds of a step, all its pictures there and back.
    pub step_multiply_adds: u64,
    /// Steps of the run.
    pub steps: u64,
    /// What of the recipe is known to learn badly, a sentence each.
    pub warnings: Vec<String>,
}

impl Plan {
    /// The plan of a recipe. Pictures and captions are counted where their folder can be read.
    ///
    /// # Errors
    /// `Data` where the recipe contradicts itself.
    pub fn of(recipe: &Recipe) -> Result<Self> {
        Self::with(recipe, Source::open_allowing(&recipe.data.folder, recipe.data.max_bad).ok().as_ref())
    }

    /// What a recipe's run would take with other settings, as `--set` has them: smaller parts of a batch, recomputed blocks,
    /// smaller batches. What changes nothing of what is learned comes first.
    ///
    /// # Errors
    /// As [`Self::of`].
    pub fn alternatives(recipe: &Recipe) -> Result<Vec<(Vec<String>, u64)>> {
        let source = Source::open_allowing(&recipe.data.folder, recipe.data.max_bad).ok();
        let halves = |of: usize| std::iter::successors(Some(of / 2), |n| Some(n / 2)).take_while(|n| *n > 0);
        let batch = recipe.train.batch;
        let mut alternatives = Vec::new();
        let mut add = |recipe: Recipe, set: Vec<String>| -> Result<()> {
            let bytes = Self::with(&recipe, source.as_ref())?.bytes();
            alternatives.push((set, bytes));
            Ok(())
        };
        for smaller in std::iter::once(batch).chain(halves(batch)) {
            let parts = std::iter::once(None).chain(halves(smaller).filter(|part| smaller % part == 0).map(Some));
            for part in parts {
                for blocks in [false, true] {
                    let mut other = recipe.clone();
                    (other.train.batch, other.train.micro_batch) = (smaller, part);
                    other.train.checkpoint_blocks |= blocks;
                    let part = part.map(|part| format!("train.micro_batch={part}"));
                    let blocks = blocks.then(|| "train.checkpoint_blocks=true".to_owned());
                    let smaller = (smaller < batch).then(|| format!("train.batch={smaller}"));
                    add(other, smaller.into_iter().chain(part).chain(blocks).collect())?;
                }
            }
        }
        Ok(alternatives)
    }

    /// The plan of a recipe for this set.
    pub(super) fn with(recipe: &Recipe, source: Option<&Source>) -> Result<Self> {
        let (stage, config) = (&recipe.stage, &recipe.train);
        let learning = Learning::of(recipe)?;
        let levels = cost(&stage.unet, recipe.data.crop.unwrap_or(stage.size));
        let sum = |field: fn(&LevelCost) -> u64| levels.iter().map(field).sum::<u64>();
        let parameters = sum(|level| level.parameters);
        // adapters learn little, and the weights that they change are there twice
        let (learned, adapted) = learning.lora.as_ref().map_or((parameters, 0), |lora| {
            let of = levels.iter().flat_map(|level| &level.matrices).map(|matrix| lora.numbers(*matrix));
            of.fold((0, 0), |(learned, adapted), (own, of)| (learned + own, adapted + of))
        });
        let moments = match learning.optimizer {
            Optimizer::Adam { .. } => 2 * learned,
            Optimizer::Adafactor { beta1, .. } if learning.lora.is_some() => learned + beta1.map_or(0, |_| learned),
            Optimizer::Adafactor { beta1, min_dim_size_to_factor, .. } => {
                let second = levels.iter().map(|level| level.factored_moments(min_dim_size_to_factor)).sum::<u64>();
                second + beta1.map_or(0, |_| parameters)
            }
        };
        let (spared, again) = if config.checkpoint_blocks {
            (sum(|level| level.recomputable_bytes), sum(|level| level.recomputing_multiply_adds))
        } else {
            (0, 0)
        };
        let at_once = config.micro_batch.unwrap_or(config.batch) as u64;
        let in_parts = at_once < config.batch as u64;
        // of a part of the batch, and the sums of those before it that wait for their other half
        let parts = (config.batch as u64).div_ceil(at_once);
        let gradients = 1 + (0..parts).map(|done| u64::from(done.count_ones())).max().unwrap_or(0);
        let largest_map = levels.iter().map(|level| level.largest_map_bytes).max().unwrap_or(0);
        let pictures = source.map_or(0, |source| source.examples().len()) as u64;
        let decoded = pictures * 3 * (stage.size * stage.size) as u64;
        let kept = match source.and_then(Source::world) {
            Some(world) => world.kept_bytes(stage.size),
            None => decoded.min((recipe.data.cache_mib as u64) << 20),
        };
        let captions = source.map(Source::captions).unwrap_or_default();
        let tokens: u64 = captions.iter().map(|caption| tokens(caption)).sum();
        let (weights, averages) = (4 * parameters, 4 * learned * learning.averages.len() as u64);
        Ok(Self {
            parameters,
            held: vec![
                ("weights", weights + 4 * adapted),
                ("moments", 4 * moments),
                ("averages", averages),
                ("pictures", kept),
                ("captions", 2 * tokens * stage.unet.text_dim as u64),
                // in half precision, where a run begins with them
                ("first weights", weights / 2),
                ("program", PROGRAM),
            ],
            step: vec![
                ("gradients", gradients * 4 * learned + 4 * adapted),
                // for all parts once: convolutions' of both passes, 36 numbers for 9 of most
                ("weights, transformed", if in_parts { config.precision.transformed_bytes(8 * weights) } else { 0 }),
                ("kept maps", at_once * (sum(|level| level.activation_bytes) - spared)),
                ("working maps", WORKING_MAPS * at_once * largest_map),
            ],
            saving: 2 * weights + looks(recipe, &levels),
            step_multiply_adds: config.batch as u64 * (3 * sum(|level| level.multiply_adds) + again),
            steps: config.steps,
            warnings: lacks_full_resolution(&stage.unet).into_iter().collect(),
        })
    }

    /// The most bytes at a time.
    pub fn bytes(&self) -> u64 {
        let sum = |rows: &[(&str, u64)]| rows.iter().map(|(_, bytes)| bytes).sum::<u64>();
        sum(&self.held) + sum(&self.step) + self.saving
    }
}

/// What it takes to look at the averaged network by a grid of samples, a probe or a validation: its convolutions transformed, and
/// the maps of all pictures of a grid at once.
fn looks(recipe: &Recipe, levels: &[LevelCost]) -> u64 {
    let (stage, config) = (&recipe.stage, &recipe.train);
    if config.sample_every == 0 {
        let looked = config.validate_every > 0 || config.probe_every.is_some_and(|every| every > 0);
        return if looked { drawing_bytes(levels, config.micro_batch.unwrap_or(config.batch) as u64) } else { 0 };
    }
    let pictures = if stage.low_size.is_none() { config.sample_prompts.len() } else { super::grid::ENLARGED } as u64;
    let branches = if stage.unet.text_dim > 0 && stage.sampling.guidance != 1.0 { 2 } else { 1 };
    let side = recipe.data.crop.unwrap_or(stage.size);
    let whole = ((stage.size * stage.size) as u64).div_ceil((side * side) as u64);
    // beside what the steps have let go of, of which little fits
    drawing_bytes(levels, pictures * branches * whole) * 5 / 4
}

/// That nothing but the first convolution works at the pictures' own resolution: DESIGN.md says what comes of it, and why.
fn lacks_full_resolution(unet: &UnetConfig) -> Option<String> {
    (unet.layout == Layout::Efficient && unet.output_blocks == 0).then(|| {
        "no residual block works at full resolution (stage.unet.output_blocks = 0, as in the paper): after a short training \
         pictures are still covered with noise, far less so with output_blocks = 1"
            .to_owned()
    })
}

/// About how many tokens a caption has: some words are several, and two marks frame it.
fn tokens(caption: &str) -> u64 {
    (1.3 * caption.split_whitespace().count() as f64).ceil() as u64 + 2
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::shapes;

    const RECIPE: &str = include_str!("../../../../recipes/fluent-emoji/base.toml");

    fn plan(set: &[&str]) -> Plan {
        Plan::with(&Recipe::parse_with(RECIPE, set).unwrap(), None).unwrap()
    }

    fn of(rows: &[(&str, u64)], name: &str) -> u64 {
        rows.iter().find(|(row, _)| *row == name).unwrap().1
    }

    #[test]
    fn memory_follows_what_the_recipe_asks_for() {
        let whole = plan(&[]);
        let parts = plan(&["train.micro_batch=4"]);
        assert_eq!(of(&parts.step, "kept maps") * 4, of(&whole.step, "kept maps"));
        // 16 in parts of 4: of the last one, of the one before it, and of the first two
        assert_eq!(of(&parts.step, "gradients"), 3 * of(&whole.step, "gradients"));
        assert_eq!(parts.step_multiply_adds, whole.step_multiply_adds);
        let again = plan(&["train.checkpoint_blocks=true"]);
        assert!(of(&again.step, "kept maps") < of(&whole.step, "kept maps"));
        assert!(again.step_multiply_adds > whole.step_multiply_adds);
        assert!(again.bytes() < whole.bytes() && whole.bytes() < plan(&["train.batch=64"]).bytes());
        let averages = plan(&["train.ema_half_lives=[1000, 2000]"]);
        assert_eq!(of(&averages.held, "averages"), 3 * of(&whole.held, "averages"));
        let text = RECIPE.replace("beta2 = 0.99", "optimizer = \"adafactor\"");
        let adafactor = Plan::with(&Recipe::parse(&text).unwrap(), None).unwrap();
        assert!(of(&adafactor.held, "moments") * 20 < of(&whole.held, "moments"));
        // the most channels are 256: of this many on every matrix is kept whole, as one of Adam's two moments is
        let text = text.replace("optimizer =", "min_dim_size_to_factor = 100_000\noptimizer =");
        let unfactored = Plan::with(&Recipe::parse(&text).unwrap(), None).unwrap();
        assert_eq!(of(&unfactored.held, "moments") * 2, of(&whole.held, "moments"));
        let folder = tempfile::tempdir().unwrap();
        shapes::write(folder.path(), 20, 16, 1).unwrap();
        let source = Source::open(folder.path()).unwrap();
        let seen = Plan::with(&Recipe::parse(RECIPE).unwrap(), Some(&source)).unwrap();
        assert_eq!(of(&seen.held, "pictures"), 20 * 64 * 64 * 3);
        assert!(of(&seen.held, "captions") >= 20 * 4 * 384 * 2);
    }

    #[test]
    fn adapters_take_little_beside_the_weights_that_they_change() {
        let (whole, lora) = (plan(&[]), plan(&["train.lora.rank=8"]));
        assert!(of(&lora.held, "moments") * 5 < of(&whole.held, "moments"));
        assert!(of(&lora.held, "averages") * 5 < of(&whole.held, "averages"));
        assert!(of(&lora.held, "weights") < 2 * of(&whole.held, "weights"));
        assert!(lora.bytes() < whole.bytes());
        let thin = plan(&["train.lora.rank=2", "train.lora.where=\"linear\""]);
        assert!(of(&thin.held, "moments") * 8 < of(&lora.held, "moments"));
    }

    #[test]
    fn a_network_without_a_block_at_full_resolution_is_warned_of() {
        assert!(plan(&[]).warnings.is_empty());
        let [warning] = &plan(&["stage.unet.output_blocks=0"]).warnings[..] else { panic!("one warning is expected") };
        assert!(warning.contains("output_blocks = 1") && !warning.contains('\n'), "{warning}");
        assert!(
            lacks_full_resolution(&UnetConfig::base64(512)).is_none(),
            "the ADM layout has such blocks at every level"
        );
    }

    #[test]
    fn the_first_training_is_warned_of_nothing_and_takes_ten_minutes_at_most() {
        let recipe = Recipe::parse(include_str!("../../../../recipes/shapes/base.toml")).unwrap();
        let plan = Plan::with(&recipe, None).unwrap();
        assert!(plan.warnings.is_empty(), "{:?}", plan.warnings);
        // two cores that do 20 billion multiply-adds a second each: the slowest that it was measured on does 32
        assert!(plan.steps * plan.step_multiply_adds < 2 * 600 * 20_000_000_000);
    }
}

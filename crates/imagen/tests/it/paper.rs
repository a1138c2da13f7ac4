//! PAPER.md's numbers are those of the code and of the recipes.

use std::path::{Path, PathBuf};

use imagen::cascade::{Preset, StageSettings};
use imagen::text::TextOptions;
use imagen::train::Recipe;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// What PAPER.md says in the rows of a matter, all cells but the first.
fn row(matter: &str) -> String {
    let page = std::fs::read_to_string(repository().join("PAPER.md")).unwrap();
    let start = format!("| {matter} |");
    let rows: Vec<&str> = page.lines().filter_map(|line| line.strip_prefix(&start)).collect();
    assert!(!rows.is_empty(), "PAPER.md has no row {matter:?}");
    rows.join("\n")
}

/// The recipes of the default model.
fn recipes() -> [Recipe; 3] {
    ["base", "sr256", "sr1024"]
        .map(|stage| Recipe::read(&repository().join(format!("recipes/fluent-emoji/{stage}.toml"))).unwrap())
}

/// 40000 → 40 000.
fn spaced(n: u64) -> String {
    if n < 1000 { n.to_string() } else { format!("{} {:03}", n / 1000, n % 1000) }
}

/// 5e-4.
fn scientific(x: f64) -> String {
    format!("{x:e}")
}

#[test]
fn numbers_of_the_presets_stand_in_paper_md() {
    let presets = Preset::ALL.map(Preset::stage);
    let of = |number: fn(&imagen::cascade::StageConfig) -> usize| presets.each_ref().map(number);
    let listed = |[a, b, c]: [usize; 3]| format!("{a}, {b}, {c} in the presets");
    assert!(row("text projection").contains(&of(|p| p.unet.text_width).map(|n| n.to_string()).join(", ")));
    assert!(row("width of the conditional embedding").contains(&listed(of(|p| p.unet.embedding))));
    let [base, sr256, sr1024] = of(|p| p.sampling.steps);
    assert!(row("steps per stage").contains(&format!("{base}, {sr256} and {sr1024} in the presets")));
}

#[test]
fn numbers_of_the_recipes_stand_in_paper_md() {
    let [base, sr256, sr1024] = recipes();
    let has = |matter: &str, text: String| assert!(row(matter).contains(&text), "{matter}: {text}: {}", row(matter));
    let three = |number: fn(&Recipe) -> u64| {
        let [a, b, c] = [&base, &sr256, &sr1024].map(|recipe| spaced(number(recipe)));
        format!("{a}, {b} and {c}")
    };
    has("batch, steps", three(|recipe| recipe.train.batch as u64));
    has("batch, steps", three(|recipe| recipe.train.steps));
    assert_eq!((base.train.lr, base.train.warmup), (sr256.train.lr, sr256.train.warmup));
    let rates = [base.train.lr, sr1024.train.lr].map(scientific);
    has("peak rate, warm-up", format!("{} and, at 1024, {}", rates[0], rates[1]));
    has("peak rate, warm-up", format!("{} and {} steps", base.train.warmup, sr1024.train.warmup));
    assert_eq!(sr256.stage.sampling.steps, sr1024.stage.sampling.steps);
    let defaults = StageSettings::default();
    let steps = [defaults.steps, base.stage.sampling.steps, sr256.stage.sampling.steps];
    let said = format!("{} by default; {} and {} in the recipes of the default model", steps[0], steps[1], steps[2]);
    has("steps per stage", said);
    assert_eq!(sr256.stage.sampling.guidance, sr1024.stage.sampling.guidance);
    let guidance = [defaults.guidance, base.stage.sampling.guidance, sr256.stage.sampling.guidance];
    has("guidance", format!("{} by default; {} and {} in the recipes", guidance[0], guidance[1], guidance[2]));
    has("crops of the 64→256 recipe", format!("{0}×{0} windows", sr256.data.crop.unwrap()));
    for recipe in [&base, &sr256, &sr1024] {
        has("gradient clipping", format!("norm {} in the recipes", recipe.train.clip_norm.unwrap()));
        has("β₂", format!("{} in the recipes", recipe.train.beta2.unwrap()));
        has("moving average", format!("{} in the recipes", recipe.train.ema_decay.unwrap()));
    }
    let widths: Vec<usize> = base.stage.unet.levels.iter().map(|level| level.channels).collect();
    let (least, most) = (widths.iter().min().unwrap(), widths.iter().max().unwrap());
    has("network of the base recipe", format!("{least}–{most} channels"));
    has("token length", TextOptions::default().max_length.to_string());
}

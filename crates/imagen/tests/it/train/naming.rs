//! The auxiliary head: it learns what is where in composed pictures, is no part of a finished stage, and asks for a world. Where
//! the network has a planner, the head reads that, which sees captions alone.

use std::ops::ControlFlow;
use std::path::Path;

use burn::tensor::Device;
use imagen::cascade::StageFile;
use imagen::models::unet::UnetConfig;
use imagen::text::EncoderFiles;
use imagen::train::{Checkpoints, Learning, Outcome, Recipe, Run, TrainEvent, train};
use imagen::{Error, ErrorKind};

/// The nouns of the small world, and the background.
const THINGS: &str = "stage.unet.things=8";

fn run(folder: &Path, set: &[&str]) -> Run {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/world");
    let text = include_str!("../../tiny.toml").replace("\"data\"", &format!("{golden:?}"));
    let set = [&["train.sample_every=0", "train.steps=6", "train.micro_batch=2"], set].concat();
    let text_encoder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/minilm");
    Run {
        recipe: Recipe::parse_with(&text, &set).unwrap(),
        folder: folder.to_owned(),
        resume: false,
        init_from: None,
        text: EncoderFiles::open(&text_encoder).unwrap(),
        device: Device::flex(),
    }
}

/// A planner, and the positions that it needs.
const PLANNER: [&str; 2] = [
    "stage.unet.planner={ channels = 16, blocks = 2 }",
    "stage.unet.levels=[{ channels = 8, blocks = 1, position = 8 }, \
     { channels = 16, blocks = 1, self_attention = true, text_attention = true, position = 4 }]",
];

/// The head's matrix after a run.
fn head(run: &Run) -> Vec<f32> {
    parameter(run, "naming.dense.weight")
}

/// A parameter of the network after a run.
fn parameter(run: &Run, name: &str) -> Vec<f32> {
    let learning = Learning::of(&run.recipe).unwrap();
    let checkpoints = Checkpoints::new(&run.folder, 1);
    let state = checkpoints.load(&run.recipe.stage, &learning, &run.device).unwrap().state;
    imagen::nn::export(&state.unet)[name].values.clone()
}

#[test]
fn the_head_learns_beside_the_network_goes_on_where_it_stopped_and_is_not_in_the_stage() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str, weight: &str, steps: &str| {
        run(
            &folder.path().join(name),
            &[THINGS, &format!("train.naming_weight={weight}"), &format!("train.steps={steps}")],
        )
    };
    let go = |run: &Run| train(run, &mut |_| ControlFlow::Continue(())).unwrap();
    let (whole, unasked) = (at("whole", "0.1", "6"), at("unasked", "0.0", "6"));
    assert_eq!([go(&whole), go(&unasked)], [Outcome::Finished, Outcome::Finished]);
    assert_ne!(head(&whole), head(&unasked), "the head learns");
    let first = |run: &Run| parameter(run, "conv_in.weight");
    assert_ne!(first(&whole), first(&unasked), "what the head asks for reaches the network");

    go(&at("parts", "0.1", "4"));
    go(&Run { resume: true, ..at("parts", "0.1", "6") });
    let state = |name: &str| std::fs::read(folder.path().join(name).join("state.safetensors")).unwrap();
    let stage = |name: &str| std::fs::read(folder.path().join(name).join("base.safetensors")).unwrap();
    assert_eq!(stage("parts"), stage("whole"));
    assert!(state("parts") == state("whole"), "a resumed run is one that never stopped");

    let file = StageFile::open(&folder.path().join("whole/base.safetensors")).unwrap();
    assert_eq!(file.config.unet, UnetConfig { things: 0, ..whole.recipe.stage.unet });
    file.build(&Device::flex()).unwrap();
}

/// The head's cross-entropy at each of sixty steps.
fn cross_entropies(folder: &Path, set: &[&str]) -> Vec<f64> {
    let set = [&[THINGS, "train.naming_weight=1.0", "train.steps=60", "train.lr=1e-2", "train.batch=8"], set].concat();
    let run = run(folder, &set);
    let mut norms = Vec::new();
    let watch = &mut |event: &TrainEvent| {
        if let TrainEvent::Step(step) = event {
            norms.push(step.naming.expect("the head is trained"));
        }
        ControlFlow::Continue(())
    };
    train(&run, watch).unwrap();
    norms
}

#[test]
fn the_head_says_what_is_where_after_some_steps_from_pictures_or_from_captions_alone() {
    let folder = tempfile::tempdir().unwrap();
    let mean = |part: &[f64]| part.iter().sum::<f64>() / part.len() as f64;
    for (name, set) in [("pictures", &[][..]), ("captions", &PLANNER)] {
        let norms = cross_entropies(&folder.path().join(name), set);
        let (before, after) = (mean(&norms[..10]), mean(&norms[50..]));
        assert!((before - 8f64.ln()).abs() < 0.8, "{name}: it begins by guessing: {before}");
        assert!(after < 0.75 * before, "{name}: from {before} to {after}");
    }
}

#[test]
fn a_planner_is_part_of_the_stage_and_goes_on_where_it_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str, weight: &str, steps: &str| {
        let set = [&[THINGS, weight, steps][..], &PLANNER].concat();
        run(&folder.path().join(name), &set)
    };
    let go = |run: &Run| train(run, &mut |_| ControlFlow::Continue(())).unwrap();
    let (whole, unasked) = (
        at("whole", "train.naming_weight=0.1", "train.steps=6"),
        at("unasked", "train.naming_weight=0", "train.steps=6"),
    );
    assert_eq!([go(&whole), go(&unasked)], [Outcome::Finished, Outcome::Finished]);
    let places = |run: &Run| parameter(run, "embedder.planner.places.map");
    assert_ne!(places(&whole), places(&unasked), "what the head asks for reaches the planner");
    go(&at("parts", "train.naming_weight=0.1", "train.steps=4"));
    go(&Run { resume: true, ..at("parts", "train.naming_weight=0.1", "train.steps=6") });
    let stage = |name: &str| std::fs::read(folder.path().join(name).join("base.safetensors")).unwrap();
    assert_eq!(stage("parts"), stage("whole"));
    let file = StageFile::open(&folder.path().join("whole/base.safetensors")).unwrap();
    assert_eq!(file.config.unet, UnetConfig { things: 0, ..whole.recipe.stage.unet });
    file.build(&Device::flex()).unwrap();
}

#[test]
fn a_planner_needs_places_and_a_text() {
    for set in [&PLANNER[..1], &[PLANNER[0], PLANNER[1], "stage.unet.text_pooling=none"]] {
        let error = Recipe::parse_with(include_str!("../../tiny.toml"), set).unwrap_err();
        assert!(format!("{error:#}").contains("planner: "), "{error:#}");
    }
}

#[test]
fn a_head_that_does_not_fit_the_set_is_refused_before_anything_is_trained() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |run: &Run| -> Error { train(run, &mut |_| ControlFlow::Continue(())).unwrap_err() };
    let error = refused(&run(&folder.path().join("a"), &["stage.unet.things=7", "train.naming_weight=0.1"]));
    assert_eq!(error.kind(), ErrorKind::Data);
    assert!(
        format!("{error:#}").contains("stage.unet.things = 7") && format!("{error:#}").contains("has 8"),
        "{error:#}"
    );
    imagen::data::shapes::write(&folder.path().join("shapes"), 10, 16, 1).unwrap();
    let shapes = format!("data.folder={:?}", folder.path().join("shapes"));
    let error = refused(&run(&folder.path().join("b"), &[THINGS, "train.naming_weight=0.1", &shapes]));
    assert!(format!("{error:#}").contains("needs a composed world"), "{error:#}");
    let parse = |set: &[&str]| Recipe::parse_with(include_str!("../../tiny.toml"), set).unwrap_err().to_string();
    assert!(parse(&["train.naming_weight=-1"]).contains("train.naming_weight"));
}

//! Runs that learn adapters: what they leave alone, what they write, and that they go on where they stopped.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use burn::tensor::Device;
use imagen::ErrorKind;
use imagen::cascade::lora::Lora;
use imagen::cascade::{Imagen, ModelFiles, Record, Request, StageFile, StageName, random_stage, write_stage};
use imagen::image::Picture;
use imagen::nn::{self, Values};
use imagen::text::TextOptions;
use imagen::train::{Choice, InitFrom, Outcome, Run, TrainEvent, export, train};

use super::ranks::{Place, go_on, on_ranks};

/// What every run here learns, and how often it saves.
const SET: [&str; 2] = ["train.lora={ rank = 2, alpha = 4.0 }", "train.ema_half_lives=[1]"];

/// A model whose base has random weights, all of which say something.
fn model(place: &Place) -> PathBuf {
    let folder = place.path("model");
    let run = place.run("any", &[]);
    let file = folder.join("base.safetensors");
    if !file.exists() {
        std::fs::create_dir_all(&folder).unwrap();
        let encoder = imagen::text::load(run.text.clone(), &TextOptions::default(), &Device::flex()).unwrap();
        let stage = random_stage(&run.recipe.stage, 3, &Device::flex()).unwrap();
        let unet = nn::import(stage.unet().unwrap().clone(), |name, shape| {
            let count = shape.iter().product();
            let seed = name.bytes().fold(7, |seed, byte| 31 * seed + u64::from(byte));
            Ok(imagen::rng::Rng::new(seed).normal(count).into_iter().map(|x| 0.1 * x).collect())
        });
        write_stage(&file, &run.recipe.stage, &Record::of_steps(1), encoder.identity(), &unet.unwrap()).unwrap();
        imagen::train::copy_encoder(&folder, &run.text).unwrap();
    }
    folder
}

fn run(place: &Place, name: &str, set: &[&str]) -> Run {
    let set: Vec<&str> = SET.into_iter().chain(set.iter().copied()).collect();
    let model = ModelFiles::Folder(model(place));
    Run { init_from: Some(InitFrom::Model(model)), ..place.run(name, &set) }
}

fn resumed(run: Run) -> Run {
    Run { resume: true, init_from: None, ..run }
}

fn to_the_end(run: &Run) -> Outcome {
    train(run, &mut |_| ControlFlow::Continue(())).unwrap()
}

fn values(file: &Path) -> BTreeMap<String, Values> {
    let stage = StageFile::open(file).unwrap().build(&Device::flex()).unwrap();
    nn::export(stage.unet().unwrap())
}

fn drawn(imagen: &Imagen) -> Picture {
    let request =
        Request { prompts: vec!["a red circle".to_owned()], ..Request::each([("a red circle".to_owned(), 5)]) };
    let last = imagen.sample(&request).unwrap().map(Result::unwrap).filter_map(|event| match event {
        imagen::cascade::Event::Image { picture, .. } => Some(picture),
        _ => None,
    });
    last.last().unwrap()
}

fn distance(a: &Picture, b: &Picture) -> u8 {
    a.pixels().iter().zip(b.pixels()).map(|(a, b)| a.abs_diff(*b)).max().unwrap()
}

#[test]
fn a_run_that_learns_adapters_is_the_same_stopped_or_not_on_one_rank_or_many() {
    let place = Place::new();
    assert_eq!(to_the_end(&run(&place, "one", &[])), Outcome::Finished);
    let stopped = train(&run(&place, "two", &[]), &mut |event| match event {
        TrainEvent::Step(report) if report.step == 3 => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    });
    assert_eq!(stopped.unwrap(), Outcome::Stopped { step: 3 });
    // what is adapted lies in the run's folder
    std::fs::rename(place.path("model"), place.path("moved")).unwrap();
    assert_eq!(to_the_end(&resumed(place.run("two", &SET))), Outcome::Finished);
    std::fs::rename(place.path("moved"), place.path("model")).unwrap();
    for ended in on_ranks(2, |_| run(&place, "many", &[]), go_on) {
        assert_eq!(ended.unwrap(), Outcome::Finished);
    }
    for other in ["two", "many"] {
        for file in ["base.safetensors", "base.lora.safetensors", "base-best.lora.safetensors", "state.safetensors"] {
            assert!(place.bytes("one", file) == place.bytes(other, file), "{other}: another {file}");
        }
    }
}

#[test]
fn adapters_change_the_weights_that_they_are_of_and_can_be_taken_off_again() {
    let place = Place::new();
    let lr = ["train.lr=2e-2"];
    to_the_end(&run(&place, "run", &lr));
    let (model, run) = (model(&place), place.path("run"));
    let lora = Lora::open(&run.join("base.lora.safetensors")).unwrap();
    assert_eq!((lora.stage, lora.step), (StageName::Base, Some(6)));
    let (before, after) = (values(&model.join("base.safetensors")), values(&run.join("base.safetensors")));
    for (name, values) in &before {
        let adapted = lora.adapters.contains_key(name);
        assert_eq!(adapted, name.ends_with(".weight") && [2, 4].contains(&values.shape.len()), "{name}");
        assert_eq!(adapted, *values != after[name], "{name}");
    }
    let size = |file: &str| place.bytes("run", file).len();
    assert!(size("base.lora.safetensors") < size("base.safetensors"), "adapters are small");

    let device = Device::flex();
    let open = || Imagen::open(&ModelFiles::Folder(model.clone()), &device).unwrap();
    let begun = drawn(&open());
    let trained = imagen::train::export(&run, &place.path("exported"), &Choice::Last, &place.run("any", &[]).text);
    assert_eq!(trained.unwrap().step, 6);
    let trained = drawn(&Imagen::open(&ModelFiles::Folder(place.path("exported")), &device).unwrap());
    assert!(distance(&begun, &trained) > 2, "the training is seen");
    let adapted = drawn(&open().with_lora(lora.clone(), 1.0).unwrap());
    assert!(distance(&adapted, &trained) <= 1, "folded at the start or by the run: {}", distance(&adapted, &trained));
    assert_eq!(distance(&begun, &drawn(&open().with_lora(lora.clone(), 0.0).unwrap())), 0);
    let there_and_back = open().with_lora(lora.clone(), 0.7).unwrap().with_lora(lora.clone(), -0.7).unwrap();
    assert!(distance(&begun, &drawn(&there_and_back)) <= 1);

    // another of the averages is folded as well
    let other = export(&run, &place.path("other"), &Choice::Average("1".to_owned()), &place.run("any", &[]).text);
    assert_eq!(other.unwrap().average, "1");
    assert!(values(&place.path("other/base.safetensors")) != after);
}

#[test]
fn what_cannot_be_adapted_is_refused_before_the_first_step() {
    let place = Place::new();
    let refused = |run: Run, kind: ErrorKind, words: &str| {
        let error = train(&run, &mut |_| ControlFlow::Continue(())).unwrap_err();
        assert!(error.kind() == kind && format!("{error:#}").contains(words), "{words}: {error:#}");
    };
    refused(place.run("none", &SET), ErrorKind::Usage, "--init-from");
    refused(run(&place, "wide", &["stage.unet.embedding=32"]), ErrorKind::Usage, "differs from it in");
    refused(
        run(&place, "frozen", &["train.freeze=['*.weight']"]),
        ErrorKind::Data,
        "no parameter that gets an adapter",
    );
    to_the_end(&run(&place, "run", &["train.steps=2"]));
    let other = resumed(place.run("run", &["train.lora={ rank = 3 }", "train.ema_half_lives=[1]"]));
    refused(other, ErrorKind::Model, "the run learns other adapters: ");
    let none = resumed(place.run("run", &["train.ema_half_lives=[1]"]));
    refused(none, ErrorKind::Model, "the run learns other adapters: ");

    let lora = Lora::open(&place.path("run/base.lora.safetensors")).unwrap();
    let open = || Imagen::open(&ModelFiles::Folder(model(&place)), &Device::flex()).unwrap();
    let error = |opened: imagen::Result<Imagen>| opened.err().unwrap().to_string();
    let mut sr = lora.clone();
    sr.stage = StageName::Sr256;
    assert!(error(open().with_lora(sr, 1.0)).contains("stage sr256"));
    let mut words = lora.clone();
    words.text_encoder = Some("another".to_owned());
    assert!(error(open().with_lora(words, 1.0)).contains("text encoder another"));
    assert!(error(open().with_lora(lora, f64::NAN)).contains("NaN"));
}

//! A run on many ranks is the run of one: threads stand for the ranks.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use burn::tensor::Device;
use imagen::cascade::{Record, write_stage};
use imagen::data::shapes;
use imagen::models::unet::Unet;
use imagen::nn::{self, Init};
use imagen::ranks::{ThreadRank, in_threads};
use imagen::rng::Rng;
use imagen::text::{self, EncoderFiles, TextOptions};
use imagen::train::{InitFrom, Outcome, Recipe, Run, TrainEvent, read_metrics, train, train_among};
use imagen::{Error, ErrorKind, Result};

/// Eight parts of one picture: shared by up to eight ranks.
const EIGHT: [&str; 8] = [
    "stage.sampling.steps=2",
    "train.steps=6",
    "train.batch=8",
    "train.micro_batch=1",
    "train.clip_norm=0.5",
    "train.text_drop_prob=0.3",
    "train.validate_every=3",
    "train.sample_every=0",
];

pub(super) fn recipe(data: &Path, set: &[&str]) -> Recipe {
    let text = include_str!("../../tiny.toml").replace("\"data\"", &format!("{data:?}"));
    Recipe::parse_with(&text, &[&EIGHT, set].concat()).unwrap()
}

pub(super) struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    /// Enough pictures that some are held out.
    pub(super) fn new() -> Self {
        Self::of(400)
    }

    fn of(pictures: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        shapes::write(&folder.path().join("data"), pictures, 16, 1).unwrap();
        Self { folder }
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(super) fn run(&self, name: &str, set: &[&str]) -> Run {
        let text = EncoderFiles::open(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/minilm")).unwrap();
        let recipe = recipe(&self.path("data"), set);
        Run { recipe, folder: self.path(name), resume: false, init_from: None, text, device: Device::flex() }
    }

    pub(super) fn bytes(&self, run: &str, file: &str) -> Vec<u8> {
        std::fs::read(self.path(run).join(file)).unwrap()
    }
}

/// What each rank of a run comes to, where `run(rank)` is what it is given and `watch(rank, event)` its observer.
pub(super) fn on_ranks(
    size: usize,
    run: impl Fn(usize) -> Run + Sync,
    watch: impl Fn(usize, &TrainEvent) -> ControlFlow<()> + Sync,
) -> Vec<Result<Outcome>> {
    std::thread::scope(|scope| {
        let (run, watch) = (&run, &watch);
        let begin = |ranks: ThreadRank| {
            scope.spawn(move || {
                let rank = imagen::ranks::Ranks::rank(&ranks);
                train_among(&run(rank), &ranks, &mut |event| watch(rank, event))
            })
        };
        let threads: Vec<_> = in_threads(size).into_iter().map(begin).collect();
        threads.into_iter().map(|thread| thread.join().expect("no rank panics")).collect()
    })
}

pub(super) fn go_on(_: usize, _: &TrainEvent) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

/// The files that say what was learned.
const LEARNED: [&str; 3] = ["base.safetensors", "base-best.safetensors", "captions.safetensors"];

#[test]
fn any_number_of_ranks_trains_the_run_of_one_bit_for_bit() {
    let place = Place::new();
    train(&place.run("one", &[]), &mut |_| ControlFlow::Continue(())).unwrap();
    let state = place.bytes("one", "state.safetensors");
    let losses = |run: &str| -> Vec<String> {
        let lines = read_metrics(&place.path(run)).unwrap();
        lines
            .iter()
            .map(|line| match line {
                imagen::train::MetricsLine::Train(line) => {
                    format!("{:?} {:?} {:?}", line.loss, line.loss_by_t, line.gradient_norm)
                }
                other => format!("{other:?}"),
            })
            .collect()
    };
    for size in [2, 3, 8] {
        let name = format!("{size}");
        let ended = on_ranks(size, |_| place.run(&name, &[]), go_on);
        assert!(ended.iter().all(|ended| matches!(ended, Ok(Outcome::Finished))), "{ended:?}");
        assert!(place.bytes(&name, "state.safetensors") == state, "{size} ranks: another state");
        for file in LEARNED {
            assert!(place.bytes(&name, file) == place.bytes("one", file), "{size} ranks: another {file}");
        }
        assert_eq!(losses(&name), losses("one"), "{size} ranks");
    }
}

#[test]
fn a_stopped_run_goes_on_with_another_number_of_ranks() {
    let place = Place::new();
    train(&place.run("one", &[]), &mut |_| ControlFlow::Continue(())).unwrap();
    // the last rank alone wants to stop, and all stop after the same step
    let stop = |rank: usize, event: &TrainEvent| match event {
        TrainEvent::Step(report) if rank == 3 && report.step == 3 => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    };
    for ended in on_ranks(4, |_| place.run("many", &[]), stop) {
        assert_eq!(ended.unwrap(), Outcome::Stopped { step: 3 });
    }
    for ended in on_ranks(2, |_| Run { resume: true, ..place.run("many", &[]) }, go_on) {
        assert_eq!(ended.unwrap(), Outcome::Finished);
    }
    assert!(place.bytes("many", "state.safetensors") == place.bytes("one", "state.safetensors"));
}

#[test]
fn a_run_that_stops_while_captions_are_encoded_keeps_them_and_begins_again() {
    let place = Place::new();
    train(&place.run("one", &[]), &mut |_| ControlFlow::Continue(())).unwrap();
    let stop = |_: usize, event: &TrainEvent| match event {
        TrainEvent::Encoded { .. } => ControlFlow::Break(()),
        TrainEvent::Step(_) => panic!("no step is taken"),
        _ => ControlFlow::Continue(()),
    };
    for size in [1, 2] {
        for ended in on_ranks(size, |_| place.run("many", &[]), stop) {
            assert_eq!(ended.unwrap(), Outcome::StoppedEncoding);
        }
        assert!(!place.path("many").join("captions.safetensors").exists(), "not all are encoded");
        assert!(place.path("many").join("captions.safetensors.part-0000").exists(), "those that are, are kept");
    }
    for ended in on_ranks(2, |_| place.run("many", &[]), go_on) {
        assert_eq!(ended.unwrap(), Outcome::Finished);
    }
    for file in LEARNED.iter().chain(&["state.safetensors"]) {
        assert!(place.bytes("many", file) == place.bytes("one", file), "another {file}");
    }
}

#[test]
fn a_step_that_is_not_finite_on_one_rank_is_skipped_by_all() {
    let place = Place::of(40);
    let set = ["train.max_skipped=3", "train.validate_every=0"];
    let config = recipe(&place.path("data"), &[]).stage;
    let wild = Unet::new(&config.unet, &mut Init::zeros(&Device::flex())).unwrap();
    let mut drawn = 0;
    let wild = nn::import(wild, |_, shape| {
        drawn += 1;
        Ok(Rng::new(1).fold(drawn).normal(shape.iter().product()).into_iter().map(|x| 1e4 * x).collect())
    })
    .unwrap();
    let file = place.path("wild.safetensors");
    let identity = text::load(place.run("one", &[]).text, &TextOptions::default(), &Device::flex()).unwrap();
    write_stage(&file, &config, &Record::of_steps(1), identity.identity(), &wild).unwrap();
    let run = |name: &str| Run { init_from: Some(InitFrom::File(file.clone())), ..place.run(name, &set) };
    let alone = train(&run("one"), &mut |_| ControlFlow::Continue(()));
    let many = on_ranks(2, |_| run("two"), go_on);
    assert_eq!(alone.as_ref().unwrap_err().kind(), ErrorKind::NonFinite);
    let said = |ended: &Result<Outcome>| match ended {
        Ok(outcome) => format!("{outcome:?}"),
        Err(error) => format!("{:?}: {error:#}", error.kind()).replace("/two/", "/one/"),
    };
    assert_eq!([said(&many[0]), said(&many[1])], [said(&alone), said(&alone)]);
}

#[test]
fn ranks_that_would_compute_another_thing_are_refused_before_the_first_step() {
    let place = Place::new();
    shapes::write(&place.path("others"), 40, 16, 2).unwrap();
    let folder = format!("data.folder={:?}", place.path("others"));
    for (name, odd, expected) in [
        ("recipe", "train.lr=2e-3", "rank 2 has another recipe"),
        ("pictures", folder.as_str(), "rank 2 has another set of pictures"),
        ("seed", "train.seed=5", "rank 2 has another recipe"),
    ] {
        let ended =
            on_ranks(3, |rank| place.run(name, if rank == 2 { std::slice::from_ref(&odd) } else { &[] }), go_on);
        for ended in ended {
            let error = ended.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Usage);
            assert!(format!("{error:#}").contains(expected), "{name}: {error:#}");
        }
        assert!(!place.path(name).join("state.safetensors").exists(), "{name}");
    }
}

#[test]
fn more_ranks_than_parts_are_refused_with_the_size_that_fits() {
    let place = Place::new();
    let error = |size: usize, set: &[&str]| -> Vec<Error> {
        on_ranks(size, |_| place.run("few", set), go_on).into_iter().map(Result::unwrap_err).collect()
    };
    for error in error(3, &["train.micro_batch=4"]) {
        assert!(error.to_string().contains("2 part(s), too few for 3 ranks"), "{error}");
        assert!(error.to_string().contains("--set train.micro_batch=2"), "{error}");
    }
    for error in error(9, &[]) {
        assert!(error.to_string().ends_with("start fewer ranks"), "{error}");
    }
}

#[test]
fn a_picture_that_one_rank_finds_damaged_is_named_by_the_first_and_counted_by_all() {
    let place = Place::of(40);
    let damaged = std::fs::read_dir(place.path("data/images")).unwrap().map(|entry| entry.unwrap().path());
    let mut damaged: Vec<PathBuf> = damaged.collect();
    damaged.sort();
    for path in &damaged[..4] {
        std::fs::write(path, b"no picture").unwrap();
    }
    let set = ["train.validate_every=0", "train.steps=8", "data.max_bad=0.2"];
    let warned = std::sync::Mutex::new(Vec::new());
    let watch = |rank: usize, event: &TrainEvent| {
        if let (0, TrainEvent::Warning(text)) = (rank, event) {
            warned.lock().unwrap().push(text.clone());
        }
        ControlFlow::Continue(())
    };
    train(&place.run("one", &set), &mut |event| watch(0, event)).unwrap();
    let mut alone = std::mem::take(&mut *warned.lock().unwrap());
    for ended in on_ranks(4, |_| place.run("four", &set), watch) {
        ended.unwrap();
    }
    let mut many = warned.into_inner().unwrap();
    alone.sort();
    many.sort();
    many.dedup();
    assert!(!alone.is_empty() && alone.iter().all(|text| many.contains(text)), "{alone:?} {many:?}");
    assert!(place.bytes("one", "state.safetensors") == place.bytes("four", "state.safetensors"));
    // each rank finds less than the limit, all together more
    for ended in
        on_ranks(4, |_| place.run("strict", &["data.max_bad=0.05", "train.steps=8", "train.validate_every=0"]), go_on)
    {
        let error = ended.unwrap_err();
        assert!(format!("{error:#}").contains("max_bad = 0.05 allows"), "{error:#}");
    }
}

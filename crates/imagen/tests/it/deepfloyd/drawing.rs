//! The process, its steps and finished pictures against diffusers, with the same noise; captions; the whole pipeline.

use std::collections::VecDeque;
use std::path::Path;
use std::rc::Rc;

use burn::tensor::{Device, Tensor};
use imagen::ErrorKind;
use imagen::cascade::deepfloyd::{
    DeepFloyd, Embeddings, IfTexts, Process, SafetyChecker, StageFolder, Verdict, clean_caption,
};
use imagen::cascade::{Event, Imagen, Request, StageName, StageOptions, StageSettings, Start, StartPicture};
use imagen::diffusion::{AugLevel, Denoised, Noise, Outside, PlannedStep, Sampler, StepEvent, Timesteps, Trajectory};
use imagen::image::Picture;
use imagen::models::weights::Storage;

use super::{Golden, error, golden, numbers};

fn process() -> Process {
    StageFolder::open(&golden("one")).unwrap().process("scheduler").unwrap()
}

#[test]
fn the_table_is_that_of_diffusers() {
    assert_eq!(process().alphas_cumprod(), Golden::open(&golden("")).values("alphas_cumprod"));
}

#[test]
fn the_eight_named_lists_are_those_of_the_repositories() {
    let lists: serde_json::Map<String, serde_json::Value> =
        serde_json::from_slice(&std::fs::read(golden("timesteps.json")).unwrap()).unwrap();
    assert_eq!(lists.len(), Timesteps::NAMED.len());
    for (name, _) in Timesteps::NAMED {
        let expected: Vec<usize> = serde_json::from_value(lists[name].clone()).unwrap();
        assert_eq!(name.parse::<Timesteps>().unwrap().steps(1000, 0).unwrap(), expected, "{name}");
    }
}

#[test]
fn spacings_are_read_written_and_counted() {
    for (text, count, first, last) in [
        ("10,10,3,2,2", 27, 999, 0),
        ("150", 150, 999, 0),
        ("ddim50", 50, 980, 0),
        ("leading:50", 50, 980, 0),
        ("leading:27", 27, 962, 0),
        ("10,10,10,10,10,10,10,10,0,0", 80, 799, 0),
    ] {
        let timesteps: Timesteps = text.parse().unwrap();
        assert_eq!(timesteps.to_string(), text);
        let steps = timesteps.steps(1000, 0).unwrap();
        assert!(steps.windows(2).all(|pair| pair[0] > pair[1]), "{text}: {steps:?}");
        assert_eq!((steps.len(), steps[0], *steps.last().unwrap()), (count, first, last), "{text}");
    }
    for (text, why) in [
        ("fast28", "expected one of fast27, smart27"),
        ("10,x", "expected one of"),
        ("600,1", "section 1 has 500 steps and cannot give 600"),
        ("ddim600", "no whole distance makes 600 of 1000"),
        ("leading:0", "expected 1 to 1000"),
        ("0,0", "chooses no steps"),
    ] {
        let error = text.parse::<Timesteps>().and_then(|timesteps| timesteps.steps(1000, 0)).unwrap_err();
        assert!(error.to_string().contains(why), "{text}: {error}");
    }
}

/// Every number of a run with another sampler, held against that sampler in diffusers (`golden/if/make_samplers.py`).
#[test]
fn other_samplers_draw_the_pictures_of_diffusers() {
    let samplers = Golden::read(&golden("samplers.safetensors"));
    let low = Golden::open(&golden("")).tensor::<4>("draw.picture");
    for (name, stage, sampler, timesteps, guidance, low) in [
        ("ddim", "one", "ddim", "leading:6", 7.0, None),
        ("ddim-half", "one", "ddim:0.5", "leading:6", 7.0, None),
        ("dpm", "one", "dpm++2m", "leading:6", 7.0, None),
        ("ddim-large", "two", "ddim", "leading:4", 4.0, Some(low.clone())),
        ("dpm-large", "two", "dpm++2m", "leading:4", 4.0, Some(low)),
    ] {
        let sampler = Some(sampler.parse().unwrap());
        let run = Run { timesteps, guidance, level: 250, sampler };
        let (_, steps) = run.draw_with(stage, noise_of(&samplers, name), low, None);
        let error = error(&numbers(&steps.last().unwrap().z), samplers.values(&format!("{name}.picture")));
        println!("{name}: {error:.1e}");
        assert!(error <= 1e-4, "{name}: relative error {error:.1e}");
    }
}

/// What diffusers drew at random in a run, in its order.
fn noise_of(golden: &Golden, run: &str) -> Noise {
    let mut draws: VecDeque<Tensor<4>> = VecDeque::new();
    while golden.has(&format!("{run}.noise.{}", draws.len())) {
        draws.push_back(golden.tensor(&format!("{run}.noise.{}", draws.len())));
    }
    Box::new(move |_, shape| {
        let draw = draws.pop_front().expect("as many draws as diffusers made");
        assert_eq!(draw.dims(), shape);
        draw
    })
}

/// A run of a stage with diffusers' noise; `level` is a step of the process that noises the low resolution.
struct Run {
    timesteps: &'static str,
    guidance: f64,
    level: u16,
    sampler: Option<Sampler>,
}

impl Run {
    fn new(timesteps: &'static str, guidance: f64, level: u16) -> Self {
        Self { timesteps, guidance, level, sampler: None }
    }

    fn settings(&self, process: &Process) -> StageSettings {
        StageSettings {
            timesteps: Some(self.timesteps.parse().unwrap()),
            guidance: self.guidance,
            sampler: self.sampler.unwrap_or(process.sampler()),
            thresholding: process.thresholding(),
            aug_level: AugLevel::new(f64::from(self.level) / 1000.0).unwrap(),
            ..StageSettings::default()
        }
    }

    /// The steps of the process, and what came of each.
    fn draw(
        &self,
        stage: &str,
        name: &str,
        low: Option<Tensor<4>>,
        start: Option<Start>,
    ) -> (Vec<usize>, Vec<StepEvent>) {
        self.draw_with(stage, noise_of(&Golden::open(&golden("")), name), low, start)
    }

    fn draw_with(
        &self,
        stage: &str,
        noise: Noise,
        low: Option<Tensor<4>>,
        start: Option<Start>,
    ) -> (Vec<usize>, Vec<StepEvent>) {
        let golden_file = Golden::open(&golden(""));
        let folder = StageFolder::open(&golden(stage)).unwrap();
        let built = Rc::new(folder.build(Storage::Stored, &crate::device()).unwrap());
        let (prompts, empty) = (golden_file.tensor("prompt_embeds"), golden_file.tensor("negative_prompt_embeds"));
        let size = [folder.config.sample_size; 2];
        let settings = self.settings(&built.process);
        let timesteps = built.process.timesteps(&settings).unwrap();
        let steps = built.steps(&settings, &IfTexts { prompts, empty, toward: None }, size, low, start, noise).unwrap();
        let steps: Vec<StepEvent> = steps.map(Result::unwrap).collect();
        (timesteps[timesteps.len() - steps.len()..].to_vec(), steps)
    }
}

/// Every step of both stages: the rule alone on diffusers' inputs, and in the run.
#[test]
fn every_step_is_that_of_diffusers() {
    let golden = Golden::open(&golden(""));
    for (stage, name, run) in
        [("one", "draw", Run::new("leading:6", 7.0, 250)), ("two", "enlarge", Run::new("leading:4", 4.0, 250))]
    {
        let low = (stage == "two").then(|| golden.tensor("draw.picture"));
        let (timesteps, steps) = run.draw(stage, name, low, None);
        assert!(timesteps.iter().map(|t| *t as f32).eq(golden.values(&format!("{name}.timesteps")).iter().copied()));
        let process = StageFolder::open(&super::golden(stage)).unwrap().process("scheduler").unwrap();
        let plan = process.plan(process.sampler(), &timesteps).unwrap();
        let all = |part: &str| golden.tensor::<5>(&format!("{name}.{part}"));
        let at = |part: &str, i: usize| -> Tensor<4> { all(part).narrow(0, i, 1).squeeze_dim::<4>(0) };
        let before = if stage == "two" { 2 } else { 1 };
        for (i, step) in steps.iter().enumerate() {
            let mut draws = noise_of(&golden, name);
            for _ in 0..before + i {
                draws(imagen::diffusion::Draw::Initial, step.z.dims());
            }
            let c = step.z.dims()[3];
            let variance = Some(at("model_output", i).narrow(3, c, c));
            let denoise =
                |_: Tensor<4>, _: &PlannedStep| Ok(Denoised { x_hat: at("x_hat", i), variance: variance.clone() });
            let alone = Trajectory::follow(plan[i..=i].to_vec(), at("sample", i), None, draws, denoise);
            let alone = alone.map(Result::unwrap).next().unwrap();
            for (what, found, part, bound) in [
                ("z of the step alone", &alone.z, "previous", 1e-6),
                ("z", &step.z, "previous", 1e-4),
                ("x̂", &step.x_hat, "x_hat", 1e-4),
            ] {
                let error = error(&numbers(found), &numbers(&at(part, i)));
                println!("stage {stage}, step {i}, {what}: {error:.1e}");
                assert!(error <= bound, "stage {stage}, step {i}, {what}: relative error {error:.1e}");
            }
        }
    }
}

/// Finished pictures of every kind of run.
#[test]
fn finished_pictures_are_those_of_diffusers() {
    let golden = Golden::open(&golden(""));
    let picture = |name: &str| golden.tensor::<4>(name);
    let start = |of: &str, strength, mask: Option<&str>| {
        let mask = mask.map(|mask| golden.tensor::<4>(mask).repeat_dim(0, 2));
        Some(Start { pictures: picture(of), strength, mask, outside: Outside::Clean, resample: 1 })
    };
    for (name, stage, run, low, start) in [
        ("draw", "one", Run::new("leading:6", 7.0, 0), None, None),
        ("fast27", "one", Run::new("fast27", 7.0, 0), None, None),
        ("enlarge", "two", Run::new("leading:4", 4.0, 250), Some("draw.picture"), None),
        ("img2img", "one", Run::new("leading:7", 10.0, 0), None, start("image", 0.7, None)),
        ("inpaint", "one", Run::new("leading:5", 7.0, 0), None, start("image", 1.0, Some("mask"))),
        ("img2img2", "two", Run::new("leading:5", 4.0, 250), Some("image"), start("large", 0.8, None)),
        ("inpaint2", "two", Run::new("leading:5", 4.0, 0), Some("image"), start("large", 0.8, Some("large_mask"))),
    ] {
        let (timesteps, steps) = run.draw(stage, name, low.map(picture), start);
        let expected = golden.values(&format!("{name}.timesteps"));
        assert!(timesteps.iter().map(|t| *t as f32).eq(expected.iter().copied()), "{name}");
        let error = error(&numbers(&steps.last().unwrap().z), golden.values(&format!("{name}.picture")));
        println!("{name}: {error:.1e}");
        assert!(error <= 1e-4, "{name}: relative error {error:.1e}");
    }
}

#[test]
fn captions_are_cleaned_as_those_of_the_training() {
    let cases: Vec<(String, String)> =
        serde_json::from_slice(&std::fs::read(golden("captions.json")).unwrap()).unwrap();
    assert!(cases.len() >= 30);
    for (caption, expected) in cases {
        assert_eq!(clean_caption(&caption), expected, "{caption:?}");
    }
}

#[test]
fn markup_entities_and_odd_characters_of_captions_are_read_as_there() {
    let cases: Vec<(String, String)> = serde_json::from_slice(&std::fs::read(golden("markup.json")).unwrap()).unwrap();
    assert!(cases.len() >= 90);
    let wrong: Vec<String> = cases
        .iter()
        .filter(|(caption, expected)| clean_caption(caption) != *expected)
        .map(|(caption, expected)| format!("{caption:?}: {:?}, expected {expected:?}", clean_caption(caption)))
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

fn embeddings(device: &Device) -> Embeddings {
    let golden = Golden::open(&golden(""));
    let empty = golden.tensor::<3>("negative_prompt_embeds").narrow(0, 0, 1).to_device(device);
    Embeddings::new(golden.tensor("prompt_embeds"), empty).unwrap()
}

fn request(prompts: &[&str]) -> Request {
    let options = |timesteps: &str, guidance, level| StageOptions {
        timesteps: Some(timesteps.parse().unwrap()),
        guidance: Some(guidance),
        aug_level: Some(AugLevel::new(level).unwrap()),
        ..StageOptions::default()
    };
    let options = [(StageName::Base, options("leading:4", 7.0, 0.0)), (StageName::Sr256, options("2,1", 4.0, 0.25))];
    Request {
        embeddings: Some(embeddings(&crate::device())),
        options: options.into(),
        ..Request::new(prompts.iter().map(|p| (*p).to_owned()).collect(), 1, 5)
    }
}

/// The finished pictures of a request, and how many steps each stage took.
type Drawn = (StageName, Picture, Option<Verdict>);

fn draw(model: DeepFloyd, request: &Request) -> (Vec<Drawn>, Vec<StageName>) {
    let (mut pictures, mut steps) = (Vec::new(), Vec::new());
    for event in Imagen::from(model).sample(request).unwrap() {
        match event.unwrap() {
            Event::Step { stage, .. } => steps.push(stage),
            Event::Image { stage, picture, verdict, .. } => pictures.push((stage, picture, verdict)),
        }
    }
    (pictures, steps)
}

/// Both stages, found as folder and subfolder.
fn nested(folder: &Path) {
    copy(&golden("one"), folder);
    copy(&golden("two"), &folder.join("stage_2"));
}

pub(super) fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target)
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[test]
fn a_folder_draws_through_both_stages_whatever_the_batch() {
    let folder = tempfile::tempdir().unwrap();
    nested(folder.path());
    let device = crate::device();
    let model = || DeepFloyd::open(folder.path(), None, &device).unwrap();
    assert_eq!(model().stages(), [StageName::Base, StageName::Sr256]);
    let (apart, steps) = draw(model(), &request(&["a", "b"]));
    let (together, _) = draw(model(), &Request { batch: Some(2), ..request(&["a", "b"]) });
    assert_eq!(steps.iter().filter(|stage| **stage == StageName::Base).count(), 8);
    assert_eq!(steps.len(), 8 + 6);
    let sizes: Vec<usize> = apart.iter().map(|(_, picture, _)| picture.width()).collect();
    assert_eq!(sizes, [8, 8, 16, 16]);
    assert!(apart.iter().all(|(_, _, verdict)| verdict.is_none()));
    for ((stage, one, _), (_, other, _)) in apart.iter().zip(&together) {
        let far = one.pixels().iter().zip(other.pixels()).filter(|(a, b)| a.abs_diff(**b) > 1).count();
        assert_eq!(far, 0, "{stage}: batches change pictures");
    }
    assert_ne!(apart[2].1, apart[3].1, "prompts are told apart");
    let first = DeepFloyd::open(&golden("one"), Some(&golden("two")), &device).unwrap();
    assert_eq!(draw(first, &request(&["a", "b"])).0[3].1, apart[3].1);
}

#[test]
fn a_picture_can_be_the_start_and_the_second_stage_can_stand_alone() {
    let device = crate::device();
    let start = |picture, mask| Some(StartPicture { mask, ..StartPicture::new(picture) });
    let model = DeepFloyd::open(&golden("one"), Some(&golden("two")), &device).unwrap();
    let kept = Picture::filled(40, 20, [0]);
    let wide = Picture::filled(40, 20, [200, 30, 90]);
    let whole = Request { start: start(wide, Some(kept)), ..request(&["a", "b"]) };
    for (stage, picture, _) in draw(model, &whole).0 {
        // nothing is drawn anew: the start itself, at the stage's size
        let height = if stage == StageName::Base { 8 } else { 16 };
        assert_eq!((picture.width(), picture.height()), (2 * height, height), "{stage}");
        assert!(picture.pixels().as_chunks().0.iter().all(|pixel| *pixel == [200, 30, 90]), "{stage}");
    }
    let alone = || DeepFloyd::open(&golden("two"), None, &device).unwrap();
    let refused = Imagen::from(alone()).sample(&request(&["a", "b"])).unwrap_err();
    assert!(refused.to_string().contains("stage sr256 enlarges: give a picture to enlarge"), "{refused}");
    let small = Picture::filled(8, 8, [9, 99, 199]);
    let (pictures, steps) = draw(alone(), &without_base(Request { start: start(small, None), ..request(&["a", "b"]) }));
    assert_eq!((pictures.len(), steps.len()), (2, 6));
    assert_eq!(pictures[0].1.width(), 16);
}

/// A request to a second stage alone.
fn without_base(mut request: Request) -> Request {
    request.options.remove(&StageName::Base);
    request
}

/// The first stage with the golden safety checker.
fn with_checker(folder: &Path) {
    copy(&golden("one"), folder);
    copy(&golden("safety/safety_checker"), &folder.join("safety_checker"));
    copy(&golden("safety/feature_extractor"), &folder.join("feature_extractor"));
    let index = folder.join("model_index.json");
    let mut json: serde_json::Value = serde_json::from_slice(&std::fs::read(&index).unwrap()).unwrap();
    json["safety_checker"] = serde_json::json!(["deepfloyd_if", "IFSafetyChecker"]);
    std::fs::write(&index, json.to_string()).unwrap();
}

#[test]
fn the_safety_checker_judges_as_that_of_diffusers() {
    let folder = tempfile::tempdir().unwrap();
    with_checker(folder.path());
    let (stage, device) = (StageFolder::open(folder.path()).unwrap(), crate::device());
    let checker = SafetyChecker::open(&stage, &device).unwrap().expect("the folder ships one");
    let bytes = std::fs::read(golden("safety/pictures.safetensors")).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let words = |name: &str| file.tensor(name).unwrap().data().as_chunks::<4>().0.to_vec();
    let flags = |name: &str| words(name).into_iter().map(|w| i32::from_le_bytes(w) != 0).collect::<Vec<_>>();
    let logits =
        ["logits.p", "logits.w"].map(|name| words(name).into_iter().map(f32::from_le_bytes).collect::<Vec<_>>());
    let (withheld, unsafe_content, watermark) = (flags("withheld"), flags("unsafe"), flags("marked"));
    assert!(withheld.contains(&true) && withheld.contains(&false) && unsafe_content != watermark);
    for i in 0..withheld.len() {
        let tensor = file.tensor(&format!("picture.{i}")).unwrap();
        let picture = Picture::with_channels(tensor.shape()[1], tensor.shape()[0], 3, tensor.data().to_vec()).unwrap();
        for (found, expected) in checker.logits(&picture).unwrap().iter().zip([logits[0][i], logits[1][i]]) {
            println!("picture {i}: {found} for {expected}");
            assert!((found - expected).abs() <= 1e-4 * expected.abs().max(1.0), "picture {i}: {found} for {expected}");
        }
        let (shown, verdict) = checker.check(picture.clone()).unwrap();
        assert_eq!(verdict, Verdict { unsafe_content: unsafe_content[i], watermark: watermark[i] }, "picture {i}");
        let black = Picture::filled(picture.width(), picture.height(), [0; 3]);
        assert_eq!(shown, if withheld[i] { black } else { picture }, "picture {i}");
    }
}

#[test]
fn a_safety_checker_that_ships_is_applied_and_a_damaged_one_refuses_the_folder() {
    let folder = tempfile::tempdir().unwrap();
    with_checker(folder.path());
    let device = crate::device();
    let mut only_base = request(&["a", "b"]);
    only_base.options.remove(&StageName::Sr256);
    let model = DeepFloyd::open(folder.path(), None, &device).unwrap();
    assert!(model.has_checker());
    let plain = DeepFloyd::open(&golden("one"), None, &device).unwrap();
    for ((_, shown, verdict), (_, drawn, none)) in draw(model, &only_base).0.into_iter().zip(draw(plain, &only_base).0)
    {
        assert_eq!(none, None);
        let verdict = verdict.expect("judged");
        let black = Picture::filled(drawn.width(), drawn.height(), [0; 3]);
        assert_eq!(shown, if verdict.withheld() { black } else { drawn });
    }
    let weights = folder.path().join("safety_checker/model.safetensors");
    std::fs::write(&weights, b"nothing").unwrap();
    let refused = DeepFloyd::open(folder.path(), None, &device).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Model);
    assert!(format!("{refused:#}").contains("model.safetensors is not a usable safetensors file"), "{refused:#}");
    std::fs::remove_dir_all(folder.path().join("safety_checker")).unwrap();
    let refused = format!("{:#}", DeepFloyd::open(folder.path(), None, &device).unwrap_err());
    assert!(refused.contains("names a safety_checker") && refused.contains("is not there"), "{refused}");
}

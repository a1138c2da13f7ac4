//! Folders become examples, and examples become batches whose order a seed fixes.

mod deals;
mod sources;
mod unusable;
mod world;

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::path::Path;

use imagen::ErrorKind;
use imagen::data::{Batch, Deal, Layout, Loader, LoaderOptions, Source, Split, Survey, Transform, shapes};
use imagen::image::{DecodeOptions, Picture, PngText, png};

fn picture(folder: &Path, name: &str) {
    let number = name.bytes().map(usize::from).sum::<usize>() as u8;
    png::write(&folder.join(name), &Picture::filled(8, 8, [number, 0, 255 - number]), &PngText::default()).unwrap();
}

fn text(folder: &Path, name: &str, content: &str) {
    std::fs::write(folder.join(name), content).unwrap();
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn shapes_source(count: usize, size: usize) -> (tempfile::TempDir, Source) {
    let folder = folder();
    shapes::write(folder.path(), count, size, 11).unwrap();
    let source = Source::open(folder.path()).unwrap();
    (folder, source)
}

fn captions_of<'a>(source: &'a Source, name: &str) -> Vec<&'a str> {
    let example = source.examples().iter().find(|example| example.name == name).unwrap();
    example.captions.iter().map(|&number| source.captions()[number].as_str()).collect()
}

#[test]
fn metadata_gives_captions_paraphrases_and_splits() {
    let folder = folder();
    ["a.png", "deep/b.png", "c.PNG", "unlisted.png"].iter().for_each(|name| picture(folder.path(), name));
    text(
        folder.path(),
        "metadata.jsonl",
        concat!(
            "{\"file_name\":\"c.PNG\",\"text\":\"a red apple\",\"texts\":[\"a red apple\",\"red apple\"],\"split\":\"validation\"}\n",
            "\n",
            "{\"file_name\":\"./deep/b.png\",\"text\":\" red apple \",\"split\":\"train\",\"width\":8}\n",
            "{\"file_name\":\"a.png\",\"text\":\"a pear\",\"split\":\"train\"}\n",
            "{\"file_name\":\"a.png\",\"text\":\"a green pear\"}\n",
        ),
    );
    let source = Source::open(folder.path()).unwrap();
    assert_eq!(source.layout(), Layout::Metadata);
    let names: Vec<_> = source.examples().iter().map(|example| example.name.as_str()).collect();
    assert_eq!(names, ["a.png", "c.PNG", "deep/b.png"]);
    assert_eq!(captions_of(&source, "c.PNG"), ["a red apple", "red apple"]);
    assert_eq!(captions_of(&source, "deep/b.png"), ["red apple"]);
    assert_eq!(captions_of(&source, "a.png"), ["a pear", "a green pear"]);
    assert_eq!(source.captions().len(), 4, "equal captions are kept once");
    assert_eq!(source.split(Split::Validation).unwrap().examples().len(), 1);
    assert_eq!(source.odd().uncaptioned, ["unlisted.png"]);
    assert_eq!(source.odd().repeated, ["a.png"]);
    let said = source.to_string();
    for expected in
        ["2 training and 1 validation pictures", "metadata.jsonl", "1 picture without a caption", "unlisted.png"]
    {
        assert!(said.contains(expected), "{said}");
    }
}

#[test]
fn text_files_beside_pictures_are_captions_and_pictures_alone_are_unconditional() {
    let folder = folder();
    ["a.png", "b.png"].iter().for_each(|name| picture(folder.path(), name));
    let alone = Source::open(folder.path()).unwrap();
    assert_eq!((alone.layout(), alone.examples().len(), alone.captions().len()), (Layout::Unconditional, 2, 0));
    let batch = Loader::new(alone, Transform { size: 8, ..Default::default() }, 3, 0).unwrap().batch_at(0).unwrap();
    assert_eq!(batch.captions, [None, None, None]);

    text(folder.path(), "b.txt", "a dog\n\na brown dog\n");
    let source = Source::open(folder.path()).unwrap();
    assert_eq!((source.layout(), source.examples().len()), (Layout::CaptionFiles, 1));
    assert_eq!(captions_of(&source, "b.png"), ["a dog", "a brown dog"]);
    assert_eq!(source.odd().uncaptioned, ["a.png"]);
}

#[test]
fn an_unusable_folder_is_one_clear_error() {
    let line = |name: &str, rest: &str| format!("{{\"file_name\":\"{name}\"{rest}}}\n");
    let good = line("a.png", ",\"text\":\"x\"");
    let cases: [(&str, &[&str], &str, &str); 8] = [
        ("nothing at all", &[], "", "holds no picture"),
        ("captions without pictures", &[], &good, "1 caption but no picture"),
        ("most pictures missing", &["a.png"], &(good.clone() + &line("b.png", ",\"text\":\"y\"")), "1 of 2 entries"),
        ("no line has text", &["a.png"], &line("a.png", ""), "none of the 1 pictures"),
        ("a broken line", &["a.png"], &(good.clone() + "{nonsense"), "line 2"),
        ("a path that leaves the folder", &["a.png"], &line("../a.png", ",\"text\":\"x\""), "leaves the folder"),
        ("an absolute path", &["a.png"], &line("/a.png", ",\"text\":\"x\""), "leaves the folder"),
        ("an unknown split", &["a.png"], &line("a.png", ",\"text\":\"x\",\"split\":\"dev\""), "\"dev\""),
    ];
    for (what, pictures, metadata, expected) in cases {
        let folder = folder();
        pictures.iter().for_each(|name| picture(folder.path(), name));
        if !metadata.is_empty() {
            text(folder.path(), "metadata.jsonl", metadata);
        }
        let error = Source::open_allowing(folder.path(), 0.0).expect_err(what);
        assert_eq!(error.kind(), ErrorKind::Data, "{what}");
        assert!(format!("{error:#}").contains(expected), "{what}: {error:#}");
    }
    let absent = folder().path().join("absent");
    assert_eq!(Source::open(&absent).unwrap_err().kind(), ErrorKind::Data);
}

#[test]
fn the_split_of_a_name_never_changes() {
    let held: Vec<usize> =
        (0..200).filter(|i| Split::of_name(&format!("images/{i:06}.png")) == Split::Validation).collect();
    assert_eq!(held, HELD_OUT_OF_200);
    let count = (0..20_000).filter(|i| Split::of_name(&format!("{i}.jpg")) == Split::Validation).count();
    assert!((400..600).contains(&count), "{count} of 20000 held out");
}

const HELD_OUT_OF_200: [usize; 6] = [57, 80, 86, 109, 110, 157];

/// Each example of a batch: which, what it is called, its numbers.
type Dealt = (usize, Option<String>, Vec<u32>, Vec<u32>);

fn dealt(batch: &Batch) -> Vec<Dealt> {
    let bits = |pixels: &imagen::data::Pixels, i: usize| {
        let one = pixels.values.len() / pixels.shape[0];
        pixels.values[i * one..][..one].iter().map(|value| value.to_bits()).collect()
    };
    (0..batch.examples.len())
        .map(|i| {
            let low = batch.low_res.as_ref().map_or(Vec::new(), |low| bits(low, i));
            (batch.examples[i], batch.captions[i].clone(), bits(&batch.pictures, i), low)
        })
        .collect()
}

#[test]
fn what_is_dealt_depends_on_neither_workers_nor_batch_size_nor_memory() {
    let (_folder, source) = shapes_source(37, 32);
    let transform = Transform { size: 32, low_size: Some(8), crop: Some(16), flip: true, ..Default::default() };
    let deal = |seed: u64, batch: usize, workers: usize, cache_bytes: usize, start: u64| -> Vec<Dealt> {
        let options = LoaderOptions { workers, cache_bytes, ..Default::default() };
        let deal = Deal { batch, seed, ..Default::default() };
        let loader = Loader::with_options(source.clone(), transform.clone(), deal, options).unwrap();
        let batches = loader.batches(start).take((96 - start as usize) / batch);
        batches.flat_map(|batch| dealt(&batch.unwrap())).collect()
    };
    let straight = deal(5, 8, 1, 1 << 30, 0);
    assert_eq!(straight.len(), 96);
    assert_eq!(deal(5, 8, 3, 1 << 30, 0), straight, "more workers");
    assert_eq!(deal(5, 4, 2, 1 << 30, 0), straight, "smaller batches");
    assert_eq!(deal(5, 8, 2, 0, 0), straight, "no memory");
    assert_eq!(deal(5, 8, 2, 10_000, 0), straight, "memory for a few");
    assert_eq!(deal(5, 8, 1, 1 << 30, 40), straight[40..], "stopped and resumed");
    assert_ne!(deal(6, 8, 1, 1 << 30, 0), straight, "another seed");
}

#[test]
fn every_epoch_shows_every_picture_once_in_another_order() {
    let (_folder, source) = shapes_source(20, 8);
    let loader = Loader::new(source.clone(), Transform { size: 8, ..Default::default() }, 20, 1).unwrap();
    let epochs: Vec<Vec<usize>> = (0..3).map(|e| loader.batch_at(e * 20).unwrap().examples).collect();
    for epoch in &epochs {
        assert_eq!(epoch.iter().collect::<BTreeSet<_>>().len(), 20);
    }
    assert!(epochs[0] != epochs[1] && epochs[1] != epochs[2]);
    let drawn: BTreeSet<_> = (0..200).map(|p| loader.batch_at(p * 20).unwrap().captions[0].clone().unwrap()).collect();
    let known: BTreeSet<_> = source.captions().iter().cloned().collect();
    assert!(drawn.len() > 40 && drawn.is_subset(&known), "paraphrases are drawn: {}", drawn.len());
}

#[test]
fn an_epoch_by_concept_shows_one_version_of_each_and_prefers_canonical_captions() {
    let folder = folder();
    let mut lines = String::new();
    for i in 0..9 {
        picture(folder.path(), &format!("{i}.png"));
        // six versions of one thing, two of another, and one picture that is its own
        let concept = if i < 6 { ",\"concept\":\"wave\"" } else { ",\"concept\":\"pear\"" };
        let concept = if i == 8 { "" } else { concept };
        lines += &format!(
            "{{\"file_name\":\"{i}.png\",\"text\":\"t{i}\",\"texts\":[\"u{i}\"],\"split\":\"train\"{concept}}}\n"
        );
    }
    text(folder.path(), "metadata.jsonl", &lines);
    let source = Source::open(folder.path()).unwrap();
    assert_eq!(source.concepts(), [(0..6).collect(), vec![6, 7], vec![8]]);
    let deal = Deal { batch: 3, seed: 1, by_concept: true, canonical_prob: 0.5, ..Default::default() };
    let transform = Transform { size: 8, ..Default::default() };
    let loader = Loader::with_options(source.clone(), transform, deal, LoaderOptions::default()).unwrap();
    let (mut seen, mut canonical) = ([0; 9], 0);
    for epoch in 0..300 {
        let batch = loader.batch_at(3 * epoch).unwrap();
        let mut kinds = batch.examples.iter().map(|&e| usize::from(e >= 6) + usize::from(e == 8)).collect::<Vec<_>>();
        kinds.sort_unstable();
        assert_eq!(kinds, [0, 1, 2], "one of each concept");
        batch.examples.iter().for_each(|&e| seen[e] += 1);
        canonical += batch.captions.iter().filter(|caption| caption.as_ref().unwrap().starts_with('t')).count();
    }
    assert!(seen[..6].iter().all(|&n| (25..=80).contains(&n)) && seen[8] == 300, "{seen:?}");
    // half of the time for certain, and half of the other half by chance
    assert!((620..=730).contains(&canonical), "{canonical} of 900");
}

#[test]
fn a_pair_shows_one_window_at_two_resolutions() {
    let (_folder, source) = shapes_source(6, 32);
    let transform = Transform { size: 32, low_size: Some(8), ..Default::default() };
    let batch = Loader::new(source, transform, 4, 2).unwrap().batch_at(0).unwrap();
    let low = batch.low_res.unwrap();
    assert_eq!((batch.pictures.shape, low.shape), ([4, 32, 32, 3], [4, 8, 8, 3]));
    for (i, &mean) in low.values.iter().enumerate() {
        let (c, x, y, n) = (i % 3, i / 3 % 8, i / 24 % 8, i / 192);
        let block = (0..16).map(|k| batch.pictures.values[((n * 32 + y * 4 + k / 4) * 32 + x * 4 + k % 4) * 3 + c]);
        assert!((block.sum::<f32>() / 16.0 - mean).abs() < 1e-5);
    }
}

#[test]
fn a_corrupt_picture_is_named_and_replaced_and_many_stop_the_run() {
    let (folder, _) = shapes_source(200, 8);
    let break_picture = |i: usize| text(folder.path(), &format!("images/{i:06}.png"), "no picture");
    break_picture(17);
    let source = || Source::open(folder.path()).unwrap();
    let loader = || Loader::new(source(), Transform { size: 8, ..Default::default() }, 200, 1).unwrap();
    let first = loader();
    let batch = first.batch_at(0).unwrap();
    assert!(!batch.examples.contains(&17));
    assert_eq!(batch.pictures.values.len(), 200 * 8 * 8 * 3);
    let skipped = first.skipped(0);
    assert_eq!((skipped.len(), first.skipped(1).len()), (1, 0));
    assert!(skipped[0].0 == "images/000017.png" && skipped[0].1.contains("expected PNG"), "{skipped:?}");
    assert_eq!(loader().batch_at(0).unwrap(), batch, "the replacement is decided by the position");

    (40..45).for_each(break_picture);
    let error = loader().batches(0).next().unwrap().unwrap_err();
    let message = format!("{error:#}");
    assert!(message.contains("3 of 200 pictures") && message.contains(".png"), "{message}");
}

#[test]
fn an_iterator_ends_after_an_error() {
    let folder = folder();
    text(folder.path(), "a.png", "no picture");
    let source = Source::open(folder.path()).unwrap();
    let loader = Loader::new(source, Transform { size: 8, ..Default::default() }, 1, 1).unwrap();
    let mut batches = loader.batches(0);
    assert!(batches.next().unwrap().is_err());
    assert!(batches.next().is_none());
}

#[test]
fn a_survey_is_the_same_with_any_number_of_threads_and_a_break_ends_it() {
    let (folder, source) = shapes_source(30, 12);
    text(folder.path(), "images/000004.png", "no picture");
    std::fs::copy(folder.path().join("images/000007.png"), folder.path().join("images/000021.png")).unwrap();
    let options = DecodeOptions::default();
    let take = |threads: usize| {
        let mut told = Vec::new();
        let survey = Survey::take(&source, &options, threads, &mut |done| {
            told.push(done);
            ControlFlow::Continue(())
        });
        assert_eq!(told, (1..=30).collect::<Vec<_>>());
        survey.unwrap()
    };
    let one = take(1);
    assert!(one.looks[4].as_ref().unwrap_err().contains("000004.png"), "{:?}", one.looks[4]);
    assert_eq!((one.readable().count(), one.copies()), (29, vec![(21, 7)]));
    assert_eq!(one.moments().len(), 3);
    for threads in [2, 5] {
        let other = take(threads);
        assert_eq!((&other.looks, other.moments()), (&one.looks, one.moments()));
    }
    let mut left = 3;
    let stopped = Survey::take(&source, &options, 2, &mut |_| {
        left -= 1;
        if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    assert!(stopped.is_none() && left == 0);
}

#[test]
fn the_shapes_of_a_seed_are_always_the_same_files() {
    let (first, second, other) = (folder(), folder(), folder());
    let summary = shapes::write(first.path(), 40, 24, 3).unwrap();
    assert_eq!(shapes::write(second.path(), 40, 24, 3).unwrap(), summary);
    shapes::write(other.path(), 40, 24, 4).unwrap();
    assert_eq!(summary.train + summary.validation, 40);
    let read = |folder: &Path, name: &str| std::fs::read(folder.join(name)).unwrap();
    let names = (0..40).map(|i| format!("images/{i:06}.png")).chain(["metadata.jsonl".to_string()]);
    for name in names {
        assert_eq!(read(first.path(), &name), read(second.path(), &name), "{name}");
    }
    assert_ne!(read(first.path(), "metadata.jsonl"), read(other.path(), "metadata.jsonl"));
    assert_eq!(captions_of(&Source::open(first.path()).unwrap(), "images/000000.png")[0], FIRST_SHAPE);
    assert!(shapes::write(first.path(), 0, 24, 3).is_err());
}

const FIRST_SHAPE: &str = "a green square above a yellow triangle";

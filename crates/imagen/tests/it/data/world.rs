//! An endless set: what is dealt, and what of it a folder of pictures holds.

use std::collections::BTreeSet;
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use imagen::ErrorKind;
use imagen::data::{Deal, Layout, Loader, LoaderOptions, Source, Split, Transform, World};
use imagen::image::DecodeOptions;

use super::{Dealt, dealt};

fn world() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/world")
}

fn deal(seed: u64, batch: usize, workers: usize, start: u64) -> Vec<Dealt> {
    let source = Source::open(&world()).unwrap().split(Split::Train).unwrap();
    let transform = Transform { size: 32, low_size: Some(8), crop: Some(16), ..Default::default() };
    let options = LoaderOptions { workers, ..Default::default() };
    let deal = Deal { batch, seed, canonical_prob: 0.25, ..Default::default() };
    let loader = Loader::with_options(source, transform, deal, options).unwrap();
    let batches = loader.batches(start).take((96 - start as usize) / batch);
    batches.flat_map(|batch| dealt(&batch.unwrap())).collect()
}

#[test]
fn what_a_world_deals_depends_on_neither_workers_nor_batch_size() {
    let straight = deal(5, 8, 1, 0);
    assert_eq!(straight.len(), 96);
    assert_eq!(deal(5, 8, 3, 0), straight, "more workers");
    assert_eq!(deal(5, 4, 2, 0), straight, "smaller batches");
    assert_eq!(deal(5, 8, 1, 40), straight[40..], "stopped and resumed");
    let numbers: Vec<usize> = straight.iter().map(|(number, ..)| *number).collect();
    assert_eq!(numbers, (0..96).collect::<Vec<_>>(), "each picture once, without end");
    let other = deal(6, 8, 1, 0);
    assert!(other.iter().zip(&straight).any(|(a, b)| a.1 != b.1), "another seed says other captions");
}

#[test]
fn a_sample_of_a_world_is_listed_and_is_what_is_written_as_a_set() {
    let source = Source::open(&world()).unwrap();
    assert_eq!((source.layout(), source.examples().len()), (Layout::Composed, 1280));
    assert!(source.to_string().starts_with("an endless set that is composed: 7 nouns, 4 styles"), "{source}");
    let folder = tempfile::tempdir().unwrap();
    let mut seen = 0;
    let mut count = |done| {
        seen = done;
        ControlFlow::Continue(())
    };
    let whole = World::open(&world()).unwrap().write(folder.path(), [70, 5], 256, &mut count).unwrap();
    assert!(whole && seen == 75);
    let written = Source::open(folder.path()).unwrap();
    let options = DecodeOptions::default();
    for (split, count) in [(Split::Train, 70), (Split::Validation, 5)] {
        let [ours, theirs] = [&source, &written].map(|source| source.split(split).unwrap());
        assert_eq!(theirs.examples().len(), count);
        for (one, other) in ours.examples().iter().zip(theirs.examples()) {
            assert!(ours.picture(one, &options).unwrap() == theirs.picture(other, &options).unwrap(), "{}", one.name);
            let captions = |source: &Source, numbers: &[usize]| {
                numbers.iter().map(|&number| source.captions()[number].clone()).collect::<BTreeSet<_>>()
            };
            assert_eq!(captions(&ours, &one.captions), captions(&theirs, &other.captions));
        }
    }
    let stopped = World::open(&world()).unwrap();
    let other = tempfile::tempdir().unwrap();
    assert!(!stopped.write(other.path(), [200, 0], 16, &mut |_| ControlFlow::Break(())).unwrap());
    assert!(!other.path().join("metadata.jsonl").exists(), "an interrupted set is none");
}

#[test]
fn a_bank_without_a_grammar_is_no_set_of_pictures() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("bank.json"), "{}").unwrap();
    let error = Source::open(folder.path()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Data);
    assert!(format!("{error:#}").contains("without a grammar.toml"), "{error:#}");
}

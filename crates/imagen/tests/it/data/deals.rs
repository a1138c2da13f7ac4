//! What is dealt is a function of (seed, position), for every layout, and with pictures that cannot be used among the good.

use std::fs;
use std::path::Path;

use imagen::ErrorKind;
use imagen::data::{Deal, Loader, LoaderOptions, Source, Split, Transform};
use imagen::image::{Picture, PngText, png};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::{Dealt, dealt, folder, text};

const COUNT: usize = 14;
/// Damaged, and smaller than [`deal`] asks for.
const DAMAGED: usize = 3;
const SMALL: usize = 8;

fn file(index: usize) -> Vec<u8> {
    let side = if index == SMALL { 7 } else { 8 + index % 3 };
    let pixels = (0..side * side * 3).map(|i| (i * 31 + index * 57) as u8).collect();
    let mut bytes = png::encode(&Picture::new(side, side, pixels).unwrap(), &PngText::default()).unwrap();
    if index == DAMAGED {
        bytes.truncate(bytes.len() / 2);
    }
    bytes
}

/// Writes the pictures and captions in one layout.
fn write(folder: &Path, layout: &str) {
    let caption = |i: usize| format!("picture {i}\nnumber {i}");
    let mut archive = tar::Builder::new(Vec::new());
    let mut append = |name: String, bytes: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        archive.append_data(&mut header, name, bytes).unwrap();
    };
    let (mut jsonl, mut csv) = (String::new(), "file_name,text,concept\n".to_owned());
    let (mut images, mut annotations) = (Vec::new(), Vec::new());
    for i in 0..COUNT {
        let name = format!("{i:02}.png");
        if layout == "shards" {
            append(name.clone(), &file(i));
            append(format!("{i:02}.txt"), caption(i).as_bytes());
        } else {
            fs::write(folder.join(&name), file(i)).unwrap();
        }
        if layout == "caption files" {
            text(folder, &format!("{i:02}.txt"), &caption(i));
        }
        for line in caption(i).lines() {
            jsonl += &format!("{{\"file_name\":\"{name}\",\"text\":\"{line}\",\"concept\":\"{}\"}}\n", i / 2);
            csv += &format!("{name},{line},{}\n", i / 2);
            annotations.push(format!("{{\"image_id\":{i},\"caption\":\"{line}\"}}"));
        }
        images.push(format!("{{\"id\":{i},\"file_name\":\"{name}\"}}"));
    }
    match layout {
        "jsonl" => text(folder, "metadata.jsonl", &jsonl),
        "csv" => text(folder, "metadata.csv", &csv),
        "coco" => {
            let (images, annotations) = (images.join(","), annotations.join(","));
            text(folder, "captions_x.json", &format!("{{\"images\":[{images}],\"annotations\":[{annotations}]}}"));
        }
        "shards" => fs::write(folder.join("a.tar"), archive.into_inner().unwrap()).unwrap(),
        _ => {}
    }
}

const LAYOUTS: [&str; 6] = ["jsonl", "csv", "caption files", "coco", "shards", "pictures alone"];

fn deal(seed: u64, batch: usize, by_concept: bool) -> Deal {
    Deal { batch, seed, by_concept, canonical_prob: 0.25, min_side: 8, max_bad: 0.2, cells: 0 }
}

/// The examples `start..end`, in batches.
fn examples(source: &Source, deal: Deal, options: LoaderOptions, start: u64, end: u64) -> Vec<Dealt> {
    let transform = Transform { size: 8, low_size: Some(4), crop: Some(4), flip: true, ..Default::default() };
    let loader = Loader::with_options(source.clone(), transform, deal, options).unwrap();
    let batches = loader.batches(start).take((end - start) as usize / deal.batch);
    batches.flat_map(|batch| dealt(&batch.unwrap())).collect()
}

#[test]
fn any_number_of_workers_and_any_cut_of_the_run_deal_the_same_in_every_layout() {
    const END: u64 = 48;
    let sets = LAYOUTS.map(|layout| {
        let folder = folder();
        write(folder.path(), layout);
        let source = Source::open(folder.path()).unwrap();
        assert_eq!(source.examples().len(), COUNT, "{layout}: {source}");
        (folder, source)
    });
    let strategy = (
        0..LAYOUTS.len(),
        0u64..4,
        any::<bool>(),
        1usize..5,
        1usize..4,
        0usize..4,
        0u64..END,
        prop_oneof![Just(0usize), Just(600), Just(1 << 30)],
    );
    let mut runner = TestRunner::new(Config { cases: 60, failure_persistence: None, ..Config::default() });
    let judged = runner.run(&strategy, |(layout, seed, by_concept, workers, batch, ahead, cut, cache_bytes)| {
        let source = &sets[layout].1;
        let straight = examples(source, deal(seed, 1, by_concept), LoaderOptions::default(), 0, END);
        prop_assert_eq!(straight.len(), END as usize);
        prop_assert!(straight.iter().all(|(example, ..)| ![DAMAGED, SMALL].contains(example)));
        let options = LoaderOptions { workers, ahead, cache_bytes, ..Default::default() };
        // Whole batches on both sides of the cut, the second part by a loader that knows nothing of the first.
        let cut = cut - cut % batch as u64;
        let end = END - (END - cut) % batch as u64;
        let mut parts = examples(source, deal(seed, batch, by_concept), options, 0, cut);
        parts.extend(examples(source, deal(seed, batch, by_concept), options, cut, end));
        prop_assert_eq!(&parts[..], &straight[..end as usize], "{}", LAYOUTS[layout]);
        Ok(())
    });
    judged.unwrap();
}

#[test]
fn what_is_skipped_is_counted_named_and_replaced_by_the_next_of_the_order() {
    let folder = folder();
    write(folder.path(), "jsonl");
    let source = Source::open(folder.path()).unwrap();
    let order = |deal: Deal, source: &Source| -> (Vec<usize>, Loader) {
        let transform = Transform { size: 8, ..Default::default() };
        let loader = Loader::with_options(source.clone(), transform, deal, LoaderOptions::default()).unwrap();
        (loader.batch_at(0).unwrap().examples, loader)
    };
    // the same set, whole: its order is the one in which places are filled
    (0..COUNT).for_each(|i| fs::write(folder.path().join(format!("{i:02}.png")), file(0)).unwrap());
    let (whole, loader) = order(deal(5, COUNT, false), &source);
    assert!(loader.skipped(0).is_empty());
    write(folder.path(), "jsonl");
    let (dealt, loader) = order(deal(5, COUNT, false), &source);
    let usable = |example: &usize| ![DAMAGED, SMALL].contains(example);
    for (place, example) in dealt.iter().enumerate() {
        let next = (0..COUNT).map(|step| whole[(place + step) % COUNT]).find(usable).unwrap();
        assert_eq!(*example, next, "place {place}");
    }
    let mut skipped = loader.skipped(0);
    assert_eq!(loader.skipped(1)[..], skipped[1..]);
    skipped.sort();
    assert!(skipped[0].0 == "03.png" && skipped[0].1.contains("damaged or incomplete"), "{skipped:?}");
    assert!(skipped[1].0 == "08.png" && skipped[1].1.contains("7x7 pixels, fewer than min_side = 8"), "{skipped:?}");
    assert_eq!(skipped.len(), 2);
    assert_eq!(order(Deal { min_side: 0, ..deal(5, COUNT, false) }, &source).1.skipped(0).len(), 1, "any side");
}

#[test]
fn more_unusable_pictures_than_allowed_stop_the_run_with_names_and_the_remedy() {
    let folder = folder();
    write(folder.path(), "jsonl");
    let source = Source::open(folder.path()).unwrap();
    for (max_bad, allowed) in [(0.0, 0), (0.05, 1)] {
        let transform = Transform { size: 8, ..Default::default() };
        let deal = Deal { max_bad, ..deal(5, COUNT, false) };
        let loader = Loader::with_options(source.clone(), transform, deal, LoaderOptions::default()).unwrap();
        let error = loader.batch_at(0).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Data);
        let message = format!("{error:#}");
        let count = allowed + 1;
        let expected = [
            &format!("{count} of 14 pictures"),
            &format!("max_bad = {max_bad} allows {allowed}"),
            ".png",
            "imagen data check",
            "raise data.max_bad",
        ];
        assert!(expected.iter().all(|part| message.contains(*part)), "{message}");
    }
    let source = source.split(Split::Train).unwrap();
    for max_bad in [-0.1, 1.5, f64::NAN] {
        let deal = Deal { max_bad, ..Deal::default() };
        let refused = Loader::with_options(source.clone(), Transform::default(), deal, LoaderOptions::default());
        assert_eq!(refused.err().unwrap().kind(), ErrorKind::Usage);
    }
}

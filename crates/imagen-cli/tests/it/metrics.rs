//! Metrics with networks from outside: Inception and CLIP of random weights, and the protocol of COCO.

use std::fs;
use std::io::Write;
use std::path::Path;

use serde_json::{Value, json};

use imagen::data::shapes::{Factor, question};
use imagen::eval::{Clip, clip_score};
use imagen::image::{DecodeOptions, Picture, PngText, decode, png};
use imagen::models::inception::Inception;
use imagen::models::weights::{NamedTensor, Precision, write_safetensors};
use imagen::rng::Rng;

use crate::refusals::all_refused_after;
use crate::tiny::{self, Trained};
use crate::{files, kill_once_there, run, succeed};

fn json(folder: &Path, arguments: &[&str]) -> Value {
    serde_json::from_str(&succeed(folder, &[arguments, &["--json", "-q"]].concat())).unwrap()
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

/// A file of Inception's tensors, random.
fn inception(path: &Path) {
    let tensors: Vec<(String, Vec<usize>, Vec<f32>)> = Inception::tensors()
        .into_iter()
        .enumerate()
        .map(|(at, (name, shape))| {
            let count = shape.iter().product();
            let (spread, middle) = match () {
                () if name.ends_with("conv.weight") => {
                    (5.0 / (shape[1..].iter().product::<usize>() as f32).sqrt(), 0.0)
                }
                () if name.ends_with("running_var") || name.ends_with("bn.weight") => (0.5, 1.0),
                () => (0.4, 0.0),
            };
            let uniform = Rng::new(5).fold(at as u64).uniform(count);
            let values = uniform.into_iter().map(|x| (x - 0.5) * spread + middle).collect();
            (name, shape, values)
        })
        .collect();
    let named: Vec<NamedTensor<'_>> = tensors
        .iter()
        .map(|(name, shape, values)| NamedTensor { name: name.clone(), shape: shape.clone(), values: values.into() })
        .collect();
    write_safetensors(path, &named, &Default::default(), Precision::F32).unwrap();
}

/// Statistics as pytorch-fid writes them: `mu` and `sigma` in an archive of NumPy.
fn pytorch_fid(statistics: &Path, to: &Path) {
    let file = fs::read(statistics).unwrap();
    let (length, rest) = file.split_first_chunk().unwrap();
    let (header, data) = rest.split_at(u64::from_le_bytes(*length) as usize);
    let header: Value = serde_json::from_slice(header).unwrap();
    let count: f64 = header["__metadata__"]["imagen.count"].as_str().unwrap().parse().unwrap();
    let numbers = |name: &str, over: f64| -> Vec<u8> {
        let [from, until] = [0, 1].map(|end| header[name]["data_offsets"][end].as_u64().unwrap() as usize);
        let bytes = &data[from..until];
        bytes.as_chunks().0.iter().flat_map(|b| (f64::from_le_bytes(*b) / over).to_le_bytes()).collect()
    };
    let mut archive = zip::ZipWriter::new(fs::File::create(to).unwrap());
    for (name, shape, numbers) in
        [("mu", "(2048,)", numbers("mean", 1.0)), ("sigma", "(2048, 2048)", numbers("scatter", count - 1.0))]
    {
        archive.start_file(format!("{name}.npy"), zip::write::FileOptions::default()).unwrap();
        let header = format!("{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}\n");
        archive.write_all(b"\x93NUMPY\x01\0").unwrap();
        archive.write_all(&(header.len() as u16).to_le_bytes()).unwrap();
        archive.write_all(&[header.as_bytes(), &numbers].concat()).unwrap();
    }
    archive.finish().unwrap();
}

fn clip() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../imagen/tests/golden/clip/tiny")
}

#[test]
fn distances_over_inception_are_called_fid_and_are_of_one_protocol() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    for (name, seed) in [("a", "1"), ("b", "2")] {
        succeed(folder, &["data", "shapes", name, "-n", "5", "--size", "16", "--seed", seed]);
    }
    inception(&folder.join("w.safetensors"));
    let with = |arguments: &[&str]| json(folder, &[arguments, &["--inception", "w.safetensors"]].concat());
    succeed(folder, &["eval", "stats", "a", "--features", "--inception", "w.safetensors", "-o", "a.safetensors", "-q"]);
    let fid = with(&["eval", "fid", "a", "b"]);
    assert!(number(&fid["fid"]) > 0.0 && fid["interval"].is_null() && fid["frechet_distance"].is_null(), "{fid}");
    assert_eq!(
        (&fid["extractor"], &fid["features"], &fid["a"]["pictures"]),
        (&json!("inception-v3"), &json!(2048), &json!(5))
    );
    assert!(
        fid["resize"].as_str().unwrap().starts_with("original") && fid["note"].as_str().unwrap().contains("rank 4"),
        "{fid}"
    );

    // a file stands for its folder, and brings the features that an interval needs
    let of_file = with(&["eval", "fid", "a.safetensors", "b", "--interval"]);
    assert_eq!((&of_file["fid"], &of_file["extractor_digest"]), (&fid["fid"], &fid["extractor_digest"]));
    let interval = &of_file["interval"];
    assert!(
        number(&interval["low"]) < number(&fid["fid"]) && number(&fid["fid"]) < number(&interval["high"]),
        "{of_file}"
    );
    let clean = with(&["eval", "fid", "a", "b", "--resize", "clean"]);
    assert_ne!(clean["fid"], fid["fid"]);

    let shares = with(&["eval", "precision-recall", "a.safetensors", "a.safetensors"]);
    assert_eq!((&shares["precision"], &shares["recall"]), (&json!(1.0), &json!(1.0)), "a set covers itself");
    let text = succeed(folder, &["eval", "kid", "a.safetensors", "a.safetensors", "-q"]);
    assert!(text.starts_with("KID (inception-v3): ") && text.contains("original: 299x299"), "{text}");

    // the same moments as pytorch-fid keeps them
    pytorch_fid(&folder.join("a.safetensors"), &folder.join("a.npz"));
    for other in ["b", "b.safetensors"] {
        if other != "b" {
            succeed(folder, &["eval", "stats", "b", "--inception", "w.safetensors", "-o", other, "-q"]);
        }
        let archive = with(&["eval", "fid", other, "a.npz"]);
        assert!((number(&archive["fid"]) / number(&fid["fid"]) - 1.0).abs() < 1e-9, "{archive} {fid}");
        assert!(archive["b"]["pictures"].is_null() && archive["a"]["pictures"] == json!(5), "{archive}");
    }
    let text = succeed(folder, &["eval", "fid", "a.npz", "b.safetensors", "-q"]);
    assert!(text.contains("a.npz, which does not say of how many pictures it is"), "{text}");

    all_refused_after(
        folder,
        &["eval"],
        &[
            (&["fid", "a.npz", "b"][..], 2, "give --inception"),
            (&["fid", "a.npz", "b", "--split-a", "train", "--inception", "w.safetensors"], 2, "has no splits"),
            (&["kid", "a.npz", "b", "--inception", "w.safetensors"], 2, "no features of single pictures"),
            (&["fid", "a.safetensors", "b"], 2, "--inception"),
            (&["fid", "a.safetensors", "b", "--inception", "w.safetensors", "--resize", "clean"], 2, "clean-fid"),
            (&["fid", "a", "b", "--resize", "clean"], 2, "--inception"),
            (&["fid", "a", "b", "--inception", "a.safetensors"], 4, "Conv2d_1a_3x3.conv.weight"),
        ],
    );
}

/// A set of eight pictures, each with a caption of its own.
fn captioned(folder: &Path) -> Vec<(Picture, String)> {
    fs::create_dir_all(folder).unwrap();
    let words = ["apple", "table", "cats", "dogs", "red", "wooden", "pictures", "see"];
    let (mut rows, mut all) = (String::new(), Vec::new());
    for (k, word) in words.iter().enumerate() {
        let pixels = Rng::new(k as u64).uniform(20 * 30 * 3).into_iter().map(|x| (255.0 * x) as u8).collect();
        let picture = Picture::new(20, 30, pixels).unwrap();
        fs::write(folder.join(format!("{k}.png")), png::encode(&picture, &PngText::default()).unwrap()).unwrap();
        let text = format!("a picture of a {word}");
        rows.push_str(&format!("{}\n", json!({ "file_name": format!("{k}.png"), "text": text })));
        all.push((picture, text));
    }
    fs::write(folder.join("metadata.jsonl"), rows).unwrap();
    all
}

#[test]
fn clip_scores_and_retrieval_are_those_of_the_library_on_the_same_pictures() {
    let folder = tempfile::tempdir().unwrap();
    let set = captioned(&folder.path().join("set"));
    let network = Clip::open(&clip(), &burn::tensor::Device::flex()).unwrap();
    let (pictures, captions): (Vec<Picture>, Vec<&str>) = set.iter().map(|(p, c)| (p.clone(), c.as_str())).unzip();
    let cosines: Vec<f64> = network.similarity(&pictures, &captions).unwrap().into_data().iter::<f64>().collect();
    let expected = (0..8).map(|k| clip_score(cosines[9 * k])).sum::<f64>() / 8.0;

    let clip = clip();
    let with = |verb: &str, more: &[&str]| {
        json(folder.path(), &[&["eval", verb, "set", "--clip", clip.to_str().unwrap()], more].concat())
    };
    let score = with("clip-score", &[]);
    assert!((number(&score["clip_score"]) - expected).abs() < 1e-3, "{score}, expected {expected}");
    assert!(number(&score["interval"]["low"]) < expected && expected < number(&score["interval"]["high"]));
    assert!(score["extractor"].as_str().unwrap().starts_with("clip-") && score["pictures"] == json!(8), "{score}");

    // among all eight captions the rank is that of the cosines
    let found = with("retrieval", &["--among", "8"]);
    let best = |k: &usize| (0..8).all(|other| other == *k || cosines[8 * k + other] < cosines[9 * k]);
    assert_eq!(found["top_1"]["hits"], json!((0..8).filter(best).count()));
    assert_eq!((&found["top_1"]["by_chance"], &found["among"]), (&json!(0.125), &json!(8)));
    let refused = run(folder.path(), &["eval", "retrieval", "set", "--clip", clip.to_str().unwrap(), "-q"]);
    assert!(refused.code == 2 && refused.stderr.contains("there are 8 different ones"), "{}", refused.stderr);
}

#[test]
fn a_sweep_over_inception_and_a_clip_has_the_papers_axes() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    succeed(folder, &["data", "shapes", "set", "-n", "300", "--size", "16"]);
    inception(&folder.join("w.safetensors"));
    tiny::model(&folder.join("m"), &Trained::BASE);
    let clip = clip();
    let sweep =
        ["eval", "sweep", "--data", "set", "-n4", "--steps", "1", "-o", "out", "-q", "--guidance", "1,4", "-m", "m"];
    let looks = ["--inception", "w.safetensors", "--clip", clip.to_str().unwrap()];
    succeed(folder, &[&sweep[..], &looks].concat());
    let read = |name: &str| fs::read_to_string(folder.join("out").join(name)).unwrap();
    let rows: Vec<Value> = read("points.jsonl").lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let scores: Vec<f64> = rows.iter().map(|row| number(&row["clip_score"]["value"])).collect();
    assert_eq!(scores.len(), 2);
    assert!(scores[0] != scores[1] && rows.iter().all(|row| number(&row["frechet_distance"]) > 0.0), "{rows:?}");
    for (file, words) in [
        ("curves.svg", &["CLIP score (clip-", "FID (4 pictures)"][..]),
        ("table.md", &["| FID | CLIP score (95 %) |", "features inception-v3"]),
        ("table.csv", &["clip_score"]),
        ("report.html", &["<th scope=\"col\">CLIP score (95 %)</th>"]),
    ] {
        assert!(words.iter().all(|words| read(file).contains(words)), "{file}: {}", read(file));
    }
    // a sweep that looked with other eyes is another one
    let refused = run(folder, &sweep);
    assert!(refused.code == 2 && refused.stderr.contains("holds a sweep of other pictures"), "{}", refused.stderr);
}

/// A captions file of eight captions over six pictures, which are drawn in `originals`.
fn coco(folder: &Path) {
    fs::create_dir_all(folder.join("originals")).unwrap();
    let images: Vec<Value> =
        (0..6).map(|k| json!({ "id": 10 + k, "file_name": format!("{k}.png"), "width": 16 })).collect();
    for k in 0..6u8 {
        let picture = Picture::filled(16, 16, [40 * k, 100, 200]);
        fs::write(folder.join(format!("originals/{k}.png")), png::encode(&picture, &PngText::default()).unwrap())
            .unwrap();
    }
    let annotation = |k: usize| json!({ "id": k, "image_id": 10 + k % 6, "caption": format!("thing number {k} ") });
    let annotations: Vec<Value> = (0..8).map(annotation).collect();
    let file = json!({ "info": {}, "images": images, "annotations": annotations });
    fs::write(folder.join("captions.json"), file.to_string()).unwrap();
}

#[test]
fn the_protocol_of_coco_draws_the_same_whole_killed_or_in_shards_and_then_measures() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    coco(folder);
    tiny::model(&folder.join("m"), &Trained::BOTH);
    let clip = clip();
    let command = |to: &'static str| ["eval", "coco", to, "--captions", "captions.json", "-mm", "-n5", "--steps", "20"];
    let drawn =
        |of: &str| files(&folder.join(of)).into_iter().filter(|name| name.ends_with(".png")).collect::<Vec<_>>();
    let same = |other: &str| {
        assert_eq!(drawn(other).len(), 5, "{other}");
        for name in drawn(other).into_iter().chain(["coco.json".into(), "metadata.jsonl".into()]) {
            let read = |of: &str| fs::read(folder.join(of).join(&name)).unwrap();
            assert!(read(other) == read("whole"), "{other}/{name}");
        }
    };
    let measured = ["--reference", "originals", "--clip", clip.to_str().unwrap()];
    let report = json(folder, &[&command("whole")[..], &measured].concat());
    let guidance = |at: usize| number(&report["protocol"]["stages"][at][1]["guidance"]);
    assert_eq!((guidance(0), guidance(1)), (1.35, 8.0), "the paper's: {report}");
    assert_eq!((&report["distance"]["a"]["pictures"], &report["distance"]["b"]["pictures"]), (&json!(5), &json!(6)));
    assert!(number(&report["distance"]["frechet_distance"]) > 0.0 && report["distance"]["fid"].is_null());
    assert!(
        report["agreement"]["captions"] == json!(5) && number(&report["agreement"]["clip_score"]) >= 0.0,
        "{report}"
    );
    let picture = decode::open(&folder.join("whole/000000.png"), &DecodeOptions::default()).unwrap();
    assert_eq!(picture.width(), 32, "through super-resolution");
    let rows = fs::read_to_string(folder.join("whole/metadata.jsonl")).unwrap();
    let rows: Vec<Value> = rows.lines().map(|row| serde_json::from_str(row).unwrap()).collect();
    assert!(rows.iter().enumerate().all(|(k, row)| row["seed"] == json!(k)) && rows.len() == 5);
    assert_eq!(rows[0]["text"].as_str().unwrap().trim(), rows[0]["text"], "captions are without blanks around them");

    // a finished folder is measured again without drawing, and says the same
    assert_eq!(json(folder, &[&command("whole")[..], &measured].concat()), report);

    let first = succeed(folder, &[&command("shards")[..], &["--shard", "2/2", "-q"]].concat());
    assert!(first.contains("2 of 5 pictures are there"), "{first}");
    assert_eq!(drawn("shards"), ["000001.png", "000003.png"]);
    succeed(folder, &[&command("shards")[..], &["--shard", "1/2", "-q"]].concat());
    same("shards");

    kill_once_there(folder, &[&command("killed")[..], &["-q"]].concat(), &folder.join("killed/000001.png"));
    let kept = drawn("killed").len();
    assert!((2..5).contains(&kept), "killed in the middle: {kept} of 5 pictures");
    succeed(folder, &[&command("killed")[..], &["-q"]].concat());
    same("killed");

    let refused = run(folder, &[&command("whole")[..], &["-q", "--guidance", "3"]].concat());
    assert!(refused.code == 2 && refused.stderr.contains("begun otherwise: stages"), "{}", refused.stderr);
    all_refused_after(
        folder,
        &["eval", "coco"],
        &[
            (&["x", "--captions", "captions.json", "-mm"][..], 2, "--count 8"),
            (&["originals", "--captions", "m/text/config.json", "-mm", "-n4"], 3, "images"),
            (&["x", "--captions", "captions.json", "-mm", "-n4", "--shard", "3/2"], 2, "I/N"),
        ],
    );
}

#[test]
fn a_model_is_asked_about_combinations_and_judged_by_what_is_composed() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    tiny::model(&folder.join("m"), &Trained::BASE);
    let world = super::data::world();
    let command = |to: &'static str| {
        let more = ["--factor", "subject", "--factor", "left-right", "-n3", "--steps", "2", "-mm"];
        [&["eval", "compose", to, "--data", &world][..], &more]
            .concat()
            .into_iter()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let report = |to: &'static str| {
        let command = command(to);
        json(folder, &command.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let whole = report("whole");
    let rows = whole["factors"].as_array().unwrap();
    let answers = whole["answers"].as_array().unwrap();
    assert_eq!((rows.len(), answers.len()), (4, 12), "{whole}");
    for row in rows {
        let [rate, ceiling, chance] = ["accuracy", "ceiling", "by_chance"].map(|key| number(&row[key]));
        // two orders; the nouns of the small world that can be drawn alike
        let sides = if row["factor"] == "left-right" { 2.0..=2.0 } else { 3.0..=6.0 };
        assert!((0.0..=1.0).contains(&rate) && ceiling >= 2.0 / 3.0, "a true picture is told from the others: {row}");
        assert!(sides.contains(&(1.0 / chance)), "{row}");
        let interval = [&row["interval"]["low"], &row["interval"]["high"]].map(number);
        assert!(interval[0] <= rate && rate <= interval[1], "{row}");
    }
    let held_out = |answer: &&Value| answer["held_out"] == json!(true);
    assert_eq!(answers.iter().filter(held_out).count(), 6);

    // what is missing is drawn again, the same, and nothing else is
    let lost = folder.join("whole").join(answers[4]["file_name"].as_str().unwrap());
    let (before, kept) =
        (fs::read(&lost).unwrap(), folder.join("whole").join(answers[5]["file_name"].as_str().unwrap()));
    let written = fs::metadata(&kept).unwrap().modified().unwrap();
    fs::remove_file(&lost).unwrap();
    assert_eq!(report("whole"), whole);
    assert!(fs::read(&lost).unwrap() == before && fs::metadata(&kept).unwrap().modified().unwrap() == written);

    let otherwise: Vec<String> = [&command("whole")[..], &["--seed".into(), "9".into()]].concat();
    let refused = run(folder, &otherwise.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(refused.code == 2 && refused.stderr.contains("begun otherwise: seed 0"), "{}", refused.stderr);
    all_refused_after(
        folder,
        &["eval", "compose"],
        &[
            (&["x", "--data", "m", "-mm"][..], 1, "grammar.toml"),
            (&["x", "--data", &world, "-mm", "--factor", "taste"], 2, "left-right"),
            (&["x", "-mm"], 2, "--data"),
        ],
    );
}

#[test]
fn a_model_of_shapes_that_draws_what_is_asked_for_gets_every_question_right_and_a_blind_one_few() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    tiny::model(&folder.join("m"), &Trained::BASE);
    let command = ["eval", "shapes", "out", "-mm", "-n12", "--steps", "2"];
    let first = json(folder, &command);
    let answers = first["answers"].as_array().unwrap();
    assert_eq!((first["factors"].as_array().unwrap().len(), answers.len()), (7, 84), "{first}");
    assert!(answers.iter().all(|answer| answer.get("held_out").is_none()), "{first}");

    // what is there is not drawn again, so that other pictures stand for those of a model
    let judged = |picture: &dyn Fn(Factor, u64) -> Picture| {
        for (answer, factor) in answers.iter().zip(Factor::ALL.into_iter().flat_map(|factor| [factor; 12])) {
            let file = answer["file_name"].as_str().unwrap();
            let number: u64 = file.trim_end_matches(".png").rsplit('-').next().unwrap().parse().unwrap();
            let bytes = png::encode(&picture(factor, number), &PngText::default()).unwrap();
            fs::write(folder.join("out").join(file), bytes).unwrap();
        }
        json(folder, &command)
    };
    let truth = |factor, number| question(factor, number).candidates[0].draw(1_000 + number, 32);
    for row in judged(&truth)["factors"].as_array().unwrap() {
        assert_eq!((&row["accuracy"], &row["asked"]), (&json!(1.0), &json!(12)), "{row}");
    }
    // it draws what the question after was about
    let blind = judged(&|factor, number| truth(factor, number + 1));
    let sum = |key: &str| blind["factors"].as_array().unwrap().iter().map(|row| number(&row[key])).sum::<f64>() / 7.0;
    assert!((sum("accuracy") - sum("by_chance")).abs() < 0.12, "{} {}", sum("accuracy"), sum("by_chance"));

    let text = succeed(folder, &[&command[..], &["-q"]].concat());
    let colour = text.lines().find(|line| line.trim_start().starts_with("colour ")).unwrap();
    assert!(text.starts_with("shapes: 84 pictures") && colour.trim_end().ends_with("10.0"), "{text}");
    let refused = run(folder, &[&command[..], &["--seed", "9"]].concat());
    assert!(refused.code == 2 && refused.stderr.contains("begun otherwise: seed 0"), "{}", refused.stderr);
    all_refused_after(folder, &["eval", "shapes", "x", "-mm"], &[(&["--factor", "taste"][..], 2, "background")]);
}

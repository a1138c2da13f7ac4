//! From pictures: to start from, to mend, to extend, to enlarge; ways between pictures; words beside the prompt. Laws, records
//! and what is refused.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tempfile::TempDir;

use imagen::image::{DecodeOptions, Picture, PngText, decode, png};

use crate::refusals::all_refused_after;
use crate::tiny::{self, Trained};
use crate::{finish, imagen, run, succeed};

/// A folder with the model `m` of 16 and 32 pixels, and these pictures.
fn folder(pictures: &[(&str, Picture)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    tiny::model(&folder.path().join("m"), &Trained::BOTH);
    for (name, picture) in pictures {
        png::write(&folder.path().join(name), picture, &PngText::default()).unwrap();
    }
    folder
}

/// A picture of many colours.
fn colourful(width: usize, height: usize) -> Picture {
    let pixels = (0..width * height * 3).map(|k| (k * 37 % 251) as u8).collect();
    Picture::new(width, height, pixels).unwrap()
}

/// A mask whose left part is black.
fn left_black(width: usize, height: usize, black: usize) -> Picture {
    let pixels = (0..width * height).map(|k| if k % width < black { 0 } else { 255 }).collect();
    Picture::with_channels(width, height, 1, pixels).unwrap()
}

fn picture(path: PathBuf) -> Picture {
    decode::open(&path, &DecodeOptions::default()).unwrap()
}

fn record(path: PathBuf) -> Value {
    let text = png::read_text(&fs::read(path).unwrap(), &DecodeOptions::default()).unwrap();
    serde_json::from_str(&text.imagen.unwrap()).unwrap()
}

/// Draws one picture under this name.
fn draw(folder: &Path, name: &str, more: &[&str]) -> Picture {
    let seed: &[&str] = if more.contains(&"--seed") { &[] } else { &["-s3"] };
    succeed(folder, &[&["sample", "-mm", "-q", "--force", "-o", name], seed, more].concat());
    picture(folder.join(name))
}

fn difference(a: &Picture, b: &Picture) -> u8 {
    assert_eq!((a.width(), a.height()), (b.width(), b.height()));
    a.pixels().iter().zip(b.pixels()).map(|(a, b)| a.abs_diff(*b)).max().unwrap()
}

#[test]
fn a_strength_of_nothing_and_a_black_mask_return_the_picture_byte_for_byte() {
    let (photo, black) = (colourful(32, 32), Picture::filled(32, 32, [0]));
    let folder = folder(&[("p.png", photo.clone()), ("black.png", black)]);
    let start = |more: &[&str]| draw(folder.path(), "a.png", &[&["x", "--image", "p.png"], more].concat());
    assert_eq!(start(&["--strength", "0"]), photo);
    assert_eq!(start(&["--mask", "black.png"]), photo);
    assert_eq!(start(&["--mask", "black.png", "--resample", "3", "--outside", "noised"]), photo);
    assert_ne!(start(&["--strength", "0.7"]), photo);
}

#[test]
fn a_white_mask_is_none_and_all_drawn_over_is_drawn_anew() {
    let folder = folder(&[("p.png", colourful(32, 32)), ("white.png", Picture::filled(8, 8, [255]))]);
    let path = folder.path();
    let begin = ["x", "--image", "p.png", "--strength", "0.7"];
    let masked = draw(path, "a.png", &[&begin[..], &["--mask", "white.png", "--feather", "3"]].concat());
    assert_eq!(masked, draw(path, "b.png", &begin), "a white mask is none");
    let all = draw(path, "c.png", &["x", "--image", "p.png", "--strength", "1"]);
    assert_eq!(all, draw(path, "d.png", &["x"]), "all drawn over is drawn anew");
}

#[test]
fn what_a_mask_keeps_is_kept_and_its_edge_is_as_soft_as_asked_for() {
    let photo = colourful(32, 32);
    let folder = folder(&[("p.png", photo.clone()), ("mask.png", left_black(32, 32, 16))]);
    let path = folder.path();
    let mend =
        |name, more: &[&str]| draw(path, name, &[&["x", "--image", "p.png", "--mask", "mask.png"], more].concat());
    let column = |of: &Picture, x: usize| (0..32).map(|y| of.pixel(x, y)).collect::<Vec<_>>();
    let (hard, soft) = (mend("hard.png", &[]), mend("soft.png", &["--feather", "4"]));
    assert!((0..16).all(|x| column(&hard, x) == column(&photo, x)), "the kept half is the picture's");
    assert_ne!(column(&hard, 16), column(&photo, 16));
    assert!((0..12).all(|x| column(&soft, x) == column(&photo, x)));
    assert_ne!(column(&soft, 14), column(&photo, 14), "the edge reaches four pixels to either side");
    let repeated = mend("again.png", &["--resample", "3"]);
    assert!((0..16).all(|x| column(&repeated, x) == column(&photo, x)));
    assert_ne!(repeated, hard);
    assert_ne!(mend("clean.png", &["--outside", "clean"]), hard, "what the network sees outside matters");
}

#[test]
fn a_picture_is_extended_and_what_was_there_stays() {
    let photo = colourful(24, 32);
    let folder = folder(&[("p.png", photo.clone())]);
    let path = folder.path();
    let wide = draw(path, "a.png", &["x", "--image", "p.png", "--extend", "left=8"]);
    assert_eq!((wide.width(), wide.height()), (32, 32));
    assert_eq!(wide.crop(8, 0, 24, 32).unwrap(), photo);
    let drawn = wide.crop(0, 0, 8, 32).unwrap();
    assert!((0..32).any(|y| drawn.pixel(3, y) != drawn.pixel(5, y)), "the room is drawn, not filled");
    let longer = draw(path, "b.png", &["x", "--image", "p.png", "--extend", "left=4,right=4,bottom=32"]);
    assert_eq!((longer.width(), longer.height()), (32, 64), "the shorter side is the stage's");
    assert_eq!(longer.crop(4, 0, 24, 32).unwrap(), photo);
}

#[test]
fn any_picture_is_enlarged_from_a_later_stage_on() {
    let folder =
        folder(&[("square.png", colourful(16, 16)), ("wide.png", colourful(41, 23)), ("dot.png", colourful(1, 1))]);
    let path = folder.path();
    let enlarge = |image| draw(path, "a.png", &["--from", "sr256", "--image", image]);
    let square = enlarge("square.png");
    assert_eq!((square.width(), square.height()), (32, 32));
    assert_eq!(record(path.join("a.png"))["from"], "sr256");
    assert!(record(path.join("a.png"))["stages"].get("base").is_none());
    let wide = enlarge("wide.png");
    assert_eq!((wide.width(), wide.height()), (84, 48), "twice the picture, in steps of the network");
    assert_eq!((enlarge("dot.png").width(), 32), (32, 32));
    // an enlargement does not depend on what a window further away shows
    let plan = succeed(path, &["plan", "m", "--from", "sr256", "--image", "wide.png", "--json"]);
    let plan: Value = serde_json::from_str(&plan).unwrap();
    let alone: Value = serde_json::from_str(&succeed(path, &["plan", "m", "--from", "sr256", "--json"])).unwrap();
    let work = |plan: &Value| plan["stages"][0]["multiply_adds"].as_u64().unwrap();
    assert_eq!(plan["stages"].as_array().unwrap().len(), 1);
    assert!(work(&plan) < work(&alone), "64 pixels, the plan's own picture, take more windows than 41 by 23");
}

#[test]
fn a_way_begins_and_ends_with_pictures_that_are_drawn_by_themselves() {
    let folder = folder(&[]);
    let path = folder.path();
    succeed(
        path,
        &[
            "sample",
            "-mm",
            "-q",
            "-s3",
            "a cat",
            "--to",
            "a long caption about a dog",
            "--to-seed",
            "9",
            "--frames",
            "3",
            "-o",
            "{index}.png",
            "--animation",
            "way.apng",
        ],
    );
    let frame = |k: usize| picture(path.join(format!("{k}.png")));
    let (first, last) =
        (draw(path, "a.png", &["a cat"]), draw(path, "b.png", &["a long caption about a dog", "--seed", "9"]));
    // batches differ in their sums
    assert!(difference(&frame(0), &first) <= 1 && difference(&frame(2), &last) <= 1);
    assert!(difference(&frame(1), &first) > 1 && difference(&frame(1), &last) > 1);
    let toward = record(path.join("1.png"))["toward"].clone();
    assert_eq!(toward, serde_json::json!({"prompt": "a long caption about a dog", "seed": 9, "part": 0.5}));
    assert!(record(path.join("0.png")).get("toward").is_none());
    let animation = fs::read(path.join("way.apng")).unwrap();
    assert_eq!(animation.windows(4).filter(|name| *name == b"fcTL").count(), 3);
    assert!(difference(&picture(path.join("way.apng")), &frame(0)) == 0, "other programs see the first");
    let middle = draw(path, "c.png", &["--params-from", "1.png"]);
    assert!(difference(&middle, &frame(1)) <= 1, "one picture of the way is drawn again");
}

#[test]
fn variations_lie_around_the_picture_of_the_seed() {
    let folder = folder(&[]);
    let path = folder.path();
    succeed(path, &["sample", "-mm", "-q", "-s3", "x", "--vary", "0.2", "-n3", "-o", "{index}.png"]);
    let own = draw(path, "own.png", &["x"]);
    let far = |k: usize| difference(&picture(path.join(format!("{k}.png"))), &own);
    assert!(far(0) <= 1 && far(1) > 1 && far(2) > 1);
    let all = draw(path, "all.png", &["x", "--to-seed", "8", "--at", "1"]);
    assert!(difference(&all, &draw(path, "other.png", &["x", "--seed", "8"])) <= 1);
}

#[test]
fn the_seed_of_enlarging_changes_what_is_added_and_not_what_is_enlarged() {
    let folder = folder(&[]);
    let path = folder.path();
    let own = draw(path, "own.png", &["x"]);
    assert_eq!(draw(path, "same.png", &["x", "--sr-seed", "3"]), own, "the seed itself");
    let other = draw(path, "other.png", &["x", "--sr-seed", "4"]);
    assert_ne!(other, own);
    let base = draw(path, "base.png", &["x", "--until", "base"]);
    assert_eq!(draw(path, "small.png", &["x", "--until", "base", "--sr-seed", "4"]), base);
    assert_eq!(record(path.join("other.png"))["sr_seed"], 4);
    assert_eq!(draw(path, "again.png", &["--params-from", "other.png"]), other);
    succeed(path, &["sample", "-mm", "-q", "-s3", "x", "-n2", "--sr-seed", "4", "-o", "n{index}.png"]);
    assert_eq!(record(path.join("n1.png"))["sr_seed"], 5, "it counts up with the seed");
}

#[test]
fn a_prompt_of_each_stage_that_is_the_same_is_one_prompt() {
    let folder = folder(&[]);
    let path = folder.path();
    let one = draw(path, "a.png", &["a cat", "--guidance", "2,2"]);
    let same =
        draw(path, "b.png", &["a cat", "--guidance", "2,2", "--prompt-base", "a cat", "--prompt-sr256", "a cat"]);
    assert_eq!(one, same);
    let base = draw(path, "c.png", &["a dog", "--guidance", "2,2", "--prompt-base", "a cat", "--until", "base"]);
    assert_eq!(base, draw(path, "d.png", &["a cat", "--until", "base"]));
    let other = draw(path, "e.png", &["a cat", "--guidance", "2,2", "--prompt-sr256", "a dog"]);
    assert_ne!(one, other);
    assert_eq!(record(path.join("e.png"))["prompts"], serde_json::json!({"sr256": "a dog"}));
    assert_eq!(draw(path, "f.png", &["--params-from", "e.png"]), other);
}

#[test]
fn a_negative_prompt_stands_in_place_of_the_null_text() {
    let folder = folder(&[]);
    let path = folder.path();
    let base = ["a cat", "--until", "base"];
    let plain = draw(path, "a.png", &base);
    let away = draw(path, "b.png", &[&base[..], &["--negative-prompt", "a dog"]].concat());
    assert_ne!(plain, away);
    // away from what is asked for, there is nothing to be guided by
    let nowhere = draw(path, "c.png", &[&base[..], &["--negative", "a cat"]].concat());
    assert!(difference(&nowhere, &draw(path, "d.png", &[&base[..], &["--guidance", "1"]].concat())) <= 1);
    assert_eq!(record(path.join("b.png"))["negative"], "a dog");
    assert_eq!(draw(path, "e.png", &["--params-from", "b.png"]), away);
    let unused = run(path, &["sample", "-mm", "x", "--until", "base", "--guidance", "1", "--negative", "y"]);
    assert!(
        unused.stderr.contains("--negative has no effect, because every stage has guidance 1"),
        "{}",
        unused.stderr
    );
}

#[test]
fn a_weight_of_words_is_one_only_where_it_is_asked_for() {
    let folder = folder(&[]);
    let path = folder.path();
    let of = |more: &[&str]| draw(path, "a.png", &[more, &["--until", "base"]].concat());
    let plain = of(&["a red apple"]);
    assert_eq!(of(&["a (red:1) apple", "--weights"]), plain);
    let weighted = of(&["a (red:1.5) apple", "--weights"]);
    assert_ne!(weighted, plain);
    assert_ne!(of(&["a (red:1.5) apple"]), weighted, "without the flag it is text");
    of(&["a (red:1.5) apple", "--weights"]);
    fs::rename(path.join("a.png"), path.join("b.png")).unwrap();
    assert_eq!(of(&["--params-from", "b.png"]), weighted);
    all_refused_after(
        path,
        &["sample", "-mm", "--weights"],
        &[(&["(red:7)"], 2, "(red:7): expected a weight from 0 to 3")],
    );
}

#[test]
#[cfg(unix)]
fn the_printed_commands_draw_the_same_pictures() {
    let folder = folder(&[("p.png", colourful(32, 32)), ("mask.png", left_black(32, 32, 16))]);
    let path = folder.path();
    let mended = ["--image", "p.png", "--mask", "mask.png", "--feather", "2", "--resample", "2", "--outside", "clean"];
    for more in [
        &["a cat", "--image", "p.png", "--strength", "0.6"][..],
        &[&["a cat"][..], &mended].concat(),
        &["a cat", "--image", "p.png", "--extend", "left=8,top=8"],
        &["it's", "--to", "-a dog", "--to-seed", "9", "--frames", "3"],
        &["a cat", "--vary", "0.3", "-n2"],
        &["--from", "sr256", "--image", "p.png", "--steps", "2"],
        &["a cat", "--negative", "a \"dog\"", "--prompt-sr256", "fur"],
    ] {
        let pattern = ["sample", "-mm", "-s5", "--batch", "1", "-f", "-o", "{index}.png"];
        let drawn = finish(imagen(path).args([&pattern[..], more].concat()));
        assert_eq!(drawn.code, 0, "{more:?}: {}", drawn.stderr);
        let commands: Vec<&str> = drawn.stderr.lines().filter_map(|line| line.strip_prefix("again: imagen ")).collect();
        assert_eq!(commands.len(), drawn.stdout.lines().count());
        for (index, arguments) in commands.into_iter().enumerate() {
            let program = assert_cmd::cargo::cargo_bin("imagen");
            let script = format!("{} {}", program.display(), arguments.replacen("sample ", "sample -q ", 1));
            let name = path.join(format!("{index}.png"));
            fs::rename(&name, path.join("before.png")).unwrap();
            let output = std::process::Command::new("sh").args(["-c", &script]).current_dir(path).output().unwrap();
            assert!(output.status.success(), "{script}\n{}", String::from_utf8_lossy(&output.stderr));
            assert!(difference(&picture(path.join("before.png")), &picture(name.clone())) <= 1, "{script}");
            assert_eq!(record(path.join("before.png")), record(name), "{script}");
        }
    }
}

#[test]
fn a_record_knows_that_it_began_with_a_picture_and_never_where_that_is() {
    let folder = folder(&[("secret-name.png", colourful(32, 32)), ("mask.png", left_black(32, 32, 16))]);
    let path = folder.path();
    let begin = ["--image", "secret-name.png", "--mask", "mask.png"];
    let first = draw(path, "a.png", &[&["x", "--resample", "2"][..], &begin].concat());
    let text = record(path.join("a.png"));
    assert!(!text.to_string().contains("secret-name"));
    assert!(text["start"]["picture"].as_str().unwrap().starts_with("crc32:"));
    assert_eq!(draw(path, "b.png", &[&["--params-from", "a.png"][..], &begin].concat()), first, "resampled as before");
    all_refused_after(
        path,
        &["sample", "-mm", "--params-from", "a.png"],
        &[(&[], 2, "began with another picture"), (&["--image", "secret-name.png"], 2, "was drawn within a mask")],
    );
}

#[test]
fn what_contradicts_itself_is_refused_in_one_line() {
    let folder = folder(&[
        ("p.png", colourful(32, 32)),
        ("thin.png", colourful(9, 1)),
        ("tall.png", Picture::filled(16, 32, [255])),
    ]);
    fs::write(folder.path().join("text.png"), "no picture").unwrap();
    all_refused_after(
        folder.path(),
        &["sample", "x", "-mm"],
        &[
            (&["--image", "nothing.png"], 1, "nothing.png"),
            (&["--image", "text.png"], 3, "the content is not a picture"),
            (&["--image", "thin.png"], 2, "a picture of 9x1 to start from: expected sides of at most 8 to 1"),
            (&["--image", "p.png", "--strength", "1.5"], 2, "strength 1.5: expected a number from 0 to 1"),
            (&["--image", "p.png", "--mask", "tall.png"], 2, "a mask of 16x32 for a picture of 32x32"),
            (&["--image", "p.png", "--feather", "3"], 2, "feather is for a mask or an extension"),
            (&["--image", "p.png", "--resample", "3"], 2, "resample is for a mask or an extension"),
            (&["--image", "p.png", "--extend", "up=3"], 2, "extend `up=3`: expected left=64"),
            (&["--image", "p.png", "--extend", "0"], 2, "extend by nothing"),
            (&["--image", "p.png", "--extend", "left=20000"], 2, "extend to 20032x32"),
            (&["--image", "p.png", "--extend", "1", "--resample", "0"], 2, "resample 0: expected 1 to 1000 times"),
            (&["--image", "p.png", "--extend", "1", "--outside", "dark"], 2, "invalid value 'dark'"),
            (&["--mask", "p.png"], 2, "--image"),
            (&["--from", "sr256"], 2, "stage sr256 enlarges: give a picture to enlarge"),
            (&["--from", "sr256", "--image", "p.png", "--strength", "0.5"], 2, "without mask and strength"),
            (&["--from", "sr256", "--until", "base", "--image", "p.png"], 2, "nothing is drawn from sr256 up to base"),
            (&["--from", "sr256", "--prompt-base", "y", "--image", "p.png"], 2, "a prompt for stage base"),
            (&["--until", "base", "--prompt-sr256", "y"], 2, "a prompt for stage sr256"),
            (&["--prompt-sr1024", "y"], 2, "a prompt for stage sr1024"),
            (&["--frames", "3"], 2, "give its end with --to or --to-seed"),
            (&["--to", "x", "--seed", "1"], 2, "the way ends where it begins"),
            (&["y", "--to", "z"], 2, "a way begins with one prompt, and 2 are given"),
            (&["--to", "z", "--at", "1.5"], 2, "a picture 1.5 of the way to another: expected 0 to 1"),
            (&["--to", "z", "--count", "3"], 2, "--frames says how many"),
            (&["--vary", "0.2"], 2, "say how many with --count"),
            (&["--vary", "2", "--count", "2"], 2, "expected 0 to 1"),
            (&["--animation", "a.gif"], 2, "end the name in .png or .apng"),
        ],
    );
}

#[test]
fn odd_pictures_and_masks_are_drawn_from_or_refused() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../imagen/tests/golden/decode");
    let folder = folder(&[
        ("grey.png", Picture::filled(20, 12, [90])),
        ("grey-alpha.png", Picture::filled(20, 12, [90, 128])),
        ("rgba.png", Picture::filled(20, 12, [200, 30, 90, 0])),
        ("one.png", Picture::filled(1, 1, [200, 30, 90])),
        ("soft.png", Picture::with_channels(20, 12, 1, (0..240).map(|k| k as u8).collect()).unwrap()),
        ("colour-mask.png", colourful(40, 24)),
    ]);
    let path = folder.path();
    let mut wrong = Vec::new();
    let mut check = |arguments: &[&str]| {
        let all = [&["sample", "x", "-mm", "-q", "-f", "--until", "base", "-o", "a.png"], arguments].concat();
        let finished = run(path, &all);
        let one_line = finished.stderr.lines().filter(|line| line.starts_with("error: ")).count() == 1;
        if finished.code != 0 && !(one_line && finished.code == 3) {
            wrong.push(format!("{arguments:?}: {} {}", finished.code, finished.stderr));
        }
        finished.code == 0
    };
    for name in ["grey.png", "grey-alpha.png", "rgba.png", "one.png"] {
        assert!(check(&["--image", name]), "{name}");
        assert!(check(&["--image", name, "--extend", "2"]), "{name}");
    }
    for name in ["animated.png", "animated.webp", "bits.png", "cmyk.jpg", "palette.png", "progressive.jpg"] {
        let file = golden.join(name);
        assert!(check(&["--image", file.to_str().unwrap()]), "{name}");
    }
    assert!(!check(&["--image", golden.join("picture.avif").to_str().unwrap()]));
    for mask in ["soft.png", "colour-mask.png", "grey-alpha.png", "rgba.png"] {
        assert!(check(&["--image", "grey.png", "--mask", mask, "--feather", "1"]), "{mask}");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

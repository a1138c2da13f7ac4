//! What is wrong with files from elsewhere is named, counted under one rule, and spoils nothing else.

use std::fs;
use std::path::Path;

use imagen::data::{Deal, Layout, Loader, LoaderOptions, Source, Split, Transform};

use super::sources::{names, png_of, shard};
use super::{captions_of, folder, picture, text};

fn write(folder: &Path, name: &str, bytes: &[u8]) {
    let path = folder.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

/// The reasons why files were passed over, by name.
fn passed<'a>(source: &'a Source, name: &str) -> &'a str {
    let found = source.odd().passed.iter().find(|(passed, _)| passed == name);
    found.map_or_else(|| panic!("{name} is not in {:?}", source.odd().passed), |(_, reason)| reason)
}

#[test]
fn metadata_in_the_folders_of_the_splits_are_read_together() {
    let folder = folder();
    for (split, count) in [("train", 3), ("validation", 2), ("test", 1)] {
        for i in 0..count {
            picture(folder.path(), &format!("{split}/{i}.png"));
            let line = format!("{i}.png,picture {i} of {split}\n");
            let table = folder.path().join(split).join("metadata.csv");
            let before = fs::read_to_string(&table).unwrap_or_else(|_| "file_name,text\n".to_owned());
            fs::write(table, before + &line).unwrap();
        }
    }
    let source = Source::open(folder.path()).unwrap();
    assert_eq!((source.layout(), source.examples().len()), (Layout::Metadata, 6));
    assert_eq!(captions_of(&source, "train/2.png"), ["picture 2 of train"]);
    assert_eq!(source.split(Split::Validation).unwrap().examples().len(), 3, "test and validation are held out");
    assert!(source.to_string().contains("from 3 metadata files"), "{source}");
}

#[test]
fn captions_are_found_in_capitals_and_beside_every_ending_of_a_picture() {
    let folder = folder();
    for (number, ending) in ["jfif", "jpe", "JPG", "bmp", "gif", "WebP"].into_iter().enumerate() {
        write(folder.path(), &format!("{number}.{ending}"), &png_of(number as u8));
        let caption = ["txt", "TXT", "Txt", "caption", "CAPTION", "Caption"][number];
        text(folder.path(), &format!("{number}.{caption}"), &format!("picture {number}"));
    }
    write(folder.path(), "whole.png", &png_of(9));
    text(folder.path(), "whole.png.txt", "by its whole name");
    let source = Source::open(folder.path()).unwrap();
    assert_eq!((source.examples().len(), source.captions().len()), (7, 7));
    assert!(source.odd().uncaptioned.is_empty() && source.odd().missing.is_empty(), "{:?}", source.odd());
    assert_eq!(captions_of(&source, "whole.png"), ["by its whole name"]);
}

#[test]
fn every_file_that_is_passed_over_is_named_with_its_reason() {
    let folder = folder();
    for name in ["a.png", "b.png"] {
        picture(folder.path(), name);
    }
    text(folder.path(), "a.txt", "a pear");
    text(folder.path(), "b.txt", "a plum");
    for name in [
        "c.avif",
        "d.heic",
        "e.tiff",
        "f.parquet",
        "g.zip",
        "h",
        "i.jpg_large",
        ".DS_Store",
        "README.txt",
        "LICENSE.txt",
        "notes/prompt.txt",
    ] {
        write(folder.path(), name, b"x");
    }
    let source = Source::open_allowing(folder.path(), 0.0).unwrap();
    assert_eq!(source.examples().len(), 2);
    for (name, reason) in [
        ("c.avif", "pictures of AVIF form are not read"),
        ("d.heic", "HEIF"),
        ("e.tiff", "TIFF"),
        ("f.parquet", "a table"),
        ("g.zip", "unpack it"),
        ("h", "not a picture's"),
        ("i.jpg_large", "not a picture's"),
        (".DS_Store", "hidden"),
        ("README.txt", "no caption"),
        ("LICENSE.txt", "no caption"),
        ("notes/prompt.txt", "no caption"),
    ] {
        assert!(passed(&source, name).contains(reason), "{name}: {}", passed(&source, name));
    }
    let said = source.to_string();
    assert!(said.contains("1 passed over (pictures of AVIF form") && said.contains("c.avif"), "{said}");
}

#[test]
#[cfg(unix)]
fn linked_folders_are_read_once_and_what_is_no_file_is_named() {
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::symlink;
    let folder = folder();
    let real = folder.path().join("real");
    let set = folder.path().join("set");
    for i in 0..3 {
        picture(&real, &format!("{i}.png"));
        text(&real, &format!("{i}.txt"), &format!("picture {i}"));
    }
    picture(&set, "own.png");
    text(&set, "own.txt", "own");
    symlink("../real", set.join("linked")).unwrap();
    symlink("../real", set.join("linked again")).unwrap();
    symlink("..", real.join("up")).unwrap();
    symlink("nowhere", set.join("gone.png")).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(set.join("pipe.png")).status().unwrap().success());
    let odd_name = std::ffi::OsStr::from_bytes(b"caf\xE9.png");
    // some file systems have no such names
    let has_odd = fs::write(set.join(odd_name), png_of(1)).is_ok();
    let source = Source::open(&set).unwrap();
    assert_eq!(names(&source), ["linked/0.png", "linked/1.png", "linked/2.png", "own.png"]);
    assert_eq!(captions_of(&source, "linked/1.png"), ["picture 1"]);
    assert_eq!(passed(&source, "linked again"), "a link to a folder that is read already");
    assert_eq!(passed(&source, "gone.png"), "a link that leads nowhere");
    assert_eq!(passed(&source, "pipe.png"), "a pipe, a socket or a device");
    assert!(!has_odd || passed(&source, "caf\u{FFFD}.png").contains("not UTF-8"));
}

#[test]
fn texts_in_other_encodings_are_read_and_said_to_be() {
    let folder = folder();
    for i in 0..5 {
        picture(folder.path(), &format!("{i}.png"));
    }
    write(folder.path(), "0.txt", b"\xEF\xBB\xBFa pear\r\na green pear\r\n");
    write(folder.path(), "1.txt", b"\xFF\xFEa\0 \0p\0l\0u\0m\0");
    write(folder.path(), "2.txt", b"the cook\x92s caf\xE9");
    write(folder.path(), "3.txt", b"an \x81 odd one");
    write(folder.path(), "4.txt", b"one\rtwo");
    let source = Source::open(folder.path()).unwrap();
    assert_eq!(captions_of(&source, "0.png"), ["a pear", "a green pear"]);
    assert_eq!(captions_of(&source, "1.png"), ["a plum"]);
    assert_eq!(captions_of(&source, "2.png"), ["the cook\u{2019}s caf\u{E9}"]);
    assert_eq!(captions_of(&source, "4.png"), ["one", "two"]);
    assert_eq!(source.odd().guessed, ["2.txt: Windows-1252"]);
    assert_eq!((source.odd().unusable.len(), &source.odd().uncaptioned[..]), (1, &["3.png".to_owned()][..]));
    assert!(source.odd().unusable[0].1.contains("0x81 at position 3"), "{:?}", source.odd().unusable);
    assert!(Source::open_allowing(folder.path(), 0.0).is_err(), "it counts");
}

#[test]
fn metadata_of_the_field_are_read_line_by_line() {
    let folder = folder();
    for i in 0..9 {
        picture(folder.path(), &format!("{i}.png"));
    }
    let lines: [&[u8]; 9] = [
        b"\xEF\xBB\xBF{\"file_name\":\"0.png\",\"text\":\"a pear\"}",
        b"{\"file_name\":\"1.png\",\"text\":\"a plum\",\"score\":NaN}",
        b"{\"file_name\":\"2.png\",\"text\":[\"an apple\",\"apple\"]}",
        b"{\"file_name\":\"3.png\",\"text\":7}",
        b"{\"file_name\":\"4.png\",\"text\":NaN,\"caption\":\"not looked at\"}",
        b"{\"file_name\":\"5.png\",\"text\":\"caf\xE9\"}",
        b"{\"file_name\":\"6.png\", nonsense}",
        b"{\"file_name\":\"../7.png\",\"text\":\"x\"}",
        b"{\"file_name\":\"8.png\",\"text\":\"x\",\"split\":\"elsewhere\"}",
    ];
    write(folder.path(), "metadata.jsonl", &lines.join(&b"\r\n"[..]));
    let source = Source::read(folder.path()).unwrap();
    let said = |name: &str| captions_of(&source, name);
    assert_eq!((said("0.png"), said("1.png")), (vec!["a pear"], vec!["a plum"]));
    assert_eq!(
        (said("2.png"), said("3.png"), said("5.png")),
        (vec!["an apple", "apple"], vec!["7"], vec!["caf\u{E9}"])
    );
    let reasons: Vec<String> = source.odd().unusable.iter().map(|(name, reason)| format!("{name}: {reason}")).collect();
    let expected =
        [("line 7", "at column 23"), ("line 8", "leaves the folder"), ("line 9", "\"elsewhere\" is unknown")];
    assert_eq!(reasons.len(), expected.len(), "{reasons:?}");
    for (reason, (line, why)) in reasons.iter().zip(expected) {
        assert!(reason.starts_with(&format!("metadata.jsonl {line}: ")) && reason.contains(why), "{reason}");
    }
    assert_eq!(source.odd().guessed, ["metadata.jsonl line 6: Windows-1252"]);

    let table = |text: &str| {
        write(folder.path(), "metadata.csv", text.as_bytes());
        fs::remove_file(folder.path().join("metadata.jsonl")).ok();
        Source::open(folder.path()).unwrap()
    };
    for separator in [";", "\t"] {
        let rows = ["file_name", "text"].join(separator) + "\n" + &["0.png", "a pear, green"].join(separator) + "\n";
        assert_eq!(captions_of(&table(&rows), "0.png"), ["a pear, green"], "{separator:?}");
    }
    let wide: Vec<u8> = "\u{FEFF}file_name,text\r\n0.png,wide\r\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    write(folder.path(), "metadata.csv", &wide);
    assert_eq!(captions_of(&Source::open(folder.path()).unwrap(), "0.png"), ["wide"]);
}

#[test]
fn a_part_of_coco_is_known_by_any_of_its_pictures() {
    let folder = folder();
    let root = folder.path().join("val2017");
    let name = |i: usize| format!("{i:012}.png");
    let images: Vec<_> = (0..200).map(|i| serde_json::json!({ "id": i, "file_name": name(i) })).collect();
    let captions: Vec<_> = (0..200)
        .map(|i| match i {
            // ids as texts and captions that are none
            150 => serde_json::json!({ "image_id": "150", "caption": "picture 150" }),
            151 => serde_json::json!({ "image_id": 151, "caption": null }),
            _ => serde_json::json!({ "image_id": i, "caption": format!("picture {i}") }),
        })
        .collect();
    let json = serde_json::json!({ "images": images, "annotations": captions }).to_string();
    let json = json.replacen("\"id\":0", "\"score\":NaN,\"id\":0", 1);
    write(folder.path(), "annotations/captions_val2017.json", json.as_bytes());
    write(folder.path(), "val2017/README.txt", b"a part of COCO");
    (140..160).for_each(|i| picture(&root, &name(i)));
    let source = Source::read(&root).unwrap();
    assert_eq!((source.layout(), source.examples().len()), (Layout::Coco, 19));
    assert_eq!(captions_of(&source, &name(150)), ["picture 150"]);
    assert_eq!((source.odd().missing.len(), &source.odd().uncaptioned[..]), (180, &[name(151)][..]));
    let refused = format!("{:#}", Source::open(&root).unwrap_err());
    assert!(refused.contains("180 of 199 entries") && refused.contains("data.max_bad"), "{refused}");
    assert_eq!(Source::open_allowing(&root, 0.95).unwrap().examples().len(), 19, "the hinted setting applies");
    assert_eq!(Source::open_pictures(&root).unwrap().examples().len(), 19, "who looks at pictures needs no captions");
    text(
        folder.path(),
        "annotations/instances.json",
        r#"{"images":[{"id":1,"file_name":"000000000140.png"}],"annotations":[{"image_id":1,"bbox":[]}]}"#,
    );
    let boxes = format!("{:#}", Source::read(&folder.path().join("annotations/instances.json")).unwrap_err());
    assert!(boxes.contains("no annotation has a `caption`"), "{boxes}");
}

#[test]
fn dots_in_the_names_of_a_shard_belong_to_the_sample_that_has_its_own_text() {
    let folder = folder();
    let path = folder.path().join("a.tar");
    let members = |names: &[&str]| {
        let contents: Vec<(&str, Vec<u8>)> = names
            .iter()
            .map(|name| {
                (
                    *name,
                    if name.ends_with(".txt") || name.ends_with(".caption") {
                        format!("about {name}").into_bytes()
                    } else {
                        png_of(1)
                    },
                )
            })
            .collect();
        shard(&path, &contents.iter().map(|(name, bytes)| (*name, &bytes[..])).collect::<Vec<_>>());
        Source::read(&path).unwrap()
    };
    let dotted = members(&[
        "photo v2.0.png",
        "photo v2.0.txt",
        "photo v2.1.png",
        "photo v2.1.txt",
        "p.png",
        "p.txt",
        "p.edit.png",
        "p.edit.txt",
    ]);
    assert_eq!((dotted.examples().len(), dotted.captions().len()), (4, 4));
    assert_eq!(captions_of(&dotted, "a.tar/p.edit.png"), ["about p.edit.txt"]);
    let fields = members(&["0.image.png", "0.caption.txt", "0.mask.png", "1.mask.png", "1.image.png", "1.caption.txt"]);
    assert_eq!((fields.examples().len(), fields.captions().len()), (2, 2));
    assert_eq!(captions_of(&fields, "a.tar/0.image.png"), ["about 0.caption.txt"]);
    assert_eq!(fields.odd().repeated, ["a.tar/0.mask.png", "a.tar/1.mask.png"], "a mask is no picture of its own");
    let other = members(&["0.png", "0.caption"]);
    assert_eq!(captions_of(&other, "a.tar/0.png"), ["about 0.caption"]);
    let bare = members(&["v1.0.png", "v1.1.png", "v2.png", "v2.cls"]);
    assert_eq!((bare.examples().len(), bare.odd().repeated.len()), (3, 0), "without captions");
    assert!(passed(&bare, "1 files .cls in the shards").contains("not a picture's"));
}

#[test]
fn every_broken_shard_is_named_at_once_with_its_place_and_the_rest_is_read() {
    let folder = folder();
    for number in 0..5u8 {
        let (name, text) = (format!("{number}.png"), format!("{number}.txt"));
        let (second, big) = (format!("{number}b.png"), vec![7; 4096]);
        let members: [(&str, &[u8]); 3] = [(&name, &png_of(number)), (&text, b"a caption"), (&second, &big)];
        shard(&folder.path().join(format!("{number}.tar")), &members);
    }
    let cut = |number: usize, length: usize| {
        let path = folder.path().join(format!("{number}.tar"));
        let whole = fs::read(&path).unwrap();
        fs::write(&path, &whole[..length]).unwrap();
    };
    let whole = fs::metadata(folder.path().join("1.tar")).unwrap().len() as usize;
    cut(1, whole - 3072);
    // between two files: nothing but the missing end mark tells
    cut(2, 2048);
    cut(3, 0);
    fs::write(folder.path().join("4.tar"), "<html><body>404</body></html>").unwrap();
    let source = Source::read(folder.path()).unwrap();
    let reasons = &source.odd().unusable;
    let expected = [
        ("1.tar", "in the middle of 1b.png"),
        ("2.tar", "after 2.txt without its end mark"),
        ("3.tar", "empty (0 bytes)"),
        ("4.tar", "no tar, from byte 0 on"),
    ];
    assert_eq!(reasons.len(), expected.len(), "{reasons:?}");
    for ((name, reason), (shard, why)) in reasons.iter().zip(expected) {
        assert!(name == shard && reason.contains(why), "{name}: {reason}");
    }
    assert_eq!(names(&source), ["0.tar/0.png", "1.tar/1.png", "2.tar/2.png"]);
    let refused = format!("{:#}", Source::open(folder.path()).unwrap_err());
    for (name, why) in expected {
        assert!(refused.contains(name) && refused.contains(why), "{refused}");
    }
}

#[test]
fn json_in_shards_may_lack_numbers_and_say_captions_in_other_forms() {
    let folder = folder();
    let path = folder.path().join("a.tar");
    let said: [&[u8]; 6] = [
        br#"{"caption":"a pear","similarity":NaN}"#,
        br#"{"caption":["a plum","plum"]}"#,
        br#"{"caption":7}"#,
        b"\xEF\xBB\xBF{\"caption\":\"a car\"}",
        br#"{"caption":null}"#,
        b"[1,2]",
    ];
    let members: Vec<(String, Vec<u8>)> = said
        .iter()
        .enumerate()
        .flat_map(|(i, json)| [(format!("{i}.png"), png_of(i as u8)), (format!("{i}.json"), json.to_vec())])
        .collect();
    shard(&path, &members.iter().map(|(name, bytes)| (name.as_str(), &bytes[..])).collect::<Vec<_>>());
    let source = Source::read(&path).unwrap();
    let captions: Vec<_> = (0..4).map(|i| captions_of(&source, &format!("a.tar/{i}.png"))).collect();
    assert_eq!(captions, [vec!["a pear"], vec!["a plum", "plum"], vec!["7"], vec!["a car"]]);
    assert_eq!(source.odd().uncaptioned, ["a.tar/4.png", "a.tar/5.png"]);
    assert!(matches!(&source.odd().unusable[..], [(name, _)] if name == "a.tar/5.json"), "{:?}", source.odd().unusable);
}

#[test]
fn pictures_and_texts_are_counted_under_one_rule() {
    let folder = folder();
    for i in 0..20 {
        picture(folder.path(), &format!("{i:02}.png"));
        text(folder.path(), &format!("{i:02}.txt"), &format!("picture {i}"));
    }
    write(folder.path(), "03.png", b"no picture");
    text(folder.path(), "gone.txt", "a ghost");
    let deals = |max_bad: f64| {
        let source = Source::open_allowing(folder.path(), max_bad)?;
        let deal = Deal { batch: 20, max_bad, ..Deal::default() };
        let transform = Transform { size: 8, ..Transform::default() };
        Loader::with_options(source, transform, deal, LoaderOptions::default())?.batch_at(0).map(|_| ())
    };
    assert!(deals(0.1).is_ok(), "two of twenty-one");
    let refused = format!("{:#}", deals(0.05).unwrap_err());
    assert!(refused.contains("2 of 21 pictures and other entries"), "{refused}");
    assert!(format!("{:#}", deals(0.0).unwrap_err()).contains("1 of 21 entries"));
}

//! Each layout of a set is recognised, read, and refused where it is broken.

use std::fs;
use std::path::Path;

use imagen::ErrorKind;
use imagen::data::{Layout, Source, Split};
use imagen::image::{DecodeOptions, Picture, PngText, png};

use super::{captions_of, folder, picture, text};

/// A PNG whose colour says which one it is.
pub(super) fn png_of(red: u8) -> Vec<u8> {
    png::encode(&Picture::filled(4, 4, [red, 0, 0]), &PngText::default()).unwrap()
}

/// A shard of these members.
pub(super) fn shard(path: &Path, members: &[(&str, &[u8])]) {
    let mut archive = tar::Builder::new(fs::File::create(path).unwrap());
    for (name, bytes) in members {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, name, *bytes).unwrap();
    }
    archive.finish().unwrap();
}

pub(super) fn names(source: &Source) -> Vec<&str> {
    source.examples().iter().map(|example| example.name.as_str()).collect()
}

/// The red of each picture.
fn reds(source: &Source) -> Vec<u8> {
    let picture = |example| source.picture(example, &DecodeOptions::default()).unwrap();
    source.examples().iter().map(|example| picture(example).pixel(0, 0)[0]).collect()
}

fn refused(path: &Path, expected: &str) {
    let Err(error) = Source::open_allowing(path, 0.0) else { panic!("not refused: {expected}") };
    assert_eq!(error.kind(), ErrorKind::Data, "{error:#}");
    assert!(format!("{error:#}").contains(expected), "expected {expected:?}: {error:#}");
}

#[test]
fn captions_are_found_by_the_names_that_other_tools_give_them() {
    let lines = "{\"File_Name\":\"a.png\",\"Caption\":\"a pear\",\"score\":1}\n{\"file_name\":\"b.png\",\"PROMPT\":\"a plum\"}\n";
    let rows = "File_Name,Prompt\na.png,a pear\nb.png,a plum\n";
    let images = "{\"image\":\"a.png\",\"prompt\":\"a pear\"}\n{\"Path\":\"b.png\",\"text\":\"a plum\"}\n";
    let semicolons = "Image;Caption\na.png;a pear\nb.png;a plum\n";
    let files =
        [("metadata.jsonl", lines), ("metadata.csv", rows), ("metadata.jsonl", images), ("metadata.csv", semicolons)];
    for (file, content) in files {
        let folder = folder();
        ["a.png", "b.png"].iter().for_each(|name| picture(folder.path(), name));
        text(folder.path(), file, content);
        let source = Source::open(folder.path()).unwrap();
        assert_eq!(captions_of(&source, "a.png"), ["a pear"], "{file}");
        assert_eq!(captions_of(&source, "b.png"), ["a plum"], "{file}");
    }
    let folder = folder();
    let pictures = ["10_red_car/a.png", "10_red_car/b.png", "3_dog/c.png", "d.png", "e.png", "other_name/f.png"];
    pictures.iter().for_each(|name| picture(folder.path(), name));
    text(folder.path(), "10_red_car/b.caption", "my car");
    text(folder.path(), "d.TXT", "a plum\na ripe plum");
    text(folder.path(), "gone.caption", "nothing");
    let source = Source::read(folder.path()).unwrap();
    let said = ["10_red_car/a.png", "10_red_car/b.png", "3_dog/c.png", "d.png"].map(|name| captions_of(&source, name));
    assert_eq!(said, [vec!["red car"], vec!["my car"], vec!["dog"], vec!["a plum", "a ripe plum"]]);
    assert_eq!(source.odd().uncaptioned, ["e.png", "other_name/f.png"]);
    assert_eq!(source.odd().missing, ["gone.caption"]);
}

#[test]
fn a_table_of_another_name_is_told_how_to_be_read() {
    let folder = folder();
    picture(folder.path(), "a.png");
    text(folder.path(), "captions.csv", "file_name,text\na.png,a pear\n");
    let source = Source::open(folder.path()).unwrap();
    assert!(source.to_string().contains("under the name metadata.csv or metadata.jsonl): captions.csv"), "{source}");
}

#[test]
fn a_table_of_metadata_is_read_by_its_heading() {
    let folder = folder();
    ["a.png", "b.png", "deep/c.png"].iter().for_each(|name| picture(folder.path(), name));
    text(
        folder.path(),
        "metadata.csv",
        "split,text,file_name,width,concept\n\
         validation,\"a pear, green\",a.png,8,pear\n\
         ,a pear,b.png,8,pear\n\
         train,a plum,./deep/c.png,8,\n\
         train,plum,deep/c.png,8,\n",
    );
    let source = Source::open(folder.path()).unwrap();
    assert_eq!((source.layout(), names(&source)), (Layout::Metadata, vec!["a.png", "b.png", "deep/c.png"]));
    assert_eq!(captions_of(&source, "a.png"), ["a pear, green"]);
    assert_eq!(captions_of(&source, "deep/c.png"), ["a plum", "plum"]);
    assert_eq!(source.examples()[0].split, Split::Validation);
    assert_eq!(source.examples()[1].split, Split::of_name("b.png"));
    assert_eq!(source.concepts(), [vec![0, 1], vec![2]]);
    assert!(source.to_string().contains("4 captions from metadata.csv"), "{source}");

    text(folder.path(), "metadata.jsonl", "{\"file_name\":\"a.png\",\"text\":\"x\"}\n");
    refused(folder.path(), "both metadata.jsonl and metadata.csv");
}

#[test]
fn a_table_that_is_none_is_refused_with_its_line() {
    let cases = [
        ("file_name,title\na.png,x\n", "no column `text`"),
        ("file_name,text\na.png,x\na.png,x,y\n", "metadata.csv line 3"),
        ("file_name,text\n../a.png,x\n", "line 2: `file_name` \"../a.png\" leaves the folder"),
        ("file_name,text,split\na.png,x,dev\n", "\"dev\""),
    ];
    for (table, expected) in cases {
        let folder = folder();
        picture(folder.path(), "a.png");
        text(folder.path(), "metadata.csv", table);
        refused(folder.path(), expected);
    }
}

#[test]
fn shards_are_read_in_place_and_a_sample_ends_at_the_first_dot() {
    let folder = folder();
    let long = format!("{}/000003", "deep".repeat(40));
    let [a, b, c, d] = [10, 20, 30, 40].map(png_of);
    let json = br#"{"caption":"a pear","texts":["pear","a pear"],"split":"validation","concept":"fruit","sha":"0"}"#;
    shard(
        &folder.path().join("first.tar"),
        &[
            ("./000001.txt", b"a red apple\napple\n".as_slice()),
            ("000001.PNG", &a),
            ("000001.seg.png", b"a mask, not a picture"),
            ("000001.json", br#"{"text":"a red apple","caption":null}"#),
            ("000002.json", json.as_slice()),
            ("000002.png", &b),
            ("._000002.png", b"of a file manager"),
        ],
    );
    shard(
        &folder.path().join("second.tar"),
        &[
            (&format!("{long}.jpg"), c.as_slice()),
            (&format!("{long}.txt"), b"a plum"),
            ("000001.png", &d),
            ("5.txt", b"x"),
        ],
    );
    let source = Source::read(folder.path()).unwrap();
    assert_eq!(source.layout(), Layout::Shards);
    let third = format!("second.tar/{long}.jpg");
    assert_eq!(names(&source), ["first.tar/000001.PNG", "first.tar/000002.png", &third]);
    assert_eq!(reds(&source), [10, 20, 30]);
    assert_eq!(captions_of(&source, "first.tar/000001.PNG"), ["a red apple", "apple"]);
    assert_eq!(captions_of(&source, "first.tar/000002.png"), ["a pear", "pear"]);
    assert_eq!(captions_of(&source, &third), ["a plum"]);
    let second = &source.examples()[1];
    assert_eq!((second.split, second.concept.as_deref()), (Split::Validation, Some("fruit")));
    assert_eq!(source.examples()[0].split, Split::of_name("000001.PNG"), "whatever the shard is called");
    assert_eq!(source.odd().uncaptioned, ["second.tar/000001.png"]);
    assert_eq!(source.odd().missing, ["second.tar/5.txt"]);
    assert!(source.to_string().contains("5 captions from 2 tar shards"), "{source}");

    let one = Source::open(&folder.path().join("first.tar")).unwrap();
    assert_eq!((one.layout(), reds(&one)), (Layout::Shards, vec![10, 20]));
    assert!(one.to_string().contains("from first.tar"), "{one}");
}

#[test]
fn shards_without_captions_are_unconditional_and_a_second_picture_of_a_sample_is_named() {
    let folder = folder();
    let path = folder.path().join("a.tar");
    shard(&path, &[("1.png", &png_of(1)), ("2.png", &png_of(2)), ("2.jpg", &png_of(3))]);
    let source = Source::open(&path).unwrap();
    assert_eq!((reds(&source), source.captions().len()), (vec![1, 2], 0));
    assert_eq!(source.odd().repeated, ["a.tar/2.jpg"]);
    assert!(source.to_string().contains("without captions from a.tar"), "{source}");
}

#[test]
fn a_broken_shard_is_named_with_the_remedy() {
    let folder = folder();
    let path = folder.path().join("a.tar");
    let big = vec![7; 4096];
    shard(&path, &[("1.png", &png_of(1)), ("2.png", &big)]);
    let whole = fs::read(&path).unwrap();
    fs::write(&path, &whole[..whole.len() - 4096]).unwrap();
    refused(&path, "in the middle of 2.png");
    fs::write(&path, [1; 2048]).unwrap();
    refused(&path, "damaged, or no tar, from byte 0 on");
    shard(&path, &[("1.png", &png_of(1)), ("1.json", b"[1")]);
    refused(folder.path(), "1.json: expected a JSON object");
    shard(&path, &[("1.png", &png_of(1)), ("1.txt", b"ab\x81")]);
    refused(&path, "1.txt: byte 0x81 at position 2");
    shard(&path, &[("1.png", &png_of(1)), ("1.txt", &[b'x'; 1_100_000])]);
    refused(&path, "1.txt: 1100000 bytes; at most 1048576");
    shard(&path, &[("1.txt", b"alone")]);
    refused(&path, "1 caption but no picture");
    shard(&path, &[("1.png", &png_of(1))]);
    picture(folder.path(), "loose.png");
    refused(folder.path(), "keep them in folders of their own");
    fs::create_dir(folder.path().join("packed")).unwrap();
    text(&folder.path().join("packed"), "a.tar.gz", "");
    refused(&folder.path().join("packed"), "archives such as a.tar.gz, which are not read");
    fs::write(folder.path().join("notes.odt"), "").unwrap();
    refused(&folder.path().join("notes.odt"), "is not a set of pictures");
}

const COCO: &str = r#"{"info":{"year":2017},
    "images":[{"id":7,"file_name":"007.png","height":8},{"id":9,"file_name":"009.png"},{"id":8,"file_name":"008.png"}],
    "annotations":[{"id":1,"image_id":9,"caption":"A pear."},{"id":2,"image_id":7,"caption":"An apple.\n"},
                   {"id":3,"image_id":9,"caption":"A pear on a table."}]}"#;

#[test]
fn coco_captions_are_found_beside_the_pictures_above_them_or_by_name() {
    // where the captions are, where the pictures are, what is opened
    let cases = [
        ("captions_x.json", "", ""),
        ("annotations/captions_x.json", "", ""),
        ("annotations/captions_train2017.json", "train2017", "train2017"),
        ("captions_train2017.json", "train2017", "train2017"),
        ("captions_x.json", "pictures", "pictures"),
        ("annotations/captions_train2017.json", "train2017", "annotations/captions_train2017.json"),
        ("annotations/anything.json", "train2017", "annotations/anything.json"),
        ("anything.json", "", "anything.json"),
    ];
    for (json, pictures, opened) in cases {
        let folder = folder();
        let root = folder.path().join(pictures);
        for made in [root.clone(), folder.path().join("annotations"), folder.path().join("val2017")] {
            fs::create_dir_all(made).unwrap();
        }
        ["007.png", "008.png", "009.png"].iter().for_each(|name| picture(&root, name));
        text(folder.path(), json, COCO);
        let source = Source::open(&folder.path().join(opened)).unwrap_or_else(|e| panic!("{json} {opened}: {e:#}"));
        assert_eq!((source.layout(), names(&source)), (Layout::Coco, vec!["007.png", "009.png"]), "{json} {opened}");
        assert_eq!(captions_of(&source, "009.png"), ["A pear.", "A pear on a table."]);
        assert_eq!(captions_of(&source, "007.png"), ["An apple."]);
        assert_eq!(source.odd().uncaptioned, ["008.png"]);
        assert_eq!(reds(&source).len(), 2);
        assert!(source.to_string().contains("3 captions from "), "{source}");
    }
}

#[test]
fn captions_that_are_not_meant_or_not_clear_are_not_guessed() {
    let folder = folder();
    // Its neighbours are looked into, so that it needs a neighbourhood of its own.
    let set = folder.path().join("set");
    let root = set.join("mine");
    picture(&root, "a.png");
    text(&set, "captions_x.json", COCO);
    assert_eq!(Source::open(&root).unwrap().layout(), Layout::Unconditional, "the captions of other pictures");
    refused(&set.join("captions_x.json"), "are nowhere near, such as \"007.png\"");
    text(&root, "captions_a.json", COCO);
    text(&root, "captions_b.json", COCO);
    refused(&root, "several captions files (captions_a.json, captions_b.json)");
    fs::remove_file(root.join("captions_b.json")).unwrap();
    text(&root, "captions_a.json", "{\"images\":[]}");
    refused(&root, "expected COCO captions");
    picture(&root, "007.png");
    text(&root, "captions_a.json", COCO);
    refused(&root, "2 of 3 entries");
    let survey = Source::read(&root).unwrap();
    assert_eq!(survey.odd().missing, ["009.png", "008.png"]);
}

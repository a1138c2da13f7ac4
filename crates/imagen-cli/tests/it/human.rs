//! Studies from outside: pictures drawn, imported and taken from a set, votes over a socket that survive `kill -9`, reports.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Stdio};

use serde_json::{Value, json};

use imagen::image::{DecodeOptions, Picture, PngText, decode, png};

use crate::refusals::all_refused_after;
use crate::tiny::{self, Trained};
use crate::{files, imagen, run, succeed};

const SUITE: &str = "prompt,category\n\"a red, round thing\",Colors\ntwo things,Counting\na sign that says hi,Text\n";

/// A folder with a suite, a tiny model, and another model's pictures of it.
pub(crate) fn material() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("suite.csv"), SUITE).unwrap();
    tiny::model(&folder.path().join("m"), &Trained::BASE);
    for prompt in 0..3u8 {
        fs::create_dir_all(folder.path().join(format!("theirs/{prompt}"))).unwrap();
        for k in 0..2u8 {
            let picture = Picture::filled(8, 8, [40 * prompt + 10, 100 * k, 7]);
            let bytes = png::encode(&picture, &PngText::default()).unwrap();
            fs::write(folder.path().join(format!("theirs/{prompt}/{k}.png")), bytes).unwrap();
        }
    }
    folder
}

pub(crate) const MAKE: [&str; 11] =
    ["eval", "drawbench", "s", "--suite", "suite.csv", "-n2", "--model", "ours=m", "--import", "theirs=theirs", "-q"];

#[test]
fn a_study_holds_what_sample_draws_and_goes_on_where_it_was_stopped() {
    let folder = material();
    let said = succeed(folder.path(), &MAKE);
    assert!(said.contains("3 prompts in 3 categories (suite.csv), 2 pictures each, uncurated"), "{said}");
    assert_eq!(files(&folder.path().join("s")), ["ours", "study.json", "theirs"]);
    let pixels = |path: &str| decode::open(&folder.path().join(path), &DecodeOptions::default()).unwrap();
    succeed(folder.path(), &["sample", "two things", "-mm", "--seed", "3", "-o", "again.png"]);
    assert!(pixels("again.png") == pixels("s/ours/0001-1.png"));
    assert!(pixels("theirs/2/1.png") == pixels("s/theirs/0002-1.png"));
    let study: Value = serde_json::from_slice(&fs::read(folder.path().join("s/study.json")).unwrap()).unwrap();
    assert_eq!(study["sets"][0]["origin"]["seeds"], json!([0, 1]));
    assert_eq!(study["sets"][0]["origin"]["by_prompt"], json!(true));
    assert_eq!(study["prompts"][0], json!({ "text": "a red, round thing", "category": "Colors" }));

    let sizes = |side: usize| {
        for prompt in 0..3 {
            let name = folder.path().join(format!("sized/{prompt}/0.png"));
            fs::create_dir_all(name.parent().unwrap()).unwrap();
            fs::write(name, png::encode(&Picture::filled(side, side, [7; 3]), &PngText::default()).unwrap()).unwrap();
        }
        let study = format!("of{side}");
        let make =
            ["eval", "drawbench", &study, "--suite", "suite.csv", "-n1", "--model", "all=m", "--import", "x=sized"];
        run(folder.path(), &make).stderr
    };
    let said = sizes(16);
    assert!(!said.contains("differ in size"), "{said}");
    let said = sizes(8);
    assert!(said.contains("the sets differ in size (all 16x16, x 8x8)"), "{said}");

    // what is there is not drawn again, what is not is
    let kept = folder.path().join("s/ours/0000-0.png");
    fs::write(&kept, b"kept").unwrap();
    fs::remove_file(folder.path().join("s/ours/0001-1.png")).unwrap();
    fs::remove_file(folder.path().join("s/theirs/0002-1.png")).unwrap();
    all_refused_after(
        folder.path(),
        &["eval", "human", "serve"],
        &[(&["s", "--port", "0"][..], 3, "lacks 2 pictures")],
    );
    succeed(folder.path(), &MAKE);
    assert!(pixels("again.png") == pixels("s/ours/0001-1.png"));
    assert_eq!(fs::read(kept).unwrap(), b"kept");

    all_refused_after(
        folder.path(),
        &["eval", "drawbench", "s", "-q"],
        &[
            (&["--model", "ours=m", "--steps", "2"][..], 2, "a set ours that was made with other options"),
            (&["-n", "3"], 2, "begun with 2 pictures"),
            (&["--seed", "5"], 2, "begun with seed 0"),
            (&["--import", "few=m"], 3, "0 pictures of prompt 0"),
            (&["--import", "theirs"], 2, "NAME=FOLDER"),
        ],
    );
}

#[test]
fn captions_of_a_set_become_prompts_with_their_originals() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("set")).unwrap();
    let mut lines = String::new();
    for (k, text) in ["a man with a hat", "a red car", "a red car", "two girls", "a mango"].iter().enumerate() {
        let bytes = png::encode(&Picture::filled(9, 8, [50 * k as u8; 3]), &PngText::default()).unwrap();
        fs::write(folder.path().join(format!("set/{k}.png")), bytes).unwrap();
        lines += &format!("{}\n", json!({ "file_name": format!("{k}.png"), "text": text }));
    }
    fs::write(folder.path().join("set/metadata.jsonl"), lines).unwrap();
    succeed(folder.path(), &["eval", "drawbench", "s", "--data", "set", "-n1", "-q"]);
    let study: Value = serde_json::from_slice(&fs::read(folder.path().join("s/study.json")).unwrap()).unwrap();
    let prompts = study["prompts"].as_array().unwrap();
    assert_eq!(prompts.len(), 4, "no text twice: {prompts:?}");
    for (k, prompt) in prompts.iter().enumerate() {
        let people = ["a man with a hat", "two girls"].contains(&prompt["text"].as_str().unwrap());
        assert_eq!(prompt["category"], if people { "people" } else { "no people" });
        let original = folder.path().join(format!("s/originals/{k:04}-0.png"));
        let shade = decode::open(&original, &DecodeOptions::default()).unwrap().pixels()[0] / 50;
        let texts = ["a man with a hat", "a red car", "a red car", "two girls", "a mango"];
        assert_eq!(prompt["text"], texts[shade as usize]);
    }
}

/// A server of the program; killed when it is dropped.
struct Server {
    child: Child,
    address: String,
}

impl Server {
    fn start(folder: &Path, arguments: &[&str]) -> Self {
        let program = imagen(folder).get_program().to_owned();
        let mut child = std::process::Command::new(program)
            .current_dir(folder)
            .args(["eval", "human", "serve"])
            .args(arguments)
            .args(["--port", "0"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("http://").expect("the address").trim_end_matches('/').to_owned();
        Self { child, address }
    }

    /// The head and the body of the answer.
    fn ask(&self, request: &str, body: &str) -> (String, String) {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let kind = "application/x-www-form-urlencoded";
        let (host, length) = (&self.address, body.len());
        write!(
            stream,
            "{request} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n{body}"
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.to_lowercase(), body.to_owned())
    }

    /// Answers the page that is open; false at the end.
    fn vote(&self, rater: &str, answers: &str) -> bool {
        let (head, page) = self.ask(&format!("GET /rate/{rater}"), "");
        if head.contains("location: /done/") {
            return false;
        }
        let token = page.split("name=\"trial\" value=\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap();
        let (head, _) = self.ask(&format!("POST /rate/{rater}"), &format!("trial={token}&{answers}"));
        assert!(head.starts_with("http/1.1 303"), "{head}");
        true
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn report(folder: &Path, more: &[&str]) -> Value {
    let arguments = [&["eval", "human", "report", "s", "--json"], more].concat();
    serde_json::from_str(&succeed(folder, &arguments)).unwrap()
}

#[test]
fn every_vote_that_was_acknowledged_survives_the_end_of_the_program() {
    let folder = material();
    succeed(folder.path(), &MAKE);
    all_refused_after(folder.path(), &["eval", "human"], &[(&["report", "s"][..], 3, "no votes yet")]);
    // three pages and a control; killed after each answer
    for done in 1..=4 {
        let server = Server::start(folder.path(), &["s"]);
        assert!(server.vote("anna", "fidelity=left&alignment=right&spent=800"));
        drop(server);
        succeed(folder.path(), &["eval", "human", "export", "s"]);
        let lines = fs::read_to_string(folder.path().join("s/votes.jsonl")).unwrap();
        assert_eq!(lines.lines().count(), 2 * done);
    }
    let server = Server::start(folder.path(), &["s"]);
    assert!(!server.vote("anna", ""), "the same name goes on, here at the end");

    // raters at once, each answer kept
    std::thread::scope(|scope| {
        for rater in 0..6 {
            let server = &server;
            scope.spawn(move || while server.vote(&format!("r{rater}"), "fidelity=indifferent&alignment=left") {});
        }
    });
    drop(server);
    let csv_rows = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap().lines().count();
    succeed(folder.path(), &["eval", "human", "export", "s", "-o", "all"]);
    assert_eq!((csv_rows("all.csv"), csv_rows("all.jsonl")), (1 + 7 * 8, 7 * 8));
    let jsonl = fs::read_to_string(folder.path().join("all.jsonl")).unwrap();
    let votes: Vec<Value> = jsonl.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let mut by_rater = BTreeMap::new();
    for vote in &votes {
        *by_rater.entry(vote["rater"].as_str().unwrap()).or_insert(0) += 1;
        let sides = [&vote["left"], &vote["right"]];
        if vote["control"] == Value::Null {
            assert!(sides.contains(&&json!("ours")) && sides.contains(&&json!("theirs")), "{vote}");
        }
        if vote["answer"] == "left" && vote["control"] == Value::Null {
            assert_eq!(vote["preferred"], vote["left"]);
        }
    }
    assert!(by_rater.len() == 7 && by_rater.values().all(|count| *count == 8), "{by_rater:?}");

    let everybody = report(folder.path(), &["--keep-all"]);
    let page = fs::read_to_string(folder.path().join("s/report.html")).unwrap();
    assert!(page.contains("ours against theirs") && !page.contains("http"), "the page needs no connection");
    let row = &everybody["findings"]["preferences"][0];
    assert_eq!((&row["question"], &row["answers"], &row["prompts"]), (&json!("fidelity"), &json!(21), &json!(3)));
    assert_eq!((&row["indifferent"], &row["separable"]), (&json!(18), &json!(false)));
    let screened = report(folder.path(), &[]);
    let raters = screened["findings"]["raters"].as_array().unwrap();
    // whoever is always indifferent has no control right, whatever the sides
    assert!(raters.iter().all(|rater| rater["id"] == "anna" || rater["standing"] == "failed_controls"), "{raters:?}");
}

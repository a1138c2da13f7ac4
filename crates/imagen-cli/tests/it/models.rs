//! `imagen models` against a server that speaks as the hub does, on loopback: what is chosen, fetched, resumed and refused.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::{Finished, finish, imagen};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// A hub with a few repositories, and what was asked of it.
struct Hub {
    endpoint: String,
    asked: Arc<Mutex<Vec<String>>>,
}

/// Bytes after which a connection breaks.
const BREAK_AT: usize = 35_000;

fn weights() -> Vec<u8> {
    (0..200_000u32).flat_map(|i| (i as u8 ^ (i >> 8) as u8).to_le_bytes()).collect()
}

fn files(repo: &str) -> Option<BTreeMap<&'static str, Vec<u8>>> {
    let weights_and_config = BTreeMap::from([
        ("config.json", br#"{"model_type":"t5"}"#.to_vec()),
        ("README.md", b"# a model".to_vec()),
        ("model.safetensors", weights()),
        ("pytorch_model.bin", vec![0; 1000]),
    ]);
    match repo {
        "org/good" | "org/gated" | "org/breaks" | "org/liar" => Some(weights_and_config),
        "org/pickled" => Some(BTreeMap::from([("config.json", b"{}".to_vec()), ("pytorch_model.bin", vec![0; 10])])),
        _ => None,
    }
}

impl Hub {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = asked.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let log = log.clone();
                std::thread::spawn(move || serve(stream.unwrap(), &log));
            }
        });
        Self { endpoint, asked }
    }

    fn run(&self, home: &Path, arguments: &[&str]) -> Finished {
        self.run_with(home, arguments, &[])
    }

    fn run_with(&self, home: &Path, arguments: &[&str], more: &[(&str, &str)]) -> Finished {
        let mut command = imagen(home);
        for name in ["HF_TOKEN", "HF_HUB_CACHE", "HF_HUB_OFFLINE"] {
            command.env_remove(name);
        }
        command.env("HF_HOME", home).env("HF_ENDPOINT", &self.endpoint).envs(more.iter().copied());
        finish(command.arg("models").args(arguments))
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }
}

/// Answers one request.
fn serve(mut stream: TcpStream, log: &Mutex<Vec<String>>) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
    let Some(first) = lines.next() else { return };
    let headers: Vec<String> = lines.take_while(|line| !line.is_empty()).map(|line| line.to_lowercase()).collect();
    let path = first.split(' ').nth(1).unwrap().to_owned();
    let range = headers.iter().find_map(|line| line.strip_prefix("range: bytes="));
    let start = range.map_or(0, |range| range.split('-').next().unwrap().parse::<usize>().unwrap());
    let end = range.and_then(|range| range.split('-').nth(1).and_then(|end| end.parse::<usize>().ok()));
    log.lock().unwrap().push(format!("{path} {start}"));
    let mut answer = |status: &str, more: &str, body: &[u8], sent: usize| {
        let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n{more}\r\n", body.len());
        // A client that has seen enough may have left.
        let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body[..sent.min(body.len())]));
    };
    if let Some(rest) = path.strip_prefix("/api/models/") {
        let (repo, revision) = rest.split('?').next().unwrap().split_once("/revision/").unwrap_or((rest, "main"));
        let repo = repo.split('?').next().unwrap();
        let Some(files) = files(repo) else {
            return answer("401 Unauthorized", "X-Error-Code: RepoNotFound\r\n", b"", 0);
        };
        if revision != "main" && revision != COMMIT {
            return answer("404 Not Found", "X-Error-Code: RevisionNotFound\r\n", b"", 0);
        }
        let mut siblings: Vec<Value> =
            files.iter().map(|(name, bytes)| json!({ "rfilename": name, "size": bytes.len() })).collect();
        siblings.push(json!({ "rfilename": "../../outside.json", "size": 1 }));
        let gated = if repo == "org/gated" { json!("manual") } else { json!(false) };
        let body =
            json!({ "sha": COMMIT, "siblings": siblings, "gated": gated, "cardData": { "license": "apache-2.0" } });
        let body = body.to_string();
        return answer("200 OK", "Content-Type: application/json\r\n", body.as_bytes(), usize::MAX);
    }
    let (repo, file) = path[1..].split_once("/resolve/").unwrap();
    let file = file.split_once('/').unwrap().1;
    if repo == "org/gated" && !headers.iter().any(|line| line == "authorization: bearer agreed") {
        return answer("403 Forbidden", "X-Error-Code: GatedRepo\r\n", b"", 0);
    }
    let bytes = files(repo).unwrap().remove(file).unwrap();
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let etag = if file.ends_with(".safetensors") {
        hex(&Sha256::digest(if repo == "org/liar" { &b"something else"[..] } else { &bytes }))
    } else {
        hex(&sha1::Sha1::digest([format!("blob {}\0", bytes.len()).as_bytes(), &bytes].concat()))
    };
    let end = end.map_or(bytes.len(), |end| (end + 1).min(bytes.len()));
    let more = format!(
        "ETag: \"{etag}\"\r\nX-Repo-Commit: {COMMIT}\r\nContent-Range: bytes {start}-{}/{}\r\n",
        end.saturating_sub(1),
        bytes.len()
    );
    let breaks = repo == "org/breaks" && end - start > BREAK_AT;
    answer("206 Partial Content", &more, &bytes[start..end], if breaks { BREAK_AT } else { usize::MAX });
}

#[test]
fn what_is_needed_is_fetched_once_and_checked() {
    let (hub, home) = (Hub::start(), tempfile::tempdir().unwrap());
    let home = home.path();
    let info = hub.run(home, &["info", "org/good"]);
    assert!(info.code == 0 && info.stdout.contains("licence: apache-2.0"), "{}{}", info.stdout, info.stderr);
    assert!(info.stdout.contains("model.safetensors") && info.stdout.contains("1009 B in others"), "{}", info.stdout);
    let pickled = hub.run(home, &["info", "org/pickled"]);
    assert!(pickled.stdout.contains("pytorch_model.bin and the like are pickled and never read"), "{}", pickled.stdout);
    assert!(!info.stdout.contains("README") && !info.stdout.contains("outside"), "{}", info.stdout);

    let plan = hub.run(home, &["pull", "org/good", "--dry-run"]);
    assert!(plan.stderr.contains("195.3 KiB in 2 files, 195.3 KiB of them to fetch"), "{}", plan.stderr);
    assert!(!hub.run(home, &["list"]).stdout.contains("org/good"), "a plan fetches nothing");
    hub.asked();

    let pulled = hub.run(home, &["pull", "org/good"]);
    let folder = home.join("hub/models--org--good/snapshots").join(COMMIT);
    assert_eq!((pulled.code, pulled.stdout.trim_end()), (0, folder.to_str().unwrap()), "{}", pulled.stderr);
    assert_eq!(fs::read(folder.join("model.safetensors")).unwrap(), weights());
    let asked = hub.asked();
    assert!(!asked.iter().any(|path| path.contains("pytorch_model") || path.contains("README")), "{asked:?}");
    let again = hub.run(home, &["pull", "org/good"]);
    assert_eq!(again.stdout, pulled.stdout);
    assert!(hub.asked().iter().all(|path| path.starts_with("/api/")), "nothing is fetched twice");

    let offline = hub.run_with(home, &["pull", "org/good"], &[("HF_HUB_OFFLINE", "1")]);
    assert_eq!((offline.code, &offline.stdout, hub.asked().len()), (0, &pulled.stdout, 0));
    let listed = hub.run(home, &["list", "--json"]);
    let mut listed = listed.stdout.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let listed = listed.find(|model| model["name"] != "built-in").unwrap();
    assert_eq!((&listed["name"], &listed["bytes"]), (&json!("org/good"), &json!(weights().len() + 19)));

    let verified = hub.run(home, &["verify"]);
    assert_eq!((verified.code, verified.stdout.as_str()), (0, "2 files as published\n"), "{}", verified.stderr);
    let blob = folder.join("model.safetensors").canonicalize().unwrap();
    let mut bytes = weights();
    bytes[1234] ^= 1;
    fs::write(&blob, bytes).unwrap();
    let damaged = hub.run(home, &["verify", "org/good", "--remove"]);
    assert_eq!(damaged.code, 4);
    assert!(damaged.stdout.contains("org/good model.safetensors is damaged"), "{}", damaged.stdout);
    assert_eq!(hub.run(home, &["pull", "org/good"]).code, 0);
    assert_eq!(hub.run(home, &["verify", "-q"]).code, 0);

    assert_eq!(hub.run(home, &["rm", "org/good"]).code, 0);
    assert!(!home.join("hub/models--org--good").exists());
    let gone = hub.run(home, &["rm", "org/good"]);
    assert!(gone.code == 2 && gone.stderr.contains("imagen models pull org/good"), "{}", gone.stderr);
}

#[test]
fn a_connection_that_breaks_goes_on_where_it_broke() {
    let (hub, home) = (Hub::start(), tempfile::tempdir().unwrap());
    let mut pulls = 0;
    let pulled = loop {
        pulls += 1;
        let pulled = hub.run(home.path(), &["pull", "org/breaks"]);
        if pulled.code == 0 || pulls == 5 {
            break pulled;
        }
    };
    assert_eq!(pulled.code, 0, "{}", pulled.stderr);
    assert_eq!(fs::read(Path::new(pulled.stdout.trim_end()).join("model.safetensors")).unwrap(), weights());
    let starts: Vec<usize> = hub
        .asked()
        .iter()
        .filter(|path| path.contains("model.safetensors"))
        .map(|path| path.rsplit_once(' ').unwrap().1.parse().unwrap())
        .collect();
    assert!(pulls > 1, "one command does not try for ever");
    assert!(starts.iter().filter(|start| **start > 0).count() >= 5, "most requests begin in the middle: {starts:?}");
}

#[test]
fn what_cannot_be_had_is_explained_in_one_line() {
    let (hub, home) = (Hub::start(), tempfile::tempdir().unwrap());
    let home = home.path();
    type Case = (&'static [&'static str], &'static [(&'static str, &'static str)], i32, &'static str);
    let cases: [Case; 8] = [
        (&["pull", "org/gated"], &[], 1, "org/gated is gated: its licence has to be agreed to at"),
        (&["pull", "org/gated"], &[("HF_TOKEN", "other")], 1, "has not agreed yet"),
        (&["pull", "org/none"], &[], 1, "there is no repository org/none"),
        (&["pull", "org/good", "--revision", "v9"], &[], 1, "no revision v9"),
        (&["pull", "org/pickled"], &[], 4, "only pickled weights (pytorch_model.bin)"),
        (&["pull", "org/liar"], &[], 1, "arrived damaged"),
        (&["pull", "org/good"], &[("HF_HUB_OFFLINE", "1")], 2, "HF_HUB_OFFLINE is set"),
        (&["pull", "org/good"], &[("HF_ENDPOINT", "http://127.0.0.1:9")], 1, "cannot reach http://127.0.0.1:9"),
    ];
    for (arguments, variables, code, words) in cases {
        let refused = hub.run_with(home, arguments, variables);
        assert!(refused.code == code && refused.stderr.contains(words), "{words}: {} {}", refused.code, refused.stderr);
        assert!(refused.stdout.is_empty() && refused.stderr.contains("hint: "), "{words}: {}", refused.stderr);
    }
    assert_eq!(hub.run_with(home, &["pull", "org/gated"], &[("HF_TOKEN", "agreed")]).code, 0);
    let bad = hub.run(home, &["pull", "../etc"]);
    assert!(bad.code == 2 && bad.stderr.contains("OWNER/NAME"), "{}", bad.stderr);
    assert!(!home.join("hub/models--org--liar/snapshots").join(COMMIT).join("model.safetensors").exists());
}

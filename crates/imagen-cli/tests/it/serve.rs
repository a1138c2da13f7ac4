//! The studio as a program: what its log holds, and that the command of a picture draws it again.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use imagen::image::{DecodeOptions, Picture, PngText, decode, png};

use crate::tiny::{self, Trained};
use crate::{human, imagen, succeed};

const TOKEN: &str = "correct-horse-battery";

/// A studio of the program; killed when it is dropped.
struct Studio {
    child: Child,
    address: String,
}

impl Studio {
    fn start(folder: &Path, arguments: &[&str]) -> Self {
        let mut child = std::process::Command::new(imagen(folder).get_program())
            .current_dir(folder)
            .args(["serve", "-mm", "--data", "data", "--port", "0"])
            .args(arguments)
            .env("IMAGEN_TOKEN", TOKEN)
            .stdout(Stdio::piped())
            .stderr(fs::File::create(folder.join("log")).unwrap())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("http://").expect("the address");
        Self { child, address: address.split('/').next().unwrap().to_owned() }
    }

    /// The head and the body of the answer.
    fn ask(&self, request: &str, body: &str) -> (String, Vec<u8>) {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let (host, length) = (&self.address, body.len());
        write!(
            stream,
            "{request} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nAuthorization: Bearer {TOKEN}\r\n\
             Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        )
        .unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").unwrap();
        (String::from_utf8_lossy(&answer[..end]).to_lowercase(), answer[end + 4..].to_vec())
    }

    fn json(&self, request: &str, body: &str) -> Value {
        let (head, body) = self.ask(request, body);
        serde_json::from_slice(&body).unwrap_or_else(|e| panic!("{e}: {head}"))
    }

    /// The only picture of a job, once it is there.
    fn drawn(&self, order: &Value) -> Value {
        let mut job = self.json("POST /api/v1/jobs", &order.to_string());
        let id = job["id"].as_str().unwrap_or_else(|| panic!("{job}")).to_owned();
        while ["queued", "running"].contains(&job["state"].as_str().unwrap()) {
            std::thread::sleep(Duration::from_millis(20));
            job = self.json(&format!("GET /api/v1/jobs/{id}"), "");
        }
        assert_eq!(job["state"], "done", "{job}");
        job["pictures"][0].clone()
    }
}

impl Drop for Studio {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    tiny::model(&folder.path().join("m"), &Trained::BOTH);
    folder
}

#[test]
fn the_log_tells_what_happened_and_neither_prompts_nor_tokens_nor_ids() {
    let folder = folder();
    let studio = Studio::start(folder.path(), &["--log", "all", "--log-json"]);
    let picture = studio.drawn(&json!({"prompt": "my secret wish", "negative": "another secret", "until": "base"}));
    let (head, _) = studio.ask(&format!("GET /?token={TOKEN}"), "");
    assert!(head.starts_with("http/1.1 303"), "{head}");
    studio.ask("GET /api/v1/images?search=secret", "");
    studio.ask("POST /v1/images/generations", r#"{"prompt": "a third secret", "size": "17"}"#);
    let (head, _) = studio.ask("BREW /secret/coffee", "");
    let id = head.lines().find_map(|line| line.strip_prefix("x-request-id: ")).unwrap().to_owned();
    drop(studio);
    let log = fs::read_to_string(folder.path().join("log")).unwrap();
    for secret in ["secret", TOKEN, picture["job"].as_str().unwrap(), picture["id"].as_str().unwrap(), "coffee", "BREW"]
    {
        assert!(!log.contains(secret), "{secret}: {log}");
    }
    let lines: Vec<Value> = log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let request = |method: &str, route: &str| {
        lines
            .iter()
            .find(|line| line["method"] == method && line["route"] == route)
            .unwrap_or_else(|| panic!("{route}: {log}"))
    };
    assert_eq!(request("POST", "/api/v1/jobs")["status"], 202);
    assert_eq!(request("GET", "/api/v1/jobs/{id}")["status"], 200);
    assert_eq!(request("GET", "/")["status"], 303);
    assert_eq!(request("POST", "/v1/images/generations")["status"], 400);
    let none = request("other", "none");
    assert_eq!((none["id"].as_str(), none["level"].as_str()), (Some(&*id), Some("INFO")));
    assert!(none["ms"].as_f64().unwrap() >= 0.0 && none["timestamp"].is_string());
    assert!(lines.iter().any(|line| line["message"] == "job" && line["state"] == "done"), "{log}");
}

#[test]
fn a_log_of_problems_alone_is_silent_while_there_are_none() {
    let folder = folder();
    let studio = Studio::start(folder.path(), &[]);
    studio.drawn(&json!({"prompt": "a", "until": "base"}));
    let entries = fs::read_dir(folder.path().join("data/pictures")).unwrap();
    entries.for_each(|entry| fs::remove_file(entry.unwrap().path()).unwrap_or_default());
    let images = studio.json("GET /api/v1/images", "");
    studio.ask(&format!("GET {}", images["images"][0]["url"].as_str().unwrap()), "");
    drop(studio);
    let log = fs::read_to_string(folder.path().join("log")).unwrap();
    assert!(log.contains("ERROR") && log.contains("cannot be read") && !log.contains("INFO"), "{log}");
}

/// A folder of evaluations: a study, a sweep of two curves, and what is neither.
fn evals(folder: &Path) {
    succeed(folder, &human::MAKE);
    fs::create_dir_all(folder.join("evals/steps")).unwrap();
    fs::create_dir(folder.join("evals/neither")).unwrap();
    fs::rename(folder.join("s"), folder.join("evals/first study")).unwrap();
    let protocol = json!({"data": "set", "captions_from": "all", "compared_with": "real", "captions": 2, "references": 2, "seed": 0,
        "stage": "base", "extractor": "layout-1", "extractor_digest": "0", "resize": "area", "models": []});
    fs::write(folder.join("evals/steps/sweep.json"), protocol.to_string()).unwrap();
    let interval = json!({"low": 0.25, "high": 0.75});
    let rate = |rate: f64| json!({"hits": 1, "rate": rate, "interval": interval});
    let point = |steps: usize, guidance: f64| {
        json!({"model": "m", "stage": "base", "settings": {"sampler": "ddim", "steps": steps, "guidance": guidance, "thresholding": "static"},
            "pictures": 2, "top_1": rate(0.1), "top_5": rate(guidance / 10.0), "kid": 0.1 * steps as f64, "kid_interval": interval,
            "frechet_distance": 1.0, "shown": "a.png"})
    };
    let lines = [point(2, 1.0), point(2, 3.0), point(8, 1.0), point(8, 3.0)].map(|point| format!("{point}\n"));
    fs::write(folder.join("evals/steps/points.jsonl"), lines.concat() + "{\"model\": \"m").unwrap();
    fs::write(folder.join("evals/steps/report.html"), "<!doctype html><title>x</title><script>alert(1)</script>")
        .unwrap();
}

#[test]
fn sweeps_are_curves_and_reports_are_pages_that_run_nothing() {
    let folder = human::material();
    evals(folder.path());
    let studio = Studio::start(folder.path(), &["--evals", "evals"]);
    let found = studio.json("GET /api/v1/evals", "");
    let sweep = &found["sweeps"][0];
    assert_eq!((found["sweeps"].as_array().unwrap().len(), &sweep["name"]), (1, &json!("steps")), "{found}");
    assert_eq!(sweep["note"], "Beside each point: its guidance.");
    let curve = &sweep["curves"][1];
    assert_eq!((&curve["label"], &curve["labels"]), (&json!("steps 8"), &json!(["1", "3"])));
    assert_eq!(curve["points"], json!([[10.0, 0.8], [30.0, 0.8]]));
    let (head, body) = studio.ask("GET /api/v1/evals/steps/report", "");
    assert!(head.contains("sandbox") && head.contains("default-src 'none'") && !head.contains("script-src"), "{head}");
    assert!(String::from_utf8_lossy(&body).contains("<title>x</title>"));
    for name in ["..", "neither", "first%20study%2F..", "steps%2Freport.html"] {
        let (head, _) = studio.ask(&format!("GET /api/v1/evals/{name}/report"), "");
        assert!(head.starts_with("http/1.1 404"), "{name}: {head}");
    }
}

#[test]
fn raters_reach_their_study_by_its_key_and_nothing_else() {
    let folder = human::material();
    evals(folder.path());
    let studio = Studio::start(folder.path(), &["--evals", "evals"]);
    let study = studio.json("GET /api/v1/evals", "")["studies"][0].clone();
    assert_eq!(
        (&study["name"], &study["votes"], &study["rated"]),
        (&json!("first study"), &json!(0), &json!(true)),
        "{study}"
    );
    let key = study["raters_url"].as_str().unwrap().trim_end_matches('/').to_owned();
    // a rater has the key and not the token
    let ask = |request: &str, headers: &str, body: &str| {
        let mut stream = TcpStream::connect(&studio.address).unwrap();
        let (host, length) = (&studio.address, body.len());
        let kind = "Content-Type: application/x-www-form-urlencoded";
        write!(stream, "{request} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{headers}{kind}\r\nContent-Length: {length}\r\n\r\n{body}")
            .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    let status = |answer: &str| answer[9..12].parse::<u16>().unwrap();
    let own = format!("Origin: http://{}\r\n", studio.address);
    let start = ask(&format!("GET {key}/"), "", "");
    assert!(status(&start) == 200 && start.contains(&format!("action=\"{key}/\"")), "{start}");
    for asset in ["style.css", "script.js"] {
        assert_eq!(status(&ask(&format!("GET {key}/{asset}"), "", "")), 200, "{asset}");
    }
    let entered = ask(&format!("POST {key}/"), &own, "rater=anna");
    assert!(status(&entered) == 303 && entered.contains(&format!("location: {key}/rate/anna")), "{entered}");
    let page = ask(&format!("GET {key}/rate/anna"), "", "");
    let part = |start: &str| page.split(start).nth(1).and_then(|rest| rest.split('"').next()).unwrap().to_owned();
    let picture = part("<img src=\"");
    assert!(picture.starts_with(&key) && status(&ask(&format!("HEAD {picture}"), "", "")) == 200, "{picture}");
    let vote = format!("trial={}&fidelity=left&alignment=right&spent=800", part("name=\"trial\" value=\""));
    assert_eq!(status(&ask(&format!("POST {key}/rate/anna"), "Origin: http://evil.example\r\n", &vote)), 403);
    assert_eq!(status(&ask(&format!("POST {key}/rate/anna"), &own, &vote)), 303);
    // the key opens nothing else, and another key opens nothing
    let other = format!("{}0", &key[..key.len() - 1]);
    let other = if other == key { format!("{}1", &key[..key.len() - 1]) } else { other };
    for path in ["/api/v1/jobs", "/", "/studies/", &format!("{other}/")] {
        assert_eq!(status(&ask(&format!("GET {path}"), "", "")), 401, "{path}");
    }
    assert_eq!(status(&ask(&format!("GET {key}/../../api/v1/jobs"), "", "")), 404);
    // what was voted is counted, and reported
    let study = studio.json("GET /api/v1/evals", "")["studies"][0].clone();
    assert_eq!((&study["votes"], &study["raters"]), (&json!(2), &json!(1)));
    let (head, body) = studio.ask("GET /api/v1/evals/first%20study/report", "");
    assert!(head.starts_with("http/1.1 200") && String::from_utf8_lossy(&body).contains("What raters said"), "{head}");
}

#[test]
#[cfg(unix)]
fn the_command_of_a_picture_draws_it_again_from_what_it_began_with() {
    let folder = folder();
    let colours = (0..32 * 32 * 3).map(|k| (k * 37 % 251) as u8).collect();
    let start = Picture::new(32, 32, colours).unwrap();
    let mask =
        Picture::with_channels(32, 32, 1, (0..32 * 32).map(|k| if k % 32 < 16 { 255 } else { 0 }).collect()).unwrap();
    let studio = Studio::start(folder.path(), &[]);
    let send = |picture: &Picture| {
        let image = STANDARD.encode(png::encode(picture, &PngText::default()).unwrap());
        studio.json("POST /api/v1/uploads", &json!({ "image": image }).to_string())["id"].as_str().unwrap().to_owned()
    };
    let (start, mask) = (send(&start), send(&mask));
    let file = |path: &str| studio.ask(&format!("GET {path}"), "").1;
    for (name, id) in [("start.png", &start), ("mask.png", &mask)] {
        fs::write(folder.path().join(name), file(&format!("/api/v1/uploads/{id}/file"))).unwrap();
    }
    let whole = json!({"prompt": "it's a cat", "seeds": [7], "until": "sr256"});
    for rest in [
        json!({"sr_seeds": [9]}),
        json!({"vary": {"seed": 5, "part": 0.25}}),
        json!({"begin": {"picture": start, "strength": 0.6}}),
        json!({"begin": {"picture": start, "mask": mask, "feather": 2, "resample": 2, "outside": "noised"}}),
        json!({"begin": {"picture": start, "extend": {"left": 4, "right": 4, "bottom": 8}}, "sr_seeds": [8]}),
        json!({"from": "sr256", "begin": {"picture": start}}),
    ] {
        let mut order = whole.clone();
        order.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
        let picture = studio.drawn(&order);
        let bytes = file(picture["url"].as_str().unwrap());
        let shown = decode::decode(&bytes, &DecodeOptions::default()).unwrap();
        fs::write(folder.path().join("shown.png"), &bytes).unwrap();
        let command = picture["command"].as_str().unwrap();
        let script = format!("{} -o again.png --force -q", command.replacen("imagen", "\"$0\"", 1));
        let program = imagen(folder.path()).get_program().to_owned();
        let mut shell = std::process::Command::new("sh");
        let status = shell.args(["-c", &script]).arg(program).current_dir(folder.path()).status().unwrap();
        assert!(status.success(), "{command}");
        let drawn = decode::open(&folder.path().join("again.png"), &DecodeOptions::default()).unwrap();
        assert_eq!(drawn, shown, "{command}");
        let record = |name: &str| {
            png::read_text(&fs::read(folder.path().join(name)).unwrap(), &DecodeOptions::default()).unwrap()
        };
        assert_eq!(record("again.png"), record("shown.png"), "{command}");
    }
}

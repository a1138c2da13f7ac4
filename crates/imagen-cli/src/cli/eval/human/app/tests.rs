//! The service without a socket: what raters see, what is written down, and what nobody can learn from it.

use std::fs;

use axum::body::{Body, to_bytes};
use axum::http::{HeaderValue, Request};
use tempfile::TempDir;
use tower::ServiceExt;

use imagen::eval::human::{Findings, FindingsOptions, Origin, Prompt};
use imagen::image::{Picture, PngText, png};

use super::*;

/// The names of the sets, which nobody may be told.
const SECRETS: [&str; 3] = ["secret-ours", "secret-other", "secret-real"];

struct Served {
    folder: TempDir,
    state: Arc<App>,
}

struct Reply {
    status: StatusCode,
    location: String,
    kind: String,
    body: Vec<u8>,
    headers: String,
}

impl Reply {
    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    /// The values of an attribute in the page.
    fn all(&self, attribute: &str) -> Vec<String> {
        let start = format!("{attribute}=\"");
        self.text().split(&start).skip(1).map(|rest| rest.split('"').next().unwrap().to_owned()).collect()
    }

    /// The trial that the page shows.
    fn token(&self) -> String {
        let (_, rest) = self.text().split_once("name=\"trial\" value=\"").expect("a page with a trial");
        rest.split('"').next().unwrap().to_owned()
    }
}

impl Served {
    fn new(mode: Mode, options: PlanOptions) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let prompt = |k: usize| Prompt { text: format!("thing <{k}> \"&\""), category: ["x", "y"][k % 2].into() };
        let mut study = Study::new("mine", (0..6).map(prompt).collect(), 2, 3).unwrap();
        for name in SECRETS {
            let folder = "f".to_owned();
            let origin = if name == "secret-real" { Origin::Originals { folder } } else { Origin::Imported { folder } };
            study.add(name, origin, |_, _| "png".into()).unwrap();
        }
        for (set, shade) in study.sets.iter().zip([10u8, 60, 110]) {
            fs::create_dir(folder.path().join(&set.name)).unwrap();
            for (k, file) in set.files.iter().flatten().enumerate() {
                let pixels =
                    (0..16 * 16 * 3).map(|at| shade.wrapping_add((at % 48) as u8).wrapping_add(k as u8)).collect();
                let text = PngText { parameters: Some(format!("Model: {}", set.name)), imagen: None };
                let bytes = png::encode(&Picture::new(16, 16, pixels).unwrap(), &text).unwrap();
                fs::write(folder.path().join(file), bytes).unwrap();
            }
        }
        fs::write(folder.path().join(Study::FILE), study.to_json()).unwrap();
        Self::open(folder, mode, options)
    }

    fn open(folder: TempDir, mode: Mode, options: PlanOptions) -> Self {
        let study = Study::open(folder.path()).unwrap();
        let store = Store::open(folder.path(), &study.prompts).unwrap();
        let hosts = vec!["study.example".to_owned()];
        let state = Arc::new(App::new(folder.path().to_owned(), study, mode, options, store, hosts));
        Self { folder, state }
    }

    fn send(&self, request: Request<Body>) -> Reply {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let response = app(self.state.clone()).oneshot(request).await.unwrap();
            let header =
                |name| response.headers().get(name).map_or("", |v: &HeaderValue| v.to_str().unwrap()).to_owned();
            let (status, location, kind) = (response.status(), header(header::LOCATION), header(header::CONTENT_TYPE));
            let headers = format!("{:?}", response.headers());
            let body = to_bytes(response.into_body(), usize::MAX).await.unwrap().to_vec();
            Reply { status, location, kind, body, headers }
        })
    }

    fn get(&self, path: &str) -> Reply {
        self.send(Request::get(path).header("host", "127.0.0.1:8064").body(Body::empty()).unwrap())
    }

    fn post(&self, path: &str, fields: &[(&str, &str)]) -> Reply {
        let body: Vec<String> = fields.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let request = Request::post(path)
            .header("host", "localhost:8064")
            .header("origin", "http://localhost:8064")
            .header("content-type", "application/x-www-form-urlencoded");
        self.send(request.body(Body::from(body.join("&"))).unwrap())
    }

    /// Answers page after page until the end; the pages that were seen.
    fn rate(&self, rater: &str, fields: &[(&str, &str)]) -> usize {
        let (mut path, mut pages) = (format!("/rate/{rater}"), 0);
        loop {
            let reply = self.get(&path);
            if reply.status.is_redirection() {
                path = reply.location;
            } else if path.starts_with("/rest/") {
                path = format!("/rate/{rater}");
            } else if path.starts_with("/done/") {
                return pages;
            } else {
                pages += 1;
                let token = reply.token();
                path = self.post(&path, &[&[("trial", &*token), ("spent", "900")], fields].concat()).location;
            }
        }
    }
}

const BOTH: [(&str, &str); 2] = [("fidelity", "left"), ("alignment", "indifferent")];

#[test]
fn a_rater_goes_from_the_name_to_the_thanks_and_every_answer_is_kept() {
    let options = PlanOptions { batch: 4, ..PlanOptions::default() };
    let served = Served::new(Mode::DrawBench, options);
    let start = served.get("/");
    assert!(start.status == StatusCode::OK && start.text().contains("name=\"rater\""));
    let entered = served.post("/", &[("rater", "+Anna+Lee ")]);
    assert_eq!((entered.status, &*entered.location), (StatusCode::SEE_OTHER, "/rate/anna-lee"));
    let refused = served.post("/", &[("rater", "%3Cb%3E")]);
    assert!(refused.status == StatusCode::BAD_REQUEST && refused.text().contains("“&lt;b&gt;”"));

    let page = served.get("/rate/anna-lee");
    assert!(page.text().contains("Which set of images is of higher quality?"), "{}", page.text());
    assert!(page.text().contains("better represents the text caption: <q>thing &lt;"), "{}", page.text());
    assert_eq!(page.text().matches("type=\"radio\"").count(), 6);
    // six pages and a control for each batch begun
    assert_eq!(served.rate("anna-lee", &BOTH), 8);
    assert!(served.get("/done/anna-lee").text().contains("Thank you, anna-lee"));
    assert_eq!(served.get("/rate/anna-lee").location, "/done/anna-lee");

    let ballots = served.state.store.ballots().unwrap();
    assert_eq!(ballots.len(), 16);
    assert!(ballots.iter().all(|ballot| ballot.vote.rater == "anna-lee" && ballot.spent_ms == Some(900)));
    let votes: Vec<Vote> = ballots.into_iter().map(|ballot| ballot.vote).collect();
    let options = FindingsOptions { keep_all: true, ..FindingsOptions::default() };
    let found = Findings::of(&served.state.study, &votes, options).unwrap();
    assert!(found.overall().all(|row| row.answers == 6));
    assert_eq!(found.position[0].left, 1.0);
}

#[test]
fn neither_addresses_nor_pages_nor_pictures_tell_who_drew_what() {
    for mode in Mode::ALL {
        let served = Served::new(mode, PlanOptions::default());
        let question = mode.questions();
        let answers: Vec<(&str, &str)> = question.iter().map(|q| (q.name(), q.answers()[0].name())).collect();
        let mut path = "/rate/ben".to_owned();
        let (mut pages, mut pictures) = (0, 0);
        while path == "/rate/ben" {
            let page = served.get(&path);
            if page.status.is_redirection() {
                path = page.location;
                continue;
            }
            pages += 1;
            for secret in SECRETS.iter().chain(&["secret", "0000-", "spoilt", "control"]) {
                assert!(!page.text().contains(secret), "{mode}: {secret}");
            }
            assert!(!page.headers.contains("secret"), "{}", page.headers);
            for url in page.all("src").into_iter().filter(|url| url.starts_with("/picture/")) {
                pictures += 1;
                let picture = served.get(&url);
                assert_eq!((picture.status, &*picture.kind), (StatusCode::OK, "image/png"), "{url}");
                assert!(!picture.body.windows(6).any(|bytes| bytes == b"secret"), "{url}");
                assert!(!picture.headers.contains("secret"), "{}", picture.headers);
            }
            let token = page.token();
            let reply = served.post(&path, &[&[("trial", &*token)], &answers[..]].concat());
            assert_eq!(reply.status, StatusCode::SEE_OTHER, "{}", reply.text());
            path = reply.location;
        }
        // pages with a control for each ten begun; 2 sets of 2, a pair, one set of 2 or an original
        let expected = match mode {
            Mode::DrawBench => (7, 7 * 4),
            Mode::Photorealism => (14, pictures),
            Mode::Alignment => (20, pictures),
        };
        assert_eq!((pages, pictures), expected, "{mode}");
        assert!(pictures >= pages);
    }
}

#[test]
fn a_picture_that_cannot_be_read_does_not_tell_its_name() {
    let served = Served::new(Mode::DrawBench, PlanOptions::default());
    let page = served.get("/rate/anna");
    SECRETS.iter().for_each(|set| fs::remove_dir_all(served.folder.path().join(set)).unwrap());
    let url = page.all("src").into_iter().find(|url| url.starts_with("/picture/")).unwrap();
    let reply = served.get(&url);
    assert_eq!(reply.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert!(reply.text().contains("the terminal") && !reply.text().contains("secret"), "{}", reply.text());
}

#[test]
fn the_same_name_goes_on_where_it_stopped_also_after_the_program_ended() {
    let served = Served::new(Mode::DrawBench, PlanOptions::default());
    let first = served.get("/rate/anna").token();
    served.post("/rate/anna", &[&[("trial", &*first)], &BOTH[..]].concat());
    let second = served.get("/rate/anna").token();
    assert_ne!(first, second);
    assert_ne!(served.get("/rate/ben").token(), first, "another rater has another order and other addresses");

    let Served { folder, state } = served;
    drop(state);
    let served = Served::open(folder, Mode::DrawBench, PlanOptions::default());
    assert_eq!(served.get("/rate/anna").token(), second);
    // back, with the answer as it was given, and corrected
    let back = served.get(&format!("/rate/anna?trial={first}"));
    assert_eq!(back.token(), first);
    assert!(back.text().contains("value=\"left\" required checked"), "{}", back.text());
    served.post("/rate/anna", &[("trial", &first), ("fidelity", "right"), ("alignment", "right")]);
    assert_eq!(served.get("/rate/anna").token(), second);
    assert_eq!(served.state.store.ballots().unwrap().len(), 4, "nothing is overwritten");
    assert!(served.folder.path().join("votes.sqlite").exists());
}

#[test]
fn what_is_no_answer_is_not_written_down() {
    let served = Served::new(Mode::DrawBench, PlanOptions::default());
    let token = served.get("/rate/anna").token();
    for (fields, status) in [
        (vec![("trial", &*token), ("fidelity", "left")], StatusCode::BAD_REQUEST),
        (vec![("trial", &*token), ("fidelity", "left"), ("alignment", "yes")], StatusCode::BAD_REQUEST),
        (vec![("trial", "0000"), ("fidelity", "left"), ("alignment", "left")], StatusCode::SEE_OTHER),
        (vec![("fidelity", "left"), ("alignment", "left")], StatusCode::SEE_OTHER),
    ] {
        assert_eq!(served.post("/rate/anna", &fields).status, status, "{fields:?}");
    }
    assert!(served.state.store.ballots().unwrap().is_empty());
    // no page ahead of the first that is open
    let plan = served.state.plan("anna").unwrap();
    assert_eq!(served.get(&format!("/rate/anna?trial={}", plan.trials[4].0)).token(), token);
    for path in
        ["/picture/anna/0000/0/0", &format!("/picture/anna/{token}/2/0"), &format!("/picture/anna/{token}/0/9"), "/no"]
    {
        assert_eq!(served.get(path).status, StatusCode::NOT_FOUND, "{path}");
    }
    assert_eq!(served.get("/rate/An%20na").location, "/");
}

#[test]
fn only_this_machines_names_are_answered_and_foreign_forms_are_refused() {
    let served = Served::new(Mode::DrawBench, PlanOptions::default());
    let with_host =
        |host: &str| served.send(Request::get("/").header("host", host).body(Body::empty()).unwrap()).status;
    for host in ["localhost", "localhost:1", "127.0.0.1:8064", "[::1]:8064", "study.example:8064"] {
        assert_eq!(with_host(host), StatusCode::OK, "{host}");
    }
    for host in ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example:8064", ""] {
        assert_eq!(with_host(host), StatusCode::MISDIRECTED_REQUEST, "{host}");
    }
    let without = served.send(Request::get("/").body(Body::empty()).unwrap());
    assert_eq!(without.status, StatusCode::MISDIRECTED_REQUEST);
    // an origin that is no text is not one of ours
    let strange = HeaderValue::from_bytes("http://localhost:8064\u{e9}".as_bytes()).unwrap();
    let request = Request::post("/").header("host", "localhost:8064").header("origin", strange);
    let request = request.header("content-type", "application/x-www-form-urlencoded").body(Body::from("rater=eve"));
    assert_eq!(served.send(request.unwrap()).status, StatusCode::FORBIDDEN);
    for origin in ["http://evil.example", "null", "http://localhost:9999"] {
        let request = Request::post("/").header("host", "localhost:8064").header("origin", origin);
        let request = request.header("content-type", "application/x-www-form-urlencoded").body(Body::from("rater=a"));
        assert_eq!(served.send(request.unwrap()).status, StatusCode::FORBIDDEN, "{origin}");
    }
    let page = served.get("/");
    assert!(page.headers.contains("default-src 'none'") && page.headers.contains("no-store"), "{}", page.headers);
    for source in page.all("src").iter().chain(&page.all("href")) {
        assert!(source.starts_with('/') && !source.starts_with("//"), "nothing is fetched from elsewhere: {source}");
    }
}

#[test]
fn a_set_alone_is_a_gallery_of_its_pictures() {
    let served = Served::new(Mode::DrawBench, PlanOptions::default());
    let Served { folder, .. } = served;
    let mut study = Study::open(folder.path()).unwrap();
    study.sets.truncate(1);
    fs::write(folder.path().join(Study::FILE), study.to_json()).unwrap();
    let served = Served::open(folder, Mode::DrawBench, PlanOptions::default());
    let page = served.get("/");
    assert_eq!(page.status, StatusCode::OK);
    assert!(page.text().contains("thing &lt;3&gt;") && !page.text().contains(&study.sets[0].name), "{}", page.text());
    let pictures = page.all("src");
    let pictures: Vec<&String> = pictures.iter().filter(|source| source.starts_with("/shown/")).collect();
    assert_eq!(pictures.len(), 6 * 2);
    assert!(pictures.iter().all(|source| served.get(source).status == StatusCode::OK));
    assert_eq!(served.get("/shown/6/0").status, StatusCode::NOT_FOUND);
    let compared = Served::new(Mode::DrawBench, PlanOptions::default());
    assert_eq!(compared.get("/shown/0/0").status, StatusCode::NOT_FOUND, "no picture without a question");
}

#[test]
fn a_form_has_a_size_and_a_name_a_number_of_answers() {
    let options = PlanOptions { batch: 2, controls: 0, categories: vec!["x".into()] };
    let served = Served::new(Mode::DrawBench, options);
    let large = "x".repeat(FORM);
    assert_eq!(served.post("/", &[("rater", &large)]).status, StatusCode::PAYLOAD_TOO_LARGE);
    let page = served.get("/rate/anna");
    let token = page.token();
    let answers = [("trial", token.as_str()), ("fidelity", "left"), ("alignment", "right")];
    let most = CORRECTIONS * 2 * served.state.plan("anna").unwrap().trials.len() as u64;
    for answer in 0..most / 2 {
        assert_eq!(served.post("/rate/anna", &answers).status, StatusCode::SEE_OTHER, "answer {answer}");
    }
    assert_eq!(served.post("/rate/anna", &answers).status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(served.state.store.count("anna", Mode::DrawBench).unwrap(), most);
}

#[test]
fn invented_names_take_no_more_memory_than_a_bound() {
    let served = Served::new(Mode::DrawBench, PlanOptions::default());
    let pages = served.state.plan("").unwrap().trials.len();
    for k in 0..2 * PAGES / pages {
        served.state.plan(&format!("r{k}")).unwrap();
    }
    let kept: usize = served.state.plans.lock().unwrap().values().map(|plan| plan.trials.len()).sum();
    assert!(kept <= PAGES && kept > pages, "{kept}");
}

#[test]
fn requests_changed_at_random_are_answered() {
    let served = Served::new(Mode::DrawBench, PlanOptions::default());
    let token = served.get("/rate/anna").token();
    let form = format!("trial={token}&spent=9&fidelity=left&alignment=left");
    let paths = ["/", "/rate/anna", "/rest/anna", "/done/anna", "/picture/anna/0123456789abcdef0123/0/0", "/votes"];
    let parts = ["..", "%00", "%ff", "%2e%2e%2f", "=", "&", "left", "99999999999999999999", "%F0%9F%8D%8E", "'--", "%"];
    let mut state = 7u64;
    let mut pick = move |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut kinds = std::collections::BTreeMap::new();
    for _ in 0..2000 {
        let mut path = paths[pick(paths.len())].to_owned();
        let mut body = form.clone();
        for text in [&mut path, &mut body] {
            for _ in 0..pick(3) {
                // the path keeps its first slash
                let at = 1 + pick(text.len());
                match pick(3) {
                    0 => text.truncate(at),
                    1 => text.insert_str(at.min(text.len()), parts[pick(parts.len())]),
                    _ => text.insert(at.min(text.len()), char::from(33 + pick(94) as u8)),
                }
            }
        }
        let method = ["GET", "POST", "POST", "HEAD", "PUT", "DELETE", "OPTIONS"][pick(7)];
        let mut request = Request::builder().method(method).uri(&path);
        for (name, values) in [
            ("host", ["localhost:8064", "localhost", "evil.example", "\u{ff}"]),
            ("origin", ["http://localhost:8064", "http://evil.example", "null", "\u{ff}"]),
            ("content-type", ["application/x-www-form-urlencoded", "text/plain", "application/json", ""]),
            ("range", ["bytes=0-1", "bytes=9-1", "bytes=-99999999999", "x"]),
        ] {
            if pick(4) > 0 {
                request = request.header(name, values[if pick(3) > 0 { 0 } else { pick(4) }]);
            }
        }
        // what is no request never comes as far as here
        let Ok(request) = request.body(Body::from(body)) else { continue };
        let status = runtime.block_on(app(served.state.clone()).oneshot(request)).unwrap().status();
        assert!(!status.is_server_error(), "{method} {path}: {status}");
        *kinds.entry(status.as_u16()).or_insert(0) += 1;
    }
    assert!(kinds.len() > 4 && kinds.contains_key(&200) && kinds.contains_key(&303), "{kinds:?}");
    assert!(!served.get("/rate/bob").token().is_empty(), "and it goes on");
}

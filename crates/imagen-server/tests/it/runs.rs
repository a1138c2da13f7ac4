//! Trainings over HTTP: read, and asked to stop.

use std::fs;

use axum::http::{Method, StatusCode};

use imagen::files::Lock;
use imagen::image::{Picture, PngText, png};

use crate::served::Served;
use crate::tiny;

#[test]
fn a_training_shows_its_curves_and_grids_and_is_asked_to_stop() {
    let served = Served::new();
    assert_eq!(
        served.get("/api/v1/runs").json()["runs"].as_array().unwrap().len(),
        0,
        "a folder that is not there yet"
    );
    let run = served.folder.path().join("runs/first run");
    fs::create_dir_all(run.join("samples")).unwrap();
    fs::write(run.join("recipe.toml"), tiny::recipe("/private/pictures")).unwrap();
    let train = |step: u64| {
        format!(
            r#"{{"kind":"train","step":{step},"steps":1,"skipped":0,"loss":0.5,"loss_by_t":[null,null,null,0.5],"gradient_norm":1.0,"lr":0.001,"pictures":4,"seconds":2.0,"pictures_per_second":2.0}}"#
        )
    };
    let lines = [train(1), train(2), r#"{"kind":"validation","step":2,"loss":0.25}"#.into(), "{\"kind\":\"tra".into()];
    fs::write(run.join("metrics.jsonl"), lines.join("\n")).unwrap();
    let grid = png::encode(&Picture::filled(8, 8, [1, 2, 3]), &PngText::default()).unwrap();
    fs::write(run.join("samples/0000002.png"), &grid).unwrap();
    fs::write(run.join("samples/notes.png"), b"none of ours").unwrap();

    let held = Lock::folder(&run).unwrap();
    let listed = served.get("/api/v1/runs").json();
    let view = &listed["runs"][0];
    assert_eq!(
        (view["name"].as_str(), view["step"].as_u64(), view["steps"].as_u64()),
        (Some("first run"), Some(2), Some(4))
    );
    assert_eq!(
        (view["alive"].as_bool(), view["eta_seconds"].as_f64()),
        (Some(true), Some(4.0)),
        "two steps of two seconds"
    );
    let shown = served.get("/api/v1/runs/first%20run").json();
    assert_eq!(shown["curves"]["loss"], serde_json::json!([[1, 0.5], [2, 0.5]]));
    assert_eq!(shown["curves"]["validation"], serde_json::json!([[2, 0.25]]));
    assert_eq!(shown["grids"], serde_json::json!([2]));
    assert!(!shown.to_string().contains("private"), "a run does not tell where its pictures are");
    assert!(served.get("/api/v1/runs/first%20run/grids/2").body == grid);

    let plan = &shown["plan"];
    assert!(plan["memory"].as_u64() > Some(1 << 20) && plan["seconds"].as_f64() > Some(0.0), "{plan}");
    // it is asked to stop as by Ctrl-C; a foreign page's wish is none
    let stop = "/api/v1/runs/first%20run/stop";
    let foreign = served.request(Method::POST, stop, &[("origin", "http://evil.example")], "");
    assert_eq!((foreign.status, run.join("stop").exists()), (StatusCode::FORBIDDEN, false));
    assert_eq!((served.post(stop, "").status, run.join("stop").exists()), (StatusCode::ACCEPTED, true));
    assert_eq!(served.post("/api/v1/runs/..%2Fmodel/stop", "").status, StatusCode::NOT_FOUND);
    drop(held);
    let alive = || served.get("/api/v1/runs").json()["runs"][0]["alive"].as_bool();
    assert_eq!(alive(), Some(false), "one that has ended does not go on, however short a time ago it wrote");
    let _held = Lock::folder(&run).unwrap();
    let long_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(3600);
    let metrics = fs::File::options().append(true).open(run.join("metrics.jsonl")).unwrap();
    metrics.set_modified(long_ago).unwrap();
    let over = served.post(stop, "");
    assert_eq!((over.status, &*over.code()), (StatusCode::CONFLICT, "not_running"));

    fs::write(served.folder.path().join("runs/recipe.toml"), "secret").unwrap();
    for path in [
        "..",
        "..%2Fmodel",
        "first%20run%2F..",
        ".",
        "second",
        "first%20run/grids/3",
        "first%20run/grids/-1",
        "first%20run/grids/..%2F..%2Frecipe.toml",
    ] {
        let reply = served.get(&format!("/api/v1/runs/{path}"));
        assert!(reply.status.is_client_error() && !reply.text().contains("secret"), "{path}: {}", reply.text());
    }
    fs::write(run.join("metrics.jsonl"), "nonsense\n").unwrap();
    let broken = served.get("/api/v1/runs/first%20run");
    assert!(broken.status == StatusCode::BAD_REQUEST && !broken.text().contains("metrics.jsonl"), "{}", broken.text());
}

//! The gallery over HTTP.

use axum::http::{Method, StatusCode};

use imagen::image::{DecodeOptions, decode};

use crate::served::Served;

#[test]
fn a_picture_is_found_marked_deleted_and_brought_back() {
    let served = Served::new();
    for prompt in ["a red apple", "a <b>bold</b> cat"] {
        let id = served.submit(&format!(r#"{{"prompt": "{prompt}", "seed": 1, "until": "base"}}"#));
        served.wait(&id, &["done"]);
    }
    let list = |query: &str| served.get(&format!("/api/v1/images{query}")).json()["images"].as_array().unwrap().clone();
    assert_eq!(list("").len(), 2);
    let found = list("?search=apple+red");
    assert_eq!(found.len(), 1);
    let path = format!("/api/v1/images/{}", found[0]["id"].as_str().unwrap());
    assert_eq!(found[0]["command"], "imagen sample --seed 1 'a red apple'");
    let marked = served.request(Method::PATCH, &path, &[], r#"{"favourite": true}"#);
    assert_eq!(marked.json()["favourite"], true);
    assert_eq!(list("?favourites=true").len(), 1);
    assert_eq!(served.delete(&path).status, StatusCode::NO_CONTENT);
    assert_eq!(served.delete(&path).status, StatusCode::NOT_FOUND, "what is gone is said to be gone");
    assert_eq!([served.get(&path).status, served.get(&format!("{path}/file")).status], [StatusCode::NOT_FOUND; 2]);
    assert_eq!(served.post(&format!("{path}/restore"), "").json()["favourite"], true);
    assert_eq!(served.get(&format!("{path}/file")).status, StatusCode::OK);
    // what a prompt holds is data, and its answer no page
    let html = served.get("/api/v1/images?search=bold");
    assert_eq!(html.header("content-type"), "application/json");
}

#[test]
fn a_small_picture_is_small_and_says_nothing() {
    let served = Served::new();
    let id = served.submit(r#"{"prompt": "secret", "until": "sr256"}"#);
    let picture = served.wait(&id, &["done"])["pictures"][0]["id"].as_str().unwrap().to_owned();
    let small = served.get(&format!("/api/v1/images/{picture}/small"));
    assert_eq!((small.status, small.header("content-type")), (StatusCode::OK, "image/jpeg"));
    assert!(!small.text().contains("secret"));
    assert_eq!(decode::decode(&small.body, &DecodeOptions::default()).unwrap().width(), 32);
    assert!(served.get(&format!("/api/v1/images/{picture}/file")).text().contains("secret"));
}

#[test]
fn no_path_of_a_client_reaches_the_disk() {
    let served = Served::new();
    for id in [
        "..%2F..%2Fmodel%2Fbase.safetensors",
        "%2Fetc%2Fpasswd",
        "..",
        "studio.sqlite",
        "a%00b",
        "%5C..%5C",
        &"A".repeat(32),
    ] {
        for end in ["", "/file", "/small"] {
            let reply = served.get(&format!("/api/v1/images/{id}{end}"));
            assert!(
                [StatusCode::NOT_FOUND, StatusCode::BAD_REQUEST].contains(&reply.status),
                "{id}{end}: {}",
                reply.status
            );
        }
    }
}

#[test]
fn a_picture_whose_file_was_taken_away_is_an_error_without_a_path() {
    let served = Served::new();
    let id = served.submit(r#"{"prompt": "a", "until": "base"}"#);
    let url = served.wait(&id, &["done"])["pictures"][0]["url"].as_str().unwrap().to_owned();
    let pictures = served.folder.path().join("data/pictures");
    std::fs::read_dir(&pictures).unwrap().for_each(|entry| std::fs::remove_file(entry.unwrap().path()).unwrap());
    let reply = served.get(&url);
    assert_eq!((reply.status, &*reply.code()), (StatusCode::INTERNAL_SERVER_ERROR, "unreadable"));
    assert!(!reply.text().contains("pictures/"), "{}", reply.text());
}

#[test]
fn a_picture_that_cannot_be_written_fails_its_job_and_the_next_one_is_drawn() {
    let served = Served::new();
    let pictures = served.folder.path().join("data/pictures");
    let moved = served.folder.path().join("elsewhere");
    std::fs::rename(&pictures, &moved).unwrap();
    std::fs::write(&pictures, b"a file where the folder was").unwrap();
    let id = served.submit(r#"{"prompt": "a", "until": "base"}"#);
    let job = served.wait(&id, &["failed", "done"]);
    let error = job["error"].as_str().unwrap();
    assert!(error.contains("could not be written") && !error.contains("data/"), "{error}");
    std::fs::remove_file(&pictures).unwrap();
    std::fs::rename(&moved, &pictures).unwrap();
    let id = served.submit(r#"{"prompt": "a", "until": "base"}"#);
    assert_eq!(served.wait(&id, &["failed", "done"])["state"], "done");
}

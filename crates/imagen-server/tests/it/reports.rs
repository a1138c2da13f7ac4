//! What went wrong elsewhere and was not shown by another test to be impossible here: files of models that lie, and addresses that
//! lead away.

use std::fs;
use std::path::Path;

use axum::http::StatusCode;
use burn::tensor::Device;
use serde_json::{Value, json};

use imagen::ErrorKind;
use imagen::cascade::{Imagen, ModelFiles, StageName};

use crate::served::Served;
use crate::tiny::{self, Trained};

/// A model file with another header and other data.
fn rewritten(whole: &[u8], change: impl FnOnce(&mut Value, &mut Vec<u8>)) -> Vec<u8> {
    let length = u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
    let mut header: Value = serde_json::from_slice(&whole[8..8 + length]).unwrap();
    let mut data = whole[8 + length..].to_vec();
    change(&mut header, &mut data);
    let header = header.to_string();
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &data].concat()
}

/// The first two tensors of a header, in the order of their data.
fn first_two(header: &Value) -> [String; 2] {
    let tensors = header.as_object().unwrap().iter().filter(|(name, _)| *name != "__metadata__");
    let mut named: Vec<(u64, String)> =
        tensors.map(|(name, tensor)| (tensor["data_offsets"][0].as_u64().unwrap(), name.clone())).collect();
    named.sort();
    [named[0].1.clone(), named[1].1.clone()]
}

fn refused(folder: &Path, what: &str) {
    let opened = Imagen::open(&ModelFiles::Folder(folder.to_owned()), &Device::flex());
    // what is only read when it is drawn with is met there
    let failed = opened.and_then(|imagen| {
        let request = imagen::cascade::Request {
            until: Some(StageName::Base),
            ..imagen::cascade::Request::new(vec!["a".into()], 1, 0)
        };
        imagen.sample(&request)?.collect::<imagen::Result<Vec<_>>>().map(drop)
    });
    let error = failed.expect_err(what);
    assert!(matches!(error.kind(), ErrorKind::Model | ErrorKind::Data | ErrorKind::Io), "{what}: {error}");
}

#[test]
fn a_model_file_that_declares_more_than_it_holds_or_is_a_pickle_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    tiny::model(folder.path(), &Trained::BASE);
    let path = folder.path().join("base.safetensors");
    let whole = fs::read(&path).unwrap();
    let mut cases: Vec<(&str, Vec<u8>)> = vec![
        ("a header of 2^64 bytes", [&u64::MAX.to_le_bytes()[..], &whole[8..]].concat()),
        ("a header longer than the file", [&(whole.len() as u64).to_le_bytes()[..], &whole[8..]].concat()),
        ("data that was cut off", whole[..whole.len() - 100].to_vec()),
        ("data that nothing names", [&whole[..], &[0; 64]].concat()),
        ("a pickle", b"\x80\x04\x95\x1e\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x94\x8c\x06system\x94\x93\x94\x8c\x02id\x94\x85\x94R\x94.".to_vec()),
        ("a zip, as PyTorch writes it", [&b"PK\x03\x04"[..], &whole].concat()),
    ];
    type Change = fn(&mut Value, &[String; 2]);
    let changes: [(&str, Change); 6] = [
        ("a tensor bigger than the file", |header, [one, _]| {
            header[one]["shape"] = json!([1_000_000, 1_000_000]);
        }),
        ("an end beyond the file", |header, [one, _]| header[one]["data_offsets"][1] = json!(1u64 << 40)),
        ("an end before its beginning", |header, [one, _]| header[one]["data_offsets"] = json!([64, 0])),
        ("two tensors in one place", |header, [one, two]| {
            header[two]["data_offsets"] = header[one]["data_offsets"].clone();
        }),
        ("a shape whose product wraps around", |header, [one, _]| {
            header[one]["shape"] = json!([1u64 << 62, 8]);
        }),
        ("a type that there is not", |header, [one, _]| header[one]["dtype"] = json!("F7")),
    ];
    for (what, change) in changes {
        cases.push((
            what,
            rewritten(&whole, |header, _| {
                let names = first_two(header);
                change(header, &names);
            }),
        ));
    }
    let [one, _] = rewritten_names(&whole);
    let twice = String::from_utf8_lossy(&whole[8..]).into_owned();
    let length = u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
    let text = twice.get(..length).unwrap();
    let again =
        text.replacen('{', &format!("{{\"{one}\":{{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}},"), 1);
    cases.push((
        "one name twice",
        [&(again.len() as u64).to_le_bytes()[..], again.as_bytes(), &whole[8 + length..]].concat(),
    ));
    for (what, bytes) in cases {
        fs::write(&path, bytes).unwrap();
        refused(folder.path(), what);
    }
    // a name in other letters is another file, and its content decides
    fs::remove_file(&path).unwrap();
    fs::write(folder.path().join("base.Safetensors"), b"\x80\x04.").unwrap();
    refused(folder.path(), "a pickle under another name");
}

fn rewritten_names(whole: &[u8]) -> [String; 2] {
    let mut names = None;
    rewritten(whole, |header, _| names = Some(first_two(header)));
    names.unwrap()
}

#[test]
fn no_address_leads_to_another_site_and_none_reads_a_file() {
    let token = "correct-horse-battery";
    let served = Served::with(imagen_server::Limits::default(), Some(token));
    for rest in ["//evil.example", "&next=https://evil.example", "&redirect=//evil.example", "#//evil.example"] {
        let reply = served.get(&format!("/?token={token}{rest}"));
        assert!(["", "/"].contains(&reply.header("location")), "{rest}: {}", reply.header("location"));
    }
    let served = Served::new();
    for path in [
        "//evil.example/%2f..",
        "/file=/etc/passwd",
        "/assets/../../etc/passwd",
        "/assets/..%2f..%2fetc%2fpasswd",
        "/assets/%5c..%5cmain.js",
        "/studies/../api/v1/jobs",
        "/studies/0123456789abcdef0123456789abcdef/",
        "/api/v1/evals/..%2f..%2fetc/report",
    ] {
        let reply = served.get(path);
        assert!(
            reply.status == StatusCode::NOT_FOUND && reply.header("location").is_empty(),
            "{path}: {}",
            reply.status
        );
        assert!(!reply.text().contains("root:"), "{path}");
    }
}

#[test]
fn nothing_of_the_models_is_managed_over_http() {
    let served = Served::new();
    let document = served.get("/openapi.json").json();
    let writes = document["paths"].as_object().unwrap().iter().flat_map(|(path, methods)| {
        let methods = methods.as_object().unwrap().keys().filter(|method| *method != "get");
        methods.map(move |_| path.as_str())
    });
    for path in writes {
        for word in ["model", "pull", "install", "load", "plugin", "config", "exec"] {
            let allowed = ["/api/v1/uploads"].contains(&path);
            assert!(allowed || !path.contains(word), "{path}");
        }
    }
    // a client of another interface chooses among the configured ones, and names nothing else
    for name in ["../other", "/etc", "http://evil.example/model", "OWNER/NAME"] {
        let chosen = served.post("/sdapi/v1/options", &json!({ "sd_model_checkpoint": name }).to_string());
        assert_eq!(chosen.status, StatusCode::NOT_FOUND, "{name}");
    }
}

//! Pictures to begin with: how they come in, and what is drawn from them.

use std::io::{Cursor, Read};

use axum::http::{Method, StatusCode};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use imagen::image::{DecodeOptions, Picture, PngText, decode, png};
use imagen_server::Limits;

use crate::served::{Reply, Served};

/// A picture whose every pixel is another.
fn picture(width: usize, height: usize) -> Picture {
    let pixel = |k: usize| [(k * 7 % 251) as u8, (k * 13 % 241) as u8, (k * 29 % 239) as u8];
    Picture::new(width, height, (0..width * height).flat_map(pixel).collect()).unwrap()
}

fn encoded(picture: &Picture) -> Vec<u8> {
    png::encode(picture, &PngText::default()).unwrap()
}

/// White in the right half.
fn right_half(side: usize) -> Picture {
    let pixels = (0..side * side).map(|k| if k % side >= side / 2 { 255 } else { 0 }).collect();
    Picture::with_channels(side, side, 1, pixels).unwrap()
}

/// A few bytes that claim ten thousand million pixels.
fn bomb() -> Vec<u8> {
    let mut bytes = encoded(&Picture::filled(1, 1, [0, 0, 0]));
    bytes[16..24].copy_from_slice(&[0, 1, 0x86, 0xa0, 0, 1, 0x86, 0xa0]);
    let checksum = crc32fast::hash(&bytes[12..29]).to_be_bytes();
    bytes[29..33].copy_from_slice(&checksum);
    bytes
}

#[test]
fn a_picture_that_is_sent_is_kept_once_and_as_pixels_alone() {
    let served = Served::new();
    let text = PngText { parameters: Some("somebody's words".into()), imagen: None };
    let worded = png::encode(&picture(16, 16), &text).unwrap();
    let id = served.upload(&worded);
    assert_eq!(served.upload(&encoded(&picture(16, 16))), id, "the same pixels are the same picture");
    let kept = served.get(&format!("/api/v1/uploads/{id}/file"));
    assert_eq!((kept.status, kept.header("content-type")), (StatusCode::OK, "image/png"));
    assert!(!kept.text().contains("somebody"));
    assert_eq!(decode::decode(&kept.body, &DecodeOptions::default()).unwrap(), picture(16, 16));
    for other in ["0123456789abcdef0123456789abcdef", "..%2Fstudio.sqlite", "A"] {
        assert_eq!(served.get(&format!("/api/v1/uploads/{other}/file")).status, StatusCode::NOT_FOUND, "{other}");
    }
}

#[test]
fn what_is_sent_is_bounded_before_it_is_decoded_and_no_address_is_followed() {
    let served = Served::new();
    for image in ["http://127.0.0.1:1/a.png", "file:///etc/passwd", "/etc/passwd", "", "data:image/png;base64,AAAA"] {
        let reply = served.post("/api/v1/uploads", &json!({ "image": image }).to_string());
        assert_eq!((reply.status, reply.json()["error"]["param"].as_str()), (StatusCode::BAD_REQUEST, Some("image")));
    }
    let reply = served.post("/api/v1/uploads", &json!({ "image": STANDARD.encode(bomb()) }).to_string());
    assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{}", reply.text());
    assert!(reply.text().contains("8192"), "{}", reply.text());
    let large = json!({ "image": "A".repeat(33 << 20) }).to_string();
    assert_eq!(served.post("/api/v1/uploads", &large).status, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(std::fs::read_dir(served.folder.path().join("data/uploads")).unwrap().count(), 0);
}

#[test]
fn what_is_kept_is_bounded_and_what_nothing_was_drawn_from_makes_room() {
    let most = encoded(&picture(16, 16).to_channels(4).unwrap()).len() as u64 * 5 / 2;
    let served = Served::with(Limits { kept_bytes: most, ..Limits::default() }, None);
    let used = served.upload(&encoded(&picture(16, 16)));
    served.drawn(&json!({"prompt": "a", "until": "base", "begin": {"picture": used, "strength": 0.5}}));
    let first = served.upload(&encoded(&picture(15, 15)));
    let second = served.upload(&encoded(&picture(15, 14)));
    let status = |id: &str| served.get(&format!("/api/v1/uploads/{id}/file")).status;
    assert_eq!(
        [status(&used), status(&first), status(&second)],
        [StatusCode::OK, StatusCode::NOT_FOUND, StatusCode::OK]
    );
    let large = json!({ "image": STANDARD.encode(encoded(&picture(100, 100))) }).to_string();
    let reply = served.post("/api/v1/uploads", &large);
    assert_eq!((reply.status, &*reply.code()), (StatusCode::INSUFFICIENT_STORAGE, "uploads_full"));
    assert_eq!(status(&used), StatusCode::OK, "what a picture was drawn from stays");
}

#[test]
fn strength_a_mask_and_room_say_how_much_is_drawn() {
    let served = Served::new();
    let (whole, half) = (served.upload(&encoded(&picture(16, 16))), served.upload(&encoded(&right_half(16))));
    let order = |begin: Value| json!({"prompt": "a cat", "seed": 3, "until": "base", "begin": begin});
    let kept = served.drawn(&order(json!({"picture": whole, "strength": 0.0})));
    assert_eq!(kept, [picture(16, 16)], "nothing of it is drawn over");
    let over = served.drawn(&order(json!({"picture": whole, "strength": 0.6})));
    assert_ne!(over, kept);
    let mended = &served.drawn(&order(json!({"picture": whole, "mask": half, "resample": 2})))[0];
    let part = |picture: &Picture, x: usize| picture.crop(x, 0, 8, 16).unwrap();
    assert_eq!(part(mended, 0), part(&picture(16, 16), 0), "what the mask leaves out stays");
    assert_ne!(part(mended, 8), part(&picture(16, 16), 8));
    let beyond = &served.drawn(&order(json!({"picture": whole, "extend": {"left": 8, "right": 8, "top": 16}})))[0];
    assert_eq!((beyond.width(), beyond.height()), (16, 16));
    let shown = served.get("/api/v1/images").json()["images"][0].clone();
    assert_eq!(shown["request"]["begin"]["extend"], json!({"left": 8, "right": 8, "top": 16, "bottom": 0}));
}

#[test]
fn a_picture_of_the_gallery_is_begun_with_and_a_photograph_is_enlarged() {
    let served = Served::new();
    let job = served.wait(&served.submit(r#"{"prompt": "a cat", "seed": 1, "until": "base"}"#), &["done"]);
    let small = job["pictures"][0]["id"].as_str().unwrap();
    let order = json!({"prompt": "a cat", "from": "sr256", "until": "sr256", "begin": {"picture": small}});
    assert_eq!(served.drawn(&order)[0].width(), 32);
    let photograph = served.upload(&encoded(&picture(40, 24)));
    let order = json!({"prompt": "", "from": "sr256", "until": "sr256", "begin": {"picture": photograph}});
    let large = &served.drawn(&order)[0];
    assert_eq!((large.width(), large.height()), (80, 48));
}

#[test]
fn what_cannot_be_begun_with_is_refused_before_it_is_taken() {
    let served = Served::new();
    let (square, wide) = (served.upload(&encoded(&picture(16, 16))), served.upload(&encoded(&picture(20, 10))));
    let long = served.upload(&encoded(&picture(90, 10)));
    let unknown = "0123456789abcdef0123456789abcdef";
    for (rest, param, reason) in [
        (json!({"begin": {"picture": "../studio.sqlite"}}), "begin", "named by the id"),
        (json!({"begin": {"picture": unknown}}), "begin", "send it again"),
        (json!({"begin": {"picture": square, "mask": unknown}}), "begin", "send it again"),
        (json!({"begin": {"picture": square, "strength": 1.5}}), "strength", "0 to 1"),
        (json!({"begin": {"picture": square, "mask": square, "resample": 1000}}), "resample", "1 to 20"),
        (json!({"begin": {"picture": square, "extend": {"left": 100_000}}}), "extend", "at most"),
        (json!({"begin": {"picture": long}, "until": "sr256", "from": "sr256"}), "begin", "8 to 1"),
        (json!({"from": "sr256", "until": "sr256"}), "from", "say with begin"),
        (json!({"from": "sr1024", "begin": {"picture": square}}), "from", "no stage"),
        (json!({"from": "sr256", "until": "sr256", "begin": {"picture": square, "strength": 0.5}}), "begin", "no mask"),
        (
            json!({"from": "sr256", "until": "sr256", "begin": {"picture": wide}, "stages": {"base": {"steps": 2}}}),
            "stages",
            "only stages from",
        ),
        (json!({"sr_seeds": [1, 2]}), "sr_seeds", "one a picture"),
        (json!({"vary": {"seed": 1, "part": 2.0}}), "vary", "0 to 1"),
    ] {
        let mut order = json!({"prompt": "a"});
        order.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
        let reply = served.post("/api/v1/jobs", &order.to_string());
        let error = reply.json()["error"].clone();
        assert_eq!((reply.status, error["param"].as_str()), (StatusCode::BAD_REQUEST, Some(param)), "{rest}: {error}");
        assert!(error["message"].as_str().unwrap().contains(reason), "{rest}: {error}");
    }
}

#[test]
fn the_seed_of_what_is_enlarged_stays_while_that_of_the_enlarging_varies() {
    let served = Served::new();
    let order = |rest: Value| {
        let mut order = json!({"prompt": "a cat", "until": "sr256"});
        order.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
        order
    };
    let plain = served.drawn(&order(json!({"seed": 7})));
    let varied = served.drawn(&order(json!({"seeds": [7, 7, 7], "sr_seed": 7})));
    assert_eq!(varied[0], plain[0], "the seed itself");
    assert!(varied[1] != varied[0] && varied[2] != varied[1]);
    let last = served.get("/api/v1/images").json()["images"][0].clone();
    assert_eq!([&last["request"]["seeds"], &last["request"]["sr_seeds"]], [&json!([7]), &json!([9])]);
    assert_eq!(served.drawn(&last["request"])[0], varied[2], "what a picture says it was asked for draws it again");
    // a stage that does not run has no seed
    let base = served.wait(&served.submit(r#"{"prompt": "a", "until": "base", "sr_seed": 3}"#), &["done"]);
    assert!(base["request"]["sr_seeds"].is_null());
    let ways =
        served.drawn(&json!({"prompt": "a cat", "until": "base", "seeds": [8, 9], "vary": {"seed": 7, "part": 0.0}}));
    assert_eq!(ways[0], ways[1], "no part of the way");
    let ways =
        served.drawn(&json!({"prompt": "a cat", "until": "base", "seeds": [8, 9], "vary": {"seed": 7, "part": 0.5}}));
    assert_ne!(ways[0], ways[1]);
}

#[test]
fn a_restart_keeps_what_a_waiting_job_begins_with() {
    let mut served = Served::new();
    let id = served.upload(&encoded(&picture(16, 16)));
    let slow = served.submit(r#"{"prompt": "slow", "count": 3, "batch": 1, "until": "base"}"#);
    let order = json!({"prompt": "a", "until": "base", "begin": {"picture": id, "strength": 0.0}});
    let waits = served.submit(&order.to_string());
    served.wait(&slow, &["running"]);
    served.restart();
    let url = served.wait(&waits, &["done"])["pictures"][0]["url"].as_str().unwrap().to_owned();
    assert_eq!(decode::decode(&served.get(&url).body, &DecodeOptions::default()).unwrap(), picture(16, 16));
}

/// A part of a body: its name, its file's name, its content.
type Part<'a> = (&'a str, &'a str, &'a [u8]);

/// A body in parts.
fn parts(all: &[Part<'_>]) -> Vec<u8> {
    let mut body = Vec::new();
    for (name, file, bytes) in all {
        let file =
            if file.is_empty() { String::new() } else { format!("; filename=\"{file}\"\r\nContent-Type: image/png") };
        body.extend(format!("--cut\r\nContent-Disposition: form-data; name=\"{name}\"{file}\r\n\r\n").bytes());
        body.extend_from_slice(bytes);
        body.extend(b"\r\n");
    }
    body.extend(b"--cut--\r\n");
    body
}

fn edit(served: &Served, all: &[Part<'_>]) -> Reply {
    served.raw("/v1/images/edits", &[], "multipart/form-data; boundary=cut", parts(all))
}

#[test]
fn openai_edits_where_the_mask_is_transparent() {
    let served = Served::new();
    let image = encoded(&picture(16, 16));
    let holes = (0..256).flat_map(|k| [9, 9, 9, if k % 16 >= 8 { 0 } else { 255 }]).collect();
    let mask = encoded(&Picture::with_channels(16, 16, 4, holes).unwrap());
    let text: [Part<'_>; 5] = [
        ("prompt", "", b"a cat"),
        ("n", "", b"2"),
        ("size", "", b"16x16"),
        ("response_format", "", b"b64_json"),
        ("seed", "", b"5"),
    ];
    let mut all = text.to_vec();
    all.extend([("image", "../../a.png", &image[..]), ("mask", "mask.png", &mask[..])]);
    let reply = edit(&served, &all);
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
    let data = reply.json()["data"].as_array().unwrap().clone();
    assert_eq!(data.len(), 2);
    for one in &data {
        let bytes = STANDARD.decode(one["b64_json"].as_str().unwrap()).unwrap();
        let drawn = decode::decode(&bytes, &DecodeOptions::default()).unwrap();
        assert_eq!(drawn.crop(0, 0, 8, 16).unwrap(), picture(16, 16).crop(0, 0, 8, 16).unwrap());
        assert_ne!(drawn.crop(8, 0, 8, 16).unwrap(), picture(16, 16).crop(8, 0, 8, 16).unwrap());
    }
    // a picture with holes is its own mask, and one without is drawn over everywhere
    for (image, masked) in [(&mask, true), (&image, false)] {
        let reply = edit(&served, &[("prompt", "", b"a"), ("size", "", b"16x16"), ("image[]", "a.png", image)]);
        assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
        let begun = served.get("/api/v1/images").json()["images"][0]["request"]["begin"].clone();
        assert_eq!(begun["mask"].is_string(), masked, "{begun}");
    }
}

#[test]
fn openai_edits_that_cannot_be_done_say_why() {
    let served = Served::new();
    let (image, wide, bomb) = (encoded(&picture(16, 16)), encoded(&picture(20, 16)), bomb());
    let cases: [(&[Part<'_>], &str); 7] = [
        (&[("prompt", "", b"a")], "image"),
        (&[("prompt", "", b"a"), ("image", "a.png", b"no picture")], "image"),
        (&[("prompt", "", b"a"), ("image", "a.png", &bomb)], "image"),
        (&[("prompt", "", b"a"), ("image", "a.png", &image), ("image", "b.png", &image)], "image"),
        (&[("prompt", "", b"a"), ("image", "a.png", &image), ("mask", "m.png", &wide)], "mask"),
        (&[("prompt", "", b"a"), ("image", "a.png", &image), ("mask", "m.png", &image)], "mask"),
        (&[("prompt", "", b"a"), ("image", "a.png", &image), ("strength", "", b"much")], "strength"),
    ];
    for (all, param) in cases {
        let reply = edit(&served, all);
        let error = reply.json()["error"].clone();
        assert_eq!((reply.status, error["param"].as_str()), (StatusCode::BAD_REQUEST, Some(param)), "{error}");
        assert_eq!(error["type"], "invalid_request_error");
    }
    let many: Vec<Part<'_>> = vec![("x", "", b"y"); 100];
    assert_eq!(edit(&served, &many).status, StatusCode::BAD_REQUEST);
    let large = vec![b'a'; 33 << 20];
    assert_eq!(edit(&served, &[("image", "a.png", &large)]).status, StatusCode::PAYLOAD_TOO_LARGE);
    let cut = served.raw("/v1/images/edits", &[], "multipart/form-data; boundary=cut", b"--cut\r\nContent-".to_vec());
    assert_eq!((cut.status, &*cut.code()), (StatusCode::BAD_REQUEST, "invalid_multipart"));
}

#[test]
fn no_page_of_a_browser_sends_a_body_in_parts() {
    let served = Served::new();
    let body = || parts(&[("prompt", "", b"a"), ("image", "a.png", &encoded(&picture(16, 16)))]);
    for (name, value) in [
        ("origin", "http://localhost:7860"),
        ("origin", "null"),
        ("sec-fetch-site", "same-origin"),
        ("sec-fetch-site", "none"),
        ("referer", "http://evil.example/"),
        ("cookie", "imagen_studio=x"),
    ] {
        let reply = served.raw("/v1/images/edits", &[(name, value)], "multipart/form-data; boundary=cut", body());
        assert_eq!((reply.status, &*reply.code()), (StatusCode::FORBIDDEN, "foreign_origin"), "{name}: {value}");
    }
    for path in ["/api/v1/jobs", "/api/v1/uploads", "/v1/images/generations", "/sdapi/v1/img2img"] {
        let reply = served.raw(path, &[], "multipart/form-data; boundary=cut", body());
        assert_eq!(reply.status, StatusCode::UNSUPPORTED_MEDIA_TYPE, "{path}");
    }
    let json = served.request(Method::POST, "/v1/images/edits", &[], "{}");
    assert_eq!((json.status, &*json.code()), (StatusCode::UNSUPPORTED_MEDIA_TYPE, "not_parts"));
}

#[test]
fn a1111_draws_over_pictures_within_masks() {
    let served = Served::new();
    let data = |picture: &Picture| format!("data:image/png;base64,{}", STANDARD.encode(encoded(picture)));
    let asked = |rest: Value| {
        let mut asked = json!({"prompt": "a cat", "seed": 9, "steps": 4, "width": 16, "height": 16, "init_images": [data(&picture(16, 16))]});
        asked.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
        asked
    };
    let draw = |rest: Value| {
        let reply = served.post("/sdapi/v1/img2img", &asked(rest).to_string());
        assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
        let bytes = STANDARD.decode(reply.json()["images"][0].as_str().unwrap()).unwrap();
        (decode::decode(&bytes, &DecodeOptions::default()).unwrap(), reply.json())
    };
    assert_eq!(draw(json!({"denoising_strength": 0.0})).0, picture(16, 16));
    let half = |picture: &Picture, x| picture.crop(x, 0, 8, 16).unwrap();
    for (inverted, kept) in [(json!(0), 0), (json!(1), 8), (json!(true), 8)] {
        let mask = json!({"mask": data(&right_half(32)), "inpainting_mask_invert": inverted, "denoising_strength": 1.0,
            "mask_blur": 0, "inpaint_full_res": true});
        let (drawn, answer) = draw(mask);
        assert_eq!(half(&drawn, kept), half(&picture(16, 16), kept), "{inverted}");
        assert_ne!(half(&drawn, 8 - kept), half(&picture(16, 16), 8 - kept), "{inverted}");
        let info: Value = serde_json::from_str(answer["info"].as_str().unwrap()).unwrap();
        assert!(info["extra_generation_params"]["Ignored"][0].as_str().unwrap().starts_with("inpaint_full_res"));
    }
    for (rest, param) in [
        (json!({"init_images": []}), "init_images"),
        (json!({"init_images": ["http://127.0.0.1/a.png"]}), "init_images"),
        (json!({"mask": "/etc/passwd"}), "mask"),
        (json!({"init_images": [STANDARD.encode(bomb())]}), "init_images"),
    ] {
        let reply = served.post("/sdapi/v1/img2img", &asked(rest).to_string());
        assert_eq!((reply.status, reply.json()["error"]["param"].as_str()), (StatusCode::BAD_REQUEST, Some(param)));
    }
}

#[test]
fn several_pictures_come_in_a_zip_with_how_they_were_made() {
    let served = Served::new();
    let job = served.wait(&served.submit(r#"{"prompt": "a cat", "seeds": [1, 2], "until": "base"}"#), &["done"]);
    let ids: Vec<&str> = job["pictures"].as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap()).collect();
    let reply = served.post("/api/v1/images/archive", &json!({ "ids": ids }).to_string());
    assert_eq!((reply.status, reply.header("content-type")), (StatusCode::OK, "application/zip"));
    let mut archive = zip::ZipArchive::new(Cursor::new(reply.body)).unwrap();
    let names: Vec<String> = archive.file_names().map(str::to_owned).collect();
    assert_eq!(names.len(), 3, "{names:?}");
    for (name, id) in [("001-a-cat-1.png", ids[0]), ("002-a-cat-2.png", ids[1])] {
        let mut bytes = Vec::new();
        archive.by_name(name).unwrap().read_to_end(&mut bytes).unwrap();
        assert!(bytes == served.get(&format!("/api/v1/images/{id}/file")).body);
    }
    let mut words = String::new();
    archive.by_name("pictures.jsonl").unwrap().read_to_string(&mut words).unwrap();
    let first: Value = serde_json::from_str(words.lines().next().unwrap()).unwrap();
    assert_eq!((&first["seed"], &first["file"]), (&json!(1), &json!("001-a-cat-1.png")));
    for wrong in [json!({"ids": []}), json!({"ids": vec![ids[0]; 201]})] {
        assert_eq!(served.post("/api/v1/images/archive", &wrong.to_string()).status, StatusCode::BAD_REQUEST);
    }
    let unknown = json!({"ids": ["../../etc/passwd"]}).to_string();
    assert_eq!(served.post("/api/v1/images/archive", &unknown).status, StatusCode::NOT_FOUND);
}

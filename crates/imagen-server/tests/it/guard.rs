//! Who is answered: the guard before every route.

use axum::http::{Method, StatusCode};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use imagen_server::Limits;

use crate::served::Served;

/// Every address, with a method that it takes.
const ROUTES: [(Method, &str); 31] = [
    (Method::GET, "/"),
    (Method::GET, "/healthz"),
    (Method::GET, "/readyz"),
    (Method::GET, "/metrics"),
    (Method::GET, "/api/v1/capabilities"),
    (Method::GET, "/api/v1/models"),
    (Method::GET, "/api/v1/events"),
    (Method::GET, "/api/v1/jobs"),
    (Method::POST, "/api/v1/jobs"),
    (Method::GET, "/api/v1/jobs/0123456789abcdef0123456789abcdef"),
    (Method::DELETE, "/api/v1/jobs/0123456789abcdef0123456789abcdef"),
    (Method::POST, "/api/v1/jobs/0123456789abcdef0123456789abcdef/again"),
    (Method::GET, "/api/v1/images"),
    (Method::PATCH, "/api/v1/images/0123456789abcdef0123456789abcdef"),
    (Method::DELETE, "/api/v1/images/0123456789abcdef0123456789abcdef"),
    (Method::POST, "/api/v1/images/0123456789abcdef0123456789abcdef/restore"),
    (Method::GET, "/assets/main.js"),
    (Method::GET, "/api/v1/images/0123456789abcdef0123456789abcdef/file"),
    (Method::POST, "/api/v1/images/archive"),
    (Method::POST, "/api/v1/uploads"),
    (Method::GET, "/api/v1/uploads/0123456789abcdef0123456789abcdef/file"),
    (Method::POST, "/api/v1/runs/x/stop"),
    (Method::POST, "/v1/images/generations"),
    (Method::POST, "/v1/images/edits"),
    (Method::POST, "/sdapi/v1/img2img"),
    (Method::GET, "/v1/models"),
    (Method::POST, "/sdapi/v1/txt2img"),
    (Method::POST, "/sdapi/v1/interrupt"),
    (Method::POST, "/sdapi/v1/png-info"),
    (Method::GET, "/sdapi/v1/progress"),
    (Method::GET, "/nowhere"),
];

#[test]
fn foreign_and_empty_hosts_are_refused_on_every_route() {
    let served = Served::new();
    for (method, path) in ROUTES {
        for host in [
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example:7860",
            "",
            ":7860",
            "0x7f000001",
            "[::ffff:1.2.3.4]",
        ] {
            let reply = served.request(method.clone(), path, &[("host", host)], "");
            assert_eq!(reply.status, StatusCode::MISDIRECTED_REQUEST, "{method} {path} {host:?}");
        }
    }
    for host in ["localhost", "LocalHost:1", "127.0.0.1:7860", "[::1]:7860", "[::1]", "studio.example"] {
        let reply = served.request(Method::GET, "/healthz", &[("host", host)], "");
        assert_eq!(reply.status, StatusCode::OK, "{host}");
    }
}

#[test]
fn writes_of_foreign_pages_are_refused_and_null_is_foreign() {
    let served = Served::new();
    let order = r#"{"prompt": "a"}"#;
    for (method, path) in ROUTES.into_iter().filter(|(method, _)| *method != Method::GET) {
        for origin in
            ["null", "http://evil.example", "http://localhost:9999", "https://localhost", "", "localhost:7860"]
        {
            let reply = served.request(method.clone(), path, &[("origin", origin)], order);
            assert_eq!(
                (reply.status, &*reply.code()),
                (StatusCode::FORBIDDEN, "foreign_origin"),
                "{method} {path} {origin:?}"
            );
        }
        for site in ["cross-site", "same-site", "nonsense"] {
            let reply = served.request(method.clone(), path, &[("sec-fetch-site", site)], order);
            assert_eq!(reply.status, StatusCode::FORBIDDEN, "{method} {path} {site}");
        }
    }
    assert!(served.get("/api/v1/jobs").json()["jobs"].as_array().unwrap().is_empty());
    let own = [("origin", "http://localhost:7860"), ("sec-fetch-site", "same-origin")];
    assert_eq!(served.request(Method::POST, "/api/v1/jobs", &own, order).status, StatusCode::ACCEPTED);
    // nothing is allowed to other origins: a browser's question beforehand gets no yes
    let asked = served.request(Method::OPTIONS, "/api/v1/jobs", &[("origin", "http://evil.example")], "");
    assert!(asked.headers.keys().all(|name| !name.as_str().starts_with("access-control")), "{:?}", asked.headers);
}

#[test]
fn a_body_that_a_form_could_send_is_refused() {
    let served = Served::new();
    for kind in
        ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "text/plain; application/json", ""]
    {
        let reply = served.request(Method::POST, "/api/v1/jobs", &[("content-type", kind)], r#"{"prompt": "a"}"#);
        assert_eq!(reply.status, StatusCode::UNSUPPORTED_MEDIA_TYPE, "{kind:?}");
    }
    let kind = [("content-type", "Application/JSON; charset=utf-8")];
    assert_eq!(served.request(Method::POST, "/api/v1/jobs", &kind, r#"{"prompt": "a"}"#).status, StatusCode::ACCEPTED);
}

#[test]
fn where_there_is_a_token_everything_but_healthz_asks_for_it() {
    let token = "correct-horse-battery";
    let served = Served::with(Limits::default(), Some(token));
    for (method, path) in ROUTES {
        let expected = if path == "/healthz" { StatusCode::OK } else { StatusCode::UNAUTHORIZED };
        for given in
            ["", "Bearer", "Bearer wrong", "Bearer correct-horse-batter", "Basic !!", "Bearer correct-horse-battery-"]
        {
            let reply = served.request(method.clone(), path, &[("authorization", given)], "");
            assert_eq!(reply.status, expected, "{method} {path} {given:?}");
            assert!(!reply.text().contains(token));
        }
    }
    let basic = format!("Basic {}", STANDARD.encode(format!("anybody:{token}")));
    for given in [format!("Bearer {token}"), format!("bearer {token}"), basic] {
        assert_eq!(
            served.request(Method::GET, "/api/v1/jobs", &[("authorization", &given)], "").status,
            StatusCode::OK
        );
    }
}

#[test]
fn a_token_in_the_address_becomes_a_cookie_that_no_script_and_no_other_site_can_use() {
    let token = "correct-horse-battery";
    let served = Served::with(Limits::default(), Some(token));
    let entered = served.get(&format!("/?token={token}"));
    assert_eq!((entered.status, entered.header("location")), (StatusCode::SEE_OTHER, "/"));
    let cookie = entered.header("set-cookie");
    assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict") && !cookie.contains(token), "{cookie}");
    let kept = cookie.split(';').next().unwrap().to_owned();
    let with = |cookie: &str| served.request(Method::GET, "/api/v1/jobs", &[("cookie", cookie)], "").status;
    assert_eq!(with(&format!("theme=dark; {kept}")), StatusCode::OK);
    assert_eq!(with(&format!("{kept}0")), StatusCode::UNAUTHORIZED);
    assert_eq!(with(&format!("imagen_studio={token}")), StatusCode::UNAUTHORIZED);
    assert_eq!(served.get("/?token=wrong").status, StatusCode::UNAUTHORIZED);
    let door = served.get("/");
    assert!(door.status == StatusCode::UNAUTHORIZED && door.text().contains("name=\"token\""));
}

#[test]
fn every_answer_says_what_pages_may_do() {
    let served = Served::new();
    for (method, path) in ROUTES.into_iter().filter(|(_, path)| *path != "/api/v1/events") {
        let reply = served.request(method.clone(), path, &[], "");
        let policy = reply.header("content-security-policy");
        assert!(
            policy.starts_with("default-src 'self';") && policy.contains("frame-ancestors 'none'"),
            "{path}: {policy}"
        );
        assert!(!policy.contains("unsafe") && !policy.contains('*') && !policy.contains("data:"), "{policy}");
        assert_eq!(reply.header("x-content-type-options"), "nosniff", "{method} {path}");
        assert_eq!(reply.header("referrer-policy"), "no-referrer");
        assert_eq!(reply.header("cross-origin-resource-policy"), "same-origin");
        assert!(!reply.header("cache-control").is_empty());
    }
}

#[test]
fn every_address_of_the_openapi_document_is_there_and_guarded() {
    let served = Served::new();
    let document = served.get("/openapi.json").json();
    let mut addresses = 0;
    for (path, methods) in document["paths"].as_object().unwrap() {
        let path =
            path.replace("{id}", "0123456789abcdef0123456789abcdef").replace("{name}", "x").replace("{step}", "1");
        for method in methods.as_object().unwrap().keys() {
            let method = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
            let reply = served.request(method.clone(), &path, &[("host", "evil.example")], "");
            assert_eq!(reply.status, StatusCode::MISDIRECTED_REQUEST, "{method} {path}");
            if !path.ends_with("/events") {
                let reply = served.request(method.clone(), &path, &[], "");
                assert_ne!(reply.status, StatusCode::METHOD_NOT_ALLOWED, "{method} {path}");
                assert!(reply.status != StatusCode::NOT_FOUND || reply.text().contains("no such"), "{method} {path}");
                assert!(!reply.text().contains("no such address"), "{method} {path}");
            }
            addresses += 1;
        }
    }
    assert_eq!(addresses, 41);
}

#[test]
fn a_page_loads_nothing_from_elsewhere_and_all_that_it_names_is_there() {
    let served = Served::new();
    let (mut seen, mut open) = (Vec::new(), vec!["/".to_owned(), "/api".to_owned()]);
    while let Some(path) = open.pop() {
        let reply = served.get(&path);
        assert_eq!(reply.status, StatusCode::OK, "{path}");
        let text = reply.text();
        let foreign = ["http://", "https://", "//cdn", "@import", "url(", "innerHTML", "eval("];
        let own = text.replace("http://www.w3.org/2000/svg", "");
        foreign.iter().for_each(|foreign| assert!(!own.contains(foreign), "{path}: {foreign}"));
        let again = served.request(Method::GET, &path, &[("if-none-match", reply.header("etag"))], "");
        assert_eq!(again.status, StatusCode::NOT_MODIFIED, "{path}");
        let named = text.split(['"', '\'']).filter_map(|part| match part.strip_prefix("./") {
            Some(module) if module.ends_with(".js") => Some(format!("/assets/{module}")),
            _ => part.starts_with("/assets/").then(|| part.to_owned()),
        });
        open.extend(named.filter(|path| !seen.contains(path)));
        seen.push(path);
    }
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 25, "{seen:?}");
}

//! The page: its files as bytes of the program, so that nothing is ever loaded from elsewhere.

use std::sync::LazyLock;

use axum::Router;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;

use crate::ids;

const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

/// Addresses, kinds and contents.
static FILES: &[(&str, &str, &[u8])] = &[
    ("/", "text/html; charset=utf-8", include_bytes!("page/index.html")),
    ("/api", "text/html; charset=utf-8", include_bytes!("page/api.html")),
    ("/assets/reference.js", SCRIPT, include_bytes!("page/reference.js")),
    ("/assets/icon.svg", "image/svg+xml", include_bytes!("page/icon.svg")),
    ("/assets/page.css", CSS, include_bytes!("page/page.css")),
    ("/assets/first.js", SCRIPT, include_bytes!("page/first.js")),
    ("/assets/main.js", SCRIPT, include_bytes!("page/main.js")),
    ("/assets/dom.js", SCRIPT, include_bytes!("page/dom.js")),
    ("/assets/api.js", SCRIPT, include_bytes!("page/api.js")),
    ("/assets/words.js", SCRIPT, include_bytes!("page/words.js")),
    ("/assets/english.js", SCRIPT, include_bytes!("page/english.js")),
    ("/assets/vietnamese.js", SCRIPT, include_bytes!("page/vietnamese.js")),
    ("/assets/begin.js", SCRIPT, include_bytes!("page/begin.js")),
    ("/assets/brush.js", SCRIPT, include_bytes!("page/brush.js")),
    ("/assets/compare.js", SCRIPT, include_bytes!("page/compare.js")),
    ("/assets/chart.js", SCRIPT, include_bytes!("page/chart.js")),
    ("/assets/evals.js", SCRIPT, include_bytes!("page/evals.js")),
    ("/assets/png.js", SCRIPT, include_bytes!("page/png.js")),
    ("/assets/axes.js", SCRIPT, include_bytes!("page/axes.js")),
    ("/assets/form.js", SCRIPT, include_bytes!("page/form.js")),
    ("/assets/jobs.js", SCRIPT, include_bytes!("page/jobs.js")),
    ("/assets/live.js", SCRIPT, include_bytes!("page/live.js")),
    ("/assets/gallery.js", SCRIPT, include_bytes!("page/gallery.js")),
    ("/assets/runs.js", SCRIPT, include_bytes!("page/runs.js")),
    ("/assets/one.js", SCRIPT, include_bytes!("page/one.js")),
];

/// Names of the contents, by which a browser asks whether they are still the same.
static TAGS: LazyLock<Vec<String>> = LazyLock::new(|| FILES.iter().map(|(_, _, bytes)| ids::tag_of(bytes)).collect());

/// Adds the page to a service.
pub(crate) fn add<S: Clone + Send + Sync + 'static>(mut router: Router<S>) -> Router<S> {
    for (k, (path, kind, bytes)) in FILES.iter().enumerate() {
        let answer = async move |headers: HeaderMap| -> Response {
            let tag = TAGS[k].as_str();
            let about = [(header::ETAG, tag), (header::CACHE_CONTROL, "no-cache"), (header::CONTENT_TYPE, kind)];
            if headers.get(header::IF_NONE_MATCH).is_some_and(|known| known == tag) {
                (StatusCode::NOT_MODIFIED, about).into_response()
            } else {
                (about, *bytes).into_response()
            }
        };
        router = router.route(path, get(answer));
    }
    router
}

/// Where a token is asked for; the form sends it to `/`, which keeps it in a cookie.
pub(crate) fn door() -> Html<&'static str> {
    Html(include_str!("page/door.html"))
}

//! Who is answered: one guard in front of every route of every service.
//!
//! A browser on this machine runs pages of strangers, and they reach the loopback as the user does. So a request is answered
//! only under a name of this machine (a foreign name that was bent to this address is another host, and so is an empty one),
//! writes are taken from this service's own pages only (`Origin: null` is a stranger), bodies are JSON, which no form of another
//! page can send, and where there is a token, everything but `/healthz` asks for it. Nothing is ever allowed to other origins.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Redirect, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::ids;

/// Names by which a browser on this machine calls it.
const LOOPBACK: [&str; 3] = ["localhost", "127.0.0.1", "[::1]"];
/// How long a request may take, its body's arrival included.
const LONGEST: Duration = Duration::from_secs(30);
/// The one path that needs no token: whether the process lives.
const ALIVE: &str = "/healthz";
/// What a browser keeps of the token.
const COOKIE: &str = "imagen_studio";

/// Says of an address whether a key in it stands in for the token.
#[derive(Clone)]
pub struct Keyed(pub Arc<dyn Fn(&str) -> bool + Send + Sync>);

impl std::fmt::Debug for Keyed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Keyed")
    }
}

/// What a service lets in, and what its answers say to browsers.
#[derive(Clone, Debug)]
pub struct Guard {
    /// Names and addresses of this machine beside those of the loopback.
    pub hosts: Vec<String>,
    /// What everybody has to know.
    pub token: Option<String>,
    /// Whether bodies may be forms, which only pages without a script need.
    pub forms: bool,
    /// Addresses whose bodies are `multipart/form-data`; no page of a browser may send one, this service's own neither.
    pub parts: &'static [&'static str],
    /// Addresses of pages with forms that need no token, since a key is part of them.
    pub keyed: Option<Keyed>,
    /// Where a page may load from.
    pub policy: &'static str,
    /// What the pages tell others about where one came from.
    pub referrer: &'static str,
    /// Beginnings of paths whose answers may take as long as they take.
    pub patient: &'static [&'static str],
    /// How a refusal looks.
    pub refuse: fn(StatusCode, &'static str, &str) -> Response,
}

impl Guard {
    /// Stands in front of a service.
    pub fn before(self, service: Router) -> Router {
        service.layer(from_fn_with_state(Arc::new(self), guard))
    }

    /// The answer to a request that goes no further.
    fn refused(&self, request: &Request) -> Option<Response> {
        let headers = request.headers();
        let host = text(headers, header::HOST);
        if !host.is_some_and(|host| self.knows(host)) {
            let message = "this address is not known by that name; the one who serves it can add it with --allow-host";
            return Some((self.refuse)(StatusCode::MISDIRECTED_REQUEST, "unknown_host", message));
        }
        let keyed = self.keyed.as_ref().is_some_and(|Keyed(is)| is(request.uri().path()));
        if self.token.is_some() && request.uri().path() != ALIVE && !keyed {
            if let Some(entered) = self.entered(request) {
                return Some(entered);
            }
            if !self.has_token(headers) {
                let mut response =
                    (self.refuse)(StatusCode::UNAUTHORIZED, "unauthorized", "this studio asks for its token");
                response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
                return Some(response);
            }
        }
        if matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS) {
            return None;
        }
        if !own_page(headers, host) {
            let message = "changes are taken from this service's own pages and from programs only";
            return Some((self.refuse)(StatusCode::FORBIDDEN, "foreign_origin", message));
        }
        if self.parts.contains(&request.uri().path()) {
            return self.refused_parts(request);
        }
        if !self.forms && !keyed && !is_json(request) {
            let message = "send the body as application/json";
            return Some((self.refuse)(StatusCode::UNSUPPORTED_MEDIA_TYPE, "not_json", message));
        }
        None
    }

    /// The answer to a body in parts that goes no further: forms send such bodies, so that they are taken from programs alone.
    fn refused_parts(&self, request: &Request) -> Option<Response> {
        let headers = request.headers();
        let page = [header::ORIGIN, header::REFERER, header::COOKIE, HeaderName::from_static("sec-fetch-site")];
        if page.iter().any(|name| headers.contains_key(name)) {
            let message = "bodies in parts are taken from programs only; a page sends JSON elsewhere";
            return Some((self.refuse)(StatusCode::FORBIDDEN, "foreign_origin", message));
        }
        if kind(headers) != "multipart/form-data" {
            let message = "send the body as multipart/form-data";
            return Some((self.refuse)(StatusCode::UNSUPPORTED_MEDIA_TYPE, "not_parts", message));
        }
        None
    }

    /// Whether this machine is called so; a port may follow.
    fn knows(&self, host: &str) -> bool {
        let port = |text: &str| text.chars().all(|c| c.is_ascii_digit());
        let name = host.rsplit_once(':').filter(|(_, after)| port(after)).map_or(host, |(name, _)| name);
        let bare = |name: &str| name.trim_matches(['[', ']']).to_ascii_lowercase();
        !name.is_empty()
            && LOOPBACK.iter().copied().chain(self.hosts.iter().map(String::as_str)).any(|own| bare(own) == bare(name))
    }

    /// Whether a request has the token: as a bearer, as a password, or in the cookie of a page.
    fn has_token(&self, headers: &HeaderMap) -> bool {
        let Some(token) = &self.token else { return true };
        let given = text(headers, header::AUTHORIZATION).and_then(|value| value.split_once(' '));
        let known = match given {
            Some((scheme, value)) if scheme.eq_ignore_ascii_case("bearer") => ids::same_secret(value.trim(), token),
            Some((scheme, value)) if scheme.eq_ignore_ascii_case("basic") => {
                let pair = STANDARD.decode(value.trim()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
                pair.is_some_and(|pair| {
                    pair.split_once(':').is_some_and(|(_, password)| ids::same_secret(password, token))
                })
            }
            _ => false,
        };
        let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
        let mut cookies = cookies.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
        known || cookies.any(|(name, value)| name == COOKIE && ids::same_secret(value, &ids::cookie_of(token)))
    }

    /// `/?token=…`, as the terminal prints it: the browser keeps it in a cookie, and the address is cleaned of it.
    fn entered(&self, request: &Request) -> Option<Response> {
        let token = self.token.as_ref()?;
        let query = request.uri().query().filter(|_| request.method() == Method::GET && request.uri().path() == "/")?;
        let given = query.split('&').find_map(|pair| pair.strip_prefix("token="))?;
        if !ids::same_secret(given, token) {
            return None;
        }
        let cookie = format!("{COOKIE}={}; HttpOnly; SameSite=Strict; Path=/; Max-Age=31536000", ids::cookie_of(token));
        Some(([(header::SET_COOKIE, cookie)], Redirect::to("/")).into_response())
    }
}

/// A header, where it is one and is text.
fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

/// Whether a write comes from a page of this service, or from no page at all.
fn own_page(headers: &HeaderMap, host: Option<&str>) -> bool {
    let site = headers.get("sec-fetch-site").map(|value| value.to_str().unwrap_or(""));
    if site.is_some_and(|site| !matches!(site, "same-origin" | "none")) {
        return false;
    }
    let Some(origin) = headers.get(header::ORIGIN) else { return true };
    // an origin that is no text is nobody's that is known
    let origin = origin.to_str().unwrap_or("");
    origin.split_once("://").is_some_and(|(_, authority)| Some(authority) == host)
}

/// Whether a body is JSON, or there is none.
fn is_json(request: &Request) -> bool {
    let headers = request.headers();
    if !headers.contains_key(header::CONTENT_TYPE) {
        let empty = headers.get(header::CONTENT_LENGTH).is_none_or(|length| length == "0");
        return empty && !headers.contains_key(header::TRANSFER_ENCODING);
    }
    kind(headers) == "application/json"
}

/// What kind of body it is, in small letters and without parameters.
fn kind(headers: &HeaderMap) -> String {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or("");
    kind.split(';').next().unwrap_or("").trim().to_ascii_lowercase()
}

/// Answers who may be answered, and says to browsers what pages may do.
async fn guard(State(guard): State<Arc<Guard>>, request: Request, next: Next) -> Response {
    let mut response = match guard.refused(&request) {
        Some(refusal) => refusal,
        None if guard.patient.iter().any(|start| request.uri().path().starts_with(start)) => next.run(request).await,
        None => {
            let answered = tokio::time::timeout(LONGEST, next.run(request)).await;
            answered.unwrap_or_else(|_| {
                (guard.refuse)(StatusCode::REQUEST_TIMEOUT, "too_slow", "this took too long; try again")
            })
        }
    };
    let headers = response.headers_mut();
    // a page of another kind may have said these itself
    for (name, value) in [(header::CONTENT_SECURITY_POLICY, guard.policy), (header::REFERRER_POLICY, guard.referrer)] {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    for (name, value) in [
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
        ("cross-origin-opener-policy", "same-origin"),
        ("cross-origin-resource-policy", "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

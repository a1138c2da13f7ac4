//! What goes wrong, as clients read it: one form for every interface, the one that OpenAI's clients know.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use imagen::ErrorKind;

/// An answer that is no.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) status: StatusCode,
    /// A word for programs.
    pub(crate) code: &'static str,
    /// A sentence for people: what, what was expected, what helps.
    pub(crate) message: String,
    /// The field that is at fault.
    pub(crate) param: Option<String>,
    /// Seconds after which another attempt may do better.
    pub(crate) retry_after: Option<u64>,
}

impl Problem {
    pub(crate) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), param: None, retry_after: None }
    }

    /// A value of a request that cannot be used.
    pub(crate) fn invalid(param: &str, message: impl Into<String>) -> Self {
        Self { param: Some(param.into()), ..Self::new(StatusCode::BAD_REQUEST, "invalid_value", message) }
    }

    pub(crate) fn not_found(what: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", format!("there is no such {what}"))
    }

    pub(crate) fn retry_after(self, seconds: u64) -> Self {
        Self { retry_after: Some(seconds.max(1)), ..self }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let kind = if self.status.is_client_error() { "invalid_request_error" } else { "server_error" };
        let body = json!({"error": {
            "message": self.message, "type": kind, "param": self.param, "code": self.code,
        }});
        let mut response = (self.status, as_json(body.to_string())).into_response();
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

impl From<rusqlite::Error> for Problem {
    fn from(error: rusqlite::Error) -> Self {
        use rusqlite::ErrorCode::{DatabaseBusy, DatabaseLocked, DiskFull};
        // its words may name a file
        tracing::error!(cause = %error, "the database");
        match error.sqlite_error_code() {
            Some(DatabaseBusy | DatabaseLocked) => {
                let message = "another program is writing to the studio's database; try again";
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "database_busy", message).retry_after(1)
            }
            Some(DiskFull) => Self::new(StatusCode::INSUFFICIENT_STORAGE, "disk_full", DISK_FULL),
            _ => {
                let message = "the studio's database could not be read or written; the server's log says why";
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "database", message)
            }
        }
    }
}

/// What is said where nothing more can be written.
const DISK_FULL: &str = "the disk is full; make room on it, then try again";

/// What is said of a picture that could not be written: no path, and a full disk by its name.
pub(crate) fn unkept(error: &imagen::Error) -> Problem {
    tracing::error!(cause = %format!("{error:#}"), "a picture could not be written");
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        if inner.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == std::io::ErrorKind::StorageFull) {
            return Problem::new(StatusCode::INSUFFICIENT_STORAGE, "disk_full", DISK_FULL);
        }
        cause = inner.source();
    }
    let message = "a picture could not be written; the server's log says why";
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "unwritten", message)
}

impl From<imagen::Error> for Problem {
    fn from(error: imagen::Error) -> Self {
        let status = match error.kind() {
            ErrorKind::Usage | ErrorKind::Data => StatusCode::BAD_REQUEST,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::new(status, "drawing", format!("{error:#}"))
    }
}

/// A body of JSON.
pub(crate) fn as_json(body: String) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], body)
}

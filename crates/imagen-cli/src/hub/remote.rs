//! The hub over HTTP: what a repository holds, and its files one by one.

use std::path::PathBuf;

use hf_hub::api::Progress as Listener;
use hf_hub::api::sync::{Api, ApiBuilder, ApiError};
use hf_hub::{Cache, Repo, RepoType};
use serde::Deserialize;

use super::needed::File;
use super::{RepoName, Settings};
use crate::failure::{Exit, Failure, Result};
use crate::progress::Progress;

/// Attempts after a connection broke; each goes on where the one before stopped.
const RETRIES: usize = 4;

/// A connection to the hub.
pub(crate) struct Remote {
    api: Api,
    endpoint: String,
    has_token: bool,
}

/// What the hub says of a repository.
#[derive(Clone, Debug)]
pub(crate) struct Listing {
    pub(crate) commit: String,
    pub(crate) files: Vec<File>,
    pub(crate) licence: Option<String>,
    /// Whether one has to agree to something before files can be fetched.
    pub(crate) gated: bool,
}

impl Remote {
    pub(crate) fn open(settings: &Settings) -> Result<Self> {
        if settings.offline {
            let failure = Failure::usage("HF_HUB_OFFLINE is set, and this needs the hub");
            return Err(failure.hint("unset HF_HUB_OFFLINE"));
        }
        let api = ApiBuilder::from_cache(Cache::new(settings.cache.clone()))
            .with_endpoint(settings.endpoint.clone())
            .with_token(settings.token.clone())
            .with_retries(RETRIES)
            .with_user_agent("imagen", env!("CARGO_PKG_VERSION"))
            .build()
            .map_err(|e| Failure::new(Exit::Runtime, format_args!("cannot open a connection: {e}")))?;
        Ok(Self { api, endpoint: settings.endpoint.clone(), has_token: settings.token.is_some() })
    }

    /// What a repository holds at a revision, with sizes.
    pub(crate) fn listing(&self, name: &RepoName, revision: &str) -> Result<Listing> {
        #[derive(Deserialize)]
        struct Answer {
            sha: String,
            #[serde(default)]
            siblings: Vec<Sibling>,
            #[serde(default)]
            gated: serde_json::Value,
            #[serde(default, rename = "cardData")]
            card: serde_json::Value,
        }
        #[derive(Deserialize)]
        struct Sibling {
            rfilename: String,
            #[serde(default)]
            size: u64,
        }
        let request = self.api.repo(repo(name, revision)).info_request().query("blobs", "true");
        let answer = request.call().map_err(|e| self.explain(name, revision, &e))?;
        let answer: Answer = answer.into_json().map_err(|e| {
            Failure::new(Exit::Runtime, format_args!("{} does not answer as a hub does: {e}", self.endpoint))
        })?;
        let files = answer.siblings.into_iter().map(|file| File { name: file.rfilename, size: file.size });
        Ok(Listing {
            commit: answer.sha,
            files: files.filter(|file| is_plain(&file.name)).collect(),
            licence: answer.card.get("license").and_then(|licence| licence.as_str()).map(str::to_owned),
            gated: !matches!(answer.gated, serde_json::Value::Null | serde_json::Value::Bool(false)),
        })
    }

    /// Fetches one file into the cache, going on with what is there of it.
    pub(crate) fn fetch(&self, name: &RepoName, commit: &str, file: &File, shown: &mut Shown<'_>) -> Result<PathBuf> {
        let repo = self.api.repo(repo(name, commit));
        shown.file = file.name.clone();
        shown.in_file = 0;
        let fetched = repo.download_with_progress(&file.name, Reporter(shown));
        fetched.map_err(|e| match &e {
            ApiError::RequestError(e) => self.explain(name, commit, e),
            ApiError::TooManyRetries(e) => {
                Failure::new(Exit::Runtime, format_args!("{}: the connection broke again and again: {e}", file.name))
                    .hint("give the same command again: it goes on where this one stopped")
            }
            e => Failure::new(Exit::Runtime, format_args!("{name}: {}: {e}", file.name)),
        })
    }

    /// An answer of the hub in one line.
    fn explain(&self, name: &RepoName, revision: &str, error: &ureq::Error) -> Failure {
        let ureq::Error::Status(status, response) = error else {
            let failure = Failure::new(Exit::Runtime, format_args!("cannot reach {}: {error}", self.endpoint));
            return failure
                .hint("HF_ENDPOINT names another hub; what is in the cache needs none (`imagen models list`)");
        };
        let code = response.header("x-error-code").unwrap_or_default();
        let page = format!("{}/{name}", self.endpoint);
        match (status, code) {
            (401 | 403, "GatedRepo") => {
                let failure = Failure::new(
                    Exit::Runtime,
                    format_args!("{name} is gated: its licence has to be agreed to at {page}"),
                );
                failure.hint(if self.has_token {
                    "the token in HF_TOKEN is of somebody who has not agreed yet, or may not read gated repositories"
                } else {
                    "then make a token at https://huggingface.co/settings/tokens and set HF_TOKEN"
                })
            }
            (404, "RevisionNotFound") => Failure::new(Exit::Runtime, format_args!("{name} has no revision {revision}"))
                .hint("leave --revision out for the newest"),
            (401 | 403 | 404, _) => {
                let failure = Failure::new(
                    Exit::Runtime,
                    format_args!("there is no repository {name} at {}, or it is private", self.endpoint),
                );
                failure.hint("check the name; for a private one set HF_TOKEN")
            }
            (429, _) => Failure::new(Exit::Runtime, "the hub asks for fewer requests")
                .hint("wait a few minutes, or set HF_TOKEN"),
            _ => Failure::new(Exit::Runtime, format_args!("{page} answered with status {status}"))
                .hint("try again later"),
        }
    }
}

fn repo(name: &RepoName, revision: &str) -> Repo {
    Repo::with_revision(name.as_str().to_owned(), RepoType::Model, revision.to_owned())
}

/// A name that stays within the snapshot's folder.
fn is_plain(name: &str) -> bool {
    let odd = |part: &str| part.is_empty() || part == "." || part == "..";
    !name.contains(['\\', ':', '\0']) && !name.split('/').any(odd)
}

/// How far all files together are.
pub(crate) struct Shown<'a> {
    pub(crate) progress: &'a mut Progress,
    pub(crate) done: u64,
    pub(crate) of: u64,
    file: String,
    in_file: u64,
}

impl<'a> Shown<'a> {
    pub(crate) fn new(progress: &'a mut Progress, of: u64) -> Self {
        Self { progress, done: 0, of, file: String::new(), in_file: 0 }
    }

    /// A file that was there already, or is whole now.
    pub(crate) fn finished(&mut self, bytes: u64) {
        self.done += bytes;
        self.in_file = 0;
        self.progress.step("pull", self.done / 1000, self.of / 1000, &self.file);
    }
}

struct Reporter<'a, 'b>(&'a mut Shown<'b>);

impl Listener for Reporter<'_, '_> {
    fn init(&mut self, _size: usize, _file: &str) {
        self.0.in_file = 0;
    }

    fn update(&mut self, size: usize) {
        self.0.in_file += size as u64;
        let at = self.0.done + self.0.in_file;
        self.0.progress.step("pull", at.min(self.0.of) / 1000, self.0.of / 1000, format_args!("kB, {}", self.0.file));
    }

    fn finish(&mut self) {}
}

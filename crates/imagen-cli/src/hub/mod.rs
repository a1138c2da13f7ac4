//! Published models: the hub they come from and the cache that they are kept in, which is the one that Hugging Face's own tools
//! use, so that nothing is fetched or stored twice.
//!
//! [`Settings`] are the usual environment variables; [`needed`] says which of a repository's files this program reads;
//! [`Cached`] is what lies on disk. Fetching, resuming and locking are `hf-hub`'s. The only part of the program that opens a
//! connection, and only when `imagen models` is asked to.

mod cached;
mod needed;
mod remote;

use std::env;
use std::path::PathBuf;

pub(crate) use cached::{Cached, Damage, list};
pub(crate) use needed::{File, Variant, choose};
pub(crate) use remote::{Remote, Shown};

use crate::failure::{Failure, Result};

const ENDPOINT: &str = "https://huggingface.co";

/// Where the hub and its cache are, from the variables that its own tools read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    /// `HF_ENDPOINT`.
    pub(crate) endpoint: String,
    /// `HF_HUB_CACHE`, or `hub` in `HF_HOME`.
    pub(crate) cache: PathBuf,
    /// `HF_TOKEN`, or the file that logging in leaves in `HF_HOME`.
    pub(crate) token: Option<String>,
    /// `HF_HUB_OFFLINE`.
    pub(crate) offline: bool,
}

impl Settings {
    pub(crate) fn from_env() -> Result<Self> {
        Self::from(|name| env::var(name).ok().filter(|value| !value.is_empty()))
    }

    fn from(get: impl Fn(&str) -> Option<String>) -> Result<Self> {
        let home = match get("HF_HOME") {
            Some(home) => PathBuf::from(home),
            None => {
                let cache = get("XDG_CACHE_HOME").map(PathBuf::from);
                let cache = cache.or_else(|| env::home_dir().map(|home| home.join(".cache")));
                let none = || Failure::usage("there is no home folder to keep models in").hint("set HF_HOME");
                cache.ok_or_else(none)?.join("huggingface")
            }
        };
        let stored = || std::fs::read_to_string(home.join("token")).ok();
        let token =
            get("HF_TOKEN").or_else(stored).map(|token| token.trim().to_owned()).filter(|token| !token.is_empty());
        let endpoint = get("HF_ENDPOINT").unwrap_or_else(|| ENDPOINT.into());
        Ok(Self {
            endpoint: endpoint.trim_end_matches('/').to_owned(),
            cache: get("HF_HUB_CACHE").map_or_else(|| home.join("hub"), PathBuf::from),
            token,
            offline: get("HF_HUB_OFFLINE")
                .is_some_and(|value| !["0", "false", "no", "off"].contains(&value.to_lowercase().as_str())),
        })
    }
}

/// A repository's name, `OWNER/NAME`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RepoName(String);

impl RepoName {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// Its folder in the cache.
    fn folder(&self) -> String {
        format!("models--{}", self.0.replace('/', "--"))
    }

    /// The repository whose folder in the cache has this name.
    pub(crate) fn from_folder(folder: &str) -> Option<Self> {
        folder.strip_prefix("models--")?.replacen("--", "/", 1).parse().ok()
    }
}

impl std::str::FromStr for RepoName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let part = |part: &str| {
            let plain = part.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
            plain && !part.is_empty() && !part.starts_with('.') && !part.contains("..") && !part.contains("--")
        };
        match text.split('/').collect::<Vec<_>>()[..] {
            [owner, name] if part(owner) && part(name) => Ok(Self(text.to_owned())),
            [name] if part(name) => Ok(Self(text.to_owned())),
            _ => Err("expected OWNER/NAME, as in google/t5-v1_1-small".into()),
        }
    }
}

impl std::fmt::Display for RepoName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_variables_are_read() {
        let settings = |pairs: &[(&str, &str)]| {
            let pairs: Vec<(String, String)> = pairs.iter().map(|(a, b)| ((*a).into(), (*b).into())).collect();
            Settings::from(|name| pairs.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone())).unwrap()
        };
        let plain = settings(&[("HF_HOME", "/h")]);
        assert_eq!((plain.endpoint.as_str(), plain.cache, plain.offline), (ENDPOINT, "/h/hub".into(), false));
        let all = [
            ("HF_HOME", "/h"),
            ("HF_HUB_CACHE", "/c"),
            ("HF_ENDPOINT", "http://x/"),
            ("HF_TOKEN", " t\n"),
            ("HF_HUB_OFFLINE", "1"),
        ];
        let all = settings(&all);
        assert_eq!(
            (all.endpoint.as_str(), all.cache, all.token.as_deref(), all.offline),
            ("http://x", "/c".into(), Some("t"), true)
        );
        assert!(!settings(&[("HF_HOME", "/h"), ("HF_HUB_OFFLINE", "0")]).offline);
        assert_eq!(settings(&[("XDG_CACHE_HOME", "/x")]).cache, PathBuf::from("/x/huggingface/hub"));
    }

    #[test]
    fn names_are_no_paths() {
        for name in ["google/t5-v1_1-small", "gpt2", "a/b.c"] {
            let parsed: RepoName = name.parse().unwrap();
            assert_eq!(RepoName::from_folder(&parsed.folder()), Some(parsed));
        }
        for name in ["", "a/b/c", "../x", "a/..", "/a", "a b/c", "a/.b", "a--b/c", "C:\\x"] {
            assert!(name.parse::<RepoName>().is_err(), "{name}");
        }
    }
}

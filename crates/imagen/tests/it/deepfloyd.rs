//! DeepFloyd IF against diffusers (`golden/if/make.py`): networks, every step, finished pictures, and what is refused.

mod damaged;
mod drawing;
mod networks;

use std::path::{Path, PathBuf};

pub(super) use crate::error;
pub(super) use crate::golden::{Golden, numbers};

pub(super) fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/if").join(name)
}

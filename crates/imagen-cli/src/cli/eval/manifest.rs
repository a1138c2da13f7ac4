//! The folder of a measurement that goes on where it was stopped: what everything in it depends on is written before the
//! first picture, and a command that would do it otherwise is refused.

use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use imagen::files::Lock;
use imagen::input;

use crate::failure::{Exit, Failure, Result};
use crate::output::{make_writable, own_folder, write_file};

/// The list of the folder's pictures, which makes it a set like any other.
pub(super) const ROWS: &str = "metadata.jsonl";

/// Makes the folder with its manifest, `name`, and a row for each picture, or finds it as this command would make it. The folder
/// is this process' own as long as the lock is held, unless it is `shared` with others that do the same.
pub(super) fn begin<M: Serialize + DeserializeOwned + PartialEq>(
    folder: &Path,
    name: &str,
    manifest: &M,
    rows: impl Iterator<Item = Value>,
    shared: bool,
) -> Result<Option<Lock>> {
    let lock = if shared {
        make_writable(folder)?;
        None
    } else {
        Some(own_folder(folder)?)
    };
    let path = folder.join(name);
    match input::read_if_there(&path, input::MOST_TEXT)? {
        Some(bytes) => {
            let found: M = serde_json::from_slice(&bytes).map_err(|e| {
                let failure =
                    Failure::new(Exit::Data, format_args!("{} is no manifest of this verb: {e}", path.display()));
                failure.hint("choose another folder")
            })?;
            if found == *manifest {
                return Ok(lock);
            }
            let differing = differences(&found, manifest);
            let failure = Failure::usage(format_args!("{} was begun otherwise: {differing}", folder.display()));
            Err(failure.hint(format_args!("choose another folder; {} says what this one is of", path.display())))
        }
        None => {
            let rows: String = rows.map(|row| format!("{row}\n")).collect();
            // the same rows without a manifest are ours, left by a process that was killed between the two
            let there = input::read_if_there(&folder.join(ROWS), input::MOST_TEXT)?;
            if there.is_some_and(|there| there != rows.as_bytes()) {
                let failure = Failure::usage(format_args!("{} already holds another set", folder.display()));
                return Err(failure.hint("choose another folder"));
            }
            let json = serde_json::to_vec_pretty(manifest).expect("a manifest is plain data");
            // the manifest last: what it says is there then
            for (path, bytes) in [(folder.join(ROWS), rows.as_bytes()), (path, &json)] {
                write_file(&path, bytes)?;
            }
            Ok(lock)
        }
    }
}

/// The keys that another manifest has otherwise, with what they are in the first.
fn differences<M: Serialize>(found: &M, other: &M) -> String {
    let keys = |manifest: &M| match serde_json::to_value(manifest) {
        Ok(Value::Object(map)) => map,
        _ => Map::new(),
    };
    let (ours, theirs) = (keys(found), keys(other));
    let differing = ours.into_iter().filter(|(key, value)| theirs.get(key) != Some(value));
    differing.map(|(key, value)| format!("{key} {value}")).collect::<Vec<_>>().join(", ")
}

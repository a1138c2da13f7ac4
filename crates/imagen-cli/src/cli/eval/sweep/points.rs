//! What was measured, point by point: a file that grows by whole lines, beside the protocol that all of them share.
//!
//! A sweep that goes on must have the same protocol; its grid may have become larger.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use imagen::cascade::StageName;
use imagen::eval::{Interval, Layout};

use super::grid::Point;
use crate::cli::shard::Shard;
use crate::failure::{Exit, Failure, Result};
use crate::output::record::ModelRecord;
use crate::output::write_file;

const PROTOCOL: &str = "sweep.json";
const POINTS: &str = "points.jsonl";
/// What the name of a share's points begins with, and ends in: `points.share-2-of-4.jsonl`.
const SHARE: &str = "points.share-";
const ENDING: &str = ".jsonl";

/// All that the numbers of a sweep depend on beside its points.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Protocol {
    /// The set.
    pub(super) data: String,
    pub(super) captions_from: String,
    pub(super) compared_with: String,
    pub(super) captions: usize,
    pub(super) references: usize,
    pub(super) seed: u64,
    pub(super) stage: StageName,
    pub(super) extractor: String,
    pub(super) extractor_digest: String,
    pub(super) resize: String,
    /// The CLIP whose score is the agreement.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) clip: Option<String>,
    /// By the name that it goes by.
    pub(super) models: Vec<(String, ModelRecord)>,
}

impl Protocol {
    /// Whether fidelity is an FID.
    pub(super) fn is_fid(&self) -> bool {
        self.extractor != Layout::NAME
    }

    /// What the curves' axes are.
    pub(super) fn axes(&self) -> [String; 2] {
        let agreement = match &self.clip {
            Some(clip) => format!("CLIP score ({clip})"),
            None => "agreement: the right thing among the nearest five real pictures, %".to_owned(),
        };
        let fidelity = match self.is_fid() {
            true => format!("FID ({} pictures)", self.captions),
            false => "KID over layout-1 (less is nearer to real pictures)".to_owned(),
        };
        [agreement, fidelity]
    }

    /// In one sentence or two.
    pub(super) fn describe(&self) -> String {
        let agreement = match &self.clip {
            Some(clip) => format!("the CLIP score of {clip}; beside it how often"),
            None => "no CLIP score, but how often".to_owned(),
        };
        let fidelity = if self.is_fid() { "FID" } else { "no FID, but the kernel distance" };
        format!(
            "{} captions of {} ({}), one picture each at every point, uncurated, the same seeds everywhere ({}, plus k for \
             picture k). Agreement: {agreement} the nearest of all its pictures by 32x32 pixels, or one of the nearest five, is \
             of the thing that was asked for. Fidelity: {fidelity} to {} {} pictures over the features {} ({}).",
            self.captions,
            self.data,
            self.captions_from,
            self.seed,
            self.references,
            self.compared_with,
            self.extractor,
            self.resize
        )
    }
}

/// A share of all pictures.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Rate {
    pub(super) hits: usize,
    pub(super) rate: f64,
    pub(super) interval: Interval,
}

/// A mean of pictures' scores.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Score {
    pub(super) value: f64,
    pub(super) interval: Option<Interval>,
}

/// A point and what was measured of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Measured {
    #[serde(flatten)]
    pub(super) point: Point,
    pub(super) pictures: usize,
    pub(super) top_1: Rate,
    pub(super) top_5: Rate,
    pub(super) kid: f64,
    pub(super) kid_interval: Interval,
    pub(super) frechet_distance: f64,
    /// Where the sweep has a CLIP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) clip_score: Option<Score>,
    /// Some of its pictures, a file within the folder.
    pub(super) shown: String,
}

/// The points of a folder.
pub(super) struct Points {
    folder: PathBuf,
    /// The file that this process writes to.
    own: PathBuf,
    protocol: Protocol,
    measured: Vec<Measured>,
}

impl Points {
    /// Those that the folder has; a folder without any is begun. A share of a sweep has a file of its own.
    pub(super) fn open(folder: &Path, protocol: Protocol, shard: Option<Shard>) -> Result<Self> {
        let own = match shard {
            None => POINTS.to_owned(),
            Some(Shard { at, of }) => format!("{SHARE}{}-of-{of}{ENDING}", at + 1),
        };
        let (own, about) = (folder.join(own), folder.join(PROTOCOL));
        match fs::read(&about) {
            Ok(bytes) => {
                let found: Protocol = serde_json::from_slice(&bytes).map_err(|e| broken(&about, &e))?;
                if found != protocol {
                    let failure = Failure::usage(format_args!(
                        "{} holds a sweep of other pictures, seeds or models",
                        folder.display()
                    ));
                    return Err(
                        failure.hint(format_args!("choose another --output; {} says what it is of", about.display()))
                    );
                }
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                let json = serde_json::to_vec_pretty(&protocol).expect("a protocol is plain data");
                write_file(&about, &json)?;
            }
            Err(e) => return Err(Failure::io("read", &about, &e)),
        }
        mend(&own)?;
        let mut points = Self { folder: folder.to_owned(), own, protocol, measured: Vec::new() };
        points.look_again()?;
        Ok(points)
    }

    /// Reads what the folder holds by now, of whichever share.
    pub(super) fn look_again(&mut self) -> Result<()> {
        self.measured.clear();
        let entries = fs::read_dir(&self.folder).map_err(|e| Failure::io("read the folder", &self.folder, &e))?;
        let mut files: Vec<PathBuf> =
            entries.flatten().map(|entry| entry.path()).filter(|path| is_points(path)).collect();
        files.sort();
        for path in files {
            self.measured.extend(read(&path)?);
        }
        Ok(())
    }

    pub(super) fn protocol(&self) -> &Protocol {
        &self.protocol
    }

    /// What was measured of a point.
    pub(super) fn get(&self, point: &Point) -> Option<&Measured> {
        self.measured.iter().find(|measured| measured.point == *point)
    }

    /// Keeps a point, on disk before anything else happens.
    pub(super) fn add(&mut self, measured: Measured) -> Result<()> {
        let line = format!("{}\n", serde_json::to_string(&measured).expect("a point is plain data"));
        let append = || {
            let mut file = File::options().create(true).append(true).open(&self.own)?;
            file.write_all(line.as_bytes())?;
            file.sync_all()
        };
        append().map_err(|e| Failure::io("write", &self.own, &e))?;
        self.measured.push(measured);
        Ok(())
    }
}

/// Whether a file has this name: points, or those of a share.
fn is_points(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or("");
    name == POINTS || (name.starts_with(SHARE) && name.ends_with(ENDING))
}

/// A file's text, and how much of it is whole lines.
fn text_of(path: &Path) -> Result<(String, usize)> {
    match fs::read(path) {
        Ok(bytes) => {
            // a line that is being written may end within a letter
            let text = String::from_utf8_lossy(&bytes).into_owned();
            let whole = text.rfind('\n').map_or(0, |end| end + 1);
            Ok((text, whole))
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok((String::new(), 0)),
        Err(e) => Err(Failure::io("read", path, &e)),
    }
}

/// Takes away the line that a crash cut off, so that the next begins on a line of its own.
fn mend(path: &Path) -> Result<()> {
    let (text, whole) = text_of(path)?;
    if whole < text.len() {
        write_file(path, &text.as_bytes()[..whole])?;
    }
    Ok(())
}

/// The whole lines of a file, which another process may be writing to.
fn read(path: &Path) -> Result<Vec<Measured>> {
    let (text, whole) = text_of(path)?;
    text[..whole].lines().map(|line| serde_json::from_str(line).map_err(|e| broken(path, &e))).collect()
}

fn broken(path: &Path, cause: &serde_json::Error) -> Failure {
    let failure = Failure::new(Exit::Data, format_args!("{} is not what a sweep wrote: {cause}", path.display()));
    failure.hint("choose another --output")
}

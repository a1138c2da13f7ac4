//! What was measured, point by point: a file that grows by whole lines, beside the protocol that all of them share.
//!
//! A sweep that goes on must have the same protocol; its grid may have become larger.

use std::fs;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use imagen::cascade::StageName;
use imagen::eval::{Interval, Layout};
use imagen::input;

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
        let fidelity = if self.is_fid() {
            format!("FID ({} pictures)", self.captions)
        } else {
            "KID over layout-1 (less is nearer to real pictures)".to_owned()
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
        match input::read_if_there(&about, input::MOST_TEXT)? {
            Some(bytes) => {
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
            None => {
                let json = serde_json::to_vec_pretty(&protocol).expect("a protocol is plain data");
                write_file(&about, &json)?;
            }
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
        // Reading loses a number's last bit now and then: what is kept is what a sweep that goes on would read.
        self.measured.push(serde_json::from_str(&line).map_err(|e| broken(&self.own, &e))?);
        Ok(())
    }
}

/// What a folder holds of a sweep, which may be going on; nothing where it holds none.
pub(super) fn look(folder: &Path) -> Option<Result<(Protocol, Vec<Measured>)>> {
    let about = folder.join(PROTOCOL);
    about.is_file().then(|| {
        let protocol =
            serde_json::from_slice(&input::read(&about, input::MOST_TEXT)?).map_err(|e| broken(&about, &e))?;
        let mut points = Points { own: folder.join(POINTS), folder: folder.to_owned(), protocol, measured: Vec::new() };
        points.look_again()?;
        Ok((points.protocol, points.measured))
    })
}

/// Whether a file has this name: points, or those of a share.
fn is_points(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or("");
    name == POINTS || (name.starts_with(SHARE) && name.ends_with(ENDING))
}

/// What a file holds, and how many of its bytes are whole lines: another process may be writing the last one, or have left it
/// half-written when it was killed or lost its power.
fn lines(path: &Path) -> Result<(Vec<Measured>, usize, Vec<u8>)> {
    let bytes = input::read_if_there(path, input::MOST_TEXT)?.unwrap_or_default();
    let (mut measured, mut whole) = (Vec::new(), 0);
    for line in bytes.split_inclusive(|&byte| byte == b'\n') {
        let last = whole + line.len() == bytes.len();
        match serde_json::from_slice(line) {
            Ok(point) if line.ends_with(b"\n") => measured.push(point),
            Err(e) if !last => return Err(broken(path, &e)),
            _ => break,
        }
        whole += line.len();
    }
    Ok((measured, whole, bytes))
}

/// Takes away the line that a crash cut off, so that the next begins on a line of its own.
fn mend(path: &Path) -> Result<()> {
    let (_, whole, bytes) = lines(path)?;
    if whole < bytes.len() {
        write_file(path, &bytes[..whole])?;
    }
    Ok(())
}

/// The whole lines of a file, which another process may be writing to.
fn read(path: &Path) -> Result<Vec<Measured>> {
    lines(path).map(|(measured, ..)| measured)
}

fn broken(path: &Path, cause: &serde_json::Error) -> Failure {
    let failure = Failure::new(Exit::Data, format_args!("{} is not what a sweep wrote: {cause}", path.display()));
    failure.hint("choose another --output")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// A line of the file, as a sweep wrote it, with another distance.
    fn line(distance: f64) -> String {
        let interval = r#"{"low":0.25,"high":0.75}"#;
        let rate = format!(r#"{{"hits":1,"rate":0.5,"interval":{interval}}}"#);
        let point = r#""model":"ö","stage":"base","settings":{"sampler":"ddim","steps":2,"guidance":1.0,"thresholding":"static"}"#;
        format!(
            r#"{{{point},"pictures":2,"top_1":{rate},"top_5":{rate},"kid":0.1,"kid_interval":{interval},"frechet_distance":{distance:?},"shown":"a.png"}}"#
        ) + "\n"
    }

    #[test]
    fn a_sweep_that_goes_on_has_the_numbers_of_one_that_never_stopped() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(POINTS);
        let protocol = Protocol {
            data: String::new(),
            captions_from: String::new(),
            compared_with: String::new(),
            captions: 2,
            references: 2,
            seed: 0,
            stage: StageName::Base,
            extractor: Layout::NAME.to_owned(),
            extractor_digest: String::new(),
            resize: String::new(),
            clip: None,
            models: Vec::new(),
        };
        let mut points = Points { folder: folder.path().to_owned(), own: path.clone(), protocol, measured: Vec::new() };
        let mut any: Measured = serde_json::from_str(&line(1.0)).unwrap();
        let mut bits = 0x1234_5678_9ABC_DEF0u64;
        for _ in 0..500 {
            bits = bits.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            any.frechet_distance = f64::from_bits(bits >> 12 | 0x3FF0_0000_0000_0000) * 40.0;
            points.add(any.clone()).unwrap();
        }
        assert_eq!(read(&path).unwrap(), points.measured);
    }

    #[test]
    fn a_last_line_that_a_crash_left_half_written_is_taken_away() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(POINTS);
        let whole = line(1.0);
        // within a letter of two bytes, within a number, and a line whose place was kept but never filled
        let letter = whole.find('ö').unwrap() + 1;
        for torn in [&whole.as_bytes()[..letter], &whole.as_bytes()[..whole.len() - 5], &[0; 40], b"\0\0\0\n"] {
            fs::write(&path, [whole.as_bytes(), torn].concat()).unwrap();
            assert_eq!(read(&path).unwrap().len(), 1);
            mend(&path).unwrap();
            assert_eq!(fs::read(&path).unwrap(), whole.as_bytes());
        }
        // what is broken before others is nobody's crash
        fs::write(&path, format!("{{}}\n{whole}")).unwrap();
        assert!(read(&path).is_err());
    }
}

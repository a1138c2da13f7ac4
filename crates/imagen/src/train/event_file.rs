//! TensorBoard's event files, written: scalars and pictures by step.
//!
//! A file is a row of records `length u64, masked crc of the length, bytes, masked crc of the bytes` (TFRecord), and each
//! record is an `Event` of TensorFlow's `event.proto`, of which the few fields that occur here are listed. The bytes are those
//! of the reference's own writer.
//!
//! Each start of a run opens a file of its own with a session mark, by which TensorBoard forgets what an earlier start
//! wrote for the same or later steps. TensorBoard reads files in the order of their names, which begin with the time: a clock
//! that was set back counts as standing still. Each record is one write, so that a killed program leaves whole records.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use prost::{Message, Oneof};

use crate::error::{Error, Result};

/// An event file that is being written.
#[derive(Debug)]
pub(super) struct EventFile {
    file: File,
    path: PathBuf,
    /// The time of its name, before which nothing in it is.
    since: f64,
}

impl EventFile {
    /// A new file in a run's folder, for the steps from `first_step` on.
    pub(super) fn create(folder: &Path, first_step: u64) -> Result<Self> {
        let (file, path, since) = create(folder).map_err(|e| Error::io("write an event file in", folder, e))?;
        let mut events = Self { file, path, since };
        events.write(0, What::file_version())?;
        events.write(first_step, What::session_start())?;
        Ok(events)
    }

    /// Numbers of a step, by name.
    pub(super) fn scalars(&mut self, step: u64, scalars: &[(&str, f64)]) -> Result<()> {
        self.write(step, What::scalars(scalars))
    }

    /// A picture of a step: the bytes of a PNG file of this width and height.
    pub(super) fn picture(&mut self, step: u64, name: &str, size: [u32; 2], png: &[u8]) -> Result<()> {
        self.write(step, What::picture(name, size, png))
    }

    fn write(&mut self, step: u64, what: What) -> Result<()> {
        let written = self.file.write_all(&record(&what.at(step, now().max(self.since)).encode_to_vec()));
        written.map_err(|e| Error::io("write", &self.path, e))
    }
}

/// What the names of event files begin with, before their time in ten digits.
const NAME: &str = "events.out.tfevents.";

/// A file of a name that comes after those of all other starts of this run, and its time.
fn create(folder: &Path) -> io::Result<(File, PathBuf, f64)> {
    let seconds = latest(folder)?.max(now() as u64);
    for number in 0..1000 {
        let path = folder.join(format!("{NAME}{seconds:010}.imagen.{number:03}"));
        match OpenOptions::new().append(true).create_new(true).open(&path) {
            Ok(file) => return Ok((file, path, seconds as f64)),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(e),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

/// The latest time in the names of a folder's event files; 0 without any.
fn latest(folder: &Path) -> io::Result<u64> {
    let mut latest = 0;
    for entry in std::fs::read_dir(folder)? {
        let name = entry?.file_name();
        let digits = name.to_str().and_then(|name| name.strip_prefix(NAME)?.get(..10));
        latest = latest.max(digits.and_then(|digits| digits.parse().ok()).unwrap_or(0));
    }
    Ok(latest)
}

/// Seconds since 1970; a clock before that counts as that.
fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

/// The fields of TensorFlow's `Event` that occur here.
#[derive(Message)]
struct Event {
    #[prost(double, tag = "1")]
    wall_time: f64,
    #[prost(int64, tag = "2")]
    step: i64,
    #[prost(oneof = "What", tags = "3, 5, 7")]
    what: Option<What>,
}

#[derive(Oneof)]
enum What {
    #[prost(string, tag = "3")]
    FileVersion(String),
    #[prost(message, tag = "5")]
    Summary(Summary),
    #[prost(message, tag = "7")]
    SessionLog(SessionLog),
}

#[derive(Message)]
struct Summary {
    #[prost(message, repeated, tag = "1")]
    values: Vec<Value>,
}

#[derive(Message)]
struct SessionLog {
    /// A `SessionStatus`, of which 1 is START.
    #[prost(int32, tag = "1")]
    status: i32,
}

#[derive(Message)]
struct Value {
    #[prost(string, tag = "1")]
    tag: String,
    #[prost(oneof = "Number", tags = "2, 4")]
    number: Option<Number>,
}

#[derive(Oneof)]
enum Number {
    #[prost(float, tag = "2")]
    Simple(f32),
    #[prost(message, tag = "4")]
    Image(Image),
}

#[derive(Message)]
struct Image {
    #[prost(int32, tag = "1")]
    height: i32,
    #[prost(int32, tag = "2")]
    width: i32,
    /// A `ColorSpace`: the number of channels.
    #[prost(int32, tag = "3")]
    colorspace: i32,
    #[prost(bytes = "vec", tag = "4")]
    encoded: Vec<u8>,
}

impl What {
    fn file_version() -> Self {
        Self::FileVersion("brain.Event:2".into())
    }

    fn session_start() -> Self {
        Self::SessionLog(SessionLog { status: 1 })
    }

    fn scalars(scalars: &[(&str, f64)]) -> Self {
        let value =
            |&(tag, number): &(&str, f64)| Value { tag: tag.to_owned(), number: Some(Number::Simple(number as f32)) };
        Self::Summary(Summary { values: scalars.iter().map(value).collect() })
    }

    fn picture(tag: &str, [width, height]: [u32; 2], png: &[u8]) -> Self {
        let (width, height) = (width as i32, height as i32);
        let image = Image { height, width, colorspace: channels(png), encoded: png.to_vec() };
        Self::Summary(Summary { values: vec![Value { tag: tag.to_owned(), number: Some(Number::Image(image)) }] })
    }

    fn at(self, step: u64, wall_time: f64) -> Event {
        Event { wall_time, step: step as i64, what: Some(self) }
    }
}

/// Channels of a PNG file, which are also its number in `ColorSpace`; 3 for what is none.
fn channels(png: &[u8]) -> i32 {
    /// Where the header says how colours are stored (PNG specification, 11.2.2).
    const COLOUR_TYPE: usize = 25;
    match png.get(COLOUR_TYPE) {
        Some(0) => 1,
        Some(4) => 2,
        Some(6) => 4,
        _ => 3,
    }
}

/// A record of the file.
fn record(bytes: &[u8]) -> Vec<u8> {
    let length = (bytes.len() as u64).to_le_bytes();
    [&length[..], &masked(&length), bytes, &masked(bytes)].concat()
}

/// The checksum of TFRecord: CRC-32C, rotated and shifted, so that a checksum of data with checksums in it is sound.
fn masked(bytes: &[u8]) -> [u8; 4] {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xA282_EAD8).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made by `tests/golden/tensorboard/make.py` with TensorBoard's own writer.
    const GOLDEN: &[u8] = include_bytes!("../../tests/golden/tensorboard/events.bin");
    const PNG: &[u8] = include_bytes!("../../tests/golden/tensorboard/picture.png");

    #[test]
    fn the_bytes_are_those_of_the_reference() {
        let time = 1_700_000_000.25;
        let scalars = [("train/loss", 0.125), ("probe/right", 0.0), ("größe", -3.5e-9)];
        let contents = [
            (0, What::file_version()),
            (1, What::session_start()),
            (300, What::scalars(&scalars)),
            (5_000_000_000, What::picture("samples/grid", [3, 2], PNG)),
        ];
        let events = contents.into_iter().flat_map(|(step, what)| record(&what.at(step, time).encode_to_vec()));
        assert!(events.eq(GOLDEN.iter().copied()), "the event file differs from TensorBoard's");
    }

    #[test]
    fn a_clock_that_was_set_back_hides_nothing() {
        let folder = tempfile::tempdir().unwrap();
        // of a start in the year 2096
        let before = folder.path().join(format!("{NAME}4000000000.imagen.000"));
        std::fs::write(&before, "").unwrap();
        let file = EventFile::create(folder.path(), 5).unwrap();
        assert_eq!(file.path, folder.path().join(format!("{NAME}4000000000.imagen.001")));
        let bytes = std::fs::read(&file.path).unwrap();
        let time = f64::from_le_bytes(bytes[13..21].try_into().unwrap());
        assert_eq!(time, 4e9, "events are no earlier than their file");
    }

    #[test]
    fn every_start_has_a_file_of_its_own_with_whole_records() {
        let folder = tempfile::tempdir().unwrap();
        for first in [1, 11] {
            let mut file = EventFile::create(folder.path(), first).unwrap();
            file.scalars(first, &[("train/loss", 0.5)]).unwrap();
        }
        let files: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert_eq!(files.len(), 2);
        for path in files {
            let bytes = std::fs::read(path).unwrap();
            let (mut rest, mut records) = (&bytes[..], 0);
            while !rest.is_empty() {
                let length = u64::from_le_bytes(rest[..8].try_into().unwrap()) as usize;
                assert_eq!(record(&rest[12..12 + length]), rest[..16 + length]);
                (rest, records) = (&rest[16 + length..], records + 1);
            }
            assert_eq!(records, 3);
        }
    }
}

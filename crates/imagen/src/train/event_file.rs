//! TensorBoard's event files, written: scalars and pictures by step.
//!
//! A file is a row of records `length u64, masked crc of the length, bytes, masked crc of the bytes` (TFRecord), and each
//! record is an `Event` of TensorFlow's `event.proto`, of which the few fields that occur here are encoded by hand. The
//! fields are written in ascending order and those that are zero are left out, so that the bytes are those of the
//! reference's own writer.
//!
//! Each start of a run opens a file of its own with a session mark, by which TensorBoard forgets what an earlier start
//! wrote for the same or later steps. Each record is one write, so that a killed program leaves whole records.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::error::{Error, Result};

/// An event file that is being written.
#[derive(Debug)]
pub(super) struct EventFile {
    file: File,
    path: PathBuf,
}

impl EventFile {
    /// A new file in a run's folder, for the steps from `first_step` on.
    pub(super) fn create(folder: &Path, first_step: u64) -> Result<Self> {
        let (file, path) = create(folder).map_err(|e| Error::io("write an event file in", folder, e))?;
        let mut events = Self { file, path };
        events.write(&Event { content: Content::FileVersion, step: 0, time: now() })?;
        events.write(&Event { content: Content::SessionStart, step: first_step, time: now() })?;
        Ok(events)
    }

    /// Numbers of a step, by name.
    pub(super) fn scalars(&mut self, step: u64, scalars: &[(&str, f64)]) -> Result<()> {
        self.write(&Event { content: Content::Scalars(scalars), step, time: now() })
    }

    /// A picture of a step: the bytes of a PNG file, `width`×`height` pixels of three channels.
    pub(super) fn picture(&mut self, step: u64, name: &str, [width, height]: [u32; 2], png: &[u8]) -> Result<()> {
        self.write(&Event { content: Content::Picture { name, width, height, png }, step, time: now() })
    }

    fn write(&mut self, event: &Event<'_>) -> Result<()> {
        let written = self.file.write_all(&record(&event.encode()));
        written.map_err(|e| Error::io("write", &self.path, e))
    }
}

/// A file of a name that no other start of this run has. TensorBoard reads files in the order of their names.
fn create(folder: &Path) -> io::Result<(File, PathBuf)> {
    let seconds = now() as u64;
    for number in 0..1000 {
        let path = folder.join(format!("events.out.tfevents.{seconds:010}.imagen.{number:03}"));
        match OpenOptions::new().append(true).create_new(true).open(&path) {
            Ok(file) => return Ok((file, path)),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(e),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

/// Seconds since 1970; a clock before that counts as that.
fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

/// One `Event`.
struct Event<'a> {
    content: Content<'a>,
    step: u64,
    time: f64,
}

enum Content<'a> {
    FileVersion,
    SessionStart,
    Scalars(&'a [(&'a str, f64)]),
    Picture { name: &'a str, width: u32, height: u32, png: &'a [u8] },
}

/// The number of `SessionStatus` START.
const START: u64 = 1;

/// Channels of a PNG file, which are also its number in `ColorSpace`; 3 for what is none.
fn channels(png: &[u8]) -> u64 {
    /// Where the header says how colours are stored (PNG specification, 11.2.2).
    const COLOUR_TYPE: usize = 25;
    match png.get(COLOUR_TYPE) {
        Some(0) => 1,
        Some(4) => 2,
        Some(6) => 4,
        _ => 3,
    }
}

impl Event<'_> {
    /// `Event { wall_time = 1, step = 2, file_version = 3, summary = 5, session_log = 7 }`
    fn encode(&self) -> Vec<u8> {
        let mut event = Message::default();
        event.double(1, self.time);
        event.integer(2, self.step);
        match &self.content {
            Content::FileVersion => event.bytes(3, b"brain.Event:2"),
            // SessionLog { status = 1 }
            Content::SessionStart => event.message(7, |log| log.integer(1, START)),
            // Summary { value = 1 repeated }, Value { tag = 1, simple_value = 2 }
            Content::Scalars(scalars) => event.message(5, |summary| {
                for (tag, number) in *scalars {
                    summary.message(1, |value| {
                        value.bytes(1, tag.as_bytes());
                        value.float(2, *number as f32);
                    });
                }
            }),
            // Value { tag = 1, image = 4 }, Image { height = 1, width = 2, colorspace = 3, encoded_image_string = 4 }
            Content::Picture { name, width, height, png } => event.message(5, |summary| {
                summary.message(1, |value| {
                    value.bytes(1, name.as_bytes());
                    value.message(4, |image| {
                        image.integer(1, u64::from(*height));
                        image.integer(2, u64::from(*width));
                        image.integer(3, channels(png));
                        image.bytes(4, png);
                    });
                });
            }),
        }
        event.0
    }
}

/// The bytes of a protocol buffer message.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.0.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.0.push(number as u8);
    }

    /// The key of a field: its number and how its value is written.
    fn key(&mut self, field: u64, wire: u64) {
        self.varint(field << 3 | wire);
    }

    fn integer(&mut self, field: u64, number: u64) {
        if number != 0 {
            self.key(field, 0);
            self.varint(number);
        }
    }

    fn double(&mut self, field: u64, number: f64) {
        if number.to_bits() != 0 {
            self.key(field, 1);
            self.0.extend(number.to_le_bytes());
        }
    }

    /// A float of a `oneof`, which is written even where it is zero.
    fn float(&mut self, field: u64, number: f32) {
        self.key(field, 5);
        self.0.extend(number.to_le_bytes());
    }

    fn bytes(&mut self, field: u64, bytes: &[u8]) {
        self.key(field, 2);
        self.varint(bytes.len() as u64);
        self.0.extend(bytes);
    }

    fn message(&mut self, field: u64, fill: impl FnOnce(&mut Self)) {
        let mut inner = Self::default();
        fill(&mut inner);
        self.bytes(field, &inner.0);
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
            (0, Content::FileVersion),
            (1, Content::SessionStart),
            (300, Content::Scalars(&scalars)),
            (5_000_000_000, Content::Picture { name: "samples/grid", width: 3, height: 2, png: PNG }),
        ];
        let events = contents.into_iter().flat_map(|(step, content)| record(&Event { content, step, time }.encode()));
        assert!(events.eq(GOLDEN.iter().copied()), "the event file differs from TensorBoard's");
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

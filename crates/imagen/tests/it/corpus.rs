//! The corpora of the fuzzer (`fuzz/corpus`), replayed and changed at random on every run of the tests: whatever bytes a format's
//! reader is given, it gives a value or an error that can be read, and does not take long.
//!
//! `IMAGEN_FUZZ_SECONDS=600 cargo test --release -p imagen --test it corpus::pictures` looks longer at one format.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::readers::{READERS, Reader};

/// No input of a few kilobytes may take longer, on a machine that does a lot of other things.
const LONGEST: Duration = Duration::from_secs(20);

/// The files of a corpus, sorted by name.
fn seeds(format: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(format);
    let files = std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let sorted: BTreeMap<_, _> =
        files.map(|entry| entry.unwrap().path()).map(|path| (path.clone(), std::fs::read(path).unwrap())).collect();
    assert!(!sorted.is_empty(), "{} is empty", folder.display());
    sorted.into_iter().collect()
}

/// A source of choices.
struct Choices(u64);

impl Choices {
    fn pick(&mut self, below: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % below.max(1)
    }

    /// A few changes of the kinds that damage and malice make; a part of another seed may come in.
    fn change(&mut self, bytes: &mut Vec<u8>, other: &[u8]) {
        for _ in 0..[1, 1, 1, 2, 4, 16][self.pick(6)] {
            let at = self.pick(bytes.len() + 1);
            let length = [1, 2, 4, 8, 64, 512][self.pick(6)].min(bytes.len() - at);
            let run = at..at + length;
            match self.pick(10) {
                0 if at < bytes.len() => bytes[at] ^= 1 << self.pick(8),
                1 if at < bytes.len() => bytes[at] = self.pick(256) as u8,
                2 => drop(bytes.drain(run)),
                3 => bytes.truncate(at),
                4 => bytes[run].fill([0, 0xFF, 0x80, b'0'][self.pick(4)]),
                5 => {
                    let copied = bytes[run].to_vec();
                    bytes.splice(at..at, copied);
                }
                6 => {
                    let number = [0u32, 1, 0x7FFF_FFFF, 0x8000_0000, u32::MAX, 1 << 16, 1 << 24][self.pick(7)];
                    let number = if self.pick(2) == 0 { number.to_be_bytes() } else { number.to_le_bytes() };
                    for (byte, new) in bytes[at..].iter_mut().zip(number) {
                        *byte = new;
                    }
                }
                7 => {
                    // another number where one is written out
                    let digits = bytes[at..].iter().position(u8::is_ascii_digit).map(|from| at + from);
                    let Some(from) = digits else { continue };
                    let until = from + bytes[from..].iter().take_while(|byte| byte.is_ascii_digit()).count();
                    let number = ["0", "-1", "7", "65536", "4611686018427387904", "1e308", "0.5", "null"][self.pick(8)];
                    bytes.splice(from..until, number.bytes());
                }
                8 if !other.is_empty() => {
                    let from = self.pick(other.len());
                    let part = &other[from..(from + [4, 32, 256][self.pick(3)]).min(other.len())];
                    bytes.splice(at..at, part.iter().copied());
                }
                _ => bytes.insert(at, self.pick(256) as u8),
            }
        }
    }
}

/// Reads an input; an error must be one that a person can read.
fn look(reader: Reader, bytes: &[u8], name: &dyn Fn() -> String) -> bool {
    let begun = Instant::now();
    let outcome = std::panic::catch_unwind(|| reader(bytes)).unwrap_or_else(|_| {
        let kept = std::env::temp_dir().join(format!("imagen-fuzz-{:08x}", crc32fast::hash(bytes)));
        std::fs::write(&kept, bytes).unwrap();
        panic!("{}: a reader panicked; the input is kept as {}", name(), kept.display())
    });
    assert!(begun.elapsed() < LONGEST, "{}: took {:?}", name(), begun.elapsed());
    match outcome {
        Ok(()) => true,
        Err(error) => {
            assert!(!format!("{error:#}").trim().is_empty(), "{}: an error that says nothing", name());
            false
        }
    }
}

fn replay_and_change(format: &str, rounds: usize) {
    let reader = READERS.iter().find(|(name, _)| *name == format).expect("a format").1;
    let seeds = seeds(format);
    let mut read = 0;
    for (path, bytes) in &seeds {
        read += usize::from(look(reader, bytes, &|| path.display().to_string()));
    }
    assert!(read > 0, "no seed of {format} is read: what is changed would be refused at its beginning");
    let longer = std::env::var("IMAGEN_FUZZ_SECONDS").ok().map(|seconds| Duration::from_secs(seconds.parse().unwrap()));
    let begun = Instant::now();
    let mut round = 0;
    while longer.map_or(round < rounds, |longer| begun.elapsed() < longer) {
        let mut choices = Choices(round as u64 ^ 0x9E37_79B9_7F4A_7C15);
        let mut bytes = seeds[choices.pick(seeds.len())].1.clone();
        let other = &seeds[choices.pick(seeds.len())].1;
        choices.change(&mut bytes, other);
        look(reader, &bytes, &|| format!("{format}, round {round}"));
        round += 1;
    }
    if longer.is_some() {
        println!("{format}: {round} inputs in {:?}", begun.elapsed());
    }
}

macro_rules! formats {
    ($($name:ident $format:literal $rounds:literal;)*) => {$(
        #[test]
        fn $name() {
            replay_and_change($format, $rounds);
        }
    )*};
}

formats! {
    weights "weights" 2000;
    configs "configs" 2000;
    tokenizers "tokenizers" 150;
    recipes "recipes" 1000;
    shards "shards" 400;
    pictures "pictures" 3000;
    png_text "png_text" 2000;
    tables "tables" 400;
    study "study" 1500;
    statistics "statistics" 400;
}

//! Bytes as a shard of WebDataset.

#![no_main]

#[path = "../readers.rs"]
#[expect(dead_code, reason = "each target reads one format")]
mod readers;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = readers::shards(bytes);
});

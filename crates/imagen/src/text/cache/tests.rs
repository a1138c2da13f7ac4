//! What a cache keeps, mends, refuses, and does not lose; with an encoder whose states are known.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::error::ErrorKind;
use crate::models::weights::write_raw;

/// Tokens are words; the state of a word is (its length, its position, its first byte).
struct Words {
    identity: &'static str,
    encoded: AtomicUsize,
    /// Captions after which the encoder panics, as a killed program ends.
    until: usize,
}

impl Words {
    fn new(identity: &'static str) -> Self {
        Self { identity, encoded: AtomicUsize::new(0), until: usize::MAX }
    }

    fn states(caption: &str) -> Vec<f32> {
        let word = |(i, w): (usize, &str)| [w.len() as f32, i as f32, f32::from(w.as_bytes()[0])];
        caption.split(' ').take(4).enumerate().flat_map(word).collect()
    }
}

impl TextEncoder for Words {
    fn encode(&self, captions: &[&str]) -> Result<TextEmbedding> {
        let encoded = self.encoded.fetch_add(captions.len(), Ordering::Relaxed);
        assert!(encoded < self.until, "killed");
        let rows: Vec<_> = captions.iter().map(|caption| Self::states(caption)).collect();
        let t = rows.iter().map(|row| row.len() / 3).max().unwrap();
        let mask = rows.iter().flat_map(|row| (0..t).map(|i| f32::from(u8::from(i < row.len() / 3)))).collect();
        let padded = |row: &Vec<f32>| row.iter().copied().chain([0.0; 12]).take(t * 3).collect::<Vec<_>>();
        let states: Vec<f32> = rows.iter().flat_map(padded).collect();
        let device = Device::flex();
        Ok(TextEmbedding {
            sequence: Tensor::from_data(TensorData::new(states, [rows.len(), t, 3]), &device),
            mask: Tensor::from_data(TensorData::new::<f32, _>(mask, [rows.len(), t]), &device),
        })
    }

    fn cut_text<'a>(&self, caption: &'a str) -> Result<Option<&'a str>> {
        Ok(caption.match_indices(' ').nth(3).map(|(at, _)| &caption[at..]))
    }

    fn dim(&self) -> usize {
        3
    }

    fn max_length(&self) -> usize {
        4
    }

    fn identity(&self) -> &str {
        self.identity
    }
}

fn build(path: &Path, captions: &[&str], encoder: &Words) -> (EmbeddingCache, Vec<String>) {
    let mut events = Vec::new();
    let cache = EmbeddingCache::build(path, captions, encoder, &mut |event| events.push(format!("{event:?}")));
    (cache.unwrap(), events)
}

fn scratch() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("text.safetensors");
    (folder, path)
}

fn many() -> Vec<String> {
    (0..100).map(|i| format!("caption {} of {i}", "x".repeat(1 + i * 7 % 13))).collect()
}

#[test]
fn only_captions_that_the_file_lacks_are_encoded() {
    let (_folder, path) = scratch();
    let encoder = Words::new("a");
    let captions = many();
    let captions: Vec<&str> = captions.iter().map(String::as_str).collect();
    build(&path, &captions[..60], &encoder);
    assert_eq!(encoder.encoded.swap(0, Ordering::Relaxed), 60);
    let twice = [&captions[..], &captions[..]].concat();
    let (cache, events) = build(&path, &twice, &encoder);
    assert_eq!(encoder.encoded.swap(0, Ordering::Relaxed), 40, "each new caption once");
    assert_eq!(events.last().unwrap(), "Encoded { done: 40, of: 40 }");
    assert_eq!(cache.len(), 100);
    for again in [cache, build(&path, &captions, &encoder).0] {
        for caption in &captions {
            let expected: Vec<f16> = Words::states(caption).into_iter().map(f16::from_f32).collect();
            assert_eq!(again.embedding(again.id(caption).unwrap()), expected, "{caption}");
        }
        assert_eq!(again.id("never seen"), None);
    }
    assert_eq!(encoder.encoded.into_inner(), 0);
}

#[test]
fn a_batch_is_padded_with_zeros_and_cut_at_max_tokens() {
    let (_folder, path) = scratch();
    let (cache, _) = build(&path, &["b", "aa c d"], &Words::new("a"));
    let ids = ["b", "aa c d", "b"].map(|caption| cache.id(caption).unwrap());
    let read = |max| {
        let batch = cache.batch(&ids, max, &Device::flex()).unwrap();
        let values = |data: TensorData| data.iter::<f32>().collect::<Vec<_>>();
        (batch.sequence.dims(), values(batch.sequence.into_data()), values(batch.mask.into_data()))
    };
    let (shape, states, mask) = read(9);
    assert_eq!(shape, [3, 3, 3]);
    assert_eq!(mask, [1., 0., 0., 1., 1., 1., 1., 0., 0.]);
    let alone = [1., 0., 98., 0., 0., 0., 0., 0., 0.];
    assert_eq!(states, [&alone[..], &[2., 0., 97., 1., 1., 99., 1., 2., 100.], &alone].concat());
    let (shape, states, mask) = read(1);
    assert_eq!((shape, mask), ([3, 1, 3], vec![1.; 3]));
    assert_eq!(states, [1., 0., 98., 2., 0., 97., 1., 0., 98.]);
}

#[test]
fn a_batch_of_nothing_or_of_strangers_is_refused() {
    let (_folder, path) = scratch();
    let (cache, _) = build(&path, &["b"], &Words::new("a"));
    for (ids, max) in [(&[][..], 4), (&[0], 0), (&[1], 4)] {
        assert_eq!(cache.batch(ids, max, &Device::flex()).unwrap_err().kind(), ErrorKind::Usage, "{ids:?} {max}");
    }
}

#[test]
fn the_cache_of_another_encoder_is_made_anew_and_reported() {
    let (_folder, path) = scratch();
    build(&path, &["b"], &Words::new("first"));
    let (second, events) =
        (Words::new("second"), vec!["OtherEncoder { found: \"first\" }", "Encoded { done: 1, of: 1 }"]);
    assert_eq!(build(&path, &["b"], &second).1, events);
    assert_eq!(build(&path, &["b"], &second).1, [""; 0], "now it is the cache of the second");
}

#[test]
fn any_damage_is_noticed_reported_and_mended() {
    let (_folder, path) = scratch();
    let encoder = Words::new("a");
    build(&path, &["b", "c d"], &encoder);
    let whole = std::fs::read(&path).unwrap();
    let header = 8 + u64::from_le_bytes(*whole.first_chunk().unwrap()) as usize;
    let flips = (header..whole.len()).map(|at| {
        let mut bytes = whole.clone();
        bytes[at] ^= 4;
        bytes
    });
    let cuts = [0, 5, header, whole.len() - 1].map(|length| whole[..length].to_vec());
    for (case, bytes) in flips.chain(cuts).enumerate() {
        std::fs::write(&path, &bytes).unwrap();
        let (cache, events) = build(&path, &["b", "c d"], &encoder);
        assert!(events[0].starts_with("Damaged"), "case {case}: {events:?}");
        assert_eq!(cache.embedding(cache.id("b").unwrap()), [1., 0., 98.].map(f16::from_f32), "case {case}");
        assert_eq!(std::fs::read(&path).unwrap(), whole, "case {case}");
    }
}

#[test]
fn another_kind_of_file_is_not_overwritten() {
    let (_folder, path) = scratch();
    write_raw(&path, Vec::new(), &HashMap::new()).unwrap();
    let before = std::fs::read(&path).unwrap();
    let error = EmbeddingCache::build(&path, &["b"], &Words::new("a"), &mut |_| {}).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
    assert!(format!("{error:#}").contains("is not an embedding cache"), "{error:#}");
    assert_eq!(std::fs::read(&path).unwrap(), before);
}

#[test]
fn a_caption_that_is_cut_is_reported_with_what_is_lost() {
    let (_folder, path) = scratch();
    let (_, events) = build(&path, &["one two three four five six"], &Words::new("a"));
    assert_eq!(events[0], "Cut { caption: \"one two three four five six\", lost: \" five six\" }");
}

fn numbered(count: usize) -> Vec<String> {
    (0..count).map(|i| format!("caption {i:05}{}", " and more".repeat(i % 3))).collect()
}

#[test]
fn a_killed_program_loses_no_more_than_a_part_and_the_file_is_the_same_in_the_end() {
    let (_folder, path) = scratch();
    let straight = path.with_file_name("straight.safetensors");
    let captions = numbered(PART_CAPTIONS + 500);
    let captions: Vec<&str> = captions.iter().map(String::as_str).collect();
    build(&straight, &captions, &Words::new("a"));
    let dying = Words { until: PART_CAPTIONS + 100, ..Words::new("a") };
    let killed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| build(&path, &captions, &dying)));
    assert!(killed.is_err() && !path.exists());
    assert_eq!(parts_of(&path).unwrap(), [path.with_file_name("text.safetensors.part-0000")]);
    let encoder = Words::new("a");
    let (cache, events) = build(&path, &captions, &encoder);
    assert_eq!((encoder.encoded.into_inner(), cache.len()), (500, captions.len()));
    assert!(events.last().unwrap().contains("done: 500, of: 500"), "{events:?}");
    assert!(std::fs::read(&path).unwrap() == std::fs::read(&straight).unwrap(), "the files differ");
    assert_eq!(parts_of(&path).unwrap(), [""; 0].map(PathBuf::from));
}

#[test]
fn a_stop_and_an_error_keep_what_was_encoded() {
    let (_folder, path) = scratch();
    let captions = numbered(3 * BATCH);
    let encoder = Words::new("a");
    let stopped = EmbeddingCache::build_or_stop(&path, &captions, &encoder, &mut |_| ControlFlow::Break(()));
    assert!(stopped.unwrap().is_none() && !path.exists());
    assert_eq!(encoder.encoded.swap(0, Ordering::Relaxed), BATCH);
    // a state that f16 cannot hold
    let long = "x".repeat(70_000);
    let with_long: Vec<&str> = captions.iter().map(String::as_str).chain([long.as_str()]).collect();
    let error = EmbeddingCache::build(&path, &with_long, &encoder, &mut |_| {}).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NonFinite);
    assert_eq!(parts_of(&path).unwrap().len(), 2, "the last batch held the long one, those before it are whole");
    encoder.encoded.store(0, Ordering::Relaxed);
    let captions: Vec<&str> = captions.iter().map(String::as_str).collect();
    let (cache, _) = build(&path, &captions, &encoder);
    assert_eq!((cache.len(), encoder.encoded.into_inner()), (3 * BATCH, 0));
}

#[test]
fn tokens_are_counted_by_the_mask_where_an_encoder_does_not_count_itself() {
    let counts = ["b", "aa c d", "a b c d e f"].map(|caption| Words::new("a").token_count(caption).unwrap());
    assert_eq!(counts, [1, 3, 4]);
}

#[test]
fn what_is_left_of_joined_parts_and_parts_of_another_encoder_add_nothing() {
    let (_folder, path) = scratch();
    build(&path, &["b", "c d"], &Words::new("a"));
    std::fs::copy(&path, path.with_file_name("text.safetensors.part-0003")).unwrap();
    let other = path.with_file_name("other.safetensors");
    build(&other, &["e"], &Words::new("other"));
    std::fs::rename(&other, path.with_file_name("text.safetensors.part-0004")).unwrap();
    let whole = std::fs::read(&path).unwrap();
    let encoder = Words::new("a");
    let (cache, events) = build(&path, &["c d"], &encoder);
    assert_eq!((cache.len(), encoder.encoded.into_inner()), (2, 0));
    assert_eq!(events, ["OtherEncoder { found: \"other\" }"]);
    assert!(std::fs::read(&path).unwrap() == whole && parts_of(&path).unwrap().is_empty());
}

#[test]
fn shares_are_encoded_apart_once_and_joined_by_who_comes_last() {
    let (_folder, path) = scratch();
    let captions = numbered(5 * BATCH + 3);
    let (whole, _) = build(&path, &captions.iter().map(String::as_str).collect::<Vec<_>>(), &Words::new("a"));
    let alone: Vec<Vec<f16>> = captions.iter().map(|text| whole.embedding(whole.id(text).unwrap())).collect();
    std::fs::remove_file(&path).unwrap();

    let go_on = &mut |_: CacheEvent<'_>| ControlFlow::Continue(());
    let share = |at: usize, encoder: &Words| {
        let built = EmbeddingCache::build_share(&path, &captions, encoder, (at, 3), &mut |_| ControlFlow::Continue(()));
        built.unwrap().unwrap();
        encoder.encoded.load(Ordering::Relaxed)
    };
    assert_eq!(share(2, &Words::new("a")), BATCH + 3);
    assert_eq!(EmbeddingCache::missing(&path, &captions, &Words::new("a")).unwrap(), 4 * BATCH);
    assert_eq!(share(0, &Words::new("a")), 2 * BATCH);
    assert_eq!(share(0, &Words::new("a")), 0, "a share that is done is not done again");
    // one that is stopped keeps what it has, and its unfinished part counts too
    let stop = &mut |event: CacheEvent<'_>| match event {
        CacheEvent::Encoded { .. } => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    };
    let stopped = EmbeddingCache::build_share(&path, &captions, &Words::new("a"), (1, 3), stop).unwrap();
    assert!(stopped.is_none());
    assert_eq!(EmbeddingCache::missing(&path, &captions, &Words::new("a")).unwrap(), BATCH);

    let last = Words::new("a");
    let joined = EmbeddingCache::build_or_stop(&path, &captions, &last, go_on).unwrap().unwrap();
    assert_eq!(last.encoded.load(Ordering::Relaxed), BATCH, "the rest alone is encoded");
    let together: Vec<Vec<f16>> = captions.iter().map(|text| joined.embedding(joined.id(text).unwrap())).collect();
    assert!(together == alone);
    let left: Vec<_> = std::fs::read_dir(path.parent().unwrap()).unwrap().map(|file| file.unwrap().path()).collect();
    assert_eq!(left, [path], "the shares are gone");
}

//! XXH64 (Collet, specification of xxHash 0.1.1), the hash that names encoders and captions in embedding caches.
//!
//! Caches outlive a program, so that the standard library's hashers, which may change, do not do. It tells files
//! apart; it does not defend against anyone who makes collisions on purpose.

pub(super) use xxhash_rust::xxh64::{Xxh64, xxh64};

/// A name of 128 bits in hexadecimal digits for a list of texts; another list has another.
pub(crate) fn content_hash(texts: &[&str]) -> String {
    let half = |seed: u64| {
        let mut hasher = Xxh64::new(seed);
        for text in texts {
            hasher.update(&(text.len() as u64).to_le_bytes());
            hasher.update(text.as_bytes());
        }
        hasher.digest()
    };
    format!("{:016x}{:016x}", half(0), half(1))
}

#[cfg(test)]
mod tests {
    use super::xxh64;

    #[test]
    fn the_hash_is_xxh64() {
        // Values of the reference implementation: below 4, 8 and 32 bytes, above 32, and with a seed.
        for (text, seed, expected) in [
            ("", 0, 0xEF46_DB37_51D8_E999),
            ("a", 0, 0xD24E_C4F1_A98C_6E5B),
            ("abc", 0, 0x44BC_2CF5_AD77_0999),
            ("xxhash", 20_141_025, 13_067_679_811_253_438_005),
            ("Nobody inspects the spammish repetition", 0, 0xFBCE_A83C_8A37_8BF1),
        ] {
            assert_eq!(xxh64(text.as_bytes(), seed), expected, "{text:?}");
        }
    }
}

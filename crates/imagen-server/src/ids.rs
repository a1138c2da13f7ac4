//! Names that nobody can guess, and the comparison of secrets.

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// Random bits of a name, in hexadecimal digits of four.
const DIGITS: usize = 32;

/// A new name of 128 random bits, from the operating system.
///
/// # Panics
/// Where the operating system has no random numbers.
pub(crate) fn random() -> String {
    let mut bytes = [0; DIGITS / 2];
    getrandom::fill(&mut bytes).expect("the operating system gives random numbers");
    hex(&bytes)
}

/// A seed that every reader of JSON keeps exactly, short enough to be typed.
pub(crate) fn random_seed() -> u64 {
    let mut bytes = [0; 4];
    getrandom::fill(&mut bytes).expect("the operating system gives random numbers");
    u64::from(u32::from_le_bytes(bytes))
}

/// Whether a text has the form of a name that [`random`] makes; nothing else ever reaches the disk.
pub(crate) fn well_formed(id: &str) -> bool {
    id.len() == DIGITS && id.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

/// Whether two secrets are the same, in a time that tells nothing of either.
pub(crate) fn same_secret(one: &str, other: &str) -> bool {
    Sha256::digest(one).ct_eq(&Sha256::digest(other)).into()
}

/// What a browser keeps in place of a token, so that a stolen cookie is not the token.
pub(crate) fn cookie_of(token: &str) -> String {
    hex(&Sha256::digest(format!("imagen studio\0{token}")))
}

/// A name of the form that [`random`] makes, which only those can make who know the secret.
pub(crate) fn key_of(secret: &str, name: &str) -> String {
    hex(&Sha256::digest(format!("imagen study\0{secret}\0{name}"))[..DIGITS / 2])
}

/// The name of some bytes for caches.
pub(crate) fn tag_of(bytes: &[u8]) -> String {
    format!("\"{}\"", hex(&Sha256::digest(bytes)[..12]))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_random_and_nothing_else_has_their_form() {
        let names: std::collections::BTreeSet<String> = (0..1000).map(|_| random()).collect();
        assert_eq!(names.len(), 1000);
        assert!(names.iter().all(|name| well_formed(name)));
        for id in ["", "..", "../../etc/passwd", "ABCDEF0123456789ABCDEF0123456789", &"a".repeat(33), "a\0"] {
            assert!(!well_formed(id), "{id:?}");
        }
    }

    #[test]
    fn secrets_are_compared_whole() {
        assert!(same_secret("correct horse", "correct horse"));
        for other in ["", "correct horsf", "correct hors", "correct horse "] {
            assert!(!same_secret("correct horse", other), "{other:?}");
        }
        assert!(!cookie_of("correct horse").contains("correct"));
    }
}

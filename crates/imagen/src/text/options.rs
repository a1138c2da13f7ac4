//! What the user may choose about a text encoder.

use serde::{Deserialize, Serialize};

use crate::models::weights::Storage;

/// What the user may choose about a text encoder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TextOptions {
    /// The largest number of tokens per caption (the paper does not state its own).
    pub max_length: usize,
    /// How far captions are padded.
    pub padding: Padding,
    /// How the matrices are kept in memory.
    pub storage: Storage,
}

impl Default for TextOptions {
    fn default() -> Self {
        Self { max_length: 64, padding: Padding::Longest, storage: Storage::Stored }
    }
}

impl TextOptions {
    /// What names an encoder of this family, with files of this hash, under these options.
    pub(super) fn identity(&self, family: &str, hash: u64) -> String {
        let mut identity = format!("{family}-{hash:016x}-{}", self.max_length);
        if self.padding == Padding::MaxLength {
            identity += "-padded";
        }
        if self.storage != Storage::Stored {
            identity += "-";
            identity += self.storage.name();
        }
        identity
    }
}

/// How far the captions of a batch are padded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Padding {
    /// To the longest of them; embeddings are 0 there.
    #[default]
    Longest,
    /// To [`TextOptions::max_length`]; the padding has the embeddings that the network gives it.
    MaxLength,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_option_that_changes_embeddings_is_part_of_the_identity() {
        let options = TextOptions::default();
        assert_eq!(options.identity("t5", 7), "t5-0000000000000007-64");
        let options = TextOptions { max_length: 77, padding: Padding::MaxLength, storage: Storage::Int8 };
        assert_eq!(options.identity("t5", 7), "t5-0000000000000007-77-padded-int8");
    }

    #[test]
    fn options_are_read_by_their_names() {
        let options: TextOptions = serde_json::from_str(r#"{"padding":"max_length","storage":"bf16"}"#).unwrap();
        assert_eq!(options, TextOptions { max_length: 64, padding: Padding::MaxLength, storage: Storage::Bf16 });
        assert!(serde_json::from_str::<TextOptions>(r#"{"length":1}"#).is_err());
    }
}

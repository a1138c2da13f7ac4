//! What there is to tell of a cache.

/// What happens while a cache is opened and completed.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum CacheEvent<'a> {
    /// The file was made by another encoder, or with another maximum length; all captions are encoded anew.
    OtherEncoder {
        /// The identity in the file.
        found: &'a str,
    },
    /// The file is damaged; all captions are encoded anew.
    Damaged {
        /// What is wrong with it.
        why: &'a str,
    },
    /// A caption is longer than the encoder reads.
    Cut {
        /// The whole caption.
        caption: &'a str,
        /// The part at its end that has no influence.
        lost: &'a str,
    },
    /// So many of the captions that were not in the file are encoded by now.
    Encoded {
        /// Captions done.
        done: usize,
        /// Captions to do in all.
        of: usize,
    },
}

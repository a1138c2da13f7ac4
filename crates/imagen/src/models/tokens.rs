//! What all language models do with token ids before they compute: whether they form a batch, and their vectors.

use super::weights::Table;
use crate::error::{Error, Result};

/// The length t of `batch` sequences, row by row in `ids`.
///
/// # Errors
/// `Usage` when `ids` and `mask` do not form as many rows.
pub(super) fn length(ids: &[u32], mask: &[bool], batch: usize) -> Result<usize> {
    let t = ids.len().checked_div(batch).unwrap_or(0);
    if t == 0 || t * batch != ids.len() || mask.len() != ids.len() {
        let (ids, mask) = (ids.len(), mask.len());
        return Err(Error::usage(format!("{ids} token ids and {mask} mask values do not form {batch} sequences")));
    }
    Ok(t)
}

/// The vectors of these tokens, row by row.
///
/// # Errors
/// `Model` when an id is not in the vocabulary.
pub(super) fn embed(words: &Table, ids: &[u32]) -> Result<Vec<f32>> {
    let d = words.columns();
    let mut embedded = vec![0.0; ids.len() * d];
    for (row, &id) in embedded.chunks_mut(d).zip(ids) {
        if id as usize >= words.rows() {
            let rows = words.rows();
            return Err(Error::model(format!(
                "token id {id} is not in the vocabulary of {rows}; the tokenizer belongs to another model"
            )));
        }
        words.row(id as usize, row);
    }
    Ok(embedded)
}

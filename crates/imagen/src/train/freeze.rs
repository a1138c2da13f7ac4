//! Frozen parts: parameters that a run leaves as they are, chosen by patterns over their names (`train.freeze`).
//!
//! `*` stands for any run of characters, `?` for one; `embedder.*` is everything below `embedder`. Frozen parameters get
//! neither gradient nor moments.

use std::collections::BTreeSet;

use burn::module::Param;
use burn::tensor::Tensor;
use glob::Pattern;

use crate::error::{Error, Result};
use crate::models::unet::Unet;
use crate::nn::{self, Change};

/// The names of the network's parameters that these patterns choose.
///
/// # Errors
/// `Data` where a pattern cannot be read or chooses nothing, or where nothing would be left to learn.
pub(super) fn frozen(unet: &Unet, patterns: &[String]) -> Result<BTreeSet<String>> {
    let mut names = Vec::new();
    nn::visit(unet, |name, _| names.push(name.to_owned()));
    let mut frozen = BTreeSet::new();
    for text in patterns {
        let wrong = |why: String| Error::data(format!("train.freeze: {text:?} {why}"));
        let pattern = Pattern::new(text).map_err(|e| wrong(format!("is no pattern: {e}")))?;
        let before = names.iter().filter(|name| pattern.matches(name));
        let chosen: Vec<String> = before.cloned().collect();
        if chosen.is_empty() {
            let likeness = |name: &&String| (strsim::normalized_damerau_levenshtein(text, name) * 1e6) as u64;
            let near = names.iter().max_by_key(likeness).expect("a network has parameters");
            return Err(wrong(format!("matches no parameter; there is, for example, {near:?}")));
        }
        frozen.extend(chosen);
    }
    if frozen.len() == names.len() {
        return Err(Error::data("train.freeze matches every parameter: nothing is left to train"));
    }
    Ok(frozen)
}

/// The network with these parameters cut off from the gradient.
pub(super) fn freeze(unet: Unet, frozen: &BTreeSet<String>) -> Unet {
    struct Freeze<'a>(&'a BTreeSet<String>);
    impl Change for Freeze<'_> {
        fn change<const D: usize>(&mut self, name: &str, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            if !self.0.contains(name) {
                return param;
            }
            let (id, tensor, mapper) = param.consume();
            Param::from_mapped_value(id, Tensor::from_inner(tensor.inner()), mapper)
        }
    }
    if frozen.is_empty() { unet } else { nn::change(unet, &mut Freeze(frozen)) }
}

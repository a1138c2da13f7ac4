//! Which files of a repository this program reads: configurations, tokenizers, safetensors; one variant of each weight; never
//! pickled ones, other frameworks' or pictures.

use std::collections::{BTreeMap, BTreeSet};

/// Which of the published precisions of a weight is taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Variant {
    /// Half precision where it is published, which is half the download
    #[default]
    Fp16,
    /// The file without a variant in its name
    Full,
}

/// A file of a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct File {
    /// Its path in the repository.
    pub(crate) name: String,
    /// Bytes.
    pub(crate) size: u64,
}

/// The files that are needed, and whether there are weights among them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Choice {
    pub(crate) files: Vec<File>,
    /// Weights in forms that are never read, where there are no safetensors.
    pub(crate) pickled: Vec<String>,
}

impl Choice {
    /// Bytes of all files.
    pub(crate) fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.size).sum()
    }
}

/// Texts that are read beside `.json` files.
const TEXTS: [&str; 4] = ["merges.txt", "vocab.txt", "spiece.model", "tokenizer.model"];
const PICKLED: [&str; 5] = [".bin", ".pt", ".pth", ".ckpt", ".pkl"];

/// Chooses among all files of a repository.
pub(crate) fn choose(files: &[File], variant: Variant) -> Choice {
    // weights by folder, as (name without variant and shard, variant)
    let mut variants: BTreeMap<&str, BTreeSet<Option<&str>>> = BTreeMap::new();
    for file in files.iter().filter(|file| file.name.ends_with(".safetensors")) {
        let (folder, name) = split(&file.name);
        variants.entry(folder).or_default().insert(variant_of(name));
    }
    let wanted = |folder: &str| -> Option<&str> {
        let there = variants.get(folder)?;
        let fp16 = there.contains(&Some("fp16")).then_some("fp16");
        match variant {
            Variant::Fp16 => fp16,
            Variant::Full => {
                if there.contains(&None) {
                    None
                } else {
                    fp16
                }
            }
        }
    };
    let is_needed = |file: &&File| {
        let (folder, name) = split(&file.name);
        if folder.contains('/') || folder.starts_with('.') {
            return false;
        }
        if name.ends_with(".safetensors")
            || name.ends_with(".safetensors.index.json")
            || name.contains(".safetensors.index.")
        {
            return variant_of(name) == wanted(folder);
        }
        let json = name.ends_with(".json")
            && !name.ends_with(".index.json")
            && !name.starts_with("tf_")
            && !name.starts_with("flax_");
        json || TEXTS.contains(&name) || name.to_lowercase().starts_with("license")
    };
    let files_needed: Vec<File> = files.iter().filter(is_needed).cloned().collect();
    let pickled = files.iter().filter(|file| {
        let (folder, name) = split(&file.name);
        PICKLED.iter().any(|ending| name.ends_with(ending)) && !variants.contains_key(folder)
    });
    Choice { pickled: pickled.map(|file| file.name.clone()).collect(), files: files_needed }
}

fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}

/// `model.fp16.safetensors`, `model.fp16-00001-of-00002.safetensors` and `model.safetensors.index.fp16.json` are of `fp16`.
fn variant_of(name: &str) -> Option<&str> {
    let middle = match name.split_once(".safetensors.index.") {
        Some((_, rest)) => rest.strip_suffix(".json")?,
        None => name.strip_suffix(".safetensors")?.split_once('.')?.1,
    };
    let middle = middle.split_once('-').map_or(middle, |(variant, _)| variant);
    (!middle.is_empty() && middle != "json").then_some(middle)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(names: &[&str], variant: Variant) -> Vec<String> {
        let files: Vec<File> = names.iter().map(|name| File { name: (*name).into(), size: 1 }).collect();
        choose(&files, variant).files.into_iter().map(|file| file.name).collect()
    }

    const CASCADE: [&str; 14] = [
        ".gitattributes",
        "README.md",
        "LICENSE",
        "model_index.json",
        "assets/picture.png",
        "scheduler/scheduler_config.json",
        "text_encoder/config.json",
        "text_encoder/model.fp16-00001-of-00002.safetensors",
        "text_encoder/model.safetensors.index.fp16.json",
        "text_encoder/model-00001-of-00002.safetensors",
        "text_encoder/model.safetensors.index.json",
        "text_encoder/pytorch_model.bin",
        "unet/diffusion_pytorch_model.fp16.safetensors",
        "unet/diffusion_pytorch_model.safetensors",
    ];

    #[test]
    fn one_variant_of_each_weight_is_taken() {
        let common = ["LICENSE", "model_index.json", "scheduler/scheduler_config.json", "text_encoder/config.json"];
        let half = chosen(&CASCADE, Variant::Fp16);
        assert_eq!(half[..4], common);
        assert_eq!(half[4..], [CASCADE[7], CASCADE[8], CASCADE[12]]);
        assert_eq!(chosen(&CASCADE, Variant::Full)[4..], [CASCADE[9], CASCADE[10], CASCADE[13]]);
    }

    #[test]
    fn weights_of_another_precision_alone_are_taken_as_they_are() {
        let names = ["config.json", "model.safetensors"];
        assert_eq!(chosen(&names, Variant::Fp16), names);
        let names = ["config.json", "model.fp16.safetensors"];
        assert_eq!(chosen(&names, Variant::Full), names);
    }

    #[test]
    fn pickled_weights_are_named_where_there_are_no_others() {
        let files = ["config.json", "spiece.model", "pytorch_model.bin", "tf_model.h5"];
        let files: Vec<File> = files.iter().map(|name| File { name: (*name).into(), size: 1 }).collect();
        let choice = choose(&files, Variant::Fp16);
        assert_eq!((choice.bytes(), &choice.pickled[..]), (2, &["pytorch_model.bin".to_owned()][..]));
    }
}

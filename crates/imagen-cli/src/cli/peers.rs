//! Flags that other programs have: each is answered with what there is here, instead of with one that is spelt alike.

use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::failure::Failure;

/// A flag of a peer, and what to do instead.
const FLAGS: [(&[&str], &str); 10] = [
    (
        &["--width", "--height", "--size", "--resolution", "-W", "-H"],
        "pictures are square, and the stages say how large: --until base is 64x64, sr256 256x256, sr1024 1024x1024",
    ),
    (&["--lora", "--lora-weights"], "there are no LoRA weights: fine-tune with `imagen train --init-from MODEL`"),
    (&["--gpu", "--cuda", "--cpu"], "where to compute is --device: cpu, cuda, rocm, metal, vulkan, webgpu or auto"),
    (&["--prompt", "--text", "-p"], "the prompt stands by itself: imagen sample \"a red apple\""),
    (&["--n-samples", "--num-images", "--num-images-per-prompt", "--batch-count"], "pictures per prompt are --count N"),
    (&["--scheduler", "--sampler-name"], "the rule of the steps is --sampler"),
    (&["--cfg", "--scale", "--cond-scale"], "how strongly the text pulls is --guidance W"),
    (&["--outdir", "--output-dir", "--out"], "where pictures go is --output FOLDER/, or a pattern of names"),
    (
        &["--fp16", "--half", "--bf16", "--precision"],
        "stored weights of 16 bits are read as they are; sums are of 32 bits",
    ),
    (&["--ckpt", "--checkpoint", "--weights"], "a model is a folder: --model FOLDER"),
];

/// The failure that explains a flag of a peer; none for any other error of the parser.
pub(super) fn explain(error: &clap::Error) -> Option<Failure> {
    if error.kind() != ErrorKind::UnknownArgument {
        return None;
    }
    let Some(ContextValue::String(given)) = error.get(ContextKind::InvalidArg) else { return None };
    if !given.starts_with('-') && given.contains('=') {
        let failure = Failure::usage(format_args!("what is {given} for?"));
        return Some(failure.hint(format_args!("each value of a recipe has a flag of its own: --set {given}")));
    }
    let (_, instead) = FLAGS.iter().find(|(names, _)| names.contains(&given.as_str()))?;
    Some(Failure::usage(format_args!("there is no flag {given} here")).hint(instead))
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;
    use crate::cli::Cli;

    #[test]
    fn every_flag_of_a_peer_is_answered_and_none_is_one_of_ours() {
        for (flag, instead) in FLAGS.iter().flat_map(|(names, instead)| names.iter().map(move |name| (name, instead))) {
            let error = Cli::try_parse_from(["imagen", "sample", "a cat", flag, "7"]).expect_err(flag);
            let failure = explain(&error).unwrap_or_else(|| panic!("{flag}: {error}"));
            assert_eq!(failure.to_string(), format!("error: there is no flag {flag} here\nhint: {instead}"));
        }
        let error = Cli::try_parse_from(["imagen", "sample", "a cat", "--stepz", "7"]).unwrap_err();
        assert!(explain(&error).is_none(), "misspelt flags are the parser's");
        Cli::command().debug_assert();
    }
}

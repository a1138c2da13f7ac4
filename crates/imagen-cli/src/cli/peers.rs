//! Flags that other programs have: each is answered with what there is here, instead of with one that is spelt alike.

use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::failure::Failure;
use crate::output::shell;

/// A flag of a peer, and what to do instead.
const FLAGS: [(&[&str], &str); 12] = [
    (
        &["--width", "--height", "--size", "--resolution", "-W", "-H"],
        "pictures are square, and the stages say how large: --until base is 64x64, sr256 256x256, sr1024 1024x1024",
    ),
    (&["--lora", "--lora-weights"], "there are no LoRA weights: fine-tune with `imagen train --init-from MODEL`"),
    (&["--gpu", "--cuda", "--cpu"], "where to compute is --device: cpu, cuda, rocm, metal, vulkan, webgpu or auto"),
    (&["--prompt", "--text", "-p"], "the prompt stands by itself: imagen sample \"a red apple\""),
    (
        &["--n-samples", "--n_samples", "--n_iter", "--num-images", "--num-images-per-prompt", "--batch-count"],
        "pictures per prompt are --count N",
    ),
    (&["--scheduler", "--sampler-name"], "the rule of the steps is --sampler"),
    (&["--cfg", "--scale", "--cond-scale"], "how strongly the text pulls is --guidance W"),
    (&["--ddim_steps", "--ddim-steps", "--num_inference_steps"], "the number of steps is --steps N"),
    (
        &["--lr", "--learning-rate", "--batch-size", "--epochs", "--train-batch-size", "--max-train-steps"],
        "what is trained, and how, stands in the recipe, and --set replaces a value: --set train.lr=1e-4 --set train.batch=8",
    ),
    (&["--outdir", "--output-dir", "--out"], "where pictures go is --output FOLDER/, or a pattern of names"),
    (&["--fp16", "--half", "--bf16"], "how exact the products are is --precision: f32 or bf16"),
    (&["--ckpt", "--checkpoint"], "a model is a folder: --model FOLDER"),
];

/// Verbs of other programs, or parts of verbs here, and the command that is meant.
const VERBS: [(&[&str], &str); 4] = [
    (&["draw", "generate", "txt2img", "img2img", "run", "create"], "imagen sample \"a red apple\""),
    (&["resume", "finetune", "fine-tune"], "imagen train RECIPE --run RUN, with --resume or --init-from"),
    (&["human", "study", "drawbench", "fid", "evaluate"], "imagen eval VERB; `imagen eval --help` lists them"),
    (&["pull", "list", "ls", "download"], "imagen models VERB; `imagen models --help` lists them"),
];

/// The failure that explains a flag or a verb of a peer; none for any other error of the parser.
pub(super) fn explain(error: &clap::Error) -> Option<Failure> {
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(given)) => Some(given.as_str()),
        _ => None,
    };
    match error.kind() {
        ErrorKind::UnknownArgument => flag(text(ContextKind::InvalidArg)?),
        ErrorKind::InvalidSubcommand => verb(text(ContextKind::InvalidSubcommand)?),
        _ => None,
    }
}

fn flag(given: &str) -> Option<Failure> {
    if !given.starts_with('-') && given.contains('=') {
        let failure = Failure::usage(format_args!("what is {given} for?"));
        return Some(failure.hint(format_args!("each value of a recipe has a flag of its own: --set {given}")));
    }
    let (_, instead) = FLAGS.iter().find(|(names, _)| names.contains(&given))?;
    Some(Failure::usage(format_args!("there is no flag {given} here")).hint(instead))
}

fn verb(given: &str) -> Option<Failure> {
    let failure = Failure::usage(format_args!("there is no verb {given:?}"));
    if given == "help" {
        return Some(failure.hint("imagen --help, or imagen VERB --help"));
    }
    if given.contains(char::is_whitespace) {
        return Some(failure.hint(format_args!("to draw that: imagen sample {}", shell::quote(given))));
    }
    let (_, meant) = VERBS.iter().find(|(names, _)| names.contains(&given))?;
    Some(failure.hint(format_args!("you may mean: {meant}")))
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
        for (given, meant) in
            [("a red apple", "imagen sample 'a red apple'"), ("help", "--help"), ("draw", "imagen sample")]
        {
            let error = Cli::try_parse_from(["imagen", given]).expect_err(given);
            assert!(explain(&error).expect(given).to_string().contains(meant), "{given}");
        }
        Cli::command().debug_assert();
    }
}

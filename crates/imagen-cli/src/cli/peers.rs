//! Flags and verbs that other programs have: each is answered with what there is here, instead of with one that is spelt
//! alike.

use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::failure::Failure;
use crate::output::shell;

/// A flag of a peer, and what to do instead.
const FLAGS: [(&[&str], &str); 15] = [
    (
        &["--width", "--height", "--size", "--resolution", "-W", "-H", "--W", "--H"],
        "pictures are square, and the stages say how large: --until base is 64x64, sr256 256x256, sr1024 1024x1024",
    ),
    (&["--lora-weights", "--lora-path", "--lora-scale"], "LoRA adapters are named with --lora FILE:STRENGTH"),
    (&["--gpu", "--cuda", "--cpu"], "where to compute is --device: cpu, cuda, rocm, metal, vulkan, webgpu or auto"),
    (&["--prompt", "--text", "-p"], "the prompt stands by itself: imagen sample \"a red apple\""),
    (
        &["--n-samples", "--n-iter", "--num-images", "--num-images-per-prompt", "--batch-count"],
        "pictures per prompt are --count N",
    ),
    (&["--scheduler", "--sampler-name"], "the rule of the steps is --sampler"),
    (&["--cfg", "--scale", "--cond-scale"], "how strongly the text pulls is --guidance W"),
    (&["--ddim-steps"], "the number of steps is --steps N"),
    (
        &["--hires", "--hires-fix", "--hr", "--upscale", "--upscaler", "--enable-hr"],
        "the stages after base enlarge: --until sr256 or sr1024, and --from sr256 --image FILE enlarges a picture",
    ),
    (
        &[
            "--controlnet",
            "--control-image",
            "--ip-adapter",
            "--refiner",
            "--vae",
            "--clip-skip",
            "--textual-inversion",
        ],
        "there is no network of that kind here; --image FILE with --strength or --mask begins with a picture",
    ),
    (
        &["--xformers", "--medvram", "--lowvram", "--no-half", "--opt-sdp-attention", "--skip-torch-cuda-test"],
        "leave it out: memory is bounded by --batch and --max-memory",
    ),
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

/// The arguments as this program spells them: `help VERB` is `VERB --help`, and a flag may have underscores for dashes.
pub(super) fn arguments(given: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut words: Vec<OsString> = given.collect();
    if words.get(1).is_some_and(|verb| verb == "help") {
        words.remove(1);
        words.push("--help".into());
    }
    let flags = words.iter().position(|word| word == "--").unwrap_or(words.len());
    for word in &mut words[..flags] {
        let Some(flag) = word.to_str().filter(|word| word.starts_with("--")) else { continue };
        let (name, value) = flag.split_at(flag.find('=').unwrap_or(flag.len()));
        if name.contains('_') {
            *word = format!("{}{value}", name.replace('_', "-")).into();
        }
    }
    words
}

/// What the parsers of numbers say, and how a person says it.
const NUMBERS: [(&str, &str); 4] = [
    ("invalid digit found in string", "expected a whole number"),
    ("cannot parse integer from empty string", "expected a whole number"),
    ("invalid float literal", "expected a number"),
    ("cannot parse float from empty string", "expected a number"),
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
        ErrorKind::ValueValidation => {
            let rendered = error.to_string();
            let (before, after) = NUMBERS.iter().find(|(before, _)| rendered.contains(before))?;
            let line = rendered.lines().next()?.trim_start_matches("error: ").replace(before, after);
            Some(Failure::usage(line).hint("`--help` after the verb lists what its flags take"))
        }
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
            let drawing = Cli::try_parse_from(["imagen", "sample", "a cat", flag, "7"]);
            let training = || Cli::try_parse_from(["imagen", "train", "a.toml", "--run", "a", flag, "7"]);
            // a batch is drawn with a flag, and trained with a key
            let error = drawing.err().filter(|_| *flag != "--batch-size").or_else(|| training().err()).expect(flag);
            let failure = explain(&error).unwrap_or_else(|| panic!("{flag}: {error}"));
            assert_eq!(failure.to_string(), format!("error: there is no flag {flag} here\nhint: {instead}"));
        }
        let error = Cli::try_parse_from(["imagen", "sample", "a cat", "--stepz", "7"]).unwrap_err();
        assert!(explain(&error).is_none(), "misspelt flags are the parser's");
        for (given, meant) in [("a red apple", "imagen sample 'a red apple'"), ("draw", "imagen sample")] {
            let error = Cli::try_parse_from(["imagen", given]).expect_err(given);
            assert!(explain(&error).expect(given).to_string().contains(meant), "{given}");
        }
        Cli::command().debug_assert();
    }

    #[test]
    fn help_is_a_verb_and_underscores_are_dashes() {
        let spelt = |words: &[&str]| -> Vec<String> {
            let words = std::iter::once("imagen").chain(words.iter().copied()).map(OsString::from);
            arguments(words).into_iter().skip(1).map(|word| word.into_string().unwrap()).collect()
        };
        assert_eq!(spelt(&["help"]), ["--help"]);
        assert_eq!(spelt(&["help", "eval", "fid"]), ["eval", "fid", "--help"]);
        assert_eq!(
            spelt(&["sample", "--guidance_scale=a_b", "my_prompt"]),
            ["sample", "--guidance-scale=a_b", "my_prompt"]
        );
        assert_eq!(spelt(&["sample", "--", "--my_prompt"]), ["sample", "--", "--my_prompt"]);
        let error = Cli::try_parse_from(["imagen", "sample", "a cat", "-n", "four"]).unwrap_err();
        let message = explain(&error).unwrap().to_string();
        assert!(message.contains("'four' for '--count <N>': expected a whole number"), "{message}");
    }
}

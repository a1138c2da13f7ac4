//! `imagen models prompts`: what a model was taught to draw, in its own captions.

use std::path::PathBuf;

use serde_json::json;

use imagen::data::Source;
use imagen::text::{self, TextOptions, known};
use imagen::train;

use crate::builtin;
use crate::cli::shared;
use crate::failure::{Exit, Failure, Result, print_line};

const EXAMPLES: &str = "\
Examples:
  imagen models prompts
  imagen models prompts --like \"a steam engine\"
  imagen models prompts --model models/mine --from data/mine";

/// List captions that a model was taught, or those nearest to a prompt
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Prompts {
    /// A model folder, or a pulled OWNER/NAME; the built-in model by default
    #[arg(short, long, value_name = "FOLDER|NAME")]
    model: Option<PathBuf>,
    /// Only the captions nearest to this prompt, the nearest first
    #[arg(long, value_name = "PROMPT")]
    like: Option<String>,
    /// How many at most
    #[arg(short = 'n', long, value_name = "N")]
    count: Option<usize>,
    /// Remember the captions of this set with the model folder first; `imagen export` does so by itself
    #[arg(long, value_name = "SET", requires = "model")]
    from: Option<PathBuf>,
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
}

impl Prompts {
    pub(super) fn run(self) -> Result<()> {
        let folder = self.model.as_deref().map(shared::model_folder).transpose()?;
        let files = shared::named_model(folder.as_deref())?;
        let encoder =
            || text::load(files.text_encoder_or(builtin::model().as_ref())?, &TextOptions::default(), &shared::cpu());
        if let (Some(set), Some(folder)) = (&self.from, &folder) {
            let learned = train::known_captions(&Source::open(set)?, encoder()?.as_ref())?;
            let learned = learned.ok_or_else(|| {
                Failure::new(Exit::Data, format_args!("{} has no captions to remember", set.display()))
            })?;
            learned.write(&folder.join(known::FILE))?;
        }
        let known = files.known_captions()?.ok_or_else(|| {
            let failure = Failure::new(Exit::Model, format_args!("{} does not say what it was taught", files.label()));
            failure.hint("remember the captions of its set with `imagen models prompts --model FOLDER --from SET`")
        })?;
        let count = self.count.unwrap_or(usize::MAX);
        let Some(prompt) = self.like else {
            let mut captions: Vec<&String> = known.captions().iter().collect();
            captions.sort();
            for caption in captions.into_iter().take(count) {
                print_line(if self.json { json!({ "caption": caption }).to_string() } else { caption.clone() })?;
            }
            return Ok(());
        };
        let count = self.count.unwrap_or(10);
        for near in known.near(encoder()?.as_ref(), &[&prompt], count)? {
            for (caption, similarity) in near.nearest {
                print_line(if self.json {
                    json!({ "caption": caption, "similarity": similarity }).to_string()
                } else {
                    format!("{similarity:.2}  {caption}")
                })?;
            }
        }
        Ok(())
    }
}

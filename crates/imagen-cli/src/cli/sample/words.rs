//! Words beside the prompts: what is kept away from, and prompts of single stages.

use std::collections::BTreeMap;

use imagen::cascade::StageName;

use crate::cli::draw::DRAW;
use crate::output::record::Remembered;

/// Words beside the prompts.
#[derive(Debug, Default, clap::Args)]
pub(super) struct WordArgs {
    /// What to keep away from; needs a guidance above 1
    ///
    /// It stands in place of the text that means nothing, from which guidance leads away.
    #[arg(long, value_name = "PROMPT", help_heading = DRAW, aliases = ["negative-prompt", "neg"])]
    #[arg(allow_hyphen_values = true)]
    negative: Option<String>,
    /// Read (red:1.3) in a prompt as a weight of its words, 0 to 3; without this it is text
    #[arg(long, hide_short_help = true, help_heading = DRAW)]
    pub(super) weights: bool,
    /// Another prompt for the base alone
    #[arg(long, hide_short_help = true, value_name = "PROMPT", help_heading = DRAW, allow_hyphen_values = true)]
    prompt_base: Option<String>,
    /// Another prompt for the stage sr256 alone
    #[arg(long, hide_short_help = true, value_name = "PROMPT", help_heading = DRAW, allow_hyphen_values = true)]
    prompt_sr256: Option<String>,
    /// Another prompt for the stage sr1024 alone
    #[arg(long, hide_short_help = true, value_name = "PROMPT", help_heading = DRAW, allow_hyphen_values = true)]
    prompt_sr1024: Option<String>,
}

impl WordArgs {
    /// What is kept away from: as given, else as remembered.
    pub(super) fn negative(&self, remembered: Option<&Remembered>) -> Vec<String> {
        let remembered = remembered.and_then(|remembered| remembered.negative.clone());
        self.negative.clone().or(remembered).into_iter().collect()
    }

    /// The prompts of single stages: as given, else as remembered for stages that run.
    pub(super) fn of_stages(
        &self,
        remembered: Option<&Remembered>,
        runs: impl Fn(StageName) -> bool,
    ) -> BTreeMap<StageName, String> {
        let mut prompts: BTreeMap<StageName, String> =
            remembered.map(|remembered| remembered.prompts.clone()).unwrap_or_default();
        prompts.retain(|stage, _| runs(*stage));
        let given = [&self.prompt_base, &self.prompt_sr256, &self.prompt_sr1024];
        prompts.extend(StageName::ALL.into_iter().zip(given).filter_map(|(stage, text)| Some((stage, text.clone()?))));
        prompts
    }
}

//! The command that draws a picture again.

use std::path::{Path, PathBuf};

use super::{Command, between};
use crate::output::{folder_of, shell};

impl Command<'_> {
    /// The command that draws picture `index` again, under the same name where somebody chose it.
    pub(super) fn again(&self, index: usize, path: Option<&Path>) -> String {
        let (subject, request) = (&self.subjects[index], &self.session.request);
        let mut words = vec!["imagen".to_owned(), "sample".to_owned()];
        let mut flag = |name: &str, value: String| words.extend([name.to_owned(), value]);
        let file = |path: &PathBuf| path.display().to_string();
        if let Some(model) = &self.verb.model.model {
            flag("--model", file(model));
        }
        for (name, value) in self.verb.model.frozen.flags() {
            value.into_iter().for_each(|value| flag(name, value));
        }
        for lora in &self.verb.model.lora {
            flag("--lora", lora.given());
        }
        flag("--seed", subject.seed.to_string());
        if let Some(seed) = request.pictures[index].enlarging {
            flag("--sr-seed", seed.to_string());
        }
        if let Some(from) = request.from {
            flag("--from", from.to_string());
        }
        if let Some(until) = request.until {
            flag("--until", until.to_string());
        }
        self.session.flags().into_iter().for_each(|(name, value)| flag(name, value));
        if let Some(negative) = request.negative_of(index) {
            flag("--negative", negative.to_owned());
        }
        for (stage, prompt) in &request.stage_prompts {
            flag(&format!("--prompt-{stage}"), prompt.clone());
        }
        between::flags(request, index).into_iter().for_each(|(name, value)| flag(name, value));
        let begin = self.verb.begin.flags(request, self.start.as_ref());
        begin.into_iter().for_each(|(name, value)| flag(name, value));
        let literal = |path: &Path| path.display().to_string().replace('{', "{{").replace('}', "}}");
        match path {
            Some(path) if self.verb.output.is_chosen() => {
                flag("--output", literal(path));
                words.push("--force".to_owned());
            }
            Some(path) if folder_of(path) != Path::new(".") => {
                flag("--output", format!("{}/", literal(folder_of(path))));
            }
            _ => {}
        }
        if request.weighted {
            words.push("--weights".to_owned());
        }
        for (name, given) in [("--no-clean", self.verb.no_clean), ("--no-metadata", self.verb.no_metadata)] {
            words.extend(given.then(|| name.to_owned()));
        }
        if subject.prompt.starts_with('-') {
            words.push("--".to_owned());
        }
        words.push(subject.prompt.clone());
        words.iter().map(|word| shell::quote(word)).collect::<Vec<_>>().join(" ")
    }
}

//! `--lora`: low-rank adapters over a model's weights, and what a picture's record says of them.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use imagen::cascade::lora::Lora;
use imagen::cascade::{Imagen, StageName};

use crate::failure::{Exit, Failure, Result};
use crate::output::record::{LoraRecord, digest_of};
use crate::progress::Progress;

/// A file of adapters, or a run that learned some, and how strongly they count.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::cli) struct LoraArg {
    path: PathBuf,
    strength: f64,
}

impl FromStr for LoraArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (path, strength) = match text.rsplit_once(':').map(|(path, number)| (path, number.parse::<f64>())) {
            Some((path, Ok(strength))) => (path, strength),
            _ => (text, 1.0),
        };
        if path.is_empty() || !strength.is_finite() {
            Err("expected FILE or FILE:STRENGTH, e.g. runs/mine:0.8".to_owned())
        } else {
            Ok(Self { path: path.into(), strength })
        }
    }
}

impl LoraArg {
    /// The flag's value again.
    pub(in crate::cli) fn given(&self) -> String {
        let path = self.path.display();
        // a path may end as a strength does
        if self.strength == 1.0 && !path.to_string().contains(':') {
            path.to_string()
        } else {
            format!("{path}:{}", self.strength)
        }
    }

    /// The files that are meant.
    fn files(&self) -> Result<Vec<PathBuf>> {
        if self.path.is_file() {
            return Ok(vec![self.path.clone()]);
        }
        if !self.path.is_dir() {
            let failure = Failure::new(Exit::Model, format_args!("there are no adapters at {}", self.path.display()));
            return Err(failure.hint("name a file, or a run whose recipe has train.lora"));
        }
        let all = StageName::ALL.map(|stage| self.path.join(Lora::file_name(stage)));
        let files: Vec<PathBuf> = all.into_iter().filter(|file| file.exists()).collect();
        if files.is_empty() {
            let message = format!("{} holds no adapters: expected a file such as {}", self.path.display(), {
                Lora::file_name(StageName::Base)
            });
            return Err(
                Failure::new(Exit::Model, message).hint("a run learns adapters where its recipe has train.lora")
            );
        }
        Ok(files)
    }
}

/// The model with these adapters, and what pictures say of them.
pub(super) fn adapted(mut imagen: Imagen, loras: &[LoraArg], progress: &Progress) -> Result<(Imagen, Vec<LoraRecord>)> {
    let mut records = Vec::new();
    for arg in loras {
        for file in arg.files()? {
            let lora = Lora::open(&file)?;
            let steps = lora.step.map(|step| format!(", step {step}")).unwrap_or_default();
            let strength = if arg.strength == 1.0 { String::new() } else { format!(" times {}", arg.strength) };
            progress.note(format_args!("with {}{strength} ({}{steps})", file.display(), lora.stage));
            let bytes = std::fs::read(&file).map_err(|e| imagen::Error::io("read", &file, e))?;
            let record = LoraRecord { name: name_of(&file), digest: digest_of(&bytes), strength: arg.strength };
            imagen = imagen.with_lora(lora, arg.strength)?;
            records.push(record);
        }
    }
    Ok((imagen, records))
}

/// What a file is called in records, which hold no paths: its own name, or its folder's where a run gave the name.
fn name_of(file: &Path) -> String {
    let name = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let own = name(file);
    if StageName::ALL.iter().any(|stage| Lora::file_name(*stage) == own) {
        file.parent().map(name).filter(|folder| !folder.is_empty()).unwrap_or(own)
    } else {
        own.trim_end_matches(".safetensors").to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_strength_follows_the_last_colon_where_it_is_a_number() {
        for (text, path, strength) in [
            ("a.safetensors", "a.safetensors", 1.0),
            ("runs/mine:0.8", "runs/mine", 0.8),
            ("C:a.safetensors", "C:a.safetensors", 1.0),
            ("C:a.safetensors:-0.5", "C:a.safetensors", -0.5),
            ("odd:2:1", "odd:2", 1.0),
        ] {
            let arg: LoraArg = text.parse().unwrap();
            assert_eq!((arg.path.as_path(), arg.strength), (Path::new(path), strength), "{text}");
            assert_eq!(arg.given().parse::<LoraArg>().unwrap(), arg, "{text} is said again");
        }
        for text in ["", ":0.8", "a:inf", "a:NaN"] {
            assert!(text.parse::<LoraArg>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_file_that_a_run_named_goes_by_the_runs_name() {
        assert_eq!(name_of(Path::new("runs/mine/base.lora.safetensors")), "mine");
        assert_eq!(name_of(Path::new("down/my-style.safetensors")), "my-style");
        assert_eq!(name_of(Path::new("base.lora.safetensors")), "base.lora.safetensors");
    }
}

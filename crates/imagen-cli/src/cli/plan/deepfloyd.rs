//! `imagen plan` over folders of DeepFloyd IF: what text encoder, networks and safety checker take one after the other, and what
//! would fit where they do not. `imagen sample` refuses by the same numbers.

use std::path::{Path, PathBuf};

use imagen::cascade::deepfloyd::{DeepFloyd, IfNeed, IfRequest};
use imagen::models::weights::Storage;

use super::{DRAWING_SHARE, Estimate, MaxMemory};
use crate::cli::shared;
use crate::failure::Result;
use crate::system::{bytes, count};

/// The program itself, with the pages of mapped files that are being read.
const PROGRAM: u64 = 160 << 20;

/// What only folders of DeepFloyd IF have.
#[derive(Debug, Default, clap::Args)]
pub(in crate::cli) struct DeepFloydPlan {
    /// DeepFloyd IF: the second stage; a subfolder of the model where absent
    #[arg(long, value_name = "FOLDER|NAME")]
    model_2: Option<PathBuf>,
    #[command(flatten)]
    storage: Storages,
}

/// `--storage` and `--text-storage`
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub(in crate::cli) struct Storages {
    /// DeepFloyd IF: how the networks' weights are kept in memory; as the files have them where absent
    #[arg(long, hide_short_help = true, value_name = "FORM", value_parser = shared::storages(), help_heading = "Model and machine")]
    storage: Option<Storage>,
    /// DeepFloyd IF: the same of the text encoder
    #[arg(long, hide_short_help = true, value_name = "FORM", value_parser = shared::storages(), help_heading = "Model and machine")]
    text_storage: Option<Storage>,
}

impl Storages {
    /// Whether one was given.
    pub(in crate::cli) fn given(&self) -> bool {
        self.storage.is_some() || self.text_storage.is_some()
    }

    /// Of the networks and of the text encoder.
    pub(in crate::cli) fn pair(&self) -> (Storage, Storage) {
        (self.storage.unwrap_or_default(), self.text_storage.unwrap_or_default())
    }
}

impl DeepFloydPlan {
    /// Whether a flag was given.
    pub(super) fn given(&self) -> bool {
        self.model_2.is_some() || self.storage.given()
    }

    pub(super) fn storage(&self) -> (Storage, Storage) {
        self.storage.pair()
    }

    /// The model, and one batch of pictures.
    pub(super) fn open(&self, folder: &Path, batch: u64) -> Result<(DeepFloyd, IfRequest)> {
        let second = self.model_2.as_deref().map(shared::model_folder).transpose()?;
        let model = DeepFloyd::open(folder, second.as_deref(), &shared::device())?;
        // a second stage alone enlarges a picture, whatever it shows
        let alone = model.stages()[0] != imagen::cascade::StageName::Base;
        let start = alone.then(|| imagen::image::Picture::filled(64, 64, [0; 3]));
        let request = IfRequest {
            prompts: vec![String::new()],
            count: batch as usize,
            batch: batch as usize,
            start,
            ..IfRequest::default()
        };
        Ok((model, request))
    }

    /// The model, and what each of its parts takes for one picture.
    pub(in crate::cli) fn parts(&self, folder: &Path) -> Result<(DeepFloyd, Vec<IfNeed>)> {
        let (model, request) = self.open(folder, 1)?;
        let (networks, text) = self.storage();
        let needs = model.needs(&request, networks, text)?;
        Ok((model, needs))
    }

    pub(super) fn estimates(&self, model: &DeepFloyd, request: &IfRequest, rate: f64) -> Result<Vec<Estimate>> {
        let (networks, text) = self.storage();
        Ok(model.needs(request, networks, text)?.iter().map(|need| estimate(need, rate)).collect())
    }
}

fn estimate(need: &IfNeed, rate: f64) -> Estimate {
    let mut memory = vec![
        ("weights".to_owned(), need.weights),
        ("maps, or reading".to_owned(), need.maps.max(need.reading)),
        ("program".to_owned(), PROGRAM),
    ];
    if need.checker > 0 {
        memory.insert(2, ("safety checker".to_owned(), need.checker));
    }
    let parameters =
        if need.parameters > 0 { format!(", {} parameters", count(need.parameters)) } else { String::new() };
    Estimate {
        title: format!("{}{parameters}", need.what),
        bytes: need.bytes() + PROGRAM,
        memory,
        work: ("evaluations", need.evaluations, need.multiply_adds, need.multiply_adds as f64 / (rate * DRAWING_SHARE)),
        warnings: Vec::new(),
    }
}

/// The most bytes at a time.
fn most(model: &DeepFloyd, request: &IfRequest, (networks, text): (Storage, Storage)) -> Result<(u64, String)> {
    let needs = model.needs(request, networks, text)?;
    let largest = needs.iter().max_by_key(|need| need.bytes());
    Ok(largest.map_or((0, String::new()), |need| (need.bytes() + PROGRAM, need.what.clone())))
}

/// Refuses what does not fit, and says what would.
pub(in crate::cli) fn check(
    memory: &MaxMemory,
    model: &DeepFloyd,
    request: &IfRequest,
    storage: (Storage, Storage),
) -> Result<()> {
    let (needed, part) = most(model, request, storage)?;
    let Err(failure) = memory.check(&format!("drawing this (its {part})"), needed) else { return Ok(()) };
    let limit = memory.limit().unwrap_or(u64::MAX);
    let mut least = needed;
    let small = IfRequest { batch: 1, ..request.clone() };
    for (text, text_flag) in
        [(storage.1, ""), (Storage::F16, " --text-storage f16"), (Storage::Int8, " --text-storage int8")]
    {
        for (networks, flag) in [(storage.0, ""), (Storage::F16, " --storage f16"), (Storage::Int8, " --storage int8")]
        {
            for (request, batch_flag) in [(request, ""), (&small, " --batch 1")] {
                let (bytes_needed, _) = most(model, request, (networks, text))?;
                if bytes_needed <= limit {
                    let flags = format!("{text_flag}{flag}{batch_flag}");
                    return Err(failure.hint(format_args!("it would fit with{flags}: about {}", bytes(bytes_needed))));
                }
                least = least.min(bytes_needed);
            }
        }
    }
    Err(failure.hint(format_args!(
        "the least that it can take is about {}, with every --storage int8; --embeddings does without the text encoder",
        bytes(least)
    )))
}

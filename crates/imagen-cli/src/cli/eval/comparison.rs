//! What the distances of two sets have in common: which sets, read or drawn, and how a number is told with everything that
//! it depends on. A verb brings what it measures.

use std::path::PathBuf;

use burn::tensor::Device;
use clap::builder::RangedU64ValueParser;
use serde_json::{Map, Value, json};

use imagen::data::Split;
use imagen::eval::Summary;

use super::drawing::DrawingArgs;
use super::features::Features;
use super::finding::{Finding, Measure, notes, protocol_json};
use super::pictures::Set;
use super::samples;
use crate::cli::shared::one_of;
use crate::failure::{Failure, Result, print_line};
use crate::interrupt;
use crate::progress::Progress;

/// Which sets are compared.
#[derive(Debug, clap::Args)]
pub(super) struct Comparison {
    /// A folder of pictures, a tar shard, or a file of `imagen eval stats`
    #[arg(required_unless_present = "samples", conflicts_with = "samples")]
    a: Option<PathBuf>,
    /// The set to compare it with
    #[arg(required_unless_present = "samples", conflicts_with = "samples")]
    b: Option<PathBuf>,
    /// The part of A; all of it by default
    #[arg(long, value_name = "SPLIT", value_parser = one_of::<Split>(), conflicts_with = "samples")]
    split_a: Option<Split>,
    /// The part of B; all of it by default
    #[arg(long, value_name = "SPLIT", value_parser = one_of::<Split>(), conflicts_with = "samples")]
    split_b: Option<Split>,
    /// Draw so many captions of --data and compare what comes out
    #[arg(long, value_name = "N", requires = "data")]
    #[arg(value_parser = RangedU64ValueParser::<usize>::new().range(4..=100_000))]
    pub(super) samples: Option<usize>,
    /// The set whose captions are drawn
    #[arg(long, value_name = "FOLDER", requires = "samples")]
    data: Option<PathBuf>,
    /// Seed: of whatever is drawn at random, of the captions, and of the first picture
    #[arg(short, long, default_value_t = 0)]
    pub(super) seed: u64,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// Print no progress
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    pub(super) features: Features,
    #[command(flatten)]
    pub(super) drawing: DrawingArgs,
}

/// Whether single pictures' features are needed beside their statistics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keep {
    /// Memory is not to grow with the number of pictures.
    No,
    /// They give an interval, where they are there.
    Welcome,
    /// There is no number without them.
    Needed,
}

impl Comparison {
    /// Reads or draws the sets, measures and prints. Drawn sets keep their features whatever `keep` says.
    pub(super) fn run(&self, keep: Keep, measure: &Measure<'_>) -> Result<()> {
        self.drawing.how.machine.compute(|found| self.run_on(keep, measure, &found.device))
    }

    fn run_on(&self, keep: Keep, measure: &Measure<'_>, device: &Device) -> Result<()> {
        let mut progress = Progress::new(self.quiet);
        if let (Some(count), Some(data)) = (self.samples, &self.data) {
            interrupt::watch("stopping; there is no result without all pictures")?;
            let extractor = self.features.open(device)?;
            let (drawing, seed) = (&self.drawing, self.seed);
            let sets = samples::Drawing { data, count, seed, drawing, device, extractor: &extractor };
            let table = samples::Table::draw(&sets, measure, &mut progress)?;
            return print_line(if self.json { table.to_json().to_string() } else { table.describe() });
        }
        interrupt::watch("stopping")?;
        let (Some(a), Some(b)) = (&self.a, &self.b) else { unreachable!("clap requires both without --samples") };
        let sets = [Set { path: a, split: self.split_a }, Set { path: b, split: self.split_b }];
        let summaries = self.read(&sets, keep, device, &mut progress)?;
        let findings = measure(&summaries[0], &summaries[1])?;
        print_line(if self.json {
            to_json(&sets, &summaries, &findings).to_string()
        } else {
            describe(&sets, &summaries, &findings)
        })
    }

    /// Both sets. Files come first: what cannot be compared is said before minutes of reading.
    fn read(&self, sets: &[Set<'_>; 2], keep: Keep, device: &Device, progress: &mut Progress) -> Result<[Summary; 2]> {
        let mut stored = [sets[0].stored()?, sets[1].stored()?];
        if keep == Keep::Needed {
            let bare = |s: &Option<Summary>| s.as_ref().is_some_and(|s| s.features().is_none());
            if let Some((set, _)) = sets.iter().zip(&stored).find(|(set, stored)| set.is_npz() || bare(stored)) {
                let failure = Failure::usage(format_args!("{} holds no features of single pictures", set.label()));
                return Err(failure.hint("make it anew with `imagen eval stats FOLDER --features -o FILE`"));
            }
        }
        // an archive is under the protocol of what it is compared with
        if let Some(protocol) = stored.iter().flatten().next().map(|file| file.protocol().clone()) {
            for (set, stored) in sets.iter().zip(&mut stored).filter(|(set, _)| set.is_npz()) {
                *stored = Some(set.load_npz(&protocol)?);
            }
        }
        if stored.iter().any(Option::is_none) {
            let extractor = self.features.open(device)?;
            for file in stored.iter().flatten() {
                file.protocol().check_same(extractor.protocol()).map_err(|error| {
                    Failure::from(error)
                        .hint("give --inception and --resize as when the file was made, or make it anew")
                })?;
            }
            for (set, stored) in sets.iter().zip(&mut stored).filter(|(_, stored)| stored.is_none()) {
                *stored = Some(if set.is_npz() {
                    set.load_npz(extractor.protocol())?
                } else {
                    set.read(&extractor, keep != Keep::No, progress)?
                });
            }
        }
        let [Some(a), Some(b)] = stored else { unreachable!("both were read") };
        a.protocol().check_same(b.protocol())?;
        Ok([a, b])
    }
}

/// Two sets and what was measured of them.
pub(super) fn to_json(sets: &[Set<'_>; 2], summaries: &[Summary; 2], findings: &[Finding]) -> Value {
    let mut fields = Map::new();
    for finding in findings {
        fields.insert(finding.key.into(), json!(finding.value));
        let key = if findings.len() == 1 { "interval".to_owned() } else { format!("{}_interval", finding.key) };
        fields.insert(key, json!(finding.interval));
    }
    fields.insert("way".into(), json!(findings[0].way));
    fields.extend(protocol_json(summaries[0].protocol()));
    for (name, (set, summary)) in ["a", "b"].into_iter().zip(sets.iter().zip(summaries)) {
        fields.insert(name.into(), json!({ "set": set.label(), "pictures": summary.pictures() }));
    }
    fields.insert("note".into(), json!(notes(findings)));
    Value::Object(fields)
}

/// The findings as people read them.
pub(super) fn describe(sets: &[Set<'_>; 2], summaries: &[Summary; 2], findings: &[Finding]) -> String {
    let protocol = summaries[0].protocol();
    let number = |finding: &Finding| format!("{} ({}): {}", finding.name, protocol.extractor, finding.describe());
    let mut lines: Vec<String> = findings.iter().map(number).collect();
    lines.extend(sets.iter().zip(summaries).map(|(set, summary)| match summary.pictures() {
        Some(count) => format!("  {count} pictures of {}", set.label()),
        None => format!(
            "  {}, which does not say of how many pictures it is, nor how they were prepared: taken for made as below",
            set.label()
        ),
    }));
    lines.push(format!("  {protocol}; {}", findings[0].way));
    lines.extend(notes(findings).map(|note| format!("  note: {note}")));
    lines.join("\n")
}

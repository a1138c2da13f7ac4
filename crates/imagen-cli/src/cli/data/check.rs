//! `imagen data check`: what of a set cannot be used, and what is merely odd, counted and named.

use std::fmt::Write;

use rayon::iter::{IntoParallelRefIterator, ParallelIterator};
use serde_json::{Value, json};

use imagen::data::{Source, Split, Survey, allowed};
use imagen::error::shown;
use imagen::image::decode::FORMATS;
use imagen::said::counted;
use imagen::text::TextEncoder;

use super::looked::{LAYOUTS, Looked, token_counts};
use super::spread::Spread;
use crate::cli::shared::check_captioned;
use crate::failure::{Exit, Failure, Result, print_line};

/// How many names of a kind of trouble are printed; `--json` has all.
const SHOWN: usize = 5;

/// Look at every picture and caption of a set
///
/// Names what is damaged, too small, missing, without caption or there twice, and every file that is passed over. Exits with
/// code 3 where more entries than --max-bad allows cannot be used: pictures that cannot be read or are too small, captions
/// without a picture, texts, lines and shards that cannot be read.
#[derive(Debug, clap::Args)]
#[command(after_help = LAYOUTS)]
pub(super) struct Check {
    #[command(flatten)]
    looked: Looked,
    /// The least length of a picture's shorter side; a recipe's data.min_side
    #[arg(long, value_name = "PIXELS", default_value_t = 0)]
    min_side: usize,
    /// The largest part of the entries that may be unusable, e.g. 0.01; a recipe's data.max_bad. Above 0, one is forgiven
    #[arg(long, value_name = "PART", default_value_t = 0.0, value_parser = part)]
    max_bad: f64,
}

fn part(text: &str) -> Result<f64, String> {
    let part = text.parse::<f64>().map_err(|e| e.to_string())?;
    if (0.0..=1.0).contains(&part) { Ok(part) } else { Err("expected a part, from 0 to 1".to_owned()) }
}

impl Check {
    pub(super) fn run(self) -> Result<()> {
        let (source, survey) = self.looked.take(3)?;
        let encoder = self.looked.encoder(&source)?;
        let tokens = encoder.as_deref().map(|encoder| Tokens::count(&source, encoder)).transpose()?;
        let report = Report::new(&source, &survey, self.min_side, tokens);
        print_line(if self.looked.json { report.to_json().to_string() } else { report.describe() })?;
        let (unusable, entries) = (report.unusable(), source.examples().len() + source.odd().unusable());
        let folder = self.looked.folder.display();
        if !report.broken.is_empty() {
            let failure =
                Failure::new(Exit::Data, format_args!("{} drawings of {folder} cannot be read", report.broken.len()));
            return Err(failure.hint("make the bank again: a run would stop at the first of them"));
        }
        if report.usable == 0 {
            let failure = Failure::new(Exit::Data, format_args!("no picture of {folder} can be used"));
            return Err(
                failure.hint(format_args!("a set needs pictures ({FORMATS}), all of them with captions or none"))
            );
        }
        check_captioned(&source, &self.looked.folder)?;
        if unusable > allowed(self.max_bad, entries) {
            let failure = Failure::new(
                Exit::Data,
                match source.odd().unusable() {
                    0 => format!("{unusable} of the {} of {folder} cannot be used", counted(entries, "picture")),
                    texts => format!(
                        "{unusable} of the {entries} entries of {folder} cannot be used: pictures {}, texts and shards {texts}",
                        unusable - texts
                    ),
                },
            );
            return Err(failure.hint("mend or remove them, or allow some with --max-bad and a recipe's data.max_bad"));
        }
        Ok(())
    }
}

/// Lengths of the captions as the text encoder counts.
struct Tokens {
    spread: Spread,
    limit: usize,
    /// Captions that are longer than the encoder reads.
    cut: Vec<String>,
}

impl Tokens {
    fn count(source: &Source, encoder: &dyn TextEncoder) -> Result<Self> {
        let spread = Spread::of(token_counts(source, encoder)?).expect("there are captions");
        let is_cut = |caption: &&String| encoder.cut_text(caption).map(|cut| cut.map(|_| (*caption).clone()));
        let cut: Vec<Option<String>> =
            source.captions().par_iter().map(|caption| is_cut(&caption)).collect::<imagen::Result<_>>()?;
        Ok(Self { spread, limit: encoder.max_length(), cut: cut.into_iter().flatten().collect() })
    }
}

/// What the check found.
struct Report<'a> {
    source: &'a Source,
    usable: usize,
    /// Usable pictures of training and of validation.
    splits: [usize; 2],
    /// Usable pictures that are not square.
    cropped: usize,
    /// Shortest and longest side of all readable pictures.
    sides: Option<(usize, usize)>,
    /// Name and reason.
    unreadable: Vec<(&'a str, &'a str)>,
    /// Name, width and height.
    small: Vec<(&'a str, usize, usize)>,
    /// Pictures with the same pixels as an earlier one, and that one.
    copies: Vec<(&'a str, &'a str)>,
    /// Drawings of a world that cannot be read: file and reason.
    broken: Vec<(String, String)>,
    tokens: Option<Tokens>,
}

/// Two ends as one reads them: `8 to 64`, or `8` where they are one.
fn range(least: usize, most: usize) -> String {
    if least == most { least.to_string() } else { format!("{least} to {most}") }
}

/// Names with reasons, for people.
fn with_reasons(names: &[(String, String)]) -> Vec<String> {
    names.iter().map(|(name, reason)| format!("{name}: {reason}")).collect()
}

/// Names with reasons, for programs.
pub(super) fn named(names: &[(String, String)]) -> Vec<Value> {
    names.iter().map(|(name, reason)| json!({ "name": name, "reason": reason })).collect()
}

impl<'a> Report<'a> {
    fn new(source: &'a Source, survey: &'a Survey, min_side: usize, tokens: Option<Tokens>) -> Self {
        let name = |number: usize| source.examples()[number].name.as_str();
        let looks = survey.looks.iter().enumerate();
        let unreadable: Vec<_> = looks.filter_map(|(i, look)| Some((name(i), look.as_ref().err()?.as_str()))).collect();
        let small: Vec<_> = survey
            .readable()
            .filter(|(_, look)| look.side() < min_side)
            .map(|(i, look)| (name(i), look.width, look.height))
            .collect();
        let copies = survey.copies().into_iter().map(|(copy, first)| (name(copy), name(first))).collect();
        let least = survey.readable().map(|(_, look)| look.side()).min();
        let most = survey.readable().map(|(_, look)| look.width.max(look.height)).max();
        let usable = survey.looks.len() - unreadable.len() - small.len();
        let fit = || survey.readable().filter(|(_, look)| look.side() >= min_side);
        let of = |split| fit().filter(|(i, _)| source.examples()[*i].split == split).count();
        let splits = [of(Split::Train), of(Split::Validation)];
        let cropped = fit().filter(|(_, look)| look.width != look.height).count();
        let broken = source.world().map(|world| world.broken_drawings()).unwrap_or_default();
        Self { source, usable, splits, cropped, sides: least.zip(most), unreadable, small, copies, broken, tokens }
    }

    fn unusable(&self) -> usize {
        self.unreadable.len() + self.small.len() + self.source.odd().unusable()
    }

    /// Each kind of trouble, a noun and what is the matter, with its names.
    fn troubles(&self) -> [([&'static str; 2], Vec<String>); 11] {
        let odd = self.source.odd();
        let small = self.small.iter().map(|(name, width, height)| format!("{name} ({width}x{height})"));
        let cut = self.tokens.iter().flat_map(|tokens| &tokens.cut).cloned();
        [
            (
                ["picture", "that cannot be read"],
                self.unreadable.iter().map(|(_, reason)| (*reason).to_owned()).collect(),
            ),
            (["picture", "below the smallest side"], small.collect()),
            (["caption", "without a picture"], odd.missing.clone()),
            (["text or shard", "that cannot be read"], with_reasons(&odd.unusable)),
            (["text", "not in UTF-8, read by a guess"], odd.guessed.clone()),
            (["picture", "without a caption, or with an empty one; left out"], odd.uncaptioned.clone()),
            (["picture", "listed more than once"], odd.repeated.clone()),
            (
                ["picture", "identical to another"],
                self.copies.iter().map(|(copy, first)| format!("{copy} of {first}")).collect(),
            ),
            (["drawing", "that cannot be read"], self.broken.iter().map(|(_, reason)| reason.clone()).collect()),
            (["caption", "longer than the text encoder reads"], cut.collect()),
            (["file", "passed over"], with_reasons(&odd.passed)),
        ]
    }

    fn describe(&self) -> String {
        let captions = self.source.captions();
        let longest = captions.iter().map(|text| text.chars().count()).max().unwrap_or(0);
        let mut text = format!(
            "found {}\n{} of {} can be used ({} to train, {} to validate)",
            self.source.origin(),
            self.usable,
            counted(self.source.examples().len() + self.source.odd().uncaptioned.len(), "picture"),
            self.splits[0],
            self.splits[1],
        );
        let mut line = |line: String| write!(text, "\n{line}").expect("writing to a string");
        if !captions.is_empty() {
            let (captions, longest) = (counted(captions.len(), "caption"), counted(longest, "character"));
            line(format!("{captions}, the longest of {longest}"));
        }
        if let Some(Tokens { spread, limit, cut }) = &self.tokens {
            let (range, mean) = (range(spread.min, spread.max), spread.mean);
            line(format!("{range} tokens in a caption, {mean:.1} on average; {} cut at {limit}", cut.len()));
        }
        if let Some((least, most)) = self.sides {
            line(format!("sides of {} pixels", range(least, most)));
        }
        if self.cropped > 0 {
            let (are, of) =
                (counted(self.cropped, "picture"), "of each the middle square is used, unless a recipe says otherwise");
            line(format!("{are} not square: {of}"));
        }
        for ([noun, matter], names) in self.troubles().into_iter().filter(|(_, names)| !names.is_empty()) {
            line(format!("{} {matter}:", counted(names.len(), noun)));
            names.iter().take(SHOWN).for_each(|name| line(format!("  {}", shown(name))));
            if names.len() > SHOWN {
                line(format!("  and {} more", names.len() - SHOWN));
            }
        }
        text
    }

    fn to_json(&self) -> Value {
        let odd = self.source.odd();
        let unreadable = self.unreadable.iter().map(|(name, reason)| json!({ "name": name, "reason": reason }));
        let small =
            self.small.iter().map(|(name, width, height)| json!({ "name": name, "width": width, "height": height }));
        let copies = self.copies.iter().map(|(copy, first)| json!({ "name": copy, "of": first }));
        let tokens = self.tokens.as_ref().map(|Tokens { spread, limit, cut }| {
            json!({ "min": spread.min, "max": spread.max, "mean": spread.mean, "limit": limit, "cut": cut })
        });
        json!({
            "detected": self.source.origin(),
            "usable": self.usable,
            "unusable": self.unusable(),
            "train": self.splits[0],
            "validation": self.splits[1],
            "not_square": self.cropped,
            "captions": self.source.captions().len(),
            "tokens": tokens,
            "shortest_side": self.sides.map(|(least, _)| least),
            "longest_side": self.sides.map(|(_, most)| most),
            "unreadable": unreadable.collect::<Vec<_>>(),
            "too_small": small.collect::<Vec<_>>(),
            "missing": odd.missing,
            "uncaptioned": odd.uncaptioned,
            "repeated": odd.repeated,
            "unusable_texts": named(&odd.unusable),
            "guessed_texts": odd.guessed,
            "passed_over": named(&odd.passed),
            "copies": copies.collect::<Vec<_>>(),
            "broken_drawings": self.broken.iter().map(|(file, reason)| json!({ "file": file, "reason": reason })).collect::<Vec<_>>(),
        })
    }
}

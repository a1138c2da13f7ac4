//! A run as one HTML page: facts, curves, sample grids and the super-resolution table, everything within the file.
//!
//! [`RunFacts::read`] takes from a run's folder what is there; a run without metrics or samples still has a page.
//! [`RunFacts::page`] is a function of that. The page opens no connection and needs no script to be read; a small one
//! adds the pointer's readings and the slider of the grids.

mod axis;
mod chart;
mod curves;
mod page;
mod svg;

pub(crate) use chart::{COLOURS, Chart, Look, PALETTE, Scale, Series};
pub(crate) use page::document;
pub(crate) use svg::{Anchor, Svg};

use std::fs;
use std::path::{Path, PathBuf};

use imagen::cascade::StageFile;
use imagen::train::{EnlargementReport, MetricsLine, Recipe, read_enlargement, read_metrics};

use crate::failure::{Exit, Failure, Result};

/// What a run's folder says.
#[derive(Debug)]
pub(crate) struct RunFacts {
    /// The folder as it was named.
    name: String,
    recipe: Recipe,
    /// Steps of the last saved stage, if there is one.
    saved: Option<u64>,
    metrics: Vec<MetricsLine>,
    /// Grids by step, newest first, at most as many as were asked for.
    grids: Vec<Grid>,
    /// Grids in the folder.
    grids_in_all: usize,
    enlargement: Option<EnlargementReport>,
}

/// A sample grid: the bytes of its PNG file.
#[derive(Debug)]
struct Grid {
    step: u64,
    png: Vec<u8>,
}

impl RunFacts {
    /// Reads a run's folder, and at most `grids` of its sample grids: the newest, and others evenly spread.
    ///
    /// # Errors
    /// `Data` where the folder holds no run; those of the recipe, the metrics and the files.
    pub(crate) fn read(folder: &Path, grids: usize) -> Result<Self> {
        let recipe = folder.join("recipe.toml");
        if !recipe.exists() {
            let failure = Failure::new(Exit::Data, format_args!("{} holds no run", folder.display()));
            return Err(failure.hint("name the folder that was given to `imagen train --run`: it holds recipe.toml"));
        }
        let recipe = Recipe::read(&recipe)?;
        let stage = folder.join(format!("{}.safetensors", recipe.stage.stage));
        let saved = if stage.exists() { Some(StageFile::open(&stage)?.record.step) } else { None };
        let files = grid_files(&folder.join("samples"))?;
        let mut read = Vec::new();
        for (step, path) in spread(&files, grids) {
            let png = fs::read(path).map_err(|e| Failure::io("read", path, &e))?;
            read.push(Grid { step: *step, png });
        }
        Ok(Self {
            name: folder.display().to_string(),
            recipe,
            saved,
            metrics: read_metrics(folder)?,
            grids: read,
            grids_in_all: files.len(),
            enlargement: read_enlargement(folder)?,
        })
    }
}

/// The grids of a folder by step, newest first; other files are none.
fn grid_files(folder: &Path) -> Result<Vec<(u64, PathBuf)>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(Failure::io("read", folder, &e)),
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(|e| Failure::io("read", folder, &e))?.path();
        let step = path.file_stem().and_then(|stem| stem.to_str()?.parse().ok());
        if let (Some(step), Some("png")) = (step, path.extension().and_then(|e| e.to_str())) {
            files.push((step, path));
        }
    }
    files.sort_by(|a, b| b.cmp(a));
    Ok(files)
}

/// At most `count` of the items, the first and the last among them, the others evenly between.
fn spread<T>(items: &[T], count: usize) -> Vec<&T> {
    if items.len() <= count {
        return items.iter().collect();
    }
    let last = items.len() - 1;
    (0..count).map(|i| &items[if count > 1 { i * last / (count - 1) } else { 0 }]).collect()
}

/// A text within HTML, also within a quoted attribute.
pub(crate) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_cannot_become_markup() {
        assert_eq!(
            escaped(r#"<img src="x" onerror='a&b'>"#),
            "&lt;img src=&quot;x&quot; onerror=&#39;a&amp;b&#39;&gt;"
        );
    }

    #[test]
    fn a_few_of_many_grids_span_the_run() {
        let items: Vec<usize> = (0..100).collect();
        assert_eq!(spread(&items, 4), [&0, &33, &66, &99]);
        assert_eq!((spread(&items, 1), spread(&items[..3], 7).len(), spread(&items, 0).len()), (vec![&0], 3, 0));
    }

    #[test]
    fn grids_are_found_by_number_and_newest_first() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["0000500.png", "0010000.png", "notes.txt", "0002000.png", "cat.png", "77.txt"] {
            fs::write(folder.path().join(name), name).unwrap();
        }
        let steps: Vec<u64> = grid_files(folder.path()).unwrap().into_iter().map(|(step, _)| step).collect();
        assert_eq!(steps, [10_000, 2000, 500]);
        assert_eq!(grid_files(&folder.path().join("nowhere")).unwrap(), []);
    }
}

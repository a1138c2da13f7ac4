//! `--grid`: all pictures of a command together in one PNG with their captions, beside the pictures themselves.

use std::collections::BTreeMap;
use std::path::PathBuf;

use imagen::image::{Picture, PngText, grid, png};

use crate::failure::{Failure, Result};
use crate::output::{check_new, labels, write_file};
use crate::progress::Progress;

/// Pixels between two pictures.
const GAP: usize = 4;
const BACKGROUND: [u8; 3] = [255; 3];

/// The sheet that pictures are laid on as they come.
pub(super) struct Sheet {
    path: PathBuf,
    columns: usize,
    /// What stands below each picture.
    captions: Vec<String>,
    /// By their place in the command.
    pictures: BTreeMap<usize, Picture>,
}

impl Sheet {
    /// A sheet for pictures with these captions, as many of each prompt: a row for each prompt where both are several.
    ///
    /// # Errors
    /// `Usage` where the file exists (unless `force`) or `Runtime` where its folder cannot be written to.
    pub(super) fn plan(path: PathBuf, captions: Vec<String>, count: usize, force: bool) -> Result<Self> {
        if path.extension().is_none_or(|extension| !extension.eq_ignore_ascii_case("png")) {
            let message = format!("--grid {}: only PNG is written; end the name in .png", path.display());
            return Err(Failure::usage(message));
        }
        check_new("--grid", &path, force)?;
        let columns = if count < captions.len() && count > 1 { count } else { columns_of(captions.len()) };
        Ok(Self { path, columns, captions, pictures: BTreeMap::new() })
    }

    pub(super) fn add(&mut self, index: usize, picture: Picture) {
        self.pictures.insert(index, picture);
    }

    /// Writes what there is, and says where.
    pub(super) fn write(self, progress: &Progress) -> Result<()> {
        let captions: Vec<String> = self.pictures.keys().map(|index| self.captions[*index].clone()).collect();
        let pictures = labels::below(self.pictures.into_values().collect(), &captions)?;
        let sheet = grid(&pictures, self.columns, GAP, BACKGROUND)?;
        let bytes = png::encode(&sheet, &PngText::default())?;
        write_file(&self.path, &bytes)?;
        progress.note(format_args!("grid: {}", self.path.display()));
        Ok(())
    }
}

/// The nearest number of columns to a square, rather wide than high, that leaves no place empty; where there is none below
/// two to one, the square.
fn columns_of(pictures: usize) -> usize {
    let square = (1..).find(|side| side * side >= pictures).unwrap_or(1);
    let full = (square..=pictures).take_while(|columns| columns * columns <= 2 * pictures);
    full.into_iter().find(|columns| pictures.is_multiple_of(*columns)).unwrap_or(square)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sheets_are_full_and_wide_where_they_can_be() {
        let found: Vec<usize> = [1, 2, 3, 4, 6, 7, 8, 9, 12, 16, 40].into_iter().map(columns_of).collect();
        assert_eq!(found, [1, 2, 2, 2, 3, 3, 4, 3, 4, 4, 8]);
    }
}

//! `imagen report`: a training run as one HTML page, and how faithful its super-resolution stage is.

use std::path::PathBuf;

use clap::builder::RangedU64ValueParser;

use imagen::train;

use super::shared::{self, TextEncoder, Threads};
use crate::failure::{Failure, Result, print_line};
use crate::interrupt;
use crate::output::write_document;
use crate::progress::Progress;
use crate::report::RunFacts;

const EXAMPLES: &str = "\
Examples:
  imagen report runs/shapes
  imagen report runs/sr256 --sr -o sr256.html";

/// Show a training run as one HTML page: facts, curves, sample grids, super-resolution table
///
/// The page needs nothing but a browser: no connection, no other file. It can be made while the run goes on.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Report {
    /// The run's folder
    run: PathBuf,
    /// The page; report.html in the run's folder by default
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Most sample grids on the page: the newest, and others evenly spread
    #[arg(long, value_name = "N", default_value_t = 24)]
    grids: usize,
    /// First measure how faithfully the run's super-resolution stage enlarges held-out pictures (PSNR over
    /// augmentation levels, beside bicubic); a finished run has done so already
    #[arg(long)]
    sr: bool,
    /// Pictures to measure with
    #[arg(long, value_name = "N", default_value = "8", requires = "sr")]
    #[arg(value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    sr_pictures: usize,
    /// Print nothing but the result and errors
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    text_encoder: TextEncoder,
    #[command(flatten)]
    threads: Threads,
}

impl Report {
    pub(crate) fn run(self) -> Result<()> {
        if self.sr {
            self.measure()?;
        }
        let page = RunFacts::read(&self.run, self.grids)?.page();
        let path = self.output.unwrap_or_else(|| self.run.join("report.html"));
        write_document(&path, page.as_bytes())?;
        print_line(path.display())
    }

    fn measure(&self) -> Result<()> {
        let text = self.text_encoder.files()?;
        self.threads.apply()?;
        interrupt::watch("stopping the measurement")?;
        let mut progress = Progress::new(self.quiet);
        let mut watch = |done, of| {
            progress.step("enlarge", done, of, "");
            interrupt::flow()
        };
        let report = train::measure_enlargement(&self.run, self.sr_pictures, text, &shared::cpu(), &mut watch)?;
        progress.finish();
        report.map(|_| ()).ok_or_else(|| Failure::interrupted("the measurement was stopped; nothing was written"))
    }
}

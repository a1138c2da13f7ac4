//! A study within the studio (`imagen serve`): what it is, its report, and the pages of its raters below an address of the studio's.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use axum::Router;
use serde_json::{Value, json};

use imagen::eval::human::{Mode, PlanOptions, RaterPlan, Study};

use super::app::{App, is_gallery, pages_of};
use super::report::page_of;
use super::store::Store;
use crate::failure::Result;

/// What a study is and how many voted; nothing where the folder holds none.
pub(in crate::cli) fn study(folder: &Path) -> Option<Result<Value>> {
    folder.join("study.json").is_file().then(|| {
        let study = Study::open(folder)?;
        let ballots = match Store::open_existing(folder, &study.prompts) {
            Ok(store) => store.ballots()?,
            Err(_) => Vec::new(),
        };
        let raters: BTreeSet<&str> = ballots.iter().map(|ballot| ballot.vote.rater.as_str()).collect();
        let sets: Vec<&str> = study.contenders().map(|set| set.name.as_str()).collect();
        let missing = study.missing(folder).len();
        let trouble =
            (missing > 0).then(|| format!("{missing} pictures are missing; finish it with `imagen eval drawbench`"));
        Ok(json!({
            "suite": study.suite, "prompts": study.prompts.len(), "pictures": study.pictures, "sets": sets,
            "votes": ballots.len(), "raters": raters.len(), "rated": missing == 0, "trouble": trouble,
        }))
    })
}

/// Whether raters may see a folder's study: all of its pictures are there.
pub(in crate::cli) fn rated(folder: &Path) -> bool {
    Study::open(folder).is_ok_and(|study| study.missing(folder).is_empty())
}

/// The report of its votes as a page.
pub(in crate::cli) fn report(folder: &Path, name: &str) -> Result<String> {
    page_of(folder, name)
}

/// The pages of its raters below an address; who may see them is the guard's to say that stands before.
pub(in crate::cli) fn rater_pages(folder: &Path, base: &str) -> Result<Router> {
    let study = Study::open(folder)?;
    let options = PlanOptions::default();
    let mode = Mode::DrawBench;
    if !is_gallery(&study, mode) {
        RaterPlan::of(&study, mode, "", &options)?;
    }
    let store = Store::open(folder, &study.prompts)?;
    let app = App::new(folder.to_owned(), study, mode, options, store, Vec::new());
    Ok(pages_of(Arc::new(app.below(base))))
}

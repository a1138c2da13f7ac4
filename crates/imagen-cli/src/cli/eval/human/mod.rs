//! `imagen eval human`: raters look at a study's pictures in a browser, and their votes become tables.
//!
//! `serve` shows the pages, `report` and `export` read the votes; all may run at once. What is asked and what it comes to is in
//! the library's `eval::human`; here are pages, votes on disk and words.

mod app;
mod bars;
mod export;
mod pages;
mod pictures;
mod report;
mod report_page;
mod serve;
mod store;
mod studio;
mod words;

pub(in crate::cli) use studio::{rated, rater_pages, report, study};

verbs! {
    /// Let people rate a study's pictures in the browser, and report what they said
    Human {
        Serve(serve::Serve),
        Report(report::Report),
        Export(export::Export),
    }
}

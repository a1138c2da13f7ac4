//! The raters' pages: plain HTML that works without a script; a small one adds the keys.
//!
//! Every text from a study or a rater goes through [`escaped`]. A page knows captions, addresses of pictures and answers,
//! and nothing about models.

use std::collections::BTreeMap;

use imagen::eval::human::{Answer, Mode, Question, Study};
use imagen::said::counted;

use crate::report::escaped;

pub(super) const STYLE: &str = include_str!("pages/style.css");
pub(super) const SCRIPT: &str = include_str!("pages/script.js");

/// What the keys of the answers are called: the first, the middle and the last.
const KEYS: [&str; 3] = ["←", "↓", "→"];
/// About as many seconds does a page take.
const SECONDS: [(Mode, usize); 3] = [(Mode::DrawBench, 12), (Mode::Photorealism, 4), (Mode::Alignment, 5)];

/// Where a page stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// From 1.
    pub(super) page: usize,
    pub(super) pages: usize,
    /// From 1.
    pub(super) batch: usize,
    pub(super) batches: usize,
}

/// A page with a question or two.
#[derive(Debug)]
pub(super) struct TrialPage<'a> {
    /// Below which address the pages stand.
    pub(super) base: &'a str,
    pub(super) rater: &'a str,
    pub(super) mode: Mode,
    pub(super) caption: &'a str,
    /// The addresses of each panel's pictures.
    pub(super) panels: Vec<Vec<String>>,
    /// What was answered before, where the rater came back.
    pub(super) given: BTreeMap<Question, Answer>,
    pub(super) token: &'a str,
    /// The token of the page before.
    pub(super) previous: Option<&'a str>,
    pub(super) place: Place,
    /// Pictures of the page that follows.
    pub(super) next: Vec<String>,
}

impl TrialPage<'_> {
    pub(super) fn render(&self) -> String {
        let Place { page, pages, batch, batches } = self.place;
        let several = if batches > 1 { format!(" <small>part {batch} of {batches}</small>") } else { String::new() };
        let back = match self.previous {
            Some(token) => {
                format!(
                    "<a class=\"back\" rel=\"prev\" href=\"{}/rate/{}?trial={token}\">Back <kbd>⌫</kbd></a>",
                    self.base, self.rater
                )
            }
            None => "<span></span>".to_owned(),
        };
        let caption = match self.mode {
            Mode::Photorealism => String::new(),
            _ => format!("<h1 class=\"caption\">{}</h1>\n", escaped(self.caption)),
        };
        let names = ["A", "B"];
        let panels: String = self
            .panels
            .iter()
            .enumerate()
            .map(|(side, pictures)| {
                let name = if self.panels.len() == 2 { names[side] } else { "" };
                let picture = |(k, url): (usize, &String)| format!("<img src=\"{url}\" alt=\"{name} {}\">", k + 1);
                let shown: String = pictures.iter().enumerate().map(picture).collect();
                let title = if name.is_empty() { String::new() } else { format!("<h2>{name}</h2>") };
                format!("<section class=\"panel of{}\">{title}<div>{shown}</div></section>\n", pictures.len().min(8))
            })
            .collect();
        let questions: String = self.mode.questions().iter().map(|question| self.question(*question)).collect();
        frame(
            self.base,
            &format!("Page {page} of {pages}"),
            &self.mode.to_string(),
            &format!(
                "<header><progress max=\"{pages}\" value=\"{}\"></progress><p>{page} of {pages}{several}</p></header>\n\
                 {caption}<div class=\"panels\">\n{panels}</div>\n\
                 <form class=\"trial\" method=\"post\" action=\"{}/rate/{}\" data-next=\"{}\">\n\
                 <input type=\"hidden\" name=\"trial\" value=\"{}\"><input type=\"hidden\" name=\"spent\" value=\"\">\n\
                 {questions}<p class=\"way\">{back}<button>Next <kbd>↵</kbd></button></p>\n\
                 <p class=\"status\" role=\"status\"></p></form>\n",
                page - 1,
                self.base,
                self.rater,
                self.next.join(" "),
                self.token
            ),
        )
    }

    /// A question in the paper's words, with its answers.
    fn question(&self, question: Question) -> String {
        let words = match question {
            Question::Fidelity => "Which set of images is of higher quality?".to_owned(),
            Question::Alignment => {
                format!("Which set of images better represents the text caption: <q>{}</q>?", escaped(self.caption))
            }
            Question::Photorealism => "Which image is more photorealistic (looks more real)?".to_owned(),
            Question::Caption => "Does the caption accurately describe the above image?".to_owned(),
        };
        let answers = question.answers();
        let choice = |(at, answer): (usize, &Answer)| {
            // the middle key is for a middle answer only
            let key = if answers.len() == 2 && at == 1 { KEYS[2] } else { KEYS[at] };
            let checked = if self.given.get(&question) == Some(answer) { " checked" } else { "" };
            format!(
                "<label><input type=\"radio\" name=\"{question}\" value=\"{answer}\" required{checked}><span>{} \
                 <kbd>{key}</kbd></span></label>",
                words_of(question, *answer)
            )
        };
        let choices: String = answers.iter().enumerate().map(choice).collect();
        format!("<fieldset><legend>{words}</legend><div class=\"choices\">{choices}</div></fieldset>\n")
    }
}

fn words_of(question: Question, answer: Answer) -> &'static str {
    match (question, answer) {
        (Question::Photorealism, Answer::Left) => "A",
        (Question::Photorealism, Answer::Right) => "B",
        (_, Answer::Left) => "I prefer set A",
        (_, Answer::Indifferent) => "I am indifferent",
        (_, Answer::Right) => "I prefer set B",
        (_, Answer::Yes) => "Yes",
        (_, Answer::Somewhat) => "Somewhat",
        (_, Answer::No) => "No",
    }
}

/// The first page; `refused` is a name that cannot be one.
pub(super) fn start(base: &str, mode: Mode, pages: usize, batches: usize, refused: Option<&str>) -> String {
    let task = match mode {
        Mode::DrawBench => {
            "You will see a caption and two sets of pictures that were drawn for it. Say which set is of higher quality, \
             then which one fits the caption better."
        }
        Mode::Photorealism => "You will see two pictures. Say which one looks more like a real one.",
        Mode::Alignment => "You will see a picture and a caption. Say whether the caption describes the picture.",
    };
    let seconds = SECONDS.iter().find(|(of, _)| *of == mode).map_or(5, |(_, seconds)| *seconds);
    let minutes = (pages * seconds).div_ceil(60);
    let parts = match batches {
        1 => format!("{}, about {}.", counted(pages, "page"), counted(minutes, "minute")),
        _ => format!(
            "{batches} parts; the first has {} and takes about {}.",
            counted(pages, "page"),
            counted(minutes, "minute")
        ),
    };
    let refused = match refused {
        Some(name) => {
            let name = escaped(name);
            format!(
                "<p class=\"refused\">“{name}” cannot be a name here: letters a to z, digits, - and _, up to 40.</p>"
            )
        }
        None => String::new(),
    };
    let keys = match mode {
        Mode::Photorealism => "<li><kbd>←</kbd> A, <kbd>→</kbd> B</li>",
        Mode::DrawBench => "<li><kbd>←</kbd> A, <kbd>→</kbd> B, <kbd>↓</kbd> indifferent</li>",
        Mode::Alignment => "<li><kbd>←</kbd> yes, <kbd>↓</kbd> somewhat, <kbd>→</kbd> no</li>",
    };
    frame(
        base,
        "Which is better?",
        "plain",
        &format!(
            "<h1>We would like your opinion</h1>\n<p class=\"lead\">{task}</p>\n\
             <p>There is no right answer to most of it: take the first impression that you would stand by. On a few pages \
             the answer is known; they show that somebody is looking.</p>\n\
             <form class=\"start\" method=\"post\" action=\"{base}/\">{refused}<label for=\"rater\">A name of your choice</label>\n\
             <input id=\"rater\" name=\"rater\" required maxlength=\"40\" autocomplete=\"off\" autocapitalize=\"off\" \
             spellcheck=\"false\" autofocus><button>Begin <kbd>↵</kbd></button>\n\
             <p><small>Come back under the same name to continue where you stopped.</small></p></form>\n\
             <h2>Keys</h2>\n<ul class=\"keys\">{keys}<li><kbd>⌫</kbd> back to correct an answer</li>\
             <li><kbd>↵</kbd> next</li></ul>\n<p><small>{parts}</small></p>\n"
        ),
    )
}

/// The pictures of a study's only set: there is nothing to compare them with.
pub(super) fn gallery(base: &str, study: &Study) -> String {
    let set = study.contenders().next();
    let figure = |(prompt, files): (usize, &Vec<String>)| {
        let text = escaped(&study.prompts[prompt].text);
        let picture = |k| format!("<img loading=\"lazy\" src=\"{base}/shown/{prompt}/{k}\" alt=\"{text}, {}\">", k + 1);
        let pictures: String = (0..files.len()).map(picture).collect();
        format!("<section class=\"panel of{}\"><h2>{text}</h2><div>{pictures}</div></section>\n", files.len().min(8))
    };
    let figures: String = set.into_iter().flat_map(|set| set.files.iter().enumerate()).map(figure).collect();
    frame(
        base,
        "Pictures",
        "gallery",
        &format!(
            "<h1>Pictures</h1>\n<p class=\"lead\">{}, uncurated. The study holds one set, so there is nothing to compare; \
             <code>imagen eval drawbench</code> adds another.</p>\n<div class=\"shown\">\n{figures}</div>\n",
            counted(study.prompts.len(), "prompt"),
        ),
    )
}

/// Between two batches.
pub(super) fn rest(base: &str, rater: &str, done: usize, of: usize) -> String {
    frame(
        base,
        "Rest",
        "plain",
        &format!(
            "<header><progress max=\"{of}\" value=\"{done}\"></progress><p>part {done} of {of}</p></header>\n\
             <h1>Look out of the window</h1>\n<p class=\"lead\">{done} of {of} parts are done, and every answer is kept. Go on \
             now, or come back under the name <b>{}</b>.</p>\n\
             <p class=\"way\"><span></span><a class=\"go\" rel=\"next\" href=\"{base}/rate/{}\">Go on <kbd>↵</kbd></a></p>\n",
            escaped(rater),
            escaped(rater)
        ),
    )
}

/// The last page.
pub(super) fn done(base: &str, rater: &str, pages: usize) -> String {
    frame(
        base,
        "Thank you",
        "plain",
        &format!(
            "<header><progress max=\"1\" value=\"1\"></progress><p>{all} done</p></header>\n\
             <h1>Thank you, {}</h1>\n<p class=\"lead\">That was everything: {all}, every answer kept.</p>\n\
             <p>No number can say whether pictures are good; people like you can. You may close this window.</p>\n",
            escaped(rater),
            all = counted(pages, "page")
        ),
    )
}

/// Something that went wrong, in a sentence.
pub(super) fn message(text: &str) -> String {
    frame("", "Not here", "plain", &format!("<h1>This did not work</h1>\n<p class=\"lead\">{}</p>\n", escaped(text)))
}

fn frame(base: &str, title: &str, class: &str, body: &str) -> String {
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" \
         content=\"width=device-width, initial-scale=1\">\n<meta name=\"color-scheme\" content=\"light dark\">\n\
         <title>{title}</title>\n<link rel=\"stylesheet\" href=\"{base}/style.css\">\n\
         <script src=\"{base}/script.js\" defer></script>\n</head>\n<body>\n<main class=\"{class}\">\n{body}</main>\n</body>\n</html>\n"
    )
}

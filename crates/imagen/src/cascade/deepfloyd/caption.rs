//! The cleaning of captions that DeepFloyd IF's networks were trained with.
//!
//! The rules are those of its repositories, in their order, because each works on what the one before leaves: percent
//! escapes, addresses, tags, nicknames, Chinese characters, dashes and quotes of one kind, numbers of articles and files,
//! words of shops. They are applied twice. Text that was decoded in the wrong encoding is not mended (the original asks a library
//! of guesses to).

mod html;

use std::sync::LazyLock;

use regex::{Captures, Regex};

/// A rule: what is found becomes what stands here; `$1` is its first group.
struct Rule(Regex, &'static str);

fn rules(list: &[(&str, &'static str)]) -> Vec<Rule> {
    list.iter().map(|(pattern, to)| Rule(Regex::new(pattern).expect("a constant pattern"), to)).collect()
}

/// Files and endings that shops put into captions.
const ENDINGS: &str = "(?:png|jpg|jpeg|bmp|webp|eps|pdf|apk|mp4)";

/// Before tags are taken out. Addresses that are followed by an @ are left to the rule of nicknames.
static ADDRESSES: LazyLock<Vec<Regex>> = LazyLock::new(|| {
    let domain = r"[a-zA-Z0-9.\-]+[.](?:com|co|ru|net|org|edu|gov|it)[\w/-]*\b/?";
    ["https?", "www"]
        .iter()
        .map(|scheme| {
            Regex::new(&format!(r"\b(?:{scheme}:(?:/{{1,3}}|[a-zA-Z0-9%])|(?P<domain>{domain}))")).expect("constant")
        })
        .collect()
});

/// From nicknames to punctuation.
static FIRST: LazyLock<Vec<Rule>> = LazyLock::new(|| {
    let file = format!(r"\S+\.{ENDINGS}");
    rules(&[
        (r"@[\w\d]+\b", ""),
        (r"[\u{31c0}-\u{4dff}]+", ""),
        (r"[\u{4e00}-\u{9fff}]+", ""),
        (
            r"[\u{2D}\u{58A}\u{5BE}\u{1400}\u{1806}\u{2010}-\u{2015}\u{2E17}\u{2E1A}\u{2E3A}\u{2E3B}\u{2E40}\u{301C}\u{3030}\u{30A0}\u{FE31}\u{FE32}\u{FE58}\u{FE63}\u{FF0D}]+",
            "-",
        ),
        ("[`´«»“”¨]", "\""),
        ("[‘’]", "'"),
        ("&quot;?", ""),
        ("&amp", ""),
        (r"\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}", " "),
        (r"\d:\d\d\s+$", ""),
        (r"\\n", " "),
        (r"#\d{1,3}\b", ""),
        (r"#\d{5,}\b", ""),
        (r"\b\d{6,}\b", ""),
        (&file, ""),
        ("[\"']{2,}", "\""),
        (r"\.{2,}", " "),
        (r"[#®•©™&@·º½¾¿¡§~)(\]\[}{|\\/*]+", " "),
        (r"\s+\.\s+", " "),
    ])
});

static JOINERS: LazyLock<Regex> = LazyLock::new(|| Regex::new("[-_]").expect("constant"));

/// From article codes to spaces.
static SECOND: LazyLock<Vec<Rule>> = LazyLock::new(|| {
    let images = format!(r"\b{ENDINGS}(?:\simages?)?");
    rules(&[
        (r"\b[a-zA-Z]{1,3}\d{3,15}\b", ""),
        (r"\b[a-zA-Z]+\d+[a-zA-Z]+\b", ""),
        (r"\b\d+[a-zA-Z]+\d+\b", ""),
        (r"(?:worldwide\s+)?(?:free\s+)?shipping", ""),
        (r"(?:free\s)?download(?:\sfree)?", ""),
        (r"\bclick\b\s(?:for|on)\s\w+", ""),
        (&images, ""),
        (r"\bpage\s+\d+\b", ""),
        (r"\b\d*[a-zA-Z]+\d+[a-zA-Z]+\d+[a-zA-Z\d]*\b", " "),
        (r"\b\d+\.?\d*[xх×]\d+\.?\d*\b", ""),
        (r"\b\s+:\s+", ": "),
        (r"(\D[,./])\b", "$1 "),
        (r"\s+", " "),
        ("(?s)^[\"'](.+)[\"']$", "$1"),
        (r"^['_,\-:;]", ""),
        (r"['_,\-:+]$", ""),
        (r"^\.\S+$", ""),
    ])
});

fn apply(rules: &[Rule], text: String) -> String {
    rules.iter().fold(text, |text, Rule(pattern, to)| pattern.replace_all(&text, *to).into_owned())
}

/// A caption as the networks know captions: cleaned twice.
pub fn clean(caption: &str) -> String {
    once(&once(caption))
}

/// What is done to a caption that is not to be cleaned: small letters, no space around.
pub fn plain(caption: &str) -> String {
    caption.to_lowercase().trim().to_owned()
}

fn once(caption: &str) -> String {
    let text = unquoted(caption).trim().to_lowercase().replace("<person>", "person");
    let text = ADDRESSES.iter().fold(text, |text, pattern| without_addresses(pattern, &text));
    let text = html::text_of(&text);
    let mut text = apply(&FIRST, text);
    if JOINERS.find_iter(&text).count() > 3 {
        text = JOINERS.replace_all(&text, " ").into_owned();
    }
    let text = html::unescaped(&html::unescaped(&html::repaired(&text)));
    apply(&SECOND, text).trim().to_owned()
}

/// Percent escapes and + as a space, as in forms; what is no UTF-8 becomes the replacement character.
fn unquoted(text: &str) -> String {
    let text = text.replace('+', " ");
    percent_encoding::percent_decode_str(&text).decode_utf8_lossy().into_owned()
}

fn without_addresses(pattern: &Regex, text: &str) -> String {
    let replaced = pattern.replace_all(text, |found: &Captures<'_>| {
        let whole = found.get(0).expect("the whole match");
        // the domain of a mail address: kept, as the original's look-ahead does
        let mail = found.name("domain").is_some() && text[whole.end()..].starts_with('@');
        if mail { whole.as_str().to_owned() } else { String::new() }
    });
    replaced.into_owned()
}

//! What a caption says behind its HTML: tags and comments out, entities as characters, by the rules of the parser and of the
//! function that cleaned the captions of DeepFloyd IF's networks (Beautiful Soup over Python's `html.parser`, Python's
//! `html.unescape`), and the repairs of single characters that followed (ftfy): ligatures, wide forms, control characters.
//!
//! Deliberately not here: text that was decoded in the wrong encoding, which the original asks a library of guesses to mend.

use tokenizers::NormalizedString;

/// Entities that HTML reads without their semicolon.
const LEGACY: [&str; 106] = [
    "AElig", "AMP", "Aacute", "Acirc", "Agrave", "Aring", "Atilde", "Auml", "COPY", "Ccedil", "ETH", "Eacute", "Ecirc",
    "Egrave", "Euml", "GT", "Iacute", "Icirc", "Igrave", "Iuml", "LT", "Ntilde", "Oacute", "Ocirc", "Ograve", "Oslash",
    "Otilde", "Ouml", "QUOT", "REG", "THORN", "Uacute", "Ucirc", "Ugrave", "Uuml", "Yacute", "aacute", "acirc",
    "acute", "aelig", "agrave", "amp", "aring", "atilde", "auml", "brvbar", "ccedil", "cedil", "cent", "copy",
    "curren", "deg", "divide", "eacute", "ecirc", "egrave", "eth", "euml", "frac12", "frac14", "frac34", "gt",
    "iacute", "icirc", "iexcl", "igrave", "iquest", "iuml", "laquo", "lt", "macr", "micro", "middot", "nbsp", "not",
    "ntilde", "oacute", "ocirc", "ograve", "ordf", "ordm", "oslash", "otilde", "ouml", "para", "plusmn", "pound",
    "quot", "raquo", "reg", "sect", "shy", "sup1", "sup2", "sup3", "szlig", "thorn", "times", "uacute", "ucirc",
    "ugrave", "uml", "uuml", "yacute", "yen", "yuml",
];
/// Elements whose contents are no text.
const SILENT: [&str; 5] = ["script", "style", "template", "rt", "rp"];
/// Of these, what stands inside is no HTML.
const RAW: [&str; 2] = ["script", "style"];
/// The characters that references to 0x80 to 0x9F mean: those of Windows-1252.
const WINDOWS: [u32; 32] = [
    0x20AC, 0x81, 0x201A, 0x192, 0x201E, 0x2026, 0x2020, 0x2021, 0x2C6, 0x2030, 0x160, 0x2039, 0x152, 0x8D, 0x17D,
    0x8F, 0x90, 0x2018, 0x2019, 0x201C, 0x201D, 0x2022, 0x2013, 0x2014, 0x2DC, 0x2122, 0x161, 0x203A, 0x153, 0x9D,
    0x17E, 0x178,
];
/// Letters in one piece that are written in several.
const LIGATURES: [(char, &str); 22] = [
    ('\u{132}', "IJ"),
    ('\u{133}', "ij"),
    ('\u{149}', "\u{2BC}n"),
    ('\u{1F1}', "DZ"),
    ('\u{1F2}', "Dz"),
    ('\u{1F3}', "dz"),
    ('\u{1C4}', "D\u{17D}"),
    ('\u{1C5}', "D\u{17E}"),
    ('\u{1C6}', "d\u{17E}"),
    ('\u{1C7}', "LJ"),
    ('\u{1C8}', "Lj"),
    ('\u{1C9}', "lj"),
    ('\u{1CA}', "NJ"),
    ('\u{1CB}', "Nj"),
    ('\u{1CC}', "nj"),
    ('\u{FB00}', "ff"),
    ('\u{FB01}', "fi"),
    ('\u{FB02}', "fl"),
    ('\u{FB03}', "ffi"),
    ('\u{FB04}', "ffl"),
    ('\u{FB05}', "\u{17F}t"),
    ('\u{FB06}', "st"),
];

/// The text of HTML.
pub(super) fn text_of(html: &str) -> String {
    let mut out = String::with_capacity(html.len());
    let mut rest = html;
    let mut silent: Vec<&str> = Vec::new();
    while let Some(at) = rest.find(['<', '&']) {
        let (before, markup) = rest.split_at(at);
        if silent.is_empty() {
            out.push_str(before);
        }
        if let Some(name) = markup.strip_prefix('&') {
            let Some((said, length)) = reference(markup) else {
                // Python's parser waits for the end of what looks like an entity, and takes the rest as it is.
                let waits = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '#');
                let length = if waits { markup.len() } else { 1 };
                // of a last single letter it forgets the mark before it
                let said = if waits && length == 2 { name } else { &markup[..length] };
                if silent.is_empty() {
                    out.push_str(said);
                }
                rest = &markup[length..];
                continue;
            };
            if silent.is_empty() {
                out.push_str(&said);
            }
            rest = &markup[length..];
            continue;
        }
        let Some((length, tag)) = markup_of(markup) else {
            if silent.is_empty() {
                out.push('<');
            }
            rest = &markup[1..];
            continue;
        };
        match tag {
            Markup::Text(text) if silent.is_empty() => out.push_str(text),
            Markup::Open(name) => {
                if let Some(name) = SILENT.iter().find(|silent| **silent == name) {
                    silent.push(name);
                    if RAW.contains(name) {
                        let close = format!("</{name}");
                        let inner = &markup[length..];
                        rest = inner.find(&close).map_or("", |at| &inner[at..]);
                        continue;
                    }
                }
            }
            Markup::Close(name) => {
                if let Some(place) = silent.iter().rposition(|silent| *silent == name) {
                    silent.truncate(place);
                }
            }
            Markup::Text(_) | Markup::Nothing => {}
        }
        rest = &markup[length..];
    }
    if silent.is_empty() {
        out.push_str(rest);
    }
    out
}

/// What stands between angle brackets.
enum Markup<'a> {
    Open(&'a str),
    Close(&'a str),
    /// A section that is text.
    Text(&'a str),
    Nothing,
}

/// The markup at the start, with its length; none where the bracket is a character.
fn markup_of(text: &str) -> Option<(usize, Markup<'_>)> {
    let until = |end: &str, from: usize| text.get(from..)?.find(end).map(|at| from + at + end.len());
    if text.starts_with("<!--") {
        return until("-->", 4).map(|length| (length, Markup::Nothing));
    }
    if text.get(..9).is_some_and(|start| start.eq_ignore_ascii_case("<![cdata[")) {
        let length = until("]]>", 9)?;
        return Some((length, Markup::Text(&text[9..length - 3])));
    }
    if text.starts_with("<![") {
        return until("]>", 3).map(|length| (length, Markup::Nothing));
    }
    if text.starts_with("<!") || text.starts_with("<?") {
        return until(">", 2).map(|length| (length, Markup::Nothing));
    }
    let name_of = |from: usize| {
        let name = text.get(from..).unwrap_or_default();
        &name[..name.find([' ', '\t', '\n', '\r', '\u{c}', '/', '>']).unwrap_or(name.len())]
    };
    if text.starts_with("</") {
        return until(">", 2).map(|length| (length, Markup::Close(name_of(2))));
    }
    if !text[1..].starts_with(|c: char| c.is_ascii_alphabetic()) {
        return None;
    }
    // a bracket within quotes ends no tag
    let (mut quote, mut before) = (None, ' ');
    for (at, c) in text.char_indices().skip(1) {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '"' | '\'') if before == '=' => quote = Some(c),
            (None, '>') => return Some((at + 1, Markup::Open(name_of(1)))),
            _ => {}
        }
        if !c.is_whitespace() {
            before = c;
        }
    }
    None
}

/// What the reference at the start says to Python's parser, and its length.
fn reference(text: &str) -> Option<(String, usize)> {
    if let Some(number) = text.strip_prefix("&#") {
        let (digits, radix) = match number.strip_prefix(['x', 'X']) {
            Some(hex) => (hex, 16),
            None => (number, 10),
        };
        let end = digits.find(|c: char| !c.is_digit(radix)).filter(|end| *end > 0)?;
        if radix == 10 && digits[end..].starts_with(|c: char| c.is_ascii_hexdigit()) {
            return None;
        }
        let length = text.len() - digits.len() + end;
        let semicolon = usize::from(digits[end..].starts_with(';'));
        return Some((character(&digits[..end], radix), length + semicolon));
    }
    let name = text.strip_prefix('&').filter(|name| name.starts_with(|c: char| c.is_ascii_alphabetic()))?;
    let end = name.find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '.')))?;
    // the parser gives up on what ends in one of these
    let end = name[..end].trim_end_matches(['-', '.']).len();
    let semicolon = usize::from(name[end..].starts_with(';'));
    let said = named(&name[..end]).unwrap_or_else(|| format!("&{}", &name[..end]));
    Some((said, 1 + end + semicolon))
}

/// The character of a number, as HTML has it.
fn character(digits: &str, radix: u32) -> String {
    let number = u32::from_str_radix(digits, radix).unwrap_or(u32::MAX);
    let number = match number {
        0 => 0xFFFD,
        0x80..=0x9F => WINDOWS[number as usize - 0x80],
        number => number,
    };
    char::from_u32(number).unwrap_or('\u{FFFD}').to_string()
}

/// The characters of an entity's name, without `&` and `;`.
fn named(name: &str) -> Option<String> {
    let entity = format!("&{name};");
    let said = html_escape::decode_html_entities(&entity);
    (said != entity).then(|| said.into_owned())
}

/// Entities as characters, with or without their semicolon where HTML allows both.
pub(super) fn unescaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let (said, length) = unescaped_one(rest).unwrap_or_else(|| ("&".to_owned(), 1));
        out.push_str(&said);
        rest = &rest[length..];
    }
    out + rest
}

fn unescaped_one(text: &str) -> Option<(String, usize)> {
    if let Some(number) = text.strip_prefix("&#") {
        let (digits, radix) = match number.strip_prefix(['x', 'X']) {
            Some(hex) => (hex, 16),
            None => (number, 10),
        };
        let end = digits.find(|c: char| !c.is_digit(radix)).unwrap_or(digits.len());
        if end == 0 {
            return None;
        }
        let length = text.len() - digits.len() + end;
        return Some((character(&digits[..end], radix), length + usize::from(digits[end..].starts_with(';'))));
    }
    let name = &text[1..];
    let end = name.find(['\t', '\n', '\u{c}', ' ', '<', '&', '#', ';']).unwrap_or(name.len());
    if name[end..].starts_with(';')
        && let Some(said) = named(&name[..end])
    {
        return Some((said, end + 2));
    }
    let known = (2..=end).rev().filter_map(|end| name.get(..end)).find(|name| LEGACY.contains(name))?;
    Some((named(known)?, 1 + known.len()))
}

/// The text with whole letters for ligatures, plain ones for wide and narrow forms, without characters that command a device,
/// each character composed (NFC).
pub(super) fn repaired(text: &str) -> String {
    let text = if text.contains('<') { text.to_owned() } else { unescaped_fully(text) };
    let mut out = String::with_capacity(text.len());
    for c in without_commands(&text).chars() {
        match c {
            _ if let Some((_, letters)) = LIGATURES.iter().find(|(ligature, _)| *ligature == c) => {
                out.push_str(letters)
            }
            '\u{3000}' => out.push(' '),
            '\u{FF01}'..='\u{FFEF}' => {
                let mut form = NormalizedString::from(c.to_string());
                form.nfkc();
                out.push_str(form.get());
            }
            '\u{2018}'..='\u{201B}' | '\u{2BC}' => out.push('\''),
            '\u{201C}'..='\u{201F}' => out.push('"'),
            '\u{2028}' | '\u{2029}' => out.push('\n'),
            // Windows-1252 that was taken for Latin-1
            '\u{80}'..='\u{9F}' => out.extend(char::from_u32(WINDOWS[c as usize - 0x80])),
            '\0'..='\u{8}'
            | '\u{B}'
            | '\u{E}'..='\u{1F}'
            | '\u{7F}'
            | '\u{206A}'..='\u{206F}'
            | '\u{FEFF}'
            | '\u{FFF9}'..='\u{FFFC}' => {}
            c => out.push(c),
        }
    }
    let mut composed = NormalizedString::from(out);
    composed.nfc();
    composed.get().to_owned()
}

/// Entities with their semicolon as characters.
fn unescaped_fully(text: &str) -> String {
    html_escape::decode_html_entities(text).into_owned()
}

/// The text without the sequences that colour a terminal.
fn without_commands(text: &str) -> String {
    let mut parts = text.split("\u{1b}[");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let after = part.trim_start_matches(|c: char| c.is_ascii_digit() || c == ';');
        match after.strip_prefix(|c: char| c.is_ascii_alphabetic()) {
            Some(after) => out.push_str(after),
            None => {
                out.push_str("\u{1b}[");
                out.push_str(part);
            }
        }
    }
    out
}

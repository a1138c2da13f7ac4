//! The report as one HTML page: bars like the paper's figure 3, the tables behind them, raters, and what was drawn.

use std::collections::BTreeSet;

use imagen::eval::human::{Findings, FindingsOptions, Origin, Preference, Question, Study};
use imagen::said::counted;

use super::bars::{Bar, draw};
use super::words::{asked, notes, raters, reliability, verdict};
use crate::report::{document, escaped};

const STYLE: &str = "\
.key i { display: inline-block; width: .9rem; height: .9rem; border-radius: .2rem; vertical-align: -.1rem; margin-right: .35rem; }
.key span { margin-right: 1.1rem; white-space: nowrap; }
rect.c0, i.c0 { fill: var(--c0); background: var(--c0); }
rect.c1, i.c1 { fill: var(--c1); background: var(--c1); }
rect.none, i.none { fill: var(--edge); background: var(--edge); }
rect { opacity: .8; }
.chart svg { max-width: 46rem; }
svg text { font-size: 12px; }
svg text.row { fill: var(--ink); }
svg text.loud { fill: var(--ink); font-weight: 600; }
.whisker { stroke: var(--ink); stroke-width: 1.6; fill: none; }
.halo { stroke: var(--card); stroke-width: 4.5; fill: none; }
.dot { fill: var(--ink); stroke: var(--card); stroke-width: 1.5; }
.half { stroke: var(--ink); stroke-dasharray: 3 3; opacity: .6; fill: none; }
.charts { grid-template-columns: repeat(auto-fit, minmax(min(100%, 32rem), 1fr)); }
.scroll { overflow-x: auto; }
ul.plain { padding-left: 1.1rem; margin: .3rem 0; }
";

/// The page.
pub(super) fn page(study: &Study, found: &Findings, options: FindingsOptions, name: &str) -> String {
    let title = escaped(&format!("Raters · {name}"));
    let section = |title: &str, lines: Vec<String>| {
        let lines: String = lines.iter().map(|line| format!("<li>{}</li>", escaped(line))).collect();
        if lines.is_empty() {
            String::new()
        } else {
            format!("<section><h2>{title}</h2>\n<ul class=\"plain\">{lines}</ul>\n</section>\n")
        }
    };
    let body = [
        format!(
            "<header><h1>What raters said</h1>\n<p class=\"run\">{}</p>\n<p>{} ({}), {} of each, uncurated</p>\
             </header>\n",
            escaped(name),
            counted(study.prompts.len(), "prompt"),
            escaped(&study.suite),
            counted(study.pictures, "picture")
        ),
        overall(found),
        by_category(found),
        scores(found),
        section("How far to trust it", [reliability(found), notes(found)].concat()),
        section("Raters", raters(found, options)),
        section("Pictures", study.sets.iter().map(origin).collect()),
        table(found),
        "</main>\n".to_owned(),
    ];
    document(&title, STYLE, &body.concat())
}

fn bar(row: &Preference, name: String) -> Bar {
    let share = |count: usize| count as f64 / row.answers as f64;
    let said = if row.separable { String::new() } else { " not separable".to_owned() };
    Bar {
        name,
        pieces: vec![("c0", share(row.preferred)), ("none", share(row.indifferent)), ("c1", share(row.opposed))],
        value: row.rate,
        interval: row.interval,
        text: format!("{:.0} %{said}", 100.0 * row.rate),
        strong: row.separable,
    }
}

fn key(set: &str, against: &str) -> String {
    format!(
        "<p class=\"note key\"><span><i class=\"c0\"></i>{}</span><span><i class=\"none\"></i>indifferent</span><span>\
         <i class=\"c1\"></i>{}</span></p>\n",
        escaped(set),
        escaped(against)
    )
}

/// One chart for each pair: a bar for each question, over all prompts.
fn overall(found: &Findings) -> String {
    let pairs: BTreeSet<(&str, &str)> = found.overall().map(|row| (&*row.set, &*row.against)).collect();
    let mut charts = String::new();
    for (set, against) in pairs {
        let rows = found.overall().filter(|row| row.set == set && row.against == against);
        let bars: Vec<Bar> = rows.map(|row| bar(row, row.question.to_string())).collect();
        let title = format!("{set} against {against}");
        charts += &format!(
            "<figure class=\"chart\"><h3>{}</h3>\n{}{}</figure>\n",
            escaped(&title),
            key(set, against),
            draw(&title, &bars, true)
        );
    }
    if charts.is_empty() {
        String::new()
    } else {
        format!(
            "<section><h2>Preference</h2>\n<p class=\"note\">Bars: answers for each. Dot and whisker: the preference rate, an \
         indifferent answer counting half for each, with its 95 % interval (bootstrap over prompts and raters: two or three raters \
         leave it wide). 50 % is no preference.</p>\n<div class=\"charts\">{charts}</div></section>\n"
        )
    }
}

/// One chart for each pair and question: a bar for each category.
fn by_category(found: &Findings) -> String {
    let mut charts = String::new();
    for row in found.overall() {
        let same = |part: &&Preference| {
            (part.question, &part.set, &part.against) == (row.question, &row.set, &row.against)
                && part.category.is_some()
        };
        let parts = found.preferences.iter().filter(same);
        let bars: Vec<Bar> = parts.map(|part| bar(part, part.category.clone().unwrap_or_default())).collect();
        if bars.is_empty() {
            continue;
        }
        let title = format!("{} against {}: {}", row.set, row.against, asked(row.question));
        charts += &format!(
            "<figure class=\"chart\"><h3>{}</h3>\n{}{}</figure>\n",
            escaped(&title),
            key(&row.set, &row.against),
            draw(&title, &bars, true)
        );
    }
    if charts.is_empty() {
        String::new()
    } else {
        format!("<section><h2>By category</h2>\n<div class=\"charts\">{charts}</div></section>\n")
    }
}

fn scores(found: &Findings) -> String {
    if found.scores.is_empty() {
        return String::new();
    }
    let hundredth = |i: imagen::eval::Interval| imagen::eval::Interval { low: i.low / 100.0, high: i.high / 100.0 };
    let bars: Vec<Bar> = found
        .scores
        .iter()
        .map(|row| Bar {
            name: format!("{}{}", row.set, row.category.as_ref().map(|c| format!(", {c}")).unwrap_or_default()),
            pieces: vec![("c0", row.mean / 100.0)],
            value: row.mean / 100.0,
            interval: row.interval.map(hundredth),
            text: format!("{:.1}{}", row.mean, row.standard_error.map(|e| format!(" ± {e:.2}")).unwrap_or_default()),
            strong: row.category.is_none(),
        })
        .collect();
    let title = asked(Question::Caption);
    format!(
        "<section><h2>Captions</h2>\n<p class=\"note\">Yes is 100, somewhat 50, no 0; mean with its standard error (bootstrap \
         over prompts), whisker: 95 %.</p>\n<div class=\"charts\"><figure class=\"chart\"><h3>{}</h3>{}</figure></div></section>\n",
        escaped(title),
        draw(title, &bars, false)
    )
}

fn origin(set: &imagen::eval::human::PictureSet) -> String {
    match &set.origin {
        Origin::Drawn { model, seeds, by_prompt, .. } => format!(
            "{}: drawn by {}, {} seeds {}",
            set.name,
            model["name"].as_str().unwrap_or("a model"),
            seeds.len(),
            if *by_prompt { "of each prompt's own" } else { "that all prompts share" }
        ),
        Origin::Imported { folder } => format!("{}: imported from {folder}", set.name),
        Origin::Originals { folder } => format!("{}: the originals of {folder}", set.name),
    }
}

/// Every number.
fn table(found: &Findings) -> String {
    if found.preferences.is_empty() {
        return String::new();
    }
    let mut rows = String::new();
    for row in &found.preferences {
        let interval =
            row.interval.map_or("–".to_owned(), |i| format!("{:.1} to {:.1}", 100.0 * i.low, 100.0 * i.high));
        rows += &format!(
            "<tr><th scope=\"row\">{} · {} against {} · {}</th><td>{}</td><td>{}</td><td>{}</td><td>{:.1}</td><td>{interval}</td>\
             <td>{}</td></tr>\n",
            row.question,
            escaped(&row.set),
            escaped(&row.against),
            escaped(row.category.as_deref().unwrap_or("all")),
            row.preferred,
            row.indifferent,
            row.opposed,
            100.0 * row.rate,
            escaped(&verdict(row))
        );
    }
    format!(
        "<section><details><summary>All numbers</summary>\n<div class=\"scroll\"><table><thead><tr><th></th><th scope=\"col\">for it\
         </th><th scope=\"col\">indifferent</th><th scope=\"col\">against</th><th scope=\"col\">rate, %</th><th scope=\"col\">95 %\
         </th><th scope=\"col\"></th></tr></thead>\n<tbody>{rows}</tbody></table></div></details></section>\n"
    )
}

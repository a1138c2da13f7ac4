//! The sweep as one HTML page: the curves, the table, and some pictures of each point, everything within the file.

use std::fs;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::grid::Resolved;
use super::points::{Measured, Protocol};
use super::tables::{cells, columns};
use crate::failure::{Failure, Result};
use crate::report::{Chart, document, escaped};

/// The page. The pictures are those of the folder.
pub(super) fn page(
    folder: &Path,
    measured: &[&Measured],
    axes: &Resolved,
    protocol: &Protocol,
    chart: &Chart,
) -> Result<String> {
    let varied = axes.varied();
    let mut rows = String::new();
    let mut strips = String::new();
    for m in measured {
        let settings: String =
            varied.iter().map(|axis| format!("<th scope=\"row\">{}</th>", escaped(&m.point.value(*axis)))).collect();
        let numbers: String = cells(m).iter().map(|cell| format!("<td>{}</td>", escaped(cell))).collect();
        rows += &format!("<tr>{settings}{numbers}</tr>\n");
        let path = folder.join(&m.shown);
        let png = fs::read(&path).map_err(|e| Failure::io("read", &path, &e))?;
        strips += &format!(
            "<figure><img src=\"data:image/png;base64,{}\" alt=\"\"><figcaption>{}</figcaption></figure>\n",
            STANDARD.encode(png),
            escaped(&m.point.describe())
        );
    }
    let names: String = varied.iter().map(|axis| format!("<th scope=\"col\">{}</th>", axis.name())).collect();
    let numbers: String = columns(protocol).iter().map(|name| format!("<th scope=\"col\">{name}</th>")).collect();
    let main = format!(
        "<header><h1>{title}</h1><p class=\"note\">{about}</p></header>\n{chart}\n\
         <section><h2>Every point</h2>\n<table><thead><tr>{names}{numbers}</tr></thead>\n<tbody>\n{rows}</tbody></table></section>\n\
         <section class=\"strips\"><h2>The first pictures of each point</h2>\n{strips}</section></main>\n",
        title = escaped(axes.title),
        chart = chart.render(),
        about = escaped(&protocol.describe()),
    );
    Ok(document(&escaped(axes.title), "", &main))
}

//! Tables as CSV (RFC 4180), for spreadsheets and other programs.

use crate::failure::{Exit, Failure, Result};

/// A text as a cell: what a spreadsheet would run as a formula begins with an apostrophe.
pub(crate) fn cell(text: &str) -> String {
    let formula = text.starts_with(['=', '+', '-', '@', '\t', '\r']);
    if formula { format!("'{text}") } else { text.to_owned() }
}

/// The lines of a table.
pub(crate) fn csv<R>(lines: impl IntoIterator<Item = R>) -> Result<Vec<u8>>
where
    R: IntoIterator,
    R::Item: AsRef<[u8]>,
{
    let unwritable = |e: String| Failure::new(Exit::Runtime, format_args!("cannot write the table: {e}"));
    let mut writer = csv::Writer::from_writer(Vec::new());
    lines.into_iter().try_for_each(|line| writer.write_record(line)).map_err(|e| unwritable(e.to_string()))?;
    writer.into_inner().map_err(|e| unwritable(e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formulas_become_texts_and_quotes_are_doubled() {
        let line = ["=HYPERLINK(\"x\")", "-1+2", "@sum", "a, b", "say \"hi\"", "1-2"].map(cell);
        let table = String::from_utf8(csv([line]).unwrap()).unwrap();
        assert_eq!(table, "\"'=HYPERLINK(\"\"x\"\")\",'-1+2,'@sum,\"a, b\",\"say \"\"hi\"\"\",1-2\n");
    }
}

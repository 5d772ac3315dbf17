//! Standard output, in text or JSON.

use std::io::{self, BufWriter, Stdout, Write};

use serde_json::Value;

/// Bytes gathered before they are written.
const BUFFER_BYTES: usize = 256 << 10;

/// Where answers go.
pub(crate) struct Output {
    json: bool,
    stdout: BufWriter<Stdout>,
}

impl Output {
    pub(crate) fn new(json: bool) -> Self {
        Self { json, stdout: BufWriter::with_capacity(BUFFER_BYTES, io::stdout()) }
    }

    /// Whether answers are to be JSON.
    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// One line.
    pub(crate) fn line(&mut self, text: &str) -> io::Result<()> {
        writeln!(self.stdout, "{text}")
    }

    /// Bytes as they are.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stdout.write_all(bytes)
    }

    /// An answer: JSON if that was asked for, else the text.
    pub(crate) fn answer(&mut self, json: &Value, text: impl FnOnce() -> String) -> io::Result<()> {
        let text = if self.json { json.to_string() } else { text() };
        self.line(&text)
    }

    /// Writes what is gathered.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.stdout.flush()
    }

    /// Writes what is gathered, at the end.
    pub(crate) fn finish(&mut self) -> io::Result<()> {
        self.flush()
    }
}

/// Lays rows out under a heading, each column as wide as its widest cell.
pub(crate) fn table(heading: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = heading.iter().map(|cell| cell.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let heading: Vec<String> = heading.iter().map(|cell| (*cell).to_owned()).collect();
    let lay_out = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    std::iter::once(&heading).chain(rows).map(lay_out).collect::<Vec<_>>().join("\n")
}

/// A number that may be missing.
pub(crate) fn or_dash(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [vec!["1".to_owned(), "short".to_owned()], vec!["12345".to_owned(), "x".to_owned()]];
        assert_eq!(table(&["ID", "NAME"], &rows), "ID     NAME\n1      short\n12345  x");
    }
}

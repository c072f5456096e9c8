//! I/O: prints results: tables for people, JSON for programs.

use std::fmt::Display;
use std::io::{self, Write};

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use serde::Serialize;

use super::CommandError;
use crate::forecast::accuracy::MethodScore;
use crate::series::Time;

/// Writes to standard output. A reader that has gone (`| head`) is no error.
pub fn print(text: &str) -> Result<(), CommandError> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => {
            Err(CommandError::Failed(format!("standard output: {e}")))
        }
        _ => Ok(()),
    }
}

/// A table whose first `left` columns are aligned left, for words, the others right, ending in a
/// line break.
pub fn table<H: Display, C: Display>(
    left: usize,
    header: impl IntoIterator<Item = H>,
    rows: impl IntoIterator<Item = Vec<C>>,
) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header.into_iter().map(|h| h.to_string()));
    for row in rows {
        table.add_row(row.iter().map(C::to_string));
    }
    for column in table.column_iter_mut().skip(left) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    // The table pads every cell on both sides; the outer blanks go.
    let trim = |line: String| format!("{}\n", line.strip_prefix(' ').unwrap_or(&line).trim_end());
    table.lines().map(trim).collect()
}

/// Indented JSON, ending in a line break.
pub fn json(value: &impl Serialize) -> Result<String, CommandError> {
    let text = serde_json::to_string_pretty(value);
    text.map(|t| t + "\n").map_err(|e| CommandError::Failed(format!("JSON: {e}")))
}

/// Seconds are enough for people.
pub fn time(time: Time) -> String {
    time.format("%Y-%m-%dT%H:%M:%SZ").to_string()
}

pub const SCORE_HEADER: [&str; 4] = ["mase", "pinball", "coverage_80", "exceed_99"];

/// Cells below [`SCORE_HEADER`].
pub fn score(score: &MethodScore) -> [String; 4] {
    [score.mase, score.pinball, score.coverage_80, score.exceed_99].map(|v| format!("{v:.3}"))
}

//! I/O: keeps decisions across a restart, as JSON lines by service and day:
//! `<store>/<service>/decisions/<day>.jsonl`.
//!
//! Lines are only appended. A line that a crash cut short is passed over when reading.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::planner::Decision;

/// Appends decisions, each to the file of its day.
pub fn append(folder: &Path, decisions: &[Arc<Decision>]) -> io::Result<()> {
    if decisions.is_empty() {
        return Ok(());
    }
    fs::create_dir_all(folder)?;
    for day in decisions.chunk_by(|a, b| a.time.date_naive() == b.time.date_naive()) {
        let path = folder.join(format!("{}.jsonl", day[0].time.date_naive()));
        // A newline first: a line that was cut short must not swallow the next one.
        let mut text = String::from("\n");
        for decision in day {
            text.push_str(&serde_json::to_string(decision.as_ref())?);
            text.push('\n');
        }
        let mut file = fs::File::options().create(true).append(true).open(path)?;
        file.write_all(text.as_bytes())?;
        file.sync_data()?;
    }
    Ok(())
}

/// The newest decisions, oldest first, at most `count`; unreadable lines are passed over.
pub fn newest(folder: &Path, count: usize) -> Vec<Arc<Decision>> {
    let mut found: Vec<Arc<Decision>> = Vec::new();
    for path in day_files(folder).iter().rev() {
        let Ok(bytes) = fs::read(path) else { continue };
        let lines = bytes.split(|&b| b == b'\n').rev();
        let readable = lines.filter_map(|line| serde_json::from_slice(line).ok()).map(Arc::new);
        found.extend(readable.take(count - found.len()));
        if found.len() == count {
            break;
        }
    }
    found.reverse();
    found
}

/// Deletes the files of days before `day` (`YYYY-MM-DD`).
pub fn retain_from(folder: &Path, day: &str) {
    let past = |path: &&PathBuf| path.file_stem().is_some_and(|stem| *stem < *day);
    for path in day_files(folder).iter().filter(past) {
        if let Err(error) = fs::remove_file(path) {
            tracing::warn!(path = %path.display(), %error, "old decisions not deleted");
        }
    }
}

/// Ascending by day.
fn day_files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut files: Vec<PathBuf> = entries
        .filter_map(|e| Some(e.ok()?.path()))
        .filter(|p| p.extension().is_some_and(|e| e == "jsonl"))
        .collect();
    files.sort();
    files
}

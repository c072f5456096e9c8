//! I/O: reads recorded load from CSV (`timestamp,value[,lower_bound]`) and Parquet files.
//!
//! What a timestamp may be: RFC 3339 (`2024-03-01T12:00:00Z`; a blank for the `T` is fine, and
//! without a zone it is UTC), or whole seconds or milliseconds since 1970. An empty value is a gap.
//! The optional column `lower_bound` (true, false, 1 or 0; empty is false) marks values whose
//! workers were saturated: demand was at least as high. Whatever makes a recording suspect (times
//! that go back or repeat, values that are negative or no numbers) refuses the whole file.

use std::fs;
use std::io::Cursor;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::Duration;

use chrono::{DateTime, NaiveDateTime};
use polars::prelude::*;

use super::store::native_step_ms;
use crate::series::{MAX_STEPS, Point, Series};

/// Recorded load of one file.
#[derive(Debug, Clone, PartialEq)]
pub struct Recording {
    /// File name without its extension.
    pub name: String,
    /// Ascending by time, no duplicates.
    pub points: Vec<Point>,
    /// Most frequent distance of neighbouring points.
    pub step: Duration,
}

/// Why a file is refused, with line where there is one. Nothing of a refused file is used.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum RecordingError {
    #[error("{file}:{line}: {reason}")]
    Line { file: String, line: u64, reason: String },
    #[error("{file}: {reason}")]
    File { file: String, reason: String },
}

/// The first four bytes of every Parquet file.
const PARQUET_MAGIC: &[u8] = b"PAR1";
/// Put before UTF-8 by spreadsheets.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
/// Whole numbers from here on are milliseconds since 1970 (March 1973 at the earliest), below it
/// seconds.
const FIRST_MILLISECONDS: i64 = 100_000_000_000;
/// 2200-01-01: a later time is a mistaken unit.
const LAST_MS: i64 = 7_258_118_400_000;

impl Recording {
    /// Reads and checks the whole file; its content, not its name, says whether it is Parquet.
    ///
    /// # Errors
    /// [`RecordingError`] on the first thing that is wrong.
    pub fn read(path: &Path) -> Result<Recording, RecordingError> {
        let file = path.display().to_string();
        let refused = |reason: String| RecordingError::File { file: file.clone(), reason };
        let content = fs::read(path).map_err(|e| refused(e.to_string()))?;
        let points = if content.starts_with(PARQUET_MAGIC) {
            read_parquet(content).map_err(refused)?
        } else {
            read_csv(content.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&content)).map_err(
                |(line, reason)| match line {
                    Some(line) => RecordingError::Line { file: file.clone(), line, reason },
                    None => refused(reason),
                },
            )?
        };
        let times: Vec<i64> = points.iter().map(|p| p.ms).collect();
        let step_ms = native_step_ms(&times).ok_or_else(|| {
            refused(format!("{} data points; at least two are needed", times.len()))
        })?;
        let steps = (times[times.len() - 1] - times[0]) / step_ms;
        if steps >= MAX_STEPS {
            let reason = format!("{steps} steps of {step_ms} ms exceed {MAX_STEPS}: a wrong time?");
            return Err(refused(reason));
        }
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Recording { name, points, step: Duration::from_millis(step_ms.unsigned_abs()) })
    }

    /// The recording on its own step, from its first point; gaps explicit. Each point goes to the
    /// nearest step, the mean of several counts.
    pub fn series(&self) -> Series {
        let first_ms = self.points.first().map_or(0, |p| p.ms);
        let step_ms = self.step.as_millis() as i64;
        let step_of = |p: &Point| ((p.ms - first_ms + step_ms / 2) / step_ms) as usize;
        let steps = self.points.last().map_or(0, |last| step_of(last) + 1);
        let start = DateTime::from_timestamp_millis(first_ms).unwrap_or(DateTime::UNIX_EPOCH);
        let points = self.points.iter().map(|p| (step_of(p), *p));
        Series::of_means(start, self.step, steps, points)
    }
}

/// On failure the line, where there is one, and the reason.
fn read_csv(content: &[u8]) -> Result<Vec<Point>, (Option<u64>, String)> {
    let broken = |error: csv::Error| match error.kind() {
        csv::ErrorKind::UnequalLengths { pos, expected_len, len } => {
            let line = pos.as_ref().map(|pos| line_of(content, pos));
            (line, format!("{len} fields, the header has {expected_len}"))
        }
        _ => (None, error.to_string()),
    };
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(content);
    let header = reader.byte_headers().map_err(broken)?.clone();
    if header.is_empty() {
        return Err((None, "empty; the header `timestamp,value` and data are needed".to_owned()));
    }
    let columns = |name: &str| -> Vec<usize> {
        (0..header.len()).filter(|&i| header[i] == *name.as_bytes()).collect()
    };
    let (time, value, bound) =
        match [columns("timestamp"), columns("value"), columns("lower_bound")]
            .each_ref()
            .map(Vec::as_slice)
        {
            [&[time], &[value], &[]] => (time, value, None),
            [&[time], &[value], &[bound]] => (time, value, Some(bound)),
            _ => {
                let header = quote(&header.iter().collect::<Vec<_>>().join(&b','));
                return Err((Some(1), format!("header {header}, but `timestamp,value` is needed")));
            }
        };
    let mut points = Vec::new();
    let mut milliseconds = None;
    for record in reader.into_byte_records() {
        let record = record.map_err(broken)?;
        let at = |reason| (record.position().map(|pos| line_of(content, pos)), reason);
        let ms = parse_time(&record[time], &mut milliseconds).map_err(at)?;
        let field = &record[value];
        if field.is_empty() {
            continue;
        }
        let value: Option<f64> = std::str::from_utf8(field).ok().and_then(|text| text.parse().ok());
        let value = value.ok_or_else(|| at(format!("value {} is no number", quote(field))))?;
        let lower_bound = bound.map_or(Ok(false), |i| parse_flag(&record[i])).map_err(at)?;
        push(&mut points, Point { ms, value, lower_bound }).map_err(at)?;
    }
    Ok(points)
}

/// Parquet as others write it: `timestamp` or `time`, `value` or `demand`, and `lower_bound` if
/// there is one.
fn read_parquet(content: Vec<u8>) -> Result<Vec<Point>, String> {
    let read = || ParquetReader::new(Cursor::new(content)).finish();
    // Polars answers some damage with a panic instead of an error.
    let frame = catch_unwind(AssertUnwindSafe(read))
        .map_err(|_| "damaged Parquet".to_owned())?
        .map_err(|e| format!("no readable Parquet: {e}"))?;
    let column = |names: [&str; 2]| {
        let found = names.iter().find_map(|name| frame.column(name).ok());
        let columns = frame.get_column_names().iter().map(|n| n.as_str()).collect::<Vec<_>>();
        let [first, second] = names;
        found.ok_or_else(|| {
            format!("columns `{}`, but `{first}` or `{second}` is needed", columns.join("`, `"))
        })
    };
    let times = column(["timestamp", "time"])?;
    let times = match times.dtype() {
        DataType::Datetime(_, _) => times.cast(&DataType::Datetime(TimeUnit::Milliseconds, None)),
        DataType::Int64 => Ok(times.clone()),
        other => return Err(format!("times of type {other}; a datetime or an int64 is needed")),
    };
    let times = times.and_then(|c| c.cast(&DataType::Int64)).map_err(|e| e.to_string())?;
    let values = column(["value", "demand"])?;
    if !values.dtype().is_primitive_numeric() {
        return Err(format!("values of type {}; numbers are needed", values.dtype()));
    }
    let values = values.cast(&DataType::Float64).map_err(|e| e.to_string())?;
    let times = times.i64().map_err(|e| e.to_string())?;
    let values = values.f64().map_err(|e| e.to_string())?;
    let flags = frame.column("lower_bound").map_or(Ok(None), |c| flags(c).map(Some))?;
    let whole_seconds = matches!(times.max(), Some(max) if max < FIRST_MILLISECONDS);
    let mut points = Vec::new();
    for (row, (time, value)) in (1..).zip(times.iter().zip(values.iter())) {
        let at = |reason: String| format!("row {row}: {reason}");
        let time = time.ok_or_else(|| at("no time".to_owned()))?;
        let ms = if whole_seconds { time * 1_000 } else { time };
        if let Some(value) = value {
            let lower_bound = flags.as_ref().is_some_and(|f| f.get(row - 1) == Some(true));
            push(&mut points, Point { ms, value, lower_bound }).map_err(at)?;
        }
    }
    Ok(points)
}

/// A Parquet column of booleans or of 0 and 1.
fn flags(column: &Column) -> Result<BooleanChunked, String> {
    let refused = || {
        let found = column.dtype();
        format!("lower_bound of type {found}; booleans, or integers 0 and 1, are needed")
    };
    let integers = column.dtype().is_integer().then(|| column.cast(&DataType::Int64));
    if let Some(Ok(integers)) = integers {
        let within = integers.i64().is_ok_and(|c| c.iter().flatten().all(|v| v == 0 || v == 1));
        return within
            .then(|| integers.cast(&DataType::Boolean).ok()?.bool().ok().cloned())
            .flatten()
            .ok_or_else(refused);
    }
    column.bool().cloned().map_err(|_| refused())
}

/// Appends a point if it may follow the last one.
fn push(points: &mut Vec<Point>, point: Point) -> Result<(), String> {
    let Point { ms, value, .. } = point;
    if !(0..LAST_MS).contains(&ms) {
        return Err("the time is not between 1970 and 2200".to_owned());
    }
    if !(0.0..f64::INFINITY).contains(&value) {
        return Err(format!("value {value}; a finite number, 0 or more, is needed"));
    }
    match points.last() {
        Some(last) if ms == last.ms => Err("the same time as the point before".to_owned()),
        Some(last) if ms < last.ms => Err("earlier than the point before".to_owned()),
        _ => {
            points.push(point);
            Ok(())
        }
    }
}

/// Milliseconds since 1970. The first whole number of a file decides the unit for all of them.
fn parse_time(field: &[u8], milliseconds: &mut Option<bool>) -> Result<i64, String> {
    let refused = || {
        format!(
            "timestamp {} is neither RFC 3339 (2024-03-01T12:00:00Z) nor whole seconds or \
             milliseconds since 1970",
            quote(field)
        )
    };
    let text = std::str::from_utf8(field).map_err(|_| refused())?;
    if let Ok(number) = text.parse::<i64>() {
        let is_ms = *milliseconds.get_or_insert(number >= FIRST_MILLISECONDS);
        return number.checked_mul(if is_ms { 1 } else { 1_000 }).ok_or_else(refused);
    }
    let zoned = DateTime::parse_from_rfc3339(text).map(|time| time.timestamp_millis());
    let naive = |format| NaiveDateTime::parse_from_str(text, format);
    let utc = || naive("%Y-%m-%d %H:%M:%S%.f").or_else(|_| naive("%Y-%m-%dT%H:%M:%S%.f"));
    zoned.or_else(|_| utc().map(|time| time.and_utc().timestamp_millis())).map_err(|_| refused())
}

fn parse_flag(field: &[u8]) -> Result<bool, String> {
    match field.to_ascii_lowercase().as_slice() {
        b"true" | b"1" => Ok(true),
        b"false" | b"0" | b"" => Ok(false),
        _ => Err(format!("lower_bound {}; true, false, 1 or 0 is needed", quote(field))),
    }
}

/// The line of a record. The reader's own count is off where blank lines or CRLF come before it.
fn line_of(content: &[u8], position: &csv::Position) -> u64 {
    let (before, after) = content.split_at(content.len().min(position.byte() as usize));
    let blank = after.iter().take_while(|byte| matches!(byte, b'\r' | b'\n'));
    1 + before.iter().chain(blank).filter(|byte| **byte == b'\n').count() as u64
}

/// At most 40 characters of what a file holds, fit for a message.
fn quote(field: &[u8]) -> String {
    let text = String::from_utf8_lossy(&field[..field.len().min(160)]);
    let visible =
        |c: char| if c.is_control() { c.escape_debug().to_string() } else { c.to_string() };
    let short: String = text.chars().take(40).map(visible).collect();
    let more = if text.chars().count() > 40 { "…" } else { "" };
    format!("`{short}{more}`")
}

#[cfg(test)]
mod tests;

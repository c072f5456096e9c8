//! I/O: reads recorded load from CSV (`timestamp,value`) and Parquet files.
//!
//! What a timestamp may be: RFC 3339 (`2024-03-01T12:00:00Z`; a blank for the `T` is fine, and
//! without a zone it is UTC), or whole seconds or milliseconds since 1970. An empty value is a gap.
//! Whatever makes a recording suspect (times that go back or repeat, values that are negative or no
//! numbers) refuses the whole file.

use std::fs;
use std::io::Cursor;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::Duration;

use chrono::{DateTime, NaiveDateTime};
use polars::prelude::*;

use super::store::native_step_ms;
use crate::series::{MAX_STEPS, Series};

/// Recorded load of one file.
#[derive(Debug, Clone, PartialEq)]
pub struct Recording {
    /// File name without its extension.
    pub name: String,
    /// (milliseconds since 1970, value), ascending by time, no duplicates.
    pub points: Vec<(i64, f64)>,
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
        let times: Vec<i64> = points.iter().map(|&(ms, _)| ms).collect();
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
        let Some(&(first_ms, _)) = self.points.first() else {
            return Series::new(DateTime::UNIX_EPOCH, self.step, Vec::new());
        };
        let step_ms = self.step.as_millis() as i64;
        let step_of = |ms: i64| ((ms - first_ms + step_ms / 2) / step_ms) as usize;
        let last = self.points.last().map_or(0, |&(ms, _)| step_of(ms));
        let mut sums = vec![(0.0, 0u32); last + 1];
        for &(ms, value) in &self.points {
            let cell = &mut sums[step_of(ms)];
            *cell = (cell.0 + value, cell.1 + 1);
        }
        // 0 / 0 is NaN, a gap.
        let values = sums.into_iter().map(|(sum, n)| sum / f64::from(n)).collect();
        let start = DateTime::from_timestamp_millis(first_ms).unwrap_or(DateTime::UNIX_EPOCH);
        Series::new(start, self.step, values)
    }
}

type Points = Vec<(i64, f64)>;

/// On failure the line, where there is one, and the reason.
fn read_csv(content: &[u8]) -> Result<Points, (Option<u64>, String)> {
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
    let column = |name: &str| {
        let mut found = header.iter().enumerate().filter(|(_, field)| *field == name.as_bytes());
        match (found.next(), found.next()) {
            (Some((i, _)), None) => Ok(i),
            _ => {
                let header = quote(&header.iter().collect::<Vec<_>>().join(&b','));
                Err((Some(1), format!("header {header}, but `timestamp,value` is needed")))
            }
        }
    };
    let (time_column, value_column) = (column("timestamp")?, column("value")?);
    let mut points = Points::new();
    let mut milliseconds = None;
    for record in reader.into_byte_records() {
        let record = record.map_err(broken)?;
        let at = |reason| (record.position().map(|pos| line_of(content, pos)), reason);
        let ms = parse_time(&record[time_column], &mut milliseconds).map_err(at)?;
        let field = &record[value_column];
        if field.is_empty() {
            continue;
        }
        let value: Option<f64> = std::str::from_utf8(field).ok().and_then(|text| text.parse().ok());
        let value = value.ok_or_else(|| at(format!("value {} is no number", quote(field))))?;
        push(&mut points, ms, value).map_err(at)?;
    }
    Ok(points)
}

/// Parquet as others write it: `timestamp` or `time`, `value` or `demand`.
fn read_parquet(content: Vec<u8>) -> Result<Points, String> {
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
    let whole_seconds = matches!(times.max(), Some(max) if max < FIRST_MILLISECONDS);
    let mut points = Points::new();
    for (row, (time, value)) in (1..).zip(times.iter().zip(values.iter())) {
        let at = |reason: String| format!("row {row}: {reason}");
        let time = time.ok_or_else(|| at("no time".to_owned()))?;
        let ms = if whole_seconds { time * 1_000 } else { time };
        if let Some(value) = value {
            push(&mut points, ms, value).map_err(at)?;
        }
    }
    Ok(points)
}

/// Appends a point if it may follow the last one.
fn push(points: &mut Points, ms: i64, value: f64) -> Result<(), String> {
    if !(0..LAST_MS).contains(&ms) {
        return Err("the time is not between 1970 and 2200".to_owned());
    }
    if !(0.0..f64::INFINITY).contains(&value) {
        return Err(format!("value {value}; a finite number, 0 or more, is needed"));
    }
    match points.last() {
        Some(&(last, _)) if ms == last => Err("the same time as the point before".to_owned()),
        Some(&(last, _)) if ms < last => Err("earlier than the point before".to_owned()),
        _ => {
            points.push((ms, value));
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
mod tests {
    use super::*;

    fn read(content: &[u8]) -> Result<Recording, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("load.csv");
        fs::write(&path, content).unwrap();
        let folder = format!("{}/", folder.path().display());
        Recording::read(&path).map_err(|e| e.to_string().replace(&folder, ""))
    }

    fn points(content: &str) -> Points {
        read(content.as_bytes()).unwrap().points
    }

    /// The file is refused with this message.
    fn check(content: impl AsRef<[u8]>, want: &str) {
        assert_eq!(read(content.as_ref()).unwrap_err(), want);
    }

    #[test]
    fn every_spelling_of_time_is_read() {
        let want = [(1_709_251_200_000, 1.0), (1_709_251_260_000, 0.0), (1_709_251_320_000, 2.5)];
        for times in [
            ["2024-03-01T00:00:00Z", "2024-03-01T01:01:00+01:00", "2024-03-01T00:02:00.000Z"],
            ["2024-03-01 00:00:00", "2024-03-01 00:01:00.0", "2024-03-01T00:02:00"],
            ["1709251200", "1709251260", "1709251320"],
            ["1709251200000", "1709251260000", "1709251320000"],
        ] {
            let [a, b, c] = times;
            assert_eq!(points(&format!("timestamp,value\n{a},1\n{b},0\n{c},2.5\n")), want);
        }
        // A byte order mark, blanks, quotes, CRLF, more columns, another order, no newline at the
        // end.
        assert_eq!(
            points(
                "\u{feff}value , host,timestamp\r\n 1,a, 2024-03-01T00:00:00Z \r\n\
                 0,b,\"2024-03-01T00:01:00Z\"\r\n2.5,c,2024-03-01T00:02:00Z"
            ),
            want
        );
    }

    #[test]
    fn an_empty_value_and_a_missing_row_are_gaps() {
        let recording = read(b"timestamp,value\n10,1\n20,2\n30,\n40,4\n61,6\n").unwrap();
        assert_eq!(recording.name, "load");
        assert_eq!(recording.step, Duration::from_secs(10));
        let series = recording.series();
        assert_eq!(series.start().timestamp(), 10);
        let values: Vec<Option<f64>> = (0..series.len()).map(|i| series.get(i)).collect();
        // 61 s is nearest to the step that begins at 60 s.
        assert_eq!(values, [Some(1.0), Some(2.0), None, Some(4.0), None, Some(6.0)]);
    }

    #[test]
    fn suspect_files_are_refused_with_line_and_reason() {
        const T: &str = "timestamp,value\n2024-03-01T00:00:00Z,1\n";
        check("", "load.csv: empty; the header `timestamp,value` and data are needed");
        check("timestamp,value\n", "load.csv: 0 data points; at least two are needed");
        check(T, "load.csv: 1 data points; at least two are needed");
        let header = "load.csv:1: header `time,load`, but `timestamp,value` is needed";
        check("time,load\n1,2\n", header);
        check("value,value\n1,2\n", &header.replace("time,load", "value,value"));
        check(
            "timestamp,value\n0.5,2024-03-01T00:00:00Z\n",
            "load.csv:2: timestamp `0.5` is neither RFC 3339 (2024-03-01T12:00:00Z) nor whole \
             seconds or milliseconds since 1970",
        );
        check(format!("{T}2024-03-01T00:01:00Z\n"), "load.csv:3: 1 fields, the header has 2");
        check(
            format!("{T}2024-03-01T00:01:00Z,x\u{1b}[31m\n"),
            r"load.csv:3: value `x\u{1b}[31m` is no number",
        );
        for value in ["NaN", "inf", "-inf", "-1"] {
            check(
                format!("{T}2024-03-01T00:01:00Z,{value}\n"),
                &format!("load.csv:3: value {value}; a finite number, 0 or more, is needed"),
            );
        }
        check(
            format!("{T}2024-03-01T00:00:00Z,2\n"),
            "load.csv:3: the same time as the point before",
        );
        check(
            format!("{T}\n\n2024-02-01T00:00:00Z,2\n"),
            "load.csv:5: earlier than the point before",
        );
        check(
            "\u{feff}timestamp,value\r\n5,1\r\n\r\n6,2\r\n4,3",
            "load.csv:5: earlier than the point before",
        );
        let between = "load.csv:2: the time is not between 1970 and 2200";
        check("timestamp,value\n1709251200000000,1\n", between);
        check("timestamp,value\n-5,1\n", between);
        check(
            "timestamp,value\n0,1\n1,1\n2,1\n4102444800,1\n",
            "load.csv: 4102444800 steps of 1000 ms exceed 22000000: a wrong time?",
        );
    }

    #[test]
    fn binary_and_endless_content_is_refused_in_few_words() {
        let long = format!("timestamp,value\n{},1\n", "9".repeat(1 << 20));
        for content in [vec![0xff; 4096], vec![0; 4096], long.into_bytes(), b"\"".to_vec()] {
            let message = read(&content).unwrap_err();
            assert!(message.len() < 400 && !message.contains('\0'), "{message}");
        }
        assert!(read(b"PAR1").unwrap_err().contains("Parquet"));
        let folder = tempfile::tempdir().unwrap();
        assert!(Recording::read(folder.path()).is_err());
        assert!(Recording::read(&folder.path().join("absent.csv")).is_err());
    }

    fn parquet(columns: Vec<Column>) -> Vec<u8> {
        let mut content = Vec::new();
        let mut frame = DataFrame::new(columns[0].len(), columns).unwrap();
        ParquetWriter::new(&mut content).finish(&mut frame).unwrap();
        content
    }

    #[test]
    fn parquet_is_known_by_its_content() {
        let us = [0, 1_000_000, 2_000_000].map(|us: i64| 1_709_251_200_000_000 + us).to_vec();
        let datetime = Int64Chunked::from_vec("time".into(), us)
            .into_datetime(TimeUnit::Microseconds, None)
            .into_column();
        let seconds =
            Column::new("timestamp".into(), [1_709_251_200i64, 1_709_251_201, 1_709_251_202]);
        let demand = Column::new("demand".into(), [Some(1.0), None, Some(3.0)]);
        let counts = Column::new("value".into(), [Some(1u32), None, Some(3)]);
        let want = [(1_709_251_200_000, 1.0), (1_709_251_202_000, 3.0)];
        for columns in [vec![datetime, demand], vec![counts.clone(), seconds.clone()]] {
            assert_eq!(read(&parquet(columns)).unwrap().points, want);
        }
        let text = Column::new("value".into(), ["1", "2", "3"]);
        check(
            parquet(vec![seconds.clone(), text]),
            "load.csv: values of type str; numbers are needed",
        );
        check(
            parquet(vec![counts.clone()]),
            "load.csv: columns `value`, but `timestamp` or `time` is needed",
        );
        let back = Column::new("time".into(), [5i64, 4, 3]);
        let back_values = Column::new("value".into(), [1.0, 1.0, 1.0]);
        check(parquet(vec![back, back_values]), "load.csv: row 2: earlier than the point before");
        let whole = parquet(vec![seconds, counts]);
        for end in (4..whole.len()).step_by(13) {
            assert!(read(&whole[..end]).unwrap_err().contains("Parquet"));
        }
    }
}

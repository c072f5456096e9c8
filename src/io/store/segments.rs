//! I/O: the Parquet segments of one day: list, read, write, merge.
//!
//! A segment is never changed. Its name, `<first_ms>-<seq>-<digest>.parquet`, tells where its rows
//! begin, by `seq` which of two segments is newer, and what its bytes must be. The digest is there
//! because Polars answers damaged Parquet with panics and worse: it gets to see only what Foresail
//! wrote.
//!
//! Small segments are merged as log-structured stores do it: sixteen neighbours of one size class
//! become one of the next, so that a row is rewritten a few times and a day stays a few dozen
//! files. The merged segment is in place before its parts go; a crash between the two leaves rows
//! twice, and readers merge those.
//!
//! No lock is held against other processes: two files of one name have the same content, and a
//! reader whose segment was merged away lists the folder again.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use polars::prelude::*;

use super::frames::{self, Kind};
use crate::io::atomic_file;

/// Upper ends of the size classes, in bytes.
const SIZE_CLASSES: [u64; 2] = [64 << 10, 1 << 20];
/// Segments of one size class that are merged into one.
const FAN_IN: usize = 16;
/// Most bytes that one merge takes in: it happens in memory, where rows are some ten times larger.
const MERGE_LIMIT: u64 = 32 << 20;
/// Times that a folder is listed again because a merge was faster than the reader.
const RELISTINGS: usize = 8;

#[derive(Debug, Clone, PartialEq, Eq)]
struct Segment {
    path: PathBuf,
    first_ms: i64,
    seq: u64,
    bytes: u64,
}

/// Segments that were compared with their digest, and whether they were sound: each is read in full
/// but once.
#[derive(Debug, Default)]
pub struct Verdicts(Mutex<BTreeMap<PathBuf, bool>>);

/// Reads rows with `from_ms <= time < to_ms`, one frame for each readable segment, the oldest
/// segment first.
pub fn read(
    folder: &Path,
    kind: Kind,
    (from_ms, to_ms): (i64, i64),
    verdicts: &Verdicts,
) -> io::Result<Vec<DataFrame>> {
    for _ in 0..RELISTINGS {
        let segments = list(folder)?;
        let overlapping = segments.iter().filter(|s| s.first_ms < to_ms);
        let scanned = overlapping.map(|s| (s, scan(s, kind, (from_ms, to_ms), verdicts)));
        let scanned: Vec<_> = scanned.collect();
        if scanned.iter().all(|(segment, frame)| frame.is_some() || segment.path.exists()) {
            return Ok(scanned.into_iter().filter_map(|(_, frame)| frame).collect());
        }
    }
    Err(io::Error::other("its segments are merged faster than they can be read"))
}

/// Writes `frame` (sorted, not empty) as the newest segment of its day.
pub fn write(folder: &Path, frame: DataFrame) -> io::Result<()> {
    let seq = list(folder)?.last().map_or(1, |newest| newest.seq + 1);
    write_numbered(folder, seq, frame).map(drop)
}

/// Merges small segments where that is worth it; `closed` says that the day gets no more rows in
/// the ordinary course, and may become one segment.
pub fn compact(folder: &Path, kind: Kind, closed: bool, verdicts: &Verdicts) -> io::Result<()> {
    atomic_file::remove_abandoned(folder)?;
    let segments = list(folder)?;
    // One that cannot be read stays where it is, for people to look at.
    let (parts, contents): (Vec<&Segment>, Vec<DataFrame>) = worth_merging(&segments, closed)
        .iter()
        .filter_map(|s| Some((s, scan(s, kind, (i64::MIN, i64::MAX), verdicts)?)))
        .unzip();
    let (Some(newest), true) = (parts.last(), parts.len() >= 2) else {
        return Ok(());
    };
    let merged = frames::merge(kind, contents).map_err(io::Error::other)?;
    let merged = write_numbered(folder, newest.seq, merged)?;
    for part in parts.iter().filter(|part| part.path != merged) {
        verdicts.lock().remove(&part.path);
        match fs::remove_file(&part.path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
    }
    Ok(())
}

/// The newest segments that should become one; empty if none. Only a run of neighbours up to the
/// newest may be merged: else an old row could come to be newer than its correction.
fn worth_merging(segments: &[Segment], closed: bool) -> &[Segment] {
    let newest_below = |limit: u64| {
        let mut total = 0;
        let run = segments.iter().rev().take_while(|s| {
            total += s.bytes;
            s.bytes < limit && total <= MERGE_LIMIT
        });
        &segments[segments.len() - run.count()..]
    };
    if closed {
        return newest_below(u64::MAX);
    }
    let mut floor = 0;
    for limit in SIZE_CLASSES {
        let run = newest_below(limit);
        if run.iter().filter(|s| s.bytes >= floor).count() >= FAN_IN {
            return run;
        }
        floor = limit;
    }
    &[]
}

/// Segments of a folder, oldest first; an absent folder has none. Files of other names are passed
/// over.
fn list(folder: &Path) -> io::Result<Vec<Segment>> {
    let entries = match fs::read_dir(folder) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut segments = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let numbers = path.file_name().and_then(|n| n.to_str()).and_then(parse_name);
        // A segment that is merged away between the listing and here has no size, and need not be
        // listed.
        if let (Some((first_ms, seq)), Ok(metadata)) = (numbers, path.metadata()) {
            segments.push(Segment { bytes: metadata.len(), first_ms, seq, path });
        }
    }
    segments.sort_by_key(|s| (s.seq, s.first_ms));
    Ok(segments)
}

/// Rows of one segment in a time range. `None`, with a word in the log, if the segment cannot be
/// read.
fn scan(
    segment: &Segment,
    kind: Kind,
    range_ms: (i64, i64),
    verdicts: &Verdicts,
) -> Option<DataFrame> {
    if !verdicts.sound(&segment.path) {
        return None;
    }
    let rows = File::open(&segment.path)
        .map_err(PolarsError::from)
        .and_then(|file| ParquetReader::new(file).finish())
        .and_then(|rows| frames::within(&frames::conform(kind, &rows)?, range_ms));
    rows.inspect_err(|e| warn_of(&segment.path, &e.to_string())).ok()
}

impl Verdicts {
    fn sound(&self, path: &Path) -> bool {
        if let Some(&sound) = self.lock().get(path) {
            return sound;
        }
        let content = match fs::read(path) {
            Ok(content) => content,
            // Gone or not to be read just now: no verdict.
            Err(e) => {
                if e.kind() != io::ErrorKind::NotFound {
                    warn_of(path, &e.to_string());
                }
                return false;
            }
        };
        let wanted = path.file_stem().and_then(|n| n.to_str()).and_then(|n| n.rsplit_once('-'));
        let sound = wanted.is_some_and(|(_, digest)| digest == digest_of(&content));
        if !sound {
            warn_of(path, "its content is not what its name says: damaged, or not from Foresail");
        }
        self.lock().insert(path.to_owned(), sound);
        sound
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<PathBuf, bool>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn write_numbered(folder: &Path, seq: u64, mut frame: DataFrame) -> io::Result<PathBuf> {
    let times = frames::times(&frame).map_err(io::Error::other)?;
    let first_ms = times.first().copied().unwrap_or(0);
    let content = parquet(frame.rechunk_mut()).map_err(io::Error::other)?;
    let path = folder.join(format!("{first_ms}-{seq:06}-{}.parquet", digest_of(&content)));
    atomic_file::write(&path, &content)?;
    Ok(path)
}

/// One row group, for the frame is in one piece. Not `finish` of the writer: it would divide the
/// frame first, by way of an empty one as `frames::merge` avoids.
fn parquet(frame: &DataFrame) -> PolarsResult<Vec<u8>> {
    let mut content = Vec::new();
    let mut writer = ParquetWriter::new(&mut content)
        .with_compression(ParquetCompression::Zstd(None))
        .with_statistics(StatisticsOptions::full())
        .set_parallel(false)
        .batched(frame.schema())?;
    writer.write_batch(frame)?;
    writer.finish()?;
    Ok(content)
}

/// First time and number of a segment.
fn parse_name(name: &str) -> Option<(i64, u64)> {
    let (numbers, _digest) = name.strip_suffix(".parquet")?.rsplit_once('-')?;
    let (first_ms, seq) = numbers.rsplit_once('-')?;
    Some((first_ms.parse().ok()?, seq.parse().ok()?))
}

/// FNV-1a, 64 bits: any single changed byte changes it. It guards against accidents, not against
/// people.
fn digest_of(content: &[u8]) -> String {
    let fold = |hash: u64, &byte: &u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    format!("{:016x}", content.iter().fold(0xcbf2_9ce4_8422_2325, fold))
}

fn warn_of(path: &Path, reason: &str) {
    tracing::warn!(path = %path.display(), reason, "segment passed over");
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sizes of the segments, oldest first; how many of the newest are merged in an open and in a
    /// closed day.
    fn check(sizes: &[u64], open: usize, closed: usize) {
        let segments: Vec<Segment> = (0..)
            .zip(sizes)
            .map(|(seq, &bytes)| Segment { path: PathBuf::new(), first_ms: 0, seq, bytes })
            .collect();
        assert_eq!(worth_merging(&segments, false).len(), open, "{sizes:?}");
        assert_eq!(worth_merging(&segments, true).len(), closed, "{sizes:?}");
    }

    #[test]
    fn sixteen_neighbours_of_a_size_class_are_merged() {
        const K: u64 = 1 << 10;
        const M: u64 = 1 << 20;
        check(&[], 0, 0);
        check(&[2 * K; 15], 0, 15);
        check(&[2 * K; 16], 16, 16);
        // The large old one stays as it is.
        check(&[[100 * K].as_slice(), &[2 * K; 16]].concat(), 16, 17);
        // Sixteen of the second class take the small ones after them along.
        check(&[[100 * K; 16].as_slice(), &[2 * K; 3]].concat(), 19, 19);
        check(&[[100 * K; 15].as_slice(), &[2 * K; 3]].concat(), 0, 18);
        // A small one behind a large one is not its neighbour's neighbour.
        check(&[[2 * K; 15].as_slice(), &[2 * M], &[2 * K; 15]].concat(), 0, 31);
        // Not more than a merge can hold.
        check(&[20 * M, 20 * M, 10 * M], 0, 2);
    }

    #[test]
    fn names_of_segments_are_read_back() {
        let check = |name, want| assert_eq!(parse_name(name), want, "{name}");
        check("1709251200000-000012-00ff.parquet", Some((1_709_251_200_000, 12)));
        check("-5-000001-00ff.parquet", Some((-5, 1)));
        check("5-1.parquet", None);
        check("notes.parquet", None);
        check("1-2-3.parquet.77-0.tmp", None);
        check("99999999999999999999-1-ff.parquet", None);
    }

    #[test]
    fn the_digest_is_fnv_1a() {
        // From the reference vectors of the FNV authors: "", "a", "foobar".
        assert_eq!(digest_of(b""), "cbf29ce484222325");
        assert_eq!(digest_of(b"a"), "af63dc4c8601ec8c");
        assert_eq!(digest_of(b"foobar"), "85944171f73967e8");
    }
}

//! I/O: samples and demand in Polars frames, kept as Parquet segments by service and day.
//!
//! `<store>/<service>/<samples or demand>/<YYYY-MM-DD>/<first_ms>-<seq>-<digest>.parquet`. New rows
//! wait in memory until the next flush, where they are readable at once; a crash loses those and
//! nothing else. Reading opens only the days that overlap, and merges rows of the same time (and
//! replica), the newest winning: appending again what is already there changes nothing. A damaged
//! segment is named in the log once and passed over. Several processes may use one store at the
//! same time.

mod frames;
mod segments;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Days, NaiveDate, TimeDelta, Utc};
use polars::prelude::{DataFrame, PolarsError, PolarsResult};
use serde::{Deserialize, Serialize};

use self::frames::Kind;
use super::atomic_file;
use super::collector::Sample;
use crate::series::{Point, Series, SeriesError, Time};

/// What a service did at one evaluation; a row of the store.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct DemandRow {
    /// End of the evaluation interval.
    #[schema(value_type = String, format = DateTime)]
    pub time: Time,
    /// `None`: nothing could be read.
    pub demand: Option<f64>,
    pub lower_bound: bool,
    pub ready_replicas: u32,
    pub current_replicas: u32,
    pub desired_replicas: u32,
}

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("{path}: {reason}")]
    File { path: String, reason: String },
    #[error("`{0}` is no service name: letters, digits, `-`, `_` and `.`, not starting with a dot")]
    Service(String),
}

/// All recorded load. Blocking: call from a blocking thread. Shared by reference.
#[derive(Debug)]
pub struct Store {
    root: PathBuf,
    retention: Duration,
    /// Rows that are not yet in a segment, by service and kind.
    buffer: Mutex<BTreeMap<(String, Kind), DataFrame>>,
    /// Held while segments are written or merged.
    writing: Mutex<()>,
    verdicts: segments::Verdicts,
}

/// Rows of one service and kind that may wait in memory while the disk refuses them: a day of ten
/// replicas each second. The oldest go first.
const MAX_WAITING_ROWS: usize = 1_000_000;
const MAX_SERVICE_NAME: usize = 128;

impl Store {
    /// Opens or creates the folder; needs no repair after a crash.
    ///
    /// # Errors
    /// [`StoreError`] if the folder cannot be made or read.
    pub fn open(path: &Path, retention: Duration) -> Result<Store, StoreError> {
        atomic_file::create_folder(path).map_err(|e| file_error(path, e))?;
        fs::read_dir(path).map_err(|e| file_error(path, e))?;
        Ok(Store {
            root: path.to_owned(),
            retention,
            buffer: Mutex::default(),
            writing: Mutex::default(),
            verdicts: Default::default(),
        })
    }

    /// Keeps rows in memory until the next [`Store::flush`]; they are readable at once.
    ///
    /// # Errors
    /// [`StoreError::Service`] for a name that must not become a folder.
    pub fn append(
        &self,
        service: &str,
        samples: &[Sample],
        demand: &[DemandRow],
    ) -> Result<(), StoreError> {
        check_service(service)?;
        let in_memory = |e| frame_error(Path::new("rows in memory"), e);
        let frames = [
            (Kind::Samples, frames::from_samples(samples).map_err(in_memory)?),
            (Kind::Demand, frames::from_demand(demand).map_err(in_memory)?),
        ];
        let mut buffer = lock(&self.buffer);
        for (kind, frame) in frames.into_iter().filter(|(_, frame)| frame.height() > 0) {
            let waiting = buffer.entry((service.to_owned(), kind)).or_default();
            waiting.vstack_mut_owned(frame).map_err(in_memory)?;
        }
        Ok(())
    }

    /// Writes what was appended as new segments (temporary file, sync, rename, sync of the folder),
    /// merges small segments, deletes those past retention. On an error the rows stay in memory for
    /// the next flush.
    ///
    /// # Errors
    /// The first [`StoreError`]; the other services and kinds are written all the same.
    pub fn flush(&self, now: Time) -> Result<(), StoreError> {
        let _one_at_a_time = lock(&self.writing);
        let waiting = lock(&self.buffer).clone();
        let mut outcome = Ok(());
        for ((service, kind), frame) in waiting {
            let earlier = self.days(&self.folder(&service, kind));
            let written = earlier.and_then(|days| Ok((days, self.write(&service, kind, &frame)?)));
            self.forget(&service, kind, if written.is_ok() { frame.height() } else { 0 });
            let merged =
                written.and_then(|(earlier, days)| self.compact(&service, kind, &earlier, days));
            outcome = outcome.and(merged);
        }
        outcome.and(self.retain(now))
    }

    /// Demand rows with `from <= time < to`, ascending, one a time.
    ///
    /// # Errors
    /// [`StoreError`] if the folders cannot be read; an unreadable segment is no error.
    pub fn demand(
        &self,
        service: &str,
        from: Time,
        to: Time,
    ) -> Result<Vec<DemandRow>, StoreError> {
        let frame = self.read(service, Kind::Demand, from, to)?;
        frames::to_demand(&frame).map_err(|e| frame_error(&self.root.join(service), e))
    }

    /// Samples with `from <= time < to`, ascending by time, then replica.
    ///
    /// # Errors
    /// As [`Store::demand`].
    pub fn samples(&self, service: &str, from: Time, to: Time) -> Result<Vec<Sample>, StoreError> {
        let frame = self.read(service, Kind::Samples, from, to)?;
        frames::to_samples(&frame).map_err(|e| frame_error(&self.root.join(service), e))
    }

    /// First and last time of the demand rows of a service.
    ///
    /// # Errors
    /// As [`Store::demand`].
    pub fn span(&self, service: &str) -> Result<Option<(Time, Time)>, StoreError> {
        check_service(service)?;
        let folder = self.folder(service, Kind::Demand);
        let mut days = self.days(&folder)?;
        if let Some(waiting) = lock(&self.buffer).get(&(service.to_owned(), Kind::Demand)) {
            let times = frames::times(waiting).map_err(|e| frame_error(&folder, e))?;
            days.extend(times.into_iter().map(day_of));
        }
        let ends = |day: &NaiveDate| -> Result<Option<(Time, Time)>, StoreError> {
            let (from, to) = day_bounds(*day);
            let rows = self.demand(service, from, to)?;
            Ok(rows.first().zip(rows.last()).map(|(first, last)| (first.time, last.time)))
        };
        // A day whose segments are all unreadable has no ends: the next one counts then.
        let first = days.iter().map(ends).find_map(Result::transpose).transpose()?;
        let last = days.iter().rev().map(ends).find_map(Result::transpose).transpose()?;
        Ok(first.zip(last).map(|(first, last)| (first.0, last.1)))
    }

    /// Names of services with data, ascending.
    ///
    /// # Errors
    /// As [`Store::demand`].
    pub fn services(&self) -> Result<Vec<String>, StoreError> {
        let mut services: BTreeSet<String> =
            lock(&self.buffer).keys().map(|(service, _)| service.clone()).collect();
        for service in names(&self.root).map_err(|e| file_error(&self.root, e))? {
            let recorded = |kind| self.days(&self.folder(&service, kind)).map(|d| !d.is_empty());
            if check_service(&service).is_ok()
                && (recorded(Kind::Demand)? || recorded(Kind::Samples)?)
            {
                services.insert(service);
            }
        }
        Ok(services.into_iter().collect())
    }

    fn read(
        &self,
        service: &str,
        kind: Kind,
        from: Time,
        to: Time,
    ) -> Result<DataFrame, StoreError> {
        check_service(service)?;
        let (from_ms, to_ms) = (from.timestamp_millis(), to.timestamp_millis());
        let folder = self.folder(service, kind);
        // Memory before disk: rows that a flush moves meanwhile are then seen twice, not missed.
        let waiting = lock(&self.buffer).get(&(service.to_owned(), kind)).cloned();
        let mut frames = Vec::new();
        let days = self.days(&folder)?;
        for day in days.range(day_of(from_ms)..).take_while(|day| **day <= day_of(to_ms)) {
            let folder = folder.join(day.to_string());
            let rows = segments::read(&folder, kind, (from_ms, to_ms), &self.verdicts);
            frames.extend(rows.map_err(|e| file_error(&folder, e))?);
        }
        if let Some(waiting) = waiting {
            let within = frames::within(&waiting, (from_ms, to_ms));
            frames.push(within.map_err(|e| frame_error(&folder, e))?);
        }
        frames::merge(kind, frames).map_err(|e| frame_error(&folder, e))
    }

    /// Writes one segment for each day in `frame`, and gives these days.
    fn write(
        &self,
        service: &str,
        kind: Kind,
        frame: &DataFrame,
    ) -> Result<Vec<NaiveDate>, StoreError> {
        let folder = self.folder(service, kind);
        let days = split_by_day(kind, frame).map_err(|e| frame_error(&folder, e))?;
        let segment = |(day, rows): (NaiveDate, DataFrame)| {
            let path = folder.join(day.to_string());
            atomic_file::create_folder(&path)
                .and_then(|()| segments::write(&path, rows))
                .map_err(|e| file_error(&path, e))?;
            Ok(day)
        };
        days.into_iter().map(segment).collect()
    }

    /// Merges small segments in the `written` days. The first rows of a new day close the one
    /// before it.
    fn compact(
        &self,
        service: &str,
        kind: Kind,
        earlier: &BTreeSet<NaiveDate>,
        written: Vec<NaiveDate>,
    ) -> Result<(), StoreError> {
        let merge = |day: NaiveDate, closed| {
            let path = self.folder(service, kind).join(day.to_string());
            segments::compact(&path, kind, closed, &self.verdicts).map_err(|e| file_error(&path, e))
        };
        for day in written {
            merge(day, false)?;
            let before = earlier.range(..day).next_back();
            if let (Some(&before), false) = (before, earlier.contains(&day)) {
                merge(before, true)?;
            }
        }
        Ok(())
    }

    /// Drops the `written` oldest rows from memory, and more where too many wait.
    fn forget(&self, service: &str, kind: Kind, written: usize) {
        let mut buffer = lock(&self.buffer);
        let key = (service.to_owned(), kind);
        let Some(waiting) = buffer.get_mut(&key) else { return };
        let excess = (waiting.height() - written).saturating_sub(MAX_WAITING_ROWS);
        if excess > 0 {
            tracing::warn!(service, rows = excess, "rows are lost: the store cannot write");
        }
        let keep = waiting.height() - written - excess;
        if keep == 0 {
            buffer.remove(&key);
        } else {
            *waiting = waiting.slice((written + excess) as i64, keep);
        }
    }

    /// Deletes the days that ended longer ago than the retention, of every service.
    fn retain(&self, now: Time) -> Result<(), StoreError> {
        let oldest = TimeDelta::from_std(self.retention).ok();
        let Some(oldest) = oldest.and_then(|age| now.checked_sub_signed(age)) else {
            return Ok(());
        };
        for service in names(&self.root).map_err(|e| file_error(&self.root, e))? {
            for kind in Kind::ALL {
                let folder = self.folder(&service, kind);
                for day in self.days(&folder)?.range(..oldest.date_naive()) {
                    let path = folder.join(day.to_string());
                    fs::remove_dir_all(&path).map_err(|e| file_error(&path, e))?;
                }
            }
        }
        Ok(())
    }

    fn folder(&self, service: &str, kind: Kind) -> PathBuf {
        self.root.join(service).join(kind.folder())
    }

    fn days(&self, folder: &Path) -> Result<BTreeSet<NaiveDate>, StoreError> {
        let names = names(folder).map_err(|e| file_error(folder, e))?;
        Ok(names.iter().filter_map(|name| name.parse().ok()).collect())
    }
}

/// Demand rows as a series of `step`: each row counts for the step that holds the middle of its
/// evaluation `interval`, at whose end it stands.
///
/// # Errors
/// [`SeriesError`] if no row has a demand, or the span is too long for the step.
pub fn demand_series(
    rows: &[DemandRow],
    interval: Duration,
    step: Duration,
) -> Result<Series, SeriesError> {
    let half = interval.as_millis() as i64 / 2;
    let point = |row: &DemandRow| {
        let ms = row.time.timestamp_millis() - half;
        Some(Point { ms, value: row.demand?, lower_bound: row.lower_bound })
    };
    Series::from_points(&rows.iter().filter_map(point).collect::<Vec<_>>(), step)
}

/// The most frequent distance of neighbours in ascending times, the shortest of several; `None` for
/// less than two.
pub fn native_step_ms(times: &[i64]) -> Option<i64> {
    let mut counts = BTreeMap::new();
    for distance in times.windows(2).map(|pair| pair[1] - pair[0]) {
        *counts.entry(distance).or_insert(0) += 1;
    }
    let most = counts.values().copied().max()?;
    counts.into_iter().find(|&(_, count)| count == most).map(|(distance, _)| distance)
}

/// A service's name becomes a folder, so it must not lead out of the store.
pub fn check_service(name: &str) -> Result<(), StoreError> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let fits = (1..=MAX_SERVICE_NAME).contains(&name.len());
    if fits && !name.starts_with('.') && name.chars().all(allowed) {
        Ok(())
    } else {
        Err(StoreError::Service(name.chars().take(MAX_SERVICE_NAME).collect()))
    }
}

fn split_by_day(kind: Kind, frame: &DataFrame) -> PolarsResult<Vec<(NaiveDate, DataFrame)>> {
    let sorted = frames::merge(kind, [frame.clone()])?;
    let times = frames::times(&sorted)?;
    let mut days = Vec::new();
    let mut first = 0;
    for rows in times.chunk_by(|a, b| day_of(*a) == day_of(*b)) {
        days.push((day_of(rows[0]), sorted.slice(first as i64, rows.len())));
        first += rows.len();
    }
    Ok(days)
}

/// The UTC day of an instant; instants beyond the calendar fall on its first or last day.
fn day_of(ms: i64) -> NaiveDate {
    let beyond = if ms < 0 { NaiveDate::MIN } else { NaiveDate::MAX };
    DateTime::from_timestamp_millis(ms).map_or(beyond, |time| time.date_naive())
}

fn day_bounds(day: NaiveDate) -> (Time, Time) {
    let midnight = |day: NaiveDate| day.and_time(chrono::NaiveTime::MIN).and_utc();
    let next = day.checked_add_days(Days::new(1));
    (midnight(day), next.map_or(DateTime::<Utc>::MAX_UTC, midnight))
}

/// Names in a folder; none if it is absent or no folder.
fn names(folder: &Path) -> io::Result<Vec<String>> {
    match fs::read_dir(folder) {
        Ok(entries) => {
            entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
        }
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Ok(Vec::new())
        }
        Err(e) => Err(e),
    }
}

/// Nothing is left half-done when a holder panics: the buffer is changed by single calls.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn file_error(path: &Path, error: io::Error) -> StoreError {
    StoreError::File { path: path.display().to_string(), reason: error.to_string() }
}

fn frame_error(path: &Path, error: PolarsError) -> StoreError {
    StoreError::File { path: path.display().to_string(), reason: error.to_string() }
}

#[cfg(test)]
mod tests;

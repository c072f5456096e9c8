//! I/O: reads a calendar file, and again when it changes.

use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use chrono::{NaiveDate, TimeDelta};

use crate::calendar;
use crate::forecast::events::Events;
use crate::series::Time;

/// Largest file that is read; years of public holidays and promotions take some 100 kB.
const MAX_BYTES: u64 = 4 << 20;
/// How far ahead events are known, in days: one that comes once a year is always among them.
const AHEAD_DAYS: i64 = 400;

/// The file cannot be used; says where and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {reason}")]
pub struct CalendarFileError {
    pub path: String,
    pub reason: String,
}

/// Events from `from` to 400 days after `now`.
///
/// # Errors
/// [`CalendarFileError`] if the file cannot be read, is too large or no calendar.
pub fn read(path: &Path, from: Time, now: Time) -> Result<Events, CalendarFileError> {
    let window = Range { start: from, end: now + TimeDelta::days(AHEAD_DAYS) };
    let events = content(path)
        .and_then(|content| calendar::parse(&content, window).map_err(|e| e.to_string()));
    events.map_err(|reason| CalendarFileError { path: path.display().to_string(), reason })
}

fn content(path: &Path) -> Result<Vec<u8>, String> {
    // Opening a pipe would wait for its writer.
    if !path.metadata().map_err(|e| e.to_string())?.is_file() {
        return Err("no file; name an iCalendar file such as events.ics".into());
    }
    let mut content = Vec::new();
    let file = File::open(path).map_err(|e| e.to_string())?;
    file.take(MAX_BYTES + 1).read_to_end(&mut content).map_err(|e| e.to_string())?;
    if content.len() as u64 > MAX_BYTES {
        let most = MAX_BYTES >> 20;
        return Err(format!("larger than {most} MiB; leave out what no load depends on"));
    }
    Ok(content)
}

/// A file that is read when it changed, and each day, as the days that it is read for move on.
#[derive(Debug)]
pub struct Watch {
    path: PathBuf,
    /// How far back events are of use.
    back: Duration,
    seen: Option<Seen>,
}

/// What tells that a file is still the same: day of reading, time of change and length.
type Seen = (NaiveDate, Option<(SystemTime, u64)>);

impl Watch {
    pub fn new(path: PathBuf, back: Duration) -> Watch {
        Watch { path, back, seen: None }
    }

    /// The events of the file if it is new or changed since the last call, or why it cannot be
    /// used; `None` while nothing changed.
    pub fn poll(&mut self, now: Time) -> Option<Result<Events, CalendarFileError>> {
        let changed = |m: std::fs::Metadata| Some((m.modified().ok()?, m.len()));
        let seen = (now.date_naive(), self.path.metadata().ok().and_then(changed));
        if self.seen == Some(seen) {
            return None;
        }
        self.seen = Some(seen);
        let back = TimeDelta::from_std(self.back).ok();
        let from = back.and_then(|back| now.checked_sub_signed(back)).unwrap_or(Time::UNIX_EPOCH);
        Some(read(&self.path, from, now))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// A calendar with one event on each of the `days` of January 2026.
    fn january(days: &[u32]) -> String {
        let event = |d: &u32| format!("BEGIN:VEVENT\nDTSTART:202601{d:02}\nEND:VEVENT\n");
        let events: String = days.iter().map(event).collect();
        format!("BEGIN:VCALENDAR\n{events}END:VCALENDAR\n")
    }

    fn now() -> Time {
        "2026-01-20T12:00:00Z".parse().unwrap()
    }

    #[test]
    fn a_file_is_read_again_when_it_changed_and_each_day() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.ics");
        let mut watch = Watch::new(path.clone(), Duration::from_secs(86_400 * 10));
        let mut poll = |now: Time| watch.poll(now).map(|read| read.map(|events| events.len()));
        let Some(Err(absent)) = poll(now()) else { panic!("there is no file yet") };
        assert!(absent.to_string().contains("events.ics: "), "{absent}");
        assert_eq!(poll(now()), None, "said once");
        // From the 10th on: the 5th is too long ago.
        fs::write(&path, january(&[5, 10, 21])).unwrap();
        assert_eq!(poll(now()), Some(Ok(2)));
        assert_eq!(poll(now()), None);
        fs::write(&path, "BEGIN:VCALENDAR\n").unwrap();
        let Some(Err(broken)) = poll(now()) else { panic!("the file is cut off") };
        assert!(broken.reason.starts_with("line 1: BEGIN:VCALENDAR has no END"), "{broken}");
        fs::write(&path, january(&[5, 10, 21, 23])).unwrap();
        assert_eq!(poll(now()), Some(Ok(3)));
        assert_eq!(poll(now() + TimeDelta::days(1)), Some(Ok(2)), "the 10th is too long ago now");
    }

    #[test]
    fn what_is_no_calendar_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let check = |path: &Path, want: &str| {
            let error = read(path, now(), now()).unwrap_err();
            assert_eq!(error.path, path.display().to_string());
            assert!(error.reason.starts_with(want), "{error}");
        };
        check(folder.path(), "no file; name an iCalendar file");
        let path = folder.path().join("large.ics");
        File::create(&path).unwrap().set_len(100 << 20).unwrap();
        check(&path, "larger than 4 MiB");
        fs::write(&path, b"BEGIN:VCALENDAR\nSUMMARY:\xff\n").unwrap();
        check(&path, "line 2: not UTF-8");
    }
}

//! Pure: an iCalendar file (RFC 5545) to the events that load is known to follow.
//!
//! Read are VEVENTs: DTSTART with DTEND or DURATION, whole days (VALUE=DATE), RRULE with EXDATE and
//! RDATE, moved or cancelled occurrences (RECURRENCE-ID, STATUS:CANCELLED). Events with the same
//! first category, else with the same summary, are of one kind: case, spaces and a year ("Sale
//! 2025") make no difference. All other components and properties are passed over.
//!
//! Times without a zone, and whole days, are those of X-WR-TIMEZONE, else UTC. Zones go by their
//! IANA names; what a VTIMEZONE says of them is not read. A time that the clock skips in spring is
//! taken an hour later, one that it repeats in autumn is the first of the two.
//!
//! A file is taken whole or refused with the line and the reason: half a calendar would forecast
//! half of the promotions. Recurrences are worked out by the `rrule` crate, in local time, within a
//! window and a budget, so that no rule runs on without end.

mod line;
mod moment;
mod recurrence;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashSet};
use std::ops::Range;

use chrono::TimeDelta;
use chrono_tz::Tz;

use crate::forecast::events::{Event, Events};
use crate::series::Time;
use line::Line;
use moment::{Length, Moment};
use recurrence::Budget;

/// Kinds of events in a file; more cannot be told apart, and are a calendar without categories.
pub const MAX_KINDS: usize = 500;
/// Occurrences of all events of a file together, from the first of each to the end of the window.
pub const MAX_OCCURRENCES: usize = 100_000;

/// Why a file is no calendar, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {reason}")]
pub struct CalendarError {
    /// From 1.
    pub line: usize,
    pub reason: String,
}

/// What a step of reading gives; the reason gets its line from whoever knows it.
type Read<T> = Result<T, String>;

/// The events of a file that lie in `window`, in part or whole.
///
/// # Errors
/// [`CalendarError`] for the first line that cannot be read.
pub fn parse(bytes: &[u8], window: Range<Time>) -> Result<Events, CalendarError> {
    let text = std::str::from_utf8(bytes).map_err(|e| {
        let before = bytes[..e.valid_up_to()].iter().filter(|b| **b == b'\n').count();
        CalendarError { line: before + 1, reason: "not UTF-8; save the file as UTF-8".into() }
    })?;
    let drafts = drafts(&line::unfold(text))?;
    // An occurrence that was moved or cancelled is described twice: by the rule and by its own.
    let replaced: HashSet<(&str, Time)> = drafts
        .iter()
        .filter_map(|d| Some((d.uid.as_str(), d.replaces.as_ref()?.instant())))
        .collect();
    let mut budget = Budget(MAX_OCCURRENCES);
    let mut kinds = BTreeSet::new();
    let mut events = Vec::new();
    for draft in drafts.iter().filter(|d| !d.cancelled) {
        let wrong = |reason| CalendarError { line: draft.line, reason };
        let start = draft.start.as_ref().ok_or_else(|| wrong("the event has no DTSTART".into()))?;
        let length = draft.length(start).map_err(wrong)?;
        let starts = recurrence::starts(draft, start, window.end, &mut budget);
        for from in starts.map_err(|(line, reason)| CalendarError { line, reason })? {
            let moved = draft.replaces.is_none()
                && replaced.contains(&(draft.uid.as_str(), from.instant()));
            let event = Event {
                kind: draft.kind(),
                to: from.plus(length).map_err(wrong)?,
                from: from.instant(),
            };
            if !moved && event.from < window.end && window.start < event.to {
                kinds.insert(event.kind.clone());
                events.push(event);
            }
        }
        if kinds.len() > MAX_KINDS {
            let hint = "give those that do the same to load the same CATEGORIES";
            return Err(wrong(format!("more than {MAX_KINDS} kinds of events; {hint}")));
        }
    }
    Ok(Events::new(events))
}

/// One VEVENT as it is written.
#[derive(Debug, Default)]
struct Draft {
    /// Of its BEGIN.
    line: usize,
    uid: String,
    category: String,
    summary: String,
    start: Option<Moment>,
    end: Option<(usize, Moment)>,
    duration: Option<Length>,
    /// The text of the RRULE and its line.
    rule: Option<(usize, String)>,
    without: Vec<Moment>,
    besides: Vec<Moment>,
    replaces: Option<Moment>,
    cancelled: bool,
}

impl Draft {
    fn take(&mut self, line: &Line, zone: Tz) -> Read<()> {
        match line.name.as_str() {
            "UID" => self.uid = line.text(),
            "SUMMARY" => self.summary = line.text(),
            "CATEGORIES" if self.category.is_empty() => self.category = line.first_text(),
            "STATUS" => self.cancelled = line.value.eq_ignore_ascii_case("CANCELLED"),
            "DTSTART" => self.start = Some(Moment::read(line, &line.value, zone)?),
            "DTEND" => self.end = Some((line.number, Moment::read(line, &line.value, zone)?)),
            "DURATION" => self.duration = Some(Length::read(&line.value)?),
            "RRULE" if self.rule.is_some() => {
                return Err("a second RRULE; write a second event".into());
            }
            "RRULE" => self.rule = Some((line.number, line.value.clone())),
            "EXDATE" => self.without.extend(Moment::list(line, zone)?),
            "RDATE" => self.besides.extend(Moment::list(line, zone)?),
            "RECURRENCE-ID" if line.param("RANGE").is_some() => {
                return Err("RANGE is not supported; end the rule and begin another event".into());
            }
            "RECURRENCE-ID" => self.replaces = Some(Moment::read(line, &line.value, zone)?),
            "EXRULE" => return Err("EXRULE is not supported; list the days as EXDATE".into()),
            _ => {}
        }
        Ok(())
    }

    fn kind(&self) -> String {
        let name = if self.category.is_empty() { &self.summary } else { &self.category };
        let is_year = |w: &str| {
            w.len() == 4 && w.bytes().all(|b| b.is_ascii_digit()) && ("1900".."2200").contains(&w)
        };
        let words = name.split_whitespace().filter(|w| !is_year(w)).map(str::to_lowercase);
        let kind = words.collect::<Vec<_>>().join(" ");
        if kind.is_empty() { "event".into() } else { kind }
    }

    fn length(&self, start: &Moment) -> Read<Length> {
        match (&self.end, self.duration) {
            (Some(_), Some(_)) => Err("both DTEND and DURATION; write one of them".into()),
            (Some((line, end)), None) => start.until(end).ok_or_else(|| {
                format!("DTEND in line {line} is before DTSTART; an event ends after it starts")
            }),
            (None, Some(length)) => Ok(length),
            (None, None) if start.whole_day => Ok(Length { days: 1, time: TimeDelta::zero() }),
            // An instant covers no load.
            (None, None) => Ok(Length { days: 0, time: TimeDelta::zero() }),
        }
    }
}

/// Every VEVENT of the file.
fn drafts(lines: &[(usize, String)]) -> Result<Vec<Draft>, CalendarError> {
    let mut drafts: Vec<Draft> = Vec::new();
    // Components that are open, outermost first, and the lines of their BEGINs.
    let mut open: Vec<(String, usize)> = Vec::new();
    let mut zone = Tz::UTC;
    for (number, text) in lines {
        let wrong = |reason| CalendarError { line: *number, reason };
        let line = Line::read(*number, text).map_err(wrong)?;
        let within: Vec<&str> = open.iter().map(|(name, _)| name.as_str()).take(3).collect();
        match (line.name.as_str(), within.as_slice()) {
            ("BEGIN", within) => {
                let name = line.value.to_ascii_uppercase();
                if within.is_empty() && name != "VCALENDAR" {
                    return Err(wrong("no iCalendar file; it begins with BEGIN:VCALENDAR".into()));
                }
                if within == ["VCALENDAR"] && name == "VEVENT" {
                    drafts.push(Draft { line: *number, ..Draft::default() });
                }
                open.push((name, *number));
            }
            ("END", _) => match open.pop() {
                Some((name, _)) if name.eq_ignore_ascii_case(&line.value) => {}
                Some((name, begin)) => {
                    let reason = format!("END:{}, but line {begin} began {name}", line.value);
                    return Err(wrong(reason));
                }
                None => return Err(wrong(format!("END:{} without its BEGIN", line.value))),
            },
            (_, []) => {
                return Err(wrong("no iCalendar file; it begins with BEGIN:VCALENDAR".into()));
            }
            ("X-WR-TIMEZONE", ["VCALENDAR"]) => {
                zone = moment::zone(&line.value).map_err(wrong)?;
            }
            (_, ["VCALENDAR", "VEVENT"]) => {
                if let Some(draft) = drafts.last_mut() {
                    draft.take(&line, zone).map_err(|e| wrong(format!("{}: {e}", line.name)))?;
                }
            }
            _ => {}
        }
    }
    match (open.last(), lines.is_empty()) {
        (Some((name, line)), _) => {
            let reason = format!("BEGIN:{name} has no END; the file is cut off");
            Err(CalendarError { line: *line, reason })
        }
        (None, true) => {
            let reason = "empty; an iCalendar file begins with BEGIN:VCALENDAR".into();
            Err(CalendarError { line: 1, reason })
        }
        (None, false) => Ok(drafts),
    }
}

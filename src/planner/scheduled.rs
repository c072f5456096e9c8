//! Pure: a time table of bounds, laid over any policy.
//!
//! An entry is in force from when its cron expression last fired, in its time zone, until its
//! duration ends; without a duration until the next such entry fires, so that timed entries lie
//! over a day and a night. Where several are in force the highest minimum and the lowest maximum
//! hold, and the minimum wins. Daylight
//! saving is croner's: a time that the clock leaps over fires when the leap is done, one that it
//! repeats fires once (`*/30` and other patterns without a fixed hour and minute: at every real
//! time that matches).

use std::str::FromStr;
use std::time::Duration;

use chrono_tz::Tz;
use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};

use crate::series::Time;

/// What a schedule looks like, for messages.
pub const EXAMPLE: &str = "0 8 * * 1-5 Europe/Berlin min=5 for=10h";

/// Bounds by the clock; empty by default.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Schedule {
    pub entries: Vec<Entry>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    pub cron: Cron,
    pub zone: Tz,
    /// One of both at least.
    pub min_replicas: Option<u32>,
    pub max_replicas: Option<u32>,
    /// `None`: until the next entry without a duration fires.
    pub lasts: Option<Duration>,
}

/// What the entries in force allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    pub min_replicas: u32,
    pub max_replicas: u32,
}

impl Schedule {
    pub fn bounds(&self, now: Time) -> Bounds {
        let fired: Vec<Option<Time>> = self.entries.iter().map(|e| e.last_fired(now)).collect();
        let lasting = self.entries.iter().zip(&fired).filter(|(e, _)| e.lasts.is_none());
        let newest = lasting.filter_map(|(_, fired)| *fired).max();
        let free = Bounds { min_replicas: 0, max_replicas: u32::MAX };
        self.entries.iter().zip(fired).fold(free, |bounds, (entry, fired)| {
            let in_force = match (fired, entry.lasts) {
                (None, _) => false,
                (Some(fired), Some(lasts)) => (now - fired).to_std().is_ok_and(|d| d < lasts),
                (fired, None) => fired == newest,
            };
            if !in_force {
                return bounds;
            }
            Bounds {
                min_replicas: bounds.min_replicas.max(entry.min_replicas.unwrap_or(0)),
                max_replicas: bounds.max_replicas.min(entry.max_replicas.unwrap_or(u32::MAX)),
            }
        })
    }
}

impl Entry {
    /// # Errors
    /// A sentence if the entry bounds nothing or contradicts itself.
    pub fn check(&self) -> Result<(), String> {
        match (self.min_replicas, self.max_replicas, self.lasts) {
            (None, None, _) => Err("bounds nothing; write `min`, `max` or both".into()),
            (Some(min), Some(max), _) if min > max => {
                Err(format!("min = {min} is more than max = {max}"))
            }
            (_, _, Some(Duration::ZERO)) => {
                Err("`for` is 0; leave it out or make it longer".into())
            }
            _ => Ok(()),
        }
    }

    fn last_fired(&self, now: Time) -> Option<Time> {
        let local = now.with_timezone(&self.zone);
        let fired = self.cron.find_previous_occurrence(&local, true).ok()?;
        Some(fired.to_utc())
    }
}

/// Five fields: minute, hour, day of month, month, day of week.
///
/// # Errors
/// A sentence if it is no such expression, or one that never comes, such as 30 February.
pub fn parse_cron(text: &str) -> Result<Cron, String> {
    let right = "write minute, hour, day, month and weekday, such as \"0 8 * * 1-5\"";
    let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
    let cron =
        parser.parse(text).map_err(|e| format!("{text:?} is no cron expression ({e}); {right}"))?;
    match cron.find_next_occurrence(&Time::UNIX_EPOCH, true) {
        Ok(_) => Ok(cron),
        Err(_) => Err(format!("{text:?} never fires; {right}")),
    }
}

/// # Errors
/// A sentence if there is no such zone.
pub fn parse_zone(text: &str) -> Result<Tz, String> {
    let message = "is no time zone; write \"UTC\" or a name such as \"Europe/Berlin\"";
    Tz::from_str(text).map_err(|_| format!("{text:?} {message}"))
}

/// Entries between semicolons, each as in [`EXAMPLE`]: a cron expression, a time zone (UTC without
/// it), and `min`, `max` and `for` in any order.
impl FromStr for Schedule {
    type Err = String;

    fn from_str(text: &str) -> Result<Schedule, String> {
        let entries = text.split(';').map(str::trim).filter(|entry| !entry.is_empty());
        let read = |entry: &str| read_entry(entry).map_err(|e| format!("schedule {entry:?}: {e}"));
        let entries = entries.map(read).collect::<Result<Vec<Entry>, String>>()?;
        if entries.is_empty() {
            return Err(format!("the schedule is empty; write for instance \"{EXAMPLE}\""));
        }
        Ok(Schedule { entries })
    }
}

fn read_entry(text: &str) -> Result<Entry, String> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let fields = if text.starts_with('@') { 1 } else { 5 }.min(words.len());
    let (cron, mut rest) = words.split_at(fields);
    let cron = parse_cron(&cron.join(" "))?;
    let mut zone = Tz::UTC;
    if let [word, more @ ..] = rest
        && !word.contains('=')
    {
        zone = parse_zone(word)?;
        rest = more;
    }
    let mut entry = Entry { cron, zone, min_replicas: None, max_replicas: None, lasts: None };
    for word in rest {
        let count = |value: &str| {
            value.parse::<u32>().map_err(|_| format!("{word:?}: write a whole number of replicas"))
        };
        match word.split_once('=') {
            Some(("min", value)) => entry.min_replicas = Some(count(value)?),
            Some(("max", value)) => entry.max_replicas = Some(count(value)?),
            Some(("for", value)) => {
                let parsed = humantime::parse_duration(value);
                let wrong = |_| format!("{word:?}: write a duration such as for=10h");
                entry.lasts = Some(parsed.map_err(wrong)?);
            }
            _ => return Err(format!("{word:?} is none of min=…, max=…, for=…")),
        }
    }
    entry.check()?;
    Ok(entry)
}

//! Pure: dates, times, zones and durations as an iCalendar file writes them.

use chrono::{
    Days, MappedLocalTime, NaiveDate, NaiveDateTime, NaiveTime, TimeDelta, TimeZone, Utc,
};
use chrono_tz::Tz;

use super::Read;
use super::line::Line;
use crate::series::Time;

/// A date or a time on the clock of a zone.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Moment {
    pub local: NaiveDateTime,
    pub zone: Tz,
    /// A date; `local` is its midnight.
    pub whole_day: bool,
}

/// Days last from midnight to midnight, whatever the clock does; the rest is exact.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Length {
    pub days: u64,
    pub time: TimeDelta,
}

impl Moment {
    /// `zone` is that of values without one.
    pub fn read(line: &Line, value: &str, zone: Tz) -> Read<Moment> {
        let zone = match line.param("TZID") {
            Some(name) => super::moment::zone(name)?,
            None => zone,
        };
        let wrong = || {
            let right = "write 20260131, 20260131T090000 or 20260131T090000Z";
            format!("{:?} is no date or time; {right}", shorten(value))
        };
        if !value.is_ascii() {
            return Err(wrong());
        }
        let (date, time) = value.split_once('T').map_or((value, None), |(d, t)| (d, Some(t)));
        let date = (date.len() == 8).then(|| NaiveDate::parse_from_str(date, "%Y%m%d").ok());
        let date = date.flatten().ok_or_else(wrong)?;
        let Some(time) = time else {
            return Ok(Moment { local: date.and_time(NaiveTime::MIN), zone, whole_day: true });
        };
        let (time, zone) = match time.strip_suffix('Z') {
            Some(time) => (time, Tz::UTC),
            None => (time, zone),
        };
        let time = (time.len() == 6).then(|| NaiveTime::parse_from_str(time, "%H%M%S").ok());
        let local = date.and_time(time.flatten().ok_or_else(wrong)?);
        Ok(Moment { local, zone, whole_day: false })
    }

    /// Values separated by commas.
    pub fn list(line: &Line, zone: Tz) -> Read<Vec<Moment>> {
        if line.param("VALUE").is_some_and(|v| v.eq_ignore_ascii_case("PERIOD")) {
            return Err("periods are not supported; write times, or another event".into());
        }
        line.value.split(',').map(|value| Moment::read(line, value.trim(), zone)).collect()
    }

    pub fn instant(&self) -> Time {
        let at = |local: &NaiveDateTime| match self.zone.from_local_datetime(local) {
            MappedLocalTime::Single(t) | MappedLocalTime::Ambiguous(t, _) => Some(t.to_utc()),
            MappedLocalTime::None => None,
        };
        let later = || self.local.checked_add_signed(TimeDelta::hours(1)).and_then(|l| at(&l));
        // A day that a zone skips whole (Samoa, 2011) is as good as any.
        at(&self.local).or_else(later).unwrap_or_else(|| Utc.from_utc_datetime(&self.local))
    }

    /// From here to `end`; `None` if that is earlier.
    pub fn until(&self, end: &Moment) -> Option<Length> {
        if self.whole_day && end.whole_day {
            let days = end.local.signed_duration_since(self.local).num_days();
            return Some(Length { days: u64::try_from(days).ok()?, time: TimeDelta::zero() });
        }
        let time = end.instant() - self.instant();
        (time >= TimeDelta::zero()).then_some(Length { days: 0, time })
    }

    /// The instant when `length` from here is over.
    pub fn plus(&self, length: Length) -> Read<Time> {
        let local = self.local.checked_add_days(Days::new(length.days));
        let day = local.map(|local| Moment { local, ..*self }.instant());
        let end = day.and_then(|t| t.checked_add_signed(length.time));
        end.ok_or_else(|| "the event ends beyond all time; shorten it".into())
    }
}

impl Length {
    /// `P1D`, `PT1H30M`, `P2W`, `P1DT12H`.
    pub fn read(value: &str) -> Read<Length> {
        parse_length(value).ok_or_else(|| {
            format!("{:?} is no duration; write for instance P1D or PT1H30M", shorten(value))
        })
    }
}

fn parse_length(value: &str) -> Option<Length> {
    let mut rest = value.strip_prefix('+').unwrap_or(value).strip_prefix('P')?;
    let mut length = Length { days: 0, time: TimeDelta::zero() };
    let mut in_time = false;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix('T').filter(|after| !in_time && !after.is_empty()) {
            (in_time, rest) = (true, after);
            continue;
        }
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let number: u32 = rest[..digits].parse().ok()?;
        let mut after = rest[digits..].chars();
        let seconds = match (after.next()?, in_time) {
            ('W', false) => {
                length.days = length.days.checked_add(7 * u64::from(number))?;
                0
            }
            ('D', false) => {
                length.days = length.days.checked_add(u64::from(number))?;
                0
            }
            ('H', true) => 3_600,
            ('M', true) => 60,
            ('S', true) => 1,
            _ => return None,
        };
        let time = TimeDelta::try_seconds(i64::from(number) * seconds)?;
        length.time = length.time.checked_add(&time)?;
        rest = after.as_str();
    }
    Some(length)
}

pub fn zone(name: &str) -> Read<Tz> {
    name.parse().map_err(|_| {
        format!("{:?} is no known time zone; write a name such as Europe/Berlin", shorten(name))
    })
}

/// As much of a value as an error shows.
pub fn shorten(text: &str) -> String {
    text.chars().take(60).collect()
}

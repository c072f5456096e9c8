//! Pure: when the occurrences of an event start.
//!
//! The rule is worked out on the event's own clock, as if it were UTC, and each start then put into
//! its zone: nine o'clock stays nine o'clock over a change of the clock.

use std::collections::HashSet;

use chrono::TimeZone;
use rrule::{RRule, Unvalidated};

use super::moment::{Moment, shorten};
use super::{Draft, MAX_OCCURRENCES};
use crate::series::Time;

/// Occurrences that the rest of the file may have.
pub struct Budget(pub usize);

/// Parts of a rule that would have an event recur within the hour.
const TOO_FINE: [&str; 4] = ["FREQ=MINUTELY", "FREQ=SECONDLY", "BYMINUTE", "BYSECOND"];

/// Starts before `end`, without those that are excepted. An error carries its line.
pub fn starts(
    draft: &Draft,
    start: &Moment,
    end: Time,
    budget: &mut Budget,
) -> Result<Vec<Moment>, (usize, String)> {
    let mut starts = match &draft.rule {
        Some((line, rule)) => by_rule(rule, start, end, budget).map_err(|e| (*line, e))?,
        None => vec![*start],
    };
    starts.extend(&draft.besides);
    // A date excepts its whole day.
    let (days, times): (Vec<&Moment>, Vec<&Moment>) =
        draft.without.iter().partition(|x| x.whole_day);
    let days: HashSet<_> = days.iter().map(|x| x.local.date()).collect();
    let times: HashSet<_> = times.iter().map(|x| x.instant()).collect();
    starts.retain(|s| !days.contains(&s.local.date()) && !times.contains(&s.instant()));
    Ok(starts)
}

fn by_rule(
    rule: &str,
    start: &Moment,
    end: Time,
    budget: &mut Budget,
) -> Result<Vec<Moment>, String> {
    let wrong = |why: String| format!("RRULE {:?}: {why}", shorten(rule));
    if !rule.is_ascii() {
        return Err(wrong("not ASCII".into()));
    }
    let rule_ = rule.to_ascii_uppercase();
    let parts: Vec<&str> = rule_.split(';').filter(|part| !part.is_empty()).collect();
    let fine = |part: &&&str| TOO_FINE.iter().any(|f| part.starts_with(f)) && !is_single(part);
    if let Some(part) = parts.iter().find(fine) {
        return Err(wrong(format!("{part}: an event recurs hourly at most")));
    }
    let (until, parts): (Vec<&str>, Vec<&str>) =
        parts.iter().partition(|p| p.starts_with("UNTIL="));
    let until = until.first().map(|part| last_start(&part["UNTIL=".len()..], start)).transpose();
    let until = until.map_err(wrong)?;
    let clock = rrule::Tz::UTC.from_utc_datetime(&start.local);
    let rule: RRule<Unvalidated> =
        parts.join(";").parse().map_err(|e: rrule::RRuleError| wrong(e.to_string()))?;
    let set = rule.build(clock).map_err(|e| wrong(e.to_string()))?.limit();
    let mut starts = Vec::new();
    for time in &set {
        let occurrence = Moment { local: time.naive_utc(), ..*start };
        let instant = occurrence.instant();
        if instant >= end || until.is_some_and(|until| instant > until) {
            return Ok(starts);
        }
        let Some(rest) = budget.0.checked_sub(1) else {
            let most = "occurrences of all events so far; begin the rule later";
            return Err(wrong(format!("more than {MAX_OCCURRENCES} {most}")));
        };
        budget.0 = rest;
        starts.push(occurrence);
    }
    if starts.is_empty() {
        return Err(wrong("never happens".into()));
    }
    Ok(starts)
}

/// One minute or second of the hour is as good as none.
fn is_single(part: &str) -> bool {
    part.starts_with("BY") && !part.contains(',')
}

/// The last instant at which an occurrence may start; a date includes its whole day.
fn last_start(value: &str, start: &Moment) -> Result<Time, String> {
    let line = super::Line::read(0, "UNTIL:")?;
    let until = Moment::read(&line, value, start.zone)?;
    if !until.whole_day {
        return Ok(until.instant());
    }
    let next = until.plus(super::Length { days: 1, time: chrono::TimeDelta::zero() })?;
    Ok(next - chrono::TimeDelta::milliseconds(1))
}

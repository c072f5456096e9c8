//! Pure: what known events (promotions, holidays) do to load.
//!
//! A calendar says when events happen, the history how much each kind of them multiplies load. With
//! that, [`Effects`] is a layer around the forecast methods, none of which knows of it: `remove`
//! divides the effects out of the history, so that a promotion two weeks ago neither bends the
//! season's profile nor returns as "like last week"; `apply` multiplies the forecast within events
//! that lie ahead, and widens it by what is not known of the factor.
//!
//! Factors act on load + floor, where the floor is a small share of the mean load: so a service
//! that is closed on holidays has a finite factor too. A step that an event covers in part takes
//! that part of its effect. Effects of events that overlap multiply.
//!
//! Known limits: load that an event draws from the days before or after it is not moved back; an
//! occurrence that began after the training is divided by what its kind did on average, not by what
//! it does itself.

mod fit;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};

use super::Forecast;
use crate::series::Time;

/// No event multiplies or divides load by more than this; beyond it the history cannot tell.
const MOST: f64 = 50.0;
/// Standard normal deviate of the 90th percentile: the card shows an 80 % interval.
const DEVIATE_90: f64 = 1.2816;

/// One thing that is known to happen, from `from` to before `to`.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// Events of one kind are taken to do the same to load.
    pub kind: String,
    pub from: Time,
    pub to: Time,
}

/// What is known to happen: by start, without overlap within a kind.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Events {
    kinds: Vec<String>,
    occurrences: Vec<Occurrence>,
}

/// One event, or several of one kind that touch.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Occurrence {
    from_ms: i64,
    to_ms: i64,
    /// Index of the kind.
    kind: usize,
    /// Logarithm of its own mean factor, where the history holds all of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    level: Option<f64>,
}

impl Events {
    /// Events that end before they begin are left out.
    pub fn new(events: impl IntoIterator<Item = Event>) -> Events {
        let mut by_kind: BTreeMap<String, Vec<(i64, i64)>> = BTreeMap::new();
        for event in events {
            let (from, to) = (event.from.timestamp_millis(), event.to.timestamp_millis());
            if from < to {
                by_kind.entry(event.kind).or_default().push((from, to));
            }
        }
        let mut events = Events::default();
        for (kind, (name, mut spans)) in by_kind.into_iter().enumerate() {
            spans.sort_unstable();
            let first = events.occurrences.len();
            for (from_ms, to_ms) in spans {
                match events.occurrences[first..].last_mut() {
                    Some(last) if from_ms <= last.to_ms => last.to_ms = last.to_ms.max(to_ms),
                    _ => events.occurrences.push(Occurrence { from_ms, to_ms, kind, level: None }),
                }
            }
            events.kinds.push(name);
        }
        events.occurrences.sort_by_key(|o| (o.from_ms, o.kind));
        events
    }

    pub fn is_empty(&self) -> bool {
        self.occurrences.is_empty()
    }

    pub fn len(&self) -> usize {
        self.occurrences.len()
    }

    /// Kind, start and end of each, in the order of their starts.
    pub fn spans(&self) -> impl Iterator<Item = (&str, Time, Time)> {
        let time = |ms| Time::from_timestamp_millis(ms).expect("it was a time when it came in");
        self.occurrences
            .iter()
            .map(move |o| (self.kinds[o.kind].as_str(), time(o.from_ms), time(o.to_ms)))
    }
}

/// What each kind of event does to load, and when one happens; part of a model.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Effects {
    /// Added to load before it is multiplied, in the unit of load.
    floor: f64,
    kinds: Vec<Kind>,
    occurrences: Vec<Occurrence>,
}

/// What one kind does; all numbers are logarithms of factors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Kind {
    name: String,
    /// Occurrences that it was learned from.
    learned_from: usize,
    level: f64,
    /// What is added to the level in equal parts of the event, in their order.
    shape: Vec<f64>,
    /// Standard deviation of the level of an occurrence to come.
    deviation: f64,
}

/// What a model knows of one kind of event, for people.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct EventEffect {
    pub kind: String,
    /// Past occurrences that it was learned from; with 0 the factor is 1, for want of knowledge.
    pub occurrences: usize,
    /// By which it multiplies load, on average.
    pub factor: f64,
    /// 80 % interval of the factor of the next occurrence.
    pub low: f64,
    pub high: f64,
}

/// Logarithm of the factor of a step, and its variance.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Shift {
    log: f64,
    variance: f64,
}

impl Effects {
    /// What the events in `values` (the first at `start_ms`, `step_ms` apart, NaN for a gap) did to
    /// them. `None` without events.
    pub fn fit(values: &[f64], start_ms: i64, step_ms: i64, events: &Events) -> Option<Effects> {
        (!events.is_empty()).then(|| fit::fit(values, start_ms, step_ms, events))
    }

    /// Takes over when `events` happen from now on; what is known of their kinds stays.
    pub fn schedule(&mut self, events: &Events) {
        let kinds: HashMap<&str, &Kind> = self.kinds.iter().map(|k| (k.name.as_str(), k)).collect();
        let names = |o: &Occurrence| self.kinds.get(o.kind).map(|k| (k.name.as_str(), o.span()));
        let levels: HashMap<_, f64> =
            self.occurrences.iter().filter_map(|o| Some((names(o)?, o.level?))).collect();
        let level = |o: &Occurrence| {
            let name = events.kinds.get(o.kind)?.as_str();
            levels.get(&(name, o.span())).copied()
        };
        let known = |name: &String| match kinds.get(name.as_str()) {
            Some(kind) => (*kind).clone(),
            None => Kind::unknown(name),
        };
        let occurrences =
            events.occurrences.iter().map(|o| Occurrence { level: level(o), ..*o }).collect();
        let kinds = events.kinds.iter().map(known).collect();
        (self.kinds, self.occurrences) = (kinds, occurrences);
    }

    /// One entry a kind, in the order of their names.
    pub fn card(&self) -> Vec<EventEffect> {
        self.kinds.iter().map(Kind::card).collect()
    }

    /// `values` as they would have been without events; `None` where there was none.
    pub fn removed(&self, values: &[f64], start_ms: i64, step_ms: i64) -> Option<Vec<f64>> {
        let shifts = self.shifts(start_ms, step_ms, values.len())?;
        let without = |(&v, shift): (&f64, &Shift)| match v.is_finite() && shift.log != 0.0 {
            true => ((v + self.floor) / shift.factor() - self.floor).max(0.0),
            false => v,
        };
        Some(values.iter().zip(&shifts).map(without).collect())
    }

    /// Multiplies the forecast within events. Quantiles stay ordered, and a peak as high as each
    /// step that it covers.
    pub fn apply(&self, forecast: &mut Forecast) {
        let origin = forecast.origin.timestamp_millis();
        let step_ms = forecast.step_ms as i64;
        let Some(shifts) = self.shifts(origin, step_ms, forecast.horizon()) else { return };
        let highest = |path: &[f64]| -> Vec<f64> {
            path.iter()
                .scan(0.0f64, |top, v| {
                    *top = top.max(*v);
                    Some(*top)
                })
                .collect()
        };
        let mut below = vec![0.0f64; forecast.horizon()];
        let quantiles = forecast.quantiles.iter();
        for ((&q, path), peak) in quantiles.zip(&mut forecast.paths).zip(&mut forecast.peaks) {
            let before = highest(path);
            for ((v, point), shift) in path.iter_mut().zip(&forecast.point).zip(&shifts) {
                *v = self.shifted(*v, *point, q, *shift);
            }
            // What a peak has over the highest of its steps grows as that one does.
            let after = highest(path);
            let mut top = 0.0f64;
            for (h, v) in peak.iter_mut().enumerate() {
                let growth = (after[h] + self.floor) / (before[h] + self.floor);
                let growth = if growth.is_finite() { growth } else { 1.0 };
                top = top.max(after[h] + (*v - before[h]).max(0.0) * growth).max(below[h]);
                (*v, below[h]) = (top, top);
            }
        }
        for (v, shift) in forecast.point.iter_mut().zip(&shifts) {
            *v = self.shifted(*v, *v, 0.5, *shift);
        }
    }

    /// Quantile `q` with the event, where it is `v` and the median `point` without. The spread of
    /// the factor is taken as logistic (few occurrences have heavy tails) and independent of that
    /// of the load: their squares add up.
    fn shifted(&self, v: f64, point: f64, q: f64, shift: Shift) -> f64 {
        if shift == Shift::default() {
            return v;
        }
        let deviate = (q / (1.0 - q)).ln() * 3f64.sqrt() / std::f64::consts::PI;
        let base = point + self.floor;
        let of_factor = base * ((deviate * shift.variance.sqrt()).clamp(-4.0, 4.0).exp() - 1.0);
        let spread = (v - point).hypot(of_factor).copysign(q - 0.5);
        ((base + spread) * shift.factor() - self.floor).max(0.0)
    }

    /// The effects on `n` steps from `start_ms`; `None` if no event with an effect is near.
    fn shifts(&self, start_ms: i64, step_ms: i64, n: usize) -> Option<Vec<Shift>> {
        let end_ms = start_ms.saturating_add(step_ms.saturating_mul(n as i64));
        let mut shifts: Option<Vec<Shift>> = None;
        let begun = self.occurrences.partition_point(|o| o.from_ms < end_ms);
        for occurrence in self.occurrences[..begun].iter().filter(|o| o.to_ms > start_ms) {
            let Some(kind) = self.kinds.get(occurrence.kind) else { continue };
            let level = occurrence.level.unwrap_or(kind.level);
            if level == 0.0 && kind.shape.is_empty() && kind.deviation == 0.0 {
                continue;
            }
            let shifts = shifts.get_or_insert_with(|| vec![Shift::default(); n]);
            for (i, part, share) in occurrence.steps(start_ms, step_ms, n) {
                let factor = (level + kind.shape_at(part)).exp();
                shifts[i].log += (1.0 + share * (factor - 1.0)).ln();
                shifts[i].variance += (share * kind.deviation).powi(2);
            }
        }
        shifts
    }
}

impl Shift {
    fn factor(self) -> f64 {
        self.log.exp().clamp(1.0 / MOST, MOST)
    }
}

impl Kind {
    fn unknown(name: &str) -> Kind {
        let name = name.to_owned();
        Kind { name, learned_from: 0, level: 0.0, shape: Vec::new(), deviation: 0.0 }
    }

    /// What the shape adds at `part` (from 0 to below 1) of an event.
    fn shape_at(&self, part: f64) -> f64 {
        self.shape.get(part_index(part, self.shape.len())).copied().unwrap_or(0.0)
    }

    fn card(&self) -> EventEffect {
        let at = |deviate: f64| (self.level + deviate * self.deviation).exp();
        EventEffect {
            kind: self.name.clone(),
            occurrences: self.learned_from,
            factor: at(0.0),
            low: at(-DEVIATE_90),
            high: at(DEVIATE_90),
        }
    }
}

fn part_index(part: f64, parts: usize) -> usize {
    ((part * parts as f64) as usize).min(parts.saturating_sub(1))
}

impl Occurrence {
    fn span(&self) -> (i64, i64) {
        (self.from_ms, self.to_ms)
    }

    /// Steps that it touches of `n` from `start_ms`: index, where in the event the middle of what
    /// it covers lies (from 0 to below 1), and the share of the step that it covers.
    fn steps(
        self,
        start_ms: i64,
        step_ms: i64,
        n: usize,
    ) -> impl Iterator<Item = (usize, f64, f64)> {
        let index = |ms: i64| ms.div_euclid(step_ms).clamp(0, n as i64) as usize;
        let first = index(self.from_ms.saturating_sub(start_ms));
        let last = index(self.to_ms.saturating_sub(start_ms).saturating_add(step_ms - 1));
        let length = self.to_ms.saturating_sub(self.from_ms).max(1) as f64;
        (first..last).filter_map(move |i| {
            let step_from = start_ms + i as i64 * step_ms;
            let (from, to) = (step_from.max(self.from_ms), (step_from + step_ms).min(self.to_ms));
            let middle = (from - self.from_ms) as f64 + (to - from) as f64 / 2.0;
            (from < to).then(|| (i, middle / length, (to - from) as f64 / step_ms as f64))
        })
    }
}

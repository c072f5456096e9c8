//! Pure: learns from the history what each kind of event does to load.
//!
//! For every stretch of events the steps around it, and the same steps of the seasons before and
//! after, say what load would have been; the logarithm of load over that is what the events of the
//! stretch did. A ridge regression of it on the kinds follows: each kind has a level, shrunk
//! towards none by its uncertainty, and for long events a shape over their course, shrunk towards
//! flat. Kinds that overlap are fitted in turn on what the others leave.
//!
//! How much chance makes is measured: the same stretch a season earlier and later, where nothing
//! happened, would show no effect if load were perfectly regular.

use super::super::{features, seasons};
use super::{Effects, Events, Kind, MOST, Occurrence, part_index};

/// Share of the mean load that is added to load before logarithms are taken.
const FLOOR: f64 = 0.02;
/// Steps around a stretch that tell its level, at least.
const AROUND: usize = 12;
/// Seasons before and after that tell what is usual.
const SEASONS: usize = 2;
/// An occurrence teaches if at least this share of its steps can be judged.
const JUDGED: f64 = 0.5;
/// Rounds in which overlapping kinds are told apart.
const ROUNDS: usize = 4;
/// Standard deviation of the logarithm of factors before anything was seen: most are below 2.
const PRIOR: f64 = std::f64::consts::LN_2;
/// Before their spread was seen, occurrences of a kind differ by this share of its effect.
const SPREAD: f64 = 0.3;
/// Parts of an event that a shape has at most, steps that each needs, and occurrences after which
/// half of what was seen of a shape is believed.
const PARTS: usize = 8;
const PART_STEPS: usize = 3;
const SHAPE_HALF: f64 = 2.0;

pub(super) fn fit(values: &[f64], start_ms: i64, step_ms: i64, events: &Events) -> Effects {
    let mut effects = Effects {
        floor: 0.0,
        kinds: events.kinds.iter().map(|name| Kind::unknown(name)).collect(),
        occurrences: events.occurrences.clone(),
    };
    let course = |o: &Occurrence| o.steps(start_ms, step_ms, values.len());
    let mut busy = vec![false; values.len()];
    events.occurrences.iter().for_each(|o| course(o).for_each(|(i, ..)| busy[i] = true));
    let quiet = |(v, busy): (&f64, &bool)| (v.is_finite() && !busy).then_some(v.max(0.0));
    let usual: Vec<f64> = values.iter().zip(&busy).filter_map(quiet).collect();
    effects.floor = FLOOR * features::mean(&usual);
    if !(effects.floor > 0.0 && effects.floor.is_finite()) {
        return effects;
    }
    let history = History::new(values, &busy, effects.floor, step_ms);
    let (ratios, noise) = history.ratios();
    let taught: Vec<Taught> = events
        .occurrences
        .iter()
        .enumerate()
        .filter_map(|(index, o)| {
            let all = course(o).count();
            let ended = o.to_ms <= start_ms + step_ms * values.len() as i64;
            let whole = course(o).filter(|&(i, _, share)| share >= 0.5 && ratios[i].is_finite());
            let steps: Vec<(usize, f64)> = whole.map(|(i, part, _)| (i, part)).collect();
            let judged = !steps.is_empty() && steps.len() as f64 >= JUDGED * all as f64;
            (ended && judged && o.from_ms >= start_ms).then_some(Taught {
                index,
                kind: o.kind,
                steps,
            })
        })
        .collect();
    learn(&mut effects, &ratios, noise, &taught);
    effects
}

/// An occurrence that lies in the history: its steps, and where in the event each lies.
struct Taught {
    index: usize,
    kind: usize,
    steps: Vec<(usize, f64)>,
}

impl Taught {
    fn mean(&self, of: impl Fn(usize, f64) -> f64) -> f64 {
        self.steps.iter().map(|&(i, part)| of(i, part)).sum::<f64>() / self.steps.len() as f64
    }
}

/// Fits the kinds in turn on what the others leave of the ratios.
fn learn(effects: &mut Effects, ratios: &[f64], noise: f64, taught: &[Taught]) {
    let mut explained = vec![0.0; ratios.len()];
    for _ in 0..ROUNDS {
        for k in 0..effects.kinds.len() {
            let of_kind: Vec<&Taught> = taught.iter().filter(|t| t.kind == k).collect();
            if of_kind.is_empty() {
                continue;
            }
            let add = |kind: &Kind, sign: f64, explained: &mut [f64]| {
                for &(i, part) in of_kind.iter().flat_map(|t| &t.steps) {
                    explained[i] += sign * (kind.level + kind.shape_at(part));
                }
            };
            add(&effects.kinds[k], -1.0, &mut explained);
            let rest = |i: usize| ratios[i] - explained[i];
            effects.kinds[k] = kind(&effects.kinds[k].name, &of_kind, rest, noise);
            add(&effects.kinds[k], 1.0, &mut explained);
        }
    }
    // Each past occurrence had a level of its own: what the kinds do not explain of it is its.
    for t in taught {
        let rest = t.mean(|i, _| ratios[i] - explained[i]);
        t.steps.iter().for_each(|&(i, _)| explained[i] += rest);
        let own = effects.kinds[t.kind].level + rest;
        effects.occurrences[t.index].level = Some(own.clamp(-MOST.ln(), MOST.ln()));
    }
}

/// Level, shape and deviation of one kind from what its occurrences left of load.
fn kind(name: &str, taught: &[&Taught], rest: impl Fn(usize) -> f64, noise: f64) -> Kind {
    let n = taught.len() as f64;
    let levels: Vec<f64> = taught.iter().map(|t| t.mean(|i, _| rest(i))).collect();
    let mean = features::mean(&levels);
    let squares: f64 = levels.iter().map(|l| (l - mean).powi(2)).sum();
    let variance = (noise.powi(2) + (SPREAD * mean).powi(2) + squares) / n;
    let level = mean / (1.0 + variance / n / PRIOR.powi(2));

    let fewest = taught.iter().map(|t| t.steps.len()).min().unwrap_or(0);
    let parts = (fewest / PART_STEPS).clamp(1, PARTS);
    let mut sums = vec![(0.0, 0u32); parts];
    for (t, level) in taught.iter().zip(&levels) {
        for &(i, part) in &t.steps {
            let cell = &mut sums[part_index(part, parts)];
            *cell = (cell.0 + rest(i) - level, cell.1 + 1);
        }
    }
    let believed = n / (n + SHAPE_HALF);
    let shape = sums.iter().map(|&(sum, count)| believed * sum / f64::from(count.max(1))).collect();
    Kind {
        name: name.to_owned(),
        learned_from: taught.len(),
        level: level.clamp(-MOST.ln(), MOST.ln()),
        shape: if parts > 1 { shape } else { Vec::new() },
        deviation: (variance + variance / n).sqrt(),
    }
}

/// Logarithms of load: all of them, and those of steps without events (NaN elsewhere).
struct History {
    logs: Vec<f64>,
    quiet: Vec<f64>,
    /// Longest first.
    seasons: Vec<usize>,
}

impl History {
    fn new(values: &[f64], busy: &[bool], floor: f64, step_ms: i64) -> History {
        let logs: Vec<f64> = values.iter().map(|v| (v.max(0.0) + floor).ln()).collect();
        // `max` takes a gap for zero.
        let logs: Vec<f64> =
            logs.iter().zip(values).map(|(l, v)| if v.is_finite() { *l } else { *v }).collect();
        let masked = |all: &[f64]| -> Vec<f64> {
            all.iter().zip(busy).map(|(v, busy)| if *busy { f64::NAN } else { *v }).collect()
        };
        let mut seasons = seasons::detect(&features::filled(&masked(values)), step_ms);
        seasons.sort_unstable_by(|a, b| b.cmp(a));
        History { quiet: masked(&logs), logs, seasons }
    }

    /// Logarithm of load over what is usual for each step of a stretch of events (NaN elsewhere and
    /// where nothing can be said), and the standard deviation that chance gives its mean.
    fn ratios(&self) -> (Vec<f64>, f64) {
        let mut ratios = vec![f64::NAN; self.logs.len()];
        let mut chance = Vec::new();
        let mut from = 0;
        while from < self.logs.len() {
            let busy = |i: &usize| self.quiet[*i].is_nan() && self.logs[*i].is_finite();
            let to = (from..self.logs.len()).find(|i| !busy(i)).unwrap_or(self.logs.len());
            if to > from {
                ratios[from..to].copy_from_slice(&self.ratio(&self.logs, from, to));
                chance.extend(self.chance(from, to));
            }
            from = to.max(from + 1);
        }
        let power: f64 = chance.iter().map(|c| c * c).sum();
        (ratios, (power / chance.len().max(1) as f64).sqrt())
    }

    /// What the mean ratio of the stretch would be a season earlier and later, without events.
    fn chance(&self, from: usize, to: usize) -> impl Iterator<Item = f64> {
        let shift = match self.seasons.last() {
            Some(&season) => (to - from).div_ceil(season) * season,
            None => 2 * (to - from).max(AROUND),
        };
        let earlier = from.checked_sub(shift).map(|f| (f, to - shift));
        let later = (to + shift <= self.logs.len()).then_some((from + shift, to + shift));
        earlier.into_iter().chain(later).filter_map(|(from, to)| {
            let quiet = self.quiet[from..to].iter().all(|v| v.is_finite());
            let mean = quiet.then(|| features::mean(&self.ratio(&self.quiet, from, to)))?;
            mean.is_finite().then_some(mean)
        })
    }

    /// `logs` over what is usual in `from..to`: the profile of the longest season that has one
    /// there, moved to the level around the stretch.
    fn ratio(&self, logs: &[f64], from: usize, to: usize) -> Vec<f64> {
        let known = |season: usize| {
            (from..to).filter(|&i| self.usual(i, season).is_some()).count() * 2 >= to - from
        };
        let season = self.seasons.iter().copied().find(|s| known(*s));
        let usual = |i: usize| season.map_or(Some(0.0), |s| self.usual(i, s)).unwrap_or(f64::NAN);
        let reach = (to - from).max(AROUND);
        let before = from.saturating_sub(reach)..from;
        let after = to..(to + reach).min(logs.len());
        let around = before.chain(after).map(|i| self.quiet[i] - usual(i));
        let level = median(around.filter(|v| v.is_finite()).collect());
        let level = level.unwrap_or(if season.is_some() { 0.0 } else { f64::NAN });
        (from..to).map(|i| logs[i] - usual(i) - level).collect()
    }

    /// Mean of the nearest quiet steps at the same phase, on either side.
    fn usual(&self, i: usize, season: usize) -> Option<f64> {
        let quiet = |j: usize| self.quiet.get(j).copied().filter(|v| v.is_finite());
        let earlier = (1..=i / season).filter_map(|k| quiet(i - k * season)).take(SEASONS);
        let ahead = (self.quiet.len() - 1 - i) / season;
        let later = (1..=ahead).filter_map(|k| quiet(i + k * season)).take(SEASONS);
        let found: Vec<f64> = earlier.chain(later).collect();
        (!found.is_empty()).then(|| features::mean(&found))
    }
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_unstable_by(f64::total_cmp);
    let last = values.len().checked_sub(1)?;
    Some((values[last / 2] + values[values.len() / 2]) / 2.0)
}

//! Pure: the Predictive Horizontal Pod Autoscaler, replayed.
//!
//! It keeps the replica counts that the HPA's ratio rule asked for, extrapolates each of its models
//! from them, and decides over rule and models. A model that cannot answer is passed over.
//!
//! As that project does: a model sees the newest answer of the rule and the stored ones before it;
//! the line is ordinary least squares, read at now + look ahead; Holt-Winters smooths with the
//! given factors, which nothing fits, and forecasts one sync ahead; both are rounded up. A season
//! is counted in syncs, here evaluation intervals.
//!
//! Known limits: the initial states of Holt-Winters are statsmodels' `heuristic` (Hyndman et al.,
//! section 2.6), one of the methods that can be chosen there; damped trends, hooks that fetch the
//! factors, `startInterval` and `resetDuration` are left out. Its history holds what was asked
//! for, within a dead band and whole numbers, so it learns from its own output: that is the peer's.

use std::collections::VecDeque;
use std::time::Duration;

use super::PlanInput;
use super::sizing::Size;
use super::target_tracking::TargetTracking;
use crate::series::Time;

#[derive(Debug, Clone, PartialEq)]
pub struct Phpa {
    pub reactive: TargetTracking,
    pub models: Vec<Model>,
    pub decision: DecisionType,
}

impl Default for Phpa {
    fn default() -> Phpa {
        Phpa {
            reactive: TargetTracking::default(),
            models: vec![Model { per_sync_period: 1, method: Method::Linear(Linear::default()) }],
            decision: DecisionType::Maximum,
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct Model {
    /// Asked at every so many evaluations; at least 1.
    pub per_sync_period: u32,
    pub method: Method,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Method {
    Linear(Linear),
    HoltWinters(HoltWinters),
}

/// A line through the stored counts.
#[derive(Debug, Clone, PartialEq)]
pub struct Linear {
    /// `None`: as far as a start takes. The project's examples say 10 s.
    pub look_ahead: Option<Duration>,
    pub history_size: usize,
}

impl Default for Linear {
    fn default() -> Linear {
        Linear { look_ahead: None, history_size: 6 }
    }
}

/// Level, trend and season, each smoothed; the defaults are those of the project's example.
#[derive(Debug, Clone, PartialEq)]
pub struct HoltWinters {
    /// In [0, 1], as the two others.
    pub alpha: f64,
    pub beta: f64,
    pub gamma: f64,
    pub trend: Component,
    pub seasonal: Component,
    /// Evaluations in a season; at least 2.
    pub seasonal_periods: usize,
    pub stored_seasons: usize,
}

impl Default for HoltWinters {
    fn default() -> HoltWinters {
        HoltWinters {
            alpha: 0.9,
            beta: 0.9,
            gamma: 0.9,
            trend: Component::Additive,
            seasonal: Component::Additive,
            seasonal_periods: 6,
            stored_seasons: 4,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Component {
    Additive,
    Multiplicative,
}

/// What becomes of the rule's answer and the models'.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DecisionType {
    #[default]
    Maximum,
    Minimum,
    /// Rounded half up.
    Mean,
    /// Of an even number the mean of the middle two, rounded down.
    Median,
}

/// What the rule asked for, newest last.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct History {
    /// All that there ever were, the dropped ones included.
    count: usize,
    stored: VecDeque<(Time, u32)>,
}

impl History {
    pub fn record(&mut self, policy: &Phpa, now: Time, replicas: u32) {
        self.count += 1;
        self.stored.push_back((now, replicas));
        let keep = policy.models.iter().map(|model| model.method.most_stored()).max();
        while self.stored.len() > keep.unwrap_or(0) {
            self.stored.pop_front();
        }
    }
}

/// The decision over the `rule`'s answer and the models; `None` if no model changes it.
pub fn size(policy: &Phpa, rule: &Size, input: &PlanInput, history: &History) -> Option<Size> {
    let count = history.count + 1;
    let due =
        policy.models.iter().filter(|m| count.is_multiple_of(m.per_sync_period.max(1) as usize));
    let mut answers: Vec<u32> = due
        .filter_map(|model| model.method.predict(count, rule.replicas, input, history))
        .collect();
    let predicted = format!("the models say {answers:?}, the rule {}", rule.replicas);
    answers.push(rule.replicas);
    let replicas = decide(policy.decision, answers);
    let size = Size { rule: "phpa", replicas, ratio: None, reason: predicted };
    (replicas != rule.replicas).then_some(size)
}

/// `answers` must not be empty.
fn decide(decision: DecisionType, mut answers: Vec<u32>) -> u32 {
    answers.sort_unstable();
    let half = answers.len() / 2;
    match decision {
        DecisionType::Maximum => answers[answers.len() - 1],
        DecisionType::Minimum => answers[0],
        DecisionType::Mean => {
            let sum: f64 = answers.iter().map(|&n| f64::from(n)).sum();
            (sum / answers.len() as f64).round() as u32
        }
        DecisionType::Median if answers.len().is_multiple_of(2) => {
            answers[half - 1].midpoint(answers[half])
        }
        DecisionType::Median => answers[half],
    }
}

impl Method {
    /// Stored counts before a decision that any decision needs.
    fn most_stored(&self) -> usize {
        match self {
            Method::Linear(line) => line.history_size,
            Method::HoltWinters(hw) => {
                hw.seasonal_periods.saturating_mul(hw.stored_seasons.saturating_add(1))
            }
        }
    }

    /// Stored counts before evaluation `count`, counted from 1. A season too many is dropped whole.
    fn stored(&self, count: usize) -> usize {
        match self {
            Method::Linear(line) => line.history_size.min(count - 1),
            Method::HoltWinters(hw) => {
                let full = hw.seasonal_periods.saturating_mul(hw.stored_seasons);
                match (count - 1).checked_sub(full) {
                    Some(beyond) => full + beyond % hw.seasonal_periods.max(1),
                    None => count - 1,
                }
            }
        }
    }

    /// `None` where the history does not suffice or the answer is no number.
    fn predict(
        &self,
        count: usize,
        newest: u32,
        input: &PlanInput,
        history: &History,
    ) -> Option<u32> {
        let skip = history.stored.len().checked_sub(self.stored(count))?;
        let seen: Vec<(Time, f64)> = history
            .stored
            .iter()
            .skip(skip)
            .chain([&(input.now, newest)])
            .map(|&(time, replicas)| (time, f64::from(replicas)))
            .collect();
        let predicted = match self {
            Method::Linear(line) => {
                line_at(&seen, input.now, line.look_ahead.unwrap_or(input.lookahead))?
            }
            Method::HoltWinters(hw) => {
                let values: Vec<f64> = seen.iter().map(|&(_, replicas)| replicas).collect();
                hw.forecast(&values)?
            }
        };
        // Rounding errors are not load.
        predicted.is_finite().then(|| (predicted - 1e-9).ceil() as u32)
    }
}

/// Ordinary least squares through `seen`, `ahead` of `now`; `None` below two times.
fn line_at(seen: &[(Time, f64)], now: Time, ahead: Duration) -> Option<f64> {
    // As in the original the time asked for is 0, so the answer is the intercept.
    let x = |time: Time| ahead.as_secs_f64() + (now - time).as_seconds_f64();
    let n = seen.len() as f64;
    let mean_x = seen.iter().map(|&(t, _)| x(t)).sum::<f64>() / n;
    let mean_y = seen.iter().map(|&(_, y)| y).sum::<f64>() / n;
    let (mut xx, mut xy) = (0.0, 0.0);
    for &(time, y) in seen {
        xx += (x(time) - mean_x).powi(2);
        xy += (x(time) - mean_x) * (y - mean_y);
    }
    (xx > 0.0).then(|| mean_y - xy / xx * mean_x)
}

impl HoltWinters {
    /// One step ahead of `values`; `None` if they are too few, or not above 0 where a component
    /// multiplies.
    pub(super) fn forecast(&self, values: &[f64]) -> Option<f64> {
        use Component::{Additive, Multiplicative};
        let multiplies = [self.trend, self.seasonal].contains(&Multiplicative);
        if multiplies && values.iter().any(|&v| v <= 0.0) {
            return None;
        }
        let (mut level, mut trend, mut season) = self.initial_states(values)?;
        let period = season.len();
        let trended = |level: f64, trend: f64| match self.trend {
            Additive => level + trend,
            Multiplicative => level * trend,
        };
        for (t, &y) in values.iter().enumerate() {
            let expected = trended(level, trend);
            let before = level;
            let seasonal = &mut season[t % period];
            let (adjusted, ratio) = match self.seasonal {
                Additive => (y - *seasonal, y - expected),
                Multiplicative => (y / *seasonal, y / expected),
            };
            level = self.alpha * adjusted + (1.0 - self.alpha) * expected;
            let slope = match self.trend {
                Additive => level - before,
                Multiplicative => level / before,
            };
            trend = self.beta * slope + (1.0 - self.beta) * trend;
            *seasonal = self.gamma * ratio + (1.0 - self.gamma) * *seasonal;
        }
        let next = season[values.len() % period];
        Some(match self.seasonal {
            Additive => trended(level, trend) + next,
            Multiplicative => trended(level, trend) * next,
        })
    }

    /// Level, trend and season before the first value: the season is the mean distance from a
    /// centred moving average over at most five cycles, level and trend a line through the first
    /// ten values of that average. `None` without two cycles or ten averages.
    fn initial_states(&self, values: &[f64]) -> Option<(f64, f64, Vec<f64>)> {
        use Component::{Additive, Multiplicative};
        let (n, period) = (values.len(), self.seasonal_periods);
        let half = period / 2;
        let least = 10 + 2 * half;
        if period < 2 || n < least || n / 2 < period {
            return None;
        }
        let cycles = (n / period).min(5).max(least.div_ceil(period));
        let used = &values[..n.min(cycles * period)];
        // An even period has no middle, so the two averages beside it are averaged.
        let average = |from: usize| used[from..from + period].iter().sum::<f64>() / period as f64;
        let centred: Vec<f64> = match period % 2 {
            0 => (0..used.len() - period).map(|i| (average(i) + average(i + 1)) / 2.0).collect(),
            _ => (0..=used.len() - period).map(average).collect(),
        };
        let mut season = vec![(0.0, 0.0); period];
        for (i, centre) in centred.iter().enumerate() {
            let (sum, count) = &mut season[(i + half) % period];
            *sum += match self.seasonal {
                Additive => used[i + half] - centre,
                Multiplicative => used[i + half] / centre,
            };
            *count += 1.0;
        }
        let season: Vec<f64> = season.iter().map(|(sum, count)| sum / count).collect();
        let mean = season.iter().sum::<f64>() / period as f64;
        let normal = |s: &f64| match self.seasonal {
            Additive => s - mean,
            Multiplicative => s / mean,
        };
        // Through x = 1 to 10, whose mean is 5.5 and whose squares about it sum to 82.5.
        let first = centred.get(..10)?;
        let mean_y = first.iter().sum::<f64>() / 10.0;
        let slope =
            first.iter().zip(1..).map(|(y, x)| (f64::from(x) - 5.5) * y).sum::<f64>() / 82.5;
        let level = mean_y - 5.5 * slope;
        let trend = match self.trend {
            Additive => slope,
            Multiplicative => 1.0 + slope / level,
        };
        Some((level, trend, season.iter().map(normal).collect()))
    }
}

//! Pure: the gate that decides whether the forecast may act.
//!
//! Every step notes what was forecast for the peak over the lookahead; when that time has come, the
//! forecast is scored by pinball loss at the quantiles that planning uses, and so is a bar: the
//! last value plus the recent quantiles of its own errors, the best that can be done without a
//! model. Both losses decay over about a season. Trust is won by enough evidence of skill, kept
//! inside a band so that it does not flicker, and lost at once after a run of peaks above the 0.99
//! quantile or when the model is seen to drift; then the evidence starts anew. A forecast that lost
//! its trust is *doubted*: it goes on, for a budget-steered plan with a poor forecast still beats a
//! bare threshold, but the threshold's steps up win over it. A model of too little history (a cold
//! start) is scored like any other, but not trusted.
//!
//! Known limit: neighbouring lookaheads overlap, so `evidence` counts more than independent
//! forecasts would.

use std::collections::VecDeque;

use super::Trust;
use crate::forecast::Forecast;

/// Quantiles that are scored; the last one defines a miss.
const SCORED: [f64; 3] = [0.5, 0.9, 0.99];
/// Scored forecasts before trust.
const EVIDENCE_MIN: u32 = 24;
/// Skill that wins trust, and skill that loses it: below 0, for even a forecast no better than the
/// last value is sized with an interval and steered to the budget, which no rule of utilization is.
const SKILL_BAND: (f64, f64) = (-0.1, -0.5);
/// Loss, as a share of demand, that no planner would feel. Without it a constant load, where the
/// last value is perfect, could never be trusted to a forecast that is a thousandth off.
const INDIFFERENT: f64 = 0.02;
/// Errors of the bar that its quantiles rest on; below the first number it is not scored.
const BAR_ERRORS: (usize, usize) = (12, 240);
/// Half-life of the losses, in steps, whatever the season.
const HALF_LIFE: (f64, f64) = (40.0, 1000.0);

/// What was expected of the steps after one origin.
#[derive(Debug, Clone, PartialEq)]
struct Expected {
    steps: usize,
    seen: usize,
    last: f64,
    highest: f64,
    /// Some step was a lower bound: the highest may have been higher.
    lower_bound: bool,
    quantiles: Option<[f64; 3]>,
}

/// The gate's state.
#[derive(Debug, Clone, PartialEq)]
pub struct Gate {
    pending: VecDeque<Expected>,
    bar_errors: VecDeque<f64>,
    loss: f64,
    bar_loss: f64,
    decay: f64,
    evidence: u32,
    misses: usize,
    /// Why the evidence started anew.
    demoted: Option<&'static str>,
    /// Values that a model of too little history learned from.
    cold_start: Option<usize>,
    trusted: bool,
    /// Trust was won once.
    proven: bool,
}

impl Default for Gate {
    fn default() -> Gate {
        Gate {
            pending: VecDeque::new(),
            bar_errors: VecDeque::new(),
            loss: 0.0,
            bar_loss: 0.0,
            decay: 0.5f64.powf(1.0 / 200.0),
            evidence: 0,
            misses: 0,
            demoted: None,
            cold_start: None,
            trusted: false,
            proven: false,
        }
    }
}

impl Gate {
    /// Sets the memory to about one season of `season_length` steps. `cold_start`: values that the
    /// model learned from, if they are too few to act on.
    pub fn remember(&mut self, season_length: Option<usize>, cold_start: Option<usize>) {
        self.cold_start = cold_start;
        let half_life = season_length.map_or(200.0, |s| s as f64);
        self.decay = 0.5f64.powf(1.0 / half_life.clamp(HALF_LIFE.0, HALF_LIFE.1));
    }

    /// A new model that replaces a distrusted one is tried anew: a level shift that the old one did
    /// not know cost it so much that it would overshadow the new one for days.
    pub fn retry(&mut self) {
        if !self.trusted && self.evidence >= EVIDENCE_MIN {
            (self.loss, self.bar_loss, self.evidence, self.misses) = (0.0, 0.0, 0, 0);
        }
    }

    /// Notes what is expected of the next `steps` steps after one that ended with `last`.
    pub fn expect(&mut self, last: f64, steps: usize, forecast: Option<&Forecast>) {
        let read = |f: &Forecast| {
            let [a, b, c] = SCORED.map(|q| f.peak(steps, q));
            Some([a?, b?, c?])
        };
        let quantiles = forecast.and_then(read);
        self.pending.push_back(Expected {
            steps,
            seen: 0,
            last,
            highest: 0.0,
            lower_bound: false,
            quantiles,
        });
    }

    /// Takes in the demand of the next step, or the least that it was, and scores what is due. A
    /// gap voids what was expected across it; a lower bound is not held against what lies above it.
    pub fn realise(&mut self, demand: Option<f64>, lower_bound: bool) {
        let Some(demand) = demand else { return self.pending.clear() };
        for expected in &mut self.pending {
            expected.seen += 1;
            expected.highest = expected.highest.max(demand);
            expected.lower_bound |= lower_bound;
        }
        while self.pending.front().is_some_and(|e| e.seen >= e.steps) {
            if let Some(due) = self.pending.pop_front() {
                self.score(&due);
            }
        }
    }

    fn score(&mut self, due: &Expected) {
        if let (Some(quantiles), Some(bar)) = (due.quantiles, self.bar(due.last)) {
            self.loss = self.decay * self.loss + pinball(&quantiles, due);
            let bar_loss = pinball(&bar, due) + INDIFFERENT * due.highest;
            self.bar_loss = self.decay * self.bar_loss + bar_loss;
            self.evidence = self.evidence.saturating_add(1);
            let missed = due.highest > quantiles[SCORED.len() - 1] * (1.0 + 1e-9);
            self.misses = if missed { self.misses + 1 } else { 0 };
            self.judge(due.steps);
        }
        self.bar_errors.push_back(due.highest - due.last);
        if self.bar_errors.len() > BAR_ERRORS.1 {
            self.bar_errors.pop_front();
        }
    }

    /// One surprise spoils every lookahead that holds it, so a run counts only beyond four
    /// lookaheads.
    fn judge(&mut self, steps: usize) {
        if self.misses > 4 * steps + 4 {
            return self.demote("a run of misses");
        }
        let needed = if self.trusted { SKILL_BAND.1 } else { SKILL_BAND.0 };
        let skilled = self.skill().is_some_and(|skill| skill >= needed);
        self.trusted = self.evidence >= EVIDENCE_MIN && skilled;
        self.proven |= self.trusted();
    }

    /// Takes trust away at once; evidence starts anew.
    pub fn demote(&mut self, why: &'static str) {
        *self = Gate {
            demoted: Some(why),
            decay: self.decay,
            cold_start: self.cold_start,
            proven: self.proven,
            pending: std::mem::take(&mut self.pending),
            bar_errors: std::mem::take(&mut self.bar_errors),
            ..Gate::default()
        };
    }

    /// 1 - loss / loss of the bar; 0 where both are perfect.
    fn skill(&self) -> Option<f64> {
        let equal = self.loss <= self.bar_loss + f64::EPSILON;
        match self.evidence {
            0 => None,
            _ if self.bar_loss > 0.0 => Some(1.0 - self.loss / self.bar_loss),
            _ => Some(if equal { 0.0 } else { -1.0 }),
        }
    }

    /// Quantiles of the last value's own recent errors, added to it.
    fn bar(&self, last: f64) -> Option<[f64; 3]> {
        if self.bar_errors.len() < BAR_ERRORS.0 {
            return None;
        }
        let mut errors: Vec<f64> = self.bar_errors.iter().copied().collect();
        let top = (errors.len() - 1) as f64;
        let mut at = |rank| *errors.select_nth_unstable_by(rank, f64::total_cmp).1;
        Some(SCORED.map(|q| (last + at((q * top).ceil() as usize)).max(0.0)))
    }

    /// The verdict, for the planner and for people.
    pub fn trust(&self) -> Trust {
        let skill = self.skill();
        let percent = skill.unwrap_or(0.0) * 100.0;
        let reason = if let Some(points) = self.cold_start {
            format!("cold start: the model knows {points} samples, too few to act on")
        } else if self.evidence < EVIDENCE_MIN {
            let since = self.demoted.map(|why| format!(" since {why}")).unwrap_or_default();
            format!("{} of {EVIDENCE_MIN} forecasts scored{since}", self.evidence)
        } else if self.trusted {
            format!("skill {percent:.0} % against repeating the last value")
        } else {
            format!("skill {percent:.0} % against repeating the last value is too little")
        };
        let trusted = self.trusted();
        let doubted = self.proven && !trusted && self.cold_start.is_none();
        Trust { trusted, doubted, skill, evidence: self.evidence, reason }
    }

    pub fn trusted(&self) -> bool {
        self.trusted && self.cold_start.is_none()
    }
}

fn pinball(quantiles: &[f64; 3], due: &Expected) -> f64 {
    let loss = |(q, v): (f64, f64)| {
        let above = due.highest - v;
        if above >= 0.0 || due.lower_bound { q * above.max(0.0) } else { (q - 1.0) * above }
    };
    SCORED.into_iter().zip(*quantiles).map(loss).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forecast::Method;
    use crate::series::Time;

    /// Steps of the lookahead in these tests.
    const STEPS: usize = 3;

    /// A day of 40 steps: 1 and 5, with a wobble that is no part of the forecast.
    fn load(t: usize) -> f64 {
        let base = if t % 40 < 20 { 1.0 } else { 5.0 };
        base + 0.1 * (t as f64 * 2.4).sin()
    }

    /// Peaks of `mid` give or take a tenth.
    fn around(mid: f64) -> Forecast {
        let paths: Vec<Vec<f64>> = [0.9, 1.0, 1.1].map(|k| vec![k * mid; STEPS]).into();
        Forecast {
            method: Method::Regression,
            origin: Time::UNIX_EPOCH,
            step_ms: 250,
            quantiles: vec![0.1, 0.5, 0.9],
            point: paths[1].clone(),
            peaks: paths.clone(),
            paths,
        }
    }

    /// Runs from step `from` to `to` with forecasts by `mid`; gives the steps at which trust was
    /// won and lost.
    fn run(
        gate: &mut Gate,
        steps: std::ops::Range<usize>,
        mid: impl Fn(usize) -> Option<f64>,
        load: impl Fn(usize) -> Option<f64>,
    ) -> Vec<(usize, bool)> {
        let mut changes = vec![];
        for t in steps {
            let before = gate.trusted();
            gate.realise(load(t), false);
            if let Some(last) = load(t) {
                gate.expect(last, STEPS, mid(t).map(around).as_ref());
            }
            if gate.trusted() != before {
                changes.push((t, gate.trusted()));
            }
        }
        changes
    }

    fn peak(t: usize) -> f64 {
        (1..=STEPS).map(|h| load(t + h)).fold(0.0, f64::max)
    }

    #[test]
    fn trust_is_won_within_a_day_of_the_first_model() {
        let mut gate = Gate::default();
        gate.remember(Some(40), None);
        assert_eq!(run(&mut gate, 0..80, |_| None, |t| Some(load(t))), []);
        let changes = run(&mut gate, 80..400, |t| Some(peak(t)), |t| Some(load(t)));
        assert!(matches!(changes[..], [(80..=120, true)]), "{changes:?}, {:?}", gate.trust());
        assert!(gate.trust().skill.is_some_and(|skill| skill > 0.5), "{:?}", gate.trust());
    }

    #[test]
    fn a_forecast_worse_than_the_last_value_is_never_trusted() {
        for wrong in [0.5, 3.0] {
            let mut gate = Gate::default();
            let mid = |t: usize| Some(load(t) * wrong);
            assert_eq!(run(&mut gate, 0..400, mid, |t| Some(load(t))), [], "{:?}", gate.trust());
        }
    }

    #[test]
    fn a_run_of_misses_demotes_at_once_and_evidence_starts_anew() {
        let mut gate = Gate::default();
        gate.remember(Some(40), None);
        run(&mut gate, 0..1000, |t| Some(peak(t)), |t| Some(load(t)));
        assert!(gate.trusted());
        // Demand is 1.3 times what is forecast: 4 lookaheads and 5 steps, and 1 to 3 until the
        // first is due.
        let changes = run(&mut gate, 1000..1100, |t| Some(peak(t)), |t| Some(1.3 * load(t)));
        assert!(matches!(changes[..], [(1017..=1020, false)]), "{changes:?}");
        let again = run(&mut gate, 1100..1200, |t| Some(peak(t)), |t| Some(load(t)));
        assert!(matches!(again[..], [(1101.., true)]), "{again:?}");
    }

    #[test]
    fn saturated_peaks_are_held_against_a_forecast_below_them_alone() {
        // Workers carry 2.5 of the 5, which the first model knows.
        let cases = [(5.0, true, true), (5.0, false, false), (2.0, true, false)];
        for (mid, lower_bound, trusted) in cases {
            let mut gate = Gate::default();
            gate.remember(Some(40), None);
            for t in 0..800 {
                let seen = load(t).min(2.5);
                gate.realise(Some(seen), lower_bound && load(t) > 2.5);
                let ahead = if peak(t) > 2.5 { mid } else { 1.0 };
                gate.expect(seen, STEPS, Some(&around(ahead)));
            }
            assert_eq!(gate.trusted(), trusted, "{mid} {lower_bound}: {:?}", gate.trust());
        }
    }

    #[test]
    fn a_gap_voids_what_was_expected_across_it() {
        let mut gate = Gate::default();
        let gappy = |t: usize| (!t.is_multiple_of(3)).then(|| load(t));
        run(&mut gate, 0..200, |t| Some(peak(t)), gappy);
        assert_eq!((gate.trust().evidence, gate.trust().skill), (0, None));
    }
}

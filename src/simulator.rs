//! Pure: replays policies over recorded load through the very step that runs live.
//!
//! At step t a policy sees the demand of t after it was served, and decides. In this world a start
//! that is ordered then serves step t + k, with k = max(1, ceil(delay / step)): k - 1 intervals
//! later, so that is the startup delay the autoscaler is told, and its lookahead is the k steps
//! that the decision can still change. A step without data is seen as missing and is not scored.
//! Measures and their formulas: [`report`].

pub mod contender;
pub mod oracle;
pub mod report;
pub mod startup;
pub mod workload;
pub mod world;

use std::time::Duration;

use crate::autoscaler::{Autoscaler, DemandSample, Observation, Settings, TrainingSchedule};
use crate::forecast::challenge::learn;
use crate::forecast::events::Events;
use crate::forecast::trainer::TrainOptions;
use crate::planner::sizing::replicas_for;
use crate::planner::threshold::Threshold;
use crate::planner::{Behavior, Policy};
use crate::series::Series;
use contender::{Contender, Replayed};
use report::{PolicyReport, TraceReport, Trail, Yardstick};
use startup::StartupDelay;
use world::World;

/// Steps before this are not scored, unless told otherwise.
const DEFAULT_WARMUP: Duration = Duration::from_secs(7 * 86_400);

/// Most trainings in one replay.
const TRAININGS_MAX: u32 = 16;

/// The offline world.
#[derive(Debug, Clone, PartialEq)]
pub struct CompareOptions {
    /// Demand one replica carries; 99th percentile of the series / 10 without it.
    pub capacity: Option<f64>,
    pub startup_delay: StartupDelay,
    /// Of what is drawn.
    pub seed: u64,
    /// 7 days, at most half the series, without it.
    pub warmup: Option<Duration>,
    pub min_replicas: u32,
    pub max_replicas: u32,
    /// Known beforehand: what forecasts are trained with.
    pub events: Events,
}

impl Default for CompareOptions {
    fn default() -> CompareOptions {
        CompareOptions {
            capacity: None,
            startup_delay: StartupDelay::fixed(Duration::from_secs(300)),
            seed: 0,
            warmup: None,
            min_replicas: 1,
            max_replicas: 10_000,
            events: Events::default(),
        }
    }
}

/// Replays every contender over `series`, one after the other. Deterministic.
///
/// # Errors
/// A sentence if the series is too short or without data, or an option is out of its range.
pub fn compare(
    name: &str,
    series: &Series,
    contenders: &[Contender],
    options: &CompareOptions,
) -> Result<TraceReport, String> {
    let stage = Stage::new(series, options)?;
    let measured = contenders.iter().map(|c| stage.measure(c, &stage.replay(c)));
    Ok(stage.report(name, measured.collect()))
}

/// A recording, ready for any number of replays, which may run at the same time.
#[derive(Debug)]
pub struct Stage<'a> {
    series: &'a Series,
    options: &'a CompareOptions,
    capacity: f64,
    initial: u32,
    /// First step after the warmup.
    from: usize,
    /// Steps that are scored: those from there on that have demand. At least one.
    scored: Vec<usize>,
    oracle: Trail,
}

impl<'a> Stage<'a> {
    /// # Errors
    /// As [`compare`].
    pub fn new(series: &'a Series, options: &'a CompareOptions) -> Result<Stage<'a>, String> {
        let known: Vec<f64> = (0..series.len()).filter_map(|t| series.get(t)).collect();
        let Some(&first) = known.first() else { return Err("the series has no values".into()) };
        if let Some(negative) = known.iter().find(|&&v| v < 0.0) {
            return Err(format!("demand is {negative}, it cannot be negative"));
        }
        options.check()?;
        let capacity = options.capacity.unwrap_or_else(|| percentile(known, 0.99) / 10.0);
        if capacity <= 0.0 {
            return Err("the 99th percentile of demand is 0: state the capacity".into());
        }
        let warmup = options.warmup.unwrap_or(DEFAULT_WARMUP);
        let from = warmup.as_millis().div_ceil(series.step().as_millis()) as usize;
        let from = if options.warmup.is_none() { from.min(series.len() / 2) } else { from };
        let scored: Vec<usize> =
            (from..series.len()).filter(|&t| series.get(t).is_some()).collect();
        if scored.is_empty() {
            let steps = series.len();
            return Err(format!("nothing is left to score after {from} of {steps} steps"));
        }
        let initial = options.clamp(replicas_for(first / 0.7, capacity));
        let demanded = |t| series.get(t).map(|d| options.clamp(replicas_for(d, capacity)));
        let oracle = oracle::exact((0..series.len()).map(demanded), initial);
        Ok(Stage { series, options, capacity, initial, from, scored, oracle })
    }

    /// What a contender does, step by step.
    pub fn replay(&self, contender: &Contender) -> Trail {
        match &contender.replayed {
            Replayed::Live { policy, fallback, behavior } => {
                self.live(self.settings(policy, fallback, behavior))
            }
            Replayed::Oracle { budget } => {
                let min = self.options.min_replicas;
                oracle::within(&self.oracle, self.series.values(), &self.scored, *budget, min)
            }
        }
    }

    pub fn measure(&self, contender: &Contender, trail: &Trail) -> PolicyReport {
        let (series, scored, demanded) = (self.series, &self.scored, &self.oracle.ready);
        Yardstick { series, capacity: self.capacity, demanded, scored }.measure(contender, trail)
    }

    pub fn report(&self, name: &str, policies: Vec<PolicyReport>) -> TraceReport {
        TraceReport {
            name: name.to_owned(),
            step_seconds: self.series.step().as_secs_f64(),
            capacity: self.capacity,
            scored_steps: self.scored.len(),
            policies,
        }
    }

    pub fn series(&self) -> &'a Series {
        self.series
    }

    /// Steps that are scored, ascending.
    pub fn scored(&self) -> &[usize] {
        &self.scored
    }

    fn live(&self, settings: Settings) -> Trail {
        let mut autoscaler = Autoscaler::new(settings);
        let mut world = World::new(self.initial, 1);
        let mut trail = Trail::default();
        for t in 0..self.series.len() {
            let took = world.begin(t);
            let now = self.series.time_at(t + 1);
            let sample = |demand| DemandSample { time: now, demand, lower_bound: false };
            let observation = Observation {
                demand: self.series.get(t).map(sample),
                capacity: self.capacity,
                ready_replicas: world.ready(),
                missing_metrics: 0,
                current_replicas: world.current(),
                startup_delays: took.into_iter().map(|steps| self.told(steps)).collect(),
            };
            let decision = autoscaler.step(now, &observation);
            trail.ready.push(world.ready());
            trail.desired.push(decision.desired_replicas);
            if decision.desired_replicas > world.current() {
                let delay = self.options.startup_delay.draw(self.options.seed, t);
                world.delay = self.steps(delay);
            }
            world.order(t, decision.desired_replicas);
            if let Some((history, options)) = autoscaler.training_due(now) {
                let options = TrainOptions { events: self.options.events.clone(), ..options };
                // Too little history is no error here: the fallback goes on, as it would live.
                match learn(now, &history, &options, autoscaler.model()) {
                    Ok(lesson) if lesson.verdict.promoted => autoscaler.adopt(lesson.model),
                    Ok(_) => autoscaler.keep(),
                    Err(_) => {}
                }
            }
        }
        trail
    }

    /// Steps from an order to the step that it serves first.
    fn steps(&self, delay: Duration) -> usize {
        let steps = delay.as_millis().div_ceil(self.series.step().as_millis());
        steps.clamp(1, u32::MAX.into()) as usize
    }

    /// The startup delay as the autoscaler is told it: an order serves its first step whole.
    fn told(&self, steps: usize) -> Duration {
        self.series.step().saturating_mul((steps - 1) as u32)
    }

    fn settings(&self, policy: &Policy, fallback: &Threshold, behavior: &Behavior) -> Settings {
        let (options, step) = (self.options, self.series.step());
        let told = |delay| self.told(self.steps(delay));
        Settings {
            policy: policy.clone(),
            fallback: fallback.clone(),
            behavior: Behavior {
                min_replicas: options.min_replicas.max(behavior.min_replicas),
                max_replicas: options.max_replicas.min(behavior.max_replicas),
                ..behavior.clone()
            },
            evaluation_interval: step,
            max_staleness: step,
            training: self.schedule(),
            startup_delay: told(options.startup_delay.high()),
            max_startup_delay: told(options.startup_delay.longest()),
        }
    }

    /// As live, but trained before the scored steps begin, and not more often than
    /// [`TRAININGS_MAX`] times.
    fn schedule(&self) -> TrainingSchedule {
        let live = TrainingSchedule::default();
        let span = self.series.step() * self.series.len() as u32;
        let warmup = self.series.step() * self.from as u32;
        TrainingSchedule {
            min_history: live.min_history.min(warmup / 2),
            interval: live.interval.min(span / 12).max(span / TRAININGS_MAX),
            max_history: live.max_history,
        }
    }
}

impl CompareOptions {
    fn check(&self) -> Result<(), String> {
        let capacity = self.capacity.unwrap_or(1.0);
        if !(capacity > 0.0 && capacity.is_finite()) {
            return Err(format!("the capacity is {capacity}, it must be above 0"));
        }
        if self.min_replicas > self.max_replicas {
            return Err("the minimum of replicas is above the maximum".into());
        }
        Ok(())
    }

    fn clamp(&self, replicas: u32) -> u32 {
        replicas.max(self.min_replicas).min(self.max_replicas)
    }
}

/// Linear between the closest ranks; `values` must not be empty.
fn percentile(mut values: Vec<f64>, q: f64) -> f64 {
    let rank = q * (values.len() - 1) as f64;
    let (_, &mut low, above) = values.select_nth_unstable_by(rank as usize, f64::total_cmp);
    let high = above.iter().copied().fold(f64::INFINITY, f64::min);
    if rank.fract() > 0.0 { low + (high - low) * rank.fract() } else { low }
}

#[cfg(test)]
mod tests;

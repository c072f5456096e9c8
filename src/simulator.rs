//! Pure: replays policies over recorded load through the very step that runs live.
//!
//! At step t a policy sees the demand of t after it was served, and decides. In this world a start
//! that is ordered then serves step t + k, with k = max(1, ceil(delay / step)): k - 1 intervals
//! later, so that is the startup delay the autoscaler is told, and its lookahead is the k steps
//! that the decision can still change. A step without data is seen as missing and is not scored.
//! Measures and their formulas: [`report`].

pub mod report;
pub mod workload;
pub mod world;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::autoscaler::{Autoscaler, DemandSample, Observation, Settings, TrainingSchedule};
use crate::forecast::challenge::learn;
use crate::planner::predictive::Predictive;
use crate::planner::sizing::replicas_for;
use crate::planner::target_tracking::{SignalKind, TargetTracking};
use crate::planner::threshold::Threshold;
use crate::planner::{Behavior, Policy};
use crate::series::Series;
use report::{Trail, Yardstick};
use world::World;

/// Steps before this are not scored, unless told otherwise.
const DEFAULT_WARMUP: Duration = Duration::from_secs(7 * 86_400);

/// Most trainings in one replay.
const TRAININGS_MAX: u32 = 100;

/// A policy in a comparison.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum, utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Contender {
    Threshold,
    #[value(name = "target_tracking")]
    TargetTracking,
    Predictive,
    /// Clairvoyant: the bound.
    Oracle,
}

/// The offline world.
#[derive(Debug, Clone, PartialEq)]
pub struct CompareOptions {
    pub contenders: Vec<Contender>,
    /// Demand one replica carries; 99th percentile of the series / 10 without it.
    pub capacity: Option<f64>,
    pub startup_delay: Duration,
    /// 7 days, at most half the series, without it.
    pub warmup: Option<Duration>,
    pub min_replicas: u32,
    pub max_replicas: u32,
    pub overload_budget: f64,
    pub target_utilization: f64,
    /// `target_tracking` sees utilization clipped at 1.
    pub clipped: bool,
}

impl Default for CompareOptions {
    fn default() -> CompareOptions {
        CompareOptions {
            contenders: vec![
                Contender::Threshold,
                Contender::TargetTracking,
                Contender::Predictive,
                Contender::Oracle,
            ],
            capacity: None,
            startup_delay: Duration::from_secs(300),
            warmup: None,
            min_replicas: 1,
            max_replicas: 10_000,
            overload_budget: 0.01,
            target_utilization: 0.7,
            clipped: true,
        }
    }
}

/// One row of a comparison. Definitions: the offline world in the README.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct PolicyReport {
    pub policy: String,
    pub overload_share: f64,
    pub unserved_share: f64,
    pub replica_hours: f64,
    pub oracle_ratio: f64,
    pub scaling_events: u64,
    pub theta_u: f64,
    pub theta_o: f64,
    pub tau_u: f64,
    pub tau_o: f64,
    pub upsilon: f64,
    #[schema(value_type = Object)]
    pub parameters: BTreeMap<String, serde_json::Value>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct CompareReport {
    pub steps: usize,
    pub scored_steps: usize,
    pub step_ms: u64,
    pub capacity: f64,
    pub policies: Vec<PolicyReport>,
}

/// Replays every contender. Deterministic.
///
/// # Errors
/// A sentence if the series is too short or without data, or an option is out of its range.
pub fn compare(series: &Series, options: &CompareOptions) -> Result<CompareReport, String> {
    let stage = Stage::new(series, options)?;
    let oracle = stage.oracle();
    let yardstick = Yardstick {
        demand: series.values(),
        capacity: stage.capacity,
        oracle: &oracle,
        from: stage.from,
        step_hours: series.step().as_secs_f64() / 3600.0,
    };
    let policies = options.contenders.iter().map(|&contender| {
        let trail = match stage.settings(contender) {
            None => oracle.clone(),
            Some(settings) => stage.replay(settings),
        };
        yardstick.measure(contender.name(), &trail, options.parameters(contender))
    });
    Ok(CompareReport {
        steps: series.len(),
        scored_steps: yardstick.scored().count(),
        step_ms: series.step().as_millis() as u64,
        capacity: stage.capacity,
        policies: policies.collect(),
    })
}

/// What all contenders share.
struct Stage<'a> {
    series: &'a Series,
    options: &'a CompareOptions,
    capacity: f64,
    initial: u32,
    /// Steps from an order to the step that it serves first.
    delay: usize,
    /// First step that is scored.
    from: usize,
}

impl<'a> Stage<'a> {
    fn new(series: &'a Series, options: &'a CompareOptions) -> Result<Stage<'a>, String> {
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
        let step_ms = series.step().as_millis();
        let half = series.len() / 2;
        let from = match options.warmup {
            Some(warmup) => warmup.as_millis().div_ceil(step_ms) as usize,
            None => (DEFAULT_WARMUP.as_millis().div_ceil(step_ms) as usize).min(half),
        };
        if !(from..series.len()).any(|t| series.get(t).is_some()) {
            let steps = series.len();
            return Err(format!("nothing is left to score after {from} of {steps} steps"));
        }
        Ok(Stage {
            series,
            options,
            capacity,
            initial: options.clamp(replicas_for(first / 0.7, capacity)),
            delay: (options.startup_delay.as_millis().div_ceil(step_ms) as usize).max(1),
            from,
        })
    }

    /// Exactly enough ready replicas at every step; on a gap as many as before.
    fn oracle(&self) -> Trail {
        let mut last = self.initial;
        let mut at = |t| {
            let demanded = self.series.get(t).map(|d| replicas_for(d, self.capacity));
            last = demanded.map_or(last, |n| self.options.clamp(n));
            last
        };
        let ready: Vec<u32> = (0..self.series.len()).map(&mut at).collect();
        Trail { desired: ready.clone(), ready }
    }

    fn replay(&self, settings: Settings) -> Trail {
        let mut autoscaler = Autoscaler::new(settings);
        let mut world = World::new(self.initial, self.delay);
        let mut trail = Trail::default();
        for t in 0..self.series.len() {
            world.begin(t);
            let now = self.series.time_at(t + 1);
            let sample = |demand| DemandSample { time: now, demand, lower_bound: false };
            let observation = Observation {
                demand: self.series.get(t).map(sample),
                capacity: self.capacity,
                ready_replicas: world.ready(),
                missing_metrics: 0,
                current_replicas: world.current(),
                startup_delays: vec![],
            };
            let decision = autoscaler.step(now, &observation);
            trail.ready.push(world.ready());
            trail.desired.push(decision.desired_replicas);
            world.order(t, decision.desired_replicas);
            if let Some((history, options)) = autoscaler.training_due(now) {
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

    /// `None` for the oracle, which needs no autoscaler.
    fn settings(&self, contender: Contender) -> Option<Settings> {
        let options = self.options;
        let policy = match contender {
            Contender::Oracle => return None,
            Contender::Threshold => Policy::Threshold(Threshold::default()),
            Contender::TargetTracking => Policy::TargetTracking(TargetTracking {
                target_utilization: options.target_utilization,
                signal: if options.clipped { SignalKind::Cpu } else { SignalKind::Demand },
            }),
            Contender::Predictive => Policy::Predictive(Predictive {
                overload_budget: options.overload_budget,
                ..Predictive::default()
            }),
        };
        let behavior = match contender {
            Contender::TargetTracking => Behavior::kubernetes(),
            _ => Behavior::unlimited(),
        };
        let step = self.series.step();
        let startup_delay = step * (self.delay - 1) as u32;
        Some(Settings {
            policy,
            fallback: Threshold::default(),
            behavior: Behavior {
                min_replicas: options.min_replicas,
                max_replicas: options.max_replicas,
                ..behavior
            },
            evaluation_interval: step,
            max_staleness: step,
            training: self.schedule(),
            startup_delay,
            max_startup_delay: startup_delay,
        })
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
        let share = |name: &str, v: f64, top: f64| match v > 0.0 && v <= top {
            true => Ok(()),
            false => Err(format!("the {name} is {v}, it must be above 0 and at most {top}")),
        };
        share("capacity", self.capacity.unwrap_or(1.0), f64::MAX)?;
        share("overload budget", self.overload_budget, 0.5)?;
        share("target utilization", self.target_utilization, 1.0)?;
        if self.min_replicas > self.max_replicas {
            return Err("the minimum of replicas is above the maximum".into());
        }
        Ok(())
    }

    fn clamp(&self, replicas: u32) -> u32 {
        replicas.max(self.min_replicas).min(self.max_replicas)
    }

    fn parameters(&self, contender: Contender) -> BTreeMap<String, serde_json::Value> {
        let fallback = Threshold::default();
        let own: &[(&str, f64)] = match contender {
            Contender::Threshold => {
                &[("up", fallback.up), ("down", fallback.down), ("step", f64::from(fallback.step))]
            }
            Contender::TargetTracking => &[("target_utilization", self.target_utilization)],
            Contender::Predictive => &[("overload_budget", self.overload_budget)],
            Contender::Oracle => &[],
        };
        let mut all: BTreeMap<String, serde_json::Value> =
            own.iter().map(|&(name, value)| (name.into(), value.into())).collect();
        if contender == Contender::TargetTracking {
            let signal = if self.clipped { "cpu" } else { "demand" };
            all.insert("signal".into(), signal.into());
        }
        all
    }
}

impl Contender {
    /// As on the command line and in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Contender::Threshold => "threshold",
            Contender::TargetTracking => "target_tracking",
            Contender::Predictive => "predictive",
            Contender::Oracle => "oracle",
        }
    }
}

/// Linear between the closest ranks; `values` must not be empty.
fn percentile(mut values: Vec<f64>, q: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let rank = q * (values.len() - 1) as f64;
    let (low, high) = (values[rank.floor() as usize], values[rank.ceil() as usize]);
    low + (high - low) * rank.fract()
}

#[cfg(test)]
mod tests;

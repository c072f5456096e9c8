//! Pure: the state of one running service: what was measured becomes an observation, a decision
//! becomes commands.
//!
//! The runner feeds it and carries out what it answers; the API reads it. It takes `now` and never
//! waits.

mod acting;
mod learning;
mod shown;
mod switched;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use chrono::TimeDelta;

use super::back_off::BackOff;
use super::calendar::Calendar;
use super::{Counters, Override, Pushed};
use crate::autoscaler::demand::{DemandModel, Usage};
use crate::autoscaler::{Autoscaler, DemandSample, Observation};
use crate::balancer;
use crate::config::{self, Capacity, DemandUnit, Mode};
use crate::fleet::yielding::Yielding;
use crate::fleet::{Command, Fleet, Phase, Replica, ReplicaId, ReplicaReport};
use crate::io::artifact::catalog::ModelInfo;
use crate::io::collector::meter::{Meter, Requests};
use crate::io::collector::{Reading, Sample};
use crate::io::store::DemandRow;
use crate::planner::{Basis, Decision};
use crate::series::Time;

/// Decisions kept in memory.
pub(super) const DECISIONS: usize = 1000;
/// Capacity of a replica without a CPU limit.
const UNLIMITED_CORES: f64 = 1.0;
/// Longest pause after starts that failed, and after readings of the target that failed.
const START_PAUSE_MAX: Duration = Duration::from_secs(60);
const READ_PAUSE_MAX: Duration = Duration::from_secs(15);

pub(super) struct State {
    pub config: config::Service,
    /// What the user wants.
    pub mode: Mode,
    /// That it was asked for, where the configuration says otherwise.
    mode_note: Option<String>,
    /// Why this process must not act although its mode is `act`: another Foresail does.
    pub held_back: Option<String>,
    /// Whether that other one is seen to act.
    pub rival: bool,
    pub autoscaler: Autoscaler,
    pub fleet: Fleet,
    pub override_: Option<Override>,
    pub counters: Counters,
    pub decisions: VecDeque<Arc<Decision>>,
    /// Decisions not yet on disk.
    pub unsaved: Vec<Arc<Decision>>,
    pub calendar: Calendar,
    pub model: Option<ModelInfo>,
    /// Why a model file was refused, and why the last model could not be saved.
    models_refused: Vec<String>,
    model_not_saved: Option<String>,
    meter: Meter,
    demand: DemandModel,
    /// Cores in use at each sample since the last evaluation.
    cores: Vec<f64>,
    capacity: f64,
    /// Balancing weights by replica, where they are not equal: cores it may use.
    weights: BTreeMap<ReplicaId, f64>,
    arrivals_before: Option<(Time, u64)>,
    pushed: Option<DemandSample>,
    last: Observation,
    /// Readings of the target that fail, and starts that fail.
    reads: BackOff,
    starts: BackOff,
    yielding: Yielding,
    /// When the replicas were last looked at: a little after the boundary of the decision that
    /// rests on it.
    looked: Time,
    /// Startup delays were measured that are not on disk.
    pub startup_delays_unsaved: bool,
    pub startup_delays_refused: Option<String>,
    actuator_notes: Vec<String>,
}

/// What one evaluation asks the runner to do.
pub(super) struct Evaluation {
    pub row: DemandRow,
    pub commands: Vec<Command>,
}

impl State {
    pub fn new(config: config::Service, mode: Mode) -> State {
        let capacity = match config.capacity {
            Capacity::Fixed(capacity) => capacity,
            Capacity::Learn => UNLIMITED_CORES,
        };
        State {
            mode,
            mode_note: None,
            held_back: None,
            rival: false,
            autoscaler: Autoscaler::new(config.settings.clone()),
            fleet: Fleet::new(config.fleet.clone()),
            override_: None,
            counters: Counters::default(),
            decisions: VecDeque::new(),
            unsaved: Vec::new(),
            calendar: Calendar::default(),
            model: None,
            models_refused: Vec::new(),
            model_not_saved: None,
            meter: Meter::default(),
            demand: DemandModel::default(),
            cores: Vec::new(),
            capacity,
            weights: BTreeMap::new(),
            arrivals_before: None,
            pushed: None,
            last: Observation { capacity, ..Observation::default() },
            reads: BackOff::new(READ_PAUSE_MAX),
            starts: BackOff::new(START_PAUSE_MAX),
            yielding: Yielding::default(),
            looked: Time::default(),
            startup_delays_unsaved: false,
            startup_delays_refused: None,
            actuator_notes: Vec::new(),
            config,
        }
    }

    /// Whether reading the target failed so lately that it is left alone for now.
    pub fn read_waits(&self, now: Time) -> bool {
        self.reads.waits(now)
    }

    /// The target could not be read: nothing is known of any replica, nothing changes.
    pub fn unreadable(&mut self, now: Time, reason: String) {
        self.counters.source_failures += 1;
        if self.reads.failure().is_none() {
            tracing::warn!(service = self.config.name, reason, "replicas cannot be read: holding");
        }
        self.reads.failed(now, reason);
        self.fleet.lose_sight();
    }

    /// Takes in one round of reports and readings; gives the samples for the store.
    pub fn sample(
        &mut self,
        now: Time,
        reports: &[ReplicaReport],
        readings: &[Reading],
        balancer: &balancer::Snapshot,
        notes: Vec<String>,
    ) -> Vec<Sample> {
        if self.reads.failure().is_some() {
            tracing::info!(service = self.config.name, "replicas can be read again");
        }
        self.reads.succeeded(now);
        self.actuator_notes = notes;
        let requests = |id: &str| requests_of(balancer, id);
        self.fleet.observe(now, reports, |id| requests(id).in_flight);
        self.looked = now;
        self.judge_changes(now);
        let fleet = &self.fleet;
        let samples =
            self.meter.samples(readings, requests, |id| fleet.replicas().any(|r| r.id == id));
        self.counters.samples += samples.len() as u64;
        self.counters.samples_refused.clone_from(&self.meter.refused);
        self.counters.samples_merged = self.meter.merged;
        if self.config.capacity == Capacity::Learn && self.config.demand == DemandUnit::Cores {
            self.learn_capacity(readings);
        }
        self.weigh(readings);
        self.cores.extend(self.serving_cores(&samples));
        samples
    }

    /// Cores of all serving replicas; those without a sample are taken to use as much as the
    /// others. Fewer than half of them is not enough to tell. CPU of a replica that still starts is
    /// no demand.
    fn serving_cores(&self, samples: &[Sample]) -> Option<f64> {
        let serving: Vec<&Replica> =
            self.fleet.replicas().filter(|r| r.serves() || r.phase == Phase::Draining).collect();
        let cores: Vec<f64> = samples
            .iter()
            .filter(|s| serving.iter().any(|r| r.id == s.replica))
            .map(|s| s.cpu_cores)
            .collect();
        let enough = !cores.is_empty() && 2 * cores.len() >= serving.len();
        enough.then(|| cores.iter().sum::<f64>() * serving.len() as f64 / cores.len() as f64)
    }

    /// A replica that cannot be read keeps its weight.
    fn weigh(&mut self, readings: &[Reading]) {
        let weighting = self.config.balancer.as_ref().map(|balancer| balancer.weights);
        if weighting == Some(config::Weighting::Capacity) {
            let fleet = &self.fleet;
            self.weights.retain(|id, _| fleet.replicas().any(|r| r.id == *id));
            let cores = |r: &Reading| r.cpu_limit.filter(|&l| l > 0.0).unwrap_or(UNLIMITED_CORES);
            self.weights.extend(readings.iter().map(|r| (r.replica.clone(), cores(r))));
        }
    }

    /// The mean limit of the replicas that serve.
    fn learn_capacity(&mut self, readings: &[Reading]) {
        let serves = |id: &str| self.fleet.replicas().any(|r| r.id == id && r.serves());
        let limits: Vec<f64> = readings
            .iter()
            .filter(|r| serves(&r.replica))
            .map(|r| r.cpu_limit.filter(|&l| l > 0.0).unwrap_or(UNLIMITED_CORES))
            .collect();
        if !limits.is_empty() {
            self.capacity = limits.iter().sum::<f64>() / limits.len() as f64;
        }
    }

    /// One evaluation at the boundary `now`: observation, decision, commands.
    pub fn evaluate(&mut self, now: Time, arrivals_total: Option<u64>) -> Evaluation {
        let demand = self.demand_sample(now, arrivals_total);
        let observation = Observation {
            demand,
            capacity: self.capacity,
            ready_replicas: self.fleet.ready_replicas(),
            missing_metrics: 0,
            current_replicas: self.fleet.current_replicas(),
            startup_delays: self.startup_delays(now),
        };
        let overloaded = |d: &DemandSample| {
            d.demand > f64::from(observation.ready_replicas) * observation.capacity
        };
        self.counters.overloaded_steps += u64::from(demand.as_ref().is_some_and(overloaded));
        let drifted = self.autoscaler.learning().drift.is_some();
        let mut decision = self.autoscaler.step(now, &observation);
        self.counters.drift_alarms +=
            u64::from(!drifted && self.autoscaler.learning().drift.is_some());
        self.last = Observation { startup_delays: Vec::new(), ..observation };
        self.overrule(now, &mut decision);
        decision.notes.extend(self.notes(now));
        *self.counters.decisions.entry(basis_name(decision.basis)).or_default() += 1;
        let commands = self.commands(now, decision.desired_replicas);
        let row = DemandRow {
            time: now,
            demand: demand.map(|d| d.demand),
            lower_bound: demand.is_some_and(|d| d.lower_bound),
            ready_replicas: decision.ready_replicas,
            current_replicas: decision.current_replicas,
            desired_replicas: decision.desired_replicas,
        };
        let decision = Arc::new(decision);
        if self.decisions.len() == DECISIONS {
            self.decisions.pop_front();
        }
        self.decisions.push_back(decision.clone());
        self.unsaved.push(decision);
        Evaluation { row, commands }
    }

    /// What would be decided at `now`; changes nothing.
    pub fn preview(&self, now: Time) -> Decision {
        let mut decision = self.autoscaler.preview(now, &self.last);
        self.overrule(now, &mut decision);
        decision.notes.extend(self.notes(now));
        decision
    }

    /// Demand over the interval that ends at `now`: pushed, else measured; `None` if nothing could
    /// be read.
    fn demand_sample(&mut self, now: Time, arrivals_total: Option<u64>) -> Option<DemandSample> {
        let arrivals = self.arrivals_per_second(now, arrivals_total);
        let cores = std::mem::take(&mut self.cores);
        if let Some(pushed) = self.pushed.take_if(|p| p.time <= now) {
            return Some(pushed);
        }
        let (demand, lower_bound) = match self.config.demand {
            DemandUnit::RequestsPerSecond => (arrivals?, false),
            DemandUnit::Cores if cores.is_empty() => return None,
            DemandUnit::Cores => self.demand.demand_cores(Usage {
                cores: cores.iter().sum::<f64>() / cores.len() as f64,
                arrivals_per_second: arrivals,
                in_flight: arrivals.map(|_| self.in_flight()),
                capacity_cores: self.capacity * f64::from(self.fleet.ready_replicas()),
                seconds: self.config.settings.evaluation_interval.as_secs_f64(),
            }),
        };
        Some(DemandSample { time: now, demand, lower_bound })
    }

    fn in_flight(&self) -> f64 {
        self.fleet.replicas().map(|r| f64::from(r.in_flight)).sum()
    }

    fn arrivals_per_second(&mut self, now: Time, total: Option<u64>) -> Option<f64> {
        let (before, count) = self.arrivals_before.replace((now, total?))?;
        let seconds = now.signed_duration_since(before).as_seconds_f64();
        (seconds > 0.0).then(|| total.unwrap_or(count).saturating_sub(count) as f64 / seconds)
    }

    /// Takes in pushed demand: the newest acts at the next evaluation, all become rows for the
    /// store.
    pub fn push(&mut self, now: Time, samples: &[DemandSample]) -> (Pushed, Vec<DemandRow>) {
        let mut pushed = Pushed::default();
        let mut rows = Vec::new();
        let latest =
            now + TimeDelta::from_std(self.config.settings.evaluation_interval).unwrap_or_default();
        for (i, sample) in samples.iter().enumerate() {
            let refusal = if !sample.demand.is_finite() {
                Some(("nan", "demand must be a finite number".to_string()))
            } else if sample.demand < 0.0 {
                Some(("negative", format!("demand {} is negative", sample.demand)))
            } else if sample.time > latest {
                Some(("future", format!("time {} lies in the future", sample.time)))
            } else if self.pushed.is_some_and(|p| sample.time <= p.time) {
                Some(("out_of_order", format!("time {} is not after the last", sample.time)))
            } else {
                None
            };
            if let Some((reason, message)) = refusal {
                *self.meter.refused.entry(reason).or_default() += 1;
                pushed.refused.push((i, message));
                continue;
            }
            pushed.accepted += 1;
            self.pushed = Some(*sample);
            rows.push(DemandRow {
                time: sample.time,
                demand: Some(sample.demand),
                lower_bound: sample.lower_bound,
                ready_replicas: self.fleet.ready_replicas(),
                current_replicas: self.fleet.current_replicas(),
                desired_replicas: self.decisions.back().map_or(0, |d| d.desired_replicas),
            });
        }
        (pushed, rows)
    }
}

fn requests_of(balancer: &balancer::Snapshot, id: &str) -> Requests {
    let target = balancer.targets().iter().find(|t| t.id == id);
    target.map_or(Requests::default(), |t| Requests {
        answered_total: t.counters.requests.load(Ordering::Relaxed),
        in_flight: t.counters.in_flight.load(Ordering::Relaxed),
    })
}

fn basis_name(basis: Basis) -> &'static str {
    match basis {
        Basis::Forecast => "forecast",
        Basis::Reactive => "reactive",
        Basis::Hold => "hold",
    }
}

//! Pure: the state of one running service: what was measured becomes an observation, a decision
//! becomes commands.
//!
//! The runner feeds it and carries out what it answers; the API reads it. It takes `now` and never
//! waits.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use chrono::TimeDelta;

use super::{Counters, ModelInfo, Override, Pushed, Snapshot};
use crate::autoscaler::demand::{DemandModel, Usage};
use crate::autoscaler::{Autoscaler, DemandSample, Observation};
use crate::balancer;
use crate::config::{self, Capacity, DemandUnit, Mode};
use crate::fleet::{Command, Fleet, Phase, Replica, ReplicaReport};
use crate::forecast::Model;
use crate::io::collector::meter::{Meter, Requests};
use crate::io::collector::{Reading, Sample};
use crate::io::store::DemandRow;
use crate::planner::{Basis, Decision, Limit, LimitApplied};
use crate::series::Time;

/// Decisions kept in memory.
pub(super) const DECISIONS: usize = 1000;
/// Capacity of a replica without a CPU limit.
const UNLIMITED_CORES: f64 = 1.0;
/// Pause after a failed start; doubles with each further failure up to the longest.
const START_PAUSE: Duration = Duration::from_secs(1);
const START_PAUSE_MAX: Duration = Duration::from_secs(60);

pub(super) struct State {
    pub config: config::Service,
    /// The configured one, or `observe` while another Foresail acts.
    pub mode: Mode,
    pub autoscaler: Autoscaler,
    pub fleet: Fleet,
    pub override_: Option<Override>,
    pub counters: Counters,
    pub decisions: VecDeque<Arc<Decision>>,
    /// Decisions not yet on disk.
    pub unsaved: Vec<Arc<Decision>>,
    model: Option<ModelInfo>,
    meter: Meter,
    demand: DemandModel,
    /// Cores in use at each sample since the last evaluation.
    cores: Vec<f64>,
    capacity: f64,
    arrivals_before: Option<(Time, u64)>,
    pushed: Option<DemandSample>,
    last: Observation,
    /// Why the target cannot be read now, and what the actuator has to say.
    source_error: Option<String>,
    actuator_notes: Vec<String>,
    /// The last failed start, and until when no other is tried.
    start_failure: Option<(String, Time, Duration)>,
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
            autoscaler: Autoscaler::new(config.settings.clone()),
            fleet: Fleet::new(config.fleet.clone()),
            override_: None,
            counters: Counters::default(),
            decisions: VecDeque::new(),
            unsaved: Vec::new(),
            model: None,
            meter: Meter::default(),
            demand: DemandModel::default(),
            cores: Vec::new(),
            capacity,
            arrivals_before: None,
            pushed: None,
            last: Observation { capacity, ..Observation::default() },
            source_error: None,
            actuator_notes: Vec::new(),
            start_failure: None,
            config,
        }
    }

    /// The target could not be read: nothing is known of any replica, nothing changes.
    pub fn unreadable(&mut self, reason: String) {
        self.counters.source_failures += 1;
        self.source_error = Some(reason);
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
        self.source_error = None;
        self.actuator_notes = notes;
        let requests = |id: &str| requests_of(balancer, id);
        self.fleet.observe(now, reports, |id| requests(id).in_flight);
        let fleet = &self.fleet;
        let samples =
            self.meter.samples(readings, requests, |id| fleet.replicas().any(|r| r.id == id));
        self.counters.samples += samples.len() as u64;
        self.counters.samples_refused.clone_from(&self.meter.refused);
        self.counters.samples_merged = self.meter.merged;
        if self.config.capacity == Capacity::Learn && self.config.demand == DemandUnit::Cores {
            self.learn_capacity(readings);
        }
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
            current_replicas: self.fleet.current_replicas(),
            startup_delays: self.fleet.take_startup_delays(),
        };
        let overloaded = |d: &DemandSample| {
            d.demand > f64::from(observation.ready_replicas) * observation.capacity
        };
        self.counters.overloaded_steps += u64::from(demand.as_ref().is_some_and(overloaded));
        let mut decision = self.autoscaler.step(now, &observation);
        self.last = Observation { startup_delays: Vec::new(), ..observation };
        self.apply_override(now, &mut decision);
        decision.notes = self.notes();
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
        self.apply_override(now, &mut decision);
        decision.notes = self.notes();
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
                capacity_cores: self.capacity * f64::from(self.fleet.ready_replicas()),
            }),
        };
        Some(DemandSample { time: now, demand, lower_bound })
    }

    fn arrivals_per_second(&mut self, now: Time, total: Option<u64>) -> Option<f64> {
        let (before, count) = self.arrivals_before.replace((now, total?))?;
        let seconds = now.signed_duration_since(before).as_seconds_f64();
        (seconds > 0.0).then(|| total.unwrap_or(count).saturating_sub(count) as f64 / seconds)
    }

    fn apply_override(&self, now: Time, decision: &mut Decision) {
        let Some(override_) = self.override_.as_ref().filter(|o| now < o.until) else { return };
        let before = decision.desired_replicas;
        decision.desired_replicas = override_.replicas;
        let reason = format!("override until {}: {}", override_.until, override_.reason);
        decision.reason = format!("{reason}; without it {before}: {}", decision.reason);
        let after = override_.replicas;
        decision.limits.push(LimitApplied { limit: Limit::Override, before, after, reason });
    }

    fn commands(&mut self, now: Time, desired: u32) -> Vec<Command> {
        if self.mode == Mode::Observe || self.source_error.is_some() {
            return Vec::new();
        }
        let paused = self.start_failure.as_ref().is_some_and(|(_, until, _)| now < *until);
        let current = self.fleet.current_replicas();
        self.fleet.reconcile(now, if paused { desired.min(current) } else { desired })
    }

    /// A start that was ordered at `ordered` has an outcome.
    pub fn started(&mut self, ordered: Time, now: Time, outcome: Result<String, String>) {
        match outcome {
            Ok(id) => {
                self.counters.starts += 1;
                self.start_failure = None;
                self.fleet.started(ordered, now, id);
            }
            Err(reason) => {
                self.counters.command_failures += 1;
                let pause = match &self.start_failure {
                    // Several starts that failed together are one failure.
                    Some((_, until, pause)) if now < *until => *pause,
                    Some((_, _, pause)) => (*pause * 2).min(START_PAUSE_MAX),
                    None => START_PAUSE,
                };
                let until = now + TimeDelta::from_std(pause).unwrap_or_default();
                self.start_failure = Some((reason, until, pause));
                self.fleet.start_failed(ordered);
            }
        }
    }

    pub fn stopped(&mut self, id: &str, now: Time, outcome: Result<(), String>) {
        match outcome {
            Ok(()) => self.counters.stops += 1,
            Err(reason) => {
                self.counters.command_failures += 1;
                tracing::warn!(service = self.config.name, replica = id, reason, "not stopped");
                self.fleet.stop_failed(id, now);
            }
        }
    }

    pub fn adopt(&mut self, version: Option<u32>, model: Model) {
        self.counters.trainings += 1;
        self.model = Some(ModelInfo::new(version, &model));
        self.autoscaler.adopt(model);
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

    fn notes(&self) -> Vec<String> {
        let failed_start = self.start_failure.as_ref().map(|(reason, until, _)| {
            format!("no replica can be started (next try {}): {reason}", until.format("%H:%M:%S"))
        });
        self.source_error.iter().chain(&failed_start).chain(&self.actuator_notes).cloned().collect()
    }

    pub fn snapshot(&self, now: Time, balancer: &balancer::Snapshot) -> Snapshot {
        let counters = |f: fn(&balancer::Counters) -> &AtomicU64| {
            let load = |t: &balancer::Target| f(&t.counters).load(Ordering::Relaxed);
            balancer.targets().iter().map(load).sum()
        };
        Snapshot {
            time: now,
            mode: self.mode,
            demand: self.last.demand.map(|d| d.demand),
            capacity: self.capacity,
            replicas: self.fleet.replicas().cloned().collect(),
            decisions: self.decisions.iter().cloned().collect(),
            forecast: self.autoscaler.last_forecast().cloned().map(Arc::new),
            model: self.model.clone(),
            startup_delay: self.autoscaler.startup_delay(),
            override_: self.override_.clone().filter(|o| now < o.until),
            counters: self.counters.clone(),
            notes: self.notes(),
            arrivals_total: balancer.offered().arrived.load(Ordering::Relaxed),
            requests_total: counters(|c| &c.requests),
            request_failures_total: counters(|c| &c.failures),
        }
    }

    /// The replicas as the balancer should see them.
    pub fn targets(&self, now: Time) -> Vec<balancer::Target> {
        let window = self.config.fleet.slow_start;
        let target = |r: &Replica| {
            let age = now.signed_duration_since(r.since).to_std().unwrap_or_default();
            let warming = r.phase == Phase::Warming;
            let weight = if warming { balancer::slow_start_weight(age, window) } else { 1.0 };
            Some(balancer::Target {
                id: r.id.clone(),
                address: r.address?,
                weight,
                ready: r.serves(),
                counters: Arc::default(),
            })
        };
        self.fleet.replicas().filter_map(target).collect()
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

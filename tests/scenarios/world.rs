//! The world of a scenario: a clock, workers that obey or do not, and a source of demand that tells
//! the truth or does not.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::TimeDelta;
use foresail::autoscaler::{DemandSample, Observation};
use foresail::fleet::{Command, Fleet, Replica, ReplicaReport};
use foresail::series::Time;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::draw::{Fault, Scenario};

/// One real worker, whatever anybody believes of it.
#[derive(Debug)]
struct Worker {
    id: String,
    /// Step from which it serves.
    ready_at: usize,
    busy: bool,
}

/// Everything outside of autoscaler and fleet.
#[derive(Debug)]
pub struct World<'a> {
    scenario: &'a Scenario,
    rng: ChaCha8Rng,
    pub now: Time,
    step: usize,
    workers: Vec<Worker>,
    named: u32,
    /// A fault of the source, and for how many steps more.
    lie: Option<(Fault, usize)>,
    /// What was last told.
    told: Option<DemandSample>,
    /// Faults that happened.
    pub met: BTreeMap<Fault, usize>,
}

impl<'a> World<'a> {
    /// With the initial replicas, all ready.
    pub fn new(scenario: &'a Scenario, now: Time) -> World<'a> {
        let rng = ChaCha8Rng::seed_from_u64(!scenario.seed);
        let (workers, met) = (Vec::new(), BTreeMap::new());
        let mut world =
            World { scenario, rng, now, step: 0, workers, named: 0, lie: None, told: None, met };
        (0..scenario.initial).for_each(|_| {
            world.launch(0);
        });
        world
    }

    /// Begins step `t`: the clock moves, workers die.
    pub fn begin(&mut self, t: usize) {
        self.step = t;
        let interval = self.scenario.settings.evaluation_interval;
        let passed = if self.meets(Fault::ClockStill) {
            -TimeDelta::milliseconds(self.rng.random_range(0..2) * 500)
        } else if self.meets(Fault::ClockJump) {
            delta(interval) * self.rng.random_range(2..1000)
        } else {
            delta(interval)
        };
        self.now += passed;
        if self.meets(Fault::Outage) {
            self.workers.clear();
        }
        if !self.workers.is_empty() && self.meets(Fault::Death) {
            let dead = self.rng.random_range(0..self.workers.len());
            self.workers.swap_remove(dead);
        }
        if !self.workers.is_empty() && self.meets(Fault::Unready) {
            let ill = self.rng.random_range(0..self.workers.len());
            self.workers[ill].ready_at = t + self.rng.random_range(1..10);
        }
        let calm = self.calm();
        for worker in &mut self.workers {
            worker.busy = !calm && self.rng.random_bool(0.3);
        }
    }

    /// What the actuator sees, and how many requests each worker has in flight.
    pub fn show(&self, fleet: &mut Fleet) {
        let report = |w: &Worker| ReplicaReport {
            id: w.id.clone(),
            ready: w.ready_at <= self.step,
            managed: true,
            ..ReplicaReport::default()
        };
        let reports: Vec<ReplicaReport> = self.workers.iter().map(report).collect();
        fleet.observe(self.now, &reports, |id| u32::from(self.busy(id)));
    }

    fn busy(&self, id: &str) -> bool {
        self.workers.iter().any(|w| w.id == id && w.busy)
    }

    /// What the autoscaler is shown.
    pub fn observe(&mut self, fleet: &mut Fleet) -> Observation {
        let demand = self.tell();
        let odd = [0.0, -1.0, f64::NAN, f64::INFINITY];
        let capacity = match self.meets(Fault::Capacity) {
            true => odd[self.rng.random_range(0..odd.len())],
            false => self.scenario.capacity,
        };
        Observation {
            demand,
            capacity,
            ready_replicas: fleet.ready_replicas(),
            missing_metrics: 0,
            current_replicas: fleet.current_replicas(),
            startup_delays: fleet.take_startup_delays(),
        }
    }

    /// The sample of this step, as true as the source is.
    fn tell(&mut self) -> Option<DemandSample> {
        self.lie = self.lie.filter(|&(_, left)| left > 0 && !self.calm());
        if self.lie.is_none() {
            let kinds =
                [Fault::Gap, Fault::Stale, Fault::Zero, Fault::Garbage, Fault::Late, Fault::Early];
            let lie = kinds.into_iter().find(|&kind| self.meets(kind));
            self.lie = lie.map(|kind| (kind, self.rng.random_range(1..8)));
        }
        let truth = self.truth();
        let Some((kind, left)) = &mut self.lie else {
            self.told = truth.or(self.told);
            return truth;
        };
        *left -= 1;
        let garbage = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1.0, 1e300, f64::MAX];
        let interval = delta(self.scenario.settings.evaluation_interval);
        match kind {
            Fault::Stale => self.told,
            Fault::Zero => Some(DemandSample { time: self.now, demand: 0.0, lower_bound: false }),
            Fault::Garbage => {
                let demand = garbage[self.rng.random_range(0..garbage.len())];
                Some(DemandSample { time: self.now, demand, lower_bound: false })
            }
            Fault::Late => {
                let back = self.rng.random_range(1..5);
                truth.map(|s| DemandSample { time: s.time - interval * back, demand: 0.01, ..s })
            }
            Fault::Early => {
                let ahead = self.rng.random_range(2..100);
                truth.map(|s| DemandSample { time: s.time + interval * ahead, demand: 0.01, ..s })
            }
            _ => None,
        }
    }

    fn truth(&self) -> Option<DemandSample> {
        let (time, demand) = (self.now, self.scenario.load[self.step]);
        if !self.scenario.clipped {
            return Some(DemandSample { time, demand, lower_bound: false });
        }
        let serving = self.workers.iter().filter(|w| w.ready_at <= self.step).count();
        let supply = serving as f64 * self.scenario.capacity;
        let sample =
            DemandSample { time, demand: demand.min(supply), lower_bound: demand >= 0.9 * supply };
        (serving > 0).then_some(sample)
    }

    /// Carries out what the fleet commands.
    pub fn obey(&mut self, fleet: &mut Fleet, commands: Vec<Command>) {
        for command in commands {
            match command {
                Command::Start { count } => (0..count).for_each(|_| {
                    if self.meets(Fault::Refused) {
                        return fleet.start_failed(self.now);
                    }
                    let delay = match () {
                        () if self.meets(Fault::NeverReady) => usize::MAX / 2,
                        () if self.meets(Fault::SlowStart) => 10 * self.scenario.delay,
                        () => self.scenario.delay,
                    };
                    let id = self.launch(self.step + delay);
                    fleet.started(self.now, self.now, id);
                }),
                Command::Stop { replica } if self.meets(Fault::Refused) => {
                    fleet.stop_failed(&replica, self.now);
                }
                Command::Stop { replica } => self.workers.retain(|w| w.id != replica),
            }
        }
    }

    fn launch(&mut self, ready_at: usize) -> String {
        self.named += 1;
        let id = format!("r{:05}", self.named);
        self.workers.push(Worker { id: id.clone(), ready_at, busy: false });
        id
    }

    /// A draining replica that is idle, or was busy for too long.
    pub fn may_stop(&self, replica: &Replica) -> bool {
        let timeout = delta(self.scenario.fleet.drain_timeout);
        !self.busy(&replica.id) || self.now - replica.since >= timeout
    }

    /// Before and after the faults.
    fn calm(&self) -> bool {
        !(self.scenario.rough..self.scenario.calm).contains(&self.step)
    }

    /// Whether `fault` strikes now.
    fn meets(&mut self, fault: Fault) -> bool {
        let chance = self.scenario.chance(fault);
        let strikes = chance > 0.0 && !self.calm() && self.rng.random_bool(chance);
        if strikes {
            *self.met.entry(fault).or_default() += 1;
        }
        strikes
    }
}

fn delta(duration: Duration) -> TimeDelta {
    TimeDelta::milliseconds(duration.as_millis() as i64)
}

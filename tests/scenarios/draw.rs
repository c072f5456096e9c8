//! Draws a scenario from its seed: a service, its load and the faults that it meets.
//!
//! Each seed allows a random subset of the faults, so that some runs meet one kind in purity and
//! others a storm of all.

use std::ops::{Range, RangeInclusive};
use std::sync::LazyLock;
use std::time::Duration;

use foresail::autoscaler::{Settings, TrainingSchedule};
use foresail::fleet::FleetSettings;
use foresail::forecast::Model;
use foresail::forecast::trainer::{TrainOptions, train};
use foresail::planner::predictive::Predictive;
use foresail::planner::rate_limit::{Change, RateLimit, RateLimits, Select};
use foresail::planner::target_tracking::{SignalKind, TargetTracking};
use foresail::planner::threshold::Threshold;
use foresail::planner::{Behavior, Bidirectional, Policy};
use foresail::series::Series;
use foresail::simulator::workload::{Shape, Workload};
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Steps in a day of the services that have a model.
const DAY: usize = 40;
/// Busy demand of those services.
const LEVEL: f64 = 8.0;
/// Steps for which a settled count must stay.
pub const STAY: usize = 8;

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// No sample.
    Gap,
    /// The newest sample again and again, as it ages.
    Stale,
    /// Exactly 0, with every sign of health.
    Zero,
    /// NaN, infinite, negative, or beyond any load.
    Garbage,
    /// A sample of some steps ago.
    Late,
    /// A sample dated ahead of the clock.
    Early,
    /// A capacity that is none.
    Capacity,
    /// A start that takes ten times as long.
    SlowStart,
    /// A start that never becomes ready.
    NeverReady,
    /// A start, or a stop, that the engine refuses.
    Refused,
    /// A replica that is gone.
    Death,
    /// All of them gone.
    Outage,
    /// A replica that serves loses its readiness for a while.
    Unready,
    /// The clock does not move, or runs back a little.
    ClockStill,
    /// The clock jumps ahead by up to a day.
    ClockJump,
}

/// All faults, by name.
pub const FAULTS: [(Fault, &str); 15] = [
    (Fault::Gap, "gap"),
    (Fault::Stale, "stale"),
    (Fault::Zero, "zero"),
    (Fault::Garbage, "garbage"),
    (Fault::Late, "late"),
    (Fault::Early, "early"),
    (Fault::Capacity, "capacity"),
    (Fault::SlowStart, "slow start"),
    (Fault::NeverReady, "never ready"),
    (Fault::Refused, "refused"),
    (Fault::Death, "death"),
    (Fault::Outage, "outage"),
    (Fault::Unready, "unready"),
    (Fault::ClockStill, "clock still"),
    (Fault::ClockJump, "clock jump"),
];

/// What the autoscaler knows of the load beforehand.
#[derive(Debug, Clone)]
pub enum Knowledge {
    None,
    /// A model, and the history it learned from.
    Model(Box<(Series, Model)>),
    /// It trains as it goes.
    Trains,
}

/// A service, its load, its faults, and when it must have settled.
#[derive(Debug, Clone)]
pub struct Scenario {
    pub seed: u64,
    pub settings: Settings,
    pub fleet: FleetSettings,
    pub knowledge: Knowledge,
    /// Demand is CPU use, clipped by the replicas that serve; else it counts requests.
    pub clipped: bool,
    pub capacity: f64,
    pub initial: u32,
    /// Steps from an order to ready.
    pub delay: usize,
    /// First step that may meet faults.
    pub rough: usize,
    /// True demand; constant from step `calm` on.
    pub load: Vec<f64>,
    /// First step without faults.
    pub calm: usize,
    /// First step from which on the count must not change.
    pub settled: usize,
    /// The faults of this seed, and the chance of each at a step or an order.
    pub faults: Vec<(Fault, f64)>,
}

impl Scenario {
    pub fn draw(seed: u64) -> Scenario {
        let rng = &mut ChaCha8Rng::seed_from_u64(seed);
        let delay = *pick(rng, &[1, 1, 2, 4]);
        let which = rng.random_range(0..10);
        let knowledge = match (which, rng.random_range(0..1000)) {
            (7.., 0..20) => learned(rng.random_range(0..MODELS.len())),
            (7.., 20..24) => Knowledge::Trains,
            _ => Knowledge::None,
        };
        let interval = match &knowledge {
            Knowledge::Model(known) => known.0.step(),
            _ => Duration::from_secs(*pick(rng, &[1, 5, 15, 60])),
        };
        // To recover what saturated workers hid costs a model too much time to do it often.
        let clipped = rng.random_bool(if matches!(knowledge, Knowledge::None) { 0.4 } else { 0.1 });
        let max = rng.random_range(1..=5);
        // Without a replica no CPU is measured, so that such a service could not come back.
        let min = rng.random_range(u32::from(clipped)..=max.min(3));
        let settings = settings(rng, which, interval, delay, min..=max);
        let fleet = FleetSettings {
            slow_start: interval * rng.random_range(0..=2),
            drain_timeout: interval * rng.random_range(1..=5),
            start_timeout: interval * rng.random_range(2 * delay as u32..=8),
            yield_for: Duration::ZERO,
        };
        let initial = rng.random_range(min..=max + 1);
        // A model first earns trust.
        let rough = if matches!(knowledge, Knowledge::Model(_)) { 60 } else { 0 };
        let calm = rough + rng.random_range(25..=50);
        let settled = calm + bound(&settings, &fleet, delay, initial);
        let (capacity, load) = demand(rng, &knowledge, max, delay, calm..settled + STAY);
        let share = rng.random_range(0.1..0.9);
        let mut faults = FAULTS.map(|(fault, _)| (fault, rng.random_range(0.01..0.1))).to_vec();
        faults.retain(|_| rng.random_bool(share));
        Scenario {
            seed,
            settings,
            fleet,
            knowledge,
            clipped,
            capacity,
            initial,
            delay,
            rough,
            load,
            calm,
            settled,
            faults,
        }
    }

    pub fn chance(&self, fault: Fault) -> f64 {
        self.faults.iter().find(|(f, _)| *f == fault).map_or(0.0, |(_, chance)| *chance)
    }
}

/// Of ten services one is static, and each other policy has three.
fn settings(
    rng: &mut ChaCha8Rng,
    which: u32,
    interval: Duration,
    delay: usize,
    bounds: RangeInclusive<u32>,
) -> Settings {
    let rule = threshold(rng, interval);
    let policy = match which {
        0 => Policy::Static { replicas: rng.random_range(bounds.clone()) },
        1..4 => Policy::Threshold(rule.clone()),
        4..7 => Policy::TargetTracking(TargetTracking {
            // Clipped at 1, a higher target is out of reach of the tolerance.
            target_utilization: rng.random_range(0.3..0.8),
            signal: *pick(rng, &[SignalKind::Cpu, SignalKind::Demand]),
        }),
        _ => Policy::Predictive(Predictive {
            overload_budget: *pick(rng, &[0.002, 0.01, 0.1]),
            start_cost: interval * rng.random_range(0..=2),
        }),
    };
    Settings {
        policy,
        fallback: rule,
        behavior: behavior(rng, interval, *bounds.start(), *bounds.end()),
        evaluation_interval: interval,
        max_staleness: interval * rng.random_range(1..=4),
        training: TrainingSchedule {
            min_history: interval * 60,
            interval: interval * 120,
            max_history: interval * 1000,
        },
        startup_delay: interval * (delay as u32 - 1),
        max_startup_delay: interval * 10,
    }
}

/// Steps after the last fault by which every rule must rest.
///
/// What the faults left behind goes first: replicas that never become ready are replaced after the
/// start timeout, and then need their delay; a stuck request leaves after the drain timeout;
/// a doubted zero is believed, and the rule's mean forgets the faults, after the rule's window
/// each; old recommendations leave their stabilization windows. Then the count moves by at least
/// one replica in each rate limit period, or, where target tracking waits for what it started, in
/// each startup delay: at worst to one end of its range, for the mean of the window lags, and back
/// from there to its place. The threshold rule recommends relative to the count of now, so each of
/// its moves has to wait until the one before has left the stabilization window.
fn bound(settings: &Settings, fleet: &FleetSettings, delay: usize, initial: u32) -> usize {
    let steps = |d: Duration| d.as_millis().div_ceil(settings.evaluation_interval.as_millis());
    let Behavior { stabilization_window: windows, rate_limits, max_replicas, .. } =
        &settings.behavior;
    let stable = steps(windows.up) + steps(windows.down);
    let left = steps(fleet.start_timeout)
        + steps(fleet.drain_timeout)
        + 2 * steps(settings.fallback.window);
    let limits = rate_limits.up.limits.iter().chain(&rate_limits.down.limits);
    let periods = limits.map(|limit| steps(limit.period));
    let pace = 2 * periods.chain([delay as u128 + 1]).max().unwrap_or(1);
    let range = u128::from(initial.max(*max_replicas));
    let moves = match settings.policy {
        Policy::Static { .. } | Policy::TargetTracking(_) => stable + range * pace,
        _ => range * (pace + stable),
    };
    (left + moves) as usize + 2 * delay + 5
}

fn threshold(rng: &mut ChaCha8Rng, interval: Duration) -> Threshold {
    let up = rng.random_range(0.3..0.95);
    Threshold {
        up,
        down: rng.random_range(0.0..up * 0.9),
        window: interval * rng.random_range(0..=4),
        step: rng.random_range(1..=3),
    }
}

fn behavior(rng: &mut ChaCha8Rng, interval: Duration, min: u32, max: u32) -> Behavior {
    let mut behavior = Behavior { min_replicas: min, max_replicas: max, ..Behavior::kubernetes() };
    if rng.random_bool(0.2) {
        // Its windows and periods are meant for steps of 15 s.
        behavior.stabilization_window.down = interval * 5;
        let Bidirectional { up, down } = &mut behavior.rate_limits;
        let limits = up.limits.iter_mut().chain(&mut down.limits);
        limits.for_each(|limit| limit.period = interval);
        return behavior;
    }
    let mut limits = || {
        let many = rng.random_range(0..=2);
        let select = *pick(rng, &[Select::Max, Select::Min]);
        let limit = |_| RateLimit {
            // A share of nothing is nothing: from 0 replicas only a number leads up.
            most: match min == 0 || rng.random_bool(0.5) {
                true => Change::Replicas(rng.random_range(1..=3)),
                false => Change::Percent(rng.random_range(5..150)),
            },
            period: interval * rng.random_range(1..=2),
        };
        RateLimits { limits: (0..many).map(limit).collect(), select }
    };
    behavior.rate_limits = Bidirectional { up: limits(), down: limits() };
    let mut share = || rng.random_range(0.0..0.2);
    behavior.tolerance = Bidirectional { up: share(), down: share() };
    behavior.stabilization_window = Bidirectional {
        up: interval * rng.random_range(0..=2),
        down: interval * rng.random_range(0..=4),
    };
    behavior
}

/// Capacity of a replica, and load that may or may not fit into the largest fleet; constant in the
/// range that ends it.
fn demand(
    rng: &mut ChaCha8Rng,
    knowledge: &Knowledge,
    max: u32,
    delay: usize,
    Range { start: calm, end }: Range<usize>,
) -> (f64, Vec<f64>) {
    let busy = f64::from(max) * rng.random_range(0.2..1.2);
    if let Knowledge::Model(known) = knowledge {
        let level = LEVEL * rng.random_range(0.5..1.5);
        let mut load = known.0.values()[..calm.min(known.0.len())].to_vec();
        load.resize(end, level);
        return (LEVEL / busy, load);
    }
    let capacity = 10f64.powf(rng.random_range(-2.0..2.0));
    let shape = rng.random_range(0..5);
    let phase = rng.random_range(0..20);
    let mut walk: f64 = 0.5;
    let mut load: Vec<f64> = (phase..phase + calm)
        .map(|t| {
            walk = (walk + rng.random_range(-0.1..0.1)).clamp(0.0, 1.0);
            let share = match shape {
                0 => 0.8,
                1 => 0.5 - 0.5 * (t as f64 * std::f64::consts::TAU / DAY as f64).cos(),
                // Two peaks, nearer to each other than a start of more than one step takes.
                2 => [0.1, 1.0][usize::from([5, 4 + delay.max(2)].contains(&(t % 20)))],
                3 => walk,
                _ => [0.0, 1.0][t / 15 % 2],
            };
            busy * capacity * share * rng.random_range(0.97..1.03)
        })
        .collect();
    // Nothing at all, or anything up to more than the maximum carries.
    let rest = if rng.random_bool(0.1) { 0.0 } else { rng.random_range(0.05..0.9) };
    load.resize(end, rest * f64::from(max) * capacity);
    (capacity, load)
}

fn pick<'a, T>(rng: &mut ChaCha8Rng, from: &'a [T]) -> &'a T {
    from.choose(rng).expect("not empty")
}

/// A day's season, a season with spikes, and a service without one.
const MODELS: [Shape; 3] = [Shape::Daily, Shape::Spiky, Shape::Flat];

/// Ten days of history and its model; trained once for all seeds.
fn learned(which: usize) -> Knowledge {
    static LEARNED: LazyLock<[(Series, Model); 3]> = LazyLock::new(|| {
        MODELS.map(|shape| {
            let step = Duration::from_secs(15);
            let load =
                Workload { shape, step, day: DAY, days: 10, level: LEVEL, noise: 0.03 }.series(1);
            let model = train(load.end(), &load, &TrainOptions::default()).expect("enough");
            (load, model)
        })
    });
    Knowledge::Model(Box::new(LEARNED[which].clone()))
}

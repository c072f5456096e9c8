//! Pure: reads what decides the number of replicas: policy, limits, schedule, training.

use std::time::Duration;

use super::DemandUnit;
use super::section::Section;
use super::value;
use crate::autoscaler::{Settings, TrainingSchedule};
use crate::planner::predictive::Predictive;
use crate::planner::rate_limit::{Change, RateLimit, RateLimits, Select};
use crate::planner::scheduled::{Entry, Schedule, parse_cron, parse_zone};
use crate::planner::target_tracking::{SignalKind, TargetTracking};
use crate::planner::threshold::Threshold;
use crate::planner::{Behavior, Bidirectional, Policy};

/// More replicas than one machine or engine runs; a larger number is a slip of the finger.
const MAX_REPLICAS: u32 = 10_000;

pub fn read_settings(
    s: &mut Section,
    evaluation_interval: Duration,
    demand: DemandUnit,
) -> Settings {
    let fallback = s.table("fallback", read_fallback);
    let (min_replicas, max_replicas) = s.table("replicas", |s| {
        let min = s.or("min", 1, value::integer(0..=MAX_REPLICAS));
        let max = s.or("max", min.max(20), value::integer(1..=MAX_REPLICAS));
        if min > max {
            s.error("min", format!("{min} is more than max = {max}"));
        }
        (min, max)
    });
    let policy = read_policy(s, &fallback, demand, min_replicas..=max_replicas);
    let schedule = read_schedule(s, max_replicas);
    let bounds = (min_replicas, max_replicas);
    let behavior = s.table("behavior", |s| read_behavior(s, &policy, schedule, bounds));

    let delays = || value::duration("0s", "1day");
    let startup_delay = s.or("startup_delay", minutes(1), delays());
    let max_startup_delay = s.or("max_startup_delay", startup_delay.max(minutes(10)), delays());
    if startup_delay > max_startup_delay {
        let message = format!(
            "{} is more than max_startup_delay = {}",
            humantime::format_duration(startup_delay),
            humantime::format_duration(max_startup_delay)
        );
        s.error("startup_delay", message);
    }
    let max_staleness =
        s.or("max_staleness", 3 * evaluation_interval, value::duration("100ms", "1day"));
    if max_staleness < evaluation_interval {
        let message = "shorter than evaluation_interval: every demand would be stale";
        s.error("max_staleness", message.into());
    }
    Settings {
        policy,
        fallback,
        behavior,
        evaluation_interval,
        max_staleness,
        training: s.table("training", read_training),
        startup_delay,
        max_startup_delay,
    }
}

fn read_fallback(s: &mut Section) -> Threshold {
    let default = Threshold::default();
    let share =
        || value::number("share above 0 and at most 1, such as 0.8", |n| n > 0.0 && n <= 1.0);
    let rule = Threshold {
        up: s.or("up", default.up, share()),
        down: s.or(
            "down",
            default.down,
            value::number("share from 0 to below 1", |n| (0.0..1.0).contains(&n)),
        ),
        window: s.or("window", default.window, value::duration("0s", "1h")),
        step: s.or("step", default.step, value::integer(1..=MAX_REPLICAS)),
    };
    if rule.down >= rule.up {
        s.error("down", format!("{} is not below up = {}", rule.down, rule.up));
    }
    rule
}

fn read_policy(
    s: &mut Section,
    fallback: &Threshold,
    demand: DemandUnit,
    bounds: std::ops::RangeInclusive<u32>,
) -> Policy {
    #[derive(Clone, Copy, PartialEq)]
    enum Name {
        Predictive,
        Threshold,
        TargetTracking,
        Scheduled,
        Static,
    }
    let names = [
        ("predictive", Name::Predictive),
        ("threshold", Name::Threshold),
        ("target_tracking", Name::TargetTracking),
        ("scheduled", Name::Scheduled),
        ("static", Name::Static),
    ];
    let name = s.or("policy", Name::Predictive, value::one_of(&names));
    // The keys of the other policies are read too: who tries another policy keeps them in the file.
    let budget = value::number("share above 0 and below 1, such as 0.01", |n| n > 0.0 && n < 1.0);
    let overload_budget = s.or("overload_budget", 0.01, budget);
    let start_cost = s.or("start_cost", Duration::ZERO, value::duration("0s", "1day"));
    let target = value::number("share above 0 and at most 1, such as 0.7", |n| n > 0.0 && n <= 1.0);
    let target_utilization = s.or("target_utilization", 0.7, target);
    let signal = match demand {
        DemandUnit::Cores => SignalKind::Cpu,
        DemandUnit::RequestsPerSecond => SignalKind::Demand,
    };
    let signals = [("cpu", SignalKind::Cpu), ("demand", SignalKind::Demand)];
    let signal = s.or("signal", signal, value::one_of(&signals));
    let replicas = s.optional("static_replicas", value::integer(0..=MAX_REPLICAS));
    if name == Name::Scheduled && !s.has("schedule") {
        let message =
            "missing; policy = \"scheduled\" needs [{ cron = \"0 8 * * 1-5\", min = 5, … }]";
        s.error("schedule", message.into());
    }
    if name == Name::Static {
        match replicas {
            None if !s.has("static_replicas") => {
                s.error("static_replicas", "missing; policy = \"static\" needs it".into());
            }
            Some(n) if !bounds.contains(&n) => {
                let (min, max) = (bounds.start(), bounds.end());
                s.error("static_replicas", format!("{n} is not within replicas {min} to {max}"));
            }
            _ => {}
        }
    }
    match name {
        Name::Predictive => Policy::Predictive(Predictive { overload_budget, start_cost }),
        Name::Threshold => Policy::Threshold(fallback.clone()),
        Name::TargetTracking => {
            Policy::TargetTracking(TargetTracking { target_utilization, signal })
        }
        Name::Static => Policy::Static { replicas: replicas.unwrap_or_default() },
        // Nothing but the schedule asks for replicas, beyond the minimum.
        Name::Scheduled => Policy::Static { replicas: *bounds.start() },
    }
}

/// Defaults: those of the Kubernetes HPA v2 under its own rule; none for the forecast, which weighs
/// by itself when to come down; else slow enough on the way down to ride over one noisy minute.
fn read_behavior(
    s: &mut Section,
    policy: &Policy,
    schedule: Schedule,
    (min_replicas, max_replicas): (u32, u32),
) -> Behavior {
    let mut default = Behavior::of(policy);
    if matches!(policy, Policy::Static { .. } | Policy::Threshold(_)) {
        default.stabilization_window.down = minutes(1);
    }
    let share = value::number("share from 0 to 1", |n| (0.0..=1.0).contains(&n));
    let window = value::duration("0s", "1h");
    Behavior {
        tolerance: s.bidirectional("tolerance", default.tolerance, share),
        stabilization_window: s.bidirectional(
            "stabilization_window",
            default.stabilization_window,
            window,
        ),
        rate_limits: s.table("rate_limits", |s| read_rate_limits(s, default.rate_limits)),
        schedule,
        min_replicas,
        max_replicas,
    }
}

fn read_rate_limits(
    s: &mut Section,
    default: Bidirectional<RateLimits>,
) -> Bidirectional<RateLimits> {
    let selects = [("max", Select::Max), ("min", Select::Min), ("disabled", Select::Disabled)];
    let select = s.bidirectional("select", Bidirectional::default(), value::one_of(&selects));
    let mut limits = |key, default: RateLimits| {
        let given = s.list(key, read_rate_limit);
        given.map_or(default.limits, |list| list.into_iter().flatten().collect())
    };
    Bidirectional {
        up: RateLimits { limits: limits("up", default.up), select: select.up },
        down: RateLimits { limits: limits("down", default.down), select: select.down },
    }
}

fn read_rate_limit(s: &mut Section) -> Option<RateLimit> {
    let replicas = s.optional("replicas", value::integer(1..=MAX_REPLICAS));
    let percent = s.optional("percent", value::integer(1..=1_000_000));
    let period = s.or("period", Duration::from_secs(60), value::duration("1s", "30m"));
    if s.has("replicas") == s.has("percent") {
        s.error("", "write either `replicas` or `percent`; another limit is another entry".into());
    }
    let most = replicas.map(Change::Replicas).or(percent.map(Change::Percent))?;
    Some(RateLimit { most, period })
}

fn read_schedule(s: &mut Section, max_replicas: u32) -> Schedule {
    let entries = s.list("schedule", |s| read_entry(s, max_replicas)).unwrap_or_default();
    Schedule { entries: entries.into_iter().flatten().collect() }
}

fn read_entry(s: &mut Section, max_replicas: u32) -> Option<Entry> {
    let right = "write for instance \"0 8 * * 1-5\"";
    let cron = s.required("cron", right, |value| parse_cron(&value::text(value)?));
    let zone = s.or("zone", chrono_tz::UTC, |value| parse_zone(&value::text(value)?));
    let min_replicas = s.optional("min", value::integer(0..=MAX_REPLICAS));
    let max_replicas_then = s.optional("max", value::integer(0..=MAX_REPLICAS));
    let lasts = s.optional("for", value::duration("1s", "365d"));
    if min_replicas.is_some_and(|min| min > max_replicas) {
        s.error("min", format!("more than replicas.max = {max_replicas}, which it cannot exceed"));
    }
    let entry = Entry { cron: cron?, zone, min_replicas, max_replicas: max_replicas_then, lasts };
    // A key that is there and wrong was reported already.
    if s.has("min") == min_replicas.is_some() && s.has("max") == max_replicas_then.is_some() {
        entry.check().unwrap_or_else(|message| s.error("", message));
    }
    Some(entry)
}

fn read_training(s: &mut Section) -> TrainingSchedule {
    let default = TrainingSchedule::default();
    let schedule = TrainingSchedule {
        min_history: s.or("min_history", default.min_history, value::duration("1s", "365d")),
        interval: s.or("interval", default.interval, value::duration("1s", "365d")),
        max_history: s.or("max_history", default.max_history, value::duration("1s", "3650d")),
    };
    if schedule.min_history > schedule.max_history {
        let message = format!(
            "{} is more than max_history = {}",
            humantime::format_duration(schedule.min_history),
            humantime::format_duration(schedule.max_history)
        );
        s.error("min_history", message);
    }
    schedule
}

pub const fn minutes(n: u64) -> Duration {
    Duration::from_secs(60 * n)
}

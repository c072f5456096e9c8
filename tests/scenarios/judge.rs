//! The judge: what must hold at every step, and once the world is calm.

use chrono::TimeDelta;
use foresail::autoscaler::Observation;
use foresail::fleet::{Command, Fleet, Phase, Replica};
use foresail::planner::threshold::Threshold;
use foresail::planner::{Basis, Decision, Policy, Signal};

use crate::draw::{Knowledge, Scenario};
use crate::world::World;

/// What must hold of a decision, whatever the world shows.
pub fn safe(
    scenario: &Scenario,
    seen: &Observation,
    before: Option<&Decision>,
    decision: &Decision,
) -> Result<(), String> {
    let behavior = &scenario.settings.behavior;
    let (min, max) = (behavior.min_replicas, behavior.max_replicas);
    let (current, desired) = (seen.current_replicas, decision.desired_replicas);
    let hold = decision.basis == Basis::Hold;
    let highest = if hold { max.max(current) } else { max };
    ensure((min..=highest).contains(&desired), || format!("{desired} is beyond {min} to {max}"))?;
    let fixed = matches!(scenario.settings.policy, Policy::Static { .. });
    let fresh = matches!(decision.signal, Signal::Fresh { .. })
        && seen.capacity > 0.0
        && seen.capacity.is_finite();
    ensure(hold != (fresh || fixed), || "the basis is not what the signal allows".into())?;
    if hold {
        ensure(desired >= current, || format!("down from {current} without data"))?;
        let last = before.map_or(0, |d| d.desired_replicas.min(max));
        ensure(desired >= last, || format!("{last} were desired before the data was missing"))?;
    }
    ensure(!doubtful(scenario, seen, before) || desired >= current, || {
        format!("down from {current} by a sudden 0")
    })?;
    ensure(hold || fixed || !late(seen, before), || "acts on late news".into())?;
    ensure(!decision.reason.is_empty(), || "no reason".into())?;
    ensure(!decision.proposals.is_empty(), || "no proposal".into())?;
    let chained = decision.limits.windows(2).all(|pair| pair[0].after == pair[1].before);
    ensure(chained, || "the limits are no chain".into())?;
    ensure(numbers(decision).all(f64::is_finite), || "a number is not finite".into())
}

/// Exactly 0, one step after load that the rule would not have scaled down on.
fn doubtful(scenario: &Scenario, seen: &Observation, before: Option<&Decision>) -> bool {
    let Some(Decision { signal: Signal::Fresh { demand, .. }, capacity, ready_replicas, .. }) =
        before
    else {
        return false;
    };
    let rule = match &scenario.settings.policy {
        Policy::Static { .. } => return false,
        Policy::Threshold(rule) => rule,
        _ => &scenario.settings.fallback,
    };
    let loaded = *demand > rule.down * f64::from(*ready_replicas) * capacity;
    loaded && seen.demand.is_some_and(|sample| sample.demand == 0.0)
}

/// A sample older than the one that the decision before acted on.
fn late(seen: &Observation, before: Option<&Decision>) -> bool {
    let Some(Decision { time, signal: Signal::Fresh { age_ms, .. }, .. }) = before else {
        return false;
    };
    let newest = *time - TimeDelta::milliseconds(*age_ms as i64);
    seen.demand.is_some_and(|sample| sample.time < newest)
}

/// Every floating point number of a decision.
fn numbers(decision: &Decision) -> impl Iterator<Item = f64> {
    let demand = match decision.signal {
        Signal::Fresh { demand, .. } => Some(demand),
        _ => None,
    };
    let forecast = decision.forecast.iter().flat_map(|f| {
        let prices = [f.overload_price, f.overload_risk, f.regret, f.patience];
        prices.into_iter().chain([f.peak_low, f.peak_median, f.peak_high])
    });
    [Some(decision.capacity), decision.utilization, decision.trust.skill, demand]
        .into_iter()
        .flatten()
        .chain(forecast)
}

/// What must hold of the `commands` that bring a fleet to what is desired; `leaving` are those that
/// were not in service before.
pub fn orderly(
    world: &World,
    leaving: &[Replica],
    fleet: &Fleet,
    commands: &[Command],
) -> Result<(), String> {
    for command in commands {
        let Command::Stop { replica: id } = command else { continue };
        let Some(replica) = leaving.iter().find(|r| r.id == *id) else {
            return Err(format!("stops {id}, which serves"));
        };
        let drained = replica.phase == Phase::Draining && world.may_stop(replica);
        ensure(drained || replica.phase == Phase::Starting, || {
            format!("stops {id}, {:?} since {}", replica.phase, replica.since)
        })?;
    }
    if commands.is_empty() {
        return Ok(());
    }
    let again = fleet.clone().reconcile(world.now, fleet.current_replicas());
    ensure(again.is_empty(), || format!("says more when asked again: {again:?}"))
}

/// What must hold once the faults are over and everything had time to settle.
pub fn settled(scenario: &Scenario, last: &Decision, decision: &Decision) -> Result<(), String> {
    let (behavior, n) = (&scenario.settings.behavior, decision.desired_replicas);
    let (min, max) = (behavior.min_replicas, behavior.max_replicas);
    let demand = scenario.load[scenario.settled];
    let supply = f64::from(n) * scenario.capacity;
    ensure(!matches!(decision.basis, Basis::Hold), || "still holds".into())?;
    if acts_on_forecast(scenario) {
        let carries = n == max || demand <= supply;
        return ensure(carries, || format!("{n} do not carry {demand:.3}"));
    }
    ensure(n == last.desired_replicas, || format!("from {} to {n}", last.desired_replicas))?;
    ensure(decision.ready_replicas == n, || format!("{} of {n} ready", decision.ready_replicas))?;
    if n == 0 {
        let asked = matches!(scenario.settings.policy, Policy::Static { .. });
        return ensure(asked || demand == 0.0, || "nobody carries the demand".into());
    }
    // What CPU shows of it.
    let shown = if scenario.clipped { demand.min(supply) } else { demand };
    let utilization = shown / supply;
    let slack = 1e-9;
    let within = match &scenario.settings.policy {
        Policy::Static { replicas } => n == *replicas,
        Policy::TargetTracking(rule) => {
            let ratio = utilization.min(1.0) / rule.target_utilization;
            let (low, high) = (1.0 - behavior.tolerance.down, 1.0 + behavior.tolerance.up);
            (n == max || ratio <= high + slack)
                && (n == min
                    || ratio >= low - slack
                    || (ratio * f64::from(n)).ceil() >= f64::from(n))
        }
        Policy::AverageValue(_) | Policy::Phpa(_) | Policy::AwsPredictive(_) => true,
        Policy::Threshold(rule) => between(rule, utilization, n, min, max),
        Policy::Predictive(_) => between(&scenario.settings.fallback, utilization, n, min, max),
    };
    ensure(within, || format!("{n} settled at a utilization of {utilization:.3}"))
}

/// Within the rule's dead band, or where one replica fewer would be above it again, or seem to be,
/// for CPU above 90 % is taken for full.
fn between(rule: &Threshold, u: f64, n: u32, min: u32, max: u32) -> bool {
    let slack = 1e-9;
    let fewer = u * f64::from(n) / (f64::from(n) - 1.0);
    let low = u < rule.down - slack && fewer < rule.up.min(0.9) - slack;
    let high = u > rule.up + slack;
    (n == max || !high) && (n == min || !low)
}

/// A forecast may move with its season, and by what it learns: it has to carry the load.
fn acts_on_forecast(scenario: &Scenario) -> bool {
    matches!(scenario.settings.policy, Policy::Predictive(_))
        && !matches!(scenario.knowledge, Knowledge::None)
}

fn ensure(holds: bool, otherwise: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(otherwise()) }
}

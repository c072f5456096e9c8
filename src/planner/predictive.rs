//! Pure: sizing by the forecast: the cheapest supply for the demand within the lookahead.
//!
//! What is ordered now serves from the end of the lookahead on, so the cheapest count for the
//! demand *then* is wanted ([`super::risk`]). What is taken away is gone at once and cannot be back
//! before, so on the way down each step until then counts as well. The count changes once staying
//! has cost as much as a change is worth ([`super::regret`]).

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::risk::Risk;
use super::{PlanInput, sizing};
use crate::forecast::{Forecast, Method};
use crate::series::Time;

/// Steered to the share of steps in which demand may exceed ready capacity.
#[derive(Debug, Clone, PartialEq)]
pub struct Predictive {
    /// In (0, 1), for instance 0.01.
    pub overload_budget: f64,
    /// How long a replica could have run for what its start costs.
    pub start_cost: Duration,
}

impl Default for Predictive {
    fn default() -> Predictive {
        Predictive { overload_budget: 0.01, start_cost: Duration::ZERO }
    }
}

/// What overload and changes are worth, in replica steps.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Prices {
    /// One overloaded step.
    pub overload: f64,
    /// The same if the overload budget were [`super::budget::LARGER`] larger.
    pub overload_larger_budget: f64,
    /// One change of the count, however large.
    pub change: f64,
    /// One replica's start.
    pub start: f64,
}

/// The forecast as the decision saw it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ForecastUsed {
    pub method: Method,
    #[schema(value_type = String, format = DateTime)]
    pub origin: Time,
    pub lookahead_ms: u64,
    /// What an overloaded step is worth, in replica steps.
    pub overload_price: f64,
    /// Chance that demand exceeds the planned replicas at the end of the lookahead.
    pub overload_risk: f64,
    /// Highest demand within the lookahead: 0.1, 0.5 and 0.9 quantile.
    pub peak_low: f64,
    pub peak_median: f64,
    pub peak_high: f64,
    /// The count at which replicas and priced risk together cost least.
    pub cheapest: u32,
    /// The same if the overload budget were one percentage point larger, all else being equal: what
    /// the difference costs is what the stricter budget is paid with.
    #[serde(default)]
    pub cheapest_larger_budget: u32,
    /// The cheapest count, or the current one until a change pays.
    pub planned: u32,
    /// What staying has cost since the count was last changed to the planned one, in replica steps.
    pub regret: f64,
    /// What it may cost until the count is changed.
    pub patience: f64,
}

/// The forecast as the planner reads it; `None` without one that reaches through the lookahead.
pub fn read(input: &PlanInput) -> Option<ForecastUsed> {
    let forecast = input.forecast?;
    let ahead = Ahead::new(forecast, input);
    let peak = |q| forecast.peak(ahead.end, q).filter(|v| v.is_finite());
    let arrival = Risk::new(forecast, ahead.end - 1)?;
    let known = input.capacity > 0.0 && input.capacity.is_finite();
    let (cheapest, cheapest_larger_budget, cost_of_staying) = if known {
        let cheapest = |price| ahead.cheapest(&arrival, input, price);
        let now = cheapest(input.prices.overload);
        let larger = cheapest(input.prices.overload_larger_budget);
        (now, larger, cost_of_staying(&arrival, now, input))
    } else {
        (input.current_replicas, input.current_replicas, None)
    };
    let regret = input.regret.after(cost_of_staying);
    let dropped = input.current_replicas.saturating_sub(cheapest);
    let patience = input.prices.change + input.prices.start * f64::from(dropped);
    let change = cheapest != input.current_replicas && regret.0 >= patience;
    let planned = if change { cheapest } else { input.current_replicas };
    Some(ForecastUsed {
        method: forecast.method,
        origin: forecast.origin,
        lookahead_ms: input.lookahead.as_millis() as u64,
        overload_price: input.prices.overload,
        overload_risk: arrival.exceeds(f64::from(planned) * input.capacity),
        peak_low: peak(0.1)?,
        peak_median: peak(0.5)?,
        peak_high: peak(0.9)?,
        cheapest,
        cheapest_larger_budget,
        planned,
        regret: regret.0,
        patience,
    })
}

/// The count that is planned.
pub fn size(used: &ForecastUsed) -> sizing::Size {
    let ForecastUsed { cheapest, planned, .. } = used;
    let mut reason = format!(
        "demand peaks at {:.3} (up to {:.3}) within {:.1} s, {planned} carry it with {:.2} % risk",
        used.peak_median,
        used.peak_high,
        used.lookahead_ms as f64 / 1000.0,
        used.overload_risk * 100.0,
    );
    // Then the regret is below the patience, which is therefore above 0.
    if cheapest != planned {
        let share = used.regret / used.patience * 100.0;
        reason += &format!(", {cheapest} would do but do not pay yet ({share:.0} % of a change)");
    }
    sizing::Size { rule: "forecast", replicas: *planned, ratio: None, reason }
}

/// Forecast steps that matter: from the one that `now` is in to the end of the lookahead.
struct Ahead<'a> {
    forecast: &'a Forecast,
    /// Steps that have passed since the forecast's origin, which may lie back.
    behind: usize,
    /// One past the last step, at least 1.
    end: usize,
}

impl Ahead<'_> {
    fn new<'a>(forecast: &'a Forecast, input: &PlanInput) -> Ahead<'a> {
        let step = forecast.step_ms.max(1);
        let behind = (elapsed_ms(forecast.origin, input.now) / step) as usize;
        let lookahead = (input.lookahead.as_millis() as u64).div_ceil(step) as usize;
        let end = behind.saturating_add(lookahead).clamp(1, forecast.horizon().max(1));
        Ahead { forecast, behind, end }
    }

    fn cheapest(&self, arrival: &Risk, input: &PlanInput, price: f64) -> u32 {
        let capacity = input.capacity;
        let mut least = arrival.cheapest(capacity, price);
        for h in self.behind..self.end - 1 {
            if least >= input.current_replicas {
                break;
            }
            let needed = Risk::new(self.forecast, h).map(|risk| risk.cheapest(capacity, price));
            least = least.max(needed.unwrap_or(0).min(input.current_replicas));
        }
        least
    }
}

fn elapsed_ms(from: Time, to: Time) -> u64 {
    (to - from).num_milliseconds().max(0) as u64
}

/// What it costs in this step to stay where `cheapest` would be better; `None` where it is not
/// another.
fn cost_of_staying(arrival: &Risk, cheapest: u32, input: &PlanInput) -> Option<f64> {
    let current = input.current_replicas;
    if cheapest < current {
        return Some(f64::from(current - cheapest));
    }
    let cost = |replicas| arrival.cost(replicas, input.capacity, input.prices.overload);
    (cheapest > current).then(|| cost(current) - cost(cheapest))
}

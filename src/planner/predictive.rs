//! Pure: sizing by the forecast quantile of the peak over the lookahead.

use super::{ForecastUsed, PlanInput, sizing};
use crate::forecast::Forecast;
use crate::series::Time;

/// Steered to the share of steps in which demand may exceed ready capacity.
#[derive(Debug, Clone, PartialEq)]
pub struct Predictive {
    /// In (0, 1), for instance 0.01.
    pub overload_budget: f64,
}

/// The forecast as the planner reads it; `None` without one.
pub fn read(input: &PlanInput) -> Option<ForecastUsed> {
    let forecast = input.forecast?;
    let steps = lookahead_steps(forecast, input.now, input.lookahead.as_millis() as u64);
    let peak = |q| forecast.peak(steps, q).filter(|v| v.is_finite());
    Some(ForecastUsed {
        method: forecast.method,
        origin: forecast.origin,
        lookahead_ms: input.lookahead.as_millis() as u64,
        planning_quantile: input.planning_quantile,
        peak_low: peak(0.1)?,
        peak_median: peak(0.5)?,
        peak_high: peak(0.9)?,
        peak_planned: peak(input.planning_quantile)?,
    })
}

/// Replicas that carry the planned peak. Tolerance is for the way down only: on the way up it would
/// be overload.
pub fn size(used: &ForecastUsed, input: &PlanInput) -> sizing::Size {
    let replicas = sizing::replicas_for(used.peak_planned, input.capacity);
    let ratio = used.peak_planned / (f64::from(input.current_replicas) * input.capacity);
    let reason = format!(
        "peak {:.3} ({:.4} quantile) within {:.1} s needs {replicas}",
        used.peak_planned,
        used.planning_quantile,
        used.lookahead_ms as f64 / 1000.0
    );
    let ratio = Some(ratio).filter(|&r| r < 1.0);
    sizing::Size { rule: "forecast", replicas, ratio, reason }
}

/// Forecast steps up to the end of the lookahead, counted from the forecast's origin, which may lie
/// back.
fn lookahead_steps(forecast: &Forecast, now: Time, lookahead_ms: u64) -> usize {
    let step = forecast.step_ms.max(1);
    let behind = (now - forecast.origin).num_milliseconds().max(0) as u64;
    (lookahead_ms.div_ceil(step) + behind / step) as usize
}

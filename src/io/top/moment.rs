//! Pure: what one reading of the API brings, in the API's own shapes, and which load to ask for.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::Datelike;

use crate::forecast::Forecast;
use crate::io::api::services::History;
use crate::io::api::view::{ReplicaView, ServiceDetail, ServiceSummary};
use crate::series::Time;

/// Services whose trend is read in one round.
pub const TRENDS: usize = 8;
/// Most steps of history on the chart, as many as a wide terminal can tell apart; and fewest before
/// anybody asks for less.
const STEPS: [u32; 2] = [240, 60];
/// The chart's shortest and longest past, for services that are evaluated very often or seldom.
const SPAN: [Duration; 2] = [Duration::from_secs(30), Duration::from_secs(28 * 86_400)];

/// What to read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// The first service without it, or where it is gone.
    pub service: Option<String>,
    /// How often the past of the chart is doubled, or halved where negative.
    pub zoom: i32,
    /// Services whose trend needs no reading.
    pub fresh: Vec<String>,
}

/// What was read.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Moment {
    /// By name.
    pub services: Vec<ServiceSummary>,
    /// Of the service that was wanted; `None` if there is no service.
    pub focus: Option<Focus>,
    /// Demand of the newest steps, at most [`TRENDS`] services.
    pub trends: BTreeMap<String, Vec<Option<f64>>>,
}

impl Moment {
    /// Whether no service was left for a later round.
    pub fn all_trends(&self) -> bool {
        self.trends.len() < TRENDS
    }
}

/// Everything about one service.
#[derive(Debug, Clone, PartialEq)]
pub struct Focus {
    pub detail: ServiceDetail,
    pub history: History,
    /// Quantiles 0.1, 0.5 and 0.9; or why there is none.
    pub forecast: Result<Forecast, String>,
    pub replicas: Vec<ReplicaView>,
}

/// What was read, if every time in it can be reckoned with and every list is as long as it should
/// be, so that nobody need look again.
///
/// # Errors
/// A sentence about the time that cannot be.
pub fn sound(mut moment: Moment) -> Result<Moment, String> {
    let focus = moment.focus.as_mut();
    let whole = |forecast: &Forecast| {
        let mut lengths = forecast.paths.iter().map(Vec::len);
        forecast.paths.len() == forecast.quantiles.len()
            && lengths.all(|length| length == forecast.horizon())
    };
    let mut times: Vec<Time> = moment.services.iter().map(|service| service.time).collect();
    if let Some(focus) = focus {
        if focus.forecast.as_ref().is_ok_and(|forecast| !whole(forecast)) {
            focus.forecast = Err("the API sent one with missing values".into());
        }
        times.push(focus.detail.summary.time);
        times.extend(focus.forecast.iter().map(|forecast| forecast.origin));
        times.extend(focus.history.rows.iter().map(|row| row.time));
    }
    // Far from the ends of the calendar, so that spans can be added and taken away.
    match times.iter().find(|time| !(1970..10_000).contains(&time.year())) {
        Some(time) => Err(format!("the API tells of the time {time}, which cannot be")),
        None => Ok(moment),
    }
}

/// How far the chart reaches back, and in which steps, for a service that is evaluated every
/// `interval` and forecast `horizon` ahead: three times as far, so that both can be seen.
pub fn span(interval: Duration, horizon: Duration, zoom: i32) -> (Duration, Duration) {
    let factor = 2f64.powi(zoom.clamp(-6, 12));
    let [most, fewest] = STEPS.map(|steps| f64::from(steps) * interval.as_secs_f64());
    let seconds = (3.0 * horizon.as_secs_f64()).clamp(fewest, most) * factor;
    let [shortest, longest] = SPAN.map(|span| span.as_secs_f64());
    let span = Duration::from_secs_f64(seconds.clamp(shortest, longest));
    let interval = interval.max(Duration::from_millis(1));
    let each = span.as_millis() / u128::from(STEPS[0]) / interval.as_millis().max(1);
    let each = u32::try_from(each).unwrap_or(u32::MAX).max(1);
    (span, interval.saturating_mul(each))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chart_reaches_back_three_horizons_within_bounds() {
        let check = |interval_ms: u64, zoom, expected_s: f64, step_ms: u128| {
            let interval = Duration::from_millis(interval_ms);
            let (span, step) = span(interval, interval.saturating_mul(80), zoom);
            assert!((span.as_secs_f64() - expected_s).abs() < 1e-6, "{span:?}");
            assert_eq!(step.as_millis(), step_ms, "{interval_ms} {zoom}");
        };
        // 3 x 80 steps of 15 s.
        check(15_000, 0, 3_600.0, 15_000);
        check(15_000, 2, 14_400.0, 60_000);
        check(15_000, -2, 900.0, 15_000);
        // 240 steps of 10 ms are 2.4 s, too short; 30 s in 240 steps of 125 ms, which is 12 x 10.
        check(10, 0, 30.0, 120);
        // 28 days / 240 = 2.8 h, which is 2 whole hours.
        check(3_600_000, 12, 2_419_200.0, 7_200_000);
        check(0, i32::MIN, 30.0, 125);
        let reach = |horizon| span(Duration::from_secs(1), Duration::from_secs(horizon), 0).0;
        assert_eq!([0, 30, 900].map(reach), [60, 90, 240].map(Duration::from_secs));
        // A nonsensical interval must not overflow.
        span(Duration::MAX, Duration::MAX, i32::MAX);
    }
}

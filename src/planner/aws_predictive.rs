//! Pure: AWS predictive scaling beside target tracking, replayed.
//!
//! From 24 hours of history on, hourly load is forecast for 48 hours from at most 14 days, anew
//! every six hours. From a buffer before each hour until its end there are at least as many
//! replicas as carry the forecast at the target utilization; the forecast only raises, and of it
//! and target tracking the larger counts.
//!
//! Known limits: how AWS forecasts is not published, so this project's own trainer on hourly means
//! stands in for it; target tracking is the ratio rule with the windows of [`Behavior::aws`], for
//! CloudWatch alarms; `MaxCapacityBreachBehavior` is its default, the maximum is honoured.
//!
//! [`Behavior::aws`]: super::Behavior::aws

use std::time::Duration;

use chrono::{DateTime, TimeDelta};

use super::target_tracking::TargetTracking;
use super::{PlanInput, sizing::Size, sizing::replicas_for};
use crate::forecast::trainer::{TrainOptions, train};
use crate::series::{Series, Time};

const HOUR: Duration = Duration::from_secs(3600);
const LEAST_HISTORY: usize = 24;
const MOST_HISTORY: usize = 14 * 24;
const HORIZON: usize = 48;
const REFRESH_EVERY: i64 = 6;

#[derive(Debug, Clone, PartialEq)]
pub struct AwsPredictive {
    pub target: TargetTracking,
    /// How long before an hour its replicas are started; below an hour.
    pub scheduling_buffer: Duration,
}

impl Default for AwsPredictive {
    fn default() -> AwsPredictive {
        AwsPredictive {
            target: TargetTracking::default(),
            scheduling_buffer: Duration::from_secs(300),
        }
    }
}

/// Hourly load so far, and the forecast in use. Hours are counted from the Unix epoch.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Load {
    /// Means of whole hours, NaN where nothing was measured, newest last.
    means: Vec<f64>,
    /// The hour that runs, its sum and its samples.
    hour: i64,
    sum: f64,
    samples: u32,
    /// First hour and load of each from then on.
    forecast: Option<(i64, Vec<f64>)>,
}

impl Load {
    /// Takes in the demand of the interval that ends at `now`.
    pub fn record(&mut self, now: Time, demand: Option<f64>) {
        let hour = hour_of(now - TimeDelta::milliseconds(1));
        if self.samples == 0 && self.means.is_empty() {
            self.hour = hour;
        }
        if hour > self.hour {
            self.close(hour);
            let stale = self.forecast.as_ref().is_none_or(|(from, _)| hour - from >= REFRESH_EVERY);
            if stale || hour % REFRESH_EVERY == 0 {
                self.forecast = self.forecast_from(hour).or(self.forecast.take());
            }
        }
        if let Some(demand) = demand {
            self.sum += demand;
            self.samples += 1;
        }
    }

    /// Ends the hour that runs, and every one without samples up to `hour`.
    fn close(&mut self, hour: i64) {
        let mean = if self.samples > 0 { self.sum / f64::from(self.samples) } else { f64::NAN };
        self.means.push(mean);
        let missing = (hour - self.hour - 1).min(MOST_HISTORY as i64);
        self.means.extend((0..missing).map(|_| f64::NAN));
        self.means.drain(..self.means.len().saturating_sub(MOST_HISTORY));
        (self.hour, self.sum, self.samples) = (hour, 0.0, 0);
    }

    fn forecast_from(&self, hour: i64) -> Option<(i64, Vec<f64>)> {
        if self.means.iter().filter(|mean| mean.is_finite()).count() < LEAST_HISTORY {
            return None;
        }
        let now = DateTime::from_timestamp(hour * 3600, 0)?;
        let start = now - TimeDelta::hours(self.means.len() as i64);
        let history = Series::new(start, HOUR, self.means.clone()).fill_linear();
        let options =
            TrainOptions { horizon: HORIZON, max_history: MOST_HISTORY, ..TrainOptions::default() };
        let model = train(now, &history, &options).ok()?;
        let forecast = model.forecast(&history, HORIZON, &[0.5]).ok()?;
        Some((hour, forecast.point))
    }

    /// Highest load of the hours that hold `now` or begin within `buffer`.
    fn expected(&self, now: Time, buffer: Duration) -> Option<f64> {
        let (from, loads) = self.forecast.as_ref()?;
        let at = |hour: i64| loads.get(usize::try_from(hour - from).ok()?).copied();
        [at(hour_of(now)), at(hour_of(now + buffer))].into_iter().flatten().reduce(f64::max)
    }
}

/// The forecast's answer where it is above that of the `rule`.
pub fn size(policy: &AwsPredictive, rule: &Size, input: &PlanInput, load: &Load) -> Option<Size> {
    let expected = load.expected(input.now, policy.scheduling_buffer)?;
    let replicas = replicas_for(expected, input.capacity * policy.target.target_utilization);
    let reason = format!("the hour's load {expected:.3} needs {replicas}");
    let size = Size { rule: "aws_predictive", replicas, ratio: None, reason };
    (replicas > rule.replicas).then_some(size)
}

fn hour_of(time: Time) -> i64 {
    time.timestamp().div_euclid(3600)
}

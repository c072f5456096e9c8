//! Pure: when a service trains.
//!
//! The first model is trained on ten values, because ten say more than none; further ones each time
//! that there are twice as many, for that is when a model has much to gain; and one when the
//! history reaches `min_history`. From then on the interval applies, and a model that has drifted
//! is replaced early, but not more often than [`EARLY`] times in an interval.

use std::time::Duration;

use super::window::{elapsed, steps};
use crate::forecast::Model;
use crate::forecast::drift::Alarm;
use crate::series::{Series, Time};

/// When to train, and on how much.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainingSchedule {
    /// A model of less history is a cold start: it forecasts and is scored, but does not act.
    pub min_history: Duration,
    /// Time between trainings; [`Duration::MAX`] for none at all.
    pub interval: Duration,
    /// Newest history that is used.
    pub max_history: Duration,
}

impl Default for TrainingSchedule {
    fn default() -> TrainingSchedule {
        TrainingSchedule {
            min_history: Duration::from_secs(2 * 86_400),
            interval: Duration::from_secs(6 * 3_600),
            max_history: Duration::from_secs(28 * 86_400),
        }
    }
}

impl TrainingSchedule {
    /// Values that a model learned from, if that is a cold start.
    pub fn cold_start(&self, model: &Model) -> Option<usize> {
        let training = &model.training;
        (elapsed(training.from, training.to) < self.min_history).then_some(training.points)
    }
}

/// How a model in use is doing.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Learning {
    /// Drift that no training has answered yet.
    pub drift: Option<Alarm>,
    /// How near the next alarm is, from 0 to 1.
    pub drift_evidence: f64,
    /// Values that the model learned from, if those are too few to act on.
    pub cold_start: Option<usize>,
}

/// Values that the first model learns from.
pub const FIRST_TRAINING: usize = 10;
/// Trainings within one interval while the load drifts.
const EARLY: u32 = 4;

/// The last training that was asked for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Asked {
    pub at: Time,
    /// Values that there were.
    pub points: usize,
    /// On less than `min_history`.
    pub cold: bool,
}

impl Asked {
    /// The training that is due at `now`, if one is.
    pub fn due(
        schedule: &TrainingSchedule,
        last: Option<Asked>,
        now: Time,
        history: &Series,
        drifting: bool,
    ) -> Option<Asked> {
        if schedule.interval == Duration::MAX {
            return None;
        }
        let cold = history.len() < steps(schedule.min_history, history.step());
        // Counting is left out where nothing depends on it: it runs at every step.
        let uncertain = cold || last.is_none();
        let points = match uncertain {
            true => history.values().iter().filter(|v| v.is_finite()).count(),
            false => history.len(),
        };
        let due = match last {
            None => points >= FIRST_TRAINING,
            Some(last) => {
                // A training in the future is the work of a clock that was wrong.
                let waited = if last.at > now { Duration::MAX } else { elapsed(last.at, now) };
                let early = drifting && waited >= schedule.interval / EARLY;
                let grown = cold && points >= 2 * last.points.max(1);
                early || grown || waited >= schedule.interval || (last.cold && !cold)
            }
        };
        due.then_some(Asked { at: now, points, cold })
    }

    /// As if the training of `model` had been asked for.
    pub fn of(schedule: &TrainingSchedule, model: &Model) -> Asked {
        Asked {
            at: model.training.trained_at,
            points: model.training.points,
            cold: schedule.cold_start(model).is_some(),
        }
    }
}

//! Pure: the limits between a rule's answer and the desired count, and their defaults.

use std::time::Duration;

use super::rate_limit::{Change, RateLimit, RateLimits};
use super::scheduled::Schedule;
use super::{Bidirectional, Policy};

/// Dead band, look-back windows, rate limits and bounds, for both directions.
#[derive(Debug, Clone, PartialEq)]
pub struct Behavior {
    /// Dead band around ratio 1 of desired to current replicas, as a share.
    pub tolerance: Bidirectional<f64>,
    pub stabilization_window: Bidirectional<Duration>,
    pub rate_limits: Bidirectional<RateLimits>,
    /// Bounds by the clock, within the hard ones.
    pub schedule: Schedule,
    pub min_replicas: u32,
    pub max_replicas: u32,
}

impl Behavior {
    /// No limit but at least one replica.
    pub fn unlimited() -> Behavior {
        Behavior {
            tolerance: Bidirectional { up: 0.0, down: 0.0 },
            stabilization_window: Bidirectional::default(),
            rate_limits: Bidirectional::default(),
            schedule: Schedule::default(),
            min_replicas: 1,
            max_replicas: u32::MAX,
        }
    }

    /// The HPA v2 with an empty `behavior`, which the API server fills: up at once, by 4 or by
    /// 100 % in 15 s, whichever is more; down to the highest recommendation of 5 minutes.
    pub fn kubernetes() -> Behavior {
        let limit = |most| RateLimit { most, period: Duration::from_secs(15) };
        let limits = |limits| RateLimits { limits, ..RateLimits::default() };
        Behavior {
            tolerance: Bidirectional { up: 0.1, down: 0.1 },
            stabilization_window: Bidirectional {
                up: Duration::ZERO,
                down: Duration::from_secs(300),
            },
            rate_limits: Bidirectional {
                up: limits(vec![limit(Change::Replicas(4)), limit(Change::Percent(100))]),
                down: limits(vec![limit(Change::Percent(100))]),
            },
            ..Behavior::unlimited()
        }
    }

    /// The HPA without `behavior`, which nothing fills: twice the count or 4 at each sync,
    /// whichever is more.
    pub fn kubernetes_without() -> Behavior {
        let mut behavior = Behavior::kubernetes();
        let limit = |most| RateLimit { most, period: Duration::ZERO };
        behavior.rate_limits = Bidirectional::default();
        behavior.rate_limits.up.limits = vec![limit(Change::UpTo(4)), limit(Change::Percent(100))];
        behavior
    }

    /// AWS target tracking as its alarms have it: in after 15 minutes below 90 % of the target. Out
    /// at once, and not after 3 minutes above it, lest the forecast wait as long.
    pub fn aws() -> Behavior {
        Behavior {
            tolerance: Bidirectional { up: 0.0, down: 0.1 },
            stabilization_window: Bidirectional {
                up: Duration::ZERO,
                down: Duration::from_secs(900),
            },
            ..Behavior::unlimited()
        }
    }

    /// What `policy` is used with unless told otherwise: what it has in its own home.
    pub fn of(policy: &Policy) -> Behavior {
        match policy {
            Policy::TargetTracking(_) | Policy::AverageValue(_) => Behavior::kubernetes(),
            Policy::Phpa(_) => Behavior::kubernetes_without(),
            Policy::AwsPredictive(_) => Behavior::aws(),
            Policy::Static { .. } | Policy::Threshold(_) | Policy::Predictive(_) => {
                Behavior::unlimited()
            }
        }
    }

    /// Whether `ratio` of wanted to current supply is inside the dead band.
    pub fn tolerates(&self, ratio: Option<f64>) -> bool {
        let Bidirectional { up, down } = self.tolerance;
        ratio.is_some_and(|r| 1.0 - down <= r && r <= 1.0 + up)
    }

    /// How far back any limit looks.
    pub fn memory(&self) -> Duration {
        let Bidirectional { up, down } = &self.rate_limits;
        let periods = up.limits.iter().chain(&down.limits).map(|limit| limit.period);
        let windows = [self.stabilization_window.up, self.stabilization_window.down];
        periods.chain(windows).max().unwrap_or_default()
    }
}

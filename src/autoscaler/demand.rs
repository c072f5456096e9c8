//! Pure: offered demand from what was measured: CPU, and requests where a balancer counts them.
//!
//! CPU use shows demand until workers are saturated; then it is clipped. Where requests are
//! counted, their cost (cores for one request per second) is learned by regression over unsaturated
//! intervals, and a saturated interval's demand is the larger of what the CPU shows and what the
//! arriving requests would cost. Without requests a saturated sample is a lower bound. Limit: one
//! cost for all kinds of requests, so a shift in their mix shows only after relearning.

use std::collections::VecDeque;

use linfa::Dataset;
use linfa::traits::{Fit, Predict};
use linfa_linear::LinearRegression;
use ndarray::{Array1, Array2};

/// Share of capacity from which on CPU use may be clipped.
const SATURATED: f64 = 0.9;
/// Intervals that the cost is learned from; at 15 s they are two hours.
const KEEP: usize = 480;
/// Intervals before the first fit, and between fits.
const REFIT_EVERY: usize = 20;

/// One interval of one service.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Usage {
    /// CPU seconds per second of all serving replicas.
    pub cores: f64,
    /// Requests that arrived per second; `None` where nobody counts them.
    pub arrivals_per_second: Option<f64>,
    /// Cores that the serving replicas may use together.
    pub capacity_cores: f64,
}

/// Learns the cost of a request, and turns usage into demand.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DemandModel {
    /// (arrivals per second, cores) of unsaturated intervals, oldest first.
    intervals: VecDeque<(f64, f64)>,
    since_fit: usize,
    cost: Option<Cost>,
}

/// cores = idle + per_request x arrivals per second.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Cost {
    idle: f64,
    per_request: f64,
}

impl DemandModel {
    /// Demand in cores, and whether it is only a lower bound. Learns from the interval if it is
    /// unsaturated.
    pub fn demand_cores(&mut self, usage: Usage) -> (f64, bool) {
        let saturated = usage.cores >= SATURATED * usage.capacity_cores;
        if !saturated {
            if let Some(arrivals) = usage.arrivals_per_second.filter(|_| usage.cores > 0.0) {
                self.learn(arrivals, usage.cores);
            }
            return (usage.cores, false);
        }
        match (self.cost, usage.arrivals_per_second) {
            (Some(cost), Some(arrivals)) => {
                (usage.cores.max(cost.idle + cost.per_request * arrivals), false)
            }
            _ => (usage.cores, true),
        }
    }

    /// Cores that one request per second costs, once learned.
    pub fn cost_per_request(&self) -> Option<f64> {
        self.cost.map(|c| c.per_request)
    }

    fn learn(&mut self, arrivals: f64, cores: f64) {
        if self.intervals.len() == KEEP {
            self.intervals.pop_front();
        }
        self.intervals.push_back((arrivals, cores));
        self.since_fit += 1;
        if self.since_fit >= REFIT_EVERY {
            self.since_fit = 0;
            self.cost = fit(&self.intervals).or(self.cost);
        }
    }
}

/// Least squares of cores on arrivals; `None` where arrivals hardly vary or the slope makes no
/// sense.
fn fit(intervals: &VecDeque<(f64, f64)>) -> Option<Cost> {
    let n = intervals.len();
    let arrivals = Array1::from_iter(intervals.iter().map(|p| p.0));
    if arrivals.std(0.0) < 0.05 * arrivals.mean()? {
        return None;
    }
    let records = Array2::from_shape_vec((n, 1), arrivals.to_vec()).ok()?;
    let cores = Array1::from_iter(intervals.iter().map(|p| p.1));
    let model = LinearRegression::default().fit(&Dataset::new(records, cores)).ok()?;
    let at =
        |x: f64| Some(model.predict(&Array2::from_elem((1, 1), x))[0]).filter(|y| y.is_finite());
    let (idle, one) = (at(0.0)?, at(1.0)?);
    let per_request = one - idle;
    (per_request > 0.0).then(|| Cost { idle: idle.max(0.0), per_request })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// cores = 0.1 + 0.01 x arrivals, arrivals 10, 11, … 29.
    fn taught() -> DemandModel {
        let mut model = DemandModel::default();
        for arrivals in 10..30 {
            let arrivals = f64::from(arrivals);
            model.demand_cores(Usage {
                cores: 0.1 + 0.01 * arrivals,
                arrivals_per_second: Some(arrivals),
                capacity_cores: 1.0,
            });
        }
        model
    }

    fn check(model: &mut DemandModel, cores: f64, arrivals: Option<f64>, want: (f64, bool)) {
        let usage = Usage { cores, arrivals_per_second: arrivals, capacity_cores: 1.0 };
        let (demand, lower_bound) = model.demand_cores(usage);
        assert!((demand - want.0).abs() < 1e-9, "{demand} is not {}", want.0);
        assert_eq!(lower_bound, want.1);
    }

    #[test]
    fn saturated_cpu_without_requests_is_a_lower_bound() {
        let mut model = DemandModel::default();
        check(&mut model, 0.5, None, (0.5, false));
        check(&mut model, 0.91, None, (0.91, true));
        check(&mut model, 0.91, Some(500.0), (0.91, true));
    }

    #[test]
    fn arriving_requests_show_the_demand_that_saturated_cpu_hides() {
        let mut model = taught();
        // 0.1 + 0.01 x 290 = 3.0 cores of demand, of which the CPU shows one.
        check(&mut model, 1.0, Some(290.0), (3.0, false));
        // CPU above what the requests explain counts as it is: others' work, or a backlog.
        check(&mut model, 0.95, Some(20.0), (0.95, false));
        // CPU that is not saturated shows all there is, whatever the requests should have cost.
        check(&mut model, 0.2, Some(290.0), (0.2, false));
    }

    #[test]
    fn a_cost_is_not_learned_from_arrivals_that_do_not_vary_or_make_no_sense() {
        let mut flat = DemandModel::default();
        let mut falling = DemandModel::default();
        for i in 0..40 {
            let x = f64::from(i);
            let usage = Usage { cores: 0.5, arrivals_per_second: Some(7.0), capacity_cores: 1.0 };
            flat.demand_cores(usage);
            falling.demand_cores(Usage {
                cores: 0.9 - 0.01 * x,
                arrivals_per_second: Some(x),
                capacity_cores: 1.0,
            });
        }
        assert_eq!((flat.cost_per_request(), falling.cost_per_request()), (None, None));
    }
}

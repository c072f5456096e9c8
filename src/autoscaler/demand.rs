//! Pure: offered demand from what was measured: CPU, and requests where a balancer counts them.
//!
//! CPU use shows demand until workers are saturated; then it is clipped. Where requests are
//! counted, their cost (cores for one request per second) is learned by regression over unsaturated
//! intervals, and a saturated interval's demand is what the arriving requests would cost, if that
//! is more than the CPU shows. If it is not more, and yet many more requests wait for an answer
//! than the usual time to answer explains (Little's law), then callers wait before they ask again,
//! and arrivals are clipped as CPU is: demand is at least what the CPU shows and what would answer
//! the waiting ones within the interval. A queue that shrinks is no such sign: it is worked off.
//! Without requests a saturated sample is a lower bound.
//!
//! Known limits: one cost for all kinds of requests, so a shift in their mix shows only after
//! relearning. Where arrivals show the overload, the queue that it leaves is not counted again:
//! those requests were demand when they arrived.

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

/// What arriving requests cost, in multiples of what the CPU shows, from which on they show the
/// demand; below it the difference may be the error of the cost.
const BEYOND: f64 = 1.1;
/// Requests in flight, in multiples of what the usual time to answer explains, from which on some
/// wait.
const QUEUED: f64 = 2.0;
/// Share of the queue before that a queue which is not worked off keeps.
const KEPT: f64 = 0.95;

/// One interval of one service.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Usage {
    /// CPU seconds per second of all serving replicas.
    pub cores: f64,
    /// Requests that arrived per second; `None` where nobody counts them.
    pub arrivals_per_second: Option<f64>,
    /// Requests that were sent and unanswered at its end; `None` where nobody counts them.
    pub in_flight: Option<f64>,
    /// Cores that the serving replicas may use together.
    pub capacity_cores: f64,
    pub seconds: f64,
}

/// Learns the cost of a request, and turns usage into demand.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DemandModel {
    /// Unsaturated ones, oldest first.
    intervals: VecDeque<Interval>,
    since_fit: usize,
    cost: Option<Cost>,
    /// Of the interval before.
    in_flight: f64,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Interval {
    arrivals_per_second: f64,
    cores: f64,
    in_flight: f64,
}

/// cores = idle + per_request x arrivals per second.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Cost {
    idle: f64,
    per_request: f64,
    /// Seconds until a request is answered, by Little's law.
    latency: f64,
}

impl Cost {
    /// Cores that would answer what waits in vain within the interval; 0 where nothing does.
    fn of_queue(&self, usage: Usage, arrivals: f64, in_flight_before: f64) -> f64 {
        let usual = self.latency * arrivals;
        let waiting = usage.in_flight.unwrap_or(0.0);
        let queued = waiting > QUEUED * usual.max(1.0) && waiting >= KEPT * in_flight_before;
        if queued { (waiting - usual) * self.per_request / usage.seconds.max(1e-3) } else { 0.0 }
    }
}

impl DemandModel {
    /// Demand in cores, and whether it is only a lower bound. Learns from the interval if it is
    /// unsaturated.
    pub fn demand_cores(&mut self, usage: Usage) -> (f64, bool) {
        let before = std::mem::replace(&mut self.in_flight, usage.in_flight.unwrap_or(0.0));
        if usage.cores < SATURATED * usage.capacity_cores {
            if usage.cores > 0.0 {
                self.learn(usage);
            }
            return (usage.cores, false);
        }
        let (Some(cost), Some(arrivals)) = (self.cost, usage.arrivals_per_second) else {
            return (usage.cores, true);
        };
        let offered = cost.idle + cost.per_request * arrivals;
        if offered > BEYOND * usage.cores {
            return (offered, false);
        }
        // That some wait says that more is needed, less so how much: at most as much again.
        let waiting = cost.of_queue(usage, arrivals, before).min(usage.cores);
        (usage.cores.max(offered) + waiting, waiting > 0.0)
    }

    /// Cores that one request per second costs, once learned.
    pub fn cost_per_request(&self) -> Option<f64> {
        self.cost.map(|c| c.per_request)
    }

    fn learn(&mut self, usage: Usage) {
        let Some(arrivals_per_second) = usage.arrivals_per_second else { return };
        if self.intervals.len() == KEEP {
            self.intervals.pop_front();
        }
        let in_flight = usage.in_flight.unwrap_or(0.0);
        self.intervals.push_back(Interval { arrivals_per_second, cores: usage.cores, in_flight });
        self.since_fit += 1;
        if self.since_fit >= REFIT_EVERY {
            self.since_fit = 0;
            self.cost = fit(&self.intervals).or(self.cost);
        }
    }
}

/// Least squares of cores on arrivals; `None` where arrivals hardly vary or the slope makes no
/// sense.
fn fit(intervals: &VecDeque<Interval>) -> Option<Cost> {
    let n = intervals.len();
    let arrivals = Array1::from_iter(intervals.iter().map(|i| i.arrivals_per_second));
    if arrivals.std(0.0) < 0.05 * arrivals.mean()? {
        return None;
    }
    let latency = intervals.iter().map(|i| i.in_flight).sum::<f64>() / arrivals.sum();
    let records = Array2::from_shape_vec((n, 1), arrivals.to_vec()).ok()?;
    let cores = Array1::from_iter(intervals.iter().map(|i| i.cores));
    let model = LinearRegression::default().fit(&Dataset::new(records, cores)).ok()?;
    let at =
        |x: f64| Some(model.predict(&Array2::from_elem((1, 1), x))[0]).filter(|y| y.is_finite());
    let (idle, one) = (at(0.0)?, at(1.0)?);
    let per_request = one - idle;
    let sensible = per_request > 0.0 && latency.is_finite();
    sensible.then(|| Cost { idle: idle.max(0.0), per_request, latency })
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDLE: Usage = Usage {
        cores: 0.5,
        arrivals_per_second: None,
        in_flight: None,
        capacity_cores: 1.0,
        seconds: 15.0,
    };

    fn usage(cores: f64, arrivals: f64) -> Usage {
        Usage { cores, arrivals_per_second: Some(arrivals), ..IDLE }
    }

    /// cores = 0.1 + 0.01 x arrivals, arrivals 10, 11, … 29; each is in flight for 0.2 s.
    fn taught() -> DemandModel {
        let mut model = DemandModel::default();
        for arrivals in 10..30 {
            let arrivals = f64::from(arrivals);
            let in_flight = Some(0.2 * arrivals);
            model.demand_cores(Usage { in_flight, ..usage(0.1 + 0.01 * arrivals, arrivals) });
        }
        model
    }

    fn check(model: &mut DemandModel, usage: Usage, want: (f64, bool)) {
        let (demand, lower_bound) = model.demand_cores(usage);
        assert!((demand - want.0).abs() < 1e-9, "{usage:?}: {demand} is not {}", want.0);
        assert_eq!(lower_bound, want.1, "{usage:?}");
    }

    #[test]
    fn saturated_cpu_without_requests_is_a_lower_bound() {
        let mut model = DemandModel::default();
        check(&mut model, IDLE, (0.5, false));
        check(&mut model, Usage { cores: 0.91, ..IDLE }, (0.91, true));
        check(&mut model, usage(0.91, 500.0), (0.91, true));
        check(&mut taught(), Usage { cores: 0.91, ..IDLE }, (0.91, true));
        check(&mut taught(), Usage { cores: 0.0, capacity_cores: 0.0, ..IDLE }, (0.0, true));
    }

    #[test]
    fn arriving_requests_show_the_demand_that_saturated_cpu_hides() {
        let mut model = taught();
        // 0.1 + 0.01 x 290 = 3.0 cores of demand, of which the CPU shows one.
        check(&mut model, usage(1.0, 290.0), (3.0, false));
        // The queue that this leaves is not counted again.
        check(&mut model, Usage { in_flight: Some(9e9), ..usage(1.0, 290.0) }, (3.0, false));
        // CPU above what the requests explain counts as it is: others' work.
        check(&mut model, usage(0.95, 20.0), (0.95, false));
        // CPU that is not saturated shows all there is, whatever the requests should have cost.
        check(&mut model, usage(0.2, 290.0), (0.2, false));
    }

    /// Days of 10 to 410 requests a second, 0.01 cores each, on workers of 1 to 3 cores: of the
    /// peaks, which need 4.2, CPU shows half; the requests show them all.
    #[test]
    fn a_saturated_service_with_a_balancer_shows_its_true_peaks() {
        let mut model = DemandModel::default();
        let (mut cpu_error, mut demand_error, mut peaks) = (0.0, 0.0, 0);
        for i in 0..960usize {
            let wave = (std::f64::consts::TAU * i as f64 / 96.0).cos();
            let arrivals = 10.0 + 400.0 * (0.5 - 0.5 * wave).powi(3);
            // 3 % of noise, which repeats only after a long time.
            let noise = 0.06 * (((i * 7919) % 101) as f64 / 101.0 - 0.5);
            let truth = (0.1 + 0.01 * arrivals) * (1.0 + noise);
            let capacity_cores = 1.0 + (i / 96 * 7 % 10) as f64 / 5.0;
            let cores = truth.min(capacity_cores);
            let measured = Usage { capacity_cores, ..usage(cores, arrivals) };
            let (demand, lower_bound) = model.demand_cores(measured);
            // The first day teaches the cost.
            if i >= 96 && truth > 3.2 {
                assert!(!lower_bound, "step {i}");
                cpu_error += truth - cores;
                demand_error += (truth - demand).abs();
                peaks += 1;
            }
        }
        let [cpu, demand] = [cpu_error, demand_error].map(|sum| sum / f64::from(peaks));
        println!("error at {peaks} peaks: CPU {cpu:.2} cores, by the cost of requests {demand:.2}");
        assert!(demand < 0.05 * cpu, "{demand} of {cpu}");
    }

    #[test]
    fn callers_that_wait_are_more_demand_than_their_arrivals_show() {
        let mut model = taught();
        // The CPU answers 90 requests a second, which are all that arrive: 18 are in flight then.
        let saturated = |in_flight: f64| Usage { in_flight: Some(in_flight), ..usage(1.0, 90.0) };
        check(&mut model, saturated(18.0), (1.0, false));
        // 168 are: 150 wait, 1.5 core seconds of work, a tenth of a core for 15 s.
        for _ in 0..3 {
            check(&mut model, saturated(168.0), (1.1, true));
        }
        // A queue that shrinks is worked off.
        check(&mut model, saturated(150.0), (1.0, false));
        check(&mut model, saturated(1e9), (2.0, true));
        // A few requests are no queue.
        let few = Usage { in_flight: Some(2.0), ..usage(1.0, 0.0) };
        check(&mut taught(), few, (1.0, false));
    }

    #[test]
    fn a_cost_is_not_learned_from_arrivals_that_do_not_vary_or_make_no_sense() {
        let mut flat = DemandModel::default();
        let mut falling = DemandModel::default();
        let mut none = DemandModel::default();
        for i in 0..40 {
            let x = f64::from(i);
            flat.demand_cores(usage(0.5, 7.0));
            falling.demand_cores(usage(0.89 - 0.01 * x, x));
            none.demand_cores(usage(0.5, 0.0));
        }
        let costs = [flat, falling, none].map(|model| model.cost_per_request());
        assert_eq!(costs, [None; 3]);
    }
}

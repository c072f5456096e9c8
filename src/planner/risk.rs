//! Pure: the cheapest supply for an uncertain demand.
//!
//! A forecast gives quantiles of demand. Between two of them the chance that demand is higher falls
//! exponentially, and so it goes on beyond the last. If an overloaded step is worth `price` replica
//! steps, a count of n replicas costs n + price x P(demand > n x capacity), and the cheapest n
//! needs no search: within each piece the sum is convex with its lowest point where
//! price x capacity x density = 1.
//!
//! Against one fixed quantile this accepts more risk where certainty is expensive and less where it
//! is cheap, at the same share of overloaded steps; with whole replicas it settles by itself
//! whether one more is worth it. Never below the median: a share of overload is not to be spent by
//! giving up a peak that is seen coming.

use crate::forecast::Forecast;

/// Demand in one step ahead.
#[derive(Debug, Clone, PartialEq)]
pub struct Risk {
    /// (demand, chance that it is exceeded), demand ascending, the chance falling.
    points: Vec<(f64, f64)>,
    median: f64,
    /// Rate at which the chance falls beyond the last point.
    tail: f64,
}

/// Quantile from which the tail beyond the last is drawn on.
const TAIL_FROM: f64 = 0.98;

impl Risk {
    /// Of step `h` (from 0) of a forecast; `None` if it does not reach so far or carries no finite
    /// quantiles.
    pub fn new(forecast: &Forecast, h: usize) -> Option<Risk> {
        let mut points: Vec<(f64, f64)> = Vec::with_capacity(forecast.quantiles.len() + 1);
        for (path, q) in forecast.paths.iter().zip(&forecast.quantiles) {
            let demand = *path.get(h)?;
            let highest = points.last().map_or(0.0, |p| p.0);
            (demand.is_finite() && *q < 1.0)
                .then(|| points.push((demand.max(highest), 1.0 - q)))?;
        }
        let median = forecast.at(h, 0.5)?;
        let &(end, chance) = points.last()?;
        let from = points.iter().find(|p| 1.0 - p.1 >= TAIL_FROM && p.1 > chance);
        let from = from.or(points.iter().rev().find(|p| p.1 > chance));
        let tail = from.map_or(f64::INFINITY, |p| (p.1 / chance).ln() / (end - p.0));
        Some(Risk { points, median, tail })
    }

    /// Chance that demand is above `supply`.
    pub fn exceeds(&self, supply: f64) -> f64 {
        let right = self.points.partition_point(|p| p.0 <= supply);
        let (Some(&(x0, s0)), Some(&(x1, s1))) =
            (self.points.get(right.wrapping_sub(1)), self.points.get(right))
        else {
            return match self.points.last() {
                Some(&(end, chance)) if right > 0 => {
                    let beyond = supply - end;
                    if beyond > 0.0 { chance * (-self.tail * beyond).exp() } else { chance }
                }
                // Below the first quantile little is known: linear down to no demand.
                _ => {
                    let (first, chance) = self.points.first().copied().unwrap_or((0.0, 0.0));
                    1.0 - (1.0 - chance) * (supply / first).clamp(0.0, 1.0)
                }
            };
        };
        s0 * (s1 / s0).powf((supply - x0) / (x1 - x0))
    }

    /// Replicas and the price of the risk that is left with them. `capacity` above 0.
    pub fn cost(&self, replicas: u32, capacity: f64, price: f64) -> f64 {
        f64::from(replicas) + price * self.exceeds(f64::from(replicas) * capacity)
    }

    /// Fewest replicas of lowest cost that carry at least the median. `capacity` above 0.
    pub fn cheapest(&self, capacity: f64, price: f64) -> u32 {
        let least = super::sizing::replicas_for(self.median, capacity);
        let mut best = (self.cost(least, capacity, price), least);
        let mut consider = |demand: f64| {
            let below = (demand / capacity).floor() as u32;
            for replicas in [below, below.saturating_add(1)] {
                let cost = self.cost(replicas, capacity, price);
                if replicas > least && cost < best.0 {
                    best = (cost, replicas);
                }
            }
        };
        for pair in self.points.windows(2) {
            let ((x0, s0), (x1, s1)) = (pair[0], pair[1]);
            consider(x1);
            let rate = (s0 / s1).ln() / (x1 - x0);
            let chance = 1.0 / (price * capacity * rate);
            if chance < s0 && chance > s1 {
                consider(x0 + (s0 / chance).ln() / rate);
            }
        }
        if let Some(&(end, chance)) = self.points.last()
            && self.tail.is_finite()
        {
            let wanted = 1.0 / (price * capacity * self.tail);
            if wanted < chance {
                consider(end + (chance / wanted).ln() / self.tail);
            }
        }
        best.1
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::forecast::Method;
    use crate::series::Time;

    fn risk(quantiles: &[(f64, f64)]) -> Risk {
        let paths: Vec<Vec<f64>> = quantiles.iter().map(|q| vec![q.1]).collect();
        let forecast = Forecast {
            method: Method::Naive,
            origin: Time::UNIX_EPOCH,
            step_ms: 1000,
            quantiles: quantiles.iter().map(|q| q.0).collect(),
            point: vec![1.0],
            peaks: paths.clone(),
            paths,
        };
        assert_eq!(Risk::new(&forecast, 1), None, "one step is known");
        Risk::new(&forecast, 0).unwrap()
    }

    /// Demand is exponential above 10: P(> x) = 0.5 exp(-(x - 10) ln 5 / 4), 0.1 at 14 and 0.02 at
    /// 18.
    fn exponential() -> Risk {
        risk(&[(0.5, 10.0), (0.9, 14.0), (0.98, 18.0)])
    }

    #[test]
    fn the_chance_falls_exponentially_between_and_beyond_the_quantiles() {
        for (supply, want) in [
            (0.0, 1.0),
            (5.0, 0.75),
            (10.0, 0.5),
            (12.0, 0.05f64.sqrt()),
            (18.0, 0.02),
            (22.0, 0.004),
        ] {
            let got = exponential().exceeds(supply);
            assert!((got - want).abs() < 1e-12, "{supply}: {got}, not {want}");
        }
    }

    #[test]
    fn the_cheapest_count_is_where_one_more_replica_no_longer_pays() {
        let check = |price: f64, capacity: f64, want: u32| {
            let got = exponential().cheapest(capacity, price);
            assert_eq!(got, want, "price {price}, capacity {capacity}");
        };
        // One more than n saves price x P(n) x (1 - 5^(-1/4)) = 0.331 price P(n), with P(n) =
        // 0.5 x 5^(-(n - 10) / 4): at price 100 that is 16.6 at 10, 1.48 at 16 and 0.99 at 17.
        check(100.0, 1.0, 17);
        // Ten times the price is worth 4 ln 10 / ln 5 = 5.7 more: 1.49 at 21, 0.997 at 22.
        check(1000.0, 1.0, 23);
        // Nothing is worth less than the median.
        check(0.0, 1.0, 10);
        check(0.0, 3.0, 4);
        // Replicas of 4: 4 carry 16 (risk 0.0447), 5 carry 20 (0.0089): 5 pays from a price of 28.
        check(27.0, 4.0, 4);
        check(29.0, 4.0, 5);
    }

    #[test]
    fn a_certain_demand_is_served_exactly() {
        let certain = risk(&[(0.1, 7.0), (0.5, 7.0), (0.9, 7.0)]);
        for price in [0.0, 10.0, 1e9] {
            assert_eq!(certain.cheapest(2.0, price), 4);
        }
    }

    proptest! {
        #[test]
        fn no_count_is_cheaper_and_a_higher_price_never_buys_less(
            steps in prop::collection::vec(0.0..5.0f64, 5),
            capacity in 0.1..5.0f64,
            price in 0.0..1e4f64,
        ) {
            let levels = [0.1, 0.5, 0.9, 0.99, 0.999];
            let sums = steps.iter().scan(0.0, |sum, step| { *sum += step; Some(*sum) });
            let quantiles: Vec<(f64, f64)> = levels.into_iter().zip(sums).collect();
            let risk = risk(&quantiles);
            let best = risk.cheapest(capacity, price);
            prop_assert!(f64::from(best) * capacity >= risk.median - 1e-9);
            let cost = risk.cost(best, capacity, price);
            let least = (risk.median / capacity).ceil() as u32;
            for other in least..least + 300 {
                prop_assert!(cost <= risk.cost(other, capacity, price) + 1e-6, "{best} {other}");
            }
            prop_assert!(risk.cheapest(capacity, price * 2.0) >= best);
        }
    }
}

//! Pure: the measures of a replay, and their table.
//!
//! With d demand, c capacity of a replica, s ready replicas, n = clamp(ceil(d / c), min, max)
//! demanded replicas, and all sums over the T scored steps (those after the warmup that have
//! demand):
//! - overload_share = #(d > s c) / T; unserved_share = sum max(0, d - s c) / sum d
//! - replica_hours = sum s x step; oracle_ratio = replica_hours / those of the oracle, for which s
//!   = n
//! - scaling_events = #(desired differs from the step before)
//! - theta_u = 100 / T x sum max(n - s, 0) / n, theta_o = 100 / T x sum max(s - n, 0) / n (n at
//!   least 1 in both)
//! - tau_u = 100 / T x #(s < n), tau_o = 100 / T x #(s > n)
//! - upsilon = 100 / T x #(the signs of the changes of s and n since the step before differ)
//!
//! theta, tau and upsilon are the elasticity measures of the SPEC research group, in percent.

use std::collections::BTreeMap;

use comfy_table::{CellAlignment, Table, presets};
use serde_json::Value;

use super::{CompareReport, PolicyReport};

/// What a replay left behind, one entry for each step of the series.
#[derive(Debug, Clone, Default)]
pub struct Trail {
    pub ready: Vec<u32>,
    pub desired: Vec<u32>,
}

/// What trails are measured against.
#[derive(Debug)]
pub struct Yardstick<'a> {
    /// NaN is a gap.
    pub demand: &'a [f64],
    pub capacity: f64,
    pub oracle: &'a Trail,
    /// First step that is scored.
    pub from: usize,
    pub step_hours: f64,
}

impl Yardstick<'_> {
    /// Steps that are scored.
    pub fn scored(&self) -> impl Iterator<Item = usize> + '_ {
        (self.from..self.demand.len()).filter(|&t| self.demand[t].is_finite())
    }

    pub fn measure(
        &self,
        policy: &str,
        trail: &Trail,
        parameters: BTreeMap<String, Value>,
    ) -> PolicyReport {
        let steps = self.scored().count().max(1) as f64;
        let share =
            |hit: &dyn Fn(usize) -> bool| self.scored().filter(|&t| hit(t)).count() as f64 / steps;
        let sum = |term: &dyn Fn(usize) -> f64| self.scored().map(term).sum::<f64>();
        let (s, n) = (|t: usize| trail.ready[t], |t: usize| self.oracle.ready[t]);
        let supply = |t: usize| f64::from(s(t)) * self.capacity;
        let depth = |more: u32, less: u32, n: u32| {
            f64::from(more.saturating_sub(less)) / f64::from(n.max(1))
        };
        let replica_hours = sum(&|t| f64::from(s(t))) * self.step_hours;
        let oracle_hours = sum(&|t| f64::from(n(t))) * self.step_hours;
        PolicyReport {
            policy: policy.into(),
            overload_share: share(&|t| self.demand[t] > supply(t)),
            unserved_share: ratio(
                sum(&|t| (self.demand[t] - supply(t)).max(0.0)),
                sum(&|t| self.demand[t]),
            ),
            replica_hours,
            oracle_ratio: ratio(replica_hours, oracle_hours),
            scaling_events: self
                .scored()
                .filter(|&t| t > 0 && trail.desired[t] != trail.desired[t - 1])
                .count() as u64,
            theta_u: sum(&|t| depth(n(t), s(t), n(t))) * 100.0 / steps,
            theta_o: sum(&|t| depth(s(t), n(t), n(t))) * 100.0 / steps,
            tau_u: share(&|t| s(t) < n(t)) * 100.0,
            tau_o: share(&|t| s(t) > n(t)) * 100.0,
            upsilon: share(&|t| t > 0 && s(t).cmp(&s(t - 1)) != n(t).cmp(&n(t - 1))) * 100.0,
            parameters,
        }
    }
}

/// 0 over 0 is 0: nothing asked, nothing missed.
fn ratio(a: f64, b: f64) -> f64 {
    if b > 0.0 { a / b } else { 0.0 }
}

impl CompareReport {
    /// For a terminal, best readable at 100 columns.
    pub fn table(&self) -> String {
        let mut table = Table::new();
        table.load_style(presets::UTF8_HORIZONTAL_ONLY).set_header([
            "policy",
            "overload",
            "unserved",
            "replica-hours",
            "vs oracle",
            "changes",
            "under / over (theta)",
            "time under / over",
            "unstable",
        ]);
        for p in &self.policies {
            table.add_row([
                p.policy.clone(),
                format!("{:.2} %", p.overload_share * 100.0),
                format!("{:.2} %", p.unserved_share * 100.0),
                format!("{:.1}", p.replica_hours),
                format!("{:.3}", p.oracle_ratio),
                p.scaling_events.to_string(),
                format!("{:.2} / {:.1} %", p.theta_u, p.theta_o),
                format!("{:.1} / {:.1} %", p.tau_u, p.tau_o),
                format!("{:.1} %", p.upsilon),
            ]);
        }
        for column in table.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        table.to_string()
    }
}

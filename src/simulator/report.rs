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

use chrono::DateTime;
use comfy_table::{CellAlignment, Table, presets};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::contender::Contender;
use crate::series::Series;

/// Policies over one recording.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct TraceReport {
    pub name: String,
    pub step_seconds: f64,
    /// Demand one ready replica carries at full utilization.
    pub capacity: f64,
    pub scored_steps: usize,
    /// In the order in which they were asked for.
    pub policies: Vec<PolicyReport>,
}

/// One row of a comparison. Definitions: the offline world in the README.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct PolicyReport {
    pub policy: String,
    /// The policy with the parameters that were given for it; no two rows have the same.
    #[schema(example = "target_tracking:target=0.5")]
    pub label: String,
    /// All of them, defaults too.
    #[schema(value_type = Object)]
    pub parameters: BTreeMap<String, Value>,
    pub overload_share: f64,
    pub unserved_share: f64,
    pub replica_hours: f64,
    pub oracle_ratio: f64,
    pub scaling_events: u64,
    pub theta_u: f64,
    pub theta_o: f64,
    pub tau_u: f64,
    pub tau_o: f64,
    pub upsilon: f64,
    /// The days (UTC) that have scored steps.
    pub days: Vec<DayReport>,
}

/// One day of a replay.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct DayReport {
    #[schema(example = "2026-01-05")]
    pub day: String,
    /// Of the day's scored steps.
    pub overload_share: f64,
    pub replica_hours: f64,
}

/// What a replay left behind, one entry for each step of the series.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Trail {
    pub ready: Vec<u32>,
    pub desired: Vec<u32>,
}

/// What trails are measured against.
#[derive(Debug)]
pub struct Yardstick<'a> {
    pub series: &'a Series,
    pub capacity: f64,
    /// What the oracle has ready.
    pub demanded: &'a [u32],
    /// Steps that are scored, ascending.
    pub scored: &'a [usize],
}

impl Yardstick<'_> {
    pub fn measure(&self, contender: &Contender, trail: &Trail) -> PolicyReport {
        let demand = self.series.values();
        let steps = self.scored.len().max(1) as f64;
        let count = |hit: &dyn Fn(usize) -> bool| self.scored.iter().filter(|&&t| hit(t)).count();
        let share = |hit: &dyn Fn(usize) -> bool| count(hit) as f64 / steps;
        let sum = |term: &dyn Fn(usize) -> f64| self.scored.iter().map(|&t| term(t)).sum::<f64>();
        let (s, n) = (|t: usize| trail.ready[t], |t: usize| self.demanded[t]);
        let supply = |t: usize| f64::from(s(t)) * self.capacity;
        let depth = |more: u32, less: u32, n: u32| {
            f64::from(more.saturating_sub(less)) / f64::from(n.max(1))
        };
        let replica_hours = sum(&|t| f64::from(s(t))) * self.step_hours();
        let oracle_hours = sum(&|t| f64::from(n(t))) * self.step_hours();
        PolicyReport {
            policy: contender.policy.into(),
            label: contender.label.clone(),
            parameters: contender.parameters.clone(),
            overload_share: share(&|t| demand[t] > supply(t)),
            unserved_share: ratio(sum(&|t| (demand[t] - supply(t)).max(0.0)), sum(&|t| demand[t])),
            replica_hours,
            oracle_ratio: ratio(replica_hours, oracle_hours),
            scaling_events: count(&|t| t > 0 && trail.desired[t] != trail.desired[t - 1]) as u64,
            theta_u: sum(&|t| depth(n(t), s(t), n(t))) * 100.0 / steps,
            theta_o: sum(&|t| depth(s(t), n(t), n(t))) * 100.0 / steps,
            tau_u: share(&|t| s(t) < n(t)) * 100.0,
            tau_o: share(&|t| s(t) > n(t)) * 100.0,
            upsilon: share(&|t| t > 0 && s(t).cmp(&s(t - 1)) != n(t).cmp(&n(t - 1))) * 100.0,
            days: self.days(trail),
        }
    }

    fn days(&self, trail: &Trail) -> Vec<DayReport> {
        const DAY_MS: i64 = 86_400_000;
        let (first, step) = (self.series.start().timestamp_millis(), self.series.step());
        let day = |t: usize| (first + step.as_millis() as i64 * t as i64).div_euclid(DAY_MS);
        let report = |steps: &[usize]| {
            let supply = |t: usize| f64::from(trail.ready[t]) * self.capacity;
            let overloaded = steps.iter().filter(|&&t| self.series.values()[t] > supply(t)).count();
            let ready: f64 = steps.iter().map(|&t| f64::from(trail.ready[t])).sum();
            let begins = DateTime::from_timestamp_millis(day(steps[0]) * DAY_MS);
            DayReport {
                day: begins.map(|at| at.format("%Y-%m-%d").to_string()).unwrap_or_default(),
                overload_share: overloaded as f64 / steps.len() as f64,
                replica_hours: ready * self.step_hours(),
            }
        };
        self.scored.chunk_by(|&a, &b| day(a) == day(b)).map(report).collect()
    }

    fn step_hours(&self) -> f64 {
        self.series.step().as_secs_f64() / 3600.0
    }
}

/// 0 over 0 is 0: nothing asked, nothing missed.
fn ratio(a: f64, b: f64) -> f64 {
    if b > 0.0 { a / b } else { 0.0 }
}

/// Columns of a table of policies, and of [`cells`].
pub const HEADER: [&str; 9] = [
    "policy",
    "overload",
    "unserved",
    "replica-hours",
    "vs oracle",
    "changes",
    "under / over (theta)",
    "time under / over",
    "unstable",
];

/// A row for people.
pub fn cells(p: &PolicyReport) -> [String; 9] {
    [
        p.label.clone(),
        format!("{:.2} %", p.overload_share * 100.0),
        format!("{:.2} %", p.unserved_share * 100.0),
        format!("{:.1}", p.replica_hours),
        format!("{:.3}", p.oracle_ratio),
        p.scaling_events.to_string(),
        format!("{:.2} / {:.1} %", p.theta_u, p.theta_o),
        format!("{:.1} / {:.1} %", p.tau_u, p.tau_o),
        format!("{:.1} %", p.upsilon),
    ]
}

impl TraceReport {
    /// For a terminal, best readable at 100 columns.
    pub fn table(&self) -> String {
        let mut table = Table::new();
        table.load_style(presets::UTF8_HORIZONTAL_ONLY).set_header(HEADER);
        for policy in &self.policies {
            table.add_row(cells(policy));
        }
        for column in table.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        table.to_string()
    }
}

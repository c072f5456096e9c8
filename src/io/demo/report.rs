//! Pure: the end of the demo: threshold days against forecast days, and the same replayed offline.

use std::path::PathBuf;
use std::time::Duration;

use chrono::DateTime;
use comfy_table::{CellAlignment, Table, presets};
use serde::{Serialize, Serializer};

use super::days::{Days, Measures};
use super::scenario::{CAPACITY_CORES, Scenario};
use crate::io::store::DemandRow;
use crate::series::Series;
use crate::simulator::contender;
use crate::simulator::report::TraceReport;
use crate::simulator::startup::StartupDelay;
use crate::simulator::{CompareOptions, compare};

/// What the demo measured. As JSON it has stable field names.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    pub seed: u64,
    /// Measured, a high quantile.
    #[serde(rename = "startup_delay_ms", serialize_with = "milliseconds")]
    pub startup_delay: Duration,
    #[serde(flatten)]
    pub days: Days,
    /// Of the recorded load, its days stretched to 24 hours. Absent where too little was recorded.
    pub replay: Option<TraceReport>,
    /// Folder of the recording, if it was kept.
    pub recording: Option<PathBuf>,
}

fn milliseconds<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(duration.as_millis() as u64)
}

impl Report {
    /// For people.
    pub fn table(&self) -> String {
        let mut text = days_table(&self.days);
        text += "\n";
        if self.days.threshold.is_none() || self.days.forecast.is_none() {
            text += "\nStopped before there was a whole day of each kind to compare.\n";
        }
        if let Some(replay) = &self.replay {
            text += "\nThe same load replayed offline, each day stretched to 24 hours, \
                     the second half scored:\n";
            text += &format!("{}\n", replay.table());
        }
        if let Some(recording) = &self.recording {
            text += &format!("\nRecorded in {}\n", recording.display());
        }
        text
    }
}

fn days_table(days: &Days) -> String {
    let (threshold, forecast) = (days.threshold.as_ref(), days.forecast.as_ref());
    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY);
    table.set_header(["measured", "threshold days", "forecast days"]);
    let mut row = |name: &str, value: &dyn Fn(&Measures) -> String| {
        let cell = |m: Option<&Measures>| m.map_or_else(|| "-".to_owned(), value);
        table.add_row([name.to_owned(), cell(threshold), cell(forecast)]);
    };
    row("days", &|m| m.days.to_string());
    row("requests", &|m| m.requests.to_string());
    row("overload share", &|m| format!("{:.1} %", m.overload_share * 100.0));
    row("latency p50", &|m| format!("{:.0} ms", m.latency_ms_p50));
    row("latency p99", &|m| format!("{:.0} ms", m.latency_ms_p99));
    row("slow requests (> 500 ms)", &|m| per_requests(m.slow_requests, m));
    row("refused (503, 504)", &|m| per_requests(m.refused_requests, m));
    row("failed requests", &|m| m.failed_requests.to_string());
    row("replica-seconds per day", &|m| format!("{:.1}", m.replica_seconds));
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table.to_string()
}

fn per_requests(count: usize, measures: &Measures) -> String {
    let percent = 100.0 * count as f64 / measures.requests.max(1) as f64;
    format!("{count} ({percent:.1} %)")
}

const DAY: Duration = Duration::from_secs(86_400);

/// Replays the recorded demand. A day becomes one of 24 hours, and with it step and startup delay,
/// so that rules whose windows are seconds and schedules that are hours mean to it what they mean
/// to a service.
///
/// # Errors
/// A sentence if too little was recorded.
pub fn replay(
    rows: &[DemandRow],
    scenario: &Scenario,
    startup_delay: Duration,
) -> Result<TraceReport, String> {
    let step = scenario.step();
    // A row carries the end of its interval, a series the start of its step.
    let half = (step.as_millis() / 2) as i64;
    let points: Vec<(i64, f64)> =
        rows.iter().filter_map(|r| Some((r.time.timestamp_millis() - half, r.demand?))).collect();
    let recorded = Series::from_points(&points, step).map_err(|e| e.to_string())?;
    let stretch = DAY.as_secs_f64() / scenario.day.as_secs_f64();
    let stretched = step.mul_f64(stretch);
    let series = Series::new(DateTime::UNIX_EPOCH, stretched, recorded.values().to_vec());
    compare(
        "demo",
        &series,
        &contender::parse(&[contender::USUAL], &[])?,
        &CompareOptions {
            capacity: Some(CAPACITY_CORES),
            startup_delay: StartupDelay::fixed(startup_delay.mul_f64(stretch)),
            min_replicas: 2,
            max_replicas: 16,
            ..CompareOptions::default()
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::demo::days::{Day, Rule};

    fn measures(days: usize) -> Measures {
        Measures {
            days,
            requests: 1_000,
            overload_share: 0.123,
            latency_ms_p50: 5.4,
            latency_ms_p99: 1_234.0,
            slow_requests: 50,
            refused_requests: 1,
            failed_requests: 0,
            replica_seconds: 42.25,
            forecast_share: 0.0,
        }
    }

    fn report(forecast: Option<Measures>) -> Report {
        let day = Day { day: 1, rule: Rule::Threshold, measures: measures(1) };
        Report {
            seed: 1,
            startup_delay: Duration::from_millis(1_100),
            days: Days { days: vec![day], threshold: Some(measures(4)), forecast },
            replay: None,
            recording: None,
        }
    }

    fn rows(scenario: &Scenario, days: u32) -> Vec<DemandRow> {
        let workload = scenario.workload();
        let steps =
            (scenario.day.as_millis() * u128::from(days)).div_ceil(scenario.step().as_millis());
        (1..=steps as u32)
            .map(|i| DemandRow {
                time: DateTime::UNIX_EPOCH + scenario.step() * i,
                demand: Some(workload.rate(scenario.step() * i) * 0.003),
                lower_bound: false,
                ready_replicas: 5,
                current_replicas: 5,
                desired_replicas: 5,
            })
            .collect()
    }

    #[test]
    fn the_table_shows_both_kinds_and_a_dash_for_the_kind_that_is_missing() {
        let both = report(Some(measures(5))).table();
        for part in ["threshold days", "12.3 %", "1234 ms", "50 (5.0 %)", "42.2"] {
            assert!(both.contains(part), "{part} is not in\n{both}");
        }
        assert!(!both.contains("Stopped"), "{both}");
        let one = report(None).table();
        assert!(one.contains('-') && one.contains("Stopped before"), "{one}");
    }

    #[test]
    fn json_names_are_stable() {
        let json = serde_json::to_value(report(None)).unwrap();
        assert_eq!(json["startup_delay_ms"], 1_100);
        assert_eq!(json["days"][0]["rule"], "threshold");
        assert_eq!(json["days"][0]["overload_share"], 0.123);
        assert_eq!(json["threshold"]["replica_seconds"], 42.25);
        assert!(json["forecast"].is_null() && json["replay"].is_null());
    }

    #[test]
    fn the_replay_stretches_days_to_24_hours() {
        let scenario = Scenario::new(Duration::from_secs(40), 1);
        let replay = replay(&rows(&scenario, 6), &scenario, Duration::from_millis(350)).unwrap();
        // 40 steps a day of 36 minutes each, six days of which the second half is scored.
        assert_eq!((replay.scored_steps, replay.step_seconds), (120, 36.0 * 60.0));
        let overload = |name: &str| {
            replay.policies.iter().find(|p| p.policy == name).map(|p| p.overload_share)
        };
        assert_eq!(overload("oracle"), Some(0.0));
        assert!(overload("predictive") < overload("threshold"), "{replay:?}");
    }

    #[test]
    fn nothing_recorded_is_a_sentence_not_a_panic() {
        let scenario = Scenario::new(Duration::from_secs(60), 1);
        for rows in [vec![], rows(&scenario, 1)[..1].to_vec()] {
            let _ = replay(&rows, &scenario, Duration::ZERO);
        }
        assert!(replay(&[], &scenario, Duration::ZERO).is_err());
    }
}

//! I/O: one container's measurements by the engine's stats API.
//!
//! The engine measures once a second, and an engine older than version 25 answers a single question
//! only with its next measurement. So each container's stream of measurements stays open, and a
//! reading is the newest of them.

use std::pin::pin;

use bollard::Docker;
use bollard::models::{ContainerMemoryStats, ContainerStatsResponse};
use bollard::query_parameters::StatsOptionsBuilder;
use chrono::Utc;
use futures_util::TryStreamExt;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use super::Usage;
use crate::series::Time;

/// Open until dropped.
#[derive(Debug)]
pub(super) struct Stream {
    newest: watch::Receiver<Option<Usage>>,
    task: AbortOnDropHandle<()>,
}

impl Stream {
    /// Follows the measurements of a container until it stops, the engine goes away or the stream
    /// is dropped.
    pub fn open(docker: Docker, id: &str) -> Stream {
        let (sender, newest) = watch::channel(None);
        let id = id.to_owned();
        let task = tokio::spawn(async move {
            let options = StatsOptionsBuilder::new().stream(true).build();
            let mut stats = pin!(docker.stats(&id, Some(options)));
            // An error ends the stream; the next reading opens another, and says what is wrong.
            while let Ok(Some(stats)) = stats.try_next().await {
                if let Some(usage) = usage(&stats, Utc::now()) {
                    sender.send_replace(Some(usage));
                }
            }
        });
        Stream { newest, task: AbortOnDropHandle::new(task) }
    }

    /// `None` before the first measurement.
    pub fn newest(&self) -> Option<Usage> {
        *self.newest.borrow()
    }

    pub fn has_ended(&self) -> bool {
        self.task.is_finished()
    }
}

/// What arrived at `arrived`; `None` if the container does not run. The engine's time of the
/// measurement counts where it is given: on a busy machine an answer is late, now more, now less.
fn usage(stats: &ContainerStatsResponse, arrived: Time) -> Option<Usage> {
    let cpu_seconds_total = cpu_seconds(stats)?;
    let time = stats.read.as_ref().and_then(|read| read.parse().ok()).unwrap_or(arrived);
    let memory_bytes = stats.memory_stats.as_ref().map_or(0, memory_bytes);
    Some(Usage { time, cpu_seconds_total, memory_bytes })
}

/// CPU seconds since the container started; `None` if it does not run.
fn cpu_seconds(stats: &ContainerStatsResponse) -> Option<f64> {
    let cpu = stats.cpu_stats.as_ref()?;
    // A stopped container answers with zeros and without the host's counter.
    cpu.system_cpu_usage.filter(|usage| *usage > 0)?;
    let nanoseconds = cpu.cpu_usage.as_ref()?.total_usage.filter(|usage| *usage > 0)?;
    Some(nanoseconds as f64 / 1e9)
}

/// Memory in use without the page cache that the kernel would give back, as `docker stats` shows
/// it.
fn memory_bytes(memory: &ContainerMemoryStats) -> u64 {
    let detail = memory.stats.as_ref();
    // Version 1 of cgroups has both keys, and `inactive_file` without the children's share.
    let inactive = ["total_inactive_file", "inactive_file"];
    let inactive = inactive.iter().find_map(|key| detail?.get(*key)).copied().unwrap_or(0);
    memory.usage.unwrap_or(0).saturating_sub(inactive)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_leaves_reclaimable_cache_out() {
        let check = |usage: Option<u64>, detail: &[(&str, u64)], expected: u64| {
            let stats = detail.iter().map(|(key, value)| ((*key).to_owned(), *value)).collect();
            let memory = ContainerMemoryStats { usage, stats: Some(stats), ..Default::default() };
            assert_eq!(memory_bytes(&memory), expected, "{usage:?} {detail:?}");
        };
        // cgroups 2; then 1, where the total counts.
        check(Some(100), &[("inactive_file", 30), ("anon", 5)], 70);
        check(Some(100), &[("inactive_file", 30), ("total_inactive_file", 40)], 60);
        check(Some(100), &[], 100);
        // More cache than usage: the counters are not read at one instant.
        check(Some(10), &[("inactive_file", 30)], 0);
        check(None, &[], 0);
        assert_eq!(memory_bytes(&ContainerMemoryStats::default()), 0);
    }

    /// Feeds an answer of the stats API; gives CPU seconds and bytes.
    fn check(answer: &str, expected: Option<(f64, u64)>) {
        let stats = serde_json::from_str(answer).expect("stats");
        let usage = usage(&stats, Time::UNIX_EPOCH);
        let found = usage.map(|usage| (usage.cpu_seconds_total, usage.memory_bytes));
        assert_eq!(found, expected, "{answer}");
    }

    /// As version 20.10 of the engine answers on cgroups 1; what is not read is left out here.
    #[test]
    fn a_recorded_answer_on_cgroups_1() {
        let answer = r#"{
            "cpu_stats": {
                "cpu_usage": {
                    "total_usage": 48685112, "percpu_usage": [737563, 47947549],
                    "usage_in_kernelmode": 30000000, "usage_in_usermode": 10000000
                },
                "system_cpu_usage": 29127230000000, "online_cpus": 2,
                "throttling_data": {"periods": 5, "throttled_periods": 0, "throttled_time": 0}
            },
            "memory_stats": {
                "usage": 89313280, "max_usage": 89645056,
                "stats": {
                    "cache": 81031168, "rss": 7475200,
                    "active_file": 356352, "inactive_file": 80674816,
                    "total_cache": 81031168, "total_rss": 7475200,
                    "total_active_file": 356352, "total_inactive_file": 80674816
                },
                "limit": 25276510208
            }
        }"#;
        // 89 313 280 - 80 674 816: rss and active_file, and 807 KiB that the kernel holds for it.
        check(answer, Some((0.048685112, 8_638_464)));
    }

    /// As the engine answers on cgroups 2: no `percpu_usage`, no `max_usage`, and the keys of
    /// `memory.stat`, none of which begins with `total_`. CPU time comes in whole microseconds.
    #[test]
    fn an_answer_on_cgroups_2() {
        let answer = r#"{
            "cpu_stats": {
                "cpu_usage": {
                    "total_usage": 3955663822000,
                    "usage_in_kernelmode": 1861115782000, "usage_in_usermode": 2094548040000
                },
                "system_cpu_usage": 8303217570000000, "online_cpus": 4,
                "throttling_data": {"periods": 0, "throttled_periods": 0, "throttled_time": 0}
            },
            "memory_stats": {
                "usage": 20103168,
                "stats": {
                    "anon": 7581696, "file": 11812864, "file_mapped": 7053312,
                    "active_anon": 8192, "inactive_anon": 7573504,
                    "active_file": 5144576, "inactive_file": 6668288,
                    "slab": 483328, "slab_reclaimable": 280000, "slab_unreclaimable": 203328,
                    "pgfault": 9210, "workingset_refault_file": 12
                },
                "limit": 11409297408
            }
        }"#;
        // 3 955 663 822 us; 20 103 168 - 6 668 288.
        check(answer, Some((3_955.663_822, 13_434_880)));
    }

    #[test]
    fn the_engine_tells_when_it_measured() {
        let arrived = Time::UNIX_EPOCH + std::time::Duration::from_secs(9);
        let check = |read: &str, expected_ms: i64| {
            let cpu = r#""cpu_usage":{"total_usage":7},"system_cpu_usage":7"#;
            let answer = format!(r#"{{{read}"cpu_stats":{{{cpu}}}}}"#);
            let stats = serde_json::from_str(&answer).expect("stats");
            let usage = usage(&stats, arrived).expect("it runs");
            assert_eq!(usage.time.timestamp_millis(), expected_ms, "{answer}");
        };
        check(r#""read":"1970-01-01T00:00:08.250123456Z","#, 8_250);
        check(r#""read":"soon","#, 9_000);
        check("", 9_000);
    }

    #[test]
    fn what_does_not_run_is_not_measured() {
        // As recorded for a stopped container, with either version.
        let cpu = r#""cpu_usage":{"total_usage":0,"usage_in_kernelmode":0}"#;
        check(&format!(r#"{{"cpu_stats":{{{cpu}}},"memory_stats":{{}}}}"#), None);
        check(r#"{"cpu_stats":{"cpu_usage":{"total_usage":7}}}"#, None);
        check(r#"{"cpu_stats":{"system_cpu_usage":7}}"#, None);
        check("{}", None);
    }
}

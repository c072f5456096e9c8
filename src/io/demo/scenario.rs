//! Pure: the demo's sizes: everything follows from the length of a day.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use super::days::Terms;
use super::workload::Workload;
use crate::autoscaler::{Settings, TrainingSchedule};
use crate::config;
use crate::fleet::FleetSettings;
use crate::planner::predictive::Predictive;
use crate::planner::threshold::Threshold;
use crate::planner::{Behavior, Bidirectional, Policy};

/// Name of the demo's only service.
pub const SERVICE: &str = "demo";

/// Cores of one worker, and CPU time of one request: 33 requests per second each.
const CPU_LIMIT: f64 = 0.1;
const COST: Duration = Duration::from_millis(3);
/// Workers that the top of an average main peak keeps busy: 0.9 cores, so that two suffice for
/// everything.
const TOP_WORKERS: f64 = 9.0;
/// Steps of a day; a worker takes eight of them to start.
const STEPS_PER_DAY: u32 = 40;
const STARTUP_STEPS: u32 = 8;

/// A demo of a given length.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scenario {
    pub duration: Duration,
    pub day: Duration,
    pub seed: u64,
}

impl Scenario {
    /// Shortest demo with a day of each kind.
    pub const SHORTEST: Duration = Duration::from_secs(15);

    /// Twelve days or, where that would make them too short or too long, days of 3 to 10 seconds.
    pub fn new(duration: Duration, seed: u64) -> Scenario {
        let day = (duration / 12).clamp(Duration::from_secs(3), Duration::from_secs(10));
        // A whole number of milliseconds to the step, as every series has.
        let step = Duration::from_millis((day / STEPS_PER_DAY).as_millis() as u64);
        Scenario { duration, day: step * STEPS_PER_DAY, seed }
    }

    pub fn step(&self) -> Duration {
        self.day / STEPS_PER_DAY
    }

    /// From the start of a worker to its first answer, apart from what the system needs.
    pub fn warm_up(&self) -> Duration {
        self.step() * STARTUP_STEPS
    }

    /// The threshold rule has the first 40 %, in whole days; then the first model is trained, and
    /// earns trust.
    pub fn learning(&self) -> Duration {
        let days = self.duration.as_secs_f64() * 0.4 / self.day.as_secs_f64();
        self.day.mul_f64(days.floor().max(2.0))
    }

    pub fn workload(&self) -> Workload {
        Workload { seed: self.seed, day: self.day, top: TOP_WORKERS * capacity_rps() }
    }

    pub fn terms(&self) -> Terms {
        Terms {
            day: self.day,
            step: self.step(),
            capacity_rps: capacity_rps(),
            slow: Duration::from_millis(500),
        }
    }

    /// The configuration that `serve` would read from a file. `program` is this binary.
    pub fn config(&self, program: &Path, data: &Path, api: SocketAddr) -> config::Config {
        let service = config::Service {
            name: SERVICE.to_owned(),
            target: config::Target::Process(self.target(program)),
            mode: config::Mode::Act,
            demand: config::DemandUnit::Cores,
            capacity: config::Capacity::Learn,
            sample_interval: self.step(),
            settings: self.settings(),
            fleet: FleetSettings {
                slow_start: self.step(),
                // Longer than any request may wait at a worker, so that none is cut off.
                drain_timeout: Duration::from_secs(8),
                start_timeout: Duration::from_secs(15),
                yield_for: Duration::ZERO,
            },
            balancer: Some(config::Balancer {
                queue: config::Queue { max: 10_000, timeout: Duration::from_secs(2) },
                response_timeout: Duration::from_secs(9),
                ..config::Balancer::new(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
            }),
            calendar: None,
        };
        config::Config {
            api: config::Api { listen: api, token: None, allow_unauthenticated: false },
            store: config::Store {
                path: data.to_owned(),
                flush_interval: Duration::from_secs(5),
                retention: Duration::from_secs(86_400),
                models: data.join("models"),
            },
            discovery: None,
            services: BTreeMap::from([(SERVICE.to_owned(), service)]),
        }
    }

    fn target(&self, program: &Path) -> config::ProcessTarget {
        let arguments = format!(
            "worker --listen 127.0.0.1:{{port}} --parent --warm-up {}ms --cpu-limit {CPU_LIMIT} \
             --cost {}ms --queue-timeout 5s",
            self.warm_up().as_millis(),
            COST.as_millis(),
        );
        let command = std::iter::once(program.to_string_lossy().into_owned())
            .chain(arguments.split_whitespace().map(str::to_owned));
        config::ProcessTarget {
            command: command.collect(),
            env: BTreeMap::new(),
            cpu_limit: Some(CPU_LIMIT),
            ready_path: Some("/healthz".to_owned()),
            stop_timeout: Duration::from_secs(7),
        }
    }

    fn settings(&self) -> Settings {
        let step = self.step();
        Settings {
            policy: Policy::Predictive(Predictive::default()),
            fallback: Threshold { window: step * 2, ..Threshold::default() },
            behavior: Behavior {
                tolerance: Bidirectional { up: 0.0, down: 0.0 },
                stabilization_window: Bidirectional { up: Duration::ZERO, down: step * 3 },
                min_replicas: 2,
                max_replicas: 16,
                ..Behavior::unlimited()
            },
            evaluation_interval: step,
            max_staleness: Duration::from_secs(2),
            training: TrainingSchedule {
                min_history: self.learning(),
                interval: self.day,
                max_history: self.day * 60,
            },
            startup_delay: self.warm_up() + step,
            max_startup_delay: self.warm_up() * 3,
        }
    }
}

/// Demand that one worker carries, for the replay.
pub const CAPACITY_CORES: f64 = CPU_LIMIT;

fn capacity_rps() -> f64 {
    CPU_LIMIT / COST.as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each row: duration, then day, step and learning time in milliseconds.
    #[test]
    fn everything_follows_from_the_duration() {
        for (seconds, day, step, learning) in [
            (120, 10_000, 250, 40_000), // 12 days; 4.8 of them are 40 %.
            (15, 3_000, 75, 6_000),     // 5 days, two at least to learn.
            (100, 8_320, 208, 33_280),  // 8 333 ms, cut to 40 whole milliseconds.
            (3_600, 10_000, 250, 1_440_000),
        ] {
            let scenario = Scenario::new(Duration::from_secs(seconds), 1);
            let got = (scenario.day, scenario.step(), scenario.learning());
            let ms = |d: Duration| d.as_millis() as u64;
            assert_eq!((ms(got.0), ms(got.1), ms(got.2)), (day, step, learning), "{seconds} s");
        }
    }

    #[test]
    fn the_worker_is_this_program_with_the_port_left_open() {
        let scenario = Scenario::new(Duration::from_secs(120), 1);
        let target = scenario.target(Path::new("/opt/my tools/foresail"));
        assert_eq!(
            target.command[..4].join("|"),
            "/opt/my tools/foresail|worker|--listen|127.0.0.1:{port}"
        );
        assert!(target.command.contains(&"2000ms".to_owned()), "{:?}", target.command);
    }
}

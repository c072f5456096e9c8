//! What names a policy: a HorizontalPodAutoscaler, a schedule's cron and zone, a startup delay.
#![no_main]

use foresail::planner::{hpa, scheduled};
use foresail::simulator::startup::StartupDelay;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let said = |error: String| assert!(!error.is_empty());
    let _ = hpa::parse(text).map_err(said);
    let _ = scheduled::parse_cron(text).map_err(said);
    let _ = scheduled::parse_zone(text).map_err(said);
    let _ = StartupDelay::parse(text).map_err(said);
    let _ = StartupDelay::parse_lines(text).map_err(said);
});

//! A file of events (iCalendar): read within bounds, or refused.
#![no_main]

use chrono::{TimeDelta, TimeZone, Utc};
use foresail::calendar;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let from = Utc.with_ymd_and_hms(2026, 1, 1, 0, 0, 0).unwrap();
    if let Err(error) = calendar::parse(bytes, from..from + TimeDelta::days(365)) {
        assert!(!error.to_string().is_empty());
    }
});

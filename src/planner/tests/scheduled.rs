//! Pure: schedules in zones with daylight saving, and hostile ones.

use chrono::Utc;

use super::super::scheduled::{Bounds, Schedule};
use super::*;

fn time(text: &str) -> Time {
    text.parse::<DateTime<Utc>>().expect("a time in RFC 3339")
}

fn schedule(text: &str) -> Schedule {
    text.parse().expect("a valid schedule")
}

/// The bounds in force; `None` for those that are not.
#[track_caller]
fn check(text: &str, now: &str, want: (Option<u32>, Option<u32>)) {
    let bounds =
        Bounds { min_replicas: want.0.unwrap_or(0), max_replicas: want.1.unwrap_or(u32::MAX) };
    assert_eq!(schedule(text).bounds(time(now)), bounds, "{text} at {now}");
}

#[test]
fn an_entry_holds_for_its_duration_in_its_zone() {
    // 8 in Berlin is 6 UTC in summer and 7 UTC in winter; ten hours on, the end is not in it.
    let office = "0 8 * * 1-5 Europe/Berlin min=5 for=10h";
    check(office, "2026-07-01T05:59:59Z", (None, None));
    check(office, "2026-07-01T06:00:00Z", (Some(5), None));
    check(office, "2026-07-01T15:59:59.999Z", (Some(5), None));
    check(office, "2026-07-01T16:00:00Z", (None, None));
    check(office, "2026-01-07T06:30:00Z", (None, None));
    check(office, "2026-01-07T07:00:00Z", (Some(5), None));
    // 4 July 2026 is a Saturday.
    check(office, "2026-07-04T08:00:00Z", (None, None));
    // No zone is UTC; a duration may be longer than the way to the next firing.
    check("0 0 1 * * max=3 for=40days", "2026-02-27T00:00:00Z", (None, Some(3)));
}

#[test]
fn without_a_duration_an_entry_holds_until_the_next_fires() {
    let day_and_night = "0 7 * * * min=4 max=9; 0 22 * * * min=1 max=2";
    check(day_and_night, "2026-07-01T06:59:59Z", (Some(1), Some(2)));
    check(day_and_night, "2026-07-01T07:00:00Z", (Some(4), Some(9)));
    check(day_and_night, "2026-07-01T21:59:59Z", (Some(4), Some(9)));
    check(day_and_night, "2026-07-01T22:00:00Z", (Some(1), Some(2)));
    // Those with a duration lie over it.
    let noon = "0 7 * * * min=4; 0 12 * * * min=6 for=1h";
    check(noon, "2026-07-01T11:59:00Z", (Some(4), None));
    check(noon, "2026-07-01T12:30:00Z", (Some(6), None));
    check(noon, "2026-07-01T13:00:00Z", (Some(4), None));
    // Several in force: the highest minimum, the lowest maximum.
    let both = "0 7 * * * min=4 max=20 for=9h; 0 8 * * * min=6 max=30 for=2h";
    check(both, "2026-07-01T08:00:00Z", (Some(6), Some(20)));
}

#[test]
fn daylight_saving_neither_loses_nor_doubles_a_firing() {
    // Berlin, 29 March 2026: 1:59:59 is followed by 3:00, which is 1:00 UTC. 2:30 fires then.
    let spring = "30 2 * * * Europe/Berlin min=5 for=30m";
    check(spring, "2026-03-29T00:59:59Z", (None, None));
    check(spring, "2026-03-29T01:00:00Z", (Some(5), None));
    check(spring, "2026-03-29T01:30:00Z", (None, None));
    // The day before at 2:30 winter time, the day after at 2:30 summer time.
    check(spring, "2026-03-28T01:30:00Z", (Some(5), None));
    check(spring, "2026-03-30T00:30:00Z", (Some(5), None));
    // 25 October 2026: 2:59:59 is followed by 2:00, so 2:30 is 0:30 UTC and 1:30 UTC. The first.
    check(spring, "2026-10-25T00:29:59Z", (None, None));
    check(spring, "2026-10-25T00:30:00Z", (Some(5), None));
    check(spring, "2026-10-25T01:30:00Z", (None, None));
    check(spring, "2026-10-26T01:30:00Z", (Some(5), None));
}

#[test]
fn the_schedule_bites_just_before_the_hard_bounds() {
    let at_six = |text: &str, replicas, min_replicas, max_replicas| {
        let behavior = Behavior {
            schedule: schedule(text),
            min_replicas,
            max_replicas,
            ..Behavior::unlimited()
        };
        let policy = Policy::Static { replicas };
        let got = World { policy, behavior, ..predictive() }.plan_at(time("2026-07-01T06:00:00Z"));
        let limits: Vec<Limit> = got.limits.iter().map(|l| l.limit).collect();
        (got.desired_replicas, limits)
    };
    use Limit::{MaxReplicas, MinReplicas};
    assert_eq!(at_six("0 6 * * * min=5", 2, 1, 9), (5, vec![Limit::Schedule]));
    assert_eq!(at_six("0 6 * * * max=5", 8, 1, 9), (5, vec![Limit::Schedule]));
    assert_eq!(at_six("0 6 * * * min=1 max=5", 3, 1, 9), (3, vec![]));
    assert_eq!(at_six("0 6 * * * min=50", 2, 1, 9), (9, vec![Limit::Schedule, MaxReplicas]));
    assert_eq!(at_six("0 6 * * * max=0", 2, 1, 9), (1, vec![Limit::Schedule, MinReplicas]));
    // A minimum and a lower maximum: the minimum wins.
    assert_eq!(at_six("0 6 * * * min=5; 0 6 * * * max=3", 1, 1, 9), (5, vec![Limit::Schedule]));
}

#[test]
fn without_data_a_schedule_takes_nothing_away() {
    let behavior = Behavior { schedule: schedule("* * * * * max=1"), ..Behavior::unlimited() };
    let blind = World { signal: Signal::Missing, current: 4, behavior, ..predictive() };
    super::check(&blind, 4, 4, Basis::Hold);
}

#[test]
fn a_wrong_schedule_says_what_would_be_right() {
    let cases = [
        ("", "the schedule is empty; write for instance \"0 8 * * 1-5 Europe/Berlin min=5"),
        (" ; ", "the schedule is empty"),
        ("0 8 * *", "schedule \"0 8 * *\": \"0 8 * *\" is no cron expression"),
        ("0 25 * * * min=1", "schedule \"0 25 * * * min=1\": \"0 25 * * *\" is no cron expr"),
        ("0 0 30 2 * min=1", "schedule \"0 0 30 2 * min=1\": \"0 0 30 2 *\" never fires; write"),
        ("0 8 * * * Mars/Olympus min=1", "schedule \"0 8 * * * Mars/Olympus min=1\": \"Mars/Ol"),
        ("0 8 * * *", "schedule \"0 8 * * *\": bounds nothing; write `min`, `max` or both"),
        ("0 8 * * * min=5 max=4", "schedule \"0 8 * * * min=5 max=4\": min = 5 is more than max"),
        ("0 8 * * * min=-1", "schedule \"0 8 * * * min=-1\": \"min=-1\": write a whole number"),
        ("0 8 * * * min=1 for=x", "schedule \"0 8 * * * min=1 for=x\": \"for=x\": write a dur"),
        ("0 8 * * * min=1 for=0s", "schedule \"0 8 * * * min=1 for=0s\": `for` is 0; leave"),
        ("0 8 * * * UTC most=1", "schedule \"0 8 * * * UTC most=1\": \"most=1\" is none of min="),
    ];
    for (text, want) in cases {
        let error = text.parse::<Schedule>().unwrap_err();
        assert!(error.starts_with(want), "{error}\nis not {want}");
    }
}

proptest! {
    #[test]
    fn no_text_panics(
        text in "\\PC{0,60}",
        near in "[-0-9*,/#LW@; ]{0,14} (\\* \\* |1 )(\\* )?(UTC )?(min=|max=|for=)[0-9a-z]{0,12}",
        seconds in 0..4_000_000_000i64,
    ) {
        for text in [text, near] {
            if let Ok(schedule) = text.parse::<Schedule>() {
                let _ = schedule.bounds(at(seconds));
            }
        }
    }
}

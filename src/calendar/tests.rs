//! Pure: what calendar files say, and how broken ones are refused.

use chrono::SecondsFormat;
use proptest::prelude::*;

use super::*;

fn time(text: &str) -> Time {
    text.parse().expect("a time")
}

/// The year 2026.
fn window() -> Range<Time> {
    time("2026-01-01T00:00:00Z")..time("2027-01-01T00:00:00Z")
}

fn event(lines: &str) -> String {
    format!("BEGIN:VEVENT\n{lines}\nEND:VEVENT\n")
}

fn calendar(content: &str) -> String {
    format!("BEGIN:VCALENDAR\nVERSION:2.0\n{content}END:VCALENDAR\n")
}

/// Kind, start and end (without seconds and zone) of every event of 2026.
fn read(text: &str) -> Vec<String> {
    let short = |t: Time| t.to_rfc3339_opts(SecondsFormat::Secs, true)[..16].to_owned();
    let events = parse(text.as_bytes(), window()).unwrap_or_else(|e| panic!("{e}\n{text}"));
    events.spans().map(|(kind, from, to)| format!("{kind} {} {}", short(from), short(to))).collect()
}

/// A calendar of one event.
fn check(lines: &str, want: &[&str]) {
    assert_eq!(read(&calendar(&event(lines))), want, "{lines}");
}

#[test]
fn times_dates_zones_and_durations() {
    check(
        "DTSTART:20260301T090000Z\nDTEND:20260301T1\n 70000Z",
        &["event 2026-03-01T09:00 2026-03-01T17:00"],
    );
    check(
        "DTSTART:20260301T090000\nDURATION:PT1H30M",
        &["event 2026-03-01T09:00 2026-03-01T10:30"],
    );
    check("DTSTART;VALUE=DATE:20260301", &["event 2026-03-01T00:00 2026-03-02T00:00"]);
    check("DTSTART:20260301\nDTEND:20260304", &["event 2026-03-01T00:00 2026-03-04T00:00"]);
    check("DTSTART:20260301\nDURATION:P1W", &["event 2026-03-01T00:00 2026-03-08T00:00"]);
    // Berlin is an hour ahead of UTC in winter; the day on which the clock changes has 23 hours.
    let berlin = "DTSTART;TZID=\"Europe/Berlin\":20260301T090000\nDURATION:PT2H";
    check(berlin, &["event 2026-03-01T08:00 2026-03-01T10:00"]);
    check(
        "DTSTART;TZID=Europe/Berlin;VALUE=DATE:20260329",
        &["event 2026-03-28T23:00 2026-03-29T22:00"],
    );
    // 02:30 is skipped there that night.
    check(
        "DTSTART;TZID=Europe/Berlin:20260329T023000\nDURATION:PT1H",
        &["event 2026-03-29T01:30 2026-03-29T02:30"],
    );
    // An instant covers no load, and what is outside the window is nobody's concern.
    check("DTSTART:20260301T090000Z", &[]);
    check("DTSTART:20250301\nSUMMARY:Old", &[]);
    check("DTSTART:20251231T120000Z\nDURATION:P1D", &["event 2025-12-31T12:00 2026-01-01T12:00"]);
    let zone = format!("X-WR-TIMEZONE:America/New_York\n{}", event("DTSTART:20260301"));
    assert_eq!(read(&calendar(&zone)), ["event 2026-03-01T05:00 2026-03-02T05:00"]);
    assert_eq!(read(&calendar("")), Vec::<String>::new());
}

#[test]
fn rules_exceptions_and_additions() {
    let day = |d: &str| format!("event 2026-{d}T00:00");
    let starts = |lines: &str, want: &[&str]| {
        let found = read(&calendar(&event(lines)));
        let starts: Vec<&str> = found.iter().map(|s| &s[..s.len() - 17]).collect();
        assert_eq!(starts, want.iter().map(|d| day(d)).collect::<Vec<_>>(), "{lines}");
    };
    starts("DTSTART:20260105\nRRULE:FREQ=WEEKLY;COUNT=3", &["01-05", "01-12", "01-19"]);
    starts("DTSTART:20200101\nRRULE:FREQ=YEARLY", &["01-01"]);
    // The fourth Thursday of November, and the Friday after it is a rule of its own.
    starts("DTSTART:20201126\nRRULE:FREQ=YEARLY;BYMONTH=11;BYDAY=4TH", &["11-26"]);
    starts("DTSTART:20260105\nRRULE:FREQ=WEEKLY;UNTIL=20260119", &["01-05", "01-12", "01-19"]);
    starts("DTSTART:20260105\nRRULE:FREQ=WEEKLY;UNTIL=20260118T235959Z", &["01-05", "01-12"]);
    starts(
        "DTSTART:20260105\nRRULE:FREQ=WEEKLY;COUNT=3\nEXDATE:20260112,20260119\nRDATE:20260301",
        &["01-05", "03-01"],
    );
    starts("DTSTART:20260105\nRRULE:FREQ=DAILY;UNTIL=20250101", &[]);
    // Nine o'clock in Berlin, in winter and in summer.
    check(
        "DTSTART;TZID=Europe/Berlin:20260328T090000\nDURATION:PT1H\nRRULE:FREQ=DAILY;COUNT=2",
        &["event 2026-03-28T08:00 2026-03-28T09:00", "event 2026-03-29T07:00 2026-03-29T08:00"],
    );
    // A moved occurrence replaces the one of the rule, a cancelled one leaves a hole.
    let moved = event("UID:a\nDTSTART:20260105T080000Z\nDURATION:PT1H\nRRULE:FREQ=WEEKLY;COUNT=3")
        + &event("UID:a\nRECURRENCE-ID:20260112T080000Z\nDTSTART:20260113T100000Z\nDURATION:PT1H")
        + &event(
            "UID:a\nRECURRENCE-ID:20260119T080000Z\nDTSTART:20260119T080000Z\nSTATUS:CANCELLED",
        );
    let want =
        ["event 2026-01-05T08:00 2026-01-05T09:00", "event 2026-01-13T10:00 2026-01-13T11:00"];
    assert_eq!(read(&calendar(&moved)), want);
}

#[test]
fn kinds_are_categories_else_summaries() {
    let kind = |lines: &str, want: &str| {
        check(
            &format!("DTSTART:20260301\n{lines}"),
            &[&format!("{want} 2026-03-01T00:00 2026-03-02T00:00")],
        );
    };
    kind("SUMMARY:Black  Friday 2026", "black friday");
    kind("SUMMARY:Sale\\, part 2", "sale, part 2");
    kind("CATEGORIES:Sale\\, big,Other\nCATEGORIES:x\nSUMMARY:anything", "sale, big");
    kind("SUMMARY;LANGUAGE=\"a;b:c\":ÉTÉ", "été");
    kind("SUMMARY:2026", "event");
    kind("BEGIN:VALARM\nSUMMARY:Wake\nEND:VALARM", "event");
    // Of one kind and without a gap: one event.
    let days = event("DTSTART:20260301\nSUMMARY:Fair") + &event("DTSTART:20260302\nSUMMARY:fair");
    assert_eq!(read(&calendar(&days)), ["fair 2026-03-01T00:00 2026-03-03T00:00"]);
}

#[test]
fn broken_files_are_refused_with_line_and_reason() {
    let refused = |text: &str, want: &str| {
        let error = parse(text.as_bytes(), window()).unwrap_err().to_string();
        assert!(error.starts_with(want), "{error:?} is not {want:?}\n{text}");
    };
    refused("", "line 1: empty");
    refused("timestamp,value\n1,2\n", "line 1: \"timestamp,value\" is no iCalendar line");
    refused("BEGIN:VCARD\n", "line 1: no iCalendar file; it begins with BEGIN:VCALENDAR");
    refused("BEGIN:VCALENDAR\n\nBEGIN:VEVENT\n", "line 3: BEGIN:VEVENT has no END; the file is");
    refused("BEGIN:VCALENDAR\nEND:VEVENT\n", "line 2: END:VEVENT, but line 1 began VCALENDAR");
    refused("BEGIN:VCALENDAR\nEND:VCALENDAR\nEND:X\n", "line 3: END:X without its BEGIN");
    let cases = [
        ("SUMMARY:x", "line 3: the event has no DTSTART"),
        ("DTSTART:tomorrow", "line 4: DTSTART: \"tomorrow\" is no date or time; write 20260131"),
        ("DTSTART:20260230", "line 4: DTSTART: \"20260230\" is no date"),
        ("DTSTART:20260101T25", "line 4: DTSTART: \"20260101T25\" is no date"),
        ("DTSTART:202601é", "line 4: DTSTART: \"202601é\" is no date"),
        ("DTSTART;TZID=Mars/Base:20260101T000000", "line 4: DTSTART: \"Mars/Base\" is no known"),
        ("DTSTART:20260102\nDTEND:20260101", "line 3: DTEND in line 5 is before DTSTART"),
        ("DTSTART:20260102\nDTEND:20260103\nDURATION:P1D", "line 3: both DTEND and DURATION"),
        ("DTSTART:20260102\nDURATION:1 day", "line 5: DURATION: \"1 day\" is no duration"),
        ("DTSTART:20260102\nDURATION:P4294967295W", "line 3: the event ends beyond all time"),
        ("DTSTART:20260102\nRRULE:FREQ=OFTEN", "line 5: RRULE \"FREQ=OFTEN\": "),
        (
            "DTSTART:20260102\nRRULE:FREQ=SECONDLY",
            "line 5: RRULE \"FREQ=SECONDLY\": FREQ=SECONDLY: ",
        ),
        ("DTSTART:20260102\nRRULE:FREQ=DAILY;BYMINUTE=1,2", "line 5: RRULE \"FREQ=DAILY;BYMIN"),
        ("DTSTART:19000102\nRRULE:FREQ=HOURLY", "line 5: RRULE \"FREQ=HOURLY\": more than 100000"),
        ("DTSTART:20260102\nRRULE:FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30", "line 5: RRULE"),
        ("DTSTART:20260102\nRRULE:FREQ=DAILY;UNTIL=soon", "line 5: RRULE \"FREQ=DAILY;UNTIL=soon"),
        ("DTSTART:20260102\nEXRULE:FREQ=DAILY", "line 5: EXRULE: EXRULE is not supported"),
        ("DTSTART:20260102\nRDATE;VALUE=PERIOD:x/y", "line 5: RDATE: periods are not supported"),
        ("DTSTART:20260102\nno line", "line 5: \"no line\" is no iCalendar line"),
    ];
    for (lines, want) in cases {
        refused(&calendar(&event(lines)), want);
    }
    let many = |i| event(&format!("DTSTART:20260102\nSUMMARY:meeting {i} x"));
    let text = calendar(&(0..=MAX_KINDS).map(many).collect::<String>());
    refused(&text, "line 2003: more than 500 kinds of events; give those that do the same");
    let bytes = b"BEGIN:VCALENDAR\r\nSUMMARY:\xff\r\n";
    assert_eq!(parse(bytes, window()).unwrap_err().line, 2);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn whatever_the_file_says_it_is_read_or_refused(
        lines in prop::collection::vec(
            prop_oneof![
                Just("BEGIN:VEVENT".to_owned()), Just("END:VEVENT".to_owned()),
                "(DTSTART|DTEND|EXDATE|RDATE|RECURRENCE-ID)(;TZID=(Europe/Berlin|Asia/Tokyo))?:\
                 [0-9]{4}(0[1-9]|1[0-2])(0[1-9]|[12][0-9])(T[012][0-9][0-5][0-9][0-5][0-9]Z?)?",
                "DURATION:-?P[0-9]{0,12}[WDTHMS][0-9]{0,3}[HMS]?",
                "RRULE:FREQ=(YEARLY|MONTHLY|WEEKLY|DAILY|HOURLY)(;COUNT=[0-9]{1,12})?\
                 (;INTERVAL=[0-9]{1,6})?(;BYDAY=-?[0-9]{0,3}(MO|TH|SU))?(;BYMONTH=[0-9]{1,3})?\
                 (;BYMONTHDAY=-?[0-9]{1,3})?(;BYSETPOS=-?[0-9]{1,3})?(;BYWEEKNO=-?[0-9]{1,2})?",
                "[ -~é]{0,30}",
            ],
            0..12,
        ),
    ) {
        let text = calendar(&event(&lines.join("\n")));
        if let Err(error) = parse(text.as_bytes(), window()) {
            prop_assert!((1..=text.lines().count()).contains(&error.line), "{error}");
        }
    }
}

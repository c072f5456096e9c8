//! Pure: tests of the `balancer` table: every key arrives, every wrong one is told.

use super::*;
use crate::config::parse;

const HEAD: &str = "[services.web]\ntarget = { process = { command = [\"w\"] } }\n\
                    [services.web.balancer]\nlisten = \"127.0.0.1:9000\"\n";

#[test]
fn every_key_arrives() {
    let keys = "algorithm = \"key_hash\"\nweights = \"capacity\"\nkey = { header = \"X-User\" }\n\
                sticky = { lifetime = \"1h\" }\nmax_in_flight = 7\nqueue = { max = 3 }\n\
                retry = { share = 0.5, min_per_second = 1 }\npanic_threshold = 0.25\n\
                ejection = { consecutive_errors = 0, interval = \"1m\", base_time = \"1s\", \
                max_time = \"2s\", max_ejected = 0.1, margin = 0.3, min_requests = 9 }\n\
                check = { interval = \"3s\", rise = 1 }\nconnect_timeout = \"2s\"\n";
    let config = parse(&format!("{HEAD}{keys}")).expect("a good file");
    let seconds = Duration::from_secs;
    let (ejection, check) = (
        Ejection {
            consecutive_errors: 0,
            interval: seconds(60),
            base_time: seconds(1),
            max_time: seconds(2),
            max_ejected: 0.1,
            margin: 0.3,
            min_requests: 9,
        },
        Check { path: None, interval: seconds(3), timeout: seconds(2), rise: 1, fall: 3 },
    );
    let expected = Balancer {
        algorithm: Algorithm::KeyHash,
        weights: Weighting::Capacity,
        key: KeySource::Header("x-user".into()),
        sticky: Some(Sticky { cookie: "foresail".into(), lifetime: Some(seconds(3600)) }),
        max_in_flight: Some(7),
        queue: Queue { max: 3, timeout: seconds(5) },
        retry: Retry { share: 0.5, min_per_second: 1 },
        panic_threshold: 0.25,
        ejection,
        check: Some(check),
        connect_timeout: seconds(2),
        ..Balancer::new(SocketAddr::from(([127, 0, 0, 1], 9000)))
    };
    assert_eq!(config.services["web"].balancer.as_ref(), Some(&expected));
}

#[test]
fn nothing_but_an_address_gives_every_default() {
    let config = parse(HEAD).expect("a good file");
    let expected = Balancer::new(SocketAddr::from(([127, 0, 0, 1], 9000)));
    assert_eq!(config.services["web"].balancer.as_ref(), Some(&expected));
}

#[test]
fn what_is_wrong_is_told() {
    let check = |line: &str, expected: &str| {
        let errors = parse(&format!("{HEAD}{line}\n")).expect_err(line);
        let told = errors[0].to_string();
        assert!(errors.len() == 1 && told.starts_with(expected), "{errors:?} is not {expected}");
    };
    let keys = [
        ("algorithm = \"fastest\"", "5: services.web.balancer.algorithm: \"fastest\" is none of"),
        (
            "algorithm = \"first_fit\"",
            "5: services.web.balancer.algorithm: first_fit fills one replica up to `max_in_flight`",
        ),
        ("key = \"path\"", "5: services.web.balancer.key: only `algorithm = \"key_hash\"` looks"),
        (
            "max_in_flight = 0",
            "5: services.web.balancer.max_in_flight: 0 is no whole number between",
        ),
        ("panic_threshold = 1.5", "5: services.web.balancer.panic_threshold: 1.5 is no share"),
        (
            "queue = { size = 1 }",
            "5: services.web.balancer.queue.size: unknown key; known here: max",
        ),
        ("queue_timeout = \"5s\"", "5: services.web.balancer.queue_timeout: unknown key"),
        (
            "ejection = { base_time = \"1h\" }",
            "5: services.web.balancer.ejection.max_time: shorter than base_time",
        ),
        (
            "ejection = { margin = nan }",
            "5: services.web.balancer.ejection.margin: nan is no share",
        ),
        (
            "check = { path = \"health\" }",
            "5: services.web.balancer.check.path: \"health\" is no path",
        ),
        (
            "sticky = { cookie = \"a;b\" }",
            "5: services.web.balancer.sticky.cookie: \"a;b\" is no name",
        ),
        ("retry = 3", "5: services.web.balancer.retry: 3 is no table"),
    ];
    keys.iter().for_each(|(line, expected)| check(line, expected));
    let hashed = |key: &str| format!("algorithm = \"key_hash\"\nkey = {key}");
    for (key, expected) in [
        ("\"body\"", "6: services.web.balancer.key: \"body\" is no key; write \"client\""),
        ("{}", "6: services.web.balancer.key: names not exactly one key"),
        ("{ body = \"x\" }", "6: services.web.balancer.key: \"body\" is no kind of key"),
        ("{ header = \"a b\" }", "6: services.web.balancer.key: \"a b\" is no name of a header"),
    ] {
        check(&hashed(key), expected);
    }
}

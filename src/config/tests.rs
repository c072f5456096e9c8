//! Pure: what a configuration file may say, and how wrong ones are refused.

mod addresses;

use proptest::prelude::*;

use super::*;
use crate::balancer::Algorithm;
use crate::planner::rate_limit::{Change, RateLimit, RateLimits, Select};
use crate::planner::scheduled::Schedule;
use crate::planner::target_tracking::SignalKind;
use crate::planner::threshold::Threshold;
use crate::planner::{Behavior, Policy};

const WEB: &str = "[services.web]\ntarget = { process = { command = [\"w\"] } }\n";

/// The smallest file that works, and more lines in its service.
fn web(lines: &str) -> String {
    format!("{WEB}{lines}\n")
}

fn ok(text: &str) -> Config {
    parse(text).unwrap_or_else(|e| panic!("{text}\n{e:?}"))
}

/// The errors of `text` are exactly `expected`: each starts so, `LINE: key: message`.
fn check(text: &str, expected: &[&str]) {
    let errors: Vec<String> =
        parse(text).err().unwrap_or_default().iter().map(ToString::to_string).collect();
    let same = errors.len() == expected.len()
        && errors.iter().zip(expected).all(|(error, start)| error.starts_with(start));
    assert!(same, "{text}\ngave {errors:#?}\nnot {expected:#?}");
}

#[test]
fn the_example_parses_and_its_comments_show_the_defaults() {
    let example = ok(EXAMPLE);
    let service = &example.services["web"];
    assert_eq!(service.mode, Mode::Observe);
    assert_eq!(service.balancer.as_ref().unwrap().listen.port(), 9000);
    // Uncommenting a default must change nothing.
    let uncommented: String = EXAMPLE
        .lines()
        .filter(|line| {
            let no_default =
                "token static_replicas calendar target sticky max_in_flight check access_log";
            !no_default.split(' ').any(|k| line.starts_with(&format!("# {k} =")))
        })
        .map(|line| match line.strip_prefix("# ") {
            Some(rest) if rest.split_once(" = ").is_some_and(|(k, _)| !k.contains([' ', ':'])) => {
                format!("{rest}\n")
            }
            _ => format!("{line}\n"),
        })
        .collect();
    assert!(uncommented.contains("\nevaluation_interval = \"15s\""), "{uncommented}");
    assert_eq!(ok(&uncommented), example);
}

#[test]
fn one_service_with_a_target_is_enough() {
    let config = ok(WEB);
    assert_eq!(config.api.listen.to_string(), "127.0.0.1:8080");
    assert_eq!(config.store.models, PathBuf::from("foresail-data/models"));
    let web = &config.services["web"];
    assert_eq!(web.sample_interval, Duration::from_secs(1));
    assert_eq!(web.settings.fallback, Threshold::default());
    assert_eq!(web.settings.max_staleness, Duration::from_secs(45));
    assert_eq!((web.settings.behavior.min_replicas, web.settings.behavior.max_replicas), (1, 20));
    assert!(matches!(&web.settings.policy, Policy::Predictive(p) if p.overload_budget == 0.01));
    let docker = ok("[services.a]\ntarget = { docker = {} }");
    let Target::Docker(docker) = &docker.services["a"].target else { panic!("docker") };
    assert_eq!(docker.label, "foresail.service=a");
    let compose = "project = \"shop\", service = \"web.api\", port = 8000, stop_timeout = \"3s\"";
    let compose = ok(&format!("[services.a]\ntarget = {{ compose = {{ {compose} }} }}"));
    let Target::Compose(compose) = &compose.services["a"].target else { panic!("compose") };
    assert_eq!((compose.project.as_str(), compose.service.as_str()), ("shop", "web.api"));
    assert_eq!((compose.port, compose.stop_timeout), (Some(8000), Some(Duration::from_secs(3))));
    assert_eq!(compose.host, None);
}

#[test]
fn discovery_needs_no_service() {
    let config = ok("[discovery]\ndocker = true\nhost = \"tcp://engine:2375\"\n");
    assert_eq!(config.discovery, Some(Discovery { host: Some("tcp://engine:2375".into()) }));
    assert!(config.services.is_empty());
    assert_eq!(ok(WEB).discovery, None);
    check("[discovery]\ndocker = false\n", &["services: no service to scale"]);
    check(
        "[discovery]\ndocker = 1\nhost = \"x\"\n[services]\n",
        &[
            "2: discovery.docker: 1 is not true or false",
            "3: discovery.host: \"x\" is no engine address",
            "4: services: no service to scale",
        ],
    );
}

#[test]
fn values_arrive_where_they_belong() {
    let config = ok(&web(
        "mode = \"act\"\npolicy = \"target_tracking\"\ndemand = \"requests_per_second\"\n\
         capacity = 25\nreplicas = { min = 2, max = 8 }\nevaluation_interval = \"500ms\"\n\
         behavior = { tolerance = 0.05, stabilization_window = { down = \"2m\" }, \
         rate_limits = { down = [{ replicas = 1, period = \"30s\" }], select = { down = \"min\" } } }\n\
         balancer = { listen = \"127.0.0.1:9000\", algorithm = \"ip_hash\", \
         drain_timeout = \"9s\" }",
    ));
    let service = &config.services["web"];
    assert_eq!(service.capacity, Capacity::Fixed(25.0));
    // No multiple of the usual second, so each evaluation is one sample.
    assert_eq!(service.sample_interval, Duration::from_millis(500));
    assert_eq!(service.fleet.drain_timeout, Duration::from_secs(9));
    assert_eq!(service.balancer.as_ref().unwrap().algorithm, Algorithm::IpHash);
    let Policy::TargetTracking(rule) = &service.settings.policy else { panic!("policy") };
    assert_eq!((rule.signal, rule.target_utilization), (SignalKind::Demand, 0.7));
    let behavior = &service.settings.behavior;
    assert_eq!((behavior.tolerance.up, behavior.tolerance.down), (0.05, 0.05));
    assert_eq!(behavior.stabilization_window.down, Duration::from_secs(120));
    let RateLimits { limits, select } = &behavior.rate_limits.down;
    let period = Duration::from_secs(30);
    assert_eq!(limits, &[RateLimit { most: Change::Replicas(1), period }]);
    assert_eq!(*select, Select::Min);
    assert_eq!(behavior.rate_limits.up, Behavior::kubernetes().rate_limits.up);
}

#[test]
fn a_schedule_lies_over_any_policy() {
    let entry = "schedule = [{ cron = \"0 8 * * 1-5\", zone = \"Europe/Berlin\", min = 5, \
                 for = \"10h\" }]\n";
    let settings = |lines: &str| ok(&web(lines)).services["web"].settings.clone();
    let over = settings(entry);
    assert!(matches!(over.policy, Policy::Predictive(_)));
    let same: Schedule = "0 8 * * 1-5 Europe/Berlin min=5 for=10h".parse().unwrap();
    assert_eq!(over.behavior.schedule, same);
    let alone = settings(&format!("policy = \"scheduled\"\nreplicas = {{ min = 2 }}\n{entry}"));
    assert_eq!(alone.policy, Policy::Static { replicas: 2 });
}

#[test]
fn every_error_at_once_with_its_line() {
    check(
        "[api]\nlisten = \"0.0.0.0:8080\"\n[store]\nflush_interval = \"1m\"\npaht = \"x\"\n\
         [services.web]\nmode = \"akt\"\noverload_budget = 1.0\nevaluation_interval = 15\n\
         replicas = { min = 5, max = 2 }\nfallback = { up = 0.2, down = 0.8 }\ncapacity = 0\n\
         [services.api]\ntarget = { compose = { project = \"shop\" } }\nbalancer = {}\n",
        &[
            "2: api.listen: 0.0.0.0:8080 is open to other machines; set a `token`",
            "4: store.flush_interval: \"1m\" is not between 100ms and 5s",
            "5: store.paht: unknown key; did you mean `path`?",
            "6: services.web.target: missing; write { process",
            "7: services.web.mode: \"akt\" is none of \"observe\", \"act\"",
            "8: services.web.overload_budget: 1.0 is no share above 0 and below 1",
            "9: services.web.evaluation_interval: 15 is no duration; write for instance \"15s\"",
            "10: services.web.replicas.min: 5 is more than max = 2",
            "11: services.web.fallback.down: 0.8 is not below up = 0.2",
            "12: services.web.capacity: 0 is no capacity; write \"learn\" or a number above 0",
            "14: services.api.target.compose.service: missing; write the service's key",
            "15: services.api.balancer.listen: missing; write for instance \"127.0.0.1:9000\"",
        ],
    );
}

#[test]
fn each_key_refuses_what_is_wrong() {
    let cases = [
        ("colour = 1", "3: services.web.colour: unknown key; known here: "),
        ("calendar = 1", "3: services.web.calendar: 1 is no text; write"),
        ("mode = 1", "3: services.web.mode: 1 is none of"),
        ("policy = \"magic\"", "3: services.web.policy: \"magic\" is none of \"predictive\""),
        ("overload_budget = 0", "3: services.web.overload_budget: 0 is no share above 0"),
        ("overload_budget = nan", "3: services.web.overload_budget: nan is no share"),
        ("replicas = 3", "3: services.web.replicas: 3 is no table"),
        ("replicas = { max = 0 }", "3: services.web.replicas.max: 0 is no whole number between"),
        ("replicas = { max = -1 }", "3: services.web.replicas.max: -1 is no whole number"),
        ("replicas = { max = 1.5 }", "3: services.web.replicas.max: 1.5 is no whole number"),
        ("replicas = { max = 99999999999 }", "3: services.web.replicas.max: 99999999999 is no"),
        ("capacity = \"guess\"", "3: services.web.capacity: \"guess\" is no capacity"),
        ("capacity = inf", "3: services.web.capacity: inf is no capacity"),
        ("demand = \"requests_per_second\"", "1: services.web.capacity: requests per second of"),
        ("evaluation_interval = \"50ms\"", "3: services.web.evaluation_interval: \"50ms\" is not"),
        ("sample_interval = \"4s\"", "1: services.web.evaluation_interval: 15s is no multiple"),
        ("max_staleness = \"1s\"", "3: services.web.max_staleness: shorter than"),
        ("startup_delay = \"2 parsecs\"", "3: services.web.startup_delay: \"2 parsecs\" is no dur"),
        ("max_startup_delay = \"1s\"", "1: services.web.startup_delay: 1m is more than max"),
        ("training = { max_history = \"1h\" }", "3: services.web.training.min_history: 2days is"),
        ("policy = \"scheduled\"", "1: services.web.schedule: missing; policy"),
        ("schedule = 3", "3: services.web.schedule: 3 is no list; write [{"),
        ("schedule = [{}]", "3: services.web.schedule[0].cron: missing; write for instance"),
        (
            "schedule = [{ cron = \"61 8 * * *\", min = 1 }]",
            "3: services.web.schedule[0].cron: \"61 8 * * *\" is no cron expression",
        ),
        (
            "schedule = [{ cron = \"0 8 * * *\", zone = \"Bonn\", min = 1 }]",
            "3: services.web.schedule[0].zone: \"Bonn\" is no time zone; write \"UTC\"",
        ),
        ("schedule = [{ cron = \"0 8 * * *\" }]", "3: services.web.schedule[0]: bounds nothing"),
        (
            "schedule = [{ cron = \"0 8 * * *\", min = 3, max = 2 }]",
            "3: services.web.schedule[0]: min = 3 is more than max = 2",
        ),
        (
            "schedule = [{ cron = \"0 8 * * *\", min = 30 }]",
            "3: services.web.schedule[0].min: more than replicas.max = 20",
        ),
        (
            "schedule = [{ cron = \"0 8 * * *\", min = 1, for = \"0s\" }]",
            "3: services.web.schedule[0].for: \"0s\" is not between 1s and 365d",
        ),
        ("policy = \"static\"", "1: services.web.static_replicas: missing"),
        (
            "policy = \"static\"\nstatic_replicas = 50",
            "4: services.web.static_replicas: 50 is not within replicas 1 to 20",
        ),
        (
            "behavior = { rate_limits = { up = [{}] } }",
            "3: services.web.behavior.rate_limits.up[0]: write either `replicas` or `percent`",
        ),
        (
            "behavior = { rate_limits = { up = [{ replicas = 1, percent = 5 }] } }",
            "3: services.web.behavior.rate_limits.up[0]: write either",
        ),
        (
            "behavior = { rate_limits = { select = \"median\" } }",
            "3: services.web.behavior.rate_limits.select: \"median\" is none of \"max\"",
        ),
        (
            "behavior = { rate_limits = { up = [3] } }",
            "3: services.web.behavior.rate_limits.up[0]: 3 is no table",
        ),
        (
            "balancer = { listen = \"localhost\" }",
            "3: services.web.balancer.listen: \"localhost\" is no address; write IP and port",
        ),
        (
            "balancer = { listen = \"127.0.0.1:1\", routes = [\"http://a\"] }",
            "3: services.web.balancer.routes: \"http://a\" is no route; write a host, a path or both",
        ),
        (
            "balancer = { listen = \"127.0.0.1:1\", routes = [\"/a\", \"/a/\"] }",
            "3: services.web.balancer.routes: \"/a/\" is there twice",
        ),
        (
            "balancer = { listen = \"127.0.0.1:1\", routes = [] }",
            "3: services.web.balancer.routes: no request would come; leave the key out",
        ),
        (
            "balancer = { listen = \"127.0.0.1:8080\" }",
            "3: services.web.balancer.listen: 127.0.0.1:8080 is also the address of `api.listen`",
        ),
    ];
    for (line, expected) in cases {
        check(&web(line), &[expected]);
    }
}

#[test]
fn targets_refuse_what_is_wrong() {
    let cases = [
        ("{}", "2: services.web.target: names no target"),
        ("\"web\"", "2: services.web.target: \"web\" is no table"),
        ("{ proces = {} }", "2: services.web.target.proces: unknown key; did you mean `process`?"),
        ("{ swarm = {} }", "2: services.web.target.swarm: not yet supported"),
        ("{ process = {} }", "2: services.web.target.process.command: missing"),
        ("{ process = { command = [] } }", "2: services.web.target.process.command: empty"),
        (
            "{ process = { command = [\"a\", 1] } }",
            "2: services.web.target.process.command: entry 2: 1 is no text",
        ),
        (
            "{ process = { command = [\"a\"], env = { \"A=B\" = \"c\" } } }",
            "2: services.web.target.process.env: \"A=B\" is no name",
        ),
        (
            "{ process = { command = [\"a\"], ready_path = \"up\" } }",
            "2: services.web.target.process.ready_path: \"up\" is no path",
        ),
        ("{ docker = { label = \"web\" } }", "2: services.web.target.docker.label: \"web\" is no"),
        ("{ docker = { port = 70000 } }", "2: services.web.target.docker.port: 70000 is no whole"),
        ("{ docker = { host = \"ftp://x\" } }", "2: services.web.target.docker.host: \"ftp://x\""),
        (
            "{ docker = {}, process = { command = [\"a\"] } }",
            "2: services.web.target: several kinds; a service has one target",
        ),
        (
            "{ compose = { project = \"shop\", service = \"web/1\" } }",
            "2: services.web.target.compose.service: \"web/1\" is no name of Compose",
        ),
        (
            "{ compose = { project = \"my.shop\", service = \"web\" } }",
            "2: services.web.target.compose.project: \"my.shop\" is no name of Compose; use",
        ),
        (
            "{ compose = { service = \"web\" } }",
            "2: services.web.target.compose.project: missing; write the project's name",
        ),
        ("{ compose = 3 }", "2: services.web.target.compose: 3 is no table"),
        (
            "{ compose = { project = \"a\", service = \"b\", label = \"c\" } }",
            "2: services.web.target.compose.label: unknown key",
        ),
    ];
    for (target, expected) in cases {
        check(&format!("[services.web]\ntarget = {target}\n"), &[expected]);
    }
}

#[test]
fn files_without_services_and_bad_names_are_refused() {
    check("", &["services: no service to scale; add a table such as [services.web]"]);
    check("[services]\n", &["1: services: no service to scale"]);
    check("services = 3\n", &["1: services: 3 is no table"]);
    check("[services]\nweb = 1\n", &["2: services.web: 1 is no table; write [services.web]"]);
    check("[servces.web]\n", &["services: no service", "1: servces: unknown key; did you mean"]);
    for name in ["a/b", "", ".hidden", "ü"] {
        let text = format!("[services.\"{name}\"]\ntarget = {{ docker = {{}} }}\n");
        check(&text, &[&format!("1: services.{name}: no service name")]);
    }
}

#[test]
fn syntax_errors_have_lines_too() {
    check("[api]\nlisten = = 3\nx = [1,\n", &["2: no valid TOML: ", "3: no valid TOML: "]);
    check("[api]\n[api]\n", &["2: no valid TOML: "]);
}

#[test]
fn the_environment_is_laid_over_the_file_before_the_checks() {
    let vars = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
        pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect()
    };
    let open = format!("[api]\nlisten = \"0.0.0.0:80\"\n{WEB}");
    let config = parse_with_env(
        &open,
        &vars(&[("FORESAIL_API_TOKEN", "s3cret"), ("FORESAIL_STORE_PATH", "/d"), ("HOME", "x")]),
    );
    let config = config.expect("the token allows the address");
    assert_eq!(config.api.token.as_deref(), Some("s3cret"));
    assert_eq!(config.store.models, PathBuf::from("/d/models"));
    let errors = parse_with_env(
        WEB,
        &vars(&[("FORESAIL_API_LISTEN", "here"), ("FORESAIL_API_TOKEN", "two words")]),
    );
    let errors: Vec<String> = errors.unwrap_err().iter().map(ToString::to_string).collect();
    assert!(errors[0].starts_with("FORESAIL_API_LISTEN: \"here\" is no address"), "{errors:?}");
    assert!(errors[1].starts_with("FORESAIL_API_TOKEN: empty, or not of visible"), "{errors:?}");
    assert!(!errors[1].contains("two words"), "a token is never shown");
}

proptest! {
    #[test]
    fn no_text_panics(
        text in "\\PC{0,200}",
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        let _ = parse(&text);
        let _ = parse(&String::from_utf8_lossy(&bytes));
    }

    /// Nearly right files reach deeper than noise does.
    #[test]
    fn no_value_panics(
        key in prop::sample::select(vec![
            "mode", "target", "replicas", "capacity", "balancer", "fallback", "behavior",
            "training", "schedule",
            "evaluation_interval", "sample_interval", "max_staleness", "startup_delay", "x.y",
        ]),
        value in prop::sample::select(vec![
            "1", "-1", "1e999", "nan", "\"\"", "\"15s\"", "\"18446744073709551615s\"", "[]", "[{}]",
            "{}", "true", "1979-05-27", "{ up = 1, down = [] }", "{ rate_limits = { up = [{}] } }",
            "{ process = 1 }", "{ min = 0, max = 4294967296 }", "\"1ns\"", "'''\n\n'''",
        ]),
    ) {
        let _ = parse(&format!("{WEB}{key} = {value}\n"));
    }
}

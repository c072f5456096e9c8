//! Pure: what labels may say, and how wrong ones are refused.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::config::{Capacity, Mode, Target};
use crate::planner::Policy;

/// A container `name` of the service `web`, made at second `created`.
fn container(name: &str, created: i64, labels: &[(&str, &str)]) -> Labelled {
    let given = labels.iter().map(|(key, value)| (format!("{PREFIX}{key}"), (*value).to_owned()));
    let mut all = BTreeMap::from([(ENABLE.to_owned(), "true".to_owned())]);
    all.insert(SERVICE.to_owned(), "web".to_owned());
    all.extend(given);
    Labelled { name: name.to_owned(), created, clone: false, labels: all }
}

fn alone(labels: &[(&str, &str)]) -> Found {
    read(vec![container("web-1", 0, labels)], None)
}

/// The service of a container with these labels.
fn web(labels: &[(&str, &str)]) -> Service {
    let Found { mut services, notes } = alone(labels);
    assert_eq!(notes, [""; 0], "{labels:?}");
    services.remove("web").unwrap_or_else(|| panic!("{labels:?}"))
}

/// The notes on these containers begin with `expected`.
fn check(containers: Vec<Labelled>, expected: &[&str]) -> BTreeMap<String, Service> {
    let Found { services, notes } = read(containers.clone(), None);
    let same = notes.len() == expected.len()
        && notes.iter().zip(expected).all(|(note, start)| note.starts_with(start));
    assert!(same, "{containers:#?}\ngave {notes:#?}\nnot {expected:#?}");
    services
}

/// The note on a container with these labels begins with `expected`, and it is left alone.
fn check_wrong(labels: &[(&str, &str)], expected: &str) {
    let services = check(vec![container("web-1", 0, labels)], &[expected]);
    assert!(services.is_empty(), "{labels:?}");
}

#[test]
fn one_label_is_enough() {
    let found = web(&[]);
    let text = "[services.web]\ntarget = { docker = {} }";
    assert_eq!(found, crate::config::parse(text).expect("a good file").services["web"]);
    assert_eq!(found.mode, Mode::Observe);
}

#[test]
fn labels_mean_what_keys_of_a_file_mean() {
    let found = read(
        vec![container(
            "web-1",
            0,
            &[
                ("min", "2"),
                ("max", "8"),
                ("budget", "0.02"),
                ("mode", "act"),
                ("capacity", "25"),
                ("demand", "\"requests_per_second\""),
                ("evaluation_interval", "500ms"),
                ("fallback.up", "0.7"),
                ("behavior", "{ tolerance = 0.05 }"),
                ("balancer.listen", "127.0.0.1:9000"),
                ("balancer.algorithm", "ip_hash"),
                ("port", "8000"),
                ("stop_timeout", "3s"),
            ],
        )],
        Some("tcp://engine:2375"),
    );
    let text = r#"
        [services.web]
        replicas = { min = 2, max = 8 }
        overload_budget = 0.02
        mode = "act"
        capacity = 25
        demand = "requests_per_second"
        evaluation_interval = "500ms"
        fallback = { up = 0.7 }
        behavior = { tolerance = 0.05 }
        balancer = { listen = "127.0.0.1:9000", algorithm = "ip_hash" }
        [services.web.target.docker]
        host = "tcp://engine:2375"
        port = 8000
        stop_timeout = "3s"
    "#;
    assert_eq!(found.notes, [""; 0]);
    assert_eq!(found.services, crate::config::parse(text).expect("a good file").services);
}

#[test]
fn aliases_and_full_names_are_the_same() {
    let full = web(&[("replicas.min", "2"), ("replicas.max", "9"), ("overload_budget", "0.1")]);
    assert_eq!(full, web(&[("min", "2"), ("max", "9"), ("budget", "0.1")]));
    assert_eq!(full, web(&[("replicas", "{ min = 2, max = 9 }"), ("budget", "0.1")]));
    assert_eq!(web(&[("capacity", "learn")]).capacity, Capacity::Learn);
    let policy = web(&[("policy", "static"), ("static_replicas", "3")]).settings.policy;
    assert_eq!(policy, Policy::Static { replicas: 3 });
    let Target::Docker(target) = web(&[("stop_timeout", "1m")]).target else { panic!("docker") };
    assert_eq!(target.stop_timeout, Some(Duration::from_secs(60)));
}

#[test]
fn an_error_names_container_and_label() {
    check_wrong(
        &[("min", "two")],
        "container web-1: label foresail.min: \"two\" is no whole number",
    );
    check_wrong(
        &[("replicas.min", "-1")],
        "container web-1: label foresail.replicas.min: -1 is no",
    );
    check_wrong(
        &[("min", "9"), ("max", "3")],
        "container web-1: label foresail.min: 9 is more than",
    );
    check_wrong(&[("mode", "akt")], "container web-1: label foresail.mode: \"akt\" is none of");
    check_wrong(&[("budget", "1.5")], "container web-1: label foresail.budget: ");
    check_wrong(&[("port", "http")], "container web-1: label foresail.port: \"http\" is no whole");
    // What is missing is named as it would be written.
    check_wrong(
        &[("policy", "static")],
        "container web-1: label foresail.static_replicas: missing",
    );
    check_wrong(
        &[("balancer.algorithm", "random")],
        "container web-1: label foresail.balancer.listen: missing; write for instance",
    );
    check_wrong(
        &[("polcy", "static")],
        "container web-1: label foresail.polcy: unknown key; did you",
    );
    check_wrong(
        &[("balancer.lsten", "1"), ("balancer.listen", "127.0.0.1:1")],
        "container web-1: label foresail.balancer.lsten: unknown key; did you mean `listen`?",
    );
    check_wrong(
        &[("schedule", "[{ cron = \"0 8 * *\" }]")],
        "container web-1: label foresail.schedule: ",
    );
    // Both ways to say one thing.
    check_wrong(
        &[("min", "1"), ("replicas.min", "1")],
        "container web-1: label foresail.replicas.min: ",
    );
    check_wrong(
        &[("replicas", "5"), ("replicas.min", "1")],
        "container web-1: label foresail.replicas.min: ",
    );
    // Every error at once.
    let wrong = container("web-1", 0, &[("min", "x"), ("mode", "y")]);
    check(vec![wrong], &["container web-1: label foresail.m", "container web-1: label foresail.m"]);
}

#[test]
fn labels_choose_no_target() {
    let reason = "the target is the container that says so";
    for key in ["target", "target.process.command", "target.docker.label", "target.docker.host"] {
        let expected = format!("container web-1: label foresail.{key}: {reason}");
        check_wrong(&[(key, "[\"sh\"]")], &expected);
    }
    check_wrong(
        &[("target_utilization", "7")],
        "container web-1: label foresail.target_utilization",
    );
}

#[test]
fn hostile_labels_stay_labels() {
    let newline = "1\nmode = \"act\"";
    check_wrong(&[("min", newline)], "container web-1: label foresail.min: \"1\\nmode = ");
    check_wrong(&[("a\n[api]", "1")], "container web-1: label foresail.a\n[api]: unknown key");
    check_wrong(&[("", "1")], "container web-1: label foresail.: unknown key");
    check_wrong(&[("..min", "1")], "container web-1: label foresail.");
    check_wrong(&[("min", "\u{7f}\"\\")], "container web-1: label foresail.min: ");
    check_wrong(&[("min", &"[".repeat(100_000))], "container web-1: label foresail.min: ");
    check_wrong(&[("min", "1 } #")], "container web-1: label foresail.min: ");
    check_wrong(&[("min", "2020-01-01")], "container web-1: label foresail.min: ");
    check_wrong(&[("capacity", "nan")], "container web-1: label foresail.capacity: nan is no");
    for name in ["../../etc", "a b", "web]\n[api", ".hidden", &"x".repeat(65)] {
        let expected = "container web-1: label foresail.service: no service name; use 1 to 64";
        check_wrong(&[("service", name)], expected);
    }
    assert!(!alone(&[("service", "a.b-c_D9")]).services.is_empty());
}

#[test]
fn a_compose_service_needs_no_name() {
    let of = |name: &str, project: &str, service: &str, labels: &[(&str, &str)]| {
        let mut container = container(name, 0, labels);
        container.labels.remove(SERVICE);
        let labels = [("project", project), ("service", service), ("oneoff", "False")];
        let labels = labels.map(|(key, value)| (format!("com.docker.compose.{key}"), value.into()));
        container.labels.extend(labels);
        container
    };
    let services = check(vec![of("shop_web_1", "shop", "web", &[("port", "80")])], &[]);
    let text = "[services.web]\n\
                target = { compose = { project = \"shop\", service = \"web\", port = 80 } }";
    assert_eq!(services, crate::config::parse(text).expect("a good file").services);
    // Another project's `web` is another service, and wants another name.
    let (shop, blog) = (of("shop_web_1", "shop", "web", &[]), of("blog_web_1", "blog", "web", &[]));
    let taken = "container shop_web_1: service web is already that of container blog_web_1";
    assert_eq!(check(vec![shop.clone(), blog.clone()], &[taken]).len(), 1);
    let mut named = blog.clone();
    named.labels.insert(SERVICE.to_owned(), "blog-web".to_owned());
    let services = check(vec![shop.clone(), named], &[]);
    assert_eq!(services.keys().collect::<Vec<_>>(), ["blog-web", "web"]);
    // What `docker-compose run` makes is no replica.
    let mut one_off = shop;
    one_off.labels.insert("com.docker.compose.oneoff".to_owned(), "True".to_owned());
    assert!(check(vec![one_off], &[]).is_empty());
}

#[test]
fn only_true_opts_in() {
    let none: [&str; 0] = [];
    assert!(
        check(vec![container("web-1", 0, &[("enable", "false"), ("min", "x")])], &none).is_empty()
    );
    let expected = "container web-1: label foresail.enable: \"yes\" is not true or false";
    check_wrong(&[("enable", "yes")], expected);
    let mut bare = container("web-1", 0, &[]);
    bare.labels.remove(SERVICE);
    check(
        vec![bare.clone()],
        &["container web-1: it belongs to no Compose service; add the label"],
    );
    let unnamed = container("web-1", 0, &[("service", "")]);
    check(vec![unnamed], &["container web-1: it belongs to no Compose service; add the label"]);
    bare.labels.clear();
    check(vec![bare], &none);
}

#[test]
fn the_oldest_of_the_user_s_speaks_for_all() {
    let old = container("web-1", 5, &[("min", "2")]);
    let new = container("web-2", 6, &[("min", "3")]);
    let clone = Labelled { clone: true, ..container("web-foresail-1", 1, &[("min", "9")]) };
    let min = |services: BTreeMap<String, Service>| services["web"].settings.behavior.min_replicas;
    let differs = |name: &str, from: &str| {
        format!("container {name}: its labels are not those of container {from}, which count")
    };
    let services = check(vec![new.clone(), old.clone()], &[&differs("web-2", "web-1")]);
    assert_eq!(min(services), 2);
    // A clone has the labels of the container it was made from, which may be gone.
    let services = check(vec![clone.clone(), new.clone()], &[&differs("web-foresail-1", "web-2")]);
    assert_eq!(min(services), 3);
    assert_eq!(min(check(vec![clone], &[])), 9);
    // Of the same second, the lower number.
    let tenth = container("web-10", 6, &[("min", "4")]);
    assert_eq!(min(check(vec![tenth, new], &[&differs("web-10", "web-2")])), 3);
    // One that is wrong stops no other.
    let other = container("api-1", 0, &[("service", "api"), ("mode", "akt")]);
    let services = check(vec![other, old], &["container api-1: label foresail.mode"]);
    assert_eq!(services.keys().collect::<Vec<_>>(), ["web"]);
}

proptest! {
    /// Whatever labels say: no panic, and either a service of the right name or a note.
    #[test]
    fn anything_is_read_or_refused(
        labels in proptest::collection::btree_map("[a-z.\"\\[\\]\n_]{0,12}|min|max|mode|budget", ".{0,12}|[0-9]{1,3}|act", 0..5),
    ) {
        let pairs: Vec<(&str, &str)> = labels.iter().map(|(k, v)| (&**k, &**v)).collect();
        let Found { services, notes } = alone(&pairs);
        let opted_out = labels.contains_key("enable");
        prop_assert!(opted_out || services.len() + notes.len() > 0, "{labels:?}");
        prop_assert!(services.iter().all(|(name, service)| *name == service.name));
        prop_assert!(services.is_empty() || notes.is_empty(), "{notes:?}");
    }
}

//! Pure: tests of what the balancer is given of the fleet.

use std::net::{Ipv4Addr, SocketAddr};

use chrono::TimeDelta;

use super::*;
use crate::config;
use crate::fleet::ReplicaReport;
use crate::io::collector::Reading;

/// Weights by replica, after readings with these CPU limits, 15 s after both became ready.
fn check(weights: &str, slow_start: &str, limits: [Option<f64>; 2], expected: [f64; 2]) {
    let text = format!(
        "[services.web]\ntarget = {{ docker = {{}} }}\nbalancer = {{ listen = \"127.0.0.1:9000\", \
         weights = \"{weights}\", slow_start = \"{slow_start}\" }}"
    );
    let config = config::parse(&text).expect("valid").services.remove("web").expect("given");
    let mut state = State::new(config, Mode::Observe);
    let nobody = balancer::Snapshot::new(balancer::Algorithm::default(), Vec::new(), None);
    let report = |id: &str, ready| ReplicaReport {
        id: id.into(),
        ready,
        address: Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 1))),
        ..ReplicaReport::default()
    };
    let reading = |(id, cpu_limit): (&str, Option<f64>)| Reading {
        replica: id.into(),
        time: Time::UNIX_EPOCH,
        cpu_seconds_total: 1.0,
        memory_bytes: 1,
        cpu_limit,
    };
    let readings: Vec<Reading> = ["a", "b"].into_iter().zip(limits).map(reading).collect();
    // A replica that is ready when it is first seen is warm already.
    let starting = [report("a", false), report("b", false)];
    state.sample(Time::UNIX_EPOCH, &starting, &[], &nobody, Vec::new());
    let reports = [report("a", true), report("b", true)];
    state.sample(Time::UNIX_EPOCH, &reports, &readings, &nobody, Vec::new());
    // A round in which nothing can be read changes no weight.
    state.sample(Time::UNIX_EPOCH, &reports, &[], &nobody, Vec::new());
    let targets = state.targets(Time::UNIX_EPOCH + TimeDelta::seconds(15));
    let got: Vec<f64> = targets.iter().map(|target| target.weight).collect();
    assert_eq!(got, expected, "{weights} {slow_start} {limits:?}");
}

#[test]
fn weights_are_equal_or_the_cores_that_a_replica_may_use() {
    check("equal", "0s", [Some(0.5), Some(2.0)], [1.0, 1.0]);
    check("capacity", "0s", [Some(0.5), Some(2.0)], [0.5, 2.0]);
    // Without a limit, or with a wrong one, one core.
    check("capacity", "0s", [None, Some(-1.0)], [1.0, 1.0]);
    // Half of the slow start is over.
    check("capacity", "30s", [Some(0.5), Some(2.0)], [0.25, 1.0]);
}

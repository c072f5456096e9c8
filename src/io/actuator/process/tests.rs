//! I/O: child processes that are real, small and hostile.

use super::*;
use crate::fleet::{Phase, Replica};
use crate::io::collector::MetricsSource;

/// `sh -c script`; a few scripts use Perl, which every Debian and Ubuntu has, to listen on the
/// port.
fn actuator(script: &str, ready_path: Option<&str>) -> ProcessActuator {
    ProcessActuator::new(
        "web",
        &ProcessTarget {
            command: ["sh", "-c", script].map(str::to_owned).to_vec(),
            env: BTreeMap::new(),
            cpu_limit: Some(0.5),
            ready_path: ready_path.map(str::to_owned),
            stop_timeout: Duration::from_millis(300),
        },
    )
}

/// Lists until `done` holds for the only replica; the test's own time limit ends a wait in vain.
async fn until(actuator: &ProcessActuator, done: impl Fn(&ReplicaReport) -> bool) -> ReplicaReport {
    loop {
        let reports = actuator.list().await.unwrap();
        if let Some(report) = reports.into_iter().find(&done) {
            return report;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn alive(pid: u32) -> bool {
    nix::sys::signal::kill(Pid::from_raw(pid as i32), None).is_ok()
}

#[tokio::test]
async fn a_command_that_does_not_exist_is_refused_and_noted() {
    let target = ProcessTarget {
        command: vec!["/nowhere/foresail-no-such-program".to_owned()],
        ..actuator("", None).shared.target.clone()
    };
    let actuator = ProcessActuator::new("web", &target);
    let error = actuator.start().await.unwrap_err();
    assert!(
        matches!(&error, ActuatorError::Refused(m) if m.contains("no-such-program")),
        "{error}"
    );
    assert_eq!(actuator.notes(), [error.to_string()]);
    assert!(actuator.list().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_replica_that_ends_by_itself_is_reported_once_and_noted() {
    let actuator = actuator("exit 3", None);
    let id = actuator.start().await.unwrap();
    let report = until(&actuator, |r| r.exited).await;
    assert_eq!((report.id, report.ready), (id.clone(), false));
    assert!(actuator.list().await.unwrap().is_empty());
    assert_eq!(actuator.notes(), ["replica web-1 ended by itself (exit status: 3)"]);
    actuator.stop(&id).await.expect("a replica that is gone is no error");
}

#[tokio::test]
async fn stop_kills_what_ignores_sigterm_with_all_that_it_started() {
    let actuator = actuator("trap '' TERM; sleep 60 & echo $! >&2; wait; sleep 60", None);
    let id = actuator.start().await.unwrap();
    let pid = actuator.pid(&id).unwrap();
    actuator.stop(&id).await.unwrap();
    assert!(!alive(pid));
    assert_eq!(actuator.pid(&id), None);
    let group_is_gone = || killpg(Pid::from_raw(pid as i32), None).is_err();
    while !group_is_gone() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn shutdown_stops_all_and_refuses_new_ones() {
    let actuator = actuator("exec sleep 60", None);
    let mut pids = Vec::new();
    for _ in 0..3 {
        let id = actuator.start().await.unwrap();
        pids.extend(actuator.pid(&id));
    }
    actuator.shutdown(Duration::from_secs(5)).await;
    assert_eq!((pids.len(), pids.iter().filter(|&&pid| alive(pid)).count()), (3, 0));
    assert!(matches!(actuator.start().await, Err(ActuatorError::Refused(_))));
}

#[tokio::test]
async fn the_port_is_passed_on_and_cpu_time_is_counted() {
    // It listens where it was told, twice told alike, then burns CPU.
    let script = r#"[ "$PORT" = "{port}" ] && exec perl -MIO::Socket::INET -e '
        $s = IO::Socket::INET->new(LocalAddr => "127.0.0.1", LocalPort => {port}, Listen => 5,
            ReuseAddr => 1) or die; 1 while times < 0.2; sleep 60'"#;
    let actuator = actuator(script, None);
    actuator.start().await.unwrap();
    let report = until(&actuator, |r| r.ready).await;
    let replica = Replica {
        id: report.id,
        phase: Phase::Ready,
        since: chrono::Utc::now(),
        created: chrono::Utc::now(),
        address: report.address,
        in_flight: 0,
        managed: true,
        outdated: false,
    };
    let unknown = Replica { id: "web-77".to_owned(), ..replica.clone() };
    let metrics = actuator.metrics();
    let reading = loop {
        let readings = metrics.read(&[unknown.clone(), replica.clone()]).await.unwrap();
        assert_eq!(readings.len(), 1, "an unknown replica is left out");
        if readings[0].cpu_seconds_total >= 0.2 {
            break readings[0].clone();
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    assert!(reading.cpu_seconds_total < 1.0, "{reading:?}");
    assert!(reading.memory_bytes > 100_000, "{reading:?}");
    assert_eq!(reading.cpu_limit, Some(0.5));
    actuator.shutdown(Duration::from_secs(5)).await;
}

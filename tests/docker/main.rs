//! I/O: the Docker target on a real engine.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

mod bench;
mod compose;
mod deploy;
mod events;
mod faults;
mod gate;
mod image;
mod life;
mod relay;
mod restart;
mod safety;
mod scale;
mod serve;

mod discovery;

use std::time::Duration;

use bollard::models::{
    ContainerCreateBody, EndpointSettings, HealthConfig, HostConfig, NetworkConnectRequest,
    NetworkingConfig, RestartPolicy, RestartPolicyNameEnum,
};
use bollard::query_parameters::KillContainerOptions;
use chrono::Utc;
use foresail::config::DockerTarget;
use foresail::fleet::{Phase, Replica};
use foresail::io::actuator::docker::{CLONE_LABEL, DockerActuator};
use foresail::io::actuator::{Actuator, ActuatorError};
use foresail::io::collector::docker::DockerSource;
use foresail::io::collector::{MetricsError, MetricsSource};
use foresail::io::docker::Engine;
use foresail::io::docker::inventory::Inventory;

use bench::{Bench, eventually, get, publish, ready, report, with_engine};
use relay::Relay;

/// The reason of a start that must be refused.
async fn refusal(actuator: &DockerActuator) -> String {
    match actuator.start().await {
        Err(ActuatorError::Refused(reason)) => reason,
        other => panic!("not refused: {other:?}"),
    }
}

/// A worker with a bit of everything that users set.
async fn rich_worker(bench: &Bench) -> ContainerCreateBody {
    let front = bench.network("front").await;
    let worker = bench.worker();
    let aliases = Some(vec!["web".to_owned()]);
    let endpoint = EndpointSettings { aliases, ..EndpointSettings::default() };
    ContainerCreateBody {
        env: Some(vec!["COLOUR=blue".to_owned()]),
        user: Some("1000".to_owned()),
        stop_signal: Some("SIGTERM".to_owned()),
        networking_config: Some(NetworkingConfig {
            endpoints_config: Some([(front.clone(), endpoint)].into()),
        }),
        host_config: Some(HostConfig {
            memory: Some(512 << 20),
            network_mode: Some(front),
            cap_drop: Some(vec!["ALL".to_owned()]),
            readonly_rootfs: Some(true),
            restart_policy: Some(RestartPolicy {
                name: Some(RestartPolicyNameEnum::ON_FAILURE),
                maximum_retry_count: Some(3),
            }),
            ..worker.host_config.clone().expect("given")
        }),
        ..worker
    }
}

#[tokio::test]
async fn a_clone_keeps_everything_and_serves() {
    with_engine("clone", async |bench| {
        let template = bench.run("web", rich_worker(bench).await).await;
        let back = bench.network("back").await;
        let join = NetworkConnectRequest { container: template.clone(), ..Default::default() };
        bench.docker.connect_network(&back, join).await.expect("second network");

        let actuator = bench.actuator();
        let clone = actuator.start().await.expect("start");
        let (before, after) = (bench.inspect(&template).await, bench.inspect(&clone).await);
        assert_eq!(after.name, Some(format!("/{}-foresail-1", bench.service)));
        assert_eq!(after.host_config, before.host_config);
        let (mut before_config, mut after_config) =
            (before.config.expect("config"), after.config.expect("config"));
        assert_ne!(after_config.hostname.take(), before_config.hostname.take());
        let labels = after_config.labels.as_mut().expect("labels");
        assert_eq!(labels.remove(CLONE_LABEL), Some(template.clone()));
        assert_eq!(after_config, before_config);
        let networks = after.network_settings.expect("settings").networks.expect("networks");
        let mut names = networks.keys().cloned().collect::<Vec<_>>();
        names.sort();
        assert_eq!(names, [back, format!("{}-front", bench.service)]);

        let addresses = [ready(&actuator, &template).await, ready(&actuator, &clone).await];
        assert_ne!(addresses[0], addresses[1]);
        for address in addresses {
            assert_eq!(get(address, "/healthz").await.expect("answer"), 200);
        }
        let managed = async |id| report(&actuator, id).await.expect("listed").managed;
        assert_eq!((managed(&template).await, managed(&clone).await), (false, true));
        assert_eq!(actuator.notes(), [""; 0]);
    })
    .await;
}

#[tokio::test]
async fn an_unpublished_replica_is_reached_on_its_own_address() {
    with_engine("unpublished", async |bench| {
        let mut worker = bench.worker();
        worker.host_config.as_mut().expect("given").port_bindings = None;
        let id = bench.run("web", worker).await;
        let address = ready(&bench.actuator(), &id).await;
        assert_eq!(address.port(), bench::PORT);
        assert_eq!(get(address, "/healthz").await.expect("answer"), 200);
    })
    .await;
}

#[tokio::test]
async fn what_cannot_be_cloned_is_refused_with_the_reason() {
    with_engine("refused", async |bench| {
        let actuator = bench.actuator();
        let nothing = refusal(&actuator).await;
        assert!(nothing.contains("no container carries the label"), "{nothing}");
        actuator.list().await.expect("an empty list");
        assert_eq!(actuator.notes(), [nothing]);

        // Only created: the host port may be taken on this machine.
        let mut fixed = bench.worker();
        fixed.host_config.as_mut().expect("given").port_bindings = Some(publish("8080"));
        fixed.host_config.as_mut().expect("given").nano_cpus = None;
        let template = bench.create("web", fixed).await;
        let reason = refusal(&actuator).await;
        assert!(reason.contains("fixed host port 8080"), "{reason}");
        actuator.list().await.expect("list");
        let notes = actuator.notes();
        assert_eq!(notes[0], reason);
        assert!(notes[1].contains("has no CPU limit"), "{notes:?}");
        bench.kill(&template).await;

        let entrypoint = Some(vec!["/missing".to_owned()]);
        bench.create("missing", ContainerCreateBody { entrypoint, ..bench.worker() }).await;
        let reason = refusal(&actuator).await;
        assert!(reason.contains("did not start") && reason.contains("/missing"), "{reason}");
        assert_eq!(bench.clones().await, [""; 0]);
    })
    .await;
}

#[tokio::test]
async fn the_health_check_decides_where_there_is_one() {
    with_engine("health", async |bench| {
        let check = |argument: &str| {
            let test = ["CMD", "/foresail", argument].map(str::to_owned).to_vec();
            let second = 1_000_000_000;
            let interval = Some(second);
            let retries = Some(1);
            Some(HealthConfig { test: Some(test), interval, retries, ..HealthConfig::default() })
        };
        // It listens, but its check fails; and the other way round.
        let healthcheck = check("no-such-command");
        let sick = ContainerCreateBody { healthcheck, ..bench.worker() };
        let sick = bench.run("sick", sick).await;
        let deaf = bench.worker_with(&["--warm-up", "1h"]);
        let well = ContainerCreateBody { healthcheck: check("--help"), ..deaf };
        let well = bench.run("well", well).await;

        let actuator = bench.actuator();
        ready(&actuator, &well).await;
        let unhealthy = async || {
            let health = bench.inspect(&sick).await.state?.health?;
            (health.failing_streak? > 0).then_some(())
        };
        eventually("the check has failed", unhealthy).await;
        assert!(!report(&actuator, &sick).await.expect("listed").ready);
    })
    .await;
}

#[tokio::test]
async fn ready_means_that_requests_are_answered() {
    with_engine("warm-up", async |bench| {
        // Docker accepts connections on the published ports all along.
        let deaf = bench.run("deaf", bench.worker_with(&["--warm-up", "1h"])).await;
        let slow = bench.run("slow", bench.worker_with(&["--warm-up", "2s"])).await;
        let actuator = bench.actuator();
        let address = ready(&actuator, &slow).await;
        assert_eq!(get(address, "/healthz").await.expect("answer"), 200);
        assert!(!report(&actuator, &deaf).await.expect("listed").ready);
    })
    .await;
}

#[tokio::test]
async fn a_stop_lets_requests_finish_and_removes_clones_only() {
    with_engine("stop", async |bench| {
        // One second of CPU time at half a core: a request is in flight for two.
        let mut worker = bench.worker_with(&["--cost", "1s", "--queue-timeout", "1m"]);
        // Docker takes the published port away when the process ends, maybe before its last words.
        worker.host_config.as_mut().expect("given").port_bindings = None;
        let template = bench.run("web", worker).await;
        // A busy machine takes its time, and nothing may be killed for it.
        let target = DockerTarget { stop_timeout: Some(Duration::from_secs(60)), ..bench.target() };
        let actuator = DockerActuator::connect(&bench.service, &target).expect("well-formed");
        let clone = actuator.start().await.expect("start");
        let address = ready(&actuator, &clone).await;

        let source = DockerSource::connect(&bench.target()).expect("well-formed");
        let replicas = [replica(&clone)];
        let cpu = async || {
            let readings = source.read(&replicas).await.expect("the engine answers");
            readings.first().map(|reading| reading.cpu_seconds_total)
        };
        let idle = eventually("a first reading", cpu).await;
        let request = tokio::spawn(get(address, "/work"));
        let busy = async || cpu().await.filter(|now| *now > idle + 0.1);
        eventually("the request is being worked on", busy).await;
        actuator.stop(&clone).await.expect("stop");
        assert_eq!(request.await.expect("no panic").expect("answer"), 200);
        assert_eq!(bench.clones().await, [""; 0]);
        actuator.stop(&clone).await.expect("a replica that is gone is no error");

        // The user's own container is stopped but kept, no replica any more, and still a template.
        actuator.stop(&template).await.expect("stop");
        assert!(!bench.is_running(&template).await);
        assert!(actuator.list().await.expect("list").iter().all(|report| report.exited));
        let clone = actuator.start().await.expect("start");
        ready(&actuator, &clone).await;
    })
    .await;
}

#[tokio::test]
async fn other_containers_are_left_alone() {
    with_engine("foreign", async |bench| {
        let mut foreign = bench.worker();
        let labels = foreign.labels.as_mut().expect("given");
        labels.insert("foresail.service".to_owned(), format!("{}-other", bench.service));
        labels.insert(CLONE_LABEL.to_owned(), "another".to_owned());
        let foreign = bench.run("foreign", foreign).await;
        let actuator = bench.actuator();
        assert_eq!(actuator.list().await.expect("list"), []);
        let error = actuator.stop(&foreign).await.expect_err("foreign");
        assert!(matches!(&error, ActuatorError::Refused(m) if m.contains("left alone")), "{error}");
        assert!(bench.is_running(&foreign).await);

        // Its name may be one that Foresail would give.
        bench.create("foresail-1", bench.worker()).await;
        let clone = actuator.start().await.expect("start");
        let name = bench.inspect(&clone).await.name;
        assert_eq!(name, Some(format!("/{}-foresail-2", bench.service)));
    })
    .await;
}

#[tokio::test]
async fn a_clone_removed_while_it_starts_leaves_nothing_behind() {
    with_engine("removed", async |bench| {
        bench.create("web", bench.worker()).await;
        let actuator = bench.actuator();
        let starts = async {
            let mut refused = 0;
            for _ in 0..5 {
                match actuator.start().await {
                    Ok(_) => {}
                    Err(ActuatorError::Refused(reason)) => {
                        assert!(reason.contains("start"), "{reason}");
                        refused += 1;
                    }
                    Err(error) => panic!("{error}"),
                }
            }
            refused
        };
        let removals = async {
            loop {
                for id in bench.clones().await {
                    bench.kill(&id).await;
                }
            }
        };
        let refused = tokio::select! { refused = starts => refused, () = removals => 0 };
        println!("{refused} of 5 starts were refused");
        let nothing_left = async || {
            for id in bench.clones().await {
                bench.kill(&id).await;
            }
            actuator.list().await.expect("list").is_empty().then_some(())
        };
        eventually("every clone is gone", nothing_left).await;
    })
    .await;
}

#[tokio::test]
async fn clones_that_exit_are_reported_and_do_not_pile_up() {
    with_engine("exited", async |bench| {
        bench.create("web", bench.worker()).await;
        let actuator = bench.actuator();
        let mut exited = Vec::new();
        for _ in 0..2 {
            let id = actuator.start().await.expect("start");
            ready(&actuator, &id).await;
            bench.docker.kill_container(&id, None::<KillContainerOptions>).await.expect("kill");
            exited.push(id);
        }
        let gone = async || {
            let reports = actuator.list().await.expect("list");
            reports.iter().all(|report| report.exited && !report.ready).then_some(reports.len())
        };
        assert_eq!(eventually("both have exited", gone).await, 2);
        let running = actuator.start().await.expect("start");
        let mut left = bench.clones().await;
        left.sort();
        let mut expected = vec![exited[1].clone(), running];
        expected.sort();
        assert_eq!(left, expected, "only the newest is kept, for its logs");
    })
    .await;
}

#[tokio::test]
async fn an_engine_that_goes_away_is_found_again() {
    with_engine("away", async |bench| {
        let id = bench.run("web", bench.worker()).await;
        let mut relay = Relay::absent();
        let mut target = bench.target();
        target.host = Some(relay.host());
        // As a service has them: who finds the engine away, finds it away for both.
        let engine = Engine::new(target.host.as_deref()).expect("well-formed");
        let inventory = Inventory::follow(engine);
        let actuator = DockerActuator::on(inventory.clone(), &bench.service, &target);
        let (actuator, source) = (actuator.expect("lazy"), DockerSource::on(inventory));
        let replicas = [replica(&id)];
        let unavailable = async |words: &str| {
            let errors = [
                actuator.list().await.expect_err("no engine"),
                actuator.start().await.expect_err("no engine"),
                actuator.stop(&id).await.expect_err("no engine"),
            ];
            for error in errors {
                let ActuatorError::Unavailable(reason) = &error else { panic!("{error:?}") };
                assert!(reason.contains(&relay_path(&target.host)), "{reason}");
                assert!(reason.contains(words), "{reason}");
            }
            let MetricsError::Unavailable(reason) =
                source.read(&replicas).await.expect_err("no engine");
            assert!(reason.contains(words), "{reason}");
        };

        unavailable("the socket does not exist").await;
        relay.open();
        ready(&actuator, &id).await;
        let read = async || source.read(&replicas).await.expect("readings").pop();
        eventually("a first reading", read).await;
        relay.crash().await;
        unavailable("Connection refused").await;
        relay.open();
        ready(&actuator, &id).await;
        relay.stop().await;
        unavailable("the socket does not exist").await;
        relay.open();
        let clone = actuator.start().await.expect("start");
        ready(&actuator, &clone).await;
    })
    .await;
}

fn relay_path(host: &Option<String>) -> String {
    host.as_deref().unwrap_or_default().trim_start_matches("unix://").to_owned()
}

#[tokio::test]
async fn readings_show_what_containers_use() {
    with_engine("readings", async |bench| {
        let id = bench.run("web", bench.worker()).await;
        let mut unlimited = bench.worker();
        unlimited.host_config.as_mut().expect("given").nano_cpus = None;
        let free = bench.run("free", unlimited).await;
        let stopped = bench.create("stopped", bench.worker()).await;
        let address = ready(&bench.actuator(), &id).await;

        let source = DockerSource::connect(&bench.target()).expect("well-formed");
        assert!(source.read(&[]).await.expect("nothing to read").is_empty());
        let replicas = [&id, &stopped, &free, &"gone".to_owned()].map(|id| replica(id));
        // Both that run, as soon as the engine has measured them.
        let both = async || {
            let readings = source.read(&replicas).await.expect("readings");
            (readings.len() == 2).then_some(readings)
        };
        let before = eventually("readings of both", both).await;
        let ids = before.iter().map(|reading| &reading.replica).collect::<Vec<_>>();
        assert_eq!(ids, [&id, &free], "the unreadable are left out");
        assert_eq!(before.iter().map(|it| it.cpu_limit).collect::<Vec<_>>(), [Some(0.5), None]);
        assert!(
            before.iter().all(|it| (1 << 10..1 << 30).contains(&it.memory_bytes)),
            "{before:?}"
        );

        // Twenty requests of 5 ms each: 100 ms of CPU time in one, next to none in the other.
        for _ in 0..20 {
            assert_eq!(get(address, "/work").await.expect("answer"), 200);
        }
        let worked = async || {
            let after = both().await?;
            (after[0].cpu_seconds_total - before[0].cpu_seconds_total >= 0.1).then_some(after)
        };
        let after = eventually("the work is measured", worked).await;
        let used = |index: usize| after[index].cpu_seconds_total - before[index].cpu_seconds_total;
        assert!(after[0].time > before[0].time);
        assert!(used(0) < 1.0, "{}", used(0));
        assert!((0.0..0.1).contains(&used(1)), "{}", used(1));
    })
    .await;
}

fn replica(id: &str) -> Replica {
    let (since, created) = (Utc::now(), Utc::now());
    let (phase, address, in_flight, managed) = (Phase::Ready, None, 0, false);
    let (id, outdated) = (id.to_owned(), false);
    Replica { id, phase, since, created, address, in_flight, managed, outdated }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_that_others_have_are_passed_by() {
    with_engine("taken", async |bench| {
        bench.create("web", bench.worker()).await;
        // The numbers that are tried first, as another service with as many replicas takes them.
        for number in (0..9).map(|power| 1 << power) {
            let mut foreign = bench.worker();
            foreign.labels.as_mut().expect("given").remove("foresail.service");
            bench.create(&format!("foresail-{number}"), foreign).await;
        }
        bench.actuator().start().await.expect("start");
        assert_eq!(bench.clones().await.len(), 1);
    })
    .await;
}

#[tokio::test]
async fn two_starts_at_once_get_two_names() {
    with_engine("at-once", async |bench| {
        bench.create("web", bench.worker()).await;
        let (one, two) = (bench.actuator(), bench.actuator());
        let (first, second) = tokio::join!(one.start(), two.start());
        assert_ne!(first.expect("start"), second.expect("start"));
        assert_eq!(bench.clones().await.len(), 2);
    })
    .await;
}

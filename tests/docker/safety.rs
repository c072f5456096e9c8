//! I/O: who may act, on what, and with which rights: two Foresails, bystanders, a restricted socket.

use std::collections::{BTreeSet, HashMap};
use std::pin::pin;
use std::sync::{Arc, Mutex};

use bollard::models::{ContainerCreateBody, ContainerInspectResponse, EventMessage};
use bollard::query_parameters::EventsOptionsBuilder;
use chrono::Utc;
use foresail::config::{DockerTarget, Mode};
use foresail::fleet::{Phase, Replica};
use foresail::io::actuator::docker::CLONE_LABEL;
use foresail::io::collector::MetricsSource;
use foresail::io::collector::docker::DockerSource;
use foresail::io::docker::LOCK_LABEL;
use foresail::planner::Decision;
use futures_util::TryStreamExt;
use tokio_util::task::AbortOnDropHandle;

use crate::bench::{Bench, eventually, with_engine};
use crate::gate::Gate;
use crate::serve::Serve;

fn keys(bench: &Bench, host: Option<&str>, min: u32) -> String {
    let label = bench.target().label;
    let host = host.map(|host| format!(", host = {host:?}")).unwrap_or_default();
    format!(
        r#"
        target = {{ docker = {{ label = "{label}", port = 8000{host} }} }}
        mode = "act"
        replicas = {{ min = {min}, max = 8 }}
        evaluation_interval = "500ms"
        sample_interval = "500ms"
        balancer = {{ listen = "127.0.0.1:0", drain_timeout = "1s" }}
        "#
    )
}

/// A worker that is reached on its own address: no port of the machine is taken.
fn worker(bench: &Bench) -> ContainerCreateBody {
    let mut worker = bench.worker();
    worker.host_config.as_mut().expect("given").port_bindings = None;
    worker
}

/// All that the engine does to containers, from now on. The engine itself keeps only the last few.
struct Record {
    events: Arc<Mutex<Vec<EventMessage>>>,
    _task: AbortOnDropHandle<()>,
}

impl Record {
    async fn start(bench: &Bench) -> Record {
        let since = Utc::now();
        let (docker, events) = (bench.docker.clone(), Arc::<Mutex<Vec<EventMessage>>>::default());
        let recorded = events.clone();
        let task = tokio::spawn(async move {
            let filters = HashMap::from([("type", vec!["container"])]);
            let options = EventsOptionsBuilder::new()
                .since(&since.timestamp().to_string())
                .filters(&filters)
                .build();
            let mut events = pin!(docker.events(Some(options)));
            while let Some(event) = events.try_next().await.expect("events") {
                let since = since.timestamp_nanos_opt().expect("this century");
                if event.time_nano.is_some_and(|time| time >= since) {
                    recorded.lock().expect("no panic").push(event);
                }
            }
        });
        Record { events, _task: AbortOnDropHandle::new(task) }
    }

    fn so_far(&self) -> Vec<EventMessage> {
        self.events.lock().expect("no panic").clone()
    }

    /// All that have happened by now: a last one is made, and waited for.
    async fn all(&self, bench: &Bench) -> Vec<EventMessage> {
        let mark = bench.create("mark", worker(bench)).await;
        let marked = async || {
            let events = self.so_far();
            let end = events.iter().position(|event| actor(event) == Some(&mark));
            end.map(|end| events[..end].to_vec())
        };
        eventually("the mark is recorded", marked).await
    }
}

/// The id of the container.
fn actor(event: &EventMessage) -> Option<&String> {
    event.actor.as_ref()?.id.as_ref()
}

/// Whether the container is a clone of the bench's service.
fn is_clone(event: &EventMessage, bench: &Bench) -> bool {
    let labels = event.actor.as_ref().and_then(|actor| actor.attributes.as_ref());
    labels.is_some_and(|labels| {
        labels.contains_key(CLONE_LABEL) && labels.get("foresail.service") == Some(&bench.service)
    })
}

fn is(event: &EventMessage, action: &str) -> bool {
    event.action.as_deref() == Some(action)
}

async fn ready(serve: &Serve, replicas: u32) -> Decision {
    let what = format!("with {replicas} ready replicas");
    let is = |decision: &Decision| {
        (decision.ready_replicas, decision.current_replicas) == (replicas, replicas)
    };
    serve.decision(&what, Utc::now(), is).await
}

/// Waits until a decision says that another acts, in these words.
async fn observes(serve: &Serve, words: &str) {
    let says = |decision: &Decision| decision.notes.iter().any(|note| note.contains(words));
    let decision = serve.decision(&format!("that says `{words}`"), Utc::now(), says).await;
    let note = decision.notes.iter().find(|note| note.contains(words)).expect("said");
    assert!(note.ends_with("only observing"), "{note}");
    assert_eq!(serve.mode().await, Mode::Observe);
}

/// Each Foresail wants another number of replicas: if two acted, they would undo one another's work.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_several_foresails_one_acts_and_another_takes_over_when_it_is_killed() {
    with_engine("several", async |bench| {
        let record = Record::start(bench).await;
        bench.run("web", worker(bench)).await;
        // Each folder is another machine: what is in one is not seen from the other.
        let folder = || tempfile::tempdir().expect("temporary folder");
        let (here, there) = (folder(), folder());
        let start = async |min, machine: &tempfile::TempDir| {
            Serve::start_in(&keys(bench, None, min), machine.path()).await
        };
        let mut first = start(2, &here).await;
        ready(&first, 2).await;
        assert_eq!(first.mode().await, Mode::Act);
        let mut second = start(3, &there).await;
        observes(&second, "another Foresail (on ").await;
        let mut third = start(4, &there).await;
        let process = second.process();
        observes(&third, &format!("another Foresail (process {process} on this machine)")).await;

        // On another machine it is missed after some seconds.
        first.kill().await;
        ready(&second, 3).await;
        assert_eq!(second.mode().await, Mode::Act);
        let mut first = start(2, &here).await;
        observes(&first, "another Foresail (on ").await;

        // On the same machine at once. Ended properly, it leaves nothing.
        second.kill().await;
        ready(&third, 4).await;
        observes(&first, "another Foresail (on ").await;
        third.stop().await;
        first.stop().await;

        let events = record.all(bench).await;
        let of_clones = events.iter().filter(|event| is_clone(event, bench)).collect::<Vec<_>>();
        let count = |action| of_clones.iter().filter(|event| is(event, action)).count();
        assert_eq!((count("create"), count("start")), (3, 3), "1, then 1, then 1 more");
        assert_eq!((count("die"), count("destroy")), (0, 0), "nobody took one away");
        assert_eq!(locks(bench).await, 0);
    })
    .await;
}

async fn locks(bench: &Bench) -> usize {
    bench.labelled(&[&format!("{LOCK_LABEL}={}", bench.target().label)]).await.len()
}

/// Containers that look as if they were the service's, and are not.
async fn bystanders(bench: &Bench) -> Vec<String> {
    let service = &bench.service;
    let label = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    let mine = label("foresail.service", service);
    let rows = [
        ("longer-value", vec![label("foresail.service", &format!("{service}x"))]),
        ("shorter-value", vec![label("foresail.service", &service[..service.len() - 1])]),
        ("empty-value", vec![label("foresail.service", "")]),
        ("other-case", vec![label("Foresail.Service", service)]),
        ("longer-key", vec![label("foresail.service.name", service)]),
        ("value-with-key", vec![label("service", &mine.1)]),
        ("clone-of-another", vec![label(CLONE_LABEL, "another"), label("foresail.service", "x")]),
        ("one-off", vec![mine.clone(), label("com.docker.compose.oneoff", "True")]),
        ("lock-of-another", vec![mine, label(LOCK_LABEL, "foresail.service=another")]),
        ("foresail-1", vec![]),
    ];
    let mut ids = Vec::new();
    for (name, more) in rows {
        let mut body = worker(bench);
        let labels = body.labels.as_mut().expect("given");
        labels.remove("foresail.service");
        labels.extend(more);
        ids.push(bench.run(name, body).await);
    }
    // The user has stopped this one, or never started it; it is the service's, but no replica.
    ids.push(bench.create("resting", worker(bench)).await);
    ids
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bystanders_are_never_touched() {
    with_engine("bystanders", async |bench| {
        bench.run("web", worker(bench)).await;
        let bystanders = bystanders(bench).await;
        let look = async || {
            let mut seen: Vec<ContainerInspectResponse> = Vec::new();
            for id in &bystanders {
                seen.push(bench.inspect(id).await);
            }
            seen
        };
        let (before, record) = (look().await, Record::start(bench).await);

        let machine = tempfile::tempdir().expect("temporary folder");
        let keys = keys(bench, None, 1);
        let start = async || Serve::start_in(&keys, machine.path()).await;
        let mut serve = start().await;
        serve.override_replicas(3).await;
        ready(&serve, 3).await;
        // One that somebody else removes is replaced.
        bench.kill(&bench.clones().await[0]).await;
        let replaced = async || {
            let created = |event: &&EventMessage| is_clone(event, bench) && is(event, "create");
            (record.so_far().iter().filter(created).count() >= 3).then_some(())
        };
        eventually("a third clone is made", replaced).await;
        ready(&serve, 3).await;
        serve.override_replicas(1).await;
        ready(&serve, 1).await;
        serve.kill().await;
        let mut serve = start().await;
        serve.override_replicas(2).await;
        ready(&serve, 2).await;
        serve.stop().await;

        assert_eq!(look().await, before);
        let events = record.all(bench).await;
        let touched =
            |event: &&EventMessage| actor(event).is_some_and(|id| bystanders.contains(id));
        assert_eq!(events.iter().find(touched), None);
    })
    .await;
}

/// The calls that README says are needed, with whether it is to observe.
fn documented() -> Vec<(String, bool)> {
    let readme = include_str!("../../README.md");
    let (_, section) = readme.split_once("Restricted socket\n").expect("a heading");
    let section = section.split("\n#").next().unwrap_or_default();
    let row = |line: &str| {
        let (call, rest) = line.strip_prefix("| `")?.split_once("` |")?;
        let (call, mut cells) = (call.to_owned(), rest.split('|'));
        Some((call, cells.next()?.trim() == "yes"))
    };
    section.lines().filter_map(row).collect()
}

/// What is documented is needed, and nothing else is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restricted_socket_is_enough() {
    with_engine("restricted", async |bench| {
        let documented = documented().into_iter().map(|(call, _)| call).collect::<BTreeSet<_>>();
        let gate = {
            let documented = documented.clone();
            Gate::open(move |call| documented.contains(call))
        };
        let template = bench.run("web", worker(bench)).await;
        let back = bench.network("back").await;
        let join = bollard::models::NetworkConnectRequest {
            container: template.clone(),
            ..Default::default()
        };
        bench.docker.connect_network(&back, join).await.expect("second network");

        let mut serve = Serve::start(&keys(bench, Some(&gate.host()), 1)).await;
        serve.override_replicas(2).await;
        ready(&serve, 2).await;
        serve.override_replicas(1).await;
        ready(&serve, 1).await;
        let gone = async || bench.clones().await.is_empty().then_some(());
        eventually("the clone is removed", gone).await;
        serve.stop().await;
        assert_eq!(locks(bench).await, 0);

        // Where the kernel's files cannot be read, the engine tells what is used.
        let target = DockerTarget { host: Some(gate.host()), ..bench.target() };
        let source = DockerSource::connect(&target).expect("well-formed").without_files();
        let (since, created) = (Utc::now(), Utc::now());
        let (phase, address, in_flight, managed) = (Phase::Ready, None, 0, false);
        let id = template.clone();
        let replica = Replica { id, phase, since, created, address, in_flight, managed };
        let replicas = [replica];
        let read = async || source.read(&replicas).await.expect("readings").pop();
        eventually("a reading", read).await;

        let seen = gate.seen();
        assert_eq!(seen.refused, BTreeSet::new(), "not documented");
        assert_eq!(seen.passed, documented, "documented, but not needed");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_rights_to_act_it_observes() {
    with_engine("observer", async |bench| {
        let observing = documented().into_iter().filter(|(_, observing)| *observing);
        let observing = observing.map(|(call, _)| call).collect::<BTreeSet<_>>();
        assert!(observing.iter().all(|call| call.starts_with("GET ")), "{observing:?}");
        let gate = Gate::open(move |call| observing.contains(call));
        bench.run("web", worker(bench)).await;
        let mut serve = Serve::start(&keys(bench, Some(&gate.host()), 3)).await;
        observes(&serve, "the gate refuses ").await;
        let decision = ready(&serve, 1).await;
        assert_eq!(decision.desired_replicas, 3, "what it would have done");
        assert_eq!(bench.clones().await, [""; 0]);
        serve.stop().await;
    })
    .await;
}

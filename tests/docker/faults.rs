//! I/O: `foresail serve`, killed with SIGKILL at random moments under load while an operator moves
//! replicas up and down.

use std::net::SocketAddr;
use std::time::Duration;

use foresail::io::actuator::docker::CLONE_LABEL;
use foresail::planner::Decision;
use foresail::series::Time;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use crate::bench::{Bench, eventually, get, ready, with_engine};
use crate::events::Events;
use crate::serve::Serve;

const MIN: u32 = 2;
const MAX: u32 = 4;

/// After so many kills it may live until all is as it should be.
const ROUND: u32 = 20;

/// How long it lives, in milliseconds from its first word: most of them start replicas at the most,
/// and each so many-th lives until it may stop some, 15 s after it began.
const LIFE_MS: std::ops::Range<u64> = 50..800;
const STOPPING_LIFE_MS: std::ops::Range<u64> = 15_000..17_500;
const STOPPING: u64 = 10;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_foresail_killed_at_any_moment_leaves_no_orphan_and_starts_none_twice() {
    let kills = number("FORESAIL_KILLS").unwrap_or(40);
    let seed = number("FORESAIL_SEED").unwrap_or(5);
    println!("FORESAIL_SEED={seed}, FORESAIL_KILLS={kills}");
    // It cannot make the moments the same on every machine, but the lives.
    with_engine("kills", async |bench| {
        let template = bench.run("web", bench.worker()).await;
        ready(&bench.actuator(), &template).await;
        let mut serve = Serve::start(&configuration(bench)).await;
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        settle(bench, &serve, &template).await;
        let before = [bench.clones().await, vec![template.clone()]].concat();
        let events = Events::follow(bench).await;

        for kill in 1..=kills {
            let (life, replicas) = match kill % STOPPING {
                0 => (STOPPING_LIFE_MS, MIN..=MIN),
                _ => (LIFE_MS, MIN..=MAX),
            };
            let life = Duration::from_millis(rng.random_range(life));
            serve = live_for(serve, life, rng.random_range(replicas)).await;
            if kill % u64::from(ROUND) == 0 || kill == kills {
                settle(bench, &serve, &template).await;
                events.assert_alive(&before, MIN as usize..=MAX as usize);
            }
        }
        let counted = |action| events.of(action).len();
        println!("{kills} kills, {} starts, {} stops", counted("start"), counted("destroy"));
        serve.stop().await;
    })
    .await;
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is no number: {text}")))
}

/// An operator asks for `replicas`, requests come, and after `life` it is killed, whatever it is
/// doing; gives the next one.
async fn live_for(serve: Serve, life: Duration, replicas: u32) -> Serve {
    let end = Instant::now() + life;
    let load = AbortOnDropHandle::new(tokio::spawn(requests(serve.balancer)));
    serve.override_replicas(replicas).await;
    tokio::time::sleep_until(end).await;
    let folder = serve.kill().await;
    drop(load);
    Serve::launch(folder, &std::env::temp_dir()).await
}

async fn requests(balancer: SocketAddr) {
    loop {
        // It may be killed while it answers.
        let _ = get(balancer, "/work").await;
    }
}

/// Waits until there is what is asked for, and nothing else: the least count, all of it serving and
/// known to the fleet, and no other container.
async fn settle(bench: &Bench, serve: &Serve, template: &str) {
    let settled = async || {
        let clones = bench.clones().await;
        let mut known = serve.replicas().await.into_iter().map(|it| it.id).collect::<Vec<_>>();
        known.retain(|id| id != template);
        known.sort();
        let mut clones_sorted = clones.clone();
        clones_sorted.sort();
        (clones.len() + 1 == MIN as usize && clones_sorted == known).then_some(())
    };
    eventually("there are the least count of containers, all known", settled).await;
    let serving = |decision: &Decision| decision.ready_replicas == MIN;
    serve.decision("with all that is left serving", Time::MIN_UTC, serving).await;
    for id in bench.clones().await {
        let config = bench.inspect(&id).await.config.expect("config");
        assert!(bench.is_running(&id).await, "{config:?}");
        assert_eq!(config.labels.expect("labels")[CLONE_LABEL], template);
    }
}

fn configuration(bench: &Bench) -> String {
    let label = bench.target().label;
    format!(
        r#"
        target = {{ docker = {{ label = "{label}", port = 8000, stop_timeout = "10s" }} }}
        mode = "act"
        policy = "static"
        static_replicas = {MIN}
        replicas = {{ min = {MIN}, max = {MAX} }}
        evaluation_interval = "100ms"
        sample_interval = "100ms"
        balancer = {{ listen = "127.0.0.1:0", slow_start = "0s", drain_timeout = "1s" }}
        "#
    )
}

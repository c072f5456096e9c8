//! I/O: which replica gets a request, and that connections on both sides are kept.

use std::num::NonZero;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use foresail::balancer::Algorithm;
use foresail::io::proxy::Threads;
use futures_util::future::join_all;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::harness::*;

#[tokio::test]
async fn requests_go_round_over_kept_connections() {
    let (a, b) = (Replica::named("a").await, Replica::named("b").await);
    let world = World::new(settings(), &[a.address, b.address]).await;
    let client = client();
    let mut answers = String::new();
    for _ in 0..10 {
        answers += &get(&client, &world).await.1;
    }
    assert_eq!(answers, "ababababab");
    assert_eq!(a.connections.load(Ordering::Acquire), 1);
    assert_eq!(b.connections.load(Ordering::Acquire), 1);
    until(|| world.counters(0) == (0, 5, 0) && world.counters(1) == (0, 5, 0)).await;
    assert_eq!(world.offered(), (10, 0, 0));
}

#[tokio::test]
async fn a_kept_connection_stays_on_its_thread() {
    let replica = Replica::named("abc").await;
    let threads = Threads::of(NonZero::new(2).unwrap()).unwrap();
    let world = World::on(threads, settings(), &[replica.address]).await;
    // Each goes to the thread with the fewer, so to one of its own.
    let mut streams = [world.connect().await, world.connect().await];
    for _ in 0..3 {
        for stream in &mut streams {
            let request = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
            tokio::io::AsyncWriteExt::write_all(stream, request).await.unwrap();
            assert!(read_until(stream, "\r\n\r\nabc").await.starts_with("HTTP/1.1 200 OK"));
        }
    }
    // One after another they would do with one connection, were it handed from thread to thread.
    assert_eq!(replica.connections.load(Ordering::Acquire), 2);
    assert_eq!(replica.requests(), 6);
}

#[tokio::test]
async fn one_client_connection_serves_many_requests() {
    let replica = Replica::named("abc").await;
    let world = World::new(settings(), &[replica.address]).await;
    let mut stream = world.connect().await;
    // Written at once: pipelined requests are answered in turn.
    let request = "GET / HTTP/1.1\r\nHost: a\r\n\r\n".repeat(5);
    tokio::io::AsyncWriteExt::write_all(&mut stream, request.as_bytes()).await.unwrap();
    for _ in 0..5 {
        assert!(read_until(&mut stream, "\r\n\r\nabc").await.starts_with("HTTP/1.1 200 OK"));
    }
    assert_eq!(replica.requests(), 5);
}

#[tokio::test]
async fn a_client_stays_with_its_replica_under_ip_hash() {
    let (a, b) = (Replica::named("a").await, Replica::named("b").await);
    let hashed = foresail::config::Balancer { algorithm: Algorithm::IpHash, ..settings() };
    let world = World::new(hashed, &[a.address, b.address]).await;
    for _ in 0..6 {
        assert_eq!(get(&client(), &world).await.0, 200);
    }
    assert_eq!((a.requests() + b.requests(), a.requests() * b.requests()), (6, 0));
}

/// 4 × 200 sockets are open at once, which the usual limit of 1024 per process just allows.
const AT_ONCE: u32 = 200;

#[tokio::test]
async fn least_request_spreads_a_crowd() {
    let gate = CancellationToken::new();
    let waiting = |gate: CancellationToken| async move {
        Replica::new(move |_| {
            let gate = gate.clone();
            async move {
                gate.cancelled().await;
                text("done")
            }
        })
        .await
    };
    let replicas = join_all((0..4).map(|_| waiting(gate.clone()))).await;
    let addresses: Vec<_> = replicas.iter().map(|replica| replica.address).collect();
    let least = foresail::config::Balancer { algorithm: Algorithm::LeastRequest, ..settings() };
    let world = Arc::new(World::new(least, &addresses).await);
    let client = client();
    let one = |_| {
        let (client, world) = (client.clone(), Arc::clone(&world));
        tokio::spawn(async move { get(&client, &world).await })
    };
    let crowd: Vec<_> = (0..AT_ONCE).map(one).collect();
    until(|| (0..4).map(|index| world.in_flight(index)).sum::<u32>() == AT_ONCE).await;
    for index in 0..4 {
        // Mean 50; two choices keep within a few of it, where one random choice has a deviation of
        // 6.
        let in_flight = world.in_flight(index);
        assert!((42..=58).contains(&in_flight), "r{index}: {in_flight}");
    }
    gate.cancel();
    for answer in crowd {
        assert_eq!(within(answer).await.unwrap(), (200, "done".to_string()));
    }
    // The gate stays open: with the rest there were 1 000.
    for _ in 0..4 {
        for (status, _) in join_all((0..AT_ONCE).map(|_| get(&client, &world))).await {
            assert_eq!(status, 200);
        }
    }
    until(|| (0..4).all(|index| world.in_flight(index) == 0)).await;
    assert_eq!((0..4).map(|index| world.counters(index).1).sum::<u64>(), 1000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drained_replica_gets_nothing_more() {
    // Under load the replica is drained again and again; whenever it looks drained, a request that
    // still comes would in earnest meet a stopped process.
    let stopped = Arc::new(AtomicBool::new(false));
    let late = Arc::new(AtomicU32::new(0));
    let (seen, counted) = (Arc::clone(&stopped), Arc::clone(&late));
    let drained = Replica::new(move |_| {
        counted.fetch_add(u32::from(seen.load(Ordering::SeqCst)), Ordering::SeqCst);
        async { text("drained") }
    })
    .await;
    let other = Replica::named("other").await;
    let world = Arc::new(World::new(settings(), &[drained.address, other.address]).await);
    let done = Arc::new(AtomicBool::new(false));
    let load: Vec<_> = (0..8)
        .map(|_| {
            let (world, done) = (Arc::clone(&world), Arc::clone(&done));
            tokio::spawn(async move {
                let client = client();
                while !done.load(Ordering::Acquire) {
                    assert_eq!(get(&client, &world).await.0, 200);
                }
            })
        })
        .collect();
    for round in 1..=30 {
        until(|| drained.requests() >= round * 5).await;
        world.publish(&[(drained.address, false), (other.address, true)]);
        until(|| world.in_flight(0) == 0).await;
        stopped.store(true, Ordering::SeqCst);
        let answered = other.requests();
        until(|| other.requests() >= answered + 5).await;
        stopped.store(false, Ordering::SeqCst);
        world.publish(&[(drained.address, true), (other.address, true)]);
    }
    done.store(true, Ordering::Release);
    for task in load {
        within(task).await.unwrap();
    }
    assert_eq!(late.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_request_in_flight_outlives_its_replicas_readiness() {
    let (begun, release) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (begin, released) = (Arc::clone(&begun), Arc::clone(&release));
    let slow = Replica::new(move |_| {
        let (begin, released) = (Arc::clone(&begin), Arc::clone(&released));
        async move {
            begin.notify_one();
            released.notified().await;
            text("slow but sure")
        }
    })
    .await;
    let other = Replica::named("other").await;
    let world = Arc::new(World::new(settings(), &[slow.address]).await);
    let asked = tokio::spawn({
        let world = Arc::clone(&world);
        async move { get(&client(), &world).await }
    });
    within(begun.notified()).await;
    world.publish(&[(slow.address, false), (other.address, true)]);
    for _ in 0..5 {
        assert_eq!(get(&client(), &world).await.1, "other");
    }
    assert_eq!(world.in_flight(0), 1);
    release.notify_one();
    assert_eq!(within(asked).await.unwrap(), (200, "slow but sure".to_string()));
    until(|| world.counters(0) == (0, 1, 0)).await;
}

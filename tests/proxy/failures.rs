//! I/O: replicas that are not there, break off or are late, and what the client gets then.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream};

use crate::harness::*;

/// A replica that reads the head of a request and closes.
async fn breaking() -> std::net::SocketAddr {
    listen(|mut stream| async move {
        read_until(&mut stream, "\r\n\r\n").await;
    })
    .await
}

#[tokio::test]
async fn a_request_that_was_not_sent_goes_to_another_replica() {
    let replica = Replica::new(|request| async move {
        let body = http_body_util::BodyExt::collect(request.into_body()).await.unwrap();
        text(body.to_bytes())
    })
    .await;
    let dead = nobody().await;
    let world = World::new(settings(), &[dead, replica.address]).await;
    let client = client();
    for _ in 0..4 {
        assert_eq!(post(&client, &world, "whole").await, (200, "whole".to_string()));
    }
    // Every other request, and none twice.
    until(|| world.counters(0) == (0, 0, 2) && world.counters(1) == (0, 4, 0)).await;
    assert_eq!(replica.requests(), 4);
    // Without another replica it is tried once more, and given up.
    world.publish(&[(dead, true)]);
    let (status, body) = post(&client, &world, "whole").await;
    assert_eq!(status, 502);
    let error =
        r#"{"error":{"code":"replica_unreached","message":"the replica could not be reached"}}"#;
    assert_eq!(body, error);
    assert_eq!(world.counters(0), (0, 0, 4));
}

#[tokio::test]
async fn a_request_that_may_have_been_carried_out_is_repeated_only_if_harmless() {
    let replica = Replica::named("a").await;
    let world = World::new(settings(), &[breaking().await, replica.address]).await;
    let client = client();
    // r0 breaks off, r1 answers the repetition; the next turn is r1's.
    assert_eq!(get(&client, &world).await, (200, "a".to_string()));
    assert_eq!(get(&client, &world).await, (200, "a".to_string()));
    assert_eq!(replica.requests(), 2);
    let (status, body) = post(&client, &world, "once").await;
    assert_eq!((status, body.contains("replica_broke")), (502, true));
    assert_eq!(replica.requests(), 2);
    assert_eq!(world.counters(0), (0, 0, 2));
}

#[tokio::test]
async fn a_replica_that_dies_while_it_answers_is_seen_to() {
    let replica = listen(|mut stream| async move {
        read_until(&mut stream, "\r\n\r\n").await;
        let answer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n";
        stream.write_all(answer.as_bytes()).await.unwrap();
    })
    .await;
    let world = World::new(settings(), &[replica]).await;
    let answer = world.exchange("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    // The client can tell: the last chunk is missing.
    assert!(answer.ends_with("4\r\nhalf\r\n"), "{answer}");
    until(|| world.counters(0) == (0, 1, 1)).await;
}

#[tokio::test]
async fn a_replica_that_talks_nonsense_is_an_error() {
    for nonsense in
        ["hello\r\n\r\n", "HTTP/1.1 9999 X\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"]
    {
        let replica = listen(move |mut stream| async move {
            read_until(&mut stream, "\r\n\r\n").await;
            stream.write_all(nonsense.as_bytes()).await.unwrap();
            read_all(&mut stream).await;
        })
        .await;
        let world = World::new(settings(), &[replica]).await;
        assert_eq!(get(&client(), &world).await.0, 502, "{nonsense:?}");
        until(|| world.in_flight(0) == 0).await;
    }
}

#[tokio::test]
async fn a_late_answer_is_not_waited_for() {
    let never = Replica::new(|_| std::future::pending()).await;
    let other = Replica::named("a").await;
    let short =
        foresail::config::Balancer { response_timeout: Duration::from_millis(50), ..settings() };
    let world = World::new(short, &[never.address, other.address]).await;
    let (status, body) = get(&client(), &world).await;
    // Not repeated: the replica may be at it still.
    assert_eq!((status, body.contains("replica_timed_out")), (504, true));
    until(|| world.counters(0) == (0, 0, 1)).await;
    assert_eq!(other.requests(), 0);
}

#[tokio::test]
async fn a_long_upload_is_not_a_late_answer() {
    let replica = Replica::named("a").await;
    let second =
        foresail::config::Balancer { response_timeout: Duration::from_secs(1), ..settings() };
    let world = World::new(second, &[replica.address]).await;
    let mut stream = world.connect().await;
    stream.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n").await.unwrap();
    for byte in b"hello" {
        tokio::time::sleep(Duration::from_millis(250)).await;
        stream.write_all(&[*byte]).await.unwrap();
    }
    let answer = read_until(&mut stream, "\r\n\r\na").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
}

#[tokio::test]
async fn the_wait_for_a_replica_is_not_a_late_answer() {
    let replica = Replica::named("a").await;
    let timeout = Duration::from_secs(1);
    let second = foresail::config::Balancer { response_timeout: timeout, ..settings() };
    let world = Arc::new(World::new(second, &[]).await);
    let asked = tokio::spawn({
        let world = Arc::clone(&world);
        async move { get(&client(), &world).await }
    });
    until(|| world.offered() == (1, 1, 0)).await;
    tokio::time::sleep(timeout + Duration::from_millis(100)).await;
    world.publish(&[(replica.address, true)]);
    assert_eq!(within(asked).await.unwrap(), (200, "a".to_string()));
}

#[tokio::test]
async fn a_replica_that_does_not_accept_is_given_up() {
    // Linux leaves a new connection pending while the queue of those not yet accepted is full.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let full = listener.local_addr().unwrap();
    let brief = Duration::from_millis(100);
    let mut queued = Vec::new();
    while let Ok(stream) = tokio::time::timeout(brief, TcpStream::connect(full)).await {
        queued.push(stream.unwrap());
    }
    let short = foresail::config::Balancer { connect_timeout: brief, ..settings() };
    let world = World::new(short, &[full]).await;
    let (status, body) = post(&client(), &world, "x").await;
    assert_eq!((status, body.contains("replica_timed_out")), (504, true), "{body}");
    // A second replica gets what the first did not.
    let replica = Replica::named("a").await;
    world.publish(&[(full, true), (replica.address, true)]);
    assert_eq!(post(&client(), &world, "x").await, (200, "a".to_string()));
    assert_eq!(post(&client(), &world, "x").await, (200, "a".to_string()));
}

#[tokio::test]
async fn a_request_waits_for_a_replica() {
    let world = Arc::new(World::new(settings(), &[]).await);
    let asked = tokio::spawn({
        let world = Arc::clone(&world);
        async move { post(&client(), &world, "x").await }
    });
    until(|| world.offered() == (1, 1, 0)).await;
    // One that is not ready does not help.
    let replica = Replica::named("a").await;
    world.publish(&[(replica.address, false)]);
    assert_eq!(replica.requests(), 0);
    world.publish(&[(replica.address, true)]);
    assert_eq!(within(asked).await.unwrap(), (200, "a".to_string()));
    assert_eq!(world.offered(), (1, 0, 0));
}

#[tokio::test]
async fn a_request_does_not_wait_for_ever() {
    let short = foresail::config::Balancer {
        queue: foresail::config::Queue { max: 10_000, timeout: Duration::from_millis(50) },
        ..settings()
    };
    let world = World::new(short, &[]).await;
    let answer = world.exchange("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 503 Service Unavailable\r\n"), "{answer}");
    assert!(answer.contains("retry-after: 1\r\n"), "{answer}");
    assert!(answer.contains("content-type: application/json\r\n"), "{answer}");
    let error = r#"{"error":{"code":"no_replica_ready","message":"no replica is ready"}}"#;
    assert!(answer.ends_with(error), "{answer}");
    assert_eq!(world.offered(), (1, 0, 1));
}

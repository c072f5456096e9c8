//! I/O: clients that go away, and the end of the proxy itself.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::Notify;

use crate::harness::*;

#[tokio::test]
async fn a_client_that_goes_away_cancels_its_request() {
    let (begun, cancelled) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (begin, cancel) = (Arc::clone(&begun), Arc::clone(&cancelled));
    let replica = listen(move |mut stream| {
        let (begin, cancel) = (Arc::clone(&begin), Arc::clone(&cancel));
        async move {
            read_until(&mut stream, "\r\n\r\n").await;
            begin.notify_one();
            read_all(&mut stream).await;
            cancel.notify_one();
        }
    })
    .await;
    let world = World::new(settings(), &[replica]).await;
    for half in [false, true] {
        let mut stream = world.connect().await;
        stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        within(begun.notified()).await;
        assert_eq!(world.in_flight(0), 1);
        if half {
            // Only the sending side, as some one-shot clients do; taken as going away all the same.
            stream.shutdown().await.unwrap();
            assert_eq!(read_all(&mut stream).await, "");
        }
        drop(stream);
        within(cancelled.notified()).await;
        until(|| world.in_flight(0) == 0).await;
    }
    // Neither answered nor failed.
    assert_eq!(world.counters(0), (0, 0, 0));
}

#[tokio::test]
async fn a_client_that_goes_away_waits_no_more() {
    let world = World::new(settings(), &[]).await;
    let mut stream = world.connect().await;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    until(|| world.offered() == (1, 1, 0)).await;
    drop(stream);
    until(|| world.offered() == (1, 0, 0)).await;
}

#[tokio::test]
async fn shutdown_finishes_what_is_in_flight() {
    let (begun, release) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (begin, released) = (Arc::clone(&begun), Arc::clone(&release));
    let replica = Replica::new(move |_| {
        let (begin, released) = (Arc::clone(&begin), Arc::clone(&released));
        async move {
            begin.notify_one();
            released.notified().await;
            text("finished")
        }
    })
    .await;
    let world = World::new(settings(), &[replica.address]).await;
    let mut silent = world.connect().await;
    let mut stream = world.connect().await;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    within(begun.notified()).await;
    world.shutdown.cancel();
    // A connection without a request is closed at once, a new one refused.
    assert_eq!(read_all(&mut silent).await, "");
    within(async { while TcpStream::connect(world.address).await.is_ok() {} }).await;
    assert!(!world.served.is_finished());
    release.notify_one();
    let answer = read_all(&mut stream).await;
    assert!(answer.ends_with("finished"), "{answer}");
    within(world.served).await.unwrap();
}

#[tokio::test]
async fn shutdown_does_not_wait_for_ever() {
    let replica = listen(|mut stream| async move {
        read_until(&mut stream, "\r\n\r\n").await;
        let answer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nmore\r\n";
        stream.write_all(answer.as_bytes()).await.unwrap();
        read_all(&mut stream).await;
    })
    .await;
    let short =
        foresail::config::Balancer { response_timeout: Duration::from_millis(50), ..settings() };
    let world = World::new(short, &[replica]).await;
    let mut stream = world.connect().await;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    read_until(&mut stream, "more\r\n").await;
    world.shutdown.cancel();
    within(world.served).await.unwrap();
    assert_eq!(read_all(&mut stream).await, "");
}

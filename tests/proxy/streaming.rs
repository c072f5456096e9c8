//! I/O: bodies pass through as they come, in both directions, and protocols other than HTTP too.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::stream;
use http_body_util::{BodyExt, StreamBody};
use hyper::Response;
use hyper::body::{Bytes, Frame};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{Notify, mpsc};

use crate::harness::*;

/// A body out of what is sent on the channel.
fn channel() -> (mpsc::Sender<Bytes>, Body) {
    let (sender, mut receiver) = mpsc::channel::<Bytes>(1);
    let chunks = stream::poll_fn(move |context| {
        receiver.poll_recv(context).map(|chunk| chunk.map(|chunk| Ok(Frame::data(chunk))))
    });
    (sender, BodyExt::boxed(StreamBody::new(chunks)))
}

#[tokio::test]
async fn an_answer_arrives_as_it_is_made() {
    let (bodies, mut made) = mpsc::channel(1);
    let replica = Replica::new(move |_| {
        let bodies = bodies.clone();
        async move {
            let (sender, body) = channel();
            bodies.send(sender).await.unwrap();
            Response::new(body)
        }
    })
    .await;
    let world = World::new(settings(), &[replica.address]).await;
    let mut stream = world.connect().await;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    let answer = within(made.recv()).await.unwrap();
    read_until(&mut stream, "\r\n\r\n").await;
    for word in ["one", "two", "three"] {
        // Each piece is read before the next one exists.
        answer.send(Bytes::from(word)).await.unwrap();
        assert_eq!(read_until(&mut stream, word).await, format!("{:x}\r\n{word}", word.len()));
        read_until(&mut stream, "\r\n").await;
        assert_eq!(world.counters(0), (1, 1, 0));
    }
    drop(answer);
    assert_eq!(read_until(&mut stream, "0\r\n\r\n").await, "0\r\n\r\n");
    until(|| world.in_flight(0) == 0).await;
}

#[tokio::test]
async fn an_upload_arrives_as_it_is_sent() {
    let (pieces, mut arrived) = mpsc::channel(1);
    let replica = Replica::new(move |request| {
        let pieces = pieces.clone();
        async move {
            let mut body = request.into_body();
            while let Some(Ok(frame)) = body.frame().await {
                pieces.send(frame.into_data().unwrap()).await.unwrap();
            }
            text("all of it")
        }
    })
    .await;
    let world = World::new(settings(), &[replica.address]).await;
    let mut stream = world.connect().await;
    // The client waits for leave to send, as curl does with a large body.
    let head = "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    assert_eq!(read_until(&mut stream, "\r\n\r\n").await, "HTTP/1.1 100 Continue\r\n\r\n");
    for piece in ["one", "two", "six"] {
        stream.write_all(piece.as_bytes()).await.unwrap();
        assert_eq!(within(arrived.recv()).await.unwrap(), piece);
    }
    let answer = read_until(&mut stream, "all of it").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
}

#[tokio::test]
async fn sixty_four_megabytes_come_back_while_they_are_sent() {
    const CHUNK: usize = 64 * 1024;
    const CHUNKS: usize = 1024;
    let replica = Replica::new(|request| async move {
        let body = request.into_body().map_err(|error| -> std::convert::Infallible {
            panic!("the upload ended early: {error}")
        });
        Response::new(body.boxed())
    })
    .await;
    let world = World::new(settings(), &[replica.address]).await;
    let (mut reader, mut writer) = world.connect().await.into_split();
    let head = format!(
        "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        CHUNK * CHUNKS
    );
    let sending = tokio::spawn(async move {
        writer.write_all(head.as_bytes()).await.unwrap();
        for number in 0..CHUNKS {
            writer.write_all(&[number as u8; CHUNK]).await.unwrap();
        }
        writer
    });
    let mut answer = Vec::new();
    within(reader.read_to_end(&mut answer)).await.unwrap();
    sending.await.unwrap();
    // The replica mirrors without a length, so the answer is chunked; count the payload by its last
    // byte.
    assert!(answer.starts_with(b"HTTP/1.1 200 OK\r\n"));
    let last = answer.iter().filter(|byte| **byte == (CHUNKS - 1) as u8).count();
    assert!(answer.len() >= CHUNK * CHUNKS && last >= CHUNK * CHUNKS / 256);
}

/// What is sent and not yet received is held somewhere between, in the proxy or the system's
/// buffers, so a bound on it is one on the proxy's memory.
#[tokio::test]
async fn a_gigabyte_in_chunks_is_never_held() {
    const CHUNK: usize = 1024 * 1024;
    const CHUNKS: usize = 1024;
    /// Of four sockets' buffers at most 6 MiB each, as Linux lets them grow, and a little.
    const HELD: u64 = 32 * 1024 * 1024;
    let received = Arc::new(AtomicU64::new(0));
    let (go, wait) = (Arc::new(Notify::new()), Arc::clone(&received));
    let going = Arc::clone(&go);
    let replica = listen(move |mut stream| {
        let (received, going) = (Arc::clone(&wait), Arc::clone(&going));
        async move {
            let mut buffer = vec![0; CHUNK];
            let mut last = [0; 5];
            going.notified().await;
            while &last != b"0\r\n\r\n" {
                let read = stream.read(&mut buffer).await.unwrap();
                assert!(read > 0, "the upload ended early");
                received.fetch_add(read as u64, Ordering::AcqRel);
                let kept = [&last[..], &buffer[..read]].concat();
                last.copy_from_slice(&kept[kept.len() - 5..]);
            }
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nread").await.unwrap();
        }
    })
    .await;
    let world = World::new(settings(), &[replica]).await;
    let mut stream = world.connect().await;
    let head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut chunk = format!("{CHUNK:x}\r\n").into_bytes();
    chunk.extend(vec![b'x'; CHUNK]);
    chunk.extend(b"\r\n");
    let (mut sent, mut most) = (0, 0);
    let mut rest = &chunk[..];
    let mut number = 0;
    while number < CHUNKS {
        // The replica reads nothing until no more can be written.
        let written = tokio::time::timeout(Duration::from_millis(300), stream.write(rest)).await;
        match written {
            Ok(written) => {
                let written = written.unwrap();
                sent += written as u64;
                rest = &rest[written..];
            }
            Err(_) => go.notify_one(),
        }
        most = most.max(sent.saturating_sub(received.load(Ordering::Acquire)));
        if rest.is_empty() {
            (rest, number) = (&chunk, number + 1);
        }
    }
    stream.write_all(b"0\r\n\r\n").await.unwrap();
    let answer = read_until(&mut stream, "\r\n\r\nread").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    assert!(received.load(Ordering::Acquire) >= (CHUNK * CHUNKS) as u64);
    assert!(most < HELD, "{most} bytes between client and replica");
}

#[tokio::test]
async fn an_upgraded_connection_is_a_tunnel() {
    let replica = listen(|mut stream| async move {
        let head = read_until(&mut stream, "\r\n\r\n").await.to_ascii_lowercase();
        assert!(head.contains("upgrade: websocket\r\n"), "{head}");
        assert!(head.contains("connection: upgrade\r\n"), "{head}");
        assert!(head.contains("sec-websocket-key: k\r\n"), "{head}");
        let answer = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\
                      Upgrade: websocket\r\nSec-WebSocket-Accept: s\r\n\r\nwelcome";
        stream.write_all(answer.as_bytes()).await.unwrap();
        let (mut reader, mut writer) = stream.split();
        tokio::io::copy(&mut reader, &mut writer).await.unwrap();
    })
    .await;
    let world = World::new(settings(), &[replica]).await;
    let mut stream = world.connect().await;
    let request = "GET /chat HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\n\
                   Upgrade: websocket\r\nSec-WebSocket-Key: k\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let answer = read_until(&mut stream, "\r\n\r\n").await.to_ascii_lowercase();
    assert!(answer.starts_with("http/1.1 101 "), "{answer}");
    assert!(answer.contains("connection: upgrade\r\n"), "{answer}");
    assert!(answer.contains("sec-websocket-accept: s\r\n"), "{answer}");
    read_until(&mut stream, "welcome").await;
    stream.write_all(b"\x81\x02hi").await.unwrap();
    read_until(&mut stream, "hi").await;
    assert_eq!(world.counters(0), (1, 1, 0));
    stream.shutdown().await.unwrap();
    assert_eq!(read_all(&mut stream).await, "");
    until(|| world.in_flight(0) == 0).await;
}

#[tokio::test]
async fn a_change_of_protocol_that_nobody_asked_for_is_an_error() {
    let replica = listen(|mut stream| async move {
        read_until(&mut stream, "\r\n\r\n").await;
        let answer =
            "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n";
        stream.write_all(answer.as_bytes()).await.unwrap();
        read_all(&mut stream).await;
    })
    .await;
    let world = World::new(settings(), &[replica]).await;
    assert_eq!(get(&client(), &world).await.0, 502);
    until(|| world.in_flight(0) == 0).await;
}

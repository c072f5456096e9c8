//! I/O: bytes that no decent client sends.

use std::time::Duration;

use tokio::io::AsyncWriteExt;

use crate::harness::*;

#[tokio::test]
async fn malformed_requests_reach_no_replica() {
    let replica = Replica::named("a").await;
    let world = World::new(settings(), &[replica.address]).await;
    let check = async |request: &[u8], expected: &str| {
        let answer = world.exchange(request).await;
        assert!(
            answer.starts_with(expected) && answer.matches("HTTP/1.1").count() == 1,
            "{:?} gave {answer:?}",
            String::from_utf8_lossy(&request[..request.len().min(80)]),
        );
        // Every client connection above has ended, so what reached the replica would be counted.
        assert_eq!(replica.requests(), 0, "{:?}", String::from_utf8_lossy(request));
    };
    const BAD: &str = "HTTP/1.1 400 ";
    // Two opinions on where the body ends.
    let after = b"\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    let post = |lines: &str| [b"POST / HTTP/1.1\r\nHost: a\r\n", lines.as_bytes(), after].concat();
    check(&post("Content-Length: 0\r\nContent-Length: 5"), BAD).await;
    check(&post("Content-Length: 0, 5"), BAD).await;
    check(&post("Content-Length: +0"), BAD).await;
    check(&post("Content-Length: -1"), BAD).await;
    check(&post("Content-Length: 99999999999999999999999"), BAD).await;
    check(&post("Content-Length : 0"), BAD).await;
    check(&post("Transfer-Encoding: xchunked"), BAD).await;
    check(&post("Transfer-Encoding: chunked, identity"), BAD).await;
    check(&post("Transfer-Encoding: \u{b}chunked"), BAD).await;
    // Lines and heads out of shape.
    check(b"hello\r\n\r\n", BAD).await;
    check(b"GET / HTTP/1.1\r\nHost: a\r\nno colon\r\n\r\n", BAD).await;
    check(b"GET / HTTP/1.1\r\nHost: a\r\nX: \0\r\n\r\n", BAD).await;
    check(b"GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\n folded\r\n\r\n", BAD).await;
    check(b"GET / HTTP/3.7\r\nHost: a\r\n\r\n", BAD).await;
    check(b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", BAD).await;
    check(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 a TLS greeting\r\n\r\n", BAD).await;
    check(b"GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", BAD).await;
    // Whose request is it?
    let close = "Connection: close\r\n\r\n";
    check(format!("GET / HTTP/1.1\r\n{close}").as_bytes(), BAD).await;
    check(format!("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n{close}").as_bytes(), BAD).await;
    // Understood, not supported.
    const UNSUPPORTED: &str = "HTTP/1.1 501 ";
    check(format!("CONNECT a:1 HTTP/1.1\r\nHost: a\r\n{close}").as_bytes(), UNSUPPORTED).await;
    check(format!("OPTIONS * HTTP/1.1\r\nHost: a\r\n{close}").as_bytes(), UNSUPPORTED).await;
    check(&post("Transfer-Encoding: gzip, chunked"), UNSUPPORTED).await;
    check(&post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"), UNSUPPORTED).await;
    // Too much.
    let many = "X: 1\r\n".repeat(200);
    check(format!("GET / HTTP/1.1\r\nHost: a\r\n{many}\r\n").as_bytes(), "HTTP/1.1 431 ").await;
    let long = "x".repeat(70_000);
    check(format!("GET / HTTP/1.1\r\nHost: a\r\nX: {long}\r\n\r\n").as_bytes(), "HTTP/1.1 431 ")
        .await;
    check(format!("GET /{long} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes(), "HTTP/1.1 4").await;
    let endless = "x".repeat(1_000_000);
    check(format!("GET /{endless}").as_bytes(), "HTTP/1.1 4").await;
    assert_eq!(world.counters(0), (0, 0, 0));
    assert_eq!(get(&client(), &world).await, (200, "a".to_string()));
}

#[tokio::test]
async fn lines_that_end_in_a_bare_line_feed_are_passed_on_as_proper_ones() {
    // RFC 9112 section 2.2 lets a recipient take them for line ends. What must not be is that the
    // replica sees other lines than we did.
    let replica = listen(|mut stream| async move {
        let head = read_until(&mut stream, "\r\n\r\n").await;
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{head}", head.len());
        tokio::io::AsyncWriteExt::write_all(&mut stream, answer.as_bytes()).await.unwrap();
    })
    .await;
    let world = World::new(settings(), &[replica]).await;
    let answer = world.exchange("GET / HTTP/1.1\nHost: a\nX: 1\nConnection: close\n\n").await;
    let (_, seen) = answer.split_once("\r\n\r\n").unwrap();
    assert_eq!(seen.matches('\n').count(), seen.matches("\r\n").count(), "{seen:?}");
    assert!(seen.contains("x: 1\r\n"), "{seen:?}");
    // Within a value it is the end of the value's line for us, and so for the replica.
    let hidden =
        "GET / HTTP/1.1\r\nHost: a\r\nX: 1\nContent-Length: 3\r\nConnection: close\r\n\r\nabc";
    let answer = world.exchange(hidden).await;
    assert!(answer.contains("content-length: 3\r\n"), "{answer:?}");
    let bare_return = "GET / HTTP/1.1\r\nHost: a\r\nX: 1\rY: 2\r\n\r\n";
    assert!(world.exchange(bare_return).await.starts_with("HTTP/1.1 400 "));
}

#[tokio::test]
async fn a_replica_that_resets_is_an_error_and_costs_nobody_else() {
    let resetting = listen(|mut stream| async move {
        read_until(&mut stream, "\r\n\r\n").await;
        let half = b"HTTP/1.1 200 OK\r\nContent-Le";
        tokio::io::AsyncWriteExt::write_all(&mut stream, half).await.unwrap();
        stream.set_zero_linger().unwrap();
    })
    .await;
    let good = Replica::named("a").await;
    let world = World::new(settings(), &[resetting, good.address]).await;
    let client = client();
    for _ in 0..6 {
        // A POST may not be repeated, and only half of them meet the broken one.
        let (status, body) = post(&client, &world, "x").await;
        assert!(status == 502 || (status, body.as_str()) == (200, "a"), "{status} {body}");
    }
    assert_eq!(good.requests(), 3);
}

#[tokio::test]
async fn both_lengths_end_the_connection() {
    // Read by Transfer-Encoding the request ends at its last chunk; read by Content-Length, as
    // somebody in front might, the rest belongs to it. So nothing after it on this connection may
    // count as a request.
    let replica = Replica::named("a").await;
    let world = World::new(settings(), &[replica.address]).await;
    for lengths in [
        "Content-Length: 60\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 60",
    ] {
        let before = replica.requests();
        let request = format!(
            "POST / HTTP/1.1\r\nHost: a\r\n{lengths}\r\n\r\n0\r\n\r\n\
             GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
        );
        let answer = world.exchange(request).await;
        assert_eq!(answer.matches("HTTP/1.1 200 OK").count(), 1, "{answer}");
        assert_eq!(replica.requests(), before + 1);
    }
}

#[tokio::test]
async fn malformed_bodies_end_the_request() {
    let replica = Replica::named("a").await;
    let world = World::new(settings(), &[replica.address]).await;
    for body in
        ["zz\r\n", "fffffffffffffffff\r\n", "-1\r\n", "5\r\nhello", "3;\n\r\n", "2\r\nabcd\r\n"]
    {
        let request =
            format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{body}");
        let mut stream = world.connect().await;
        tokio::io::AsyncWriteExt::write_all(&mut stream, request.as_bytes()).await.unwrap();
        tokio::io::AsyncWriteExt::shutdown(&mut stream).await.unwrap();
        let answer = read_all(&mut stream).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400 "), "{body:?} gave {answer}");
        // The client's fault, not the replica's.
        until(|| world.counters(0) == (0, 0, 0)).await;
    }
}

#[tokio::test]
async fn the_rest_of_a_body_that_nobody_read_is_no_request() {
    let replica = Replica::new(|_| async { text("a") }).await;
    let world = World::new(settings(), &[replica.address]).await;
    let rest = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    let head = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", 10 + rest.len());
    for part in [head.clone(), format!("{head}0123456789")] {
        let mut stream = world.connect().await;
        stream.write_all(part.as_bytes()).await.unwrap();
        // The replica answers before the body has come, and does not read it.
        assert!(read_until(&mut stream, "\r\n\r\na").await.starts_with("HTTP/1.1 200 OK"));
        // Longer than the state of HTTP is kept.
        tokio::time::sleep(Duration::from_millis(1300)).await;
        let _ = stream.write_all(rest).await;
        assert_eq!(read_all(&mut stream).await, "");
    }
    assert_eq!(replica.requests(), 2);
}

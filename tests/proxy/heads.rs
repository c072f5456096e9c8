//! I/O: what a replica sees of a client's head and a client of a replica's.

use std::net::SocketAddr;

use tokio::io::AsyncWriteExt;

use crate::harness::*;

/// A replica that answers with the head it was sent.
async fn mirror() -> SocketAddr {
    listen(|mut stream| async move {
        let head = read_until(&mut stream, "\r\n\r\n").await;
        let length = head.len();
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{head}");
        stream.write_all(answer.as_bytes()).await.unwrap();
    })
    .await
}

/// A replica that answers with these bytes and closes.
async fn canned(answer: &'static str) -> SocketAddr {
    listen(move |mut stream| async move {
        read_until(&mut stream, "\r\n\r\n").await;
        stream.write_all(answer.as_bytes()).await.unwrap();
    })
    .await
}

#[tokio::test]
async fn request_heads() {
    let world = World::new(settings(), &[mirror().await]).await;
    let check = async |request: &str, present: &[&str], absent: &[&str]| {
        let request = request.replace('\n', "\r\n") + "Connection: close\r\n\r\n";
        let answer = world.exchange(&request).await;
        let (_, seen) = answer.split_once("\r\n\r\n").expect("an answer");
        let seen = seen.to_ascii_lowercase();
        for expected in present {
            let count = seen.lines().filter(|line| line == expected).count();
            assert_eq!(count, 1, "{expected} in {seen}");
        }
        for name in absent {
            assert!(!seen.contains(name), "no {name} in {seen}");
        }
    };
    let peer = "x-forwarded-for: 127.0.0.1";
    // Host, target and ordinary headers stay; client, host and protocol are added.
    check(
        "GET /a%20b?c=%2F&d HTTP/1.1\nHost: shop.example\nAccept: text/plain\nX-Own: 1\n",
        &[
            "get /a%20b?c=%2f&d http/1.1",
            "host: shop.example",
            "accept: text/plain",
            "x-own: 1",
            peer,
            "x-forwarded-host: shop.example",
            "x-forwarded-proto: http",
        ],
        &["connection:"],
    )
    .await;
    // What a client says of itself, and of its request's name, is replaced.
    check(
        "GET / HTTP/1.1\nHost: a\nX-Forwarded-For: 192.0.2.1, 192.0.2.2\n\
         X-Forwarded-For: 2001:db8::1\nX-Forwarded-Proto: https\nX-Forwarded-Host: b\n\
         Forwarded: for=192.0.2.1\nX-Request-Id: mine\n",
        &[peer, "x-forwarded-proto: http", "x-forwarded-host: a", "host: a"],
        &["192.0.2", "2001", "https", "\nforwarded", "mine"],
    )
    .await;
    // Meant for this hop only, by name or because Connection says so; nor can Connection take our
    // own away.
    check(
        "GET / HTTP/1.1\nHost: a\nKeep-Alive: 5\nProxy-Connection: x\n\
         Proxy-Authorization: y\nTE: gzip\nConnection: x-secret, Host, X-Forwarded-For\n\
         X-Secret: z\nUpgrade: h2c\n",
        &["host: a", peer],
        &["keep-alive", "proxy-", "te:", "connection:", "x-secret", "upgrade"],
    )
    .await;
    // HTTP/2 would be a tunnel for requests that nobody counts.
    check(
        "GET / HTTP/1.1\nHost: a\nConnection: Upgrade, HTTP2-Settings\nUpgrade: h2c\n\
         HTTP2-Settings: AAMAAABk\n",
        &["host: a"],
        &["upgrade", "http2", "connection:"],
    )
    .await;
    // Trailers are passed on, so that the client's wish for them may be too.
    check(
        "GET / HTTP/1.1\nHost: a\nTE: gzip, trailers\n",
        &["te: trailers", "connection: te"],
        &[],
    )
    .await;
    // HTTP/1.0 may come without a host; the replica gets one all the same.
    check("GET / HTTP/1.0\n", &["get / http/1.1", peer], &["x-forwarded-host"]).await;
    // A target in absolute form overrules the header.
    check(
        "GET http://user:secret@shop.example:81/x HTTP/1.1\nHost: other\n",
        &["get /x http/1.1", "host: shop.example:81"],
        &["secret", "other"],
    )
    .await;
    check("DELETE / HTTP/1.1\nHost: a\nContent-Length: 0\n", &["content-length: 0"], &[]).await;
    check("OPTIONS /y HTTP/1.1\nHost: a\nOrigin: b\n", &["options /y http/1.1"], &[]).await;
}

#[tokio::test]
async fn a_trusted_proxy_speaks_for_its_clients() {
    let mut trusting = settings();
    trusting.proxy.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    let world = World::new(trusting, &[mirror().await]).await;
    let request = "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 192.0.2.1, 192.0.2.2\r\n\
                   X-Forwarded-For: 2001:db8::1\r\nX-Forwarded-Proto: https\r\n\
                   X-Forwarded-Host: b\r\nForwarded: for=x\r\nX-Request-Id: theirs\r\n\
                   Connection: close\r\n\r\n";
    let answer = world.exchange(request).await.to_ascii_lowercase();
    for expected in [
        "x-forwarded-for: 192.0.2.1, 192.0.2.2, 2001:db8::1, 127.0.0.1\r\n",
        "x-forwarded-proto: https\r\n",
        "x-forwarded-host: b\r\n",
        "\r\nhost: a\r\n",
        "\r\nforwarded: for=x, for=127.0.0.1;proto=http;host=\"a\"\r\n",
        "x-request-id: theirs\r\n",
    ] {
        assert_eq!(answer.matches(expected).count(), 1, "{expected} in {answer}");
    }
}

#[tokio::test]
async fn answer_heads() {
    let check = async |method: &str, answer: &'static str, expected: &str, absent: &[&str]| {
        let world = World::new(settings(), &[canned(answer).await]).await;
        let request = format!("{method} / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        let seen = world.exchange(request).await;
        assert!(seen.starts_with(expected), "{seen}");
        let (head, body) = seen.split_once("\r\n\r\n").unwrap();
        for name in absent {
            assert!(!head.contains(name), "no {name} in {head}");
        }
        until(|| world.counters(0) == (0, 1, 0)).await;
        body.to_string()
    };
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: x-hop\r\n\
                   X-Hop: 1\r\nKeep-Alive: 9\r\nX-Own: 2\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    let body = check("GET", chunked, "HTTP/1.1 200 OK\r\n", &["x-hop", "keep-alive"]).await;
    assert_eq!(body, "5\r\nhello\r\n0\r\n\r\n");
    // An old replica that ends its answer by closing.
    let closing = "HTTP/1.0 203 Own Words\r\nX-Own: 2\r\n\r\nhello";
    let body = check("GET", closing, "HTTP/1.1 203 ", &[]).await;
    assert_eq!(body, "5\r\nhello\r\n0\r\n\r\n");
    // Lengths of bodies that are not there are passed on.
    let sized = "HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n";
    assert_eq!(check("HEAD", sized, "HTTP/1.1 200 OK\r\ncontent-length: 1234", &[]).await, "");
    let unchanged = "HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\n\r\n";
    assert_eq!(check("GET", unchanged, "HTTP/1.1 304 Not Modified\r\netag: \"a\"", &[]).await, "");
    // Early hints are for this hop to drop; the answer follows.
    let hinted = "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n";
    assert_eq!(check("GET", hinted, "HTTP/1.1 204 No Content", &["link"]).await, "");
    // An answer of the replica's own is its business, errors too.
    let failing = "HTTP/1.1 503 Busy\r\nContent-Length: 2\r\nRetry-After: 7\r\n\r\nno";
    assert_eq!(check("GET", failing, "HTTP/1.1 503 ", &[]).await, "no");
}

#[tokio::test]
async fn trailers_pass_both_ways() {
    let replica = listen(|mut stream| async move {
        let head = read_until(&mut stream, "\r\n\r\n").await.to_ascii_lowercase();
        assert!(head.contains("trailer: x-sum\r\n"), "{head}");
        let body = read_until(&mut stream, "\r\n\r\n").await;
        assert_eq!(body.to_ascii_lowercase(), "3\r\nabc\r\n0\r\nx-sum: 6\r\n\r\n");
        let answer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n\
                      2\r\nde\r\n0\r\nX-Sum: 9\r\n\r\n";
        stream.write_all(answer.as_bytes()).await.unwrap();
    })
    .await;
    let world = World::new(settings(), &[replica]).await;
    let request = "POST / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nConnection: te\r\n\
                   Trailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n\
                   3\r\nabc\r\n0\r\nX-Sum: 6\r\n\r\n";
    let answer = world.exchange(request).await;
    assert!(answer.ends_with("2\r\nde\r\n0\r\nx-sum: 9\r\n\r\n"), "{answer}");
}

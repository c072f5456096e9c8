//! I/O: limits: slow and greedy clients, full queues, spent budgets; and what is written of it all.

use std::time::Duration;

use foresail::config::{self, AccessLog, LogFormat, Queue, Retry, Sticky};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::harness::*;

const BRIEF: Duration = Duration::from_millis(100);

#[tokio::test]
async fn slow_clients_are_let_go() {
    let replica = Replica::named("a").await;
    let mut short = settings();
    let timeouts = &mut short.proxy.timeouts;
    (timeouts.idle, timeouts.head, timeouts.body) = (BRIEF, BRIEF, BRIEF);
    let world = World::new(short, &[replica.address]).await;
    let check = async |sent: &str, expected: &str| {
        let mut stream = world.connect().await;
        stream.write_all(sent.as_bytes()).await.unwrap();
        let answer = read_all(&mut stream).await;
        assert!(answer.starts_with(expected), "{sent:?} gave {answer:?}");
        assert_eq!(answer.is_empty(), expected.is_empty(), "{sent:?} gave {answer:?}");
    };
    check("", "").await;
    check("GET / HT", "").await;
    check("GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\n", "").await;
    // An idle connection after an answer, and half a second request.
    check("GET / HTTP/1.1\r\nHost: a\r\n\r\n", "HTTP/1.1 200").await;
    check("GET / HTTP/1.1\r\nHost: a\r\n\r\nGET", "HTTP/1.1 200").await;
    let body = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhalf";
    check(body, "HTTP/1.1 408").await;
    // A head that comes a byte at a time has no more time than one that does not come.
    let mut stream = world.connect().await;
    let began = tokio::time::Instant::now();
    while stream.write_all(b"G").await.is_ok() && began.elapsed() < PATIENCE {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(began.elapsed() < PATIENCE);
    assert_eq!(world.counters(0).2, 0);
}

#[tokio::test]
async fn an_answer_that_stalls_ends() {
    let replica = listen(|mut stream| async move {
        read_until(&mut stream, "\r\n\r\n").await;
        let half = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf";
        stream.write_all(half).await.unwrap();
        read_all(&mut stream).await;
    })
    .await;
    let mut short = settings();
    short.proxy.timeouts.answer = BRIEF;
    let world = World::new(short, &[replica]).await;
    let answer = world.exchange("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(answer.ends_with("\r\n\r\nhalf"), "{answer}");
    until(|| world.in_flight(0) == 0).await;
}

#[tokio::test]
async fn a_connection_that_was_idle_for_long_serves_on() {
    let replica = Replica::named("a").await;
    let world = World::new(settings(), &[replica.address]).await;
    let mut stream = world.connect().await;
    for _ in 0..2 {
        stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        read_until(&mut stream, "\r\n\r\na").await;
        // Longer than the state of HTTP is kept.
        tokio::time::sleep(Duration::from_millis(1300)).await;
    }
}

#[tokio::test]
async fn a_head_that_began_with_the_request_before_may_take_its_time() {
    let replica = Replica::named("a").await;
    let world = World::new(settings(), &[replica.address]).await;
    let mut stream = world.connect().await;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HT").await.unwrap();
    read_until(&mut stream, "\r\n\r\na").await;
    // Longer than the state of HTTP is kept.
    tokio::time::sleep(Duration::from_millis(1300)).await;
    stream.write_all(b"TP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    assert!(read_until(&mut stream, "\r\n\r\na").await.starts_with("HTTP/1.1 200 OK"));
}

#[tokio::test]
async fn a_head_that_stays_half_ends_its_connection() {
    let mut short = settings();
    short.proxy.timeouts.head = Duration::from_millis(400);
    let replica = Replica::named("a").await;
    let world = World::new(short, &[replica.address]).await;
    let answers = world.exchange(b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HT").await;
    assert!(
        answers.ends_with("\r\n\r\na") && answers.matches("HTTP/1.1").count() == 1,
        "{answers}"
    );
}

#[tokio::test]
async fn bodies_have_a_largest_size() {
    let replica = Replica::named("a").await;
    let mut small = settings();
    small.proxy.limits.body_bytes = Some(10);
    let world = World::new(small, &[replica.address]).await;
    let check = async |length: &str, body: &str, expected: &str| {
        let head = format!("POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{length}\r\n\r\n");
        let answer = world.exchange(head + body).await;
        assert!(answer.starts_with(expected), "{length} gave {answer}");
    };
    check("Content-Length: 10", "0123456789", "HTTP/1.1 200").await;
    check("Content-Length: 11", "0123456789a", "HTTP/1.1 413").await;
    let chunked = "Transfer-Encoding: chunked";
    check(chunked, "a\r\n0123456789\r\n0\r\n\r\n", "HTTP/1.1 200").await;
    check(chunked, "a\r\n0123456789\r\n1\r\na\r\n0\r\n\r\n", "HTTP/1.1 413").await;
    assert_eq!(world.counters(0).2, 0);
}

#[tokio::test]
async fn connections_have_a_largest_number() {
    let replica = Replica::named("a").await;
    let mut few = settings();
    few.proxy.limits.connections = 2;
    let world = World::new(few, &[replica.address]).await;
    let mut kept = [world.connect().await, world.connect().await];
    for stream in &mut kept {
        stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        read_until(stream, "\r\n\r\na").await;
    }
    // The refused linger, take nobody's place, and beyond as many again are let go unheard.
    let mut refused = Vec::new();
    within(async {
        loop {
            let mut stream = world.connect().await;
            let answer = read_all(&mut stream).await;
            if answer.is_empty() {
                break;
            }
            assert!(answer.starts_with("HTTP/1.1 503 Service Unavailable\r\n"), "{answer}");
            assert!(answer.contains("retry-after: ") && answer.contains("too_many_connections"));
            refused.push(stream);
        }
    })
    .await;
    assert!(!refused.is_empty());
    drop(kept);
    within(async {
        let request = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        while !world.exchange(request).await.starts_with("HTTP/1.1 200") {}
    })
    .await;
}

#[tokio::test]
async fn requests_beyond_room_and_queue_are_refused_and_those_in_it_are_served() {
    let (release, released) = tokio::sync::watch::channel(false);
    let replica = Replica::new(move |_| {
        let mut released = released.clone();
        async move {
            let _ = released.wait_for(|released| *released).await;
            text("a")
        }
    })
    .await;
    let one = config::Balancer {
        max_in_flight: Some(1),
        queue: Queue { max: 1, timeout: PATIENCE },
        ..settings()
    };
    let world = std::sync::Arc::new(World::new(one, &[replica.address]).await);
    // The limit is of the first snapshot.
    let ask = || {
        let world = std::sync::Arc::clone(&world);
        tokio::spawn(async move { get(&client(), &world).await })
    };
    let first = ask();
    until(|| world.in_flight(0) == 1).await;
    let second = ask();
    until(|| world.offered().1 == 1).await;
    let (status, body) = within(ask()).await.unwrap();
    assert_eq!((status, body.contains("\"full\"")), (503, true), "{body}");
    release.send(true).unwrap();
    for asked in [first, second] {
        assert_eq!(within(asked).await.unwrap(), (200, "a".to_string()));
    }
    assert_eq!(replica.requests(), 2);
}

#[tokio::test]
async fn retries_end_with_their_budget() {
    let broken = nobody().await;
    let none = config::Balancer { retry: Retry { share: 0.0, min_per_second: 0 }, ..settings() };
    let replica = Replica::named("a").await;
    let world = World::new(none, &[broken, replica.address]).await;
    let client = client();
    let mut statuses = Vec::new();
    for _ in 0..6 {
        statuses.push(get(&client, &world).await.0);
    }
    // Every other request meets the broken one; the budget is one retry.
    assert_eq!(statuses.iter().filter(|status| **status == 502).count(), 2, "{statuses:?}");
}

#[tokio::test]
async fn a_client_stays_by_its_cookie() {
    let (a, b) = (Replica::named("a").await, Replica::named("b").await);
    let sticky = Sticky { cookie: "stay".to_owned(), lifetime: None };
    let settings = config::Balancer { sticky: Some(sticky), ..settings() };
    let world = World::new(settings, &[a.address, b.address]).await;
    let ask = async |cookie: &str| {
        let head = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n";
        world.exchange(format!("{head}{cookie}\r\n")).await
    };
    let first = ask("").await;
    let (_, set) = first.split_once("set-cookie: ").expect("a cookie");
    let pair = set.split_once(';').unwrap().0;
    for _ in 0..4 {
        let next = ask(&format!("Cookie: x=y; {pair}\r\n")).await;
        assert!(!next.contains("set-cookie"), "{next}");
        assert_eq!(next.chars().last(), first.chars().last());
    }
    assert!(ask("Cookie: stay=nonsense\r\n").await.contains("set-cookie: stay="));
}

#[tokio::test]
async fn each_request_is_a_line_of_the_log() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.log");
    let mut logging = settings();
    logging.proxy.access_log = Some(AccessLog { path: path.clone(), format: LogFormat::Json });
    let replica = Replica::named("answer").await;
    let world = World::new(logging, &[replica.address]).await;
    let request = "GET /a?b HTTP/1.1\r\nHost: shop\r\nUser-Agent: t\r\nConnection: close\r\n\r\n";
    world.exchange(request).await;
    world.exchange("OPTIONS * HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n\r\n").await;
    let read = || std::fs::read_to_string(&path).unwrap_or_default();
    until(|| read().lines().count() == 2).await;
    let lines: Vec<serde_json::Value> =
        read().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for (key, value) in [
        ("client", "127.0.0.1"),
        ("method", "GET"),
        ("target", "/a?b"),
        ("host", "shop"),
        ("replica", "r0"),
        ("user_agent", "t"),
    ] {
        assert_eq!(lines[0][key], value, "{key}");
    }
    assert_eq!((&lines[0]["status"], &lines[0]["bytes"]), (&200.into(), &6.into()));
    assert_eq!(lines[0]["request_id"].as_str().map(str::len), Some(32));
    assert_eq!((&lines[1]["status"], lines[1]["replica"].is_null()), (&501.into(), true));
}

#[tokio::test]
async fn what_a_replica_says_unasked_reaches_nobody() {
    // Two answers to one request: the second would be the next client's.
    let replica = listen(|mut stream| async move {
        loop {
            let mut head = [0; 4096];
            if stream.read(&mut head).await.unwrap_or(0) == 0 {
                return;
            }
            let answer = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nmine";
            let more = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nothers";
            // In one piece or two, before or after the connection is put back.
            let _ = stream.write_all(format!("{answer}{more}").as_bytes()).await;
            let _ = stream.write_all(more.as_bytes()).await;
        }
    })
    .await;
    let world = World::new(settings(), &[replica]).await;
    let client = client();
    for _ in 0..200 {
        assert_eq!(get(&client, &world).await, (200, "mine".to_string()));
    }
    // Pipelined requests of one client get an answer each, and none of these.
    let request = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let last = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let answer = world.exchange(format!("{request}{request}{last}")).await;
    assert_eq!((answer.matches("mine").count(), answer.matches("others").count()), (3, 0));
}

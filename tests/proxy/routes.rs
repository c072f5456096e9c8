//! I/O: several services on one listener, told apart by host and path; each comes and goes alone.

use std::net::SocketAddr;
use std::sync::Arc;

use foresail::balancer::{Snapshot, Target};
use foresail::config::Balancer;
use foresail::io::proxy::{JoinError, Listeners};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::harness::*;

/// A service with one replica, in its place on a listener.
struct Service {
    address: SocketAddr,
    stop: CancellationToken,
    served: JoinHandle<()>,
}

impl Service {
    fn join(
        listeners: &Listeners,
        name: &str,
        settings: &Balancer,
        replica: SocketAddr,
    ) -> Result<Service, JoinError> {
        let place = listeners.join(name, settings)?;
        let targets = vec![Target { ready: true, ..Target::new(name.to_owned(), replica) }];
        let snapshot = Snapshot::new(settings.rules(), targets, None);
        let (_, snapshots) = watch::channel(Arc::new(snapshot));
        let (address, stop) = (place.address(), CancellationToken::new());
        let served = tokio::spawn(place.serve(snapshots, stop.clone()));
        Ok(Service { address, stop, served })
    }

    async fn leave(self) {
        self.stop.cancel();
        within(self.served).await.unwrap();
    }
}

fn routed(listen: SocketAddr, routes: &[&str]) -> Balancer {
    let routes = routes.iter().map(|route| route.parse().unwrap()).collect();
    Balancer { listen, routes, ..settings() }
}

/// Status and whole answer of a request on a connection that is kept.
async fn ask(stream: &mut TcpStream, host: &str, path: &str, end: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let answer = read_until(stream, end).await;
    answer.split(' ').nth(1).unwrap_or_default().to_owned()
}

const NO_ROUTE: &str = "\"message\":\"no service is at this host and path\"}}";

#[tokio::test]
async fn host_and_path_choose_the_service_request_by_request() {
    let (shop, files) = (Replica::named("<shop>").await, Replica::named("<files>").await);
    let listeners = Listeners::new(threads(), CancellationToken::new());
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let settings = routed(any, &["shop.example", "*.shop.example"]);
    let first = Service::join(&listeners, "shop", &settings, shop.address).unwrap();
    let settings = routed(first.address, &["/static", "shop.example/files"]);
    let second = Service::join(&listeners, "files", &settings, files.address).unwrap();
    assert_eq!(first.address, second.address);
    let mut stream = TcpStream::connect(first.address).await.unwrap();

    for (host, path, end) in [
        ("shop.example", "/", "<shop>"),
        ("shop.example", "/files/a?b", "<files>"),
        ("a.shop.example:80", "/static", "<shop>"),
        ("other.example", "/static/a", "<files>"),
        ("other.example", "/", NO_ROUTE),
        ("shop.example", "/static", "<shop>"),
    ] {
        let status = ask(&mut stream, host, path, end).await;
        assert_eq!(status, if end == NO_ROUTE { "404" } else { "200" }, "{host}{path}");
    }
    // A target in absolute form overrules the header.
    assert_eq!(ask(&mut stream, "x", "http://shop.example/", "<shop>").await, "200");
    assert_eq!((shop.requests(), files.requests()), (4, 2));
}

#[tokio::test]
async fn a_service_leaves_once_its_requests_are_answered_and_the_others_stay() {
    let gate = Arc::new(Notify::new());
    let held = Arc::clone(&gate);
    let slow = Replica::new(move |_| {
        let gate = Arc::clone(&held);
        async move {
            gate.notified().await;
            text("<slow>")
        }
    })
    .await;
    let fast = Replica::named("<fast>").await;
    let listeners = Listeners::new(threads(), CancellationToken::new());
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let leaves = Service::join(&listeners, "slow", &routed(any, &["/slow"]), slow.address).unwrap();
    let address = leaves.address;
    let stays = Service::join(&listeners, "fast", &routed(address, &["/"]), fast.address).unwrap();

    let mut waiting = TcpStream::connect(address).await.unwrap();
    waiting.write_all(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    until(|| slow.requests() == 1).await;
    leaves.stop.cancel();
    let mut kept = TcpStream::connect(address).await.unwrap();
    // Once its route is gone, its requests are the other's.
    within(async { while ask(&mut kept, "a", "/slow", ">").await != "200" {} }).await;
    assert!(!leaves.served.is_finished(), "a request is still at the replica");
    gate.notify_one();
    assert!(read_until(&mut waiting, "<slow>").await.starts_with("HTTP/1.1 200 OK"));
    within(leaves.served).await.unwrap();
    assert_eq!(ask(&mut waiting, "a", "/slow", "<fast>").await, "200");

    stays.leave().await;
    // The last one closed the listener: the address is free.
    let again = Service::join(&listeners, "slow", &routed(address, &["/"]), fast.address).unwrap();
    assert_eq!(again.address, address);
}

#[tokio::test]
async fn services_that_cannot_share_a_listener_are_refused() {
    let listeners = Listeners::new(threads(), CancellationToken::new());
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let place = listeners.join("a", &routed(any, &["/"])).unwrap();
    let address = place.address();
    let refused = |settings: &Balancer| listeners.join("b", settings).err().unwrap().to_string();
    let same = refused(&routed(address, &["/b", "/"]));
    assert!(same.contains("is for service `a` already"), "{same}");
    let mut other = routed(address, &["/b"]);
    other.proxy.forwarded = true;
    let unlike = refused(&other);
    assert!(unlike.contains("make `timeouts`"), "{unlike}");
    drop(place);
    listeners.join("b", &other).expect("nobody is there any more");
}

#[tokio::test]
async fn all_services_of_a_listener_end_together() {
    let shutdown = CancellationToken::new();
    let replica = Replica::named("<a>").await;
    let listeners = Listeners::new(threads(), shutdown.clone());
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let a = Service::join(&listeners, "a", &routed(any, &["/"]), replica.address).unwrap();
    let b = Service::join(&listeners, "b", &routed(a.address, &["/b"]), replica.address).unwrap();
    let mut idle = TcpStream::connect(a.address).await.unwrap();
    assert_eq!(ask(&mut idle, "a", "/", "<a>").await, "200");
    shutdown.cancel();
    let address = a.address;
    a.leave().await;
    b.leave().await;
    assert_eq!(read_all(&mut idle).await, "");
    assert!(TcpStream::connect(address).await.is_err(), "the listener is closed");
}

//! A client's bytes through the whole proxy, over sockets: what reaches the replica is clean, and
//! what comes back is HTTP from the first byte to the last.
#![no_main]

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use foresail::balancer::{Route, Snapshot, Target};
use foresail::config::Balancer;
use foresail::io::proxy::{Listeners, Threads};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use libfuzzer_sys::fuzz_target;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

/// Longer than any answer takes; a connection that is open for longer hangs.
const PATIENCE: Duration = Duration::from_secs(20);

static WORLD: LazyLock<(Runtime, SocketAddr)> = LazyLock::new(|| {
    let runtime = Runtime::new().expect("threads");
    let address = runtime.block_on(start());
    (runtime, address)
});

/// The proxy's address.
async fn start() -> SocketAddr {
    let socket = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let replica = socket.local_addr().expect("bound");
    tokio::spawn(async move {
        while let Ok((stream, _)) = socket.accept().await {
            let service = hyper::service::service_fn(answer);
            let http = hyper::server::conn::http1::Builder::new();
            tokio::spawn(http.serve_connection(TokioIo::new(stream), service));
        }
    });
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let mut settings = Balancer::new(any);
    settings.routes.push("a.example/b".parse::<Route>().expect("a route"));
    settings.proxy.forwarded = true;
    settings.proxy.timeouts.head = Duration::from_secs(1);
    settings.proxy.timeouts.body = Duration::from_secs(1);
    let listeners = Listeners::new(Threads::start().expect("threads"), CancellationToken::new());
    let place = listeners.join("web", &settings).expect("a port");
    let target = Target { ready: true, ..Target::new("r".to_owned(), replica) };
    let snapshot = Arc::new(Snapshot::new(settings.rules(), vec![target], None));
    let (_, snapshots) = tokio::sync::watch::channel(snapshot);
    let address = place.address();
    tokio::spawn(place.serve(snapshots, CancellationToken::new()));
    address
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let headers = request.headers();
    let one = |name: &str| assert_eq!(headers.get_all(name).iter().count(), 1, "{name}");
    ["x-forwarded-for", "forwarded", "x-request-id"].into_iter().for_each(one);
    for hop in ["keep-alive", "proxy-connection", "proxy-authorization"] {
        assert!(!headers.contains_key(hop), "{hop}");
    }
    assert!(!(headers.contains_key("content-length") && headers.contains_key("transfer-encoding")));
    let body = request.into_body().collect().await.map(|body| body.to_bytes());
    Ok(Response::new(Full::new(body.unwrap_or_default())))
}

fuzz_target!(|bytes: &[u8]| {
    let (runtime, address) = &*WORLD;
    let talk = async {
        let mut stream = TcpStream::connect(address).await.expect("it listens");
        // It may refuse and close before everything is written.
        let _ = stream.write_all(bytes).await;
        let _ = stream.shutdown().await;
        let mut answers = Vec::new();
        let _ = stream.read_to_end(&mut answers).await;
        assert!(answers.is_empty() || answers.starts_with(b"HTTP/1."), "{answers:?}");
    };
    let talked = runtime.block_on(async { tokio::time::timeout(PATIENCE, talk).await });
    talked.expect("the connection ends");
});

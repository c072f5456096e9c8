//! I/O: replicas, clients and a proxy between them, all on 127.0.0.1.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use foresail::balancer::{Algorithm, Route, Snapshot, Target};
use foresail::config;
use foresail::io::proxy;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response};
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Longest time for anything to happen that the test waits for.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub type Body = BoxBody<Bytes, Infallible>;

/// The proxy under test. Its replicas are whatever was published last.
pub struct World {
    pub address: SocketAddr,
    pub shutdown: CancellationToken,
    pub served: JoinHandle<()>,
    pub snapshots: watch::Sender<Arc<Snapshot>>,
    algorithm: Algorithm,
}

/// Generous limits; a test shortens the one that it is about.
pub fn settings() -> config::Balancer {
    config::Balancer {
        algorithm: Algorithm::RoundRobin,
        queue: config::Queue { max: 10_000, timeout: PATIENCE },
        connect_timeout: PATIENCE,
        response_timeout: PATIENCE,
        ..config::Balancer::new(SocketAddr::from(([127, 0, 0, 1], 0)))
    }
}

/// The threads of all proxies of this process.
pub fn threads() -> proxy::Threads {
    static THREADS: OnceLock<proxy::Threads> = OnceLock::new();
    THREADS.get_or_init(|| proxy::Threads::start().unwrap()).clone()
}

impl World {
    /// A proxy in front of `replicas`, all ready, named r0, r1, …
    pub async fn new(settings: config::Balancer, replicas: &[SocketAddr]) -> World {
        World::on(threads(), settings, replicas).await
    }

    pub async fn on(
        threads: proxy::Threads,
        settings: config::Balancer,
        replicas: &[SocketAddr],
    ) -> World {
        let algorithm = settings.algorithm;
        let rules = settings.rules();
        let listener = TcpListener::bind(settings.listen).await.unwrap();
        let address = listener.local_addr().unwrap();
        let snapshot = Arc::new(Snapshot::new(rules, Vec::new(), None));
        let (snapshots, receiver) = watch::channel(snapshot);
        let shutdown = CancellationToken::new();
        let clients = settings.proxy.clone();
        let dispatcher = Arc::new(proxy::Dispatcher::new(settings, receiver));
        let routes = proxy::Routes::new(vec![(Route::any(), dispatcher)]);
        // The sender may go: the routes stay as they are.
        let (_, routes) = watch::channel(Arc::new(routes));
        let served = proxy::serve(listener, clients, routes, threads, shutdown.clone());
        let served = tokio::spawn(served);
        let world = World { address, shutdown, served, snapshots, algorithm };
        world.publish(&replicas.iter().map(|address| (*address, true)).collect::<Vec<_>>());
        world
    }

    /// Replaces the replicas; r0, r1, … by position, with their readiness.
    pub fn publish(&self, replicas: &[(SocketAddr, bool)]) {
        let target = |(index, (address, ready)): (usize, &(SocketAddr, bool))| Target {
            ready: *ready,
            ..Target::new(format!("r{index}"), *address)
        };
        let targets = replicas.iter().enumerate().map(target).collect();
        let before = self.snapshots.borrow().clone();
        self.snapshots.send_replace(Arc::new(Snapshot::new(
            self.algorithm,
            targets,
            Some(&before),
        )));
    }

    /// Requests in flight, answered and failed at replica `index`.
    pub fn counters(&self, index: usize) -> (u32, u64, u64) {
        let snapshot = self.snapshots.borrow();
        let id = format!("r{index}");
        let target = snapshot.targets().iter().find(|target| target.id == id).unwrap();
        let counters = &target.counters;
        (
            counters.in_flight.load(Ordering::Acquire),
            counters.requests.load(Ordering::Acquire),
            counters.failures.load(Ordering::Acquire),
        )
    }

    pub fn in_flight(&self, index: usize) -> u32 {
        self.counters(index).0
    }

    /// Requests arrived, waiting and refused.
    pub fn offered(&self) -> (u64, u32, u64) {
        let offered = Arc::clone(self.snapshots.borrow().offered());
        (
            offered.arrived.load(Ordering::Acquire),
            offered.waiting.load(Ordering::Acquire),
            offered.refused.load(Ordering::Acquire),
        )
    }

    pub async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    pub fn uri(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// Sends `bytes` on a connection of its own and returns all that comes back until it is closed.
    pub async fn exchange(&self, bytes: impl AsRef<[u8]>) -> String {
        let mut stream = self.connect().await;
        // The proxy may refuse and close before it has read everything.
        let _ = stream.write_all(bytes.as_ref()).await;
        read_all(&mut stream).await
    }
}

/// A replica that answers by a function, and counts.
pub struct Replica {
    pub address: SocketAddr,
    pub connections: Arc<AtomicU32>,
    pub requests: Arc<AtomicU32>,
}

impl Replica {
    pub async fn new<F, A>(answer: F) -> Replica
    where
        F: Fn(Request<Incoming>) -> A + Clone + Send + Sync + 'static,
        A: Future<Output = Response<Body>> + Send + 'static,
    {
        let (connections, requests) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
        let (seen, answered) = (Arc::clone(&connections), Arc::clone(&requests));
        let address = listen(move |stream| {
            seen.fetch_add(1, Ordering::AcqRel);
            let (answer, answered) = (answer.clone(), Arc::clone(&answered));
            let service = hyper::service::service_fn(move |request| {
                answered.fetch_add(1, Ordering::AcqRel);
                let answer = answer(request);
                async move { Ok::<_, Infallible>(answer.await) }
            });
            async move {
                let http = hyper::server::conn::http1::Builder::new();
                // Clients of a replica break off in many tests; that is their subject, not an error
                // here.
                let _ = http.serve_connection(TokioIo::new(stream), service).await;
            }
        })
        .await;
        Replica { address, connections, requests }
    }

    /// Answers `name`, after having read the request's body.
    pub async fn named(name: &'static str) -> Replica {
        Replica::new(move |request| async move {
            let _ = request.into_body().collect().await;
            text(name)
        })
        .await
    }

    pub fn requests(&self) -> u32 {
        self.requests.load(Ordering::Acquire)
    }
}

/// Listens, and runs `serve` for each connection.
pub async fn listen<F, S>(serve: F) -> SocketAddr
where
    F: Fn(TcpStream) -> S + Send + 'static,
    S: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    });
    address
}

/// An address at which nobody listens.
pub async fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

pub fn text(text: impl Into<Bytes>) -> Response<Body> {
    Response::new(Full::new(text.into()).boxed())
}

pub type HttpClient = Client<hyper_util::client::legacy::connect::HttpConnector, Full<Bytes>>;

pub fn client() -> HttpClient {
    Client::builder(TokioExecutor::new()).build_http()
}

/// Status and body of a request without body.
pub async fn get(client: &HttpClient, world: &World) -> (u16, String) {
    send(client, Request::get(world.uri()).body(Full::default()).unwrap()).await
}

pub async fn post(client: &HttpClient, world: &World, body: &'static str) -> (u16, String) {
    send(client, Request::post(world.uri()).body(Full::from(body)).unwrap()).await
}

pub async fn send(client: &HttpClient, request: Request<Full<Bytes>>) -> (u16, String) {
    let response = within(client.request(request)).await.unwrap();
    let status = response.status().as_u16();
    let body = within(response.into_body().collect()).await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

/// Bytes up to and including the first `end`, lossy as text.
pub async fn read_until(stream: &mut TcpStream, end: &str) -> String {
    let mut read = Vec::new();
    while !read.ends_with(end.as_bytes()) {
        match within(stream.read_u8()).await {
            Ok(byte) => read.push(byte),
            Err(error) => panic!("{error} after {:?}", String::from_utf8_lossy(&read)),
        }
    }
    String::from_utf8_lossy(&read).into_owned()
}

/// Everything until the other side closes, lossy as text.
pub async fn read_all(stream: &mut TcpStream) -> String {
    let mut read = Vec::new();
    // A reset after an answer to a request not read to its end is as good as a close.
    let _ = within(stream.read_to_end(&mut read)).await;
    String::from_utf8_lossy(&read).into_owned()
}

pub async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future).await.expect("it happens in time")
}

/// Waits until `condition` holds.
pub async fn until(condition: impl Fn() -> bool) {
    within(async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

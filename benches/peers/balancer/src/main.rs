//! How long one choice takes: Foresail's balancer, pingora-load-balancing and tower's p2c, in one
//! run, in turns, on the same draws. Prints a Markdown table in nanoseconds, the
//! best of the rounds: whatever else the machine does only adds.
//!
//! Foresail's own source is compiled in. Choosing is all that is timed: for pingora `select`, for
//! tower `poll_ready` (which draws and compares) and `call` of a service that does nothing, as there
//! is no choice without it, and under peak EWMA the clock; for Foresail `pick`, then `take`, which
//! also counts the request as in flight and ends it, and then with the clock and the answer's
//! report: what tower's does.

#[path = "../../../../src"]
mod foresail {
    #[allow(dead_code, unused_imports)]
    pub mod balancer;
}
mod fleet {
    pub type ReplicaId = String;
}

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::hint::black_box;
use std::net::{Ipv4Addr, SocketAddr};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use foresail::balancer::{Algorithm, Key, Outcome, OutcomeKind, Snapshot, Target, hash, mix};
use pingora_load_balancing::LoadBalancer;
use pingora_load_balancing::selection::{
    BackendIter, BackendSelection, Consistent, FNVHash, Random, RoundRobin,
};
use tower::Service;
use tower::balance::p2c::Balance;
use tower::discover::ServiceList;
use tower::load::{CompleteOnResponse, PeakEwmaDiscover, PendingRequestsDiscover};

const REPLICAS: [u16; 3] = [10, 100, 1000];
const ROUNDS: usize = 15;
const CHOICES: u32 = 200_000;

/// One contender: makes the choice of a number.
type Chooser = Box<dyn FnMut(u64)>;

fn main() {
    let names: Vec<String> = contenders(2).into_iter().map(|(name, _)| name).collect();
    let mut columns = Vec::new();
    for replicas in REPLICAS {
        let mut contenders = contenders(replicas);
        let mut times = vec![Vec::new(); contenders.len()];
        for round in 0..=ROUNDS {
            for ((_, choose), times) in contenders.iter_mut().zip(&mut times) {
                let started = Instant::now();
                for number in 0..CHOICES {
                    choose(u64::from(number));
                }
                let nanos = started.elapsed().as_nanos() as f64 / f64::from(CHOICES);
                // The first round fills caches.
                if round > 0 {
                    times.push(nanos);
                }
            }
        }
        let best = |times: Vec<f64>| times.into_iter().fold(f64::INFINITY, f64::min);
        columns.push(times.into_iter().map(best).collect::<Vec<f64>>());
    }
    println!("| ns for one choice among | 10 | 100 | 1000 |\n|---|---|---|---|");
    for (row, name) in names.iter().enumerate() {
        let cells: Vec<String> =
            columns.iter().map(|column| format!("{:.0}", column[row])).collect();
        println!("| {name} | {} |", cells.join(" | "));
    }
}

fn contenders(replicas: u16) -> Vec<(String, Chooser)> {
    let mut all: Vec<(String, Chooser)> = vec![(
        "the loop alone".into(),
        Box::new(|number| {
            black_box(mix(number));
        }),
    )];
    for (name, algorithm, limit) in [
        ("round robin", Algorithm::RoundRobin, None),
        ("weighted round robin", Algorithm::WeightedRoundRobin, None),
        ("random", Algorithm::Random, None),
        ("least request", Algorithm::LeastRequest, None),
        ("peak EWMA", Algorithm::PeakEwma, None),
        ("first-fit", Algorithm::FirstFit, Some(8)),
        ("IP hash", Algorithm::IpHash, None),
        ("key hash", Algorithm::KeyHash, None),
    ] {
        all.push((format!("Foresail {name}"), pick(snapshot(algorithm, replicas, limit))));
        if matches!(algorithm, Algorithm::LeastRequest | Algorithm::PeakEwma) {
            let counted = format!("Foresail {name}, and counting the request");
            all.push((counted, take(snapshot(algorithm, replicas, limit))));
            let name = format!("Foresail {name}, with the clock and the answer's report");
            all.push((name, report(snapshot(algorithm, replicas, limit))));
        }
    }
    all.push(("pingora round robin".into(), pingora::<RoundRobin>(replicas)));
    all.push(("pingora random".into(), pingora::<Random>(replicas)));
    all.push(("pingora FNV hash".into(), pingora::<FNVHash>(replicas)));
    all.push(("pingora Ketama".into(), pingora::<Consistent>(replicas)));
    let pending = ServiceList::new((0..replicas).map(|_| Nothing));
    let pending = PendingRequestsDiscover::new(pending, CompleteOnResponse::default());
    all.push(("tower p2c, pending requests".into(), balance(Balance::new(pending))));
    let ewma = ServiceList::new((0..replicas).map(|_| Nothing));
    let (rtt, decay) = (Duration::from_millis(30), Duration::from_secs(10));
    let ewma = PeakEwmaDiscover::new(ewma, rtt, decay, CompleteOnResponse::default());
    all.push(("tower p2c, peak EWMA".into(), balance(Balance::new(ewma))));
    all
}

/// Every replica has answered, an eighth of them also with errors, and has requests in flight.
fn snapshot(algorithm: Algorithm, replicas: u16, max_in_flight: Option<u32>) -> Snapshot {
    let target = |number: u16| {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 1024 + number));
        let weight = f64::from(1 + number % 5);
        Target { weight, ..Target::new(format!("{number:064x}"), address) }
    };
    let rules = foresail::balancer::Rules { max_in_flight, ..algorithm.into() };
    let snapshot = Snapshot::new(rules, (0..replicas).map(target).collect(), None);
    for (number, target) in snapshot.targets().iter().enumerate() {
        let latency = Duration::from_millis(10 + number as u64 % 7);
        let status = if number % 8 == 0 { 500 } else { 200 };
        for status in [200, status] {
            let kind = OutcomeKind::Answered(status);
            target.counters.report(Duration::from_secs(1), Outcome { latency, kind });
        }
        // First-fit meets a full half.
        let in_flight = if number < usize::from(replicas / 2) { 8 } else { number % 5 };
        (0..in_flight).for_each(|_| std::mem::forget(target.begin()));
    }
    snapshot
}

/// What the proxy gives; the key is hashed only where one is configured.
fn key(snapshot: &Snapshot, number: u64) -> Key {
    let client = Some(Ipv4Addr::from(number as u32).into());
    let keyed = snapshot.rules().algorithm == Algorithm::KeyHash;
    Key { client, key: keyed.then(|| hash(&number.to_le_bytes())), session: None }
}

fn pick(snapshot: Snapshot) -> Chooser {
    Box::new(move |number| {
        let now = Duration::from_millis(1500 + number / 1024);
        let picked = snapshot.pick(key(&snapshot, number), mix(number + 1), now);
        black_box(picked.map(|target| target.address));
    })
}

fn take(snapshot: Snapshot) -> Chooser {
    Box::new(move |number| {
        let now = Duration::from_millis(1500 + number / 1024);
        let taken = snapshot.take(key(&snapshot, number), mix(number + 1), now);
        black_box(taken.map(|(target, in_flight)| (target.address, in_flight)));
    })
}

/// All that the balancer has to do with one request, the clock read twice.
fn report(snapshot: Snapshot) -> Chooser {
    let start = Instant::now();
    Box::new(move |number| {
        let began = start.elapsed();
        let taken = snapshot.take(key(&snapshot, number), mix(number + 1), began);
        if let Some((target, in_flight)) = taken {
            black_box(target.address);
            let now = start.elapsed();
            let kind = OutcomeKind::Answered(200);
            in_flight.report(now, Outcome { latency: now - began, kind });
        }
    })
}

fn pingora<S>(replicas: u16) -> Chooser
where
    S: BackendSelection + Send + Sync + 'static,
    S::Iter: BackendIter,
{
    let addresses = (0..replicas).map(|n| SocketAddr::from((Ipv4Addr::LOCALHOST, 1024 + n)));
    let balancer = LoadBalancer::<S>::try_from_iter(addresses).expect("addresses resolve");
    Box::new(move |number| {
        let picked = balancer.select(&number.to_le_bytes(), 256);
        black_box(picked.map(|backend| backend.addr));
    })
}

/// A service that answers at once.
struct Nothing;

impl Service<()> for Nothing {
    type Response = ();
    type Error = Infallible;
    type Future = Ready<Result<(), Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, (): ()) -> Self::Future {
        ready(Ok(()))
    }
}

fn balance<S>(mut service: S) -> Chooser
where
    S: Service<()> + 'static,
    S::Future: Future,
{
    Box::new(move |_| {
        let mut context = Context::from_waker(Waker::noop());
        if service.poll_ready(&mut context).is_ready() {
            let mut answer = std::pin::pin!(service.call(()));
            black_box(answer.as_mut().poll(&mut context).is_ready());
        }
    })
}

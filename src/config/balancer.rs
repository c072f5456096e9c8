//! Pure: the settings of a service's balancer and the `balancer` table that they are read from.

use std::net::SocketAddr;
use std::time::Duration;

use toml::de::DeValue;

use super::proxy::{self, Proxy};
use super::section::Section;
use super::value::{self, Read, duration, integer, number};
use crate::balancer::{Algorithm, Check, Ejection, KeySource, Route, Rules};

/// The built-in reverse proxy of a service.
#[derive(Debug, Clone, PartialEq)]
pub struct Balancer {
    /// Services with different `routes` may share it.
    pub listen: SocketAddr,
    /// Which of the listener's requests are for this service; at least one.
    pub routes: Vec<Route>,
    pub algorithm: Algorithm,
    pub weights: Weighting,
    /// What `key_hash` hashes.
    pub key: KeySource,
    pub sticky: Option<Sticky>,
    /// Most requests in flight at one replica; further ones wait.
    pub max_in_flight: Option<u32>,
    pub queue: Queue,
    pub retry: Retry,
    /// As of [`Rules`].
    pub panic_threshold: f64,
    pub ejection: Ejection,
    /// Active checks, beside those by which the target says who is ready.
    pub check: Option<Check>,
    pub connect_timeout: Duration,
    /// Longest wait for the head of a replica's answer.
    pub response_timeout: Duration,
    pub proxy: Proxy,
}

impl Balancer {
    /// With the default of every key.
    pub fn new(listen: SocketAddr) -> Balancer {
        let seconds = Duration::from_secs;
        Balancer {
            listen,
            routes: vec![Route::any()],
            algorithm: Algorithm::default(),
            weights: Weighting::Equal,
            key: KeySource::Client,
            sticky: None,
            max_in_flight: None,
            queue: Queue { max: 10_000, timeout: seconds(5) },
            retry: Retry { share: 0.2, min_per_second: 10 },
            panic_threshold: 0.5,
            ejection: Ejection::default(),
            check: None,
            connect_timeout: seconds(1),
            response_timeout: seconds(60),
            proxy: Proxy::default(),
        }
    }

    pub fn rules(&self) -> Rules {
        Rules {
            algorithm: self.algorithm,
            max_in_flight: self.max_in_flight,
            panic_threshold: self.panic_threshold,
        }
    }

    /// Why the two cannot share a listener, if so: the key and what is wrong with it. `name` is the
    /// service of `other`.
    pub fn clash(&self, other: &Balancer, name: &str) -> Option<(&'static str, String)> {
        if let Some(route) = self.routes.iter().find(|route| other.routes.contains(route)) {
            let message = format!(
                "\"{route}\" on {} is for service `{name}` already; give each service its own \
                 listener, or `routes` such as [\"shop.example.org\", \"/static\"]",
                self.listen
            );
            return Some(("routes", message));
        }
        let message = || {
            format!(
                "services on one listener treat clients alike; make `timeouts`, `limits`, \
                 `trusted_proxies`, `forwarded` and `access_log` those of service `{name}`"
            )
        };
        (self.proxy != other.proxy).then(|| ("listen", message()))
    }
}

/// How much each replica gets of what is shared by weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Weighting {
    #[default]
    Equal,
    /// In proportion to its CPU limit, as it is measured.
    Capacity,
}

/// A client stays with its replica by a cookie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sticky {
    pub cookie: String,
    /// As long as the client keeps its session, without one.
    pub lifetime: Option<Duration>,
}

/// Requests that wait for a ready replica with room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Queue {
    /// Most of them; further ones are refused at once, with 503.
    pub max: u32,
    /// Longest wait before 503.
    pub timeout: Duration,
}

/// How many requests may be sent a second time: a share of all, and so many each second.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Retry {
    pub share: f64,
    pub min_per_second: u32,
}

/// The proxy, and the two times of the fleet that only matter behind one: without it slow start and
/// draining have nothing to steer.
pub fn read(s: &mut Section) -> (Option<Balancer>, Duration, Duration) {
    s.optional_table("balancer", read_table).unwrap_or_default()
}

fn read_table(s: &mut Section) -> (Option<Balancer>, Duration, Duration) {
    let seconds = Duration::from_secs;
    let slow_start = s.or("slow_start", seconds(30), duration("0s", "1h"));
    let drain_timeout = s.or("drain_timeout", seconds(30), duration("0s", "1h"));
    let listen = s.required("listen", "write for instance \"127.0.0.1:9000\"", value::address);
    let default = Balancer::new(listen.unwrap_or_else(|| ([127, 0, 0, 1], 0).into()));
    let balancer = Balancer {
        routes: s.or("routes", default.routes, routes),
        algorithm: s.or("algorithm", default.algorithm, algorithm),
        weights: s.or("weights", default.weights, weights),
        key: read_key(s),
        sticky: read_sticky(s),
        max_in_flight: s.optional("max_in_flight", integer(1..=1_000_000)),
        queue: read_queue(s, default.queue),
        retry: read_retry(s, default.retry),
        panic_threshold: s.or("panic_threshold", default.panic_threshold, share),
        ejection: read_ejection(s, default.ejection),
        check: s.optional_table("check", read_check),
        connect_timeout: s.or("connect_timeout", default.connect_timeout, duration("1ms", "1m")),
        response_timeout: s.or("response_timeout", default.response_timeout, duration("1ms", "1h")),
        proxy: proxy::read(s),
        ..default
    };
    check_algorithm(&balancer, s);
    (listen.map(|_| balancer), slow_start, drain_timeout)
}

/// Keys that an algorithm cannot do without, or that it would not look at.
fn check_algorithm(balancer: &Balancer, s: &Section) {
    let algorithm = balancer.algorithm;
    if algorithm == Algorithm::FirstFit && balancer.max_in_flight.is_none() {
        let message = "first_fit fills one replica up to `max_in_flight`; write how many requests \
                       it takes at once";
        s.error("algorithm", message.into());
    }
    if algorithm != Algorithm::KeyHash && balancer.key != KeySource::Client {
        s.error("key", "only `algorithm = \"key_hash\"` looks at it".into());
    }
}

fn routes(value: &DeValue) -> Read<Vec<Route>> {
    let mut routes = Vec::new();
    for text in value::texts(value)? {
        let route = text.parse().map_err(|error| format!("{text:?} is no route; {error}"))?;
        if routes.contains(&route) {
            return Err(format!("{text:?} is there twice"));
        }
        routes.push(route);
    }
    if routes.is_empty() {
        return Err("no request would come; leave the key out for every request".to_owned());
    }
    Ok(routes)
}

fn algorithm(value: &DeValue) -> Read<Algorithm> {
    value::one_of(&[
        ("round_robin", Algorithm::RoundRobin),
        ("weighted_round_robin", Algorithm::WeightedRoundRobin),
        ("least_request", Algorithm::LeastRequest),
        ("peak_ewma", Algorithm::PeakEwma),
        ("first_fit", Algorithm::FirstFit),
        ("ip_hash", Algorithm::IpHash),
        ("key_hash", Algorithm::KeyHash),
        ("random", Algorithm::Random),
    ])(value)
}

fn weights(value: &DeValue) -> Read<Weighting> {
    value::one_of(&[("equal", Weighting::Equal), ("capacity", Weighting::Capacity)])(value)
}

fn share(value: &DeValue) -> Read<f64> {
    number("share between 0 and 1", |n| (0.0..=1.0).contains(&n))(value)
}

fn read_key(s: &mut Section) -> KeySource {
    const RIGHT: &str = "write \"client\", \"path\", { header = \"…\" }, { cookie = \"…\" } or \
                         { query = \"…\" }";
    let named = s.optional("key", |value| {
        if let Some(table) = value.as_table() {
            let mut entries = table.iter();
            let (Some((kind, name)), None) = (entries.next(), entries.next()) else {
                return Err(format!("names not exactly one key; {RIGHT}"));
            };
            let name = name.get_ref();
            return match kind.get_ref().as_ref() {
                "header" => Ok(KeySource::Header(token(name)?.to_ascii_lowercase())),
                "cookie" => Ok(KeySource::Cookie(token(name)?)),
                "query" => Ok(KeySource::Query(value::text(name)?)),
                other => Err(format!("{other:?} is no kind of key; {RIGHT}")),
            };
        }
        match value.as_str() {
            Some("client") => Ok(KeySource::Client),
            Some("path") => Ok(KeySource::Path),
            _ => Err(format!("{} is no key; {RIGHT}", value::found(value))),
        }
    });
    named.unwrap_or_default()
}

/// The name of a header or a cookie (RFC 9110 section 5.6.2).
fn token(value: &DeValue) -> Read<String> {
    let text = value::text(value)?;
    let allowed = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    match text.chars().all(allowed) {
        true => Ok(text),
        false => Err(format!("{text:?} is no name of a header or cookie")),
    }
}

fn read_sticky(s: &mut Section) -> Option<Sticky> {
    s.optional_table("sticky", |s| Sticky {
        cookie: s.or("cookie", "foresail".to_owned(), token),
        lifetime: s.optional("lifetime", duration("1s", "365d")),
    })
}

fn read_queue(s: &mut Section, default: Queue) -> Queue {
    s.table("queue", |s| Queue {
        max: s.or("max", default.max, integer(0..=1_000_000)),
        timeout: s.or("timeout", default.timeout, duration("0s", "10m")),
    })
}

fn read_retry(s: &mut Section, default: Retry) -> Retry {
    s.table("retry", |s| Retry {
        share: s.or("share", default.share, share),
        min_per_second: s.or("min_per_second", default.min_per_second, integer(0..=1_000_000)),
    })
}

fn read_ejection(s: &mut Section, default: Ejection) -> Ejection {
    let (base_time, max_time) = (default.base_time, default.max_time);
    s.table("ejection", |s| {
        let ejection = Ejection {
            consecutive_errors: s.or(
                "consecutive_errors",
                default.consecutive_errors,
                integer(0..=1_000_000),
            ),
            interval: s.or("interval", default.interval, duration("1s", "1h")),
            base_time: s.or("base_time", base_time, duration("100ms", "1h")),
            max_time: s.or("max_time", max_time, duration("100ms", "1day")),
            max_ejected: s.or("max_ejected", default.max_ejected, share),
            margin: s.or("margin", default.margin, share),
            min_requests: s.or("min_requests", default.min_requests, integer(1..=1_000_000)),
        };
        if ejection.max_time < ejection.base_time {
            s.error("max_time", "shorter than base_time".into());
        }
        ejection
    })
}

fn read_check(s: &mut Section) -> Check {
    let path = s.optional("path", |value| match value::text(value)? {
        path if path.starts_with('/') && path.bytes().all(|b| b.is_ascii_graphic()) => Ok(path),
        path => Err(format!("{path:?} is no path; it starts with a / and has no spaces")),
    });
    let seconds = Duration::from_secs;
    Check {
        path,
        interval: s.or("interval", seconds(5), duration("100ms", "1h")),
        timeout: s.or("timeout", seconds(2), duration("1ms", "1m")),
        rise: s.or("rise", 2, integer(1..=1000)),
        fall: s.or("fall", 3, integer(1..=1000)),
    }
}

#[cfg(test)]
mod tests;

//! Pure: the settings of the reverse proxy itself, read from the `balancer` table too.

use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use super::section::Section;
use super::value::{self, duration, integer};

/// How the proxy treats clients, whatever replica they get.
#[derive(Debug, Clone, PartialEq)]
pub struct Proxy {
    pub timeouts: Timeouts,
    pub limits: Limits,
    /// Whom to believe what they say in `Forwarded`, `X-Forwarded-*` and `X-Request-Id`.
    pub trusted_proxies: Vec<Network>,
    /// Whether replicas get the header of RFC 7239 too.
    pub forwarded: bool,
    pub access_log: Option<AccessLog>,
}

impl Default for Proxy {
    fn default() -> Proxy {
        let seconds = Duration::from_secs;
        Proxy {
            timeouts: Timeouts {
                idle: seconds(75),
                head: seconds(30),
                body: seconds(60),
                answer: seconds(600),
                tunnel: seconds(3600),
            },
            limits: Limits { head_bytes: 64 * 1024, body_bytes: None, connections: 16_384 },
            trusted_proxies: Vec::new(),
            forwarded: false,
            access_log: None,
        }
    }
}

/// Longest waits for a client, and within an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// For the next request on a connection.
    pub idle: Duration,
    /// For all of a request's head, from its first byte.
    pub head: Duration,
    /// For the next piece of a request's body.
    pub body: Duration,
    /// For the next piece of an answer, or the client to take it.
    pub answer: Duration,
    /// For any byte, either way, after a change of protocol.
    pub tunnel: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    pub head_bytes: u32,
    pub body_bytes: Option<u64>,
    pub connections: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessLog {
    pub path: PathBuf,
    pub format: LogFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    #[default]
    Json,
    /// The format of the same name of Apache and nginx.
    Combined,
}

/// Addresses with the same first bits, as in `10.0.0.0/8`; one address without the slash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    bits: u32,
}

impl Network {
    pub fn contains(&self, address: IpAddr) -> bool {
        let shared = match (self.address, address.to_canonical()) {
            (IpAddr::V4(a), IpAddr::V4(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros(),
            (IpAddr::V6(a), IpAddr::V6(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros(),
            _ => return false,
        };
        shared >= self.bits
    }
}

impl FromStr for Network {
    type Err = ();

    fn from_str(text: &str) -> Result<Network, ()> {
        let (address, bits) = text.split_once('/').map_or((text, None), |(a, b)| (a, Some(b)));
        let address: IpAddr = address.parse().map_err(|_| ())?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.map_or(Ok(most), |bits| bits.parse().map_err(|_| ()))?;
        (bits <= most).then_some(Network { address, bits }).ok_or(())
    }
}

pub fn read(s: &mut Section) -> Proxy {
    let default = Proxy::default();
    Proxy {
        timeouts: s.table("timeouts", |s| read_timeouts(s, default.timeouts)),
        limits: s.table("limits", |s| read_limits(s, default.limits)),
        trusted_proxies: s.optional("trusted_proxies", networks).unwrap_or_default(),
        forwarded: s.or("forwarded", default.forwarded, value::boolean),
        access_log: s.optional_table("access_log", read_access_log).flatten(),
    }
}

fn networks(value: &toml::de::DeValue) -> value::Read<Vec<Network>> {
    let network = |text: &String| {
        text.parse()
            .map_err(|()| format!("{text:?} is no network; write for instance \"10.0.0.0/8\""))
    };
    value::texts(value)?.iter().map(network).collect()
}

fn read_timeouts(s: &mut Section, default: Timeouts) -> Timeouts {
    let bounds = || duration("50ms", "7days");
    Timeouts {
        idle: s.or("idle", default.idle, bounds()),
        head: s.or("head", default.head, bounds()),
        body: s.or("body", default.body, bounds()),
        answer: s.or("answer", default.answer, bounds()),
        tunnel: s.or("tunnel", default.tunnel, bounds()),
    }
}

fn read_limits(s: &mut Section, default: Limits) -> Limits {
    Limits {
        // The proxy reads heads into a buffer that is never smaller than 8 KiB.
        head_bytes: s.or("head_bytes", default.head_bytes, integer(8192..=16 << 20)),
        body_bytes: s.optional("body_bytes", |value| {
            let digits = value.as_integer().filter(|n| n.radix() == 10);
            let parsed = digits.and_then(|n| n.as_str().parse().ok());
            parsed.ok_or_else(|| format!("{} is no whole number of bytes", value::found(value)))
        }),
        connections: s.or("connections", default.connections, integer(1..=10_000_000)),
    }
}

fn read_access_log(s: &mut Section) -> Option<AccessLog> {
    let formats = [("json", LogFormat::Json), ("combined", LogFormat::Combined)];
    let format = s.or("format", LogFormat::Json, value::one_of(&formats));
    let path = s.required("path", "write for instance \"access.log\"", value::path)?;
    Some(AccessLog { path, format })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_read_and_every_mistake_told() {
        let parse = |keys: &str| {
            let head = "[services.a]\ntarget = { process = { command = [\"a\"] } }\n";
            let text = format!("{head}[services.a.balancer]\nlisten = \"127.0.0.1:1\"\n{keys}");
            let config = crate::config::parse(&text);
            config.map(|config| config.services["a"].balancer.clone().unwrap().proxy)
        };
        assert_eq!(parse("").unwrap(), Proxy::default());
        let all = "timeouts = { idle = \"1s\", head = \"2s\", body = \"3s\", answer = \"4s\", \
                   tunnel = \"5s\" }\nlimits = { head_bytes = 8192, body_bytes = 0, connections = 1 }\n\
                   trusted_proxies = [\"10.0.0.0/8\", \"::1\"]\nforwarded = true\n\
                   access_log = { path = \"a\", format = \"combined\" }";
        let seconds = Duration::from_secs;
        let expected = Proxy {
            timeouts: Timeouts {
                idle: seconds(1),
                head: seconds(2),
                body: seconds(3),
                answer: seconds(4),
                tunnel: seconds(5),
            },
            limits: Limits { head_bytes: 8192, body_bytes: Some(0), connections: 1 },
            trusted_proxies: vec!["10.0.0.0/8".parse().unwrap(), "::1".parse().unwrap()],
            forwarded: true,
            access_log: Some(AccessLog { path: "a".into(), format: LogFormat::Combined }),
        };
        assert_eq!(parse(all).unwrap(), expected);
        let wrong = "timeouts = { idle = 0 }\nlimits = { head_bytes = 1, body_bytes = -1 }\n\
                     trusted_proxies = [\"all\"]\naccess_log = { format = \"x\" }";
        assert_eq!(parse(wrong).unwrap_err().len(), 6);
    }

    #[test]
    fn networks_contain_what_shares_their_first_bits() {
        let check = |network: &str, address: &str, expected: bool| {
            let network: Network = network.parse().unwrap();
            assert_eq!(network.contains(address.parse().unwrap()), expected, "{network:?}");
        };
        check("10.0.0.0/8", "10.255.0.1", true);
        check("10.0.0.0/8", "11.0.0.0", false);
        check("10.0.0.0/8", "::ffff:10.1.2.3", true);
        check("10.0.0.1", "10.0.0.1", true);
        check("10.0.0.1", "10.0.0.2", false);
        check("0.0.0.0/0", "192.0.2.1", true);
        check("0.0.0.0/0", "2001:db8::1", false);
        check("2001:db8::/32", "2001:db8:1::1", true);
        check("2001:db8::/33", "2001:db8:8000::1", false);
        for wrong in ["", "10.0.0.0/33", "10.0.0/8", "::/129", "10.0.0.0/", "10.0.0.0/-1", "a/8"] {
            assert_eq!(wrong.parse::<Network>(), Err(()), "{wrong}");
        }
    }
}

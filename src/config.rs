//! Pure: text to raw tables to a validated [`Config`], all errors at once.
//!
//! TOML is read key by key ([`section`]), so that one wrong value never hides the next: each is
//! reported with its line and replaced by its default until the end. Cross checks follow, and only
//! a file without any error gives a [`Config`]. Known limit: a check over two keys, one of them
//! wrong, is made with the default of the wrong one.

mod balancer;
pub mod labels;
mod policy;
mod proxy;
mod section;
mod service;
mod value;

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use balancer::{Balancer, Queue, Retry, Sticky, Weighting};
pub use proxy::{AccessLog, Limits, LogFormat, Network, Proxy, Timeouts};

use crate::autoscaler::Settings;
use crate::fleet::FleetSettings;
use section::{Report, Section};
use value::Read;

/// A commented file with every key, for a user to start from.
pub const EXAMPLE: &str = include_str!("config/example.toml");

/// Parses and validates; every error at once, in the order of lines.
///
/// # Errors
/// What is wrong, one entry a key; never empty.
pub fn parse(text: &str) -> Result<Config, Vec<ConfigError>> {
    parse_with_env(text, &[])
}

/// As [`parse`], with environment variables over the file: `FORESAIL_API_LISTEN`,
/// `FORESAIL_API_TOKEN` and `FORESAIL_STORE_PATH`; others are ignored. They are applied before the
/// checks, because a token in the environment may be what allows the address in the file.
///
/// # Errors
/// As [`parse`]; the key of an error may name a variable.
pub fn parse_with_env(text: &str, vars: &[(String, String)]) -> Result<Config, Vec<ConfigError>> {
    let (table, syntax_errors) = toml::de::DeTable::parse_recoverable(text);
    if !syntax_errors.is_empty() {
        return Err(section::syntax(text, &syntax_errors));
    }
    let report = Report::new(text);
    let config = report.read(table.get_ref(), |root| {
        let discovery = root.table("discovery", read_discovery);
        Config {
            api: root.table("api", |s| read_api(s, &Env(vars))),
            store: root.table("store", |s| read_store(s, &Env(vars))),
            services: read_services(root, discovery.is_some()),
            discovery,
        }
    });
    check_addresses(&report, &config);
    report.finish(config)
}

/// Environment variables, to be laid over what the file says.
struct Env<'v>(&'v [(String, String)]);

impl Env<'_> {
    /// The variable's value, or the file's if it is not set or wrong.
    fn over<T>(&self, name: &str, file: T, s: &Section, parse: fn(&str) -> Read<T>) -> T {
        let Some((_, text)) = self.0.iter().find(|(key, _)| key == name) else { return file };
        parse(text).unwrap_or_else(|message| {
            s.report_env(name, message);
            file
        })
    }
}

fn read_api(s: &mut Section, env: &Env) -> Api {
    let default = SocketAddr::from(([127, 0, 0, 1], 8080));
    let listen = s.or("listen", default, value::address);
    let listen = env.over("FORESAIL_API_LISTEN", listen, s, value::parse_address);
    let token = s.optional("token", value::secret);
    let token =
        env.over("FORESAIL_API_TOKEN", token, s, |text| value::parse_secret(text).map(Some));
    let allow_unauthenticated = s.or("allow_unauthenticated", false, value::boolean);
    if !listen.ip().is_loopback() && token.is_none() && !allow_unauthenticated {
        let message = format!(
            "{listen} is open to other machines; set a `token` (or FORESAIL_API_TOKEN), listen on \
             127.0.0.1, or say `allow_unauthenticated = true`"
        );
        s.error("listen", message);
    }
    Api { listen, token, allow_unauthenticated }
}

fn read_store(s: &mut Section, env: &Env) -> Store {
    let path = s.or("path", PathBuf::from("foresail-data"), value::path);
    let path = env.over("FORESAIL_STORE_PATH", path, s, value::parse_path);
    let (flush, retention) = (Duration::from_secs(5), Duration::from_secs(90 * 86_400));
    Store {
        flush_interval: s.or("flush_interval", flush, value::duration("100ms", "5s")),
        retention: s.or("retention", retention, value::duration("1h", "3650d")),
        models: s.or("models", path.join("models"), value::path),
        path,
    }
}

fn read_discovery(s: &mut Section) -> Option<Discovery> {
    let host = s.optional("host", service::engine_address);
    s.or("docker", false, value::boolean).then_some(Discovery { host })
}

fn read_services(root: &mut Section, discovery: bool) -> BTreeMap<String, Service> {
    let services = root.tables("services", service::read);
    if root.is_empty_table("services") && !discovery {
        let message = "no service to scale; add a table such as [services.web] with a `target`, \
                       or [discovery] with `docker = true`";
        root.error("services", message.into());
    }
    services.into_iter().filter_map(|(name, service)| Some((name, service?))).collect()
}

/// Two listeners on one address, or two services over the same containers, would fight.
fn check_addresses(report: &Report, config: &Config) {
    let mut taken: Vec<(&str, &Balancer)> = Vec::new();
    let mut selections: BTreeMap<_, &str> = BTreeMap::new();
    for (name, service) in &config.services {
        if let Some(balancer) = &service.balancer {
            let listen = balancer.listen;
            let is_taken = |by: &str| {
                ("listen", format!("{listen} is also the address of `{by}`; choose another"))
            };
            let clashes = |(name, other): &(&str, &Balancer)| match other.listen {
                same if same == listen => balancer.clash(other, name),
                _ => Some(is_taken(&format!("services.{name}.balancer.listen"))),
            };
            let mut others = taken.iter().filter(|(_, other)| clash(listen, other.listen));
            let api = clash(listen, config.api.listen).then(|| is_taken("api.listen"));
            let wrong = api.or_else(|| others.find_map(clashes));
            if let Some((key, message)) = wrong {
                report.error_at(&format!("services.{name}.balancer.{key}"), message);
            }
            taken.push((name, balancer));
        }
        let (host, selection, own) = match &service.target {
            Target::Process(_) => continue,
            Target::Docker(it) => (&it.host, format!("label `{}`", it.label), "label"),
            Target::Compose(it) => {
                let selection = format!("service `{}` of project `{}`", it.service, it.project);
                (&it.host, selection, "Compose service")
            }
        };
        if let Some(other) = selections.insert((host, selection.clone()), name) {
            let message = format!(
                "{selection} also selects the containers of service `{other}`; each service \
                 needs its own {own}"
            );
            report.error_at(&format!("services.{name}.target"), message);
        }
    }
}

/// Port 0 is chosen by the system and never clashes; an unspecified address takes the port on all.
fn clash(a: SocketAddr, b: SocketAddr) -> bool {
    let same_ip = a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified();
    a.port() != 0 && a.port() == b.port() && same_ip
}

/// Everything `foresail serve` needs, validated.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    pub api: Api,
    pub store: Store,
    /// Whether services are found by the labels of their containers, too.
    pub discovery: Option<Discovery>,
    /// By name; at least one, or `discovery`.
    pub services: BTreeMap<String, Service>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Api {
    pub listen: SocketAddr,
    /// Bearer token that every `/v1` request must carry; a must where `listen` is not loopback,
    /// unless `allow_unauthenticated`.
    pub token: Option<String>,
    pub allow_unauthenticated: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Store {
    pub path: PathBuf,
    /// At most 5 s: what a crash may lose.
    pub flush_interval: Duration,
    /// Segments older than this are deleted.
    pub retention: Duration,
    /// Folder of model files; `<path>/models` unless given.
    pub models: PathBuf,
}

/// Services are found by the labels of the containers of an engine.
#[derive(Debug, Clone, PartialEq)]
pub struct Discovery {
    /// As of [`DockerTarget`].
    pub host: Option<String>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Service {
    pub name: String,
    pub target: Target,
    pub mode: Mode,
    pub demand: DemandUnit,
    pub capacity: Capacity,
    pub sample_interval: Duration,
    pub settings: Settings,
    pub fleet: FleetSettings,
    pub balancer: Option<Balancer>,
    /// iCalendar file of events that the load follows.
    pub calendar: Option<PathBuf>,
}

/// Whether decisions are carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    #[default]
    Observe,
    Act,
}

impl Mode {
    /// As in the configuration and in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Mode::Observe => "observe",
            Mode::Act => "act",
        }
    }
}

/// Unit of demand and capacity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DemandUnit {
    /// CPU seconds per second over all replicas.
    #[default]
    Cores,
    RequestsPerSecond,
}

/// Demand that one replica carries.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Capacity {
    /// From the replica's CPU limit (one core without a limit).
    Learn,
    Fixed(f64),
}

/// What runs the replicas.
#[derive(Debug, Clone, PartialEq)]
pub enum Target {
    Process(ProcessTarget),
    Docker(DockerTarget),
    Compose(ComposeTarget),
}

/// Child processes of Foresail on this machine.
#[derive(Debug, Clone, PartialEq)]
pub struct ProcessTarget {
    /// Program and arguments; `{port}` becomes the port that the replica must listen on (also in
    /// `PORT`).
    pub command: Vec<String>,
    pub env: BTreeMap<String, String>,
    /// Cores one replica may use, where the command limits itself; the capacity under `learn`.
    pub cpu_limit: Option<f64>,
    /// Path of an HTTP readiness check; a TCP connect without one.
    pub ready_path: Option<String>,
    /// Time between SIGTERM and SIGKILL.
    pub stop_timeout: Duration,
}

/// Containers of one engine that carry the label `foresail.service=<service>` (or the one given).
#[derive(Debug, Clone, PartialEq)]
pub struct DockerTarget {
    /// `key=value`.
    pub label: String,
    /// Engine address; `DOCKER_HOST` or the default socket without one.
    pub host: Option<String>,
    /// Container port that serves requests; the lowest exposed one without it.
    pub port: Option<u16>,
    /// Time between the stop signal and SIGKILL; each container's own without it.
    pub stop_timeout: Option<Duration>,
}

/// The containers of one service of a Compose project.
#[derive(Debug, Clone, PartialEq)]
pub struct ComposeTarget {
    /// As `docker compose ls` shows it: the project's folder unless its user named it.
    pub project: String,
    /// The key under `services` in the Compose file.
    pub service: String,
    /// As of [`DockerTarget`].
    pub host: Option<String>,
    pub port: Option<u16>,
    pub stop_timeout: Option<Duration>,
}

/// One thing that is wrong with a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// Line in the file, from 1, where known.
    pub line: Option<usize>,
    /// Dotted key, for instance `services.web.mode`.
    pub key: String,
    /// What is wrong, and what would be right.
    pub message: String,
}

/// `LINE: key: message`.
impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(f, "{line}: ")?;
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.message)
    }
}

#[cfg(test)]
mod tests;

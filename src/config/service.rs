//! Pure: reads one `[services.<name>]` table.

use std::collections::BTreeMap;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeString, DeValue};

use super::policy::{minutes, read_settings};
use super::section::Section;
use super::{
    Capacity, ComposeTarget, DemandUnit, DockerTarget, Mode, ProcessTarget, Service, Target,
};
use super::{balancer, value};
use crate::fleet::FleetSettings;

/// `None` without a target; what is wrong is reported in the section.
pub fn read(name: &str, s: &mut Section) -> Option<Service> {
    check_name(name, s);
    let (evaluation_interval, sample_interval) = read_intervals(s);
    let demand = s.or(
        "demand",
        DemandUnit::Cores,
        value::one_of(&[
            ("cores", DemandUnit::Cores),
            ("requests_per_second", DemandUnit::RequestsPerSecond),
        ]),
    );
    let mode = s.or(
        "mode",
        Mode::Observe,
        value::one_of(&[("observe", Mode::Observe), ("act", Mode::Act)]),
    );
    let (balancer, slow_start, drain_timeout) = balancer::read(s);
    let settings = read_settings(s, evaluation_interval, demand);
    let start_timeout = s.or("start_timeout", minutes(10), value::duration("1s", "1day"));
    let yield_for = s.or("yield_for", minutes(2), value::duration("0s", "1day"));
    Some(Service {
        name: name.to_string(),
        mode,
        demand,
        capacity: read_capacity(s, demand),
        sample_interval,
        fleet: FleetSettings { slow_start, drain_timeout, start_timeout, yield_for },
        balancer,
        calendar: s.optional("calendar", value::path),
        settings,
        target: read_target(name, s)?,
    })
}

/// A name becomes a folder, a label and a part of a URL.
fn check_name(name: &str, s: &Section) {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.is_empty() || name.len() > 64 || name.starts_with('.') || !name.chars().all(allowed) {
        let message = "no service name; use 1 to 64 letters, digits, `-`, `_` and `.`, not \
                       starting with a dot";
        s.error("", message.into());
    }
}

fn read_intervals(s: &mut Section) -> (Duration, Duration) {
    let bounds = || value::duration("100ms", "1h");
    let evaluation = s.or("evaluation_interval", Duration::from_secs(15), bounds());
    let whole = |sample: Duration| evaluation.as_nanos().is_multiple_of(sample.as_nanos());
    let second = Duration::from_secs(1);
    let default = if whole(second) { second } else { evaluation };
    let sample = s.or("sample_interval", default, bounds());
    if !whole(sample) {
        let message = format!(
            "{} is no multiple of sample_interval = {}",
            humantime::format_duration(evaluation),
            humantime::format_duration(sample)
        );
        s.error("evaluation_interval", message);
    }
    (evaluation, sample)
}

fn read_capacity(s: &mut Section, demand: DemandUnit) -> Capacity {
    let positive = value::number("capacity; write \"learn\" or a number above 0", |n| n > 0.0);
    let capacity = s.optional("capacity", |value| match value.as_str() {
        Some("learn") => Ok(Capacity::Learn),
        _ => positive(value).map(Capacity::Fixed),
    });
    let capacity = capacity.unwrap_or(Capacity::Learn);
    if demand == DemandUnit::RequestsPerSecond && capacity == Capacity::Learn {
        let message = "requests per second of one replica cannot be learned from its CPU limit; \
                       write a number";
        s.error("capacity", message.into());
    }
    capacity
}

fn read_target(name: &str, s: &mut Section) -> Option<Target> {
    const RIGHT: &str = "write { process = { command = [\"…\"] } }, { docker = {} } or \
                         { compose = { project = \"…\", service = \"…\" } }";
    if !s.has("target") {
        s.error("target", format!("missing; {RIGHT}"));
    }
    let target = s.optional_table("target", |s| {
        let process = s.optional_table("process", read_process);
        let docker = s.optional_table("docker", |s| read_docker(name, s));
        let compose = s.optional_table("compose", read_compose);
        for key in ["swarm", "kubernetes"] {
            let unsupported = "not yet supported; use process, docker or compose";
            s.optional(key, |_| Err::<(), _>(unsupported.into()));
        }
        let process = process.map(|it| it.map(Target::Process));
        let docker = docker.map(|it| Some(Target::Docker(it)));
        let compose = compose.map(|it| it.map(Target::Compose));
        let mut targets = [process, docker, compose].into_iter().flatten();
        match (targets.next(), targets.next()) {
            (Some(_), Some(_)) => {
                s.error("", "several kinds; a service has one target".into());
                None
            }
            (target, _) => {
                if s.keys().next().is_none() {
                    s.error("", format!("names no target; {RIGHT}"));
                }
                target.flatten()
            }
        }
    });
    target.flatten()
}

fn read_process(s: &mut Section) -> Option<ProcessTarget> {
    let command = s.required(
        "command",
        "write program and arguments, for instance [\"./worker\", \"--port\", \"{port}\"]",
        |value| match value::texts(value)? {
            list if list.is_empty() => Err("empty; name at least the program".to_string()),
            list => Ok(list),
        },
    );
    let env = s.optional("env", read_env).unwrap_or_default();
    let cores = value::number("number of cores above 0", |n| n > 0.0);
    let ready_path = s.optional("ready_path", |value| match value::text(value)? {
        path if path.starts_with('/') => Ok(path),
        path => Err(format!("{path:?} is no path; it starts with a /")),
    });
    let cpu_limit = s.optional("cpu_limit", cores);
    let stop_timeout = s.or("stop_timeout", Duration::from_secs(10), stop_timeout());
    Some(ProcessTarget { command: command?, env, cpu_limit, ready_path, stop_timeout })
}

fn read_env(value: &DeValue) -> value::Read<BTreeMap<String, String>> {
    let table = value.as_table().ok_or_else(|| format!("{} is no table", value::found(value)))?;
    let pair = |(name, value): (&Spanned<DeString>, &Spanned<DeValue>)| {
        let (name, value) = (name.get_ref(), value.get_ref());
        let text = value.as_str().filter(|text| !text.contains('\0'));
        let text = text.ok_or_else(|| format!("{name}: {} is no text", value::found(value)))?;
        if name.is_empty() || name.contains(['=', '\0']) {
            return Err(format!("{name:?} is no name of an environment variable"));
        }
        Ok((name.to_string(), text.to_string()))
    };
    table.iter().map(pair).collect()
}

fn read_docker(name: &str, s: &mut Section) -> DockerTarget {
    let label = s.or("label", format!("foresail.service={name}"), |value| {
        let text = value::text(value)?;
        match text.split_once('=') {
            Some((key, value)) if !key.is_empty() && !value.is_empty() => Ok(text),
            _ => Err(format!("{text:?} is no label; write \"key=value\"")),
        }
    });
    let (host, port) = read_engine(s);
    DockerTarget { label, host, port, stop_timeout: s.optional("stop_timeout", stop_timeout()) }
}

fn read_compose(s: &mut Section) -> Option<ComposeTarget> {
    // Compose itself allows no other characters, so a slip is found here and not by silence later.
    let name = |allowed: &'static str| {
        move |value: &DeValue| match value::text(value)? {
            text if text.chars().all(|c| c.is_ascii_alphanumeric() || allowed.contains(c)) => {
                Ok(text)
            }
            text => Err(format!("{text:?} is no name of Compose; use letters, digits, {allowed}")),
        }
    };
    let project = "write the project's name, by default the name of its folder";
    let project = s.required("project", project, name("-_"));
    let service = "write the service's key in the Compose file";
    let service = s.required("service", service, name("-_."));
    let (host, port) = read_engine(s);
    let stop_timeout = s.optional("stop_timeout", stop_timeout());
    Some(ComposeTarget { project: project?, service: service?, host, port, stop_timeout })
}

/// Where the engine is, and the container port that serves requests.
fn read_engine(s: &mut Section) -> (Option<String>, Option<u16>) {
    let host = s.optional("host", engine_address);
    let port = s.optional("port", value::integer(1..=u32::from(u16::MAX)));
    // Within 16 bits, as just read.
    (host, port.map(|port| port as u16))
}

/// Where a Docker engine answers.
pub fn engine_address(value: &DeValue) -> value::Read<String> {
    let text = value::text(value)?;
    match ["unix:///", "tcp://", "http://"].iter().any(|scheme| text.starts_with(scheme)) {
        true => Ok(text),
        false => {
            Err(format!("{text:?} is no engine address; write unix:///…, tcp://… or http://…"))
        }
    }
}

fn stop_timeout() -> impl Fn(&DeValue) -> value::Read<Duration> {
    value::duration("0s", "1h")
}

//! Pure: container labels to services.
//!
//! `foresail.KEY=VALUE` means what `KEY = VALUE` means in the service's section of a file: the
//! labels of a container are written as such a section, one a line, and go through the same reader,
//! so that errors are as good. A value that is no TOML is a text: no quotes are needed.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use toml::de::{DeTable, DeValue};

use super::section::{self, Report};
use super::{ConfigError, Service, service};

/// Opts a container in, if its value is `true`.
pub const ENABLE: &str = "foresail.enable";

/// The service's name; without it, that of the service in Compose.
const SERVICE: &str = "foresail.service";

const PREFIX: &str = "foresail.";

/// Labels that are shorter than the keys they stand for. `K` is the kind of target.
const ALIASES: [(&str, &str); 5] = [
    ("min", "replicas.min"),
    ("max", "replicas.max"),
    ("budget", "overload_budget"),
    ("port", "target.K.port"),
    ("stop_timeout", "target.K.stop_timeout"),
];

/// A container with the label [`ENABLE`].
#[derive(Debug, Clone, PartialEq)]
pub struct Labelled {
    pub name: String,
    /// Seconds since 1970.
    pub created: i64,
    /// Made by Foresail.
    pub clone: bool,
    pub labels: BTreeMap<String, String>,
}

/// What containers tell.
#[derive(Debug, Default, PartialEq)]
pub struct Found {
    /// By name.
    pub services: BTreeMap<String, Service>,
    /// For people: what is wrong with labels, each with its container.
    pub notes: Vec<String>,
}

/// The services of all containers on the engine at `host`. Of several containers of one service the
/// oldest that the user started speaks for all.
pub fn read(mut containers: Vec<Labelled>, host: Option<&str>) -> Found {
    let age = |it: &Labelled| (it.clone, it.created, it.name.len(), it.name.clone());
    containers.sort_by_cached_key(age);
    let mut found = Found::default();
    let mut speakers: BTreeMap<String, (&Labelled, Kind)> = BTreeMap::new();
    for container in &containers {
        let mut note =
            |text: &str| found.notes.push(format!("container {}: {text}", container.name));
        match container.labels.get(ENABLE).map(String::as_str) {
            Some("true") if !is_one_off(container) => {}
            Some("true" | "false") | None => continue,
            Some(other) => {
                note(&format!("label {ENABLE}: {other:?} is not true or false"));
                continue;
            }
        }
        let Some((name, kind)) = identity(container) else {
            note(&format!("it belongs to no Compose service; add the label {SERVICE}=NAME"));
            continue;
        };
        match speakers.entry(name) {
            Entry::Vacant(entry) => drop(entry.insert((container, kind))),
            Entry::Occupied(entry) => {
                let (speaker, its_kind) = entry.get();
                let (service, other) = (entry.key(), &speaker.name);
                if kind != *its_kind {
                    note(&format!(
                        "service {service} is already that of container {other} elsewhere; tell \
                         them apart by the label {SERVICE}=NAME"
                    ));
                } else if !keys(container).eq(keys(speaker)) {
                    note(&format!("its labels are not those of container {other}, which count"));
                }
            }
        }
    }
    for (name, (speaker, kind)) in speakers {
        match read_service(&name, &kind, host, speaker) {
            Ok(service) => drop(found.services.insert(name, service)),
            Err(notes) => found.notes.extend(notes),
        }
    }
    found
}

/// How the containers of a service are told from others.
#[derive(Debug, PartialEq)]
enum Kind {
    Label,
    Compose { project: String, service: String },
}

/// Name and kind of the container's service.
fn identity(container: &Labelled) -> Option<(String, Kind)> {
    let label = |key: &str| container.labels.get(key).cloned();
    let compose = label("com.docker.compose.project").zip(label("com.docker.compose.service"));
    match (label(SERVICE).filter(|name| !name.is_empty()), compose) {
        (Some(name), None) => Some((name, Kind::Label)),
        (name, Some((project, service))) => {
            let name = name.unwrap_or_else(|| service.clone());
            Some((name, Kind::Compose { project, service }))
        }
        (None, None) => None,
    }
}

/// Made by `docker-compose run`, beside the service.
fn is_one_off(container: &Labelled) -> bool {
    container.labels.get("com.docker.compose.oneoff").is_some_and(|value| value == "True")
}

/// Labels that are keys of the configuration, without the prefix.
fn keys(container: &Labelled) -> impl Iterator<Item = (&str, &str)> {
    let others = container.labels.iter().filter(|(label, _)| *label != ENABLE && *label != SERVICE);
    others.filter_map(|(label, value)| Some((label.strip_prefix(PREFIX)?, value.as_str())))
}

/// One line of a section, and the label that says so.
struct Line<'c> {
    label: Option<&'c str>,
    key: String,
    value: String,
}

fn read_service(
    name: &str,
    kind: &Kind,
    host: Option<&str>,
    container: &Labelled,
) -> Result<Service, Vec<String>> {
    let lines = section_of(name, kind, host, container);
    let mut text = format!("[services.{}]\n", quoted(name));
    for line in &lines {
        let key = line.key.split('.').map(quoted).collect::<Vec<_>>();
        text += &format!("{} = {}\n", key.join("."), line.value);
    }
    let foreign = lines.iter().filter_map(|line| line.label).find(|label| {
        label.strip_prefix("target").is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    });
    let errors = match foreign {
        Some(label) => {
            let message = "the target is the container that says so; leave it out".to_owned();
            vec![ConfigError { line: None, key: format!("services.{name}.{label}"), message }]
        }
        None => match parse(&text) {
            Ok(Some(service)) => return Ok(service),
            Ok(None) => Vec::new(),
            Err(errors) => errors,
        },
    };
    let note = |error: ConfigError| {
        let label = label_of(&error, name, &lines);
        format!("container {}: label {label}: {}", container.name, error.message)
    };
    Err(errors.into_iter().map(note).collect())
}

/// The target first, then what the labels say.
fn section_of<'c>(
    name: &str,
    kind: &Kind,
    host: Option<&str>,
    container: &'c Labelled,
) -> Vec<Line<'c>> {
    let target = |key: &str, value: &str| Line {
        label: None,
        key: format!("target.{key}"),
        value: quoted_text(value),
    };
    let (kind, mut lines) = match kind {
        Kind::Label => ("docker", vec![target("docker.label", &format!("{SERVICE}={name}"))]),
        Kind::Compose { project, service } => (
            "compose",
            vec![target("compose.project", project), target("compose.service", service)],
        ),
    };
    lines.extend(host.map(|host| target(&format!("{kind}.host"), host)));
    lines.extend(keys(container).map(|(label, value)| {
        let alias = ALIASES.iter().find(|(short, _)| *short == label);
        let key =
            alias.map_or(label.to_owned(), |(_, key)| key.replace(".K.", &format!(".{kind}.")));
        Line { label: Some(label), key, value: literal(value) }
    }));
    lines
}

/// The one service of a file; `None` if it has no target, which is also an error.
fn parse(text: &str) -> Result<Option<Service>, Vec<ConfigError>> {
    let (table, syntax_errors) = DeTable::parse_recoverable(text);
    if !syntax_errors.is_empty() {
        return Err(section::syntax(text, &syntax_errors));
    }
    let report = Report::new(text);
    let services = report.read(table.get_ref(), |root| root.tables("services", service::read));
    report.finish(services.into_iter().find_map(|(_, service)| service))
}

/// The label that an error is about, or the one that is missing.
fn label_of(error: &ConfigError, name: &str, lines: &[Line]) -> String {
    // Only an error of syntax has no key. The first line is the section's name.
    let by_line = error.line.filter(|_| error.key.is_empty()).and_then(|line| lines.get(line - 2));
    if let Some(label) = by_line.and_then(|line| line.label) {
        return format!("{PREFIX}{label}");
    }
    let Some(key) = error.key.strip_prefix(&format!("services.{name}.")) else {
        return SERVICE.to_owned();
    };
    let is = |line: &&Line| {
        let rest = key.strip_prefix(line.key.as_str());
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    };
    let said = lines.iter().filter(is).max_by_key(|line| line.key.len());
    format!("{PREFIX}{}", said.and_then(|line| line.label).unwrap_or(key))
}

/// A value as TOML: itself if it is, else a text.
fn literal(value: &str) -> String {
    let text = format!("x = {value}");
    let parsed = DeTable::parse(&text).ok().filter(|_| !value.contains(['\n', '\r']));
    let is_toml = parsed.is_some_and(|table| {
        table.get_ref().len() == 1
            && table.get_ref().values().all(|it| !matches!(it.get_ref(), DeValue::Datetime(_)))
    });
    if is_toml { value.to_owned() } else { quoted_text(value) }
}

fn quoted(key: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    if !key.is_empty() && key.chars().all(bare) { key.to_owned() } else { quoted_text(key) }
}

/// A basic string of TOML, on one line.
fn quoted_text(text: &str) -> String {
    let escaped = text.chars().map(|c| match c {
        '"' => "\\\"".to_owned(),
        '\\' => "\\\\".to_owned(),
        c if c.is_control() => format!("\\u{:04X}", u32::from(c)),
        c => c.to_string(),
    });
    format!("\"{}\"", escaped.collect::<String>())
}

#[cfg(test)]
mod tests;

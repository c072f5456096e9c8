//! Pure: what a container tells about itself, and what a clone of it is made of.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bollard::models::{
    ContainerCreateBody, ContainerInspectResponse, EndpointSettings, HealthStatusEnum,
    NetworkingConfig,
};

use super::compose;
use crate::fleet::End;

/// Marks the containers that Foresail started; its value is the id of the container they copy.
pub const CLONE_LABEL: &str = "foresail.clone-of";

/// Everything that the engine needs for a replica like the template.
#[derive(Debug, Clone, PartialEq)]
pub struct Blueprint {
    pub body: ContainerCreateBody,
    /// Networks to join after the container is made: older engines take only one in `body`.
    pub further_networks: BTreeMap<String, EndpointSettings>,
}

/// The blueprint of a clone of `template` that runs `image`. Kept: all that its user set. Left to
/// the engine: name, host name and addresses, because no two containers can share them.
///
/// # Errors
/// Why there can be no second container like it, and what to change.
pub fn blueprint(template: &ContainerInspectResponse, image: &str) -> Result<Blueprint, String> {
    if let Some(obstacle) = obstacle(template) {
        return Err(obstacle);
    }
    let id = template.id.clone().unwrap_or_default();
    // Both types are the engine's `Config`, so a field that the client learns later is copied too.
    let mut body: ContainerCreateBody = serde_json::to_value(&template.config)
        .and_then(serde_json::from_value)
        .map_err(|error| format!("container {} cannot be copied: {error}", name(template)))?;
    body.image = Some(image.to_owned());
    body.hostname = body.hostname.filter(|hostname| *hostname != short(&id));
    body.labels.get_or_insert_default().insert(CLONE_LABEL.to_owned(), id);
    body.host_config = template.host_config.clone();
    if let Some(host_config) = &mut body.host_config {
        host_config.container_id_file = None;
    }

    own_volumes(&mut body);

    let mut further_networks = networks(template);
    let first = primary_network(template);
    if let Some((network, settings)) = first.and_then(|name| further_networks.remove_entry(&name)) {
        let endpoints_config = Some(HashMap::from([(network, settings)]));
        body.networking_config = Some(NetworkingConfig { endpoints_config });
    }
    Ok(Blueprint { body, further_networks })
}

/// Gives the clone anonymous volumes of its own. Compose hands them on when it recreates a
/// container, and a mount then names what was anonymous.
fn own_volumes(body: &mut ContainerCreateBody) {
    let is_anonymous = |name: &str| name.len() == 64 && name.bytes().all(|b| b.is_ascii_hexdigit());
    let is_handed_on = |bind: &mut String| bind.split(':').next().is_some_and(is_anonymous);
    let Some(host_config) = &mut body.host_config else { return };
    for bind in host_config.binds.iter_mut().flat_map(|it| it.extract_if(.., is_handed_on)) {
        let Some(path) = bind.split(':').nth(1) else { continue };
        let volumes = body.volumes.get_or_insert_default();
        if !volumes.iter().any(|known| known == path) {
            volumes.push(path.to_owned());
        }
    }
    for mount in host_config.mounts.iter_mut().flatten() {
        mount.source = mount.source.take().filter(|name| !is_anonymous(name));
    }
}

/// Why no clone of this container can run beside it; `None` if one can.
pub fn obstacle(template: &ContainerInspectResponse) -> Option<String> {
    let name = name(template);
    let host_config = template.host_config.as_ref()?;
    let mode = host_config.network_mode.as_deref().unwrap_or_default();
    if mode == "host" || mode.starts_with("container:") {
        return Some(format!(
            "container {name} shares the network `{mode}`, where only one replica can have its \
             port: attach it to a network of its own kind (bridge or user-defined)"
        ));
    }
    let bindings = host_config.port_bindings.iter().flatten();
    let mut fixed = bindings
        .flat_map(|(port, bindings)| bindings.iter().flatten().map(move |binding| (port, binding)))
        .filter_map(|(port, binding)| Some((port, binding.host_port.as_deref()?)))
        .filter(|(_, host_port)| !may_be_chosen(host_port))
        .collect::<Vec<_>>();
    fixed.sort();
    let (port, host_port) = fixed.first()?;
    let bare = port.split('/').next().unwrap_or(port);
    let labels = template.config.as_ref().and_then(|config| config.labels.as_ref());
    let right = match labels.is_some_and(|labels| labels.contains_key(compose::PROJECT)) {
        true => format!("`ports: [\"127.0.0.1::{bare}\"]`"),
        false => format!("`-p 127.0.0.1::{bare}`"),
    };
    Some(format!(
        "container {name} publishes {port} on the fixed host port {host_port}, which only one \
         container can have: publish it without one ({right}), and Docker chooses"
    ))
}

/// Whether Docker may choose the host port: none is given, or a range.
fn may_be_chosen(host_port: &str) -> bool {
    match host_port.split_once('-') {
        Some((first, last)) => first != last,
        None => host_port.is_empty() || host_port == "0",
    }
}

/// What users should know of the container that clones are made from.
pub fn notes(template: &ContainerInspectResponse, configured: Option<u16>) -> Vec<String> {
    let name = name(template);
    let no_limit = cpu_limit(template).is_none().then(|| {
        format!("container {name} has no CPU limit (`--cpus`): its capacity is taken as 1 core")
    });
    let no_port = port(template, configured).is_none().then(|| {
        format!("container {name} exposes no TCP port: set the target's `port` to balance to it")
    });
    obstacle(template).into_iter().chain(no_limit).chain(no_port).collect()
}

/// Cores that the container may use; `None` without a limit.
pub fn cpu_limit(container: &ContainerInspectResponse) -> Option<f64> {
    let host_config = container.host_config.as_ref()?;
    let positive = |value: Option<i64>| value.filter(|value| *value > 0).map(|value| value as f64);
    if let Some(nano_cpus) = positive(host_config.nano_cpus) {
        return Some(nano_cpus / 1e9);
    }
    // Docker's default period is 100 ms.
    let period = positive(host_config.cpu_period).unwrap_or(100_000.0);
    Some(positive(host_config.cpu_quota)? / period)
}

/// Whether it runs now, neither paused nor between two attempts.
pub fn is_running(container: &ContainerInspectResponse) -> bool {
    container.state.as_ref().is_some_and(|state| {
        state.running == Some(true) && state.paused != Some(true) && state.restarting != Some(true)
    })
}

/// How it ended; `None` while it runs.
pub fn end(container: &ContainerInspectResponse) -> Option<End> {
    let state = container.state.as_ref()?;
    if state.running == Some(true) && state.restarting != Some(true) {
        return None;
    }
    match state.oom_killed {
        Some(true) => Some(End::OutOfMemory),
        _ => state.exit_code.map(|code| End::Exited { code }),
    }
}

/// How often its restart policy has started it again.
pub fn restarts(container: &ContainerInspectResponse) -> u32 {
    container.restart_count.and_then(|count| u32::try_from(count).ok()).unwrap_or(0)
}

/// Time between its stop signal and SIGKILL, where nobody sets another; Docker's default is 10 s.
pub fn stop_timeout(container: &ContainerInspectResponse) -> Duration {
    let seconds = container.config.as_ref().and_then(|config| config.stop_timeout);
    Duration::from_secs(seconds.and_then(|seconds| u64::try_from(seconds).ok()).unwrap_or(10))
}

/// What the health check says; `None` without one.
pub fn healthy(container: &ContainerInspectResponse) -> Option<bool> {
    match container.state.as_ref()?.health.as_ref()?.status? {
        HealthStatusEnum::HEALTHY => Some(true),
        HealthStatusEnum::STARTING | HealthStatusEnum::UNHEALTHY => Some(false),
        HealthStatusEnum::NONE | HealthStatusEnum::EMPTY => None,
    }
}

/// The container's port that serves requests: the configured one, else the lowest exposed one.
pub fn port(container: &ContainerInspectResponse, configured: Option<u16>) -> Option<u16> {
    let exposed = container.config.as_ref().and_then(|config| config.exposed_ports.as_ref());
    let bound = container.host_config.as_ref().and_then(|config| config.port_bindings.as_ref());
    let ports = exposed.into_iter().flatten().chain(bound.into_iter().flat_map(HashMap::keys));
    let lowest = ports.filter_map(|port| port.strip_suffix("/tcp")?.parse().ok()).min();
    configured.or(lowest)
}

/// Where [`port`] is reached: on its published host port, at `published_on` where it is published
/// on all interfaces, else on the container's own address. `None` while it has none.
pub fn address(
    container: &ContainerInspectResponse,
    configured: Option<u16>,
    published_on: IpAddr,
) -> Option<SocketAddr> {
    let port = port(container, configured)?;
    let settings = container.network_settings.as_ref()?;
    let bindings = settings.ports.as_ref().and_then(|ports| ports.get(&format!("{port}/tcp")));
    let published = bindings.into_iter().flatten().flatten().filter_map(|binding| {
        let host_port = binding.host_port.as_deref()?.parse::<u16>().ok()?;
        let ip = binding.host_ip.as_deref().and_then(|ip| ip.parse::<IpAddr>().ok());
        let ip = ip.filter(|ip| !ip.is_unspecified()).unwrap_or(published_on);
        Some(SocketAddr::new(ip, host_port))
    });
    if let Some(address) = published.min() {
        return Some(address);
    }
    if settings.networks.as_ref()?.contains_key("host") {
        return Some(SocketAddr::new(published_on, port));
    }
    own_address(container, configured)
}

/// [`port`] on the container's address in its first network; `None` without one.
pub fn own_address(
    container: &ContainerInspectResponse,
    configured: Option<u16>,
) -> Option<SocketAddr> {
    let networks = container.network_settings.as_ref()?.networks.as_ref()?;
    let own = |name: &String| networks.get(name)?.ip_address.as_deref()?.parse::<IpAddr>().ok();
    let first = primary_network(container).and_then(|name| own(&name));
    let ip = first.or_else(|| networks.keys().filter_map(own).min())?;
    Some(SocketAddr::new(ip, port(container, configured)?))
}

/// The container's name without its slash.
pub fn name(container: &ContainerInspectResponse) -> &str {
    container.name.as_deref().unwrap_or("without a name").trim_start_matches('/')
}

/// The network that the container was made in; `None` if the engine joins it unasked.
fn primary_network(container: &ContainerInspectResponse) -> Option<String> {
    let mode = container.host_config.as_ref()?.network_mode.as_deref()?;
    let networks = container.network_settings.as_ref()?.networks.as_ref()?;
    let mode = if mode == "default" { "bridge" } else { mode };
    let is_mode = |(name, endpoint): &(&String, &EndpointSettings)| {
        *name == mode || endpoint.network_id.as_deref() == Some(mode)
    };
    networks.iter().find(is_mode).map(|(name, _)| name.clone())
}

/// The template's networks with what its user set for each; its own addresses and names are left
/// out.
fn networks(template: &ContainerInspectResponse) -> BTreeMap<String, EndpointSettings> {
    let own = [short(template.id.as_deref().unwrap_or_default()), name(template)];
    let networks = template.network_settings.as_ref().and_then(|it| it.networks.as_ref());
    let settings = |endpoint: &EndpointSettings| EndpointSettings {
        aliases: endpoint.aliases.clone().map(|aliases| {
            aliases.into_iter().filter(|alias| !own.contains(&alias.as_str())).collect()
        }),
        links: endpoint.links.clone(),
        driver_opts: endpoint.driver_opts.clone(),
        gw_priority: endpoint.gw_priority,
        ..EndpointSettings::default()
    };
    let networks = networks.into_iter().flatten();
    networks.map(|(name, endpoint)| (name.clone(), settings(endpoint))).collect()
}

/// The first 12 digits of an id: what Docker makes host names and aliases of.
fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}

#[cfg(test)]
mod tests;

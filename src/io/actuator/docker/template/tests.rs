//! Pure: tests of what a clone keeps and what stands in its way.

use super::*;
use proptest::prelude::*;
use serde_json::{Value, json};

const ID: &str = "0123456789abcdef0123456789abcdef";

/// An inspected container: the usual one, with `changes` merged in.
fn container(changes: Value) -> ContainerInspectResponse {
    let mut usual = json!({
        "Id": ID,
        "Name": "/web-1",
        "Config": {"Image": "web:1", "Hostname": "0123456789ab",
            "ExposedPorts": {"9090/tcp": {}, "53/udp": {}, "8080/tcp": {}}},
        "HostConfig": {"NetworkMode": "default", "NanoCpus": 500_000_000},
        "NetworkSettings": {"Networks": {"bridge": {"IPAddress": "172.17.0.2"}}},
    });
    merge(&mut usual, changes);
    serde_json::from_value(usual).expect("container")
}

fn merge(into: &mut Value, changes: Value) {
    match (into, changes) {
        (Value::Object(into), Value::Object(changes)) => {
            for (key, value) in changes {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, changes) => *into = changes,
    }
}

#[test]
fn a_clone_keeps_what_the_user_set() {
    let kept = json!({
        "User": "1000", "Env": ["A=b"], "Cmd": ["worker"], "Entrypoint": ["/foresail"],
        "WorkingDir": "/srv", "Labels": {"foresail.service": "web"}, "StopSignal": "SIGINT",
        "StopTimeout": 7, "Tty": true, "Volumes": {"/cache": {}}, "Shell": ["/bin/sh"],
        "Healthcheck": {"Test": ["CMD", "/foresail"], "Interval": 1_000_000_000},
    });
    let limits = json!({
        "NanoCpus": 1_500_000_000, "Memory": 64 << 20, "PidsLimit": 9, "CapDrop": ["ALL"],
        "Binds": ["/data:/data:ro"], "RestartPolicy": {"Name": "on-failure"},
        "ReadonlyRootfs": true, "ShmSize": 1 << 20, "ExtraHosts": ["db:10.0.0.1"],
        "PortBindings": {"8080/tcp": [{"HostIp": "127.0.0.1", "HostPort": ""}]},
        "Ulimits": [{"Name": "nofile", "Soft": 64, "Hard": 64}],
    });
    let template = container(json!({"Config": kept, "HostConfig": limits}));
    let body = blueprint(&template, "web:1").expect("can be cloned").body;

    let mut expected = serde_json::to_value(template.config).expect("config");
    expected["Labels"][CLONE_LABEL] = json!(ID);
    expected["HostConfig"] = serde_json::to_value(template.host_config).expect("host config");
    // The host name was made of the template's id, so the clone's is left to the engine.
    expected.as_object_mut().expect("an object").remove("Hostname");
    expected["NetworkingConfig"] = json!({"EndpointsConfig": {"bridge": {}}});
    assert_eq!(serde_json::to_value(body).expect("body"), expected);
}

#[test]
fn a_host_name_of_the_user_s_is_kept_and_another_image_taken() {
    let template = container(json!({"Config": {"Hostname": "cache"}}));
    let body = blueprint(&template, "sha256:77").expect("can be cloned").body;
    assert_eq!(body.hostname.as_deref(), Some("cache"));
    assert_eq!(body.image.as_deref(), Some("sha256:77"));
}

#[test]
fn networks_are_joined_without_the_template_s_own_names_and_addresses() {
    let front = json!({"Aliases": ["web", "web-1", "0123456789ab"], "NetworkID": "f1",
        "IPAddress": "10.0.0.2", "MacAddress": "02:42:0a:00:00:02",
        "IPAMConfig": {"IPv4Address": "10.0.0.2"}});
    let networks = json!({"front": front, "back": {"DriverOpts": {"a": "b"}}, "bridge": null});
    let check = |mode: &str| {
        let mut networks = networks.clone();
        networks.as_object_mut().expect("an object").remove("bridge");
        let mut template = container(json!({"HostConfig": {"NetworkMode": mode}}));
        let settings = template.network_settings.as_mut().expect("settings");
        settings.networks = serde_json::from_value(networks).expect("networks");
        let blueprint = blueprint(&template, "web:1").expect("can be cloned");
        let first = serde_json::to_value(blueprint.body.networking_config).expect("first");
        assert_eq!(first, json!({"EndpointsConfig": {"front": {"Aliases": ["web"]}}}));
        let further = serde_json::to_value(blueprint.further_networks).expect("further");
        assert_eq!(further, json!({"back": {"DriverOpts": {"a": "b"}}}));
    };
    check("front");
    check("f1");
}

#[test]
fn obstacles_say_what_to_change() {
    let check = |host_config: Value, expected: Option<&str>| {
        let found = obstacle(&container(json!({"HostConfig": host_config})));
        match (found.as_deref(), expected) {
            (Some(found), Some(part)) => assert!(found.contains(part), "{found}"),
            (found, expected) => assert_eq!(found, expected, "{host_config}"),
        }
    };
    let port = |host_port: Value| json!({"PortBindings": {"80/tcp": [{"HostPort": host_port}]}});
    check(json!({}), None);
    check(port(json!("")), None);
    check(port(json!("0")), None);
    check(port(Value::Null), None);
    check(port(json!("8000-8010")), None);
    check(json!({"PortBindings": {"80/tcp": null}}), None);
    check(port(json!("8080")), Some("80/tcp on the fixed host port 8080"));
    check(port(json!("8080")), Some("`-p 127.0.0.1::80`"));
    let from_compose = json!({"Config": {"Labels": {(compose::PROJECT): "shop"}},
        "HostConfig": port(json!("8080"))});
    let found = obstacle(&container(from_compose)).expect("an obstacle");
    assert!(found.contains("`ports: [\"127.0.0.1::80\"]`"), "{found}");
    check(port(json!("8000-8000")), Some("fixed host port 8000-8000"));
    check(json!({"NetworkMode": "host"}), Some("shares the network `host`"));
    check(json!({"NetworkMode": "container:ab"}), Some("shares the network `container:ab`"));
    check(json!({"NetworkMode": "none"}), None);
}

#[test]
fn limits_are_in_cores() {
    let check = |host_config: Value, expected: Option<f64>| {
        let template = container(json!({"HostConfig": host_config}));
        assert_eq!(cpu_limit(&template), expected, "{host_config}");
    };
    let none = json!({"NanoCpus": 0, "CpuQuota": 0, "CpuPeriod": 0});
    check(json!({"NanoCpus": 1_500_000_000}), Some(1.5));
    check(none.clone(), None);
    check(json!({"NanoCpus": null}), None);
    // 50 ms of each 200 ms; 50 ms of the usual 100 ms; -1 is "no quota".
    check(json!({"NanoCpus": 0, "CpuQuota": 50_000, "CpuPeriod": 200_000}), Some(0.25));
    check(json!({"NanoCpus": 0, "CpuQuota": 50_000, "CpuPeriod": 0}), Some(0.5));
    check(json!({"NanoCpus": 0, "CpuQuota": -1}), None);
    assert_eq!(cpu_limit(&ContainerInspectResponse::default()), None);
    let notes = notes(&container(json!({"HostConfig": none})), None);
    assert!(notes.iter().any(|note| note.contains("web-1 has no CPU limit")), "{notes:?}");
}

#[test]
fn addresses() {
    let check = |changes: Value, port: Option<u16>, expected: Option<&str>| {
        let published_on = "10.9.8.7".parse().expect("address");
        let found = address(&container(changes.clone()), port, published_on);
        let expected = expected.map(|it| it.parse::<SocketAddr>().expect("address"));
        assert_eq!(found, expected, "{changes} {port:?}");
    };
    let published = |bindings: Value| json!({"NetworkSettings": {"Ports": bindings}});
    // Not published: its own address, and the lowest exposed TCP port unless one is named.
    check(json!({}), None, Some("172.17.0.2:8080"));
    check(json!({}), Some(7000), Some("172.17.0.2:7000"));
    check(published(json!({"8080/tcp": null})), None, Some("172.17.0.2:8080"));
    let both = json!([{"HostIp": "::", "HostPort": "32001"},
        {"HostIp": "0.0.0.0", "HostPort": "32000"}]);
    check(published(json!({"8080/tcp": both})), None, Some("10.9.8.7:32000"));
    let own = json!([{"HostIp": "127.0.0.1", "HostPort": "32002"}]);
    check(published(json!({"9090/tcp": own.clone()})), Some(9090), Some("127.0.0.1:32002"));
    check(published(json!({"9090/tcp": own})), None, Some("172.17.0.2:8080"));
    let odd = json!([{"HostIp": "x", "HostPort": "70000"}, {}]);
    check(published(json!({"8080/tcp": odd})), None, Some("172.17.0.2:8080"));
    check(json!({"Config": {"ExposedPorts": null}}), None, None);
    let bound = json!({"PortBindings": {"81/tcp": [{"HostPort": ""}]}});
    check(json!({"HostConfig": bound}), None, Some("172.17.0.2:81"));
    // Without an address yet, and on the host's network.
    let none = json!({"bridge": {"IPAddress": ""}});
    check(json!({"NetworkSettings": {"Networks": none}}), None, None);
    let host = json!({"bridge": {"IPAddress": ""}, "host": {"IPAddress": ""}});
    check(json!({"NetworkSettings": {"Networks": host}}), None, Some("10.9.8.7:8080"));
}

#[test]
fn running() {
    let check = |state: Value, expected: bool| {
        let found = is_running(&container(json!({"State": state.clone()})));
        assert_eq!(found, expected, "{state}");
    };
    check(json!({"Running": true, "Paused": false, "Restarting": false}), true);
    check(json!({"Running": true, "Paused": true}), false);
    // The engine calls a container that it will start again soon "running" as well.
    check(json!({"Running": true, "Restarting": true}), false);
    check(json!({"Running": false}), false);
    check(json!({}), false);
}

#[test]
fn health() {
    let check = |status: &str, expected: Option<bool>| {
        let state = json!({"State": {"Health": {"Status": status}}});
        assert_eq!(healthy(&container(state)), expected, "{status}");
    };
    check("healthy", Some(true));
    check("starting", Some(false));
    check("unhealthy", Some(false));
    check("none", None);
    check("", None);
    assert_eq!(healthy(&container(json!({}))), None);
}

proptest! {
    /// Whatever an engine answers, nothing panics, and what can be cloned is marked as a clone.
    #[test]
    fn odd_containers_do_no_harm(
        id in ".{0,14}", name in ".{0,4}", mode in ".{0,4}", port in ".{0,8}", host in ".{0,6}",
    ) {
        let container = container(json!({
            "Id": id, "Name": name, "Config": {"ExposedPorts": {port.clone(): {}}},
            "HostConfig": {"NetworkMode": mode, "PortBindings": {port: [{"HostPort": host}]}},
        }));
        notes(&container, None);
        address(&container, None, IpAddr::from([127, 0, 0, 1]));
        if let Ok(blueprint) = blueprint(&container, "web:1") {
            let labels = blueprint.body.labels.expect("labels");
            prop_assert_eq!(labels.get(CLONE_LABEL), container.id.as_ref());
        }
    }
}

#[test]
fn anonymous_volumes_that_compose_handed_on_are_not_shared() {
    let anonymous = "ade82aefd027ed84ff3ea7cd9de7224467f13d3d981647eefee377691d71ce72";
    let named = "shop_named:/named:rw";
    let check = |binds: Value, volumes: Value, expected: Value| {
        let mounts = json!([
            {"Type": "volume", "Source": anonymous, "Target": "/mount"},
            {"Type": "volume", "Source": "shop_named", "Target": "/other"},
        ]);
        let template = container(json!({
            "Config": {"Volumes": volumes}, "HostConfig": {"Binds": binds, "Mounts": mounts},
        }));
        let body = blueprint(&template, "web:1").expect("can be cloned").body;
        let body = serde_json::to_value(body).expect("body");
        assert_eq!(body["Volumes"], expected);
        assert_eq!(body["HostConfig"]["Mounts"][0].get("Source"), None);
        assert_eq!(body["HostConfig"]["Mounts"][1]["Source"], "shop_named");
        let expected = if binds.is_null() { json!(null) } else { json!([named]) };
        assert_eq!(body["HostConfig"]["Binds"], expected);
    };
    let handed_on = format!("{anonymous}:/anon:rw");
    check(json!([named, handed_on]), json!({"/anon": {}}), json!({"/anon": {}}));
    // Version 2 does not repeat the path.
    check(json!([named, handed_on]), json!({}), json!({"/anon": {}}));
    check(json!([format!("{anonymous}:/anon"), named]), json!({}), json!({"/anon": {}}));
    check(json!([named]), json!({"/named": {}}), json!({"/named": {}}));
    check(json!(null), json!({"/anon": {}}), json!({"/anon": {}}));
}

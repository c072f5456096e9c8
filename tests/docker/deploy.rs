//! I/O: Foresail in its own container, as `deploy/` has it: not root, nothing but a binary, beside
//! a service that it scales.

use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::bench::{PATIENCE, eventually, eventually_within, get};
use crate::compose::{Project, with_project};
use crate::image;

#[tokio::test]
async fn the_pair_comes_up_and_foresail_scales_from_its_container() {
    with_project("deploy", async |project| {
        let Some(socket) = socket() else { return println!("the engine has no unix socket") };
        write(project, &socket);
        project.compose(&["up", "--detach", "--build"]);

        let api = published(project, "foresail", 8080);
        let healthy = async || get(api, "/healthz").await.ok().filter(|it| *it == 200);
        eventually("the API answers", healthy).await;
        assert_eq!(get(api, "/v1/services").await.expect("answer"), 401, "without the token");
        let balancer = published(project, "foresail", 9000);
        let answered = async || get(balancer, "/work").await.ok().filter(|it| *it == 200);
        eventually_within(PATIENCE, "requests are answered", answered).await;
        let two = async || (project.listed().len() == 2).then_some(());
        eventually("a second replica", two).await;

        let id = project.compose(&["ps", "--quiet", "foresail"]);
        let container = project.bench.inspect(id.trim()).await;
        let (config, host) = (container.config.expect("config"), container.host_config);
        let host = host.expect("host config");
        assert_eq!(config.user.as_deref(), Some("65532:65532"));
        assert_eq!((host.privileged, host.readonly_rootfs), (Some(false), Some(true)));
        assert_eq!(host.cap_drop, Some(vec!["ALL".to_owned()]));
        let logs = project.compose(&["logs", "--no-color", "foresail"]);
        assert!(!logs.contains("WARN") && !logs.contains("ERROR"), "{logs}");

        project.compose(&["down", "--volumes", "--rmi", "all", "--timeout", "5"]);
        assert_eq!(project.bench.clones().await, [""; 0]);
    })
    .await;
}

/// The engine's socket, where it has one.
fn socket() -> Option<String> {
    let host = std::env::var("DOCKER_HOST").ok().filter(|host| !host.is_empty());
    let host = host.unwrap_or_else(|| "unix:///var/run/docker.sock".to_owned());
    host.strip_prefix("unix://").map(str::to_owned)
}

/// A copy of `deploy/` as the README has its users prepare it; other than theirs, with names of its
/// own, ports that are free and less patience.
fn write(project: &Project, socket: &str) {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy");
    let to = project.folder.path();
    let name = &project.bench.service;
    let read = |file: &str| std::fs::read_to_string(from.join(file)).expect("of this project");
    let write = |file: &str, text: String| std::fs::write(to.join(file), text).expect("write");
    write("Dockerfile", read("Dockerfile"));
    std::fs::create_dir(to.join("data")).expect("a folder");
    write("data/README", read("data/README"));
    let image = format!("image: {name}\n    labels: {{ test.foresail: {name} }}");
    write("docker-compose.yml", read("compose.yaml").replace("image: foresail", &image));
    let config = read("foresail.toml")
        .replace("project = \"deploy\"", &format!("project = \"{name}\""))
        .replace("min = 1", "min = 2")
        + "evaluation_interval = \"500ms\"\nsample_interval = \"500ms\"\n";
    assert!(foresail::config::parse_with_env(&config, &token()).is_ok(), "{config}");
    write("foresail.toml", config);
    let group = std::fs::metadata(socket).expect("the socket").gid();
    let ports = "FORESAIL_API_PORT=\nFORESAIL_BALANCER_PORT=\n";
    let [(variable, value)] = token();
    let env = format!("{variable}={value}\nDOCKER_GID={group}\nDOCKER_SOCKET={socket}\n{ports}");
    write(".env", env);
    image::copy_binary(to);
}

fn token() -> [(String, String); 1] {
    [("FORESAIL_API_TOKEN".to_owned(), "secret".to_owned())]
}

/// Where a port of a container is published.
fn published(project: &Project, service: &str, port: u16) -> SocketAddr {
    let address = project.compose(&["port", service, &port.to_string()]);
    let address = address.trim().parse::<SocketAddr>().expect("an address");
    assert!(address.ip().is_loopback(), "{address}");
    address
}

//! I/O: where the Docker engine is, and what its answers mean; shared by actuator and collector.

pub mod inventory;

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use bollard::Docker;
use bollard::errors::Error;
use hyper::http::uri::Authority;

use crate::io::actuator::ActuatorError;
use crate::io::collector::MetricsError;

/// Longest wait for an answer to a question.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// Longest wait for a container to be made, started or removed. A busy engine takes its time, and
/// who gives up too early throws away what was about to work.
pub const CHANGE_PATIENCE: Duration = Duration::from_secs(60);

/// On the container that stands for the lock against a second Foresail; it is no replica of anybody.
pub const LOCK_LABEL: &str = "foresail.lock";

/// One Docker engine. Every request makes its own connection, so the engine may come and go.
#[derive(Debug, Clone)]
pub struct Engine {
    host: String,
}

/// Why the engine did not do what it was asked. The messages are for people.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum EngineError {
    /// Nobody answers at the engine's address, or not in time.
    #[error("{0}")]
    Unavailable(String),
    /// It does not know the container, network or image.
    #[error("{0}")]
    Missing(String),
    /// A name is taken, or a container is being removed.
    #[error("{0}")]
    Conflict(String),
    #[error("{0}")]
    Refused(String),
}

impl Engine {
    /// The engine at `host`, else at `DOCKER_HOST`, else at the usual socket. Does not connect.
    ///
    /// # Errors
    /// What is wrong with the address, and what would be right.
    pub fn new(host: Option<&str>) -> Result<Engine, String> {
        let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        let host = host.map(str::to_owned).or_else(|| variable("DOCKER_HOST"));
        let host = host.unwrap_or_else(|| "unix:///var/run/docker.sock".to_owned());
        Engine::at(host, variable("DOCKER_TLS_VERIFY").is_some())
    }

    fn at(host: String, tls: bool) -> Result<Engine, String> {
        let well_formed = match host.split_once("://") {
            Some(("unix", path)) => path.starts_with('/'),
            Some(("tcp" | "http", _)) if tls => {
                return Err(format!(
                    "DOCKER_TLS_VERIFY is set, but Foresail speaks plain HTTP to {host}: use the \
                     engine's unix socket, or forward it (`ssh -L`)"
                ));
            }
            Some(("tcp" | "http", address)) => {
                address.parse::<Authority>().is_ok_and(|address| address.port_u16().is_some())
            }
            _ => false,
        };
        if well_formed {
            return Ok(Engine { host });
        }
        Err(format!(
            "`{host}` is no engine address: write `unix:///path/to/docker.sock` or \
             `tcp://host:port`"
        ))
    }

    /// As it was given: `unix://…` or `tcp://…`.
    pub fn address(&self) -> &str {
        &self.host
    }

    /// A client for [`Engine::call`].
    ///
    /// # Errors
    /// [`EngineError::Unavailable`] if the socket is absent.
    pub fn docker(&self) -> Result<Docker, EngineError> {
        // The client's own deadline would cut a long stop short; `call` sets the deadline instead.
        let no_deadline = Duration::from_secs(24 * 3600);
        Docker::connect_with_host(&self.host)
            .map(|docker| docker.with_timeout(no_deadline))
            .map_err(|error| self.explain(error))
    }

    /// Awaits a request of [`Engine::docker`] for at most `patience`.
    ///
    /// # Errors
    /// [`EngineError`], with the engine's own words where it answered.
    pub async fn call<T>(
        &self,
        patience: Duration,
        request: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, EngineError> {
        match tokio::time::timeout(patience, request).await {
            Ok(answer) => answer.map_err(|error| self.explain(error)),
            Err(_) => Err(self.silent(&format!("no answer within {} s", patience.as_secs()))),
        }
    }

    /// Where the ports that containers publish on all interfaces are reached from here.
    pub async fn published_on(&self) -> IpAddr {
        let local = IpAddr::V4(Ipv4Addr::LOCALHOST);
        match self.host.split_once("://") {
            Some(("tcp" | "http", address)) => tokio::net::lookup_host(address)
                .await
                .ok()
                .and_then(|mut found| found.next())
                .map_or(local, |address| address.ip()),
            _ => local,
        }
    }

    fn explain(&self, error: Error) -> EngineError {
        match error {
            Error::DockerResponseServerError { status_code: 404, message } => {
                EngineError::Missing(message)
            }
            Error::DockerResponseServerError { status_code: 409, message } => {
                EngineError::Conflict(message)
            }
            Error::DockerResponseServerError { message, .. } => EngineError::Refused(message),
            Error::JsonDataError { message, .. } => {
                EngineError::Refused(format!("the engine's answer cannot be read: {message}"))
            }
            Error::SocketNotFoundError(_) => self.silent("the socket does not exist"),
            error => {
                // The outermost error only says "client error"; the cause is at the end.
                let mut cause: &dyn std::error::Error = &error;
                while let Some(source) = cause.source() {
                    cause = source;
                }
                self.silent(&cause.to_string())
            }
        }
    }

    fn silent(&self, reason: &str) -> EngineError {
        EngineError::Unavailable(format!(
            "no Docker engine answers at {}: {reason} (is it running? its address is the target's \
             `host`, else DOCKER_HOST)",
            self.host
        ))
    }
}

impl From<EngineError> for ActuatorError {
    fn from(error: EngineError) -> ActuatorError {
        match error {
            EngineError::Unavailable(reason) => ActuatorError::Unavailable(reason),
            EngineError::Missing(reason)
            | EngineError::Conflict(reason)
            | EngineError::Refused(reason) => ActuatorError::Refused(reason),
        }
    }
}

impl From<EngineError> for MetricsError {
    fn from(error: EngineError) -> MetricsError {
        MetricsError::Unavailable(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let check = |host: &str, tls, expected: Result<(), &str>| {
            let found = Engine::at(host.to_owned(), tls);
            match (found, expected) {
                (Ok(_), Ok(())) => {}
                (Err(found), Err(part)) => assert!(found.contains(part), "{host}: {found}"),
                (found, _) => panic!("{host}: {found:?}"),
            }
        };
        check("unix:///var/run/docker.sock", false, Ok(()));
        check("unix:///var/run/docker.sock", true, Ok(()));
        check("tcp://127.0.0.1:2375", false, Ok(()));
        check("tcp://[::1]:2375", false, Ok(()));
        check("http://engine:2375", false, Ok(()));
        check("tcp://127.0.0.1:2376", true, Err("DOCKER_TLS_VERIFY"));
        check("tcp://engine", false, Err("tcp://host:port"));
        check("tcp://", false, Err("tcp://host:port"));
        check("tcp://a b:1", false, Err("tcp://host:port"));
        check("unix://relative", false, Err("unix:///path"));
        check("ssh://engine", false, Err("no engine address"));
        check("/var/run/docker.sock", false, Err("no engine address"));
        check("", false, Err("no engine address"));
    }

    /// The error of a ping at `host`.
    async fn ping(host: String) -> EngineError {
        let engine = Engine::at(host, false).expect("well-formed");
        match engine.docker() {
            Ok(docker) => engine.call(PATIENCE, docker.ping()).await.expect_err("no engine"),
            Err(error) => error,
        }
    }

    #[tokio::test]
    async fn silence_is_explained() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let path = folder.path().join("docker.sock");
        let host = format!("unix://{}", path.display());

        let absent = ping(host.clone()).await;
        let words = "docker.sock: the socket does not exist";
        assert!(matches!(&absent, EngineError::Unavailable(m) if m.contains(words)), "{absent}");

        // The socket file outlives its listener, as after an engine's crash.
        drop(std::os::unix::net::UnixListener::bind(&path).expect("bind"));
        let refused = ping(host).await;
        let words = "Connection refused";
        assert!(matches!(&refused, EngineError::Unavailable(m) if m.contains(words)), "{refused}");
    }

    #[tokio::test]
    async fn an_engine_that_hangs_is_unavailable() {
        let engine = Engine::at("tcp://127.0.0.1:1".to_owned(), false).expect("well-formed");
        let hang = std::future::pending::<Result<(), Error>>();
        let error = engine.call(Duration::ZERO, hang).await.expect_err("deadline");
        assert!(matches!(&error, EngineError::Unavailable(m) if m.contains("no answer within")));
    }

    #[test]
    fn the_engine_s_words_are_kept() {
        let engine = Engine::at("unix:///s".to_owned(), false).expect("well-formed");
        let answer = |status_code| {
            let message = "words".to_owned();
            engine.explain(Error::DockerResponseServerError { status_code, message })
        };
        assert_eq!(answer(404), EngineError::Missing("words".into()));
        assert_eq!(answer(409), EngineError::Conflict("words".into()));
        assert_eq!(answer(500), EngineError::Refused("words".into()));
    }
}

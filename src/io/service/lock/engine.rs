//! I/O: the entry of a [`super::lease`] on a Docker engine: a container that is never started.
//!
//! Of all that an engine keeps, containers alone have what a lease needs: a name that the engine
//! gives to one only, an id to remove by, and a number that can be changed in place (how often a
//! restart may be tried). It needs no rights beyond those of acting, but for the update. The image
//! is one that the service's containers have; nothing is pulled.

use std::collections::{BTreeSet, HashMap};

use bollard::models::{
    ContainerCreateBody, ContainerInspectResponse, ContainerUpdateBody, HostConfig, RestartPolicy,
    RestartPolicyNameEnum,
};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, InspectContainerOptions, ListContainersOptionsBuilder,
    RemoveContainerOptionsBuilder,
};

use super::lease::{Answer, Entry, Relation, Request};
use crate::io::docker::{CHANGE_PATIENCE, Engine, EngineError, LOCK_LABEL, PATIENCE};

/// On the entry: where its holder runs, and the mark of the holder's lock file.
const HOLDER_LABEL: &str = "foresail.lock.holder";
const MARK_LABEL: &str = "foresail.lock.mark";

/// Where the entry of one target is.
#[derive(Debug)]
pub struct Place {
    engine: Engine,
    /// The labels that all containers of the target carry, as `key=value` or `key`.
    labels: Vec<String>,
}

impl Place {
    /// # Errors
    /// What is wrong with the engine's address.
    pub fn new(host: Option<&str>, labels: Vec<String>) -> Result<Place, String> {
        Ok(Place { engine: Engine::new(host)?, labels })
    }

    pub fn address(&self) -> &str {
        self.engine.address()
    }

    /// A name for the container that no other labels lead to.
    pub fn name(&self) -> String {
        name(&self.labels)
    }

    /// Asks the engine; `mark` is that of the lock file held, if any.
    pub async fn ask(&self, request: Request, mark: Option<&str>) -> Answer {
        let of_entry = matches!(request, Request::Look | Request::Renew { .. });
        let answer = match request {
            Request::Look => self.look(mark).await,
            Request::Remove { id } => self.remove(&id).await.map(|()| Answer::Free),
            Request::Create => self.create(mark).await,
            Request::Renew { id, beat } => self.renew(&id, beat).await,
        };
        match answer {
            Ok(answer) => answer,
            Err(EngineError::Missing(_)) if of_entry => Answer::Free,
            Err(error) => Answer::Failed(error.to_string()),
        }
    }

    async fn look(&self, mark: Option<&str>) -> Result<Answer, EngineError> {
        let docker = self.engine.docker()?;
        let name = self.name();
        let request = docker.inspect_container(&name, None::<InspectContainerOptions>);
        Ok(Answer::Found(entry(self.engine.call(PATIENCE, request).await?, mark)))
    }

    /// Removes the entry `id`; one that is gone is no error.
    pub async fn remove(&self, id: &str) -> Result<(), EngineError> {
        let docker = self.engine.docker()?;
        let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
        match self.engine.call(CHANGE_PATIENCE, docker.remove_container(id, Some(options))).await {
            Err(EngineError::Missing(_) | EngineError::Conflict(_)) => Ok(()),
            result => result,
        }
    }

    async fn renew(&self, id: &str, beat: i64) -> Result<Answer, EngineError> {
        let docker = self.engine.docker()?;
        let restart_policy = Some(policy(beat));
        let body = ContainerUpdateBody { restart_policy, ..ContainerUpdateBody::default() };
        self.engine.call(PATIENCE, docker.update_container(id, body)).await?;
        Ok(Answer::Renewed)
    }

    async fn create(&self, mark: Option<&str>) -> Result<Answer, EngineError> {
        let docker = self.engine.docker()?;
        let filters = HashMap::from([("label", self.labels.clone())]);
        let options = ListContainersOptionsBuilder::new().all(true).filters(&filters).build();
        let found = self.engine.call(PATIENCE, docker.list_containers(Some(options))).await?;
        let images = found.into_iter().filter_map(|container| container.image_id);
        let images = images.collect::<BTreeSet<_>>();
        if images.is_empty() {
            return Ok(Answer::Failed("there is no container to act on".to_owned()));
        }
        // That of one container may have been removed.
        let mut seen = Err(EngineError::Missing(String::new()));
        for image in &images {
            seen = self.engine.call(PATIENCE, docker.inspect_image(image)).await;
            if !matches!(seen, Err(EngineError::Missing(_))) {
                break;
            }
        }
        let seen = seen?;
        // What the image says of its containers must not make the entry one of them.
        let image = seen.id;
        let inherited = seen.config.and_then(|config| config.labels).unwrap_or_default();
        let mut labels: HashMap<_, _> =
            inherited.into_keys().map(|key| (key, String::new())).collect();
        labels.insert(LOCK_LABEL.to_owned(), self.labels.join(","));
        labels.insert(HOLDER_LABEL.to_owned(), holder());
        labels.insert(MARK_LABEL.to_owned(), mark.unwrap_or_default().to_owned());
        let body = ContainerCreateBody {
            image,
            // Nothing that exists: the entry must do nothing if somebody starts it.
            entrypoint: Some(vec!["/foresail-lock-is-never-started".to_owned()]),
            labels: Some(labels),
            host_config: Some(HostConfig {
                network_mode: Some("none".to_owned()),
                restart_policy: Some(policy(0)),
                ..HostConfig::default()
            }),
            ..ContainerCreateBody::default()
        };
        let name = self.name();
        let options = CreateContainerOptionsBuilder::new().name(&name).build();
        match self.engine.call(PATIENCE, docker.create_container(Some(options), body)).await {
            Ok(created) => Ok(Answer::Created { id: created.id }),
            Err(EngineError::Conflict(_)) => Ok(Answer::Taken),
            Err(error) => Err(error),
        }
    }
}

fn policy(beat: i64) -> RestartPolicy {
    let name = Some(RestartPolicyNameEnum::ON_FAILURE);
    RestartPolicy { name, maximum_retry_count: Some(beat) }
}

fn entry(seen: ContainerInspectResponse, mark: Option<&str>) -> Entry {
    let mut labels = seen.config.and_then(|config| config.labels).unwrap_or_default();
    let policy = seen.host_config.and_then(|host| host.restart_policy);
    let same = mark.is_some_and(|mark| labels.get(MARK_LABEL).is_some_and(|it| it == mark));
    Entry {
        id: seen.id.unwrap_or_default(),
        beat: policy.and_then(|policy| policy.maximum_retry_count).unwrap_or(0),
        holder: labels.remove(HOLDER_LABEL).unwrap_or_else(|| "unknown".to_owned()),
        // Whoever held this file before has let go of it, and we hold it now.
        relation: if same { Relation::Heir } else { Relation::Stranger },
    }
}

fn holder() -> String {
    let host = sysinfo::System::host_name().unwrap_or_else(|| "unknown".to_owned());
    format!("on {host}")
}

/// Docker allows letters, digits and `_.-`; all else, and `_` itself, is written as `_` and its
/// code, so that two lists of labels never have one name.
fn name(labels: &[String]) -> String {
    let mut name = String::from("foresail-lock-");
    for byte in labels.join(",").bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'-' => name.push(char::from(byte)),
            _ => name.push_str(&format!("_{byte:02x}")),
        }
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let check = |labels: &[&str], expected: &str| {
            let labels = labels.iter().map(|label| (*label).to_owned()).collect::<Vec<_>>();
            assert_eq!(name(&labels), format!("foresail-lock-{expected}"));
        };
        check(&["foresail.service=web"], "foresail.service_3dweb");
        check(&["a-b"], "a-b");
        check(&["a_b"], "a_5fb");
        check(&["a", "b"], "a_2cb");
        check(&["é"], "_c3_a9");
        check(&[], "");
    }

    /// As the engine answers for an entry, and for containers that only have its name.
    #[test]
    fn entries() {
        let check = |labels: &str, policy: &str, mark: Option<&str>, expected: (i64, &str, _)| {
            let text = format!(
                r#"{{"Id": "id", "Config": {{"Labels": {labels}}}, "HostConfig": {{{policy}}}}}"#
            );
            let entry = entry(serde_json::from_str(&text).expect("an answer"), mark);
            assert_eq!((entry.beat, entry.holder.as_str(), entry.relation), expected, "{text}");
        };
        let labels = r#"{"foresail.lock.holder": "on h", "foresail.lock.mark": "m"}"#;
        let policy = r#""RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 7}"#;
        check(labels, policy, Some("m"), (7, "on h", Relation::Heir));
        check(labels, policy, Some("n"), (7, "on h", Relation::Stranger));
        check(labels, policy, None, (7, "on h", Relation::Stranger));
        check("null", "", Some("m"), (0, "unknown", Relation::Stranger));
        // Without a file there is no mark, and two empty ones prove nothing.
        check(r#"{"foresail.lock.mark": ""}"#, "", None, (0, "unknown", Relation::Stranger));
    }
}

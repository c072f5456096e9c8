//! I/O: what the containers of one engine are like, kept current by the engine's events.
//!
//! A listing always asks the engine, so that nobody scales on what was true a while ago, and finds
//! out at once that the engine is away. What a listing does not tell takes a question for each
//! container; those answers are remembered until an event names the container. Events that are
//! missed are made up for twice a minute, when everything that is remembered is asked again. While
//! no events come nothing is remembered: Foresail works on, at the price of those questions.
//!
//! Known limit: between a change and its event, some milliseconds, the answer is the one before.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bollard::models::{
    ContainerInspectResponse, ContainerSummary, EventMessage, EventMessageTypeEnum,
};
use bollard::query_parameters::{
    EventsOptionsBuilder, InspectContainerOptions, ListContainersOptionsBuilder,
};
use chrono::Utc;
use futures_util::TryStreamExt;
use tokio::sync::{Notify, watch};
use tokio_util::task::AbortOnDropHandle;

use super::{Engine, EngineError, LOCK_LABEL, PATIENCE};

/// How long a missed event may go unnoticed.
const RELIST: Duration = Duration::from_secs(30);

/// Pauses before the stream of events is opened again, each twice the one before.
const SHORTEST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(8);

/// Events that came this long before the stream was opened are told, too: what was asked meanwhile
/// may be older than they are.
const OVERLAP_SECONDS: i64 = 2;

/// All that may change what an inspection tells. Not among them: `exec_…`, which each health check
/// makes several of.
const ACTIONS: [&str; 13] = [
    "create",
    "start",
    "restart",
    "die",
    "stop",
    "oom",
    "pause",
    "unpause",
    "rename",
    "update",
    "destroy",
    "connect",
    "disconnect",
];
const HEALTH: &str = "health_status";

/// The containers of one engine; clones share what is remembered. Follows the engine's events until
/// the last one is dropped.
#[derive(Debug, Clone)]
pub struct Inventory {
    shared: Arc<Shared>,
    _follower: Arc<AbortOnDropHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    engine: Engine,
    known: Mutex<Known>,
    /// Somebody has found the engine silent.
    silent: Notify,
    /// Counts what may have changed the containers.
    changes: watch::Sender<u64>,
}

impl Inventory {
    /// Follows the engine from now on, also if it is away. Must be called in a Tokio runtime.
    pub fn follow(engine: Engine) -> Inventory {
        let (known, silent) = (Mutex::default(), Notify::new());
        let changes = watch::Sender::new(0);
        let shared = Arc::new(Shared { engine, known, silent, changes });
        let follower = tokio::spawn(follow(shared.clone()));
        Inventory { shared, _follower: Arc::new(AbortOnDropHandle::new(follower)) }
    }

    pub fn engine(&self) -> &Engine {
        &self.shared.engine
    }

    /// Changes whenever containers may have come, gone or changed; twice a minute in any case.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.shared.changes.subscribe()
    }

    /// Every container with `label` (`key` or `key=value`), in any state, as the engine sees it now.
    ///
    /// # Errors
    /// [`EngineError`], as the engine answers or does not.
    pub async fn labelled(&self, label: &str) -> Result<Vec<ContainerSummary>, EngineError> {
        let filters = HashMap::from([("label", vec![label])]);
        let options = ListContainersOptionsBuilder::new().all(true).filters(&filters).build();
        let docker = self.shared.heard(self.shared.engine.docker())?;
        let listing = self.shared.engine.call(PATIENCE, docker.list_containers(Some(options)));
        self.shared.heard(listing.await)
    }

    /// All that the engine tells of one container. The same `Arc` until the engine was asked again.
    ///
    /// # Errors
    /// [`EngineError`], as the engine answers or does not.
    pub async fn inspect(&self, id: &str) -> Result<Arc<ContainerInspectResponse>, EngineError> {
        let seen = self.shared.known().seen(id);
        match seen {
            Some(seen) => Ok(seen),
            None => self.shared.ask(id).await,
        }
    }
}

impl Shared {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Inspects a container, and remembers the answer unless an event named it meanwhile.
    async fn ask(&self, id: &str) -> Result<Arc<ContainerInspectResponse>, EngineError> {
        let asked = self.known().asked(id);
        let docker = self.heard(self.engine.docker())?;
        let request = docker.inspect_container(id, None::<InspectContainerOptions>);
        let answer = self.heard(self.engine.call(PATIENCE, request).await).map(Arc::new);
        match &answer {
            Ok(seen) => self.known().answered(id, asked, seen.clone()),
            Err(_) => self.known().changed(id),
        }
        answer
    }

    /// Passes an answer on. Where the engine is silent, nothing is believed that was heard before.
    fn heard<T>(&self, answer: Result<T, EngineError>) -> Result<T, EngineError> {
        if matches!(answer, Err(EngineError::Unavailable(_))) {
            self.known().forget();
            self.silent.notify_one();
        }
        answer
    }

    fn tell(&self) {
        self.changes.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Takes in events until they end, and says why they did.
    async fn listen(&self) -> EngineError {
        let docker = match self.engine.docker() {
            Ok(docker) => docker,
            Err(error) => return error,
        };
        let filters = HashMap::from([
            ("type", vec!["container", "network"]),
            ("event", ACTIONS.into_iter().chain([HEALTH]).collect()),
        ]);
        let since = (Utc::now().timestamp() - OVERLAP_SECONDS).to_string();
        let options = EventsOptionsBuilder::new().since(&since).filters(&filters).build();
        self.known().remember();
        self.tell();
        let mut events = pin!(docker.events(Some(options)));
        loop {
            match events.try_next().await {
                Ok(Some(event)) => {
                    if let Some(id) = container_of(&event) {
                        self.known().changed(&id);
                        self.tell();
                    }
                }
                Ok(None) => return EngineError::Unavailable("its events have ended".to_owned()),
                Err(error) => return self.engine.explain(error),
            }
        }
    }

    /// Makes up for events that were missed.
    async fn ask_again(&self) {
        loop {
            tokio::time::sleep(RELIST).await;
            let ids = self.known().ids();
            for id in ids {
                // Who reads meanwhile is answered from memory. An error has been taken note of.
                if let Err(EngineError::Unavailable(_)) = self.ask(&id).await {
                    break;
                }
            }
            self.tell();
        }
    }
}

/// Keeps the stream of events open.
async fn follow(shared: Arc<Shared>) {
    let mut pause = SHORTEST_PAUSE;
    loop {
        let opened = Instant::now();
        let reason = tokio::select! {
            error = shared.listen() => error.to_string(),
            () = shared.ask_again() => return,
            () = shared.silent.notified() => "the engine is silent".to_owned(),
        };
        shared.known().forget();
        shared.tell();
        if opened.elapsed() > LONGEST_PAUSE {
            pause = SHORTEST_PAUSE;
        }
        if pause == SHORTEST_PAUSE {
            tracing::warn!(reason, "the engine's events cannot be followed");
        }
        tokio::time::sleep(pause).await;
        pause = LONGEST_PAUSE.min(2 * pause);
    }
}

/// The container that an event is about: it is the actor, or joins or leaves the network that is.
fn container_of(event: &EventMessage) -> Option<String> {
    let actor = event.actor.as_ref()?;
    // Once a second the lock is renewed, which changes no replica.
    if actor.attributes.as_ref().is_some_and(|labels| labels.contains_key(LOCK_LABEL)) {
        return None;
    }
    match event.typ {
        Some(EventMessageTypeEnum::NETWORK) => actor.attributes.as_ref()?.get("container").cloned(),
        _ => actor.id.clone(),
    }
}

/// What is remembered.
#[derive(Debug, Default)]
struct Known {
    /// Whether events come; without them an answer is out of date with the next change.
    remembering: bool,
    /// Numbers the questions.
    questions: u64,
    containers: HashMap<String, Container>,
}

/// One container that somebody asked for, since the last event that named it.
#[derive(Debug)]
struct Container {
    /// The first question that the event came before.
    asked: u64,
    seen: Option<Arc<ContainerInspectResponse>>,
}

impl Known {
    fn seen(&self, id: &str) -> Option<Arc<ContainerInspectResponse>> {
        self.containers.get(id)?.seen.clone()
    }

    fn ids(&self) -> Vec<String> {
        self.containers.keys().cloned().collect()
    }

    /// A question is put; gives its number for [`Known::answered`].
    fn asked(&mut self, id: &str) -> u64 {
        self.questions += 1;
        let asked = self.questions;
        if self.remembering {
            self.containers.entry(id.to_owned()).or_insert(Container { asked, seen: None });
        }
        asked
    }

    /// The answer to question `asked`, which is out of date if the container has changed since.
    fn answered(&mut self, id: &str, asked: u64, seen: Arc<ContainerInspectResponse>) {
        if let Some(container) = self.containers.get_mut(id).filter(|it| it.asked <= asked) {
            container.seen = Some(seen);
        }
    }

    fn changed(&mut self, id: &str) {
        self.containers.remove(id);
    }

    fn remember(&mut self) {
        self.remembering = true;
    }

    fn forget(&mut self) {
        self.remembering = false;
        self.containers.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What befalls one container, and whose answer is remembered in the end.
    #[derive(Debug, Clone, Copy)]
    enum Step {
        /// Question by its number in the row, from 1.
        Ask,
        Answer(u64),
        Event,
        Silence,
        Open,
    }

    fn check(steps: &[Step], expected: Option<u64>) {
        let mut known = Known::default();
        known.remember();
        for step in steps {
            match step {
                Step::Ask => drop(known.asked("a")),
                Step::Answer(number) => {
                    let id = Some(number.to_string());
                    let seen = ContainerInspectResponse { id, ..Default::default() };
                    known.answered("a", *number, Arc::new(seen));
                }
                Step::Event => known.changed("a"),
                Step::Silence => known.forget(),
                Step::Open => known.remember(),
            }
        }
        let seen = known.seen("a").and_then(|seen| seen.id.clone());
        assert_eq!(seen, expected.map(|number| number.to_string()), "{steps:?}");
    }

    #[test]
    fn an_answer_is_remembered_until_something_happens() {
        use Step::*;
        check(&[Ask], None);
        check(&[Ask, Answer(1)], Some(1));
        check(&[Ask, Answer(1), Event], None);
        // The event came while the engine was asked: nobody knows which was first.
        check(&[Ask, Event, Answer(1)], None);
        check(&[Ask, Event, Ask, Answer(1)], None);
        check(&[Ask, Event, Ask, Answer(1), Answer(2)], Some(2));
        check(&[Ask, Event, Ask, Answer(2), Answer(1)], Some(2));
        // Two that ask at once, without an event, may both be right.
        check(&[Ask, Ask, Answer(2), Answer(1)], Some(1));
        check(&[Ask, Answer(1), Ask, Answer(2)], Some(2));
    }

    #[test]
    fn without_events_nothing_is_remembered() {
        use Step::*;
        check(&[Ask, Answer(1), Silence], None);
        check(&[Ask, Silence, Answer(1)], None);
        check(&[Silence, Ask, Answer(1)], None);
        check(&[Ask, Silence, Open, Answer(1)], None);
        check(&[Ask, Silence, Open, Ask, Answer(1)], None);
        check(&[Ask, Silence, Open, Ask, Answer(2)], Some(2));
    }

    #[test]
    fn events_name_containers() {
        let check = |event: &str, expected: Option<&str>| {
            let parsed = serde_json::from_str(event).expect("an event");
            assert_eq!(container_of(&parsed).as_deref(), expected, "{event}");
        };
        check(r#"{"Type":"container","Action":"die","Actor":{"ID":"c"}}"#, Some("c"));
        let attributes = r#"{"ID":"n","Attributes":{"container":"c","name":"front"}}"#;
        let joined = format!(r#"{{"Type":"network","Action":"connect","Actor":{attributes}}}"#);
        check(&joined, Some("c"));
        check(r#"{"Type":"network","Action":"create","Actor":{"ID":"n"}}"#, None);
        check(r#"{"Type":"container"}"#, None);
        let lock = r#"{"ID":"c","Attributes":{"foresail.lock":"foresail.service=web"}}"#;
        check(&format!(r#"{{"Type":"container","Action":"update","Actor":{lock}}}"#), None);
        check("{}", None);
    }
}

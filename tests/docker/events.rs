//! I/O: what the engine does to the containers of one test, followed as it happens.

use std::collections::{BTreeSet, HashMap};
use std::ops::RangeInclusive;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};

use bollard::models::EventMessage;
use bollard::query_parameters::EventsOptionsBuilder;
use foresail::fleet::short;
use futures_util::TryStreamExt;
use tokio_util::task::AbortOnDropHandle;

use crate::bench::{Bench, TEST_LABEL, eventually};

/// One thing done to a container.
#[derive(Debug, Clone)]
pub struct Event {
    pub action: String,
    pub container: String,
    pub nanoseconds: i64,
    /// Of a `kill`.
    pub signal: Option<String>,
}

/// All events since it was made, oldest first.
pub struct Events {
    seen: Arc<Mutex<Vec<Event>>>,
    _following: AbortOnDropHandle<()>,
}

impl Events {
    pub async fn follow(bench: &Bench) -> Events {
        let label = format!("{TEST_LABEL}={}", bench.service);
        let filters =
            HashMap::from([("type", vec!["container".to_owned()]), ("label", vec![label])]);
        let options = EventsOptionsBuilder::new().filters(&filters).build();
        let (docker, seen) = (bench.docker.clone(), Arc::new(Mutex::new(Vec::new())));
        let events = seen.clone();
        let following = tokio::spawn(async move {
            let mut stream = pin!(docker.events(Some(options)));
            while let Ok(Some(event)) = stream.try_next().await {
                events.lock().unwrap_or_else(PoisonError::into_inner).extend(read(event));
            }
        });
        let events = Events { seen, _following: AbortOnDropHandle::new(following) };
        // Only what comes after the engine has taken the question is told.
        eventually("events are followed", async || {
            let id = bench.create("event", bench.worker()).await;
            bench.kill(&id).await;
            let gone = |event: &Event| event.container == id && event.action == "destroy";
            events.all().iter().any(gone).then_some(())
        })
        .await;
        events.seen.lock().unwrap_or_else(PoisonError::into_inner).clear();
        events
    }

    pub fn all(&self) -> Vec<Event> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn of(&self, action: &str) -> Vec<Event> {
        self.all().into_iter().filter(|event| event.action == action).collect()
    }

    /// Asserts that after each of the events so many containers are alive: started, and not told to
    /// stop. `before` were alive when the events began.
    pub fn assert_alive(&self, before: &[String], within: RangeInclusive<usize>) {
        let mut alive: BTreeSet<String> = before.iter().cloned().collect();
        let mut told = String::new();
        for Event { action, container, nanoseconds, signal } in self.all() {
            match action.as_str() {
                "start" => alive.insert(container.clone()),
                "kill" | "die" | "destroy" => alive.remove(&container),
                _ => false,
            };
            let (count, id, signal) = (alive.len(), short(&container), signal.unwrap_or_default());
            told += &format!("{nanoseconds} {id} {action} {signal}: {count} alive\n");
            assert!(within.contains(&count), "not within {within:?}, from {before:?}:\n{told}");
        }
    }
}

fn read(event: EventMessage) -> Option<Event> {
    let actor = event.actor?;
    let signal = actor.attributes.and_then(|mut attributes| attributes.remove("signal"));
    let (action, container) = (event.action?, actor.id?);
    Some(Event { action, container, nanoseconds: event.time_nano?, signal })
}

//! Pure: who may act on a target: a lease on one entry of the engine that everybody can see.
//!
//! The entry has a name that only one can have, an id that never comes back, and a number that its
//! holder raises once a [`BEAT`]. Nobody compares clocks: a watcher takes the entry for abandoned
//! when the number stood still for [`STALE`] of the watcher's own time, and removes it by its id,
//! so that it can never remove a newer one. Whoever then creates the entry holds it.
//!
//! Why two never act at once: a holder acts only within [`VALID`] of the sending of its last
//! renewal that was confirmed, and a new holder only [`SETTLE`] > `VALID` after its entry was
//! created. An entry can only be created once the one before it is gone, and from then on its
//! holder confirms no more renewals. So it has stopped before the new one starts, whoever removed
//! the entry: a watcher, or a user who prunes containers.
//!
//! An heir (a process that can prove that the holder has ended) goes on with the same entry. Its
//! number tells for how long the entry has existed at least, and so what is left to settle.
//!
//! Known limits: a command that was sent while the lease was valid may arrive after it has ended.
//! Two targets that mean the same containers in other words have two entries.

use std::time::{Duration, Instant};

/// Pause between two renewals, or two looks.
pub const BEAT: Duration = Duration::from_secs(1);
const VALID: Duration = Duration::from_secs(3);
const SETTLE: Duration = Duration::from_secs(4);
const STALE: Duration = Duration::from_secs(4);

/// What one process knows of the entry. It asks ([`Lease::request`]) and is told
/// ([`Lease::answer`]), one after the other.
#[derive(Debug)]
pub struct Lease {
    standing: Standing,
    /// Why the last request failed.
    problem: Option<String>,
}

#[derive(Debug)]
enum Standing {
    Unknown,
    Watching { id: String, beat: i64, since: Instant, holder: String },
    Removing { id: String },
    Vacant,
    Holding { id: String, beat: i64, acts_from: Instant, confirmed: Option<Instant> },
}

/// What to ask the engine.
#[derive(Debug, Clone, PartialEq)]
pub enum Request {
    Look,
    Remove { id: String },
    Create,
    Renew { id: String, beat: i64 },
}

/// What the engine said.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    Found(Entry),
    /// There is no entry: none was found, or none is left with this id.
    Free,
    Created {
        id: String,
    },
    /// Somebody else created it first.
    Taken,
    Renewed,
    Failed(String),
}

#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    pub id: String,
    pub beat: i64,
    /// For people.
    pub holder: String,
    pub relation: Relation,
}

/// What the holder of an entry is to the one who looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relation {
    Stranger,
    /// The holder is known to have ended, and nobody else inherits from it.
    Heir,
}

impl Lease {
    pub fn new() -> Lease {
        Lease { standing: Standing::Unknown, problem: None }
    }

    pub fn request(&self) -> Request {
        match &self.standing {
            Standing::Unknown | Standing::Watching { .. } => Request::Look,
            Standing::Removing { id } => Request::Remove { id: id.clone() },
            Standing::Vacant => Request::Create,
            Standing::Holding { id, beat, .. } => Request::Renew { id: id.clone(), beat: *beat },
        }
    }

    /// Takes in what came at `now` of the request that was sent at `sent`; says whether to ask
    /// again at once, else after a [`BEAT`].
    pub fn answer(&mut self, sent: Instant, now: Instant, answer: Answer) -> bool {
        let answer = match answer {
            Answer::Failed(reason) => {
                self.problem = Some(reason);
                return false;
            }
            answer => answer,
        };
        self.problem = None;
        let before = std::mem::replace(&mut self.standing, Standing::Unknown);
        let (standing, again) = match (before, answer) {
            (Standing::Holding { id, beat, acts_from, .. }, Answer::Renewed) => {
                let confirmed = Some(sent);
                (Standing::Holding { id, beat: beat + 1, acts_from, confirmed }, false)
            }
            (_, Answer::Created { id }) => {
                let (acts_from, confirmed) = (now + SETTLE, Some(sent));
                (Standing::Holding { id, beat: 1, acts_from, confirmed }, false)
            }
            (before, Answer::Found(entry)) => look(before, now, entry),
            (Standing::Holding { .. }, Answer::Free) => (Standing::Unknown, true),
            (_, Answer::Free) => (Standing::Vacant, true),
            (_, Answer::Taken) => (Standing::Unknown, true),
            (before, Answer::Renewed | Answer::Failed(_)) => (before, false),
        };
        self.standing = standing;
        again
    }

    /// The entry to remove when the holder wants to act no more.
    pub fn held(&self) -> Option<&str> {
        match &self.standing {
            Standing::Holding { id, .. } => Some(id),
            _ => None,
        }
    }

    /// Whether somebody else was seen to hold it.
    pub fn watches(&self) -> bool {
        matches!(self.standing, Standing::Watching { .. })
    }

    /// Why its owner must not act at `now`; `None` if it may.
    pub fn refusal(&self, now: Instant) -> Option<String> {
        let reason = match &self.standing {
            Standing::Holding { acts_from, confirmed, .. } => {
                let valid = confirmed.is_some_and(|confirmed| now < confirmed + VALID);
                match (valid, now < *acts_from) {
                    (true, false) => return None,
                    (true, true) => "another Foresail may still act for some seconds".to_owned(),
                    (false, _) => "the lock against a second Foresail was not renewed".to_owned(),
                }
            }
            Standing::Watching { holder, .. } => format!("another Foresail ({holder}) acts"),
            _ => "the lock against a second Foresail is not held".to_owned(),
        };
        let problem = self.problem.iter().map(|problem| format!(" ({problem})"));
        Some(format!("{reason}{}: only observing", problem.collect::<String>()))
    }
}

fn look(before: Standing, now: Instant, entry: Entry) -> (Standing, bool) {
    let Entry { id, beat, holder, relation } = entry;
    if relation == Relation::Heir {
        let existed = BEAT * u32::try_from(beat).unwrap_or(0).min(SETTLE.as_secs() as u32);
        let acts_from = now + SETTLE.saturating_sub(existed);
        return (Standing::Holding { id, beat, acts_from, confirmed: None }, true);
    }
    let since = match before {
        Standing::Watching { id: same, beat: still, since, .. }
            if (&same, still) == (&id, beat) =>
        {
            since
        }
        _ => now,
    };
    if now >= since + STALE {
        return (Standing::Removing { id }, true);
    }
    (Standing::Watching { id, beat, since, holder }, false)
}

#[cfg(test)]
mod tests;

//! Pure: one choice, by session, by the algorithm, or by who has room; and what it rested on.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::random::mix;
use super::{
    Algorithm, InFlight, Key, STRIDE, Session, Snapshot, Target, least_request, peak_ewma,
};

/// Choices for one request before it is said that nobody has room: each but the last met a replica
/// that others filled between choice and count.
const TRIES: u32 = 8;

/// A choice and what it rested on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Chosen {
    pub index: usize,
    pub by: By,
    /// The two that were compared, with their costs.
    pub compared: Option<[(usize, f64); 2]>,
}

/// What decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum By {
    /// The client's cookie names the replica.
    Session,
    Turn,
    Draw,
    Cost,
    /// There is no second to compare with.
    Only,
    Hash,
    First,
    /// The one that the algorithm would take is at its limit.
    Room,
}

impl Snapshot {
    /// The replica for one request; `random` is a fresh uniform draw. `None` if none is ready or
    /// has room.
    pub fn pick(&self, key: Key, random: u64, now: Duration) -> Option<&Target> {
        self.ready().get(self.choose(key, random, now)?.index)
    }

    /// As [`Snapshot::pick`], and counts the request as in flight there until the guard is dropped.
    /// Never more than the limit.
    pub fn take(&self, key: Key, random: u64, now: Duration) -> Option<(&Target, InFlight)> {
        let mut random = random;
        for _ in 0..TRIES {
            let target = self.pick(key, random, now)?;
            if let Some(in_flight) = InFlight::within(&target.counters) {
                return Some((target, in_flight));
            }
            random = mix(random.wrapping_add(STRIDE));
        }
        None
    }

    /// A second choice for a request that failed at `failed`: any other replica that may be chosen,
    /// at random by weight. `None` if there is no other with room.
    pub fn pick_other(&self, failed: SocketAddr, random: u64) -> Option<&Target> {
        let ready = self.ready();
        let Some(index) = ready.iter().position(|target| target.address == failed) else {
            let drawn = self.weights.draw(random);
            return self.has_room(drawn).then(|| ready.get(drawn)).flatten();
        };
        let mut random = random;
        for _ in 0..TRIES {
            let other = self.weights.draw_other(index, random)?;
            if self.has_room(other) {
                return ready.get(other);
            }
            random = mix(random.wrapping_add(STRIDE));
        }
        None
    }

    /// As [`Snapshot::pick_other`], and counts the request as in flight there.
    pub fn take_other(&self, failed: SocketAddr, random: u64) -> Option<(&Target, InFlight)> {
        let target = self.pick_other(failed, random)?;
        Some((target, InFlight::within(&target.counters)?))
    }

    /// Whether every replica that may be chosen is at its limit; false if there is none.
    pub fn is_full(&self) -> bool {
        !self.ready().is_empty() && !(0..self.ready().len()).any(|index| self.has_room(index))
    }

    pub(super) fn choose(&self, key: Key, random: u64, now: Duration) -> Option<Chosen> {
        if self.ready().is_empty() {
            return None;
        }
        if let Some(index) = key.session.and_then(|session| self.of_session(session))
            && self.has_room(index)
        {
            return Some(Chosen::by(By::Session, index));
        }
        let hashed = match self.rules.algorithm {
            Algorithm::IpHash => key.client_hash(),
            Algorithm::KeyHash => key.key.or_else(|| key.client_hash()),
            _ => None,
        };
        let chosen = self.by_algorithm(hashed, random, now)?;
        if self.has_room(chosen.index) {
            return Some(chosen);
        }
        // Requests of one key overflow to the same other replica.
        let bits = u128::from(hashed.map_or(random, mix)) * self.places.len() as u128;
        let with_room = self.places.with_room(&self.room, self.ready(), (bits >> 64) as usize);
        Some(Chosen::by(By::Room, with_room?))
    }

    fn by_algorithm(&self, hashed: Option<u64>, random: u64, now: Duration) -> Option<Chosen> {
        let ready = self.ready();
        let drawn = || self.weights.draw(random);
        Some(match self.rules.algorithm {
            Algorithm::RoundRobin => {
                let turn = self.turn.fetch_add(1, Ordering::Relaxed);
                Chosen::by(By::Turn, (turn % ready.len() as u64) as usize)
            }
            Algorithm::WeightedRoundRobin => Chosen::by(By::Turn, self.smooth.pick()),
            Algorithm::Random => Chosen::by(By::Draw, drawn()),
            Algorithm::LeastRequest => self.of_two(drawn(), random, |a, b| {
                least_request::loads(&self.loads[a], &self.loads[b], self.slowest, now)
            }),
            Algorithm::PeakEwma => self.of_two(drawn(), random, |a, b| {
                let cost = |index: usize| peak_ewma::cost(&self.loads[index], self.slowest, now);
                (cost(a), cost(b))
            }),
            Algorithm::FirstFit if self.room.limit() == u32::MAX => {
                Chosen::by(By::First, self.places.first()?)
            }
            Algorithm::FirstFit => {
                Chosen::by(By::First, self.places.with_room(&self.room, ready, 0)?)
            }
            Algorithm::IpHash | Algorithm::KeyHash => match (hashed, &self.table) {
                (Some(hash), Some(table)) => Chosen::by(By::Hash, table.pick(hash)),
                _ => Chosen::by(By::Draw, drawn()),
            },
        })
    }

    /// The cheaper of `first` and another draw; `first` if they cost the same.
    fn of_two(
        &self,
        first: usize,
        random: u64,
        costs: impl Fn(usize, usize) -> (f64, f64),
    ) -> Chosen {
        let Some(second) = self.weights.draw_other(first, random) else {
            return Chosen::by(By::Only, first);
        };
        let (of_first, of_second) = costs(first, second);
        let index = if of_second < of_first { second } else { first };
        Chosen { index, by: By::Cost, compared: Some([(first, of_first), (second, of_second)]) }
    }

    fn of_session(&self, session: Session) -> Option<usize> {
        let at = self.sessions.binary_search_by_key(&session, |(session, _)| *session).ok()?;
        Some(self.sessions[at].1 as usize)
    }

    pub(super) fn has_room(&self, index: usize) -> bool {
        let limit = self.room.limit();
        limit == u32::MAX || self.loads.get(index).is_some_and(|load| load.in_flight() < limit)
    }
}

impl Chosen {
    fn by(by: By, index: usize) -> Chosen {
        Chosen { index, by, compared: None }
    }
}

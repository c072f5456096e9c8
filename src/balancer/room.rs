//! Pure: who has room, as one bit for each replica, so that one load tells 64 of them.
//!
//! A replica keeps its place, the number of its bit, as long as it is in the snapshots; the lowest
//! free one is given out, so places are also the order in which first-fit fills. A bit says "not at
//! the limit" and is a hint: whoever finds it wrong clears it. It is never clear for a replica with
//! room, because whoever clears it looks again afterwards, and a request that leaves sets it.
//! Without a limit there are no bits.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::Target;

/// Replicas beyond this many are not found by their bits, only by the algorithm's own draw.
const PLACES: usize = 65_536;

/// The bits of all places, shared by all snapshots of a service.
#[derive(Debug)]
pub(super) struct Room {
    limit: u32,
    bits: Box<[AtomicU64]>,
}

impl Room {
    pub(super) fn new(limit: Option<u32>) -> Arc<Room> {
        let words = if limit.is_some() { PLACES / 64 } else { 0 };
        let bits = (0..words).map(|_| AtomicU64::new(0)).collect();
        Arc::new(Room { limit: limit.unwrap_or(u32::MAX), bits })
    }

    pub(super) fn limit(&self) -> u32 {
        self.limit
    }

    fn word(&self, place: u32) -> Option<(&AtomicU64, u64)> {
        Some((self.bits.get(place as usize / 64)?, 1 << (place % 64)))
    }
}

/// One replica's bit.
#[derive(Debug, Default)]
pub(super) struct Place(Option<(Arc<Room>, u32)>);

impl Place {
    pub(super) fn new(room: &Arc<Room>, number: u32) -> Place {
        Place(Some((Arc::clone(room), number)))
    }

    /// Most requests in flight.
    pub(super) fn limit(&self) -> u32 {
        self.0.as_ref().map_or(u32::MAX, |(room, _)| room.limit)
    }

    pub(super) fn number(&self) -> u32 {
        self.0.as_ref().map_or(u32::MAX, |(_, number)| *number)
    }

    /// The replica is at its limit, unless `in_flight` says meanwhile that it is not.
    pub(super) fn full(&self, in_flight: &AtomicU32) {
        let Some((room, (word, bit))) = self.bit() else { return };
        word.fetch_and(!bit, Ordering::SeqCst);
        if in_flight.load(Ordering::SeqCst) < room.limit {
            word.fetch_or(bit, Ordering::SeqCst);
        }
    }

    /// Sets the bit to what `in_flight` says.
    fn refresh(&self, in_flight: &AtomicU32) {
        let Some((room, (word, bit))) = self.bit() else { return };
        if in_flight.load(Ordering::SeqCst) < room.limit {
            word.fetch_or(bit, Ordering::SeqCst);
        } else {
            self.full(in_flight);
        }
    }

    /// A request left, with `before` in flight until then.
    pub(super) fn left(&self, before: u32) {
        if let Some((room, (word, bit))) = self.bit()
            && before == room.limit
        {
            word.fetch_or(bit, Ordering::SeqCst);
        }
    }

    fn bit(&self) -> Option<(&Arc<Room>, (&AtomicU64, u64))> {
        let (room, number) = self.0.as_ref()?;
        Some((room, room.word(*number)?))
    }
}

/// The places of the replicas that one snapshot may choose.
#[derive(Debug, Default)]
pub(super) struct Places {
    mask: Box<[u64]>,
    /// Index into the targets, by place.
    index: Box<[u32]>,
}

impl Places {
    pub(super) fn new(eligible: &[Target]) -> Places {
        let place = |target: &Target| target.counters.place.number() as usize;
        let length = |t: &Target| if place(t) < PLACES { place(t) + 1 } else { 0 };
        let length = eligible.iter().map(length).max().unwrap_or(0);
        let mut mask = vec![0; length.div_ceil(64)];
        let mut index = vec![0; length];
        for (i, target) in eligible.iter().enumerate().filter(|(_, t)| place(t) < PLACES) {
            mask[place(target) / 64] |= 1 << (place(target) % 64);
            index[place(target)] = i as u32;
            // Whatever a late request of an earlier holder of this place has left there.
            target.counters.place.refresh(&target.counters.in_flight);
        }
        Places { mask: mask.into(), index: index.into() }
    }

    /// The first place without regard to room.
    pub(super) fn first(&self) -> Option<usize> {
        let word = self.mask.iter().position(|word| *word != 0)?;
        let place = word * 64 + self.mask[word].trailing_zeros() as usize;
        Some(self.index[place] as usize)
    }

    /// The first replica with room in the order of places, from the place `start` on and round.
    pub(super) fn with_room(
        &self,
        room: &Room,
        eligible: &[Target],
        start: usize,
    ) -> Option<usize> {
        let words = self.mask.len();
        let (first, low) = (start / 64, (1_u64 << (start % 64)) - 1);
        // The word of `start` is looked at twice: from there up first, its low bits last.
        (0..=words).find_map(|step| {
            let word = (first + step) % words.max(1);
            let part = if step == 0 {
                !low
            } else if step == words {
                low
            } else {
                !0
            };
            self.in_word(room, eligible, word, part)
        })
    }

    pub(super) fn len(&self) -> usize {
        self.index.len()
    }

    fn in_word(&self, room: &Room, eligible: &[Target], word: usize, part: u64) -> Option<usize> {
        let free = room.bits.get(word)?.load(Ordering::Acquire);
        let mut bits = self.mask.get(word)? & part & free;
        while bits != 0 {
            let index = self.index_of(word, bits)?;
            let counters = &eligible[index].counters;
            if counters.in_flight.load(Ordering::Acquire) < room.limit {
                return Some(index);
            }
            counters.place.full(&counters.in_flight);
            bits &= bits - 1;
        }
        None
    }

    /// The replica of the lowest of `bits`.
    fn index_of(&self, word: usize, bits: u64) -> Option<usize> {
        let place = word * 64 + bits.trailing_zeros() as usize;
        (bits != 0).then(|| self.index.get(place).map(|index| *index as usize)).flatten()
    }
}

//! Pure: consistent hash, the same key to the same replica, by a table of weighted rendezvous.
//!
//! The key's hash names one of 65,536 slots, and each slot belongs to the replica with the best
//! score for it: −ln u ÷ weight, smallest wins, u from the hash of slot and replica (Schindelhauer
//! and Schomaker). So a choice is one look whatever n is; a replica that joins takes its share of
//! the slots, about 1 ÷ n, evenly from the others and none moves between those; one that leaves
//! gives back only its own; and shares follow the weights, so a replica in slow start takes over
//! its keys bit by bit. A new table is made from the one before: only slots that a change can touch
//! are looked at.
//!
//! Measured beside it at 1 000 replicas (`benches/peers/balancer`): Maglev's table has at most 1.07
//! of the mean load at a replica, but one that leaves moves seven times the keys that must; a ring
//! of 160 points each has 1.28 and takes eight times as long. The price here is 1.42, from shares
//! that vary by about sqrt(n ÷ 65,536): 1.08 at 100 replicas, 1.02 at 10.

use std::collections::HashMap;
use std::sync::Arc;

use super::Target;
use super::random::{hash, mix, unit};

const SLOTS: usize = 1 << 16;

/// Who owns which slot.
#[derive(Debug, Clone, Default)]
pub(super) struct Table {
    members: Vec<Member>,
    /// Index into `members`.
    slots: Vec<u32>,
}

#[derive(Debug, Clone, PartialEq)]
struct Member {
    hash: u64,
    weight: f64,
}

impl Table {
    /// The table for `eligible`; members have the same index.
    pub(super) fn new(eligible: &[Target], before: Option<&Arc<Table>>) -> Arc<Table> {
        let member =
            |target: &Target| Member { hash: hash(target.id.as_bytes()), weight: target.share() };
        let members: Vec<Member> = eligible.iter().map(member).collect();
        match before {
            Some(before) if before.members == members => Arc::clone(before),
            Some(before) if !before.slots.is_empty() => Arc::new(before.changed(members)),
            _ => Arc::new(Table::default().changed(members)),
        }
    }

    fn changed(&self, members: Vec<Member>) -> Table {
        if members.is_empty() {
            return Table::default();
        }
        let new: HashMap<u64, usize> =
            members.iter().enumerate().map(|(index, member)| (member.hash, index)).collect();
        let old: HashMap<u64, f64> =
            self.members.iter().map(|member| (member.hash, member.weight)).collect();
        // Where each old member is now, if it keeps its slots unless a better one comes.
        let kept = |old: &Member| {
            let index = *new.get(&old.hash)?;
            (members[index].weight >= old.weight).then_some(index)
        };
        let kept: Vec<Option<usize>> = self.members.iter().map(kept).collect();
        // Those that may take slots from others: new, or heavier than before.
        let rises = |i: &usize| {
            old.get(&members[*i].hash).is_none_or(|weight| *weight < members[*i].weight)
        };
        let everybody: Vec<usize> = (0..members.len()).collect();
        let rising: Vec<usize> = everybody.iter().copied().filter(rises).collect();
        let slot = |number: usize| {
            let bits = mix(number as u64 + 1);
            let before = self.slots.get(number).map(|owner| *owner as usize);
            match before.and_then(|owner| kept[owner]) {
                Some(owner) => best(&members, &rising, bits, owner),
                None => best(&members, &everybody, bits, 0),
            }
        };
        Table { slots: (0..SLOTS).map(slot).collect(), members }
    }

    /// Index of the replica for the hash of a key; zero if there is none.
    pub(super) fn pick(&self, key: u64) -> usize {
        self.slots.get((key >> 48) as usize).map_or(0, |owner| *owner as usize)
    }
}

/// Of `first` and `others` the one with the smallest −ln u ÷ weight for a slot.
fn best(members: &[Member], others: &[usize], slot: u64, first: usize) -> u32 {
    let u = |index: usize| 1.0 - unit(mix(members[index].hash ^ slot));
    let score = |index: usize| -u(index).ln() / members[index].weight;
    let mut best = (first, score(first));
    for &index in others {
        // −ln u is at least 1 − u, which mostly saves the logarithm.
        if (1.0 - u(index)) / members[index].weight > best.1 {
            continue;
        }
        let score = score(index);
        // Ties by hash, so that the order of members does not matter.
        if score < best.1 || (score == best.1 && members[index].hash < members[best.0].hash) {
            best = (index, score);
        }
    }
    best.0 as u32
}

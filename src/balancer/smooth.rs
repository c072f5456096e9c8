//! Pure: smooth weighted round robin, exactly the sequence of nginx, made in advance.
//!
//! nginx's rule: each pick adds its weight to the current weight of every replica, takes the
//! largest (the first of equal ones) and subtracts the sum of all weights from it. Weights 5, 1, 1
//! give a a b a c a a, not a a a a a b c. After as many picks as the weights sum to, all current
//! weights are zero again and the sequence repeats, so it is written down once and a pick is one
//! step of a counter. Of equal weights the one taken least often, and of those the first, leads, so
//! each weight is a queue and writing takes one comparison of heads for each pick and weight.
//!
//! Limits: exact for weights that are whole multiples of 1/1, 1/2, 1/4, 1/5 or 1/10 and whose
//! ratio sums to at most 65,536. Others are rounded to 1 % of the largest; with more than 655
//! replicas more coarsely. nginx also lowers the weight of a replica that fails and lets it recover
//! by one per pick; here health is not the algorithm's business. After a change of replicas or
//! weights the sequence goes on at the same part of its round, where nginx starts anew.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::Target;

/// Longest sequence.
const MAX_ROUND: u64 = 65_536;

/// One round of picks, and how many have been made.
#[derive(Debug, Default)]
pub(super) struct Smooth {
    weights: Vec<u64>,
    round: Arc<[u32]>,
    turn: AtomicU64,
}

impl Smooth {
    pub(super) fn new(eligible: &[Target], before: Option<&Smooth>) -> Smooth {
        let shares: Vec<f64> = eligible.iter().map(Target::share).collect();
        let weights = whole(&shares);
        let Some(before) = before.filter(|before| !before.round.is_empty()) else {
            return Smooth { round: sequence(&weights), weights, turn: AtomicU64::new(0) };
        };
        let turn = before.turn.load(Ordering::Relaxed);
        if before.weights == weights {
            let round = Arc::clone(&before.round);
            return Smooth { weights, round, turn: AtomicU64::new(turn) };
        }
        let round = sequence(&weights);
        let (length, old) = (round.len() as u64, before.round.len() as u64);
        let turn = (turn % old) * length / old;
        Smooth { weights, round, turn: AtomicU64::new(turn) }
    }

    /// Index into the eligible replicas; zero if there are none.
    pub(super) fn pick(&self) -> usize {
        let length = self.round.len().max(1) as u64;
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % length;
        self.round.get(turn as usize).map_or(0, |index| *index as usize)
    }
}

/// The smallest whole numbers in the ratio of `shares`, exact where that is possible.
fn whole(shares: &[f64]) -> Vec<u64> {
    let exact = [1.0, 2.0, 4.0, 5.0, 10.0].into_iter().find_map(|parts| {
        let is_whole = |share: &f64| (share * parts - (share * parts).round()).abs() < 1e-9;
        let whole: Vec<u64> = shares.iter().map(|share| (share * parts).round() as u64).collect();
        let whole = shares.iter().all(is_whole).then(|| reduced(whole))?;
        (whole.iter().fold(0, |sum: u64, w| sum.saturating_add(*w)) <= MAX_ROUND).then_some(whole)
    });
    exact.unwrap_or_else(|| {
        let largest = shares.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
        let steps = (MAX_ROUND / shares.len().max(1) as u64).clamp(1, 100) as f64;
        let rounded = |share: &f64| ((share / largest * steps).round() as u64).max(1);
        reduced(shares.iter().map(rounded).collect())
    })
}

fn reduced(weights: Vec<u64>) -> Vec<u64> {
    let divisor = weights.iter().copied().reduce(gcd).unwrap_or(1).max(1);
    weights.into_iter().map(|weight| weight / divisor).collect()
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// One round by nginx's rule.
fn sequence(weights: &[u64]) -> Arc<[u32]> {
    let total: i64 = weights.iter().map(|weight| *weight as i64).sum();
    // By weight: replicas with their current weight at turn 0, less what was subtracted since.
    let mut queues: BTreeMap<i64, VecDeque<(i64, u32)>> = BTreeMap::new();
    for (index, weight) in weights.iter().enumerate() {
        queues.entry(*weight as i64).or_default().push_back((0, index as u32));
    }
    let mut round = Vec::with_capacity(total as usize);
    for turn in 1..=total {
        let current = |weight: i64, queue: &VecDeque<(i64, u32)>| {
            let (taken, index) = queue.front()?;
            Some((weight * turn - taken, std::cmp::Reverse(*index)))
        };
        let best = queues
            .iter_mut()
            .filter_map(|(weight, queue)| Some((current(*weight, queue)?, queue)))
            .max_by_key(|(current, _)| *current);
        if let Some((_, queue)) = best
            && let Some((taken, index)) = queue.pop_front()
        {
            queue.push_back((taken + total, index));
            round.push(index);
        }
    }
    round.into()
}

//! Pure: the replicas of the offline world: ordered, pending, ready.
//!
//! A start ordered at step t is ready for step t + max(1, ceil(delay / step)); a stop ordered at t
//! takes effect for t + 1, and the newest pending starts are cancelled first.

use std::collections::VecDeque;

/// Replica counts between two steps.
#[derive(Debug, Clone, PartialEq)]
pub struct World {
    ready: u32,
    /// (step from which they serve, how many), oldest first.
    pending: VecDeque<(usize, u32)>,
    /// Steps from an order to the step that it serves first; at least 1.
    delay: usize,
}

impl World {
    pub fn new(ready: u32, delay: usize) -> World {
        World { ready, pending: VecDeque::new(), delay: delay.max(1) }
    }

    /// Begins step `t`; gives how many starts became ready.
    pub fn begin(&mut self, t: usize) -> u32 {
        let mut arrived = 0;
        while let Some((_, replicas)) = self.pending.pop_front_if(|&mut (at, _)| at <= t) {
            arrived += replicas;
        }
        self.ready += arrived;
        arrived
    }

    pub fn ready(&self) -> u32 {
        self.ready
    }

    /// Ready and pending.
    pub fn current(&self) -> u32 {
        self.ready + self.pending.iter().map(|&(_, replicas)| replicas).sum::<u32>()
    }

    /// Carries out what was decided at step `t`.
    pub fn order(&mut self, t: usize, desired: u32) {
        let current = self.current();
        if desired > current {
            self.pending.push_back((t + self.delay, desired - current));
        }
        let mut excess = current.saturating_sub(desired);
        while excess > 0 {
            let Some((_, newest)) = self.pending.back_mut() else { break };
            let cancelled = excess.min(*newest);
            *newest -= cancelled;
            excess -= cancelled;
            if *newest == 0 {
                self.pending.pop_back();
            }
        }
        self.ready -= excess;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Orders `(step, desired)`, then checks ready replicas at the steps from 1 on.
    fn check(delay: usize, orders: &[(usize, u32)], want: &[u32]) {
        let mut world = World::new(2, delay);
        let mut got = vec![];
        for t in 0..=want.len() {
            world.begin(t);
            if t > 0 {
                got.push(world.ready());
            }
            for &(_, desired) in orders.iter().filter(|&&(at, _)| at == t) {
                world.order(t, desired);
                assert_eq!(world.current(), desired);
            }
        }
        assert_eq!(got, want, "delay {delay}, orders {orders:?}");
    }

    #[test]
    fn starts_take_the_delay_and_stops_one_step() {
        check(3, &[(0, 5)], &[2, 2, 5, 5]);
        check(0, &[(0, 5)], &[5, 5]);
        check(3, &[(0, 1)], &[1, 1]);
        check(1, &[(0, 0), (1, 4)], &[0, 4]);
    }

    #[test]
    fn the_newest_pending_starts_are_cancelled_first() {
        // 3 ordered at 0, 2 more at 1; down to 4 at 2 cancels those 2 and one of the 3.
        check(3, &[(0, 5), (1, 7), (2, 4)], &[2, 2, 4, 4, 4]);
        // Down to 1 cancels all 3 pending and stops one that serves.
        check(2, &[(0, 5), (1, 1)], &[2, 1, 1]);
    }
}

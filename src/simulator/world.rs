//! Pure: the replicas of the offline world: ordered, pending, ready.
//!
//! A start ordered at step t is ready for step t + max(1, ceil(delay / step)); a stop ordered at t
//! takes effect for t + 1, and the newest pending starts are cancelled first: those ordered last.

/// Replica counts between two steps.
#[derive(Debug, Clone, PartialEq)]
pub struct World {
    ready: u32,
    /// Oldest first.
    pending: Vec<Order>,
    /// Replicas of all pending orders.
    starting: u32,
    /// No pending order serves before this step.
    next: usize,
    /// Steps from the next order to the step that it serves first; counts as at least 1.
    pub delay: usize,
}

/// A start order that is under way.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Order {
    at: usize,
    serves: usize,
    replicas: u32,
}

impl World {
    pub fn new(ready: u32, delay: usize) -> World {
        World { ready, pending: Vec::new(), starting: 0, next: 0, delay }
    }

    /// Begins step `t`; gives the steps that each order took which became ready.
    pub fn begin(&mut self, t: usize) -> Vec<usize> {
        let mut took = Vec::new();
        if t < self.next {
            return took;
        }
        let mut arrived = 0;
        self.pending.retain(|order| {
            let waits = order.serves > t;
            if !waits {
                took.push(order.serves - order.at);
                arrived += order.replicas;
            }
            waits
        });
        self.next = self.pending.iter().map(|order| order.serves).min().unwrap_or(usize::MAX);
        self.starting -= arrived;
        self.ready += arrived;
        took
    }

    pub fn ready(&self) -> u32 {
        self.ready
    }

    /// Ready and pending.
    pub fn current(&self) -> u32 {
        self.ready + self.starting
    }

    /// Carries out what was decided at step `t`.
    pub fn order(&mut self, t: usize, desired: u32) {
        let current = self.current();
        if let Some(replicas) = desired.checked_sub(current).filter(|more| *more > 0) {
            let serves = t.saturating_add(self.delay.max(1));
            self.pending.push(Order { at: t, serves, replicas });
            self.starting += replicas;
            self.next = self.next.min(serves);
        }
        let mut excess = current.saturating_sub(desired);
        while excess > 0 {
            let Some(newest) = self.pending.last_mut() else { break };
            let cancelled = excess.min(newest.replicas);
            newest.replicas -= cancelled;
            self.starting -= cancelled;
            excess -= cancelled;
            if newest.replicas == 0 {
                self.pending.pop();
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

    #[test]
    fn a_later_order_may_be_ready_first_and_is_still_cancelled_first() {
        let mut world = World::new(1, 4);
        world.order(0, 2);
        world.delay = 2;
        world.order(0, 5);
        // At step 1 one of the three newer ones goes; two serve from step 2, after 2 steps.
        world.begin(1);
        world.order(1, 4);
        assert_eq!((world.begin(2), world.ready()), (vec![2], 3));
        assert_eq!((world.begin(3), world.ready()), (vec![], 3));
        assert_eq!((world.begin(4), world.ready(), world.current()), (vec![4], 4, 4));
    }
}

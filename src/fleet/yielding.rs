//! Pure: after somebody else has changed the count, Foresail leaves it alone for a while.
//!
//! A person who stops a replica, or a deploy tool that replaces all of them, knows something that
//! demand does not show yet. The count they left is held: nothing is stopped, what crashes is
//! replaced, and the minimum is kept.

use std::time::Duration;

use super::elapsed;
use crate::series::Time;

/// Whether the count is somebody else's for now.
#[derive(Debug, Clone, Default)]
pub struct Yielding {
    yielded: Option<Yielded>,
}

#[derive(Debug, Clone)]
struct Yielded {
    since: Time,
    reason: String,
    /// The count that they left.
    replicas: u32,
}

impl Yielding {
    /// Somebody else has changed the count, which is now `replicas`.
    pub fn begin(&mut self, now: Time, reason: String, replicas: u32) {
        self.yielded = Some(Yielded { since: now, reason, replicas });
    }

    /// Why the count is left alone at `now`, and what it has to be, given the `current` and the
    /// least count.
    pub fn holds(
        &self,
        now: Time,
        length: Duration,
        (current, min): (u32, u32),
    ) -> Option<(u32, String)> {
        let yielded = self.yielded.as_ref()?;
        // A clock that was set back does not prolong it.
        if now < yielded.since || elapsed(yielded.since, now) >= length {
            return None;
        }
        let until = (yielded.since + length).format("%H:%M:%S");
        let reason = format!("{}: the count is left alone until {until}", yielded.reason);
        Some((yielded.replicas.max(current).max(min), reason))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_is_held_for_the_given_time_and_never_below_the_least() {
        let at = |seconds| Time::UNIX_EPOCH + Duration::from_secs(seconds);
        let length = Duration::from_secs(20);
        let mut yielding = Yielding::default();
        assert_eq!(yielding.holds(at(100), length, (3, 1)), None);
        yielding.begin(at(100), "replica a was removed".into(), 3);
        let check = |second, counts, want: Option<u32>| {
            let held = yielding.holds(at(second), length, counts).map(|(replicas, _)| replicas);
            assert_eq!(held, want, "{second} {counts:?}");
        };
        check(100, (3, 1), Some(3));
        check(119, (3, 1), Some(3));
        // One crashed meanwhile: replaced. One more than they left: not stopped.
        check(101, (2, 1), Some(3));
        check(101, (4, 1), Some(4));
        check(101, (3, 5), Some(5));
        check(120, (3, 1), None);
        check(99, (3, 1), None);
        let (_, reason) = yielding.holds(at(100), length, (3, 1)).expect("it holds");
        assert_eq!(reason, "replica a was removed: the count is left alone until 00:02:00");
    }
}

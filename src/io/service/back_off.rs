//! Pure: pauses between tries that fail, each twice as long as the one before.
//!
//! A try that succeeds ends the pause, but a failure soon after it goes on where the last one was:
//! what works for a moment each time it is tried must not be tried at once for ever.

use std::time::Duration;

use crate::series::Time;

/// The first pause.
const SHORTEST: Duration = Duration::from_secs(1);

/// What failed last, and when it may be tried again.
#[derive(Debug, Clone)]
pub(super) struct BackOff {
    longest: Duration,
    last: Option<Failure>,
}

#[derive(Debug, Clone)]
struct Failure {
    reason: String,
    pause: Duration,
    until: Time,
    /// When a try succeeded after it.
    mended: Option<Time>,
}

impl BackOff {
    /// Nothing has failed. No pause will be longer than `longest`.
    pub fn new(longest: Duration) -> BackOff {
        BackOff { longest, last: None }
    }

    /// A try failed. Several that fail within one pause are one failure.
    pub fn failed(&mut self, now: Time, reason: String) {
        let pause = match &self.last {
            Some(last) if now < last.until => last.pause,
            Some(last) if last.mended.is_none_or(|mended| now < mended + self.longest) => {
                (last.pause * 2).min(self.longest)
            }
            _ => SHORTEST.min(self.longest),
        };
        self.last = Some(Failure { reason, pause, until: now + pause, mended: None });
    }

    pub fn succeeded(&mut self, now: Time) {
        if let Some(last) = &mut self.last {
            last.mended.get_or_insert(now);
        }
    }

    /// Whether a try has to wait. Never for longer than the pause, even if the clock was set back.
    pub fn waits(&self, now: Time) -> bool {
        self.standing().is_some_and(|f| f.until - f.pause <= now && now < f.until)
    }

    /// Why the last try failed, and when the next may be.
    pub fn failure(&self) -> Option<(&str, Time)> {
        self.standing().map(|failure| (failure.reason.as_str(), failure.until))
    }

    fn standing(&self) -> Option<&Failure> {
        self.last.as_ref().filter(|failure| failure.mended.is_none())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Time {
        Time::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    /// Fails at each of these seconds, succeeds at those that are negative; gives the last pause.
    fn check(tries: &[i64], pause: u64) {
        let mut back_off = BackOff::new(Duration::from_secs(5));
        assert!(!back_off.waits(at(0)) && back_off.failure().is_none());
        for &second in tries {
            match u64::try_from(second) {
                Ok(second) => back_off.failed(at(second), second.to_string()),
                Err(_) => back_off.succeeded(at(second.unsigned_abs())),
            }
        }
        let last = tries.last().expect("one at least").unsigned_abs();
        assert_eq!(back_off.failure(), Some((&*last.to_string(), at(last + pause))), "{tries:?}");
        assert!(back_off.waits(at(last)) && back_off.waits(at(last + pause - 1)));
        assert!(!back_off.waits(at(last + pause)) && !back_off.waits(at(last - 1)));
        back_off.succeeded(at(last));
        assert!(!back_off.waits(at(last)) && back_off.failure().is_none());
    }

    #[test]
    fn pauses_double_up_to_the_longest() {
        check(&[10], 1);
        check(&[10, 11], 2);
        check(&[10, 11, 13], 4);
        // 8 s would be more than the longest.
        check(&[10, 11, 13, 17], 5);
        // Within the pause of the first.
        check(&[10, 11, 12], 2);
        // However long after it, if nothing has succeeded meanwhile.
        check(&[10, 1000], 2);
    }

    #[test]
    fn a_success_must_last_to_be_believed() {
        check(&[10, -11, 12], 2);
        check(&[10, -11, 12, -13, 15], 4);
        // The first success counts, and the longest pause after it all is forgotten.
        check(&[10, -11, -14, 15], 2);
        check(&[10, -11, -14, 16], 1);
    }
}

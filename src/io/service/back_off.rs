//! Pure: pauses between tries that fail, each twice as long as the one before.

use std::time::Duration;

use crate::series::Time;

/// The first pause.
const SHORTEST: Duration = Duration::from_secs(1);

/// What failed last, and when it may be tried again.
#[derive(Debug, Clone)]
pub(super) struct BackOff {
    longest: Duration,
    failure: Option<Failure>,
}

#[derive(Debug, Clone)]
struct Failure {
    reason: String,
    pause: Duration,
    until: Time,
}

impl BackOff {
    /// Nothing has failed. No pause will be longer than `longest`.
    pub fn new(longest: Duration) -> BackOff {
        BackOff { longest, failure: None }
    }

    /// A try failed. Several that fail within one pause are one failure.
    pub fn failed(&mut self, now: Time, reason: String) {
        let pause = match &self.failure {
            Some(failure) if now < failure.until => failure.pause,
            Some(failure) => (failure.pause * 2).min(self.longest),
            None => SHORTEST.min(self.longest),
        };
        self.failure = Some(Failure { reason, pause, until: now + pause });
    }

    pub fn succeeded(&mut self) {
        self.failure = None;
    }

    /// Whether a try has to wait. Never for longer than the pause, even if the clock was set back.
    pub fn waits(&self, now: Time) -> bool {
        self.failure.as_ref().is_some_and(|f| f.until - f.pause <= now && now < f.until)
    }

    /// Why the last try failed, and when the next may be.
    pub fn failure(&self) -> Option<(&str, Time)> {
        self.failure.as_ref().map(|failure| (failure.reason.as_str(), failure.until))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fails at each of these seconds; gives the last pause.
    fn check(failures: &[u64], pause: u64) {
        let at = |seconds| Time::UNIX_EPOCH + Duration::from_secs(seconds);
        let mut back_off = BackOff::new(Duration::from_secs(5));
        assert!(!back_off.waits(at(0)) && back_off.failure().is_none());
        failures.iter().for_each(|&second| back_off.failed(at(second), second.to_string()));
        let last = *failures.last().expect("one at least");
        assert_eq!(
            back_off.failure(),
            Some((&*last.to_string(), at(last + pause))),
            "{failures:?}"
        );
        assert!(back_off.waits(at(last)) && back_off.waits(at(last + pause - 1)));
        assert!(!back_off.waits(at(last + pause)) && !back_off.waits(at(last - 1)));
        back_off.succeeded();
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
    }
}

//! Pure: whether a start has worked: how replicas end, and what makes a start a failure.
//!
//! A start is on trial from its order until its replica has served for [`SETTLED`]. One that ends
//! before, or restarts again and again, or is not ready in time, has failed. A later end is a crash
//! of a good replica, which is replaced at once. Known limits: exit codes tell a crash from a stop
//! by somebody else, so a program that answers SIGTERM with a code of its own seems to crash; and
//! whoever stops a replica before it has served makes its start a failure.

use std::fmt;
use std::time::Duration;

use super::elapsed;
use crate::series::Time;

/// A replica that has served for so long was started well, whatever becomes of it later.
pub(super) const SETTLED: Duration = Duration::from_secs(60);

/// Restarts by the target while on trial that make a loop.
const RESTARTS_MAX: u32 = 3;

/// How a replica ended, as far as its target tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// With this code; 128 + number of the signal that ended it.
    Exited { code: i64 },
    /// It used more memory than it may.
    OutOfMemory,
}

impl End {
    /// Whether this is how a replica ends that was asked to stop: done, or by SIGINT, SIGKILL,
    /// SIGTERM.
    pub(super) fn may_be_asked_for(self) -> bool {
        matches!(self, End::Exited { code: 0 | 130 | 137 | 143 })
    }
}

/// Why a start came to nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// `None` where the target does not tell how.
    Ended(Option<End>),
    /// Its target started it again and again.
    RestartLoop,
    NotReady {
        within: Duration,
    },
}

impl Failure {
    /// One word, for metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Failure::Ended(Some(End::OutOfMemory)) => "out_of_memory",
            Failure::Ended(_) => "exited",
            Failure::RestartLoop => "restart_loop",
            Failure::NotReady { .. } => "not_ready",
        }
    }
}

/// The predicate of a sentence about a replica.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Ended(Some(End::Exited { code: 137 })) => {
                write!(f, "was killed soon after its start: has it memory enough?")
            }
            Failure::Ended(Some(End::Exited { code })) => {
                write!(f, "ended with exit code {code} soon after its start")
            }
            Failure::Ended(Some(End::OutOfMemory)) => {
                write!(f, "ran out of memory soon after its start: raise its limit")
            }
            Failure::Ended(None) => write!(f, "ended soon after its start"),
            Failure::RestartLoop => {
                write!(f, "was restarted {RESTARTS_MAX} times soon after its start")
            }
            Failure::NotReady { within } => {
                write!(f, "was not ready within {}", humantime::format_duration(*within))
            }
        }
    }
}

/// How far one start has come.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Trial {
    serves_since: Option<Time>,
    settled: bool,
    /// By its target, in all, and those on trial.
    restarts: u32,
    restarts_on_trial: u32,
}

impl Trial {
    /// A replica that was there before, and was restarted so often by then.
    pub fn met(ready: bool, restarts: u32) -> Trial {
        Trial { settled: ready, restarts, ..Trial::default() }
    }

    /// Takes in one look at the replica.
    pub fn observe(&mut self, now: Time, ready: bool, restarts: u32) {
        let again = restarts.saturating_sub(self.restarts);
        self.restarts = restarts;
        if again > 0 {
            self.restarts_on_trial += again;
            (self.serves_since, self.settled) = (None, false);
        }
        if ready {
            let since = *self.serves_since.get_or_insert(now);
            self.settled |= elapsed(since, now) >= SETTLED;
        }
        if self.settled {
            self.restarts_on_trial = 0;
        }
    }

    pub fn has_served(&self) -> bool {
        self.settled || self.serves_since.is_some()
    }

    pub fn loops(&self) -> bool {
        self.restarts_on_trial >= RESTARTS_MAX
    }

    /// What the end of the replica means.
    pub fn ended(&self, end: Option<End>) -> Verdict {
        // Before it served, even an engine may not tell that it was memory (137) or just done (0).
        let asked_for = self.has_served() && end.is_some_and(End::may_be_asked_for);
        match (asked_for, self.settled) {
            (true, _) => Verdict::Stopped,
            (false, false) => Verdict::Failed(Failure::Ended(end)),
            (false, true) => Verdict::Crashed,
        }
    }

    /// What it means that it is not there any more.
    pub fn removed(&self) -> Verdict {
        match self.has_served() {
            true => Verdict::Stopped,
            false => Verdict::Failed(Failure::Ended(None)),
        }
    }
}

/// What the end of a replica means that Foresail did not ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Somebody else stopped it.
    Stopped,
    /// Its start has failed.
    Failed(Failure),
    /// A replica that was good: it is replaced.
    Crashed,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_replica_is_judged_by_its_code_and_its_past() {
        let at = |seconds| Time::UNIX_EPOCH + Duration::from_secs(seconds);
        let exited = |code| Some(End::Exited { code });
        let failed = |end| Verdict::Failed(Failure::Ended(end));
        // Ready from second 0 until the second given.
        let check = |served: Option<u64>, end: Option<End>, want: Verdict| {
            let mut trial = Trial::default();
            for second in served.into_iter().flat_map(|last| [0, last]) {
                trial.observe(at(second), true, 0);
            }
            assert_eq!(trial.ended(end), want, "{served:?} {end:?}");
        };
        for code in [130, 137, 143] {
            check(None, exited(code), failed(exited(code)));
            check(Some(1), exited(code), Verdict::Stopped);
            check(Some(90), exited(code), Verdict::Stopped);
        }
        check(None, exited(0), failed(exited(0)));
        check(Some(1), exited(0), Verdict::Stopped);
        check(None, exited(1), failed(exited(1)));
        check(Some(59), exited(139), failed(exited(139)));
        check(Some(60), exited(139), Verdict::Crashed);
        check(Some(1), Some(End::OutOfMemory), failed(Some(End::OutOfMemory)));
        check(Some(60), Some(End::OutOfMemory), Verdict::Crashed);
        check(Some(1), None, failed(None));
        check(Some(60), None, Verdict::Crashed);
    }

    #[test]
    fn restarts_make_a_loop_unless_the_replica_settles_between_them() {
        let check = |looks: &[(u64, bool, u32)], want: bool| {
            let mut trial = Trial::met(true, 5);
            for &(second, ready, restarts) in looks {
                trial.observe(Time::UNIX_EPOCH + Duration::from_secs(second), ready, restarts);
            }
            assert_eq!(trial.loops(), want, "{looks:?}");
        };
        check(&[(0, true, 5)], false);
        check(&[(0, true, 7)], false);
        check(&[(0, true, 8)], true);
        check(&[(0, true, 6), (1, false, 7), (2, true, 8)], true);
        check(&[(0, true, 7), (60, true, 7), (61, false, 8)], false);
        // It was made again: its count starts again.
        check(&[(0, true, 7), (1, true, 0), (2, true, 0)], false);
    }
}

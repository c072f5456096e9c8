//! Pure: the retry budget, a bucket of tokens, so that retries cannot make an outage worse.
//!
//! Each request brings a share of a token, each second a few whole ones, and a retry takes one. The
//! bucket holds ten seconds of the latter, so over any time T with N requests there are at most
//! 10 · minimum + minimum · T + share · N retries, and a quiet hour saves up no storm.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

/// Tokens are counted in millionths.
const TOKEN: i64 = 1_000_000;

/// Shared by all requests of a service.
#[derive(Debug)]
pub struct RetryBudget {
    for_request: i64,
    per_second: i64,
    tokens: AtomicI64,
    /// Up to when the tokens of time are in, in microseconds.
    filled: AtomicU64,
}

impl RetryBudget {
    /// Full at the start. `share` is of requests, 0 to 1.
    pub fn new(share: f64, min_per_second: u32) -> RetryBudget {
        let per_second = i64::from(min_per_second) * TOKEN;
        RetryBudget {
            for_request: (share.clamp(0.0, 1.0) * TOKEN as f64) as i64,
            per_second,
            tokens: AtomicI64::new(capacity(per_second)),
            filled: AtomicU64::new(0),
        }
    }

    /// A request arrived, no retry.
    pub fn arrived(&self) {
        self.add(self.for_request);
    }

    /// Takes a token for a retry, if there is one.
    pub fn try_retry(&self, now: Duration) -> bool {
        let now = now.as_micros() as u64;
        let filled = self.filled.fetch_max(now, Ordering::Relaxed);
        let elapsed = i64::try_from(now.saturating_sub(filled)).unwrap_or(i64::MAX);
        // A token is a million, and so are a second's microseconds.
        self.add(elapsed.saturating_mul(self.per_second / TOKEN).min(capacity(self.per_second)));
        let take = |tokens: i64| (tokens >= TOKEN).then(|| tokens - TOKEN);
        self.tokens.try_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
    }

    fn add(&self, tokens: i64) {
        self.tokens.fetch_add(tokens, Ordering::Relaxed);
        self.tokens.fetch_min(capacity(self.per_second), Ordering::Relaxed);
    }
}

/// At least one token, so that a budget of shares alone can be spent.
fn capacity(per_second: i64) -> i64 {
    (10 * per_second).max(TOKEN)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Retries granted of `tries` at each (second, requests that arrived just before).
    fn check(budget: &RetryBudget, rounds: &[(u64, u32, u32, u32)]) {
        for (second, requests, tries, granted) in rounds {
            (0..*requests).for_each(|_| budget.arrived());
            let now = Duration::from_secs(*second);
            let got = (0..*tries).filter(|_| budget.try_retry(now)).count() as u32;
            assert_eq!(got, *granted, "at {second} s");
        }
    }

    #[test]
    fn retries_are_a_share_of_requests_and_a_minimum() {
        // 10 · 2 at the start; 2 in a second; 100 · 0.1; a long pause fills no more than 20.
        let rounds = [(1, 0, 99, 20), (2, 0, 99, 2), (2, 100, 99, 10), (999, 0, 99, 20)];
        check(&RetryBudget::new(0.1, 2), &rounds);
        // Without a minimum one token fits; ten requests bring it.
        check(
            &RetryBudget::new(0.1, 0),
            &[(0, 0, 9, 1), (9, 9, 9, 0), (9, 1, 9, 1), (9, 99, 9, 1)],
        );
        check(&RetryBudget::new(0.0, 0), &[(0, 0, 9, 1), (9, 99, 9, 0)]);
        // Time that seems to go back brings nothing.
        check(&RetryBudget::new(0.0, 1), &[(5, 0, 99, 10), (4, 0, 9, 0), (6, 0, 9, 1)]);
    }
}

//! Pure: how fast and how sound a replica answered of late: peak EWMA and share of errors.
//!
//! Latency rises at once to a sample above the estimate and falls by exponential decay (tower,
//! linkerd): w = e^(−Δt ÷ decay), estimate · w + sample · (1 − w). The share of errors is averaged
//! in the same way without the jump. A read decays both towards zero, so that a replica that was
//! slow is tried again. An error never lowers the latency: an answer that says "no" says nothing of
//! how fast a "yes" comes.
//!
//! Each of the two is one atomic, a value of 32 bits and its time in ticks of 2^20 ns (1.05 ms), so
//! that nobody waits. Known limits: of latency samples within one tick only those above the
//! estimate count; after 52 days without a request a value is taken for a fresh one.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Time in which a value loses 63 % of its weight (linkerd and Envoy have 10 s).
const DECAY_TICKS: f32 = 10.0e9 / (1 << 20) as f32;

/// Estimates of one replica.
#[derive(Debug, Default)]
pub(super) struct Latency {
    seconds: AtomicU64,
    errors: AtomicU64,
}

impl Latency {
    pub(super) fn sample(&self, now: Duration, latency: Duration, error: bool) {
        let now = tick(now);
        let seconds = latency.as_secs_f32().max(1e-9);
        let before = self.seconds.load(Ordering::Relaxed);
        let (estimate, age) = read(before, now);
        // Within a tick there is nothing to do for most samples.
        if seconds > estimate || (age > 0 && !error) {
            let update = |bits| {
                let (estimate, age) = read(bits, now);
                let kept = decay(age);
                if seconds > estimate {
                    return Some(pack(seconds, now));
                }
                (age > 0 && !error).then(|| pack(estimate * kept + seconds * (1.0 - kept), now))
            };
            let _ = self.seconds.try_update(Ordering::Relaxed, Ordering::Relaxed, update);
        }
        if error || self.errors.load(Ordering::Relaxed) != 0 {
            // While there are no errors only latency tells when the last request was.
            let first = if before == 0 { DECAY_TICKS as u32 } else { age };
            let update = |bits| {
                let (share, age) = if bits == 0 { (0.0, first) } else { read(bits, now) };
                let kept = decay(age.max(1));
                let share = share * kept + if error { 1.0 - kept } else { 0.0 };
                // Too small to matter; zero saves the next requests from this.
                Some(if share < 1e-6 { 0 } else { pack(share, now) })
            };
            let _ = self.errors.try_update(Ordering::Relaxed, Ordering::Relaxed, update);
        }
    }

    /// Decayed to `now`; `None` before the first sample.
    pub(super) fn seconds(&self, now: Duration) -> Option<f32> {
        let bits = self.seconds.load(Ordering::Relaxed);
        let (estimate, age) = read(bits, tick(now));
        (bits != 0).then(|| estimate * decay(age))
    }

    /// As the last sample left it; zero before the first.
    pub(super) fn last(&self) -> f32 {
        read(self.seconds.load(Ordering::Relaxed), 0).0
    }

    /// Share of errors, 0 to 1, decayed to `now`, and `slower` times as slowly as latency.
    pub(super) fn errors(&self, now: Duration, slower: f32) -> f32 {
        let bits = self.errors.load(Ordering::Relaxed);
        if bits == 0 {
            return 0.0;
        }
        let (share, age) = read(bits, tick(now));
        share * decay((age as f32 / slower) as u32)
    }
}

/// How slowly errors are to be forgotten where answers take up to `slowest` seconds: over four of
/// them, lest a replica that errs at once is tried again and again while the others still work.
pub(super) fn memory(slowest: f32) -> f32 {
    (slowest * 0.4).max(1.0)
}

fn tick(now: Duration) -> u32 {
    let nanos = now.as_secs().wrapping_mul(1_000_000_000);
    let nanos = nanos.wrapping_add(u64::from(now.subsec_nanos()));
    (nanos >> 20) as u32
}

fn pack(value: f32, tick: u32) -> u64 {
    u64::from(value.to_bits()) << 32 | u64::from(tick)
}

/// The value and its age in ticks at `now`; a value from the future, as another thread may just
/// have written it, has age zero.
fn read(bits: u64, now: u32) -> (f32, u32) {
    let age = now.wrapping_sub(bits as u32);
    (f32::from_bits((bits >> 32) as u32), if age > u32::MAX / 2 { 0 } else { age })
}

/// e^(−age ÷ decay) to five digits: the whole part of the exponent to base two goes straight into
/// the bits of a number, and 2^f of the rest is a polynomial (J. Fonseca's, by Remez on [0, 1]).
fn decay(age: u32) -> f32 {
    let exponent = age as f32 * (-std::f32::consts::LOG2_E / DECAY_TICKS);
    if age == 0 || exponent < -126.0 {
        return if age == 0 { 1.0 } else { 0.0 };
    }
    let whole = exponent as i32 - 1;
    let f = exponent - whole as f32;
    let power = f * (0.693_003_8 + f * (0.241_442_75 + f * (0.052_011_464 + f * 0.013_534_167)));
    let power = 1.000_002_6 + power;
    power * f32::from_bits(((whole + 127) as u32) << 23)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(samples: &[(u64, u64, bool)], at_ms: u64, seconds: f32, errors: f32) {
        let latency = Latency::default();
        for (at, ms, error) in samples {
            latency.sample(Duration::from_millis(*at), Duration::from_millis(*ms), *error);
        }
        let now = Duration::from_millis(at_ms);
        let got = (latency.seconds(now).unwrap_or(-1.0), latency.errors(now, 1.0));
        // A tick of 1.05 ms is 1e-4 of the decay of 10 s.
        let near = |got: f32, want: f32| (got - want).abs() <= 1e-3 * want.abs().max(0.01);
        assert!(near(got.0, seconds) && near(got.1, errors), "{samples:?}: {got:?}");
    }

    #[test]
    fn decay_is_the_exponential_to_five_digits() {
        for age in (0..100_000).step_by(7) {
            let exact = (-f64::from(age) / f64::from(DECAY_TICKS)).exp();
            let got = f64::from(decay(age));
            assert!((got - exact).abs() <= 1e-5 * exact, "{age}: {got}, not {exact}");
        }
        assert_eq!((decay(0), decay(u32::MAX)), (1.0, 0.0));
    }

    #[test]
    fn it_jumps_up_and_decays() {
        check(&[], 0, -1.0, 0.0);
        check(&[(1000, 50, false)], 1000, 0.050, 0.0);
        // e^-1 = 0.3679 after 10 s without a request.
        check(&[(1000, 50, false)], 11_000, 0.050 * 0.3679, 0.0);
        check(&[(1000, 50, false), (1001, 200, false)], 1001, 0.200, 0.0);
        // 0.2 · 0.3679 + 0.05 · 0.6321.
        check(&[(1000, 200, false), (11_000, 50, false)], 11_000, 0.1052, 0.0);
    }

    #[test]
    fn errors_are_a_share_and_do_not_lower_latency() {
        check(&[(1000, 200, false), (11_000, 1, true)], 11_000, 0.200 * 0.3679, 0.6321);
        // A slow error does raise it.
        check(&[(1000, 50, false), (11_000, 900, true)], 11_000, 0.900, 0.6321);
        // 0.6321 · 0.3679 by a success 10 s later, and the same once more by reading.
        check(&[(10_000, 1, true), (20_000, 1, false)], 20_000, 0.001, 0.6321 * 0.3679);
        check(&[(10_000, 1, true), (20_000, 1, false)], 30_000, 0.000_368, 0.6321 * 0.1353);
    }
}

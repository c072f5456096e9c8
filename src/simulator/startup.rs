//! Pure: how long starts take in the offline world: always the same, or drawn for each.
//!
//! A draw depends on the seed and the step of the order alone, so that under every policy an order
//! at the same step takes as long.

use std::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Times from a start order until its replicas are ready.
#[derive(Debug, Clone, PartialEq)]
pub enum StartupDelay {
    /// Any between the two is as likely as any other; a fixed delay if they are the same.
    Between(Duration, Duration),
    /// One of these measured ones, each as likely; at least one.
    OneOf(Vec<Duration>),
}

impl StartupDelay {
    /// `5m`, `30s..5m` or `30s,45s,5m`; a number alone is seconds.
    ///
    /// # Errors
    /// A sentence: what is wrong, and what would be right.
    pub fn parse(text: &str) -> Result<StartupDelay, String> {
        if let Some((low, high)) = text.split_once("..") {
            let (low, high) = (duration(low)?, duration(high)?);
            return match low <= high {
                true => Ok(StartupDelay::Between(low, high)),
                false => Err("the lower end of a range comes first, as in 30s..5m".into()),
            };
        }
        let mut delays = text.split(',').map(duration).collect::<Result<Vec<_>, _>>()?;
        match delays.len() {
            1 => Ok(StartupDelay::fixed(delays.remove(0))),
            _ => Ok(StartupDelay::OneOf(delays)),
        }
    }

    /// Measured delays as a file has them: one or more on a line, below a header or not.
    ///
    /// # Errors
    /// A sentence with the line.
    pub fn parse_lines(text: &str) -> Result<StartupDelay, String> {
        let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
        let is_header = |(i, line): &(usize, &str)| *i == 0 && duration(line).is_err();
        let mut delays = Vec::new();
        for (i, line) in lines.filter(|line| !is_header(line)) {
            for word in line.split(',') {
                delays.push(duration(word).map_err(|e| format!("line {}: {e}", i + 1))?);
            }
        }
        if delays.is_empty() { Err("no delays".into()) } else { Ok(StartupDelay::OneOf(delays)) }
    }

    pub fn fixed(delay: Duration) -> StartupDelay {
        StartupDelay::Between(delay, delay)
    }

    /// Of an order at step `t`.
    pub fn draw(&self, seed: u64, t: usize) -> Duration {
        let rng = || {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            rng.set_stream(t as u64);
            rng
        };
        match self {
            StartupDelay::Between(low, high) if low == high => *low,
            StartupDelay::Between(low, high) => {
                let [low, high] = [low, high].map(|d| d.as_millis().min(u64::MAX.into()) as u64);
                Duration::from_millis(rng().random_range(low..=high))
            }
            StartupDelay::OneOf(delays) => {
                delays.get(rng().random_range(0..delays.len().max(1))).copied().unwrap_or_default()
            }
        }
    }

    /// What a careful user would assume before the first start: 95 % are no longer.
    pub fn high(&self) -> Duration {
        match self {
            StartupDelay::Between(low, high) => *low + (*high - *low).mul_f64(0.95),
            StartupDelay::OneOf(delays) => {
                let mut sorted = delays.clone();
                sorted.sort();
                let rank = (0.95 * sorted.len() as f64).ceil() as usize;
                sorted.get(rank.saturating_sub(1)).copied().unwrap_or_default()
            }
        }
    }

    pub fn longest(&self) -> Duration {
        match self {
            StartupDelay::Between(_, high) => *high,
            StartupDelay::OneOf(delays) => delays.iter().max().copied().unwrap_or_default(),
        }
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    let text = text.trim();
    let seconds = || text.parse().ok().and_then(|s: f64| Duration::try_from_secs_f64(s).ok());
    humantime::parse_duration(text).ok().or_else(seconds).ok_or_else(|| {
        let shown: String = text.chars().take(60).collect();
        format!("`{shown}` is no duration; write for instance 5m, 30s..5m or 30s,45s,5m")
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn texts_are_delays_or_a_sentence() {
        let check = |text: &str, want: Result<StartupDelay, &str>| {
            let got = StartupDelay::parse(text);
            match (&got, &want) {
                (Err(error), Err(want)) => assert!(error.contains(want), "{error}"),
                _ => assert_eq!(got.ok(), want.ok(), "{text}"),
            }
        };
        check("5m", Ok(StartupDelay::fixed(s(300))));
        check("90", Ok(StartupDelay::fixed(s(90))));
        check("30s .. 5m", Ok(StartupDelay::Between(s(30), s(300))));
        check("30s,45s, 5m", Ok(StartupDelay::OneOf(vec![s(30), s(45), s(300)])));
        check("5m..30s", Err("comes first"));
        check("soon", Err("`soon` is no duration; write for instance 5m"));
        check("-1", Err("`-1` is no duration"));
        check("", Err("`` is no duration"));
        check("30s,", Err("`` is no duration"));
        let lines = StartupDelay::parse_lines("startup_delay\n30s\n45\n\n5m, 6m\n");
        assert_eq!(lines, Ok(StartupDelay::OneOf(vec![s(30), s(45), s(300), s(360)])));
        let line = StartupDelay::parse_lines("30s\nlate\n").unwrap_err();
        assert!(line.starts_with("line 2: `late` is no duration"), "{line}");
        assert_eq!(StartupDelay::parse_lines("seconds\n"), Err("no delays".into()));
    }

    #[test]
    fn draws_repeat_and_reach_all_of_the_range() {
        let delay = StartupDelay::Between(s(30), s(300));
        let draws: Vec<Duration> = (0..400).map(|t| delay.draw(7, t)).collect();
        assert!(draws.iter().all(|d| (s(30)..=s(300)).contains(d)));
        assert_eq!(draws, (0..400).map(|t| delay.draw(7, t)).collect::<Vec<_>>());
        assert_ne!(draws[..9], (0..9).map(|t| delay.draw(8, t)).collect::<Vec<_>>()[..]);
        // The mean of 400 is 165 s, with a standard error of 270 / sqrt(12 x 400) = 3.9 s.
        let mean = draws.iter().sum::<Duration>() / 400;
        assert!(mean.abs_diff(s(165)) < s(16), "{mean:?}");
        // 30 + 0.95 x 270.
        assert_eq!((delay.high(), delay.longest()), (Duration::from_millis(286_500), s(300)));
        let measured = StartupDelay::OneOf((1..=20).map(s).collect());
        assert_eq!((measured.high(), measured.longest()), (s(19), s(20)));
        assert!((0..200).any(|t| measured.draw(1, t) == s(20)));
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "[0-9smhdy.,e-]{0,24}|\\PC{0,20}", seed: u64, t: usize) {
            let parsed = [StartupDelay::parse(&text), StartupDelay::parse_lines(&text)];
            for delay in parsed.into_iter().flatten() {
                prop_assert!(delay.draw(seed, t) <= delay.longest());
                prop_assert!(delay.high() <= delay.longest());
            }
        }
    }
}

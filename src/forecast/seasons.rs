//! Pure: season lengths, found in the load itself.
//!
//! Candidates are the hills of the autocorrelation, which one Fourier transform gives for all lags.
//! Each is then verified on its own: what is slower than the candidate is taken away by a moving
//! mean of that length, so that trends, level shifts and random walks do not look like seasons, and
//! the correlation of each period with the one before is averaged without the best pair of periods,
//! so that two equal bursts do not either. Of several that pass, the shortest that is nearly as
//! good as the best is the season (the others are its multiples). Its profile is taken away and the
//! search goes on, for a week on top of a day.
//!
//! Known limits: at least two whole periods are needed, and three where the season is weak; lengths
//! are whole steps; a short season within the profile of a longer one (hourly jobs within a day) is
//! not listed, as the longer one holds it.

use rustfft::{FftPlanner, num_complex::Complex};

use super::features::mean;

/// Seasons found at most.
const MAX_SEASONS: usize = 2;
/// Shortest season, in steps.
const SHORTEST: usize = 4;
/// Candidates verified in each round.
const CANDIDATES: usize = 12;
/// Least verified correlation.
const CORRELATION: f64 = 0.25;
/// Least verified correlation times the number of periods: three need 0.67, ten 0.2. Chance plays a
/// part in few.
const BY_PERIODS: f64 = 2.0;
/// Periods that are evidence without details.
const MANY_PERIODS: f64 = 8.0;
/// Correlation of white noise has a standard deviation of 1/√n; with hundreds of candidates 4.5 of
/// them are safe.
const DEVIATIONS: f64 = 4.5;
/// A shorter season is taken instead of its multiple if its correlation is at least this share of
/// the best.
const AS_GOOD: f64 = 0.75;

/// Season lengths in steps, strongest first; empty if there is none. `values` without gaps,
/// `step_ms` apart.
pub fn detect(values: &[f64], step_ms: i64) -> Vec<usize> {
    let mut rest = clipped(values);
    let mut seasons = Vec::new();
    while seasons.len() < MAX_SEASONS {
        let Some(season) = strongest(&rest, &seasons, &calendar(step_ms)) else { break };
        seasons.push(season);
        remove_profile(&mut rest, season);
    }
    seasons
}

/// A day, a week and an hour in steps, where they are whole.
fn calendar(step_ms: i64) -> Vec<usize> {
    const HOUR_MS: i64 = 3_600_000;
    let whole = [24 * HOUR_MS, 7 * 24 * HOUR_MS, HOUR_MS].into_iter().filter(|l| l % step_ms == 0);
    whole.map(|l| (l / step_ms) as usize).filter(|&l| l >= SHORTEST).collect()
}

fn strongest(values: &[f64], known: &[usize], calendar: &[usize]) -> Option<usize> {
    let new = |lag: &usize| known.iter().all(|k| *lag > 2 * k);
    let hills = hills(&autocorrelation(values));
    let mut verified: Vec<(usize, f64)> = hills
        .iter()
        .chain(calendar)
        .copied()
        .filter(new)
        .filter_map(|lag| Some((lag, verify(values, lag, calendar.contains(&lag))?)))
        .collect();
    let best = verified.iter().map(|v| v.1).fold(0.0, f64::max);
    verified.retain(|v| v.1 >= AS_GOOD * best);
    let shortest = verified.iter().map(|v| v.0).min()?;
    // Noise moves a hill by a few steps: what is nearly a day is a day.
    let near = |lag: usize| calendar.contains(&lag) && lag.abs_diff(shortest) * 20 <= lag;
    Some(verified.iter().find(|v| near(v.0)).map_or_else(|| refined(values, shortest), |v| v.0))
}

/// The lag around `lag` where correlation is highest once slower changes are taken away: those move
/// hills too.
fn refined(values: &[f64], lag: usize) -> usize {
    let fast = without_slow(values, lag);
    let around = (lag - lag / 20).max(SHORTEST)..=(lag + lag / 20).min(values.len() / 2);
    let most = (values.len() / 2 / (lag + lag / 20)).clamp(1, 4);
    let comb = |l: usize| (1..=most).map(|k| pairs(&fast, k * l, 1.0)).sum::<f64>();
    around.map(|l| (l, comb(l))).max_by(|a, b| a.1.total_cmp(&b.1)).map_or(lag, |b| b.0)
}

/// Correlation of `values` with themselves for each lag up to half their length.
fn autocorrelation(values: &[f64]) -> Vec<f64> {
    let n = values.len();
    if n < 2 * SHORTEST {
        return Vec::new();
    }
    let trend = line(values);
    // Lags up to half the length do not meet the other end of so long a circle.
    let size = (n + n / 2 + 1).next_power_of_two();
    let mut buffer: Vec<Complex<f64>> = (0..size)
        .map(|i| if i < n { values[i] - trend.0 - trend.1 * i as f64 } else { 0.0 })
        .map(|v| Complex::new(v, 0.0))
        .collect();
    // Of what is real and symmetric the transform is its own inverse, but for the size.
    let transform = FftPlanner::new().plan_fft_forward(size);
    transform.process(&mut buffer);
    buffer.iter_mut().for_each(|c| *c = Complex::new(c.norm_sqr(), 0.0));
    transform.process(&mut buffer);
    let variance = buffer[0].re / n as f64;
    if variance <= 0.0 || !variance.is_finite() {
        return Vec::new();
    }
    (0..=n / 2).map(|lag| buffer[lag].re / (n - lag) as f64 / variance).collect()
}

/// The lags of the highest hills: above everything within a tenth of their own length.
fn hills(correlation: &[f64]) -> Vec<usize> {
    let mut hills: Vec<usize> = (SHORTEST..correlation.len())
        .filter(|&lag| {
            let reach = (lag / 10).max(1);
            let end = (lag + reach + 1).min(correlation.len());
            let below = |c: &f64| *c <= correlation[lag];
            // On a slope the neighbours tell.
            let (before, after) = (&correlation[lag - reach..lag], &correlation[lag + 1..end]);
            correlation[lag] > 0.0 && after.iter().all(below) && before.iter().rev().all(below)
        })
        .collect();
    hills.sort_by(|&a, &b| correlation[b].total_cmp(&correlation[a]));
    hills.truncate(CANDIDATES);
    hills
}

/// Correlation at `lag` once slower changes are taken away; `None` if that is no season.
fn verify(values: &[f64], lag: usize, on_calendar: bool) -> Option<f64> {
    let n = values.len();
    if n < 2 * lag {
        return None;
    }
    let (noise, periods) = (DEVIATIONS / ((n - lag) as f64).sqrt(), n as f64 / lag as f64);
    let least = CORRELATION.max(noise).max(BY_PERIODS / periods).min(0.75);
    let correlation = above(values, lag, lag, least)?;
    // A random walk may by chance repeat one curve, but not also the details on it.
    let detailed = || above(values, lag, lag / 4, CORRELATION).is_some();
    (periods >= MANY_PERIODS || on_calendar || detailed()).then_some(correlation)
}

/// Correlation at `lag` of what is faster than `width` steps, if it is at least `least` and falls
/// half way.
fn above(values: &[f64], lag: usize, width: usize, least: f64) -> Option<f64> {
    let fast = without_slow(values, width);
    let power = fast.iter().map(|v| v * v).sum::<f64>() / fast.len() as f64;
    let correlation = pairs(&fast, lag, power);
    let between = pairs(&fast, lag / 2, power);
    (power > 0.0 && correlation >= least && correlation > between + CORRELATION)
        .then_some(correlation)
}

/// Mean correlation of each period with the one before, without the best pair where there are
/// several.
fn pairs(values: &[f64], lag: usize, power: f64) -> f64 {
    let (earlier, later) = (values[..values.len() - lag].chunks(lag), values[lag..].chunks(lag));
    let dot = |(a, b): (&[f64], &[f64])| (a.iter().zip(b).map(|(a, b)| a * b).sum(), a.len());
    let sums: Vec<(f64, usize)> = earlier.zip(later).map(dot).collect();
    let best = sums.iter().map(|s| s.0).fold(f64::MIN, f64::max);
    let total = sums.iter().fold((0.0, 0), |t, s| (t.0 + s.0, t.1 + s.1));
    let trimmed = if sums.len() > 2 {
        (total.0 - best) / (total.1.saturating_sub(lag)).max(1) as f64
    } else {
        total.0 / total.1.max(1) as f64
    };
    trimmed / power
}

/// `values` less their centred moving mean over `width` steps (narrower at the ends).
fn without_slow(values: &[f64], width: usize) -> Vec<f64> {
    let n = values.len();
    let mut sums = Vec::with_capacity(n + 1);
    sums.push(0.0);
    for v in values {
        sums.push(sums[sums.len() - 1] + v);
    }
    (0..n)
        .map(|i| {
            let from = i.saturating_sub(width / 2).min(n.saturating_sub(width));
            let to = (from + width).min(n);
            values[i] - (sums[to] - sums[from]) / (to - from) as f64
        })
        .collect()
}

/// Takes away the mean of each phase.
fn remove_profile(values: &mut [f64], season: usize) {
    for phase in 0..season {
        let of_phase: Vec<f64> = values.iter().skip(phase).step_by(season).copied().collect();
        let mean = mean(&of_phase);
        values.iter_mut().skip(phase).step_by(season).for_each(|v| *v -= mean);
    }
}

/// Values held within their 1st and 99th percentile, so that no single burst rules the correlation.
fn clipped(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let Some(last) = sorted.len().checked_sub(1) else { return sorted };
    let (low, high) = (sorted[last / 100], sorted[last - last / 100]);
    values.iter().map(|v| v.clamp(low, high)).collect()
}

/// Intercept and slope of the least-squares line.
fn line(values: &[f64]) -> (f64, f64) {
    let n = values.len() as f64;
    let (mx, my) = ((n - 1.0) / 2.0, mean(values));
    let (mut sxy, mut sxx) = (0.0, 0.0);
    for (i, v) in values.iter().enumerate() {
        let x = i as f64 - mx;
        sxy += x * (v - my);
        sxx += x * x;
    }
    let slope = if sxx > 0.0 { sxy / sxx } else { 0.0 };
    (my - slope * mx, slope)
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    const SECOND_MS: i64 = 1_000;

    /// Noise with a standard deviation of about 1: the sum of 12 uniform draws.
    fn noise(seed: u64) -> impl FnMut() -> f64 {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        move || (0..12).map(|_| rng.random::<f64>()).sum::<f64>() - 6.0
    }

    /// Every seed gives `want`, one step either way.
    fn check(name: &str, step_ms: i64, want: &[usize], load: impl Fn(u64) -> Vec<f64>) {
        for seed in 0..4 {
            let got = detect(&load(seed), step_ms);
            let same =
                got.len() == want.len() && got.iter().zip(want).all(|(a, b)| a.abs_diff(*b) <= 1);
            assert!(same, "{name}, seed {seed}: {got:?} is not {want:?}");
        }
    }

    fn load(n: usize, seed: u64, f: impl Fn(usize) -> f64, spread: f64) -> Vec<f64> {
        let mut draw = noise(seed);
        (0..n).map(|i| f(i) + spread * draw()).collect()
    }

    fn wave(i: usize, period: usize) -> f64 {
        (std::f64::consts::TAU * i as f64 / period as f64).sin()
    }

    #[test]
    fn recurring_load_has_its_seasons() {
        let peak = |i: usize| if i % 40 >= 24 && i % 40 < 32 { 3.0 } else { 0.6 };
        check("steep peaks", 250, &[40], |s| load(240, s, peak, 0.3));
        check("steep peaks, two and a half of them", 250, &[40], |s| load(100, s, peak, 0.1));
        check("a day of 5 minutes", 300_000, &[288], |s| load(2_016, s, |i| wave(i, 288), 0.7));
        check("a day of minutes", 60_000, &[1_440], |s| load(7_200, s, |i| wave(i, 1_440), 0.7));
        let trend =
            |i: usize| 2.0 * wave(i, 60) + i as f64 * 0.01 + if i > 700 { 9.0 } else { 0.0 };
        check("on a trend with a level shift", SECOND_MS, &[60], |s| load(1_200, s, trend, 0.5));
        let workdays = |i: usize| {
            let weekend = i % 336 >= 240;
            if weekend { 1.0 } else { 3.0 + 2.0 * wave(i, 48) }
        };
        check("day and week", 1_800_000, &[48, 336], |s| load(2_016, s, workdays, 0.2));
        let twice = |i: usize| wave(i, 48) + wave(i, 24);
        check("two bumps a day", 1_800_000, &[48], |s| load(1_000, s, twice, 0.3));
    }

    #[test]
    fn load_that_does_not_recur_has_none() {
        check("nothing", SECOND_MS, &[], |_| Vec::new());
        check("constant", SECOND_MS, &[], |_| vec![3.0; 500]);
        check("line", SECOND_MS, &[], |_| (0..500).map(f64::from).collect());
        for n in [60, 240, 2_000] {
            check("white noise", SECOND_MS, &[], |s| load(n, s, |_| 5.0, 1.0));
            check("random walk", SECOND_MS, &[], |s| {
                let mut draw = noise(s + 100);
                let mut level = 0.0;
                let mut next = || {
                    level += draw();
                    level
                };
                (0..n).map(|_| next()).collect()
            });
            check("bursts", SECOND_MS, &[], |s| {
                let mut draw = noise(s + 200);
                let mut level = 0.0;
                let mut next = || {
                    level = if draw() > 2.0 { 10.0 } else { level * 0.8 };
                    level
                };
                (0..n).map(|_| next()).collect()
            });
        }
        check("two equal bursts", SECOND_MS, &[], |s| {
            let burst = |i: usize| if i == 100 || i == 400 { 50.0 } else { 0.0 };
            load(1_000, s, burst, 1.0)
        });
    }
}

//! Pure: champion and challenger: a new model comes into use only if it wins the backtest.
//!
//! The model in use (the champion) has never seen what came after its training, so its forecasts of
//! that time are honest. A new model (the challenger) has, so a stand-in is scored in its place:
//! the same method, trained on everything before the newest half of that time. Both forecast the
//! same origins of that half, and the lower mean pinball loss wins. Ties, and whatever cannot be
//! compared, go to the challenger, which knows more; a champion that no longer fits loses without a
//! match.
//!
//! Known limits: the stand-in knows less than the challenger, which the margin makes up for; and
//! the match costs a second training, which is the price of not judging a model by data it has
//! seen.

use serde::{Deserialize, Serialize};

use super::{
    Forecast, ForecastError, Model,
    accuracy::{MethodScore, SCORED, Tally, scale_season, seasonal_error},
    trainer::{self, TrainOptions},
};
use crate::series::{Series, Time};

/// Loss of the challenger, as a multiple of the champion's, that still counts as a tie. Repeated
/// matches over a quarter of a day scatter by about this much.
const TIE: f64 = 1.05;
/// Fewest steps that are worth a match.
const MIN_HELD_OUT: usize = 12;
/// Most origins of a match, evenly spaced.
const MAX_ORIGINS: usize = 96;

/// What a training gave: a model, and whether it should come into use.
#[derive(Debug, Clone, PartialEq)]
pub struct Lesson {
    pub model: Model,
    pub verdict: Verdict,
}

/// The outcome of a match, as it is kept beside the challenger.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Verdict {
    /// Whether the new model wins.
    pub promoted: bool,
    /// One clause for people.
    pub reason: String,
    /// Of the model in use, and of the new one's stand-in, over the same origins; `None` without a
    /// match.
    pub champion: Option<MethodScore>,
    pub challenger: Option<MethodScore>,
}

impl Verdict {
    fn unmatched(promoted: bool, reason: impl Into<String>) -> Verdict {
        Verdict { promoted, reason: reason.into(), champion: None, challenger: None }
    }
}

/// Trains on `history` and, if there is a champion, judges the result against it.
///
/// # Errors
/// [`ForecastError`] if there is too little history.
pub fn learn(
    now: Time,
    history: &Series,
    options: &TrainOptions,
    champion: Option<&Model>,
) -> Result<Lesson, ForecastError> {
    let model = trainer::train(now, history, options)?;
    let verdict = match champion {
        Some(champion) => challenge(now, history, options, champion),
        None => Verdict::unmatched(true, "the first model"),
    };
    Ok(Lesson { model, verdict })
}

/// The match between `champion` and a model that is trained on `history`.
fn challenge(now: Time, history: &Series, options: &TrainOptions, champion: &Model) -> Verdict {
    let won = |reason: String| Verdict::unmatched(true, reason);
    let step_ms = history.step().as_millis() as u64;
    if champion.step_ms != step_ms {
        return won(format!("the model before had a step of {} ms", champion.step_ms));
    }
    if champion.horizon < options.horizon {
        return won(format!("the model before saw only {} steps ahead", champion.horizon));
    }
    let known = champion.training.to;
    let new = (history.end() - known).num_milliseconds().max(0) as u64 / step_ms;
    let held_out = (new as usize / 2).min(history.len() / 4);
    if held_out < MIN_HELD_OUT {
        return won(format!("only {new} steps are new since the model before: too few to compare"));
    }
    let from = history.len() - held_out;
    let Ok(stand_in) = trainer::train(now, &history.slice(0..from), options) else {
        return won("too little history to compare".into());
    };
    play(history, from, options.horizon, champion, &stand_in)
}

/// Both forecast the origins from step `from` on; what one alone can forecast is a point for it.
fn play(
    history: &Series,
    from: usize,
    horizon: usize,
    champion: &Model,
    challenger: &Model,
) -> Verdict {
    let values = history.values();
    let mut tallies = [Tally::default(), Tally::default()];
    let (mut origins, mut alone) = (0, 0i64);
    for origin in spaced(from, values.len() - 1) {
        let forecast = |model: &Model| {
            let first = (origin + 1).saturating_sub(model.context());
            model.forecast(&history.slice(first..origin + 1), horizon, &SCORED)
        };
        match (forecast(champion), forecast(challenger)) {
            (Ok(a), Ok(b)) => {
                add(&mut tallies[0], &a, &values[origin + 1..]);
                add(&mut tallies[1], &b, &values[origin + 1..]);
                origins += 1;
            }
            (Ok(_), Err(_)) => alone -= 1,
            (Err(_), Ok(_)) => alone += 1,
            (Err(_), Err(_)) => {}
        }
    }
    let step_ms = history.step().as_millis() as i64;
    let season = scale_season(from, step_ms, &challenger.season_lengths);
    let unit = seasonal_error(&values[..from], season);
    let score = |tally: &Tally, model: &Model| tally.score(model.method(), unit, origins);
    let (old, new) = (score(&tallies[0], champion), score(&tallies[1], challenger));
    let (promoted, reason) = match (&old, &new) {
        _ if alone != 0 => {
            let who = if alone > 0 { "before" } else { "trained now" };
            (alone > 0, format!("the model {who} could not forecast at {} origins", alone.abs()))
        }
        (Some(old), Some(new)) => {
            let word = match new.pinball / old.pinball {
                ratio if ratio < 1.0 => "won",
                ratio if ratio > TIE => "lost",
                _ => "a tie, and the newer wins it",
            };
            let loss = format!("pinball {:.3} against {:.3}", new.pinball, old.pinball);
            (word != "lost", format!("{word}: {loss} over {origins} origins"))
        }
        _ => (true, "no origin could be scored".into()),
    };
    Verdict { promoted, reason, champion: old, challenger: new }
}

fn add(tally: &mut Tally, forecast: &Forecast, actuals: &[f64]) {
    let steps = actuals.iter().take(forecast.horizon()).enumerate();
    for (h, &actual) in steps.filter(|(_, v)| v.is_finite()) {
        tally.add(actual, std::array::from_fn(|q| forecast.paths[q][h]));
    }
}

/// At most [`MAX_ORIGINS`] steps from `from` up to, not including, `to`.
fn spaced(from: usize, to: usize) -> impl Iterator<Item = usize> {
    let stride = (to - from).div_ceil(MAX_ORIGINS).max(1);
    (from..to).step_by(stride)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use chrono::DateTime;

    use super::*;

    const DAY: usize = 40;

    /// Days of 40 steps, low and high, on a noise that repeats only after a long time; `scale`
    /// applies from step `shift` on.
    fn load(n: usize, shift: usize, scale: f64) -> Series {
        let noise = |i: usize| ((i * 7919) % 101) as f64 / 101.0;
        let day = |i: usize| if i % DAY < DAY / 2 { 1.0 } else { 4.0 };
        let value = |i: usize| (day(i) + noise(i)) * if i < shift { 1.0 } else { scale };
        Series::new(DateTime::UNIX_EPOCH, Duration::from_secs(60), (0..n).map(value).collect())
    }

    fn options() -> TrainOptions {
        TrainOptions { horizon: 6, origins: 1, ..TrainOptions::default() }
    }

    /// Trains the champion on the first `seen` steps and challenges it with all of `history`.
    fn check(history: &Series, seen: usize, change: impl Fn(&mut Model)) -> Verdict {
        let mut champion =
            trainer::train(history.end(), &history.slice(0..seen), &options()).expect("enough");
        change(&mut champion);
        let lesson = learn(history.end(), history, &options(), Some(&champion)).expect("enough");
        assert_eq!(lesson.model.training.to, history.end(), "the new model knows everything");
        lesson.verdict
    }

    #[test]
    fn a_model_that_the_load_has_left_behind_loses() {
        // The champion knows the day before it grew by a factor of five; its stand-in has seen six
        // of the twelve days since.
        let verdict = check(&load(20 * DAY, 8 * DAY, 5.0), 8 * DAY, |_| ());
        assert!(verdict.promoted && verdict.reason.starts_with("won: pinball"), "{verdict:?}");
        let [old, new] = [verdict.champion, verdict.challenger].map(|s| s.expect("a score"));
        assert!(new.pinball < old.pinball && old.origins == new.origins);
        // min(480 / 2, 800 / 4) = 200 steps are held out, and the last has nothing after it: every
        // third of 199.
        assert_eq!(new.origins, 67);
    }

    #[test]
    fn the_better_one_wins_from_either_side_and_equals_tie() {
        // One learned the load, the other an outage: ten times as much, and noise.
        let good = load(12 * DAY, usize::MAX, 1.0);
        let wild = (0..8 * DAY).map(|i| ((i * 7907) % 97) as f64).collect();
        let train =
            |history: Series| trainer::train(history.end(), &history, &options()).expect("enough");
        let learned = train(good.slice(0..8 * DAY));
        let misled = train(Series::new(good.start(), good.step(), wild));
        let check = |history: &Series, champion, challenger, promoted: bool, word: &str| {
            let verdict = play(history, 10 * DAY, 6, champion, challenger);
            assert!(verdict.reason.starts_with(word), "{}", verdict.reason);
            assert_eq!(verdict.promoted, promoted);
            let scores = [verdict.champion, verdict.challenger].map(|s| s.expect("a score"));
            assert!(scores.iter().all(|s| s.pinball.is_finite() && s.mase.is_finite()));
        };
        check(&good, &learned, &misled, false, "lost: pinball");
        check(&good, &misled, &learned, true, "won: pinball");
        check(&good, &learned, &learned, true, "a tie, and the newer wins it: pinball");
        // Gaps are no origins, and no actuals.
        let mut values = good.values().to_vec();
        values[11 * DAY..11 * DAY + 20].fill(f64::NAN);
        let gappy = Series::new(good.start(), good.step(), values);
        check(&gappy, &learned, &misled, false, "lost: pinball");
        // What only one can forecast is a point for it.
        let deaf = Model { step_ms: 1, ..learned.clone() };
        for (champion, challenger, promoted) in [(&learned, &deaf, false), (&deaf, &learned, true)]
        {
            let verdict = play(&good, 10 * DAY, 6, champion, challenger);
            assert_eq!(
                (verdict.promoted, verdict.champion),
                (promoted, None),
                "{}",
                verdict.reason
            );
        }
    }

    #[test]
    fn what_cannot_be_compared_goes_to_the_newer() {
        let history = load(12 * DAY, usize::MAX, 1.0);
        let won = |verdict: Verdict, why: &str| {
            assert!(verdict.promoted && verdict.reason.contains(why), "{verdict:?}");
            assert_eq!((verdict.champion, verdict.challenger), (None, None));
        };
        won(check(&history, 8 * DAY, |m| m.step_ms = 250), "a step of 250 ms");
        won(check(&history, 8 * DAY, |m| m.horizon = 5), "only 5 steps ahead");
        won(check(&history, 12 * DAY - 5, |_| ()), "only 5 steps are new");
        // As after a clock that was set back.
        let future = |m: &mut Model| m.training.to = DateTime::<chrono::Utc>::MAX_UTC;
        won(check(&history, 8 * DAY, future), "only 0 steps are new");
        won(learn(history.end(), &history, &options(), None).unwrap().verdict, "the first model");
    }

    #[test]
    fn too_little_history_is_an_error() {
        let gone = Series::new(Time::UNIX_EPOCH, Duration::from_secs(60), vec![f64::NAN; 99]);
        let error = learn(gone.end(), &gone, &options(), None).unwrap_err();
        assert!(matches!(error, ForecastError::TooShort { .. }));
    }
}

//! Pure: the result of a backtest over all files: JSON, table, means, and what to say beside it.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use serde::Serialize;

use super::output;
use crate::forecast::accuracy::Accuracy;
use crate::forecast::backtest::{Backtest, Contender, ContenderScore, OriginForecast};

#[derive(Debug, Serialize)]
pub struct Scored {
    pub series: Vec<ScoredSeries>,
    /// Over all series: geometric mean of `mase` and `pinball`, mean of the rest, sum of the
    /// origins.
    pub mean: BTreeMap<Contender, ContenderScore>,
}

#[derive(Debug, Serialize)]
pub struct ScoredSeries {
    pub name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    #[serde(flatten)]
    pub facts: Option<Facts>,
    pub models: BTreeMap<Contender, ContenderScore>,
    #[serde(skip)]
    pub evidence: Option<Evidence>,
}

/// What is told of a series beside its scores.
#[derive(Debug, Serialize)]
pub struct Facts {
    pub points: usize,
    pub step_seconds: f64,
    pub season_lengths: Vec<usize>,
    /// Unit of `mase` and `pinball`.
    pub scale: f64,
    /// Whatever was not as usual, in sentences.
    pub notes: Vec<String>,
}

/// Every forecast of a series, and what came.
#[derive(Debug)]
pub struct Evidence {
    pub notes: Vec<String>,
    pub backtest: Backtest,
    pub forecasts: Vec<OriginForecast>,
}

impl ScoredSeries {
    pub fn new(name: String, evidence: Result<Evidence, String>) -> ScoredSeries {
        match evidence {
            Err(error) => ScoredSeries {
                name,
                error: Some(error),
                facts: None,
                models: BTreeMap::new(),
                evidence: None,
            },
            Ok(evidence) => {
                let backtest = &evidence.backtest;
                let facts = Facts {
                    points: backtest.actuals.len(),
                    step_seconds: backtest.actuals.step().as_secs_f64(),
                    season_lengths: backtest.season_lengths.clone(),
                    scale: backtest.scale,
                    notes: evidence.notes.clone(),
                };
                let models = backtest.score(&evidence.forecasts);
                ScoredSeries {
                    name,
                    error: None,
                    facts: Some(facts),
                    models,
                    evidence: Some(evidence),
                }
            }
        }
    }

    /// The larger of the two errors of `foresail`, relative to that of the better of the naive
    /// models; above 1 it loses. `None` where one side was not scored or the bar is nothing.
    pub fn against_naive(&self) -> Option<f64> {
        let of = |contender| self.models.get(&contender).map(|s: &ContenderScore| s.accuracy);
        let ours = of(Contender::Foresail)?;
        let bars = [of(Contender::SeasonalNaive), of(Contender::Naive)].into_iter().flatten();
        let ratio = |error: fn(&Accuracy) -> f64| {
            let bar = bars.clone().map(|a| error(&a)).fold(f64::INFINITY, f64::min);
            (bar > 0.0 && bar.is_finite()).then(|| error(&ours) / bar)
        };
        Some(ratio(|a| a.mase)?.max(ratio(|a| a.pinball)?))
    }
}

impl Scored {
    pub fn new(series: Vec<ScoredSeries>) -> Scored {
        let mut scores = BTreeMap::<Contender, Vec<&ContenderScore>>::new();
        for (&contender, score) in series.iter().flat_map(|s| &s.models) {
            scores.entry(contender).or_default().push(score);
        }
        let mean = scores.into_iter().map(|(contender, scores)| (contender, mean_of(&scores)));
        Scored { mean: mean.collect(), series }
    }

    /// One line for each series that could not be scored.
    pub fn failures(&self) -> Option<String> {
        let failures: Vec<&str> = self.series.iter().filter_map(|s| s.error.as_deref()).collect();
        (!failures.is_empty()).then(|| failures.join("\n"))
    }

    /// (series, note)
    pub fn notes(&self) -> impl Iterator<Item = (&str, &str)> {
        let facts = self.series.iter().filter_map(|s| Some((&s.name, s.facts.as_ref()?)));
        facts
            .flat_map(|(name, facts)| facts.notes.iter().map(|note| (name.as_str(), note.as_str())))
    }

    /// Those that were scored, the one where `foresail` does worst against the naive models first.
    pub fn worst_first(&self) -> Vec<&ScoredSeries> {
        let mut scored: Vec<&ScoredSeries> =
            self.series.iter().filter(|s| s.error.is_none()).collect();
        // The order of numbers from 0 is that of their bits.
        scored.sort_by_key(|s| Reverse(s.against_naive().map(f64::to_bits)));
        scored
    }

    pub fn table(&self) -> String {
        let mut rows = Vec::new();
        let scored = self.series.iter().map(|s| (s.name.as_str(), &s.models));
        for (name, models) in scored.chain([("(mean)", &self.mean)]) {
            for (i, (contender, score)) in models.iter().enumerate() {
                let name = if i == 0 { name } else { "" };
                let mut row = vec![name.to_owned(), contender.name().to_owned()];
                row.extend(cells(score));
                rows.push(row);
            }
        }
        output::table(2, ["series", "model"].into_iter().chain(HEADER), rows)
    }
}

pub const HEADER: [&str; 6] =
    ["mase", "pinball", "coverage_80", "exceed_99", "fit_seconds", "origins"];

/// Cells below [`HEADER`].
pub fn cells(score: &ContenderScore) -> [String; 6] {
    let a = &score.accuracy;
    let [mase, pinball, coverage, exceed, fit] =
        [a.mase, a.pinball, a.coverage_80, a.exceed_99, score.fit_seconds]
            .map(|v| format!("{v:.3}"));
    [mase, pinball, coverage, exceed, fit, score.origins.to_string()]
}

/// A series without any error has no place in a geometric mean.
fn mean_of(scores: &[&ContenderScore]) -> ContenderScore {
    let mean = |of: fn(&ContenderScore) -> f64| {
        scores.iter().map(|s| of(s)).sum::<f64>() / scores.len() as f64
    };
    let geometric = |of: fn(&ContenderScore) -> f64| {
        let logs: Vec<f64> =
            scores.iter().map(|s| of(s)).filter(|e| *e > 0.0).map(f64::ln).collect();
        if logs.is_empty() { 0.0 } else { (logs.iter().sum::<f64>() / logs.len() as f64).exp() }
    };
    ContenderScore {
        accuracy: Accuracy {
            mase: geometric(|s| s.accuracy.mase),
            pinball: geometric(|s| s.accuracy.pinball),
            coverage_80: mean(|s| s.accuracy.coverage_80),
            exceed_99: mean(|s| s.accuracy.exceed_99),
        },
        fit_seconds: mean(|s| s.fit_seconds),
        origins: scores.iter().map(|s| s.origins).sum(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn score(mase: f64, coverage_80: f64) -> ContenderScore {
        let accuracy = Accuracy { mase, pinball: mase / 4.0, coverage_80, exceed_99: 0.0 };
        ContenderScore { accuracy, fit_seconds: mase, origins: 3 }
    }

    fn series(name: &str, models: &[(Contender, f64)]) -> ScoredSeries {
        let models =
            models.iter().map(|&(contender, mase)| (contender, score(mase, 0.8))).collect();
        ScoredSeries { name: name.to_owned(), error: None, facts: None, models, evidence: None }
    }

    #[test]
    fn the_mean_of_errors_is_geometric() {
        // sqrt(0.5 * 2) = 1, the faultless one apart; (0.7 + 0.9 + 0.8) / 3 = 0.8.
        let mean = mean_of(&[&score(0.5, 0.7), &score(2.0, 0.9), &score(0.0, 0.8)]);
        let near = |a: f64, b: f64| (a - b).abs() < 1e-12;
        assert!(near(mean.accuracy.mase, 1.0) && near(mean.accuracy.coverage_80, 0.8));
        assert_eq!((mean.origins, mean_of(&[&score(0.0, 0.8)]).accuracy.mase), (9, 0.0));
    }

    #[test]
    fn the_greatest_loss_comes_first() {
        use Contender::{Foresail, Naive, SeasonalNaive};
        let scored = Scored::new(vec![
            series("won", &[(Foresail, 0.5), (Naive, 2.0), (SeasonalNaive, 1.0)]),
            series("alone", &[(Foresail, 9.0)]),
            series("lost", &[(Foresail, 3.0), (Naive, 2.0), (SeasonalNaive, 4.0)]),
            ScoredSeries::new("failed".to_owned(), Err("failed.csv: empty".to_owned())),
        ]);
        let order: Vec<_> = scored.worst_first().iter().map(|s| s.name.as_str()).collect();
        assert_eq!(order, ["lost", "won", "alone"]);
        assert_eq!(scored.series[2].against_naive(), Some(1.5));
        assert_eq!(scored.failures().as_deref(), Some("failed.csv: empty"));
        let table = scored.table();
        assert_eq!(table.lines().count(), 1 + 3 + 1 + 3 + 3, "{table}");
    }
}

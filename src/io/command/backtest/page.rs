//! Pure: the report of a backtest as one HTML page that needs nothing else, losses first.

use std::collections::BTreeMap;

use super::scored::{Evidence, HEADER, Scored, ScoredSeries, cells};
use crate::forecast::QUANTILES;
use crate::forecast::accuracy::Accuracy;
use crate::forecast::backtest::{Contender, ContenderScore, OriginForecast};
use crate::io::command::{output, page};
use crate::io::plot::{Chart, escape, strip};

const LEGEND: &str = "\
<p class=\"quiet\">Pictures: <b class=\"key-history\">load as recorded</b>, \
<b class=\"key-median\">forecast</b> (median, and the intervals of 50, 80 and 98 %), \
<b class=\"key-actual\">what came</b>. <b>mase</b> and <b>pinball</b> are errors in units of the \
mean difference to the day before; less is better. <b>coverage_80</b> is best at 0.8, \
<b>exceed_99</b> at 0.01. A model that is not below both naive ones is of no use for that \
load.</p>\n";

/// Steps of history in a picture for each step of the forecast, and at least.
const DRAWN: (usize, usize) = (4, 36);

pub fn html(scored: &Scored) -> String {
    let mut page = page::begin("Backtest");
    let ordered = scored.worst_first();
    page += &verdict(&ordered);
    page += LEGEND;
    if ordered.len() > 1 {
        page += "<h2>All series</h2>\n<p class=\"quiet\">Geometric mean of the errors, mean of the \
                 rest, sum of the origins.</p>\n";
        page += &table(&scored.mean);
    }
    for series in ordered {
        page += &section(series);
    }
    if let Some(failures) = scored.failures() {
        page += "<h2>Not scored</h2>\n";
        page.extend(failures.lines().map(|line| format!("<p>{}</p>\n", escape(line))));
    }
    page
}

/// How often `foresail` loses, in a sentence.
fn verdict(series: &[&ScoredSeries]) -> String {
    let judged: Vec<f64> = series.iter().filter_map(|s| s.against_naive()).collect();
    let lost = judged.iter().filter(|ratio| **ratio > 1.0).count();
    match judged.len() {
        0 => String::new(),
        all if lost == 0 => format!(
            "<p class=\"won\">foresail beats the better of the naive models on all of {all} series.</p>\n"
        ),
        all => format!(
            "<p class=\"lost\">foresail loses to the better of the naive models on {lost} of {all} \
             series, shown first.</p>\n"
        ),
    }
}

fn section(series: &ScoredSeries) -> String {
    let mut html = format!("<h2>{}</h2>\n", escape(&series.name));
    if let Some(ratio) = series.against_naive() {
        let class = if ratio > 1.0 { "lost" } else { "won" };
        html += &format!(
            "<p class=\"{class}\">{ratio:.2} × the error of the better naive model (the larger of \
             mase and pinball)</p>\n"
        );
    }
    for note in series.facts.iter().flat_map(|facts| &facts.notes) {
        html += &format!("<p class=\"quiet\">{}</p>\n", escape(note));
    }
    if let Some(evidence) = &series.evidence {
        html += &overview(evidence);
        html += &panels(evidence);
    }
    html + &table(&series.models)
}

/// The whole recording, with its origins.
fn overview(evidence: &Evidence) -> String {
    let actuals = &evidence.backtest.actuals;
    let step = humantime::format_duration(actuals.step());
    let [start, end] = [actuals.start(), actuals.end()].map(output::time);
    format!(
        "<figure>{}<figcaption class=\"ends\"><span>{start}</span><span>{} steps of {step}; blue: \
         the origins</span><span>{end}</span></figcaption></figure>\n",
        strip(actuals, &evidence.backtest.origins),
        actuals.len()
    )
}

/// The best, the typical and the worst forecast of the first model.
fn panels(evidence: &Evidence) -> String {
    let Some(drawn) = evidence.forecasts.iter().map(|f| f.contender).min() else {
        return String::new();
    };
    let pinball = |forecast: &OriginForecast| {
        let score = evidence.backtest.score(std::slice::from_ref(forecast));
        score.get(&drawn).map(|s| s.accuracy.pinball)
    };
    let of_drawn = evidence.forecasts.iter().filter(|f| f.contender == drawn);
    let mut ranked: Vec<_> = of_drawn.filter_map(|f| Some((pinball(f)?, f))).collect();
    ranked.sort_by(|a, b| a.0.total_cmp(&b.0));
    let Some(last) = ranked.len().checked_sub(1) else { return String::new() };
    let mut chosen = vec![("worst", last), ("typical", last / 2), ("best", 0)];
    chosen.dedup_by_key(|(_, rank)| *rank);
    let figures = chosen.into_iter().map(|(rank, i)| {
        let (pinball, forecast) = ranked[i];
        format!(
            "<figure>{}<figcaption>{} forecast of {}: pinball {pinball:.3}</figcaption></figure>\n",
            panel(evidence, forecast),
            rank,
            drawn.name()
        )
    });
    format!("<div class=\"panels\">\n{}</div>\n", figures.collect::<String>())
}

fn panel(evidence: &Evidence, forecast: &OriginForecast) -> String {
    let actuals = &evidence.backtest.actuals;
    let (seen, horizon) = (forecast.origin + 1, forecast.point.len());
    let shown = (DRAWN.0 * horizon).max(DRAWN.1).min(seen);
    let chart = Chart {
        title: "",
        quantity: "load",
        size: (380.0, 250.0),
        series: &actuals.slice(seen - shown..actuals.len().min(seen + horizon)),
        seen: shown,
        quantiles: &QUANTILES,
        point: &forecast.point,
        paths: &forecast.paths,
    };
    chart.inline()
}

fn table(models: &BTreeMap<Contender, ContenderScore>) -> String {
    let best = |error: fn(&Accuracy) -> f64| {
        models.values().map(|s| error(&s.accuracy)).fold(f64::INFINITY, f64::min)
    };
    let best = [best(|a| a.mase), best(|a| a.pinball)];
    let header: String = HEADER.iter().map(|name| format!("<th>{name}</th>")).collect();
    let mut html = format!("<div class=\"scroll\"><table>\n<tr><th>model</th>{header}</tr>\n");
    for (contender, score) in models {
        let errors = [score.accuracy.mase, score.accuracy.pinball];
        html += &format!("<tr><td>{}</td>", contender.name());
        for (i, cell) in cells(score).iter().enumerate() {
            let is_best = i < best.len() && errors[i] == best[i];
            let class = if is_best { " class=\"best\"" } else { "" };
            html += &format!("<td{class}>{cell}</td>");
        }
        html += "</tr>\n";
    }
    html + "</table></div>\n"
}

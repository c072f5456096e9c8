//! Pure: every step of every replay as one Parquet file, so that anybody can score it again.

use polars::prelude::*;

use super::Trace;
use crate::simulator::report::Trail;

/// Rows as in [`frame`], one row group for each trace and policy, so that memory holds one at a
/// time.
pub fn parquet(traces: &[Trace]) -> PolarsResult<Vec<u8>> {
    let mut content = Vec::new();
    let mut writer = None;
    for trace in traces {
        for (policy, trail) in trace.report.policies.iter().zip(&trace.trails) {
            let rows = frame(trace, &policy.label, trail)?;
            let mut batches = match writer.take() {
                Some(batches) => batches,
                None => ParquetWriter::new(&mut content).batched(rows.schema())?,
            };
            batches.write_batch(&rows)?;
            writer = Some(batches);
        }
    }
    match writer {
        Some(batches) => batches.finish().map(drop)?,
        None => return Err(polars_err!(NoData: "nothing could be replayed")),
    }
    Ok(content)
}

/// One row for each step. `policy` is the label of the report, `time` where the step begins, in
/// UTC; `demand` is null where nothing was recorded, and `ready` the replicas that served it;
/// `desired` is what was decided after the step; only steps that are `scored` are in the measures.
fn frame(trace: &Trace, policy: &str, trail: &Trail) -> PolarsResult<DataFrame> {
    let series = &trace.series;
    let steps = series.len();
    let instants = (0..steps).map(|t| series.time_at(t).timestamp_millis());
    let demand: Vec<Option<f64>> = (0..steps).map(|t| series.get(t)).collect();
    let scored: Vec<bool> =
        demand.iter().enumerate().map(|(t, d)| t >= trace.scored_from && d.is_some()).collect();
    let word = |name: &str, text: &str| StringChunked::full(name.into(), text, steps).into_column();
    let columns = vec![
        word("trace", &trace.report.name),
        word("policy", policy),
        Int64Chunked::from_vec("time".into(), instants.collect())
            .into_datetime(TimeUnit::Milliseconds, Some(TimeZone::UTC))
            .into_column(),
        Column::new("demand".into(), demand),
        Column::new("ready".into(), &trail.ready),
        Column::new("desired".into(), &trail.desired),
        Column::new("scored".into(), scored),
    ];
    DataFrame::new(steps, columns)
}

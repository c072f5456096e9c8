//! Pure: the two kinds of rows as Polars frames: columns, conversion, merging.
//!
//! Times are `Datetime(Milliseconds)` without a zone and always UTC.

use chrono::DateTime;
use polars::prelude::*;

use super::DemandRow;
use crate::io::collector::Sample;
use crate::series::Time;

/// What a segment holds; also its folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Samples,
    Demand,
}

impl Kind {
    pub const ALL: [Kind; 2] = [Kind::Samples, Kind::Demand];

    pub fn folder(self) -> &'static str {
        match self {
            Kind::Samples => "samples",
            Kind::Demand => "demand",
        }
    }

    /// Columns that name a row: of two rows with the same key the newer one wins.
    pub fn key(self) -> &'static [&'static str] {
        match self {
            Kind::Samples => &["time", "replica"],
            Kind::Demand => &["time"],
        }
    }

    pub fn columns(self) -> Vec<(&'static str, DataType)> {
        let time = DataType::Datetime(TimeUnit::Milliseconds, None);
        match self {
            Kind::Samples => vec![
                ("time", time),
                ("replica", DataType::String),
                ("cpu_cores", DataType::Float64),
                ("memory_bytes", DataType::UInt64),
                ("requests", DataType::UInt64),
                ("in_flight", DataType::UInt32),
            ],
            Kind::Demand => vec![
                ("time", time),
                ("demand", DataType::Float64),
                ("lower_bound", DataType::Boolean),
                ("ready_replicas", DataType::UInt32),
                ("current_replicas", DataType::UInt32),
                ("desired_replicas", DataType::UInt32),
            ],
        }
    }
}

/// Rows of `frames` by their key, the last one where several have the same, ascending.
pub fn merge(kind: Kind, frames: impl IntoIterator<Item = DataFrame>) -> PolarsResult<DataFrame> {
    // Not Polars' own empty frame: the first of its columns that is looked at takes 8 MiB for good.
    let mut all = match kind {
        Kind::Samples => from_samples(&[])?,
        Kind::Demand => from_demand(&[])?,
    };
    for frame in frames {
        all.vstack_mut_owned(frame)?;
    }
    if all.height() == 0 {
        return Ok(all);
    }
    let key: Vec<String> = kind.key().iter().map(|name| name.to_string()).collect();
    all.unique_stable(Some(&key), UniqueKeepStrategy::Last, None)?
        .sort(kind.key(), SortMultipleOptions::default())
}

/// Rows with `from_ms <= time < to_ms`.
pub fn within(frame: &DataFrame, (from_ms, to_ms): (i64, i64)) -> PolarsResult<DataFrame> {
    let times = times(frame)?.into_iter();
    frame.filter(&times.map(|time| (from_ms..to_ms).contains(&time)).collect())
}

/// The columns of `kind` and no others.
pub fn conform(kind: Kind, frame: &DataFrame) -> PolarsResult<DataFrame> {
    let columns = kind.columns().into_iter();
    let columns = columns.map(|(name, dtype)| frame.column(name)?.strict_cast(&dtype));
    DataFrame::new(frame.height(), columns.collect::<PolarsResult<_>>()?)
}

/// Milliseconds since 1970 of every row.
pub fn times(frame: &DataFrame) -> PolarsResult<Vec<i64>> {
    Ok(frame.column("time")?.datetime()?.physical().iter().flatten().collect())
}

pub fn from_samples(rows: &[Sample]) -> PolarsResult<DataFrame> {
    let replicas: Vec<&str> = rows.iter().map(|r| r.replica.as_str()).collect();
    DataFrame::new(
        rows.len(),
        vec![
            time_column(rows.iter().map(|r| r.time)),
            Column::new("replica".into(), replicas),
            column("cpu_cores", rows.iter().map(|r| r.cpu_cores)),
            column("memory_bytes", rows.iter().map(|r| r.memory_bytes)),
            column("requests", rows.iter().map(|r| r.requests)),
            column("in_flight", rows.iter().map(|r| r.in_flight)),
        ],
    )
}

pub fn from_demand(rows: &[DemandRow]) -> PolarsResult<DataFrame> {
    DataFrame::new(
        rows.len(),
        vec![
            time_column(rows.iter().map(|r| r.time)),
            column("demand", rows.iter().map(|r| r.demand.filter(|d| d.is_finite()))),
            column("lower_bound", rows.iter().map(|r| r.lower_bound)),
            column("ready_replicas", rows.iter().map(|r| r.ready_replicas)),
            column("current_replicas", rows.iter().map(|r| r.current_replicas)),
            column("desired_replicas", rows.iter().map(|r| r.desired_replicas)),
        ],
    )
}

pub fn to_samples(frame: &DataFrame) -> PolarsResult<Vec<Sample>> {
    let times = frame.column("time")?.datetime()?.physical();
    let replicas = frame.column("replica")?.str()?;
    let cpu_cores = frame.column("cpu_cores")?.f64()?;
    let memory_bytes = frame.column("memory_bytes")?.u64()?;
    let requests = frame.column("requests")?.u64()?;
    let in_flight = frame.column("in_flight")?.u32()?;
    let row = |i| {
        Some(Sample {
            time: instant(times.get(i))?,
            replica: replicas.get(i)?.to_owned(),
            cpu_cores: cpu_cores.get(i)?,
            memory_bytes: memory_bytes.get(i)?,
            requests: requests.get(i)?,
            in_flight: in_flight.get(i)?,
        })
    };
    Ok((0..frame.height()).filter_map(row).collect())
}

pub fn to_demand(frame: &DataFrame) -> PolarsResult<Vec<DemandRow>> {
    let times = frame.column("time")?.datetime()?.physical();
    let demand = frame.column("demand")?.f64()?;
    let lower_bound = frame.column("lower_bound")?.bool()?;
    let ready = frame.column("ready_replicas")?.u32()?;
    let current = frame.column("current_replicas")?.u32()?;
    let desired = frame.column("desired_replicas")?.u32()?;
    let row = |i| {
        Some(DemandRow {
            time: instant(times.get(i))?,
            demand: demand.get(i),
            lower_bound: lower_bound.get(i)?,
            ready_replicas: ready.get(i)?,
            current_replicas: current.get(i)?,
            desired_replicas: desired.get(i)?,
        })
    };
    Ok((0..frame.height()).filter_map(row).collect())
}

fn time_column(times: impl Iterator<Item = Time>) -> Column {
    let ms: Vec<i64> = times.map(|t| t.timestamp_millis()).collect();
    Int64Chunked::from_vec("time".into(), ms)
        .into_datetime(TimeUnit::Milliseconds, None)
        .into_column()
}

fn column<T, V>(name: &str, values: V) -> Column
where
    V: Iterator<Item = T>,
    polars::prelude::Series: NamedFrom<Vec<T>, [T]>,
{
    let values: Vec<T> = values.collect();
    <polars::prelude::Series as NamedFrom<Vec<T>, [T]>>::new(name.into(), values).into_column()
}

fn instant(ms: Option<i64>) -> Option<Time> {
    DateTime::from_timestamp_millis(ms?)
}

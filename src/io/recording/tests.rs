//! I/O: tests of recordings: every spelling that is read, and every file that is refused.

use super::*;

fn read(content: &[u8]) -> Result<Recording, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("load.csv");
    fs::write(&path, content).unwrap();
    let folder = format!("{}/", folder.path().display());
    Recording::read(&path).map_err(|e| e.to_string().replace(&folder, ""))
}

/// (milliseconds, value) of each point.
fn pairs(recording: &Recording) -> Vec<(i64, f64)> {
    recording.points.iter().map(|p| (p.ms, p.value)).collect()
}

fn points(content: &str) -> Vec<(i64, f64)> {
    pairs(&read(content.as_bytes()).unwrap())
}

/// The file is refused with this message.
fn check(content: impl AsRef<[u8]>, want: &str) {
    assert_eq!(read(content.as_ref()).unwrap_err(), want);
}

#[test]
fn every_spelling_of_time_is_read() {
    let want = [(1_709_251_200_000, 1.0), (1_709_251_260_000, 0.0), (1_709_251_320_000, 2.5)];
    for times in [
        ["2024-03-01T00:00:00Z", "2024-03-01T01:01:00+01:00", "2024-03-01T00:02:00.000Z"],
        ["2024-03-01 00:00:00", "2024-03-01 00:01:00.0", "2024-03-01T00:02:00"],
        ["1709251200", "1709251260", "1709251320"],
        ["1709251200000", "1709251260000", "1709251320000"],
    ] {
        let [a, b, c] = times;
        assert_eq!(points(&format!("timestamp,value\n{a},1\n{b},0\n{c},2.5\n")), want);
    }
    // A byte order mark, blanks, quotes, CRLF, more columns, another order, no newline at the
    // end.
    assert_eq!(
        points(
            "\u{feff}value , host,timestamp\r\n 1,a, 2024-03-01T00:00:00Z \r\n\
             0,b,\"2024-03-01T00:01:00Z\"\r\n2.5,c,2024-03-01T00:02:00Z"
        ),
        want
    );
}

#[test]
fn an_empty_value_and_a_missing_row_are_gaps() {
    let recording = read(b"timestamp,value\n10,1\n20,2\n30,\n40,4\n61,6\n").unwrap();
    assert_eq!(recording.name, "load");
    assert_eq!(recording.step, Duration::from_secs(10));
    let series = recording.series();
    assert_eq!(series.start().timestamp(), 10);
    let values: Vec<Option<f64>> = (0..series.len()).map(|i| series.get(i)).collect();
    // 61 s is nearest to the step that begins at 60 s.
    assert_eq!(values, [Some(1.0), Some(2.0), None, Some(4.0), None, Some(6.0)]);
}

#[test]
fn suspect_files_are_refused_with_line_and_reason() {
    const T: &str = "timestamp,value\n2024-03-01T00:00:00Z,1\n";
    check("", "load.csv: empty; the header `timestamp,value` and data are needed");
    check("timestamp,value\n", "load.csv: 0 data points; at least two are needed");
    check(T, "load.csv: 1 data points; at least two are needed");
    let header = "load.csv:1: header `time,load`, but `timestamp,value` is needed";
    check("time,load\n1,2\n", header);
    check("value,value\n1,2\n", &header.replace("time,load", "value,value"));
    check(
        "timestamp,value\n0.5,2024-03-01T00:00:00Z\n",
        "load.csv:2: timestamp `0.5` is neither RFC 3339 (2024-03-01T12:00:00Z) nor whole \
         seconds or milliseconds since 1970",
    );
    check(format!("{T}2024-03-01T00:01:00Z\n"), "load.csv:3: 1 fields, the header has 2");
    check(
        format!("{T}2024-03-01T00:01:00Z,x\u{1b}[31m\n"),
        r"load.csv:3: value `x\u{1b}[31m` is no number",
    );
    for value in ["NaN", "inf", "-inf", "-1"] {
        check(
            format!("{T}2024-03-01T00:01:00Z,{value}\n"),
            &format!("load.csv:3: value {value}; a finite number, 0 or more, is needed"),
        );
    }
    check(format!("{T}2024-03-01T00:00:00Z,2\n"), "load.csv:3: the same time as the point before");
    check(format!("{T}\n\n2024-02-01T00:00:00Z,2\n"), "load.csv:5: earlier than the point before");
    check(
        "\u{feff}timestamp,value\r\n5,1\r\n\r\n6,2\r\n4,3",
        "load.csv:5: earlier than the point before",
    );
    let between = "load.csv:2: the time is not between 1970 and 2200";
    check("timestamp,value\n1709251200000000,1\n", between);
    check("timestamp,value\n-5,1\n", between);
    check(
        "timestamp,value\n0,1\n1,1\n2,1\n4102444800,1\n",
        "load.csv: 4102444800 steps of 1000 ms exceed 22000000: a wrong time?",
    );
}

#[test]
fn binary_and_endless_content_is_refused_in_few_words() {
    let long = format!("timestamp,value\n{},1\n", "9".repeat(1 << 20));
    for content in [vec![0xff; 4096], vec![0; 4096], long.into_bytes(), b"\"".to_vec()] {
        let message = read(&content).unwrap_err();
        assert!(message.len() < 400 && !message.contains('\0'), "{message}");
    }
    assert!(read(b"PAR1").unwrap_err().contains("Parquet"));
    let folder = tempfile::tempdir().unwrap();
    assert!(Recording::read(folder.path()).is_err());
    assert!(Recording::read(&folder.path().join("absent.csv")).is_err());
}

fn parquet(columns: Vec<Column>) -> Vec<u8> {
    let mut content = Vec::new();
    let mut frame = DataFrame::new(columns[0].len(), columns).unwrap();
    ParquetWriter::new(&mut content).finish(&mut frame).unwrap();
    content
}

#[test]
fn parquet_is_known_by_its_content() {
    let us = [0, 1_000_000, 2_000_000].map(|us: i64| 1_709_251_200_000_000 + us).to_vec();
    let datetime = Int64Chunked::from_vec("time".into(), us)
        .into_datetime(TimeUnit::Microseconds, None)
        .into_column();
    let seconds = Column::new("timestamp".into(), [1_709_251_200i64, 1_709_251_201, 1_709_251_202]);
    let demand = Column::new("demand".into(), [Some(1.0), None, Some(3.0)]);
    let counts = Column::new("value".into(), [Some(1u32), None, Some(3)]);
    let want = [(1_709_251_200_000, 1.0), (1_709_251_202_000, 3.0)];
    for columns in [vec![datetime, demand], vec![counts.clone(), seconds.clone()]] {
        assert_eq!(pairs(&read(&parquet(columns)).unwrap()), want);
    }
    let text = Column::new("value".into(), ["1", "2", "3"]);
    check(parquet(vec![seconds.clone(), text]), "load.csv: values of type str; numbers are needed");
    check(
        parquet(vec![counts.clone()]),
        "load.csv: columns `value`, but `timestamp` or `time` is needed",
    );
    let back = Column::new("time".into(), [5i64, 4, 3]);
    let back_values = Column::new("value".into(), [1.0, 1.0, 1.0]);
    check(parquet(vec![back, back_values]), "load.csv: row 2: earlier than the point before");
    let whole = parquet(vec![seconds, counts]);
    for end in (4..whole.len()).step_by(13) {
        assert!(read(&whole[..end]).unwrap_err().contains("Parquet"));
    }
}

#[test]
fn lower_bounds_are_read_from_a_column_of_their_own() {
    let flags = |content: &[u8]| {
        let series = read(content).unwrap().series();
        (0..series.len()).filter(|&i| series.is_lower_bound(i)).collect::<Vec<_>>()
    };
    let csv =
        "lower_bound,timestamp,value\n1,10,1\ntrue,20,\nFalse,30,3\n0,40,4\n,50,5\nTRUE,60,6\n";
    // The second row has no value: a gap is no bound.
    assert_eq!(flags(csv.as_bytes()), [0, 5]);
    for flag in ["2", "yes", "-1", "0.0", "\u{7f}"] {
        let shown = quote(flag.as_bytes());
        check(
            format!("timestamp,value,lower_bound\n1,1,0\n2,2,{flag}\n"),
            &format!("load.csv:3: lower_bound {shown}; true, false, 1 or 0 is needed"),
        );
    }
    let twice = "timestamp,value,lower_bound,lower_bound";
    let header = format!("load.csv:1: header `{twice}`, but `timestamp,value` is needed");
    check(format!("{twice}\n1,1,0,0\n"), &header);

    let with = |bounds: Column| {
        let times = Column::new("time".into(), [1i64, 2, 3]);
        parquet(vec![times, Column::new("value".into(), [1.0, 2.0, 3.0]), bounds])
    };
    let name = || "lower_bound".into();
    for bounds in [
        Column::new(name(), [Some(false), None, Some(true)]),
        Column::new(name(), [Some(0u32), None, Some(1)]),
    ] {
        assert_eq!(flags(&with(bounds)), [2]);
    }
    let refused = |found: &str| {
        format!("load.csv: lower_bound of type {found}; booleans, or integers 0 and 1, are needed")
    };
    check(with(Column::new(name(), [0i64, 2, 1])), &refused("i64"));
    check(with(Column::new(name(), ["true", "false", "1"])), &refused("str"));
}

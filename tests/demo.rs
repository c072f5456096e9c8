//! I/O: the demo as a user runs it, piped: to its end, interrupted at several moments, and killed.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sysinfo::{ProcessRefreshKind, ProcessStatus, ProcessesToUpdate, System};

fn demo(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_foresail"));
    command.arg("demo").args(["--listen", "127.0.0.1:0"]).args(arguments);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Processes that run and whose parent is `parent`.
fn children(parent: u32) -> Vec<u32> {
    let mut system = System::new();
    let kind = ProcessRefreshKind::nothing();
    system.refresh_processes_specifics(ProcessesToUpdate::All, true, kind);
    let of_parent = |p: &&sysinfo::Process| {
        // Threads are listed too.
        p.thread_kind().is_none() && p.parent().map(|p| p.as_u32()) == Some(parent)
    };
    system.processes().values().filter(of_parent).map(|p| p.pid().as_u32()).collect()
}

/// Waits until none of `pids` runs. One that nobody reaps (a container without an init) is as good
/// as gone.
fn wait_until_gone(pids: &[u32]) {
    let runs = |&pid: &u32| {
        let mut system = System::new();
        let pid = sysinfo::Pid::from_u32(pid);
        let kind = ProcessRefreshKind::nothing();
        system.refresh_processes_specifics(ProcessesToUpdate::Some(&[pid]), true, kind);
        system.process(pid).is_some_and(|p| p.status() != ProcessStatus::Zombie)
    };
    while pids.iter().any(runs) {
        thread::sleep(Duration::from_millis(20));
    }
}

fn wait_for_children(child: &Child, count: usize) -> Vec<u32> {
    loop {
        let pids = children(child.id());
        if pids.len() >= count {
            return pids;
        }
        thread::sleep(Duration::from_millis(20));
    }
}

fn send(child: &Child, signal: Signal) {
    kill(Pid::from_raw(child.id() as i32), signal).expect("the demo runs");
}

fn text(output: &Output) -> String {
    format!(
        "{}\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// Every file below `folder`.
fn files(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("a folder").map(|e| e.expect("an entry").path());
    let below = |path: std::path::PathBuf| match path.is_dir() {
        true => files(&path),
        false => vec![path.display().to_string()],
    };
    entries.flat_map(below).collect()
}

#[test]
fn a_short_demo_measures_days_of_both_kinds_and_keeps_its_recording() {
    let folder = tempfile::tempdir().expect("a folder");
    let (data, plot) = (folder.path().join("recording"), folder.path().join("demo.svg"));
    let output = demo(&["--duration", "24s", "--format", "json"])
        .args(["--data".as_ref(), data.as_os_str(), "--plot".as_ref(), plot.as_os_str()])
        .output()
        .expect("the demo runs");
    assert!(output.status.success(), "{}", text(&output));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(report["days"].as_array().map(Vec::len), Some(8), "{report}");
    // Whether the forecast has earned trust by then depends on how busy the machine is.
    assert!(report["forecast"].is_object() || report["forecast"].is_null(), "{report}");
    for measures in [&report["threshold"], &report["days"][7]] {
        assert!(measures["requests"].as_u64() > Some(100), "{report}");
        assert_eq!(measures["failed_requests"], 0, "{report}");
        assert!(measures["replica_seconds"].as_f64() > Some(3.0), "{report}");
        assert!(measures["overload_share"].as_f64() < Some(0.9), "{report}");
    }
    let policies = report["replay"]["policies"].as_array().expect("a replay");
    assert_eq!(policies.len(), 4, "{report}");
    assert!(std::fs::read_to_string(plot).expect("a picture").contains("</svg>"));
    let kept = files(&data);
    for ending in [".parquet", "demand.csv"] {
        assert!(kept.iter().any(|f| f.ends_with(ending)), "no {ending} in {kept:?}");
    }
    let csv = std::fs::read_to_string(data.join("demand.csv")).expect("the recording");
    // A busy machine misses steps of 75 ms, but no whole day.
    let rows: Vec<&str> =
        csv.strip_prefix("timestamp,value\n").expect("a header").lines().collect();
    let time = |row: Option<&&str>| {
        let (time, _) = row.and_then(|row| row.split_once(',')).expect("a row");
        time.parse::<chrono::DateTime<chrono::Utc>>().expect("RFC 3339")
    };
    let span = time(rows.last()) - time(rows.first());
    assert!(rows.len() > 80 && span > chrono::TimeDelta::seconds(18), "{csv}");
}

#[test]
fn interrupted_while_workers_start_it_leaves_none() {
    let child = demo(&[]).spawn().expect("the demo starts");
    let workers = wait_for_children(&child, 1);
    send(&child, Signal::SIGINT);
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success(), "{}", text(&output));
    wait_until_gone(&workers);
}

#[test]
fn interrupted_under_load_it_prints_what_it_has_and_leaves_no_worker() {
    let mut child = demo(&["--duration", "15s"]).spawn().expect("the demo starts");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    // A day of this demo has 3 seconds.
    let second_day =
        |line: &std::io::Result<String>| line.as_ref().is_ok_and(|l| l.contains("day  2"));
    assert!(lines.by_ref().any(|line| second_day(&line)), "no second day");
    let workers = wait_for_children(&child, 2);
    send(&child, Signal::SIGTERM);
    let rest: Vec<String> = lines.map_while(Result::ok).collect();
    assert!(child.wait().expect("it ends").success());
    assert!(rest.iter().any(|line| line.contains("threshold days")), "{rest:?}");
    assert!(rest.iter().any(|line| line.contains("Stopped before")), "{rest:?}");
    wait_until_gone(&workers);
}

#[cfg(target_os = "linux")]
#[test]
fn killed_it_leaves_no_worker() {
    let mut child = demo(&[]).spawn().expect("the demo starts");
    let workers = wait_for_children(&child, 2);
    send(&child, Signal::SIGKILL);
    child.wait().expect("it ends");
    wait_until_gone(&workers);
    let mut left = String::new();
    // Whoever held the pipe's other end is gone, so this ends.
    child.stderr.take().expect("piped").read_to_string(&mut left).expect("text");
    let folder = std::env::temp_dir().join(format!("foresail-demo-{}", child.id()));
    std::fs::remove_dir_all(folder).expect("nobody was left to remove it");
}

#[test]
fn bad_input_is_refused_with_what_would_be_right() {
    let full = tempfile::tempdir().expect("a folder");
    std::fs::write(full.path().join("precious"), "").expect("a file");
    let full = full.path().to_str().expect("a name");
    for (arguments, right) in [
        (["--data", full], "name a new folder"),
        (["--duration", "3s"], "between 15s and 1d"),
        (["--seed", "soon"], "invalid digit"),
    ] {
        let output = demo(&arguments).output().expect("it runs");
        assert_eq!(output.status.code(), Some(2), "{}", text(&output));
        assert!(text(&output).contains(right), "{}", text(&output));
    }
}

//! I/O: `foresail compare` as a user calls it: output, files and exit codes.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

fn compare(folder: &Path, words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_foresail"));
    command.arg("compare").args(words).current_dir(folder).output().expect("foresail starts")
}

/// 200 values of ten minutes.
fn recording(folder: &Path) {
    let lines: String = (0..200).map(|i| format!("{},{}\n", 600 * i, 5 + i % 7)).collect();
    fs::write(folder.join("load.csv"), "timestamp,value\n".to_owned() + &lines).unwrap();
}

#[test]
fn what_can_be_compared_is_and_the_rest_makes_the_exit_code_2() {
    let folder = tempfile::tempdir().unwrap();
    recording(folder.path());
    let sweep = "--policy=target_tracking:target=0.5..0.9,signal=demand";
    let files = ["--html=r.html", "--out=s.parquet", "--svg=pictures", "--format=json"];
    let words = [&["load.csv", "absent.csv", "--policy=threshold,oracle", sweep], &files[..]];
    let output = compare(folder.path(), &words.concat());
    assert_eq!(output.status.code(), Some(2));
    let errors = String::from_utf8(output.stderr).unwrap();
    // The failure alone; no progress bar where nobody looks.
    assert_eq!(errors, "foresail: absent.csv: No such file or directory (os error 2)\n");
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let trace = &json["traces"][0];
    let keys: Vec<_> = trace.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(keys, ["capacity", "name", "policies", "scored_steps", "step_seconds"]);
    let policies = trace["policies"].as_array().unwrap();
    assert_eq!((policies.len(), &policies[2]["policy"]), (11, &"target_tracking".into()));
    assert_eq!(policies[2]["parameters"]["target"], 0.5);
    assert_eq!(policies[2]["parameters"]["signal"], "demand");
    assert!(policies[0]["days"][0]["replica_hours"].is_number(), "{trace}");
    for file in ["r.html", "s.parquet", "pictures/load-frontier.svg", "pictures/load-replicas.svg"]
    {
        assert!(folder.path().join(file).is_file(), "{file}");
    }

    let whole = compare(folder.path(), &["load.csv", "--policy=threshold"]);
    assert_eq!(whole.status.code(), Some(0));
    let table = String::from_utf8(whole.stdout).unwrap();
    assert!(table.starts_with("load: 100 steps of 10m scored"), "{table}");
}

#[test]
fn the_help_lists_policies_and_every_wrong_option_is_exit_code_2() {
    let folder = tempfile::tempdir().unwrap();
    recording(folder.path());
    let help = String::from_utf8(compare(folder.path(), &["--help"]).stdout).unwrap();
    for part in ["Examples:", "--html", "--out", "--svg", "target_tracking", "down_window", "[0.7]"]
    {
        assert!(help.contains(part), "{part} in {help}");
    }
    let policy = "--policy=target_tracking:target=0.5..0.9/500";
    for wrong in [policy, "--policy=hpa", "--startup-delay=soon", "--budget=2", "--capacity=-1"] {
        let output = compare(folder.path(), &["load.csv", wrong]);
        assert_eq!(output.status.code(), Some(2), "{wrong}");
        assert!(!output.stderr.is_empty() && output.stdout.is_empty(), "{wrong}");
    }
}

//! I/O: `foresail backtest` as a user calls it: output, files and exit codes.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

fn backtest(folder: &Path, words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_foresail"));
    command.arg("backtest").args(words).current_dir(folder).output().expect("foresail starts")
}

/// 100 values of ten minutes: coarser than the default step.
fn recording(folder: &Path) {
    let lines: String = (0..100).map(|i| format!("{},{}\n", 600 * i, 5 + i % 7)).collect();
    fs::write(folder.join("load.csv"), "timestamp,value\n".to_owned() + &lines).unwrap();
}

#[test]
fn what_can_be_scored_is_and_the_rest_makes_the_exit_code_2() {
    let folder = tempfile::tempdir().unwrap();
    recording(folder.path());
    let words = ["load.csv", "absent.csv", "--models=naive", "--format=json", "--html=r.html"];
    let output = backtest(folder.path(), &words);
    assert_eq!(output.status.code(), Some(2));
    let errors = String::from_utf8(output.stderr).unwrap();
    // A note and the failure; no progress bar where nobody looks.
    let want = "foresail: load: recorded every 10m, scored in steps of 10m\n\
                foresail: absent.csv: No such file or directory (os error 2)\n";
    assert_eq!(errors, want);
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["series"][0]["name"], "load");
    assert_eq!(json["series"][0]["step_seconds"], 600.0);
    assert!(json["series"][0]["models"]["naive"]["mase"].is_number(), "{json}");
    assert!(json["series"][1]["error"].is_string(), "{json}");
    assert!(fs::read_to_string(folder.path().join("r.html")).unwrap().contains("absent.csv"));

    let whole = backtest(folder.path(), &["load.csv", "--models=naive"]);
    assert_eq!(whole.status.code(), Some(0));
    assert!(String::from_utf8(whole.stdout).unwrap().starts_with("series  model"));
    let nothing = backtest(folder.path(), &["absent.csv"]);
    assert_eq!((nothing.status.code(), nothing.stdout.as_slice()), (Some(2), &b""[..]));
}

#[test]
fn the_help_shows_examples_and_every_wrong_option_is_exit_code_2() {
    let folder = tempfile::tempdir().unwrap();
    let help = String::from_utf8(backtest(folder.path(), &["--help"]).stdout).unwrap();
    for part in ["Examples:", "--html", "--out", "--models", "[default: 12]", "[default: 0.7]"] {
        assert!(help.contains(part), "{part} in {help}");
    }
    for wrong in ["--horizon=0", "--origins=0", "--from=0", "--from=1", "--from=NaN", "--step=x"] {
        let output = backtest(folder.path(), &["load.csv", wrong]);
        assert_eq!(output.status.code(), Some(2), "{wrong}");
        assert!(!output.stderr.is_empty(), "{wrong}");
    }
}

//! The habits of this codebase as tests: headers, purity, size, and a map that matches the tree.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use std::fs;
use std::path::{Path, PathBuf};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
/// Files longer than this hold more than one idea.
const MAX_LINES: usize = 400;
/// What pure code must not name; `.clippy.toml` bans single functions, this bans the modules.
const IMPURE: [&str; 8] = [
    "use tokio",
    "std::fs",
    "std::process",
    "std::net::Tcp",
    "hyper",
    "axum",
    "bollard",
    "Utc::now",
];

/// Every source file below `folder`, with its path relative to the root.
fn sources(folder: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders = vec![Path::new(ROOT).join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder of this tree") {
            let path: PathBuf = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let name = path.strip_prefix(ROOT).expect("below the root").display().to_string();
                found.push((name, fs::read_to_string(&path).expect("utf-8")));
            }
        }
    }
    assert!(!found.is_empty(), "no sources below {folder}");
    found
}

/// Fails with every offence at once.
fn check(rule: &str, offences: Vec<String>) {
    assert!(offences.is_empty(), "{rule}:\n  {}", offences.join("\n  "));
}

fn is_io(name: &str) -> bool {
    name == "src/main.rs" || name == "src/io.rs" || name.starts_with("src/io/")
}

#[test]
fn every_file_says_in_its_first_line_what_it_is() {
    let wrong = |(name, text): &(String, String)| {
        let first = text.lines().next().unwrap_or_default();
        let says = first.starts_with("//! Pure: ") || first.starts_with("//! I/O: ");
        // Outside src/io everything but main.rs is pure; inside, single files may be.
        let honest = is_io(name) || first.starts_with("//! Pure: ");
        (!says || !honest || !first.ends_with(['.', ':', ',']) && first.len() < 60)
            .then(|| format!("{name}: {first}"))
    };
    check(
        "a file opens with `//! Pure: …` or `//! I/O: …` and a sentence; only io and main are I/O",
        sources("src").iter().filter_map(wrong).collect(),
    );
}

#[test]
fn pure_code_names_no_clock_disk_network_or_process() {
    let mut offences = Vec::new();
    for (name, text) in sources("src").iter().filter(|(name, _)| !is_io(name)) {
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        for (i, line) in code.lines().enumerate().filter(|(_, l)| !l.trim_start().starts_with("//"))
        {
            offences.extend(
                IMPURE
                    .iter()
                    .filter(|w| line.contains(*w))
                    .map(|w| format!("{name}:{}: {w}", i + 1)),
            );
        }
        if text.contains("allow(clippy::disallowed") {
            offences.push(format!("{name}: allows what .clippy.toml disallows"));
        }
    }
    check("pure code takes `now` and values", offences);
}

#[test]
fn files_hold_one_idea_and_lines_fit() {
    let mut offences = Vec::new();
    for (name, text) in sources("src") {
        let lines = text.lines().count();
        if lines > MAX_LINES {
            offences.push(format!("{name}: {lines} lines, at most {MAX_LINES}"));
        }
        // A sentence for people may be longer than a line of code.
        let too_long = |l: &str| l.chars().count() > 100 && !l.contains('"');
        let long = text.lines().enumerate().filter(|(_, l)| too_long(l));
        offences.extend(long.map(|(i, _)| format!("{name}:{}: a line of over 100", i + 1)));
    }
    check("small files, short lines", offences);
}

#[test]
fn nothing_is_left_undone() {
    // What is looked for; this file alone may spell it.
    let marks = ["todo!(", "unimplemented!(", "dbg!(", "FIXME", "#[ignore"];
    let mut offences = Vec::new();
    for (name, text) in sources("src").iter().chain(&sources("tests")) {
        if name.ends_with("tidy.rs") {
            continue;
        }
        for (i, line) in text.lines().enumerate() {
            offences.extend(
                marks
                    .iter()
                    .filter(|m| line.contains(*m))
                    .map(|m| format!("{name}:{}: {m}", i + 1)),
            );
        }
    }
    check("finished work only", offences);
}

#[test]
fn the_map_in_the_readme_matches_the_tree() {
    let readme = fs::read_to_string(Path::new(ROOT).join("README.md")).expect("README.md");
    let map = readme.split("## The map").nth(1).expect("the README has a section `The map`");
    let map = map.split("\n## ").next().unwrap_or_default();
    let named: Vec<&str> =
        map.split('`').skip(1).step_by(2).filter(|w| w.contains('/') || w.contains('.')).collect();
    assert!(named.len() > 10, "the map names hardly any path");
    let missing = named.iter().filter(|p| !Path::new(ROOT).join(p).exists());
    check("each path of the map exists", missing.map(|p| p.to_string()).collect());
    let top = sources("src").into_iter().map(|(name, _)| name);
    let unmapped =
        top.filter(|name| name.matches('/').count() == 1 && !map.contains(name.as_str()));
    check("each file of src/ is on the map", unmapped.collect());
}

#[test]
fn modules_know_only_those_below_them() {
    // Who may not be named by whom: invariants of absence.
    let rules: [(&str, &[&str]); 9] = [
        ("src/series", &["crate::forecast", "crate::planner", "crate::autoscaler", "crate::io"]),
        ("src/forecast", &["crate::calendar", "crate::planner", "crate::autoscaler", "crate::io"]),
        ("src/calendar", &["crate::planner", "crate::autoscaler", "crate::config", "crate::io"]),
        ("src/planner", &["crate::autoscaler", "crate::fleet", "crate::balancer", "crate::io"]),
        ("src/autoscaler", &["crate::fleet", "crate::balancer", "crate::simulator", "crate::io"]),
        ("src/fleet", &["crate::planner", "crate::autoscaler", "crate::balancer", "crate::io"]),
        ("src/balancer", &["crate::planner", "crate::autoscaler", "crate::forecast", "crate::io"]),
        ("src/simulator", &["crate::fleet", "crate::balancer", "crate::config", "crate::io"]),
        ("src/config", &["crate::io", "crate::simulator"]),
    ];
    let mut offences = Vec::new();
    // Tests may look across, code may not.
    for (name, text) in sources("src").iter().filter(|(name, _)| !name.ends_with("tests.rs")) {
        let text = text.split("#[cfg(test)]").next().unwrap_or_default();
        for (prefix, absent) in rules.iter().filter(|(prefix, _)| name.starts_with(prefix)) {
            let named = absent.iter().filter(|m| text.contains(**m));
            offences
                .extend(named.map(|m| format!("{name} names {m}, which {prefix} must not know")));
        }
    }
    check("arrows point one way", offences);
}

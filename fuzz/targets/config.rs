//! A configuration file, and the same as the labels of a container: read, or refused with a reason.
#![no_main]

use std::collections::BTreeMap;

use foresail::config::{self, labels};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Err(errors) = config::parse(text) {
        assert!(errors.iter().all(|error| !error.message.is_empty()) && !errors.is_empty());
    }
    let pairs = text.lines().filter_map(|line| line.split_once('='));
    let pairs = pairs.map(|(key, value)| (format!("foresail.{key}"), value.to_owned()));
    let mut labels: BTreeMap<String, String> = pairs.collect();
    labels.insert(labels::ENABLE.to_owned(), "true".to_owned());
    labels.entry("foresail.service".to_owned()).or_insert_with(|| "web".to_owned());
    let one = labels::Labelled { name: "one".to_owned(), created: 0, clone: false, labels };
    let found = labels::read(vec![one], None);
    assert!(found.services.len() <= 1 && !(found.services.is_empty() && found.notes.is_empty()));
});

//! Pure: readers of single TOML values: a value, or a sentence that says what is wrong and what
//! would be right.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use toml::de::DeValue;

/// What a reader gives: the value, or what is wrong and what would be right.
pub type Read<T> = Result<T, String>;

/// The value as an error names it: short, and never a whole table.
pub fn found(value: &DeValue) -> String {
    match value {
        DeValue::String(text) if text.chars().count() <= 60 => format!("{text:?}"),
        DeValue::Integer(number) => number.as_str().to_string(),
        DeValue::Float(number) => number.as_str().to_string(),
        DeValue::Boolean(value) => value.to_string(),
        other => format!("this {}", other.type_str()),
    }
}

pub fn boolean(value: &DeValue) -> Read<bool> {
    value.as_bool().ok_or_else(|| format!("{} is not true or false", found(value)))
}

pub fn text(value: &DeValue) -> Read<String> {
    let text = value.as_str().filter(|text| !text.is_empty());
    text.map(str::to_string).ok_or_else(|| format!("{} is no text; write \"…\"", found(value)))
}

/// A token; errors never show it.
pub fn secret(value: &DeValue) -> Read<String> {
    parse_secret(value.as_str().ok_or("no text; write \"…\"")?)
}

/// Anything that fits into an `Authorization` header.
pub fn parse_secret(text: &str) -> Read<String> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_graphic()) {
        return Err("empty, or not of visible ASCII characters without spaces".into());
    }
    Ok(text.to_string())
}

pub fn path(value: &DeValue) -> Read<PathBuf> {
    parse_path(&text(value)?)
}

pub fn parse_path(text: &str) -> Read<PathBuf> {
    if text.is_empty() || text.contains('\0') {
        return Err("no path; write for instance \"foresail-data\"".into());
    }
    Ok(PathBuf::from(text))
}

pub fn address(value: &DeValue) -> Read<SocketAddr> {
    parse_address(value.as_str().unwrap_or_default())
        .map_err(|_| format!("{} is no address; {ADDRESS_HINT}", found(value)))
}

pub fn parse_address(text: &str) -> Read<SocketAddr> {
    text.parse().map_err(|_| format!("{text:?} is no address; {ADDRESS_HINT}"))
}

const ADDRESS_HINT: &str = "write IP and port, for instance \"127.0.0.1:8080\"";

/// A duration within bounds, both written as a user would.
pub fn duration(min: &'static str, max: &'static str) -> impl Fn(&DeValue) -> Read<Duration> {
    let bound = |text| humantime::parse_duration(text).expect("bounds are written in this program");
    let range = bound(min)..=bound(max);
    move |value| {
        let text = value.as_str().unwrap_or_default();
        let parsed = humantime::parse_duration(text).map_err(|_| {
            format!("{} is no duration; write for instance \"15s\" or \"5m\"", found(value))
        })?;
        if !range.contains(&parsed) {
            return Err(format!("{} is not between {min} and {max}", found(value)));
        }
        Ok(parsed)
    }
}

pub fn integer(range: RangeInclusive<u32>) -> impl Fn(&DeValue) -> Read<u32> {
    move |value| {
        let digits = value.as_integer().filter(|n| n.radix() == 10);
        let parsed = digits.and_then(|n| n.as_str().parse().ok());
        parsed.filter(|n| range.contains(n)).ok_or_else(|| {
            let (min, max) = (range.start(), range.end());
            format!("{} is no whole number between {min} and {max}", found(value))
        })
    }
}

/// A finite number that `accept` takes; `right` ends the sentence "… is no …".
pub fn number(right: &str, accept: impl Fn(f64) -> bool) -> impl Fn(&DeValue) -> Read<f64> {
    move |value| {
        let digits = value.as_float().map(|n| n.as_str());
        let digits = digits.or_else(|| value.as_integer().map(|n| n.as_str()));
        let parsed = digits.and_then(|text| text.parse::<f64>().ok());
        parsed
            .filter(|&n| n.is_finite() && accept(n))
            .ok_or_else(|| format!("{} is no {right}", found(value)))
    }
}

/// One of a few words.
pub fn one_of<T: Clone>(words: &[(&str, T)]) -> impl Fn(&DeValue) -> Read<T> {
    move |value| {
        let word = words.iter().find(|(word, _)| value.as_str() == Some(word));
        word.map(|(_, meaning)| meaning.clone()).ok_or_else(|| {
            let words: Vec<String> = words.iter().map(|(word, _)| format!("{word:?}")).collect();
            format!("{} is none of {}", found(value), words.join(", "))
        })
    }
}

/// A list of texts; the error names the place, from 1.
pub fn texts(value: &DeValue) -> Read<Vec<String>> {
    let list = value.as_array().ok_or_else(|| format!("{} is no list; write […]", found(value)))?;
    let numbered = list.iter().enumerate();
    numbered
        .map(|(i, item)| text(item.get_ref()).map_err(|e| format!("entry {}: {e}", i + 1)))
        .collect()
}

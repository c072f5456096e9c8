//! Pure: content lines of an iCalendar file: folded lines joined, names and parameters taken apart.

use super::Read;

/// `NAME;PARAM=VALUE:VALUE`.
#[derive(Debug, PartialEq)]
pub struct Line {
    /// Of its first part in the file, from 1.
    pub number: usize,
    /// In capitals.
    pub name: String,
    /// Names in capitals, values without quotes.
    params: Vec<(String, String)>,
    pub value: String,
}

/// Joins what was folded; blank lines are left out. Numbers from 1.
pub fn unfold(text: &str) -> Vec<(usize, String)> {
    let mut lines: Vec<(usize, String)> = Vec::new();
    for (i, line) in text.trim_start_matches('\u{feff}').split('\n').enumerate() {
        let line = line.strip_suffix('\r').unwrap_or(line);
        match (line.strip_prefix([' ', '\t']), lines.last_mut()) {
            (Some(rest), Some((_, before))) => before.push_str(rest),
            _ if line.trim().is_empty() => {}
            _ => lines.push((i + 1, line.to_owned())),
        }
    }
    lines
}

impl Line {
    pub fn read(number: usize, text: &str) -> Read<Line> {
        let mut quoted = false;
        let mut parts = Vec::new();
        let mut from = 0;
        for (i, c) in text.char_indices() {
            match c {
                '"' => quoted = !quoted,
                ';' | ':' if !quoted => {
                    parts.push(&text[from..i]);
                    from = i + 1;
                    if c == ':' {
                        let [name, params @ ..] = parts.as_slice() else { break };
                        return Line::assemble(number, name, params, &text[from..]);
                    }
                }
                _ => {}
            }
        }
        let shown: String = text.chars().take(40).collect();
        Err(format!("{shown:?} is no iCalendar line; write NAME:VALUE"))
    }

    fn assemble(number: usize, name: &str, params: &[&str], value: &str) -> Read<Line> {
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
            let shown: String = name.chars().take(40).collect();
            return Err(format!("{shown:?} is no name; it has letters, digits and `-`"));
        }
        let param = |text: &&str| {
            let (name, value) = text.split_once('=').unwrap_or((text, ""));
            (name.to_ascii_uppercase(), value.trim_matches('"').to_owned())
        };
        Ok(Line {
            number,
            name: name.to_ascii_uppercase(),
            params: params.iter().map(param).collect(),
            value: value.trim().to_owned(),
        })
    }

    pub fn param(&self, name: &str) -> Option<&str> {
        self.params.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// The value as text, its escapes resolved.
    pub fn text(&self) -> String {
        unescape(&self.value, None)
    }

    /// The first of a list of texts.
    pub fn first_text(&self) -> String {
        unescape(&self.value, Some(','))
    }
}

/// Up to `end` where that is not escaped.
fn unescape(value: &str, end: Option<char>) -> String {
    let mut text = String::new();
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some('n' | 'N') => text.push('\n'),
                Some(other) => text.push(other),
                None => {}
            },
            c if Some(c) == end => break,
            c => text.push(c),
        }
    }
    text
}

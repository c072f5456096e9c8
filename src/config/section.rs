//! Pure: reads one TOML table key by key, and collects what is wrong with its line.
//!
//! A [`Section`] remembers which keys were asked for; what is left over when its closure returns is
//! unknown and reported with the nearest known key. Readers are functions from a raw value to a
//! value or a sentence.

use std::cell::RefCell;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::ConfigError;
use super::value::{Read, found};
use crate::planner::Bidirectional;

/// The errors of one file, and where its keys stand.
pub struct Report<'t> {
    text: &'t str,
    errors: RefCell<Vec<ConfigError>>,
    /// Line of every key that was asked for and is there.
    lines: RefCell<Vec<(String, usize)>>,
}

impl<'t> Report<'t> {
    pub fn new(text: &'t str) -> Report<'t> {
        Report { text, errors: RefCell::default(), lines: RefCell::default() }
    }

    /// Reads the root table.
    pub fn read<R>(&self, table: &DeTable, read: impl FnOnce(&mut Section) -> R) -> R {
        Section::run(self, String::new(), Some(table), read)
    }

    /// Reports an error of a key that may or may not be in the file.
    pub fn error_at(&self, key: &str, message: String) {
        let lines = self.lines.borrow();
        // Without the key itself the nearest table around it says where to look.
        let line = lines
            .iter()
            .filter(|(known, _)| {
                key.strip_prefix(known.as_str()).is_some_and(|r| r.is_empty() || r.starts_with('.'))
            })
            .max_by_key(|(known, _)| known.len())
            .map(|&(_, line)| line);
        self.errors.borrow_mut().push(ConfigError { line, key: key.to_string(), message });
    }

    /// The value if nothing was wrong, else every error in the order of lines.
    pub fn finish<T>(self, value: T) -> Result<T, Vec<ConfigError>> {
        let mut errors = self.errors.into_inner();
        errors.sort_by(|a, b| (a.line, &a.key).cmp(&(b.line, &b.key)));
        if errors.is_empty() { Ok(value) } else { Err(errors) }
    }

    fn line_of(&self, offset: usize) -> usize {
        line_of(self.text, offset)
    }
}

/// Errors of a text that is no TOML; the first of each line, because the others follow from it.
pub fn syntax(text: &str, errors: &[toml::de::Error]) -> Vec<ConfigError> {
    let error = |e: &toml::de::Error| ConfigError {
        line: e.span().map(|span| line_of(text, span.start)),
        key: String::new(),
        message: format!("no valid TOML: {}", e.message().replace('\n', "; ")),
    };
    let mut errors: Vec<ConfigError> = errors.iter().map(error).collect();
    errors.dedup_by_key(|error| error.line);
    errors
}

fn line_of(text: &str, offset: usize) -> usize {
    text.as_bytes().iter().take(offset).filter(|&&b| b == b'\n').count() + 1
}

/// One table; an absent one is empty.
pub struct Section<'a> {
    report: &'a Report<'a>,
    /// Dotted; empty at the root.
    path: String,
    table: Option<&'a DeTable<'a>>,
    known: Vec<&'static str>,
}

impl<'a> Section<'a> {
    fn run<R>(
        report: &Report,
        path: String,
        table: Option<&DeTable>,
        read: impl FnOnce(&mut Section) -> R,
    ) -> R {
        let mut section = Section { report, path, table, known: Vec::new() };
        let result = read(&mut section);
        section.report_unknown();
        result
    }

    /// The value of a key; `None` if it is absent or wrong.
    pub fn optional<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&DeValue) -> Read<T>,
    ) -> Option<T> {
        match read(self.look(key)?.get_ref()) {
            Ok(value) => Some(value),
            Err(message) => {
                self.error(key, message);
                None
            }
        }
    }

    /// The value of a key, or its default if it is absent or wrong.
    pub fn or<T>(
        &mut self,
        key: &'static str,
        default: T,
        read: impl FnOnce(&DeValue) -> Read<T>,
    ) -> T {
        self.optional(key, read).unwrap_or(default)
    }

    /// As [`Section::optional`]; to be absent is an error, and `right` says what to write.
    pub fn required<T>(
        &mut self,
        key: &'static str,
        right: &str,
        read: impl FnOnce(&DeValue) -> Read<T>,
    ) -> Option<T> {
        if !self.has(key) {
            self.error(key, format!("missing; {right}"));
        }
        self.optional(key, read)
    }

    /// One value for both directions, or a table of `up` and `down`.
    pub fn bidirectional<T: Clone>(
        &mut self,
        key: &'static str,
        default: Bidirectional<T>,
        read: impl Fn(&DeValue) -> Read<T>,
    ) -> Bidirectional<T> {
        if self.look(key).is_some_and(|value| !value.get_ref().is_table()) {
            let both = self.optional(key, read);
            return both.map_or(default, |v| Bidirectional { up: v.clone(), down: v });
        }
        self.table(key, |s| Bidirectional {
            up: s.or("up", default.up, &read),
            down: s.or("down", default.down, &read),
        })
    }

    /// Reads a table below this one; an absent one is empty.
    pub fn table<R>(&mut self, key: &'static str, read: impl FnOnce(&mut Section) -> R) -> R {
        self.look(key);
        Section::run(self.report, self.dotted(key), self.table_at(key), read)
    }

    /// Reads a table below this one, if it is there.
    pub fn optional_table<R>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&mut Section) -> R,
    ) -> Option<R> {
        self.look(key)?;
        let table = self.table_at(key)?;
        Some(Section::run(self.report, self.dotted(key), Some(table), read))
    }

    /// Reads every table below `key`, whatever their names.
    pub fn tables<R>(
        &mut self,
        key: &'static str,
        mut read: impl FnMut(&str, &mut Section) -> R,
    ) -> Vec<(String, R)> {
        self.look(key);
        let path = self.dotted(key);
        let mut results = Vec::new();
        for (name, value) in self.table_at(key).into_iter().flatten() {
            let path = format!("{path}.{}", name.get_ref());
            self.remember(&path, name);
            if !value.get_ref().is_table() {
                let message = format!("{} is no table; write [{path}]", found(value.get_ref()));
                self.report.error_at(&path, message);
                continue;
            }
            let result = Section::run(self.report, path, value.get_ref().as_table(), |s| {
                read(name.get_ref(), s)
            });
            results.push((name.get_ref().to_string(), result));
        }
        results
    }

    /// Reads every table of a list; `None` if it is absent or no list.
    pub fn list<R>(
        &mut self,
        key: &'static str,
        mut read: impl FnMut(&mut Section) -> R,
    ) -> Option<Vec<R>> {
        let value = self.look(key)?.get_ref();
        let Some(items) = value.as_array() else {
            self.error(key, format!("{} is no list; write [{{ … }}]", found(value)));
            return None;
        };
        let mut results = Vec::new();
        for (i, item) in items.iter().enumerate() {
            let path = format!("{}[{i}]", self.dotted(key));
            self.remember(&path, item);
            match item.get_ref().as_table() {
                Some(table) => {
                    results.push(Section::run(self.report, path, Some(table), &mut read));
                }
                None => {
                    let message = format!("{} is no table; write {{ … }}", found(item.get_ref()));
                    self.report.error_at(&path, message);
                }
            }
        }
        Some(results)
    }

    /// Whether `key` holds a table without entries, or nothing.
    pub fn is_empty_table(&self, key: &str) -> bool {
        match self.get(key) {
            Some((_, value)) => value.get_ref().as_table().is_some_and(|t| t.is_empty()),
            None => true,
        }
    }

    pub fn has(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    /// Names of all entries, known or not.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.table.into_iter().flatten().map(|(key, _)| key.get_ref().as_ref())
    }

    /// Reports an error of a key of this table; an empty key means the table itself.
    pub fn error(&self, key: &str, message: String) {
        let key = if key.is_empty() { self.path.clone() } else { self.dotted(key) };
        self.report.error_at(&key, message);
    }

    /// Reports an error of an environment variable.
    pub fn report_env(&self, name: &str, message: String) {
        self.report.error_at(name, message);
    }

    fn get(
        &self,
        key: &str,
    ) -> Option<(&'a Spanned<toml::de::DeString<'a>>, &'a Spanned<DeValue<'a>>)> {
        self.table?.iter().find(|(name, _)| name.get_ref() == key)
    }

    /// As `get`; the key is known from now on.
    fn look(&mut self, key: &'static str) -> Option<&'a Spanned<DeValue<'a>>> {
        if !self.known.contains(&key) {
            self.known.push(key);
        }
        let (name, value) = self.get(key)?;
        self.remember(&self.dotted(key), name);
        Some(value)
    }

    fn remember<T>(&self, path: &str, at: &Spanned<T>) {
        let line = self.report.line_of(at.span().start);
        self.report.lines.borrow_mut().push((path.to_string(), line));
    }

    fn table_at(&self, key: &str) -> Option<&'a DeTable<'a>> {
        let (_, value) = self.get(key)?;
        if !value.get_ref().is_table() {
            self.error(key, format!("{} is no table", found(value.get_ref())));
        }
        value.get_ref().as_table()
    }

    fn dotted(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_string() } else { format!("{}.{key}", self.path) }
    }

    fn report_unknown(&self) {
        for (name, _) in self.table.into_iter().flatten() {
            let key = name.get_ref().as_ref();
            if self.known.contains(&key) {
                continue;
            }
            let hint = match nearest(key, &self.known) {
                Some(known) => format!("did you mean `{known}`?"),
                None => format!("known here: {}", self.known.join(", ")),
            };
            let path = self.dotted(key);
            self.remember(&path, name);
            self.report.error_at(&path, format!("unknown key; {hint}"));
        }
    }
}

/// The known key that is nearest to `key`, if it is nearer than half its letters and at most three.
fn nearest(key: &str, known: &[&'static str]) -> Option<&'static str> {
    let allowed = (key.chars().count() / 2).min(3);
    let distances = known.iter().map(|&candidate| (edit_distance(key, candidate), candidate));
    distances.filter(|&(d, _)| d <= allowed).min().map(|(_, candidate)| candidate)
}

/// Insertions, deletions and replacements between two words (Levenshtein), one row at a time.
fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

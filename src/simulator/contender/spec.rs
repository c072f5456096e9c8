//! Pure: the text of a policy, `name:key=value,key=value`, to contenders.
//!
//! Names without parameters may share a text (`threshold,oracle`), parameters belong to the last of
//! them. A value `a..b` is a sweep of 9 values from a to b, `a..b/n` one of n; several sweeps are
//! every combination. Everything that is wrong is said with its place and what would be right.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::{Allowed, Contender, Key, Kind, POLICIES};

/// Most contenders in one comparison.
pub const CONTENDERS_MAX: usize = 200;

/// Values of a sweep that does not say how many.
const SWEPT: usize = 9;

/// A default that takes the place of the table's: policy, key, value.
pub type Preset<'a> = (&'a str, &'a str, String);

/// All contenders, in the order of `specs` and of their sweeps; one that comes twice counts once.
///
/// # Errors
/// A sentence: what is wrong, where, and what is allowed.
pub fn parse<S: AsRef<str>>(specs: &[S], presets: &[Preset]) -> Result<Vec<Contender>, String> {
    let mut all: Vec<Contender> = Vec::new();
    for spec in specs.iter().map(AsRef::as_ref) {
        let (names, parameters) = spec.split_once(':').map_or((spec, ""), |(n, p)| (n, p));
        let names: Vec<&str> = names.split(',').map(str::trim).collect();
        for (i, name) in names.iter().enumerate() {
            let parameters = if i + 1 == names.len() { parameters } else { "" };
            let in_spec = |reason| format!("`{}`: {reason}", shown(spec));
            let room = CONTENDERS_MAX - all.len();
            let more = contenders(name, parameters, presets, room).map_err(in_spec)?;
            for contender in more {
                if all.iter().all(|known| known.label != contender.label) {
                    all.push(contender);
                }
            }
        }
    }
    if all.is_empty() { Err("no policy is given".into()) } else { Ok(all) }
}

fn contenders(
    name: &str,
    parameters: &str,
    presets: &[Preset],
    room: usize,
) -> Result<Vec<Contender>, String> {
    let kind = POLICIES.iter().find(|kind| kind.name == name).ok_or_else(|| {
        let names: Vec<_> = POLICIES.iter().map(|kind| kind.name).collect();
        format!("no policy `{}`; there are: {}", shown(name), names.join(", "))
    })?;
    let mut given: BTreeMap<&'static str, Vec<Value>> = BTreeMap::new();
    for word in parameters.split(',').map(str::trim).filter(|_| !parameters.is_empty()) {
        let (key, text) = word.split_once('=').ok_or_else(|| {
            format!("`{}` is not key=value; another policy has a --policy of its own", shown(word))
        })?;
        let key = kind.key(key.trim())?;
        if given.insert(key.name, key.values(text.trim())?).is_some() {
            return Err(format!("`{}` is given twice", key.name));
        }
    }
    let count = given.values().fold(1usize, |count, values| count.saturating_mul(values.len()));
    if count > room {
        return Err(format!("{count} policies more; at most {CONTENDERS_MAX} in one comparison"));
    }
    let mut all = vec![Values::default()];
    for key in kind.keys {
        let values = match given.get(key.name) {
            Some(values) => values.clone(),
            None => vec![key.default(kind, presets)?],
        };
        let with = |chosen: &Values, value: &Value| {
            let mut chosen = chosen.clone();
            chosen.0.insert(key.name, value.clone());
            chosen
        };
        all = all.iter().flat_map(|chosen| values.iter().map(move |v| with(chosen, v))).collect();
    }
    let is_given = |key: &&Key| given.contains_key(key.name);
    all.into_iter().map(|values| kind.contender(&values, is_given)).collect()
}

impl Kind {
    fn key(&self, name: &str) -> Result<&'static Key, String> {
        self.keys.iter().find(|key| key.name == name).ok_or_else(|| {
            let keys: Vec<_> =
                self.keys.iter().map(|k| format!("{} ({})", k.name, k.allowed)).collect();
            format!("{} has no `{}`; it has: {}", self.name, shown(name), keys.join(", "))
        })
    }

    fn contender(
        &self,
        values: &Values,
        is_given: impl Fn(&&Key) -> bool,
    ) -> Result<Contender, String> {
        let of = |key: &&'static Key| Some((key.name, values.0.get(key.name)?));
        let given: Vec<String> = (self.keys.iter().filter(is_given).filter_map(|key| of(&key)))
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let colon = if given.is_empty() { "" } else { ":" };
        let json = |(name, value): (&str, &Value)| (name.to_owned(), value.json());
        Ok(Contender {
            policy: self.name,
            label: format!("{}{colon}{}", self.name, given.join(",")),
            parameters: self.keys.iter().filter_map(|key| of(&key)).map(json).collect(),
            replayed: (self.replayed)(values)?,
        })
    }
}

impl Key {
    /// One value, or those of a sweep.
    fn values(&self, text: &str) -> Result<Vec<Value>, String> {
        let sweep = text.split_once("..").filter(|_| !matches!(self.allowed, Allowed::Text));
        let Some((low, rest)) = sweep else { return Ok(vec![self.value(text)?]) };
        let (high, count) = rest.split_once('/').unwrap_or((rest, ""));
        let counted = if count.is_empty() { Some(SWEPT) } else { count.parse().ok() };
        let wrong = |why: &str| Err(format!("{}={}: {why}", self.name, shown(text)));
        let Some(count) = counted.filter(|n| (2..=CONTENDERS_MAX).contains(n)) else {
            return wrong(&format!("a sweep has 2 to {CONTENDERS_MAX} values, as in a..b/5"));
        };
        let ends = [low, high].map(|end| self.value(end.trim()));
        let (Some(low), Some(high)) = (ends[0].clone()?.size(), ends[1].clone()?.size()) else {
            return wrong("a word cannot be swept");
        };
        if low >= high {
            return wrong("a sweep goes from the lower to the higher value");
        }
        let at = |i: usize| low + (high - low) * i as f64 / (count - 1) as f64;
        let mut swept: Vec<Value> = (0..count).map(|i| self.allowed.of_size(at(i))).collect();
        swept.dedup();
        Ok(swept)
    }

    fn value(&self, text: &str) -> Result<Value, String> {
        let value = match self.allowed {
            Allowed::Number(low, high) => {
                let number = text.parse().ok().filter(|v| low <= *v && *v <= high);
                number.map(Value::Number)
            }
            Allowed::Whole(low, high) => {
                text.parse().ok().filter(|n| (low..=high).contains(n)).map(Value::Whole)
            }
            Allowed::Span(longest) => {
                let span = humantime::parse_duration(text).ok().filter(|span| *span <= longest);
                span.map(Value::Span)
            }
            Allowed::Word(words) => words.iter().find(|w| **w == text).copied().map(Value::Word),
            Allowed::Text => Some(Value::Text(text.into())),
        };
        value.ok_or_else(|| format!("{}={} is not {}", self.name, shown(text), self.allowed))
    }

    fn default(&self, kind: &Kind, presets: &[Preset]) -> Result<Value, String> {
        let is_own = |(policy, key, _): &&Preset| *policy == kind.name && *key == self.name;
        match presets.iter().find(is_own) {
            Some((.., text)) => self.value(text),
            None if self.default.is_empty() => {
                Err(format!("`{}` must be given: {}", self.name, self.allowed))
            }
            None => self.value(self.default),
        }
    }
}

impl Allowed {
    /// The value of this size, rounded to what a person would write.
    fn of_size(self, size: f64) -> Value {
        match self {
            Allowed::Number(..) => Value::Number((size * 1e9).round() / 1e9),
            Allowed::Whole(..) => Value::Whole(size.round() as u32),
            Allowed::Span(_) => Value::Span(Duration::from_millis((size * 1e3).round() as u64)),
            Allowed::Word(words) => Value::Word(words[0]),
            Allowed::Text => Value::Text(String::new()),
        }
    }
}

impl fmt::Display for Allowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Allowed::Number(low, high) => write!(f, "{low} to {high}"),
            Allowed::Whole(low, high) => write!(f, "a whole number from {low} to {high}"),
            Allowed::Span(longest) => {
                write!(
                    f,
                    "a duration such as 90s, at most {}",
                    humantime::format_duration(*longest)
                )
            }
            Allowed::Word(words) => f.write_str(&words.join(" or ")),
            Allowed::Text => f.write_str("a text without commas"),
        }
    }
}

/// The value of a parameter.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Number(f64),
    Whole(u32),
    Span(Duration),
    Word(&'static str),
    Text(String),
}

impl Value {
    /// For a sweep; a word has none.
    fn size(&self) -> Option<f64> {
        match self {
            Value::Number(number) => Some(*number),
            Value::Whole(whole) => Some(f64::from(*whole)),
            Value::Span(span) => Some(span.as_secs_f64()),
            Value::Word(_) | Value::Text(_) => None,
        }
    }

    fn json(&self) -> serde_json::Value {
        match self {
            Value::Number(number) => (*number).into(),
            Value::Whole(whole) => (*whole).into(),
            Value::Span(_) | Value::Word(_) | Value::Text(_) => self.to_string().into(),
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Number(number) => number.fmt(f),
            Value::Whole(whole) => whole.fmt(f),
            Value::Span(span) => humantime::format_duration(*span).fmt(f),
            Value::Word(word) => f.write_str(word),
            Value::Text(text) => f.write_str(text),
        }
    }
}

/// A value for every key of a policy. What is asked for must be one of its keys, of its kind; else
/// it is 0.
#[derive(Debug, Clone, Default)]
pub struct Values(BTreeMap<&'static str, Value>);

impl Values {
    pub fn number(&self, key: &str) -> f64 {
        self.0.get(key).and_then(Value::size).unwrap_or_default()
    }

    pub fn whole(&self, key: &str) -> u32 {
        self.number(key) as u32
    }

    pub fn span(&self, key: &str) -> Duration {
        Duration::from_secs_f64(self.number(key))
    }

    pub fn text(&self, key: &str) -> &str {
        match self.0.get(key) {
            Some(Value::Text(text)) => text,
            _ => "",
        }
    }

    pub fn word(&self, key: &str) -> &'static str {
        match self.0.get(key) {
            Some(Value::Word(word)) => word,
            _ => "",
        }
    }
}

/// What was written, short enough to be shown again.
fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(60).collect()
}

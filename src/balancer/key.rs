//! Pure: what of a request a choice may depend on: its client, its key, its session.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use super::random::{STRIDE, hash, mix};

/// What the choice may depend on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Key {
    pub client: Option<IpAddr>,
    /// Hash of what [`KeySource`] names.
    pub key: Option<u64>,
    /// From the client's cookie. Its replica is chosen while it is ready, healthy and has room;
    /// else the algorithm chooses anew.
    pub session: Option<Session>,
}

impl Key {
    /// The same for an address and for itself mapped into IPv6.
    pub(super) fn client_hash(&self) -> Option<u64> {
        Some(match self.client?.to_canonical() {
            IpAddr::V4(address) => mix(u64::from(address.to_bits()) ^ STRIDE),
            IpAddr::V6(address) => hash(&address.octets()),
        })
    }
}

/// What of a request is hashed for `key_hash`. A request without it is hashed by its client.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum KeySource {
    #[default]
    Client,
    Header(String),
    Cookie(String),
    /// A parameter of the query, as it stands there.
    Query(String),
    /// Without the query.
    Path,
}

impl KeySource {
    /// Hash of the key; `target` is path and query, `header` gives a header's first value.
    pub fn hash<'r>(
        &self,
        target: &'r str,
        header: impl Fn(&str) -> Option<&'r [u8]>,
    ) -> Option<u64> {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let key = match self {
            KeySource::Client => return None,
            KeySource::Header(name) => header(name)?,
            KeySource::Cookie(name) => cookie(header("cookie")?, name)?,
            KeySource::Query(name) => value(query.as_bytes(), b'&', name)?,
            KeySource::Path => path.as_bytes(),
        };
        Some(hash(key))
    }
}

/// The value of a cookie in a `Cookie` header, without quotes around it.
pub fn cookie<'h>(header: &'h [u8], name: &str) -> Option<&'h [u8]> {
    let value = value(header, b';', name)?;
    Some(value.strip_prefix(b"\"").and_then(|v| v.strip_suffix(b"\"")).unwrap_or(value))
}

/// The value of the first `name=value` among parts; spaces around a part do not count.
fn value<'t>(text: &'t [u8], separator: u8, name: &str) -> Option<&'t [u8]> {
    let mut parts = text.split(|byte| *byte == separator).map(<[u8]>::trim_ascii);
    parts.find_map(|part| part.strip_prefix(name.as_bytes())?.strip_prefix(b"="))
}

/// Names a replica in a client's cookie without telling what it is called: the hash of its id, 16
/// hexadecimal digits. It outlives Foresail, as ids do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Session(u64);

impl Session {
    pub(super) fn of(id: &str) -> Session {
        Session(hash(id.as_bytes()))
    }
}

impl fmt::Display for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FromStr for Session {
    type Err = ();

    /// Exactly what `Display` writes.
    fn from_str(text: &str) -> Result<Session, ()> {
        let digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if text.len() != 16 || !text.bytes().all(digit) {
            return Err(());
        }
        u64::from_str_radix(text, 16).map(Session).map_err(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_found_where_they_are_said_to_be() {
        let check = |source: KeySource,
                     target: &str,
                     headers: &[(&str, &str)],
                     key: Option<&str>| {
            let header = |name: &str| {
                headers.iter().find(|(n, _)| *n == name).map(|(_, value)| value.as_bytes())
            };
            let expected = key.map(|key| hash(key.as_bytes()));
            assert_eq!(source.hash(target, header), expected, "{source:?} {target} {headers:?}");
        };
        let name = || "user".to_owned();
        check(KeySource::Client, "/a", &[], None);
        check(KeySource::Header(name()), "/a", &[("user", "ada")], Some("ada"));
        check(KeySource::Header(name()), "/a", &[("other", "ada")], None);
        let cookies = [("cookie", "xuser=eve; user=\"ada\";user=bob")];
        check(KeySource::Cookie(name()), "/a", &cookies, Some("ada"));
        check(KeySource::Cookie(name()), "/a", &[("cookie", "user; users=1")], None);
        check(KeySource::Query(name()), "/a?x=1&user=a=b&user=c", &[], Some("a=b"));
        check(KeySource::Query(name()), "/a?users=1", &[], None);
        check(KeySource::Query(name()), "/user=1", &[], None);
        check(KeySource::Path, "/a/b?c", &[], Some("/a/b"));
    }

    #[test]
    fn sessions_are_read_as_they_are_written_and_not_otherwise() {
        let session = Session::of("web-1");
        assert_eq!(session.to_string().parse(), Ok(session));
        let text = session.to_string();
        let wrong =
            [String::new(), text[1..].into(), format!("{text}0"), format!("+{}", &text[1..])];
        for wrong in wrong.into_iter().chain(["ABCDEF0123456789".into(), "é".repeat(8)]) {
            assert_eq!(wrong.parse::<Session>(), Err(()), "{wrong}");
        }
    }
}

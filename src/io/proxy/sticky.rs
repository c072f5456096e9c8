//! Pure: the cookie by which a client stays with its replica.

use hyper::header::{COOKIE, HeaderMap, HeaderValue, SET_COOKIE};

use crate::balancer::{Session, cookie};
use crate::config::Sticky;

/// The session that the client's cookie names.
pub(super) fn read(headers: &HeaderMap, settings: &Sticky) -> Option<Session> {
    let values = headers.get_all(COOKIE).into_iter();
    let mut found = values.filter_map(|value| cookie(value.as_bytes(), &settings.cookie));
    std::str::from_utf8(found.next()?).ok()?.parse().ok()
}

/// Asks the client to come back to the same replica.
pub(super) fn set(headers: &mut HeaderMap, settings: &Sticky, session: Session) {
    let age = settings.lifetime.map(|it| format!("; Max-Age={}", it.as_secs()));
    let age = age.unwrap_or_default();
    let text = format!("{}={session}; Path=/; HttpOnly; SameSite=Lax{age}", settings.cookie);
    // The name is a token, the rest our own.
    if let Ok(value) = HeaderValue::try_from(text) {
        headers.append(SET_COOKIE, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cookie_is_read_as_it_is_set() {
        let session: Session = "00c0ffee00c0ffee".parse().unwrap();
        let check = |lifetime: Option<u64>, expected: &str| {
            let settings = Sticky {
                cookie: "foresail".to_owned(),
                lifetime: lifetime.map(std::time::Duration::from_secs),
            };
            let mut headers = HeaderMap::new();
            set(&mut headers, &settings, session);
            assert_eq!(headers[SET_COOKIE], expected);
            let (pair, _) = expected.split_once(';').unwrap();
            headers.append(COOKIE, HeaderValue::from_static("other=1; foresail2=x"));
            assert_eq!(read(&headers, &settings), None);
            headers.append(COOKIE, format!("a=b; {pair}").parse().unwrap());
            assert_eq!(read(&headers, &settings), Some(session));
        };
        let base = "foresail=00c0ffee00c0ffee; Path=/; HttpOnly; SameSite=Lax";
        check(None, base);
        check(Some(3600), &format!("{base}; Max-Age=3600"));
    }
}

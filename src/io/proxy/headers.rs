//! Pure: what a proxy must check, drop and add in heads (RFC 9110 section 7.6, RFC 9112).

use hyper::header::{
    CONNECTION, CONTENT_LENGTH, HOST, HeaderMap, HeaderName, HeaderValue, PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION, TE, TRANSFER_ENCODING, UPGRADE,
};
use hyper::http::uri::PathAndQuery;
use hyper::http::{request, response};
use hyper::{Method, Request, StatusCode, Uri, Version};

use super::forwarded::{self, Client};
use super::refusal::Refusal;

/// Headers that are meant for the next hop alone, besides those that `Connection` names. `Trailer`
/// is not among them: trailers are passed on.
const HOP_BY_HOP: [HeaderName; 8] = [
    CONNECTION,
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TE,
    TRANSFER_ENCODING,
    UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];
/// The host that a request is for, if it is one that can be passed on. `None` under HTTP/1.0
/// without a `Host`.
pub(super) fn checked_host<B>(request: &Request<B>) -> Result<Option<HeaderValue>, Refusal> {
    let (uri, headers) = (request.uri(), request.headers());
    if request.method() == Method::CONNECT || uri.path() == "*" {
        return Err(Refusal::Unsupported("CONNECT and the request target * are not supported"));
    }
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let only_chunked = codings.next().is_none_or(|coding| {
        coding.as_bytes().eq_ignore_ascii_case(b"chunked") && codings.next().is_none()
    });
    if !only_chunked {
        return Err(Refusal::Unsupported("the only transfer coding supported is chunked"));
    }
    let mut hosts = headers.get_all(HOST).iter();
    let host = hosts.next().cloned();
    if hosts.next().is_some() || (host.is_none() && request.version() == Version::HTTP_11) {
        return Err(Refusal::BadRequest("a request needs exactly one Host header"));
    }
    // A target in absolute form overrules the header (RFC 9112 section 3.2.2); credentials in it go
    // no further.
    match uri.authority().map(|authority| authority.as_str().rsplit('@').next()) {
        Some(named) => HeaderValue::from_str(named.unwrap_or_default())
            .map(Some)
            .map_err(|_| Refusal::BadRequest("the host in the request target is malformed")),
        None => Ok(host),
    }
}

/// Whether the client's connection must end with this answer. A request with both Content-Length
/// and Transfer-Encoding is how one request is smuggled inside another; hyper reads it by the
/// latter, as it should, but hides that there was the former. RFC 9112 section 6.1 wants the
/// connection closed then, so it is closed after every request in chunks.
pub(super) fn must_close_after<B>(request: &Request<B>) -> bool {
    request.headers().contains_key(TRANSFER_ENCODING)
}

pub(super) fn close_after(headers: &mut HeaderMap) {
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
}

/// The protocol that a request or answer asks to change to. Not to HTTP/2: its requests would pass
/// unseen through the tunnel, and clients that offer it go on in HTTP/1.1 as well.
pub(super) fn upgrade(headers: &HeaderMap) -> Option<&HeaderValue> {
    let says = |name, word| tokens(headers, name).any(|token| token.eq_ignore_ascii_case(word));
    headers.get(UPGRADE).filter(|_| says(&CONNECTION, "upgrade") && !says(&UPGRADE, "h2c"))
}

/// Refuses a body that says itself that it is longer than `most`.
pub(super) fn check_length<B>(request: &Request<B>, most: Option<u64>) -> Result<(), Refusal> {
    let length = request.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    let length = length.and_then(|text| text.parse::<u64>().ok());
    match (length, most) {
        (Some(length), Some(most)) if length > most => Err(Refusal::TooLarge),
        _ => Ok(()),
    }
}

/// Makes a client's head fit for a replica.
pub(super) fn rewrite_request(
    head: &mut request::Parts,
    host: Option<HeaderValue>,
    client: &Client,
    add_forwarded: bool,
) {
    let headers = &mut head.headers;
    let protocol = upgrade(headers).cloned();
    let trailers = tokens(headers, &TE).any(|token| token.eq_ignore_ascii_case("trailers"));
    drop_hop_by_hop(headers);
    if let Some(protocol) = protocol {
        set_upgrade(headers, protocol);
    } else if trailers {
        headers.insert(CONNECTION, HeaderValue::from_static("te"));
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
    forwarded::rewrite(headers, client, host.as_ref(), add_forwarded);
    if let Some(host) = host {
        headers.insert(HOST, host);
    }
    head.version = Version::HTTP_11;
    // Replicas get the target in origin form, whatever the client wrote.
    if head.uri.authority().is_some() {
        let path = head.uri.path_and_query().cloned();
        head.uri = Uri::from(path.unwrap_or(PathAndQuery::from_static("/")));
    }
    // What hyper left there for its own use is not for the next hop.
    head.extensions.clear();
}

/// Makes a replica's head fit for the client.
pub(super) fn rewrite_response(head: &mut response::Parts) {
    let switching = head.status == StatusCode::SWITCHING_PROTOCOLS;
    let protocol = upgrade(&head.headers).filter(|_| switching).cloned();
    drop_hop_by_hop(&mut head.headers);
    if let Some(protocol) = protocol {
        set_upgrade(&mut head.headers, protocol);
    }
    head.version = Version::HTTP_11;
}

fn drop_hop_by_hop(headers: &mut HeaderMap) {
    // Most heads have none, and seeing that is cheaper than eight searches.
    if !headers.keys().any(|name| HOP_BY_HOP.contains(name)) {
        return;
    }
    let named: Vec<HeaderName> =
        tokens(headers, &CONNECTION).filter_map(|token| token.parse().ok()).collect();
    for name in named.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
}

/// Asks for the change, or agrees to it: past this hop the connection is a mere tunnel.
fn set_upgrade(headers: &mut HeaderMap, protocol: HeaderValue) {
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, protocol);
}

/// The members of a header that is a list of words; one that is not text has none.
fn tokens<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
) -> impl Iterator<Item = &'a str> + use<'a> {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rewritten(headers: &[(&str, &[u8])]) -> HeaderMap {
        let (mut head, ()) = Request::new(()).into_parts();
        for (name, value) in headers {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            if let Ok(value) = HeaderValue::from_bytes(value) {
                head.headers.append(name, value);
            }
        }
        let host = Some(HeaderValue::from_static("shop.example"));
        let client = Client::of([192, 0, 2, 7].into(), true, &head.headers, &[], 1);
        rewrite_request(&mut head, host, &client, true);
        head.headers
    }

    proptest! {
        #[test]
        fn whatever_comes_the_hop_is_cleaned_and_the_client_named(
            headers in prop::collection::vec(
                (
                    prop::sample::select(vec![
                        "connection", "keep-alive", "te", "transfer-encoding", "upgrade", "host",
                        "proxy-authorization", "proxy-connection", "x-forwarded-for", "x-own",
                    ]),
                    prop_oneof![
                        "(close|upgrade|te|host|x-own|x-forwarded-for|trailers|[ ,;=]){0,6}"
                            .prop_map(String::into_bytes),
                        prop::collection::vec(any::<u8>(), 0..20),
                    ],
                ),
                0..10,
            ),
        ) {
            let given: Vec<(&str, &[u8])> =
                headers.iter().map(|(name, value)| (*name, value.as_slice())).collect();
            let headers = rewritten(&given);
            for name in ["keep-alive", "transfer-encoding", "proxy-authorization"] {
                prop_assert!(!headers.contains_key(name));
            }
            // What remains of the hop is one of our own two sentences.
            let connection = headers.get(CONNECTION).map(HeaderValue::as_bytes);
            prop_assert!(matches!(connection, None | Some(b"te" | b"upgrade")));
            prop_assert_eq!(connection == Some(b"upgrade"), headers.contains_key(UPGRADE));
            prop_assert_eq!(connection == Some(b"te"), headers.contains_key(TE));
            prop_assert_eq!(headers.get_all(HOST).iter().count(), 1);
            prop_assert_eq!(headers.get(HOST).unwrap(), "shop.example");
            prop_assert_eq!(headers.get_all("x-forwarded-for").iter().count(), 1);
            prop_assert!(headers["x-forwarded-for"].as_bytes().ends_with(b"192.0.2.7"));
        }
    }
}

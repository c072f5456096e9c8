//! Pure: what a proxy must check, drop and add in heads (RFC 9110 section 7.6, RFC 9112).

use std::net::{IpAddr, SocketAddr};

use hyper::header::{
    CONNECTION, HOST, HeaderMap, HeaderName, HeaderValue, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION,
    TE, TRANSFER_ENCODING, UPGRADE,
};
use hyper::http::request::Parts;
use hyper::http::uri::{Authority, PathAndQuery, Scheme};
use hyper::{Method, Request, Response, StatusCode, Uri, Version};

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
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

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

/// Makes a client's head fit for a replica, all but its address.
pub(super) fn rewrite_request(head: &mut Parts, host: Option<HeaderValue>, client: IpAddr) {
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
    append_forwarded_for(headers, client);
    headers.entry(FORWARDED_PROTO).or_insert(HeaderValue::from_static("http"));
    if let Some(host) = host {
        headers.entry(FORWARDED_HOST).or_insert_with(|| host.clone());
        headers.insert(HOST, host);
    }
    head.version = Version::HTTP_11;
}

/// The request for the replica at `address`, out of a rewritten head.
pub(super) fn addressed<B>(head: &Parts, address: SocketAddr, body: B) -> Request<B> {
    let mut head = head.clone();
    // An IP address with a port is always an authority; were it not, the request would fail at the
    // replica.
    let authority = address.to_string().parse::<Authority>().ok();
    let path = head.uri.path_and_query().cloned();
    let mut parts = hyper::http::uri::Parts::default();
    parts.scheme = Some(Scheme::HTTP);
    parts.authority = authority;
    parts.path_and_query = path.or(Some(PathAndQuery::from_static("/")));
    head.uri = Uri::from_parts(parts).unwrap_or_default();
    Request::from_parts(head, body)
}

/// Makes a replica's head fit for the client.
pub(super) fn rewrite_response<B>(response: &mut Response<B>) {
    let switching = response.status() == StatusCode::SWITCHING_PROTOCOLS;
    let protocol = upgrade(response.headers()).filter(|_| switching).cloned();
    drop_hop_by_hop(response.headers_mut());
    if let Some(protocol) = protocol {
        set_upgrade(response.headers_mut(), protocol);
    }
    *response.version_mut() = Version::HTTP_11;
}

fn drop_hop_by_hop(headers: &mut HeaderMap) {
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

fn append_forwarded_for(headers: &mut HeaderMap, client: IpAddr) {
    let client = client.to_canonical().to_string();
    let mut chain: Vec<u8> = Vec::new();
    for value in headers.get_all(FORWARDED_FOR) {
        chain.extend_from_slice(value.as_bytes());
        chain.extend_from_slice(b", ");
    }
    chain.extend_from_slice(client.as_bytes());
    // Valid values joined by a comma make a valid value.
    if let Ok(chain) = HeaderValue::from_bytes(&chain) {
        headers.insert(FORWARDED_FOR, chain);
    }
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

    const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 7));

    fn rewritten(headers: &[(&str, &[u8])]) -> HeaderMap {
        let (mut head, ()) = Request::new(()).into_parts();
        for (name, value) in headers {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            if let Ok(value) = HeaderValue::from_bytes(value) {
                head.headers.append(name, value);
            }
        }
        rewrite_request(&mut head, Some(HeaderValue::from_static("shop.example")), CLIENT);
        head.headers
    }

    #[test]
    fn the_replica_is_addressed_and_the_path_kept() {
        let check = |target: &str, address: &str, expected: &str| {
            let (mut head, ()) = Request::new(()).into_parts();
            head.uri = target.parse().unwrap();
            let request = addressed(&head, address.parse().unwrap(), ());
            assert_eq!(request.uri().to_string(), expected);
        };
        check("/", "127.0.0.1:80", "http://127.0.0.1:80/");
        check("/a//b?c=/../d", "127.0.0.1:8080", "http://127.0.0.1:8080/a//b?c=/../d");
        check("http://other/x", "[::1]:80", "http://[::1]:80/x");
        check("http://other", "[::1]:80", "http://[::1]:80/");
    }

    #[test]
    fn an_address_mapped_into_ipv6_is_passed_on_as_what_it_is() {
        let mut headers = HeaderMap::new();
        append_forwarded_for(&mut headers, "::ffff:192.0.2.7".parse().unwrap());
        append_forwarded_for(&mut headers, "2001:db8::1".parse().unwrap());
        assert_eq!(headers[FORWARDED_FOR], "192.0.2.7, 2001:db8::1");
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
            prop_assert_eq!(headers.get_all(FORWARDED_FOR).iter().count(), 1);
            prop_assert!(headers[FORWARDED_FOR].as_bytes().ends_with(b"192.0.2.7"));
        }
    }
}

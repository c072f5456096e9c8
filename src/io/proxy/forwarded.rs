//! Pure: who the client is, and what replicas are told of it (RFC 7239 and its older kin).
//!
//! What a client says of itself is worth nothing: unless it comes from a trusted proxy, these
//! headers are replaced, not continued.

use std::net::{IpAddr, SocketAddr};

use hyper::header::{FORWARDED, HeaderMap, HeaderName, HeaderValue};

use crate::balancer::mix;
use crate::config::Network;

pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const TOLD: [HeaderName; 5] =
    [FORWARDED, FORWARDED_FOR, FORWARDED_HOST, FORWARDED_PROTO, REQUEST_ID];

/// Longest request id that is passed on.
const MAX_ID_BYTES: usize = 200;

/// Whom a request comes from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Client {
    /// The nearest address that is no trusted proxy.
    pub(super) address: IpAddr,
    /// Who sent it to us.
    peer: IpAddr,
    trusted: bool,
    /// Random bits for an id.
    random: u64,
}

impl Client {
    pub(super) fn of(
        peer: IpAddr,
        trusted: bool,
        headers: &HeaderMap,
        proxies: &[Network],
        random: u64,
    ) -> Client {
        let peer = peer.to_canonical();
        let address = if trusted { nearest(peer, headers, proxies) } else { peer };
        Client { address, peer, trusted, random }
    }
}

/// From the last hop to the first, the one before the last trusted proxy. A word that is no address
/// ends the search, for what is before it was not said by anyone trusted.
fn nearest(peer: IpAddr, headers: &HeaderMap, proxies: &[Network]) -> IpAddr {
    let mut nearest = peer;
    for value in headers.get_all(FORWARDED_FOR).iter().rev() {
        let Ok(text) = value.to_str() else { return nearest };
        for word in text.rsplit(',') {
            let Some(address) = address(word.trim()) else { return nearest };
            nearest = address;
            if !proxies.iter().any(|network| network.contains(address)) {
                return nearest;
            }
        }
    }
    nearest
}

/// An address as proxies write it, with a port or without.
fn address(word: &str) -> Option<IpAddr> {
    let bare = word.strip_prefix('[').and_then(|word| word.strip_suffix(']')).unwrap_or(word);
    let address = bare.parse().ok().or_else(|| Some(word.parse::<SocketAddr>().ok()?.ip()));
    address.map(|address: IpAddr| address.to_canonical())
}

/// Tells the replica of the client. `always` is whether `Forwarded` is written even where no proxy
/// in front did.
pub(super) fn rewrite(
    headers: &mut HeaderMap,
    client: &Client,
    host: Option<&HeaderValue>,
    always: bool,
) {
    if !client.trusted && headers.keys().any(|name| TOLD.contains(name)) {
        TOLD.iter().for_each(|name| drop(headers.remove(name)));
    }
    append(headers, FORWARDED_FOR, client.peer.to_string().as_bytes());
    if always || headers.contains_key(FORWARDED) {
        append(headers, FORWARDED, &element(client.peer, host));
    }
    headers.entry(FORWARDED_PROTO).or_insert(HeaderValue::from_static("http"));
    if let Some(host) = host {
        headers.entry(FORWARDED_HOST).or_insert_with(|| host.clone());
    }
    if !headers.get(REQUEST_ID).is_some_and(|id| is_id(id.as_bytes())) {
        headers.insert(REQUEST_ID, id(client.random));
    }
}

/// Continues a header that is a list, as one line.
fn append(headers: &mut HeaderMap, name: HeaderName, word: &[u8]) {
    let mut list: Vec<u8> = Vec::with_capacity(word.len());
    for value in headers.get_all(&name) {
        list.extend_from_slice(value.as_bytes());
        list.extend_from_slice(b", ");
    }
    list.extend_from_slice(word);
    // Valid values joined by a comma make a valid value.
    if let Ok(value) = HeaderValue::from_maybe_shared(hyper::body::Bytes::from(list)) {
        headers.insert(name, value);
    }
}

/// What we saw, as RFC 7239 wants it.
fn element(peer: IpAddr, host: Option<&HeaderValue>) -> Vec<u8> {
    let mut element = match peer {
        IpAddr::V4(peer) => format!("for={peer};proto=http"),
        IpAddr::V6(peer) => format!("for=\"[{peer}]\";proto=http"),
    }
    .into_bytes();
    if let Some(host) = host {
        element.extend_from_slice(b";host=\"");
        for byte in host.as_bytes() {
            if matches!(byte, b'"' | b'\\') {
                element.push(b'\\');
            }
            element.push(*byte);
        }
        element.push(b'"');
    }
    element
}

fn is_id(id: &[u8]) -> bool {
    (1..=MAX_ID_BYTES).contains(&id.len()) && id.iter().all(u8::is_ascii_graphic)
}

/// 32 hexadecimal digits; unique as far as the random bits are, and no secret.
fn id(random: u64) -> HeaderValue {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = [0; 32];
    for (half, bits) in text.chunks_exact_mut(16).zip([random, mix(!random)]) {
        for (place, digit) in half.iter_mut().enumerate() {
            *digit = DIGITS[(bits >> (60 - 4 * place)) as usize & 15];
        }
    }
    HeaderValue::from_bytes(&text).unwrap_or(HeaderValue::from_static("-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(given: &[(&'static str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &str)| {
            (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
        };
        given.iter().map(pair).collect()
    }

    #[test]
    fn the_client_is_the_nearest_that_nobody_vouches_for() {
        let trusted: Vec<Network> =
            ["10.0.0.0/8", "2001:db8::/32"].iter().map(|text| text.parse().unwrap()).collect();
        let check = |peer: &str, chain: &[&str], expected: &str| {
            let given: Vec<_> = chain.iter().map(|value| ("x-forwarded-for", *value)).collect();
            let peer: IpAddr = peer.parse().unwrap();
            let vouched = trusted.iter().any(|network| network.contains(peer));
            let client = Client::of(peer, vouched, &headers(&given), &trusted, 0);
            assert_eq!(client.address, expected.parse::<IpAddr>().unwrap(), "{peer} {chain:?}");
        };
        check("192.0.2.7", &["198.51.100.1"], "192.0.2.7");
        check("10.0.0.1", &[], "10.0.0.1");
        check("10.0.0.1", &["198.51.100.1"], "198.51.100.1");
        check("::ffff:10.0.0.1", &["198.51.100.1"], "198.51.100.1");
        // The first of the list is what the client wrote itself.
        check("10.0.0.1", &["1.1.1.1, 198.51.100.1, 10.0.0.2"], "198.51.100.1");
        check("10.0.0.1", &["1.1.1.1", "198.51.100.1", "[2001:db8::5]:99"], "198.51.100.1");
        check("10.0.0.1", &["198.51.100.1:443"], "198.51.100.1");
        check("10.0.0.1", &["198.51.100.1, unknown, 10.0.0.2"], "10.0.0.2");
        check("10.0.0.1", &["10.0.0.3,10.0.0.2"], "10.0.0.3");
    }

    #[test]
    fn replicas_are_told_what_trusted_proxies_say_and_what_we_saw() {
        let check = |peer: &str, trusted, always, given: &[_], expected: &[(&str, &str)]| {
            let mut headers = headers(given);
            let client = Client::of(peer.parse().unwrap(), trusted, &headers, &[], 0x1f);
            rewrite(&mut headers, &client, Some(&HeaderValue::from_static("a\"b")), always);
            let told = |name: &str| headers.get(name).map_or("", |value| value.to_str().unwrap());
            for (name, value) in expected {
                assert_eq!(told(name), *value, "{name} of {peer}, trusted: {trusted}");
                assert!(headers.get_all(*name).iter().count() <= 1);
            }
        };
        let said = [
            ("x-forwarded-for", "1.1.1.1"),
            ("x-forwarded-for", "2.2.2.2"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "shop"),
            ("forwarded", "for=1.1.1.1"),
            ("x-request-id", "mine"),
        ];
        let ours = [
            ("x-forwarded-for", "192.0.2.7"),
            ("x-forwarded-proto", "http"),
            ("x-forwarded-host", "a\"b"),
            ("forwarded", ""),
            ("x-request-id", "000000000000001f"),
        ];
        check("192.0.2.7", false, false, &said, &ours[..4]);
        check("192.0.2.7", false, false, &[], &ours[..4]);
        let added = [("forwarded", "for=192.0.2.7;proto=http;host=\"a\\\"b\"")];
        check("192.0.2.7", false, true, &said, &added);
        let added = [("forwarded", "for=\"[2001:db8::1]\";proto=http;host=\"a\\\"b\"")];
        check("2001:db8::1", true, true, &[], &added);
        let continued = [
            ("x-forwarded-for", "1.1.1.1, 2.2.2.2, 192.0.2.7"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "shop"),
            ("forwarded", "for=1.1.1.1, for=192.0.2.7;proto=http;host=\"a\\\"b\""),
            ("x-request-id", "mine"),
        ];
        check("192.0.2.7", true, false, &said, &continued);
        let id = id(0x1f);
        assert!(id.to_str().unwrap().starts_with(ours[4].1), "{id:?}");
        for wrong in ["", "a b", "é"] {
            assert!(!is_id(wrong.as_bytes()));
        }
        assert!(!is_id(&[b'x'; 201]) && is_id(&[b'x'; 200]));
    }
}

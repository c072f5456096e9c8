//! Pure: IP hash, the same client to the same replica, by weighted rendezvous hashing.
//!
//! Every replica gets a score from the hash of client and replica; the highest wins. A replica that
//! joins takes its share of the clients, about 1 ÷ n, evenly from the others and no client moves
//! between those; one that leaves gives back only its own. With the score weight ÷ −ln u shares
//! follow the weights (Schindelhauer and Schomaker), so a replica in slow start takes over its
//! clients bit by bit.

use std::net::IpAddr;

use super::Target;
use super::random::{mix, unit};

/// Hashes of the ready replicas' ids, made once per snapshot as ids may be long.
#[derive(Debug)]
pub(super) struct Hashes(Vec<u64>);

impl Hashes {
    pub(super) fn new(ready: &[Target]) -> Hashes {
        Hashes(ready.iter().map(|target| fnv1a(target.id.as_bytes())).collect())
    }

    /// Index into `ready`, the same as given to `new`; zero if there is none.
    pub(super) fn pick(&self, ready: &[Target], client: IpAddr) -> usize {
        let client = mix(match client.to_canonical() {
            IpAddr::V4(address) => fnv1a(&address.octets()),
            IpAddr::V6(address) => fnv1a(&address.octets()),
        });
        let score =
            |(target, hash): (&Target, &u64)| -target.share() / unit(mix(client ^ hash)).ln();
        let scores = ready.iter().zip(&self.0).map(score).enumerate();
        scores.max_by(|(_, a), (_, b)| a.total_cmp(b)).map_or(0, |(index, _)| index)
    }
}

const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0000_0100_0000_01b3;

/// A hash that stays the same over restarts and versions, as the standard one need not.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(FNV_OFFSET, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(FNV_PRIME))
}

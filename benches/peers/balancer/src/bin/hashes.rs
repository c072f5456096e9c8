//! Which consistent hash: time for one choice, keys that move when one of n replicas leaves (in
//! times of the 1 ÷ n that must), and the most loaded replica (in times of the mean), for the table
//! of rendezvous that Foresail has, Maglev's table and a ring of 160 points for each replica.

#[path = "../../../../../src"]
mod foresail {
    #[allow(dead_code, unused_imports)]
    pub mod balancer;
}
mod fleet {
    pub type ReplicaId = String;
}

use std::hint::black_box;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use foresail::balancer::{Algorithm, Key, Snapshot, Target, hash, mix};

const KEYS: u64 = 2_000_000;

/// The number of the replica for a key.
type Choose = Box<dyn Fn(u64) -> u32>;

fn main() {
    println!(
        "| method | n | ns | moved × n | most ÷ mean | build, ms |\n|---|---|---|---|---|---|"
    );
    for (name, build) in [
        ("rendezvous table", rendezvous as fn(&[u32]) -> Choose),
        ("Maglev", maglev),
        ("ring", ring),
    ] {
        for n in [10, 100, 1000] {
            let all: Vec<u32> = (0..n).collect();
            let started = Instant::now();
            let before = build(&all);
            let built = started.elapsed().as_secs_f64() * 1000.0;
            let after = build(&all[1..]);
            let mut counts = vec![0_u64; n as usize];
            let mut moved = 0_u64;
            for key in (1..=KEYS).map(mix) {
                let owner = before(key);
                counts[owner as usize] += 1;
                moved += u64::from(owner != after(key));
            }
            let most = *counts.iter().max().unwrap_or(&0) as f64 * f64::from(n) / KEYS as f64;
            let moved = moved as f64 * f64::from(n) / KEYS as f64;
            let time = (0..9).map(|_| time(&before)).fold(f64::INFINITY, f64::min);
            println!("| {name} | {n} | {time:.0} | {moved:.2} | {most:.2} | {built:.1} |");
        }
    }
}

fn time(choose: &Choose) -> f64 {
    let started = Instant::now();
    for number in 0..200_000 {
        black_box(choose(mix(number)));
    }
    started.elapsed().as_nanos() as f64 / 200_000.0
}

fn rendezvous(replicas: &[u32]) -> Choose {
    let target = |number: &u32| {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 1024 + *number as u16));
        Target::new(format!("replica-{number}"), address)
    };
    let snapshot = Snapshot::new(Algorithm::KeyHash, replicas.iter().map(target).collect(), None);
    Box::new(move |key| {
        let key = Key { key: Some(key), ..Key::default() };
        snapshot.pick(key, 0, Duration::ZERO).map_or(0, |t| u32::from(t.address.port()) - 1024)
    })
}

/// Each replica in turn takes the next free slot of its own permutation (Eisenbud and others).
fn maglev(replicas: &[u32]) -> Choose {
    const SLOTS: u64 = 65_537;
    let seeds = replicas.iter().map(|number| hash(format!("replica-{number}").as_bytes()));
    let walks: Vec<(u64, u64)> =
        seeds.map(|seed| (seed % SLOTS, mix(seed) % (SLOTS - 1) + 1)).collect();
    let mut next = vec![0; replicas.len()];
    let mut slots = vec![u32::MAX; SLOTS as usize];
    let mut filled = 0;
    'fill: loop {
        for (index, (offset, skip)) in walks.iter().enumerate() {
            let slot = loop {
                let slot = (offset + next[index] * skip) % SLOTS;
                next[index] += 1;
                if slots[slot as usize] == u32::MAX {
                    break slot;
                }
            };
            slots[slot as usize] = replicas[index];
            filled += 1;
            if filled == SLOTS {
                break 'fill;
            }
        }
    }
    Box::new(move |key| slots[(key % SLOTS) as usize])
}

fn ring(replicas: &[u32]) -> Choose {
    let points = |number: &u32| {
        let seed = hash(format!("replica-{number}").as_bytes());
        let number = *number;
        (0..160).map(move |point| (mix(seed ^ mix(point + 1)), number))
    };
    let mut ring: Vec<(u64, u32)> = replicas.iter().flat_map(points).collect();
    ring.sort_unstable();
    Box::new(move |key| {
        let at = ring.partition_point(|(point, _)| *point < key);
        ring[at % ring.len()].1
    })
}

//! Routes: shown as they are read, and a request never led to a route that does not take it.
#![no_main]

use foresail::balancer::{Route, Routes};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|lines: &str| {
    let mut lines = lines.lines();
    let (host, path) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    let routes: Vec<Route> = lines.filter_map(|line| line.parse().ok()).collect();
    for route in &routes {
        assert_eq!(route.to_string().parse().as_ref(), Ok(route));
    }
    let alone = |route: &Route| Routes::new(vec![(route.clone(), ())]).find(host, path).is_some();
    let among = Routes::new(routes.iter().map(|route| (route.clone(), route)).collect());
    match among.find(host, path) {
        Some(found) => assert!(alone(found)),
        None => assert!(!routes.iter().any(alone)),
    }
});

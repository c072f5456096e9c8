//! Pure: which of several services on one listener a request is for.

use std::fmt;
use std::str::FromStr;

/// The requests of a service, as in `shop.example.org/cart`, `*.example.org` or `/static`.
///
/// A path stands for itself and all below it: `/cart` takes `/cart`, `/cart?a` and `/cart/1` but
/// not `/carts`. It is compared with the request's as that is written, nothing decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    host: Host,
    /// Begins with a slash; ends with one only if it is the root.
    path: String,
}

/// In lower case, without a port.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Host {
    Any,
    /// Every name that ends with this, which begins with a dot.
    Below(String),
    Exact(String),
}

impl Route {
    /// Every request.
    pub fn any() -> Route {
        Route { host: Host::Any, path: "/".to_owned() }
    }

    fn takes(&self, host: &str, path: &str) -> bool {
        let host_fits = match &self.host {
            Host::Any => true,
            Host::Exact(name) => host.eq_ignore_ascii_case(name),
            Host::Below(end) => {
                let start = host.len().checked_sub(end.len()).filter(|start| *start > 0);
                let tail = start.and_then(|start| host.get(start..));
                tail.is_some_and(|tail| tail.eq_ignore_ascii_case(end))
            }
        };
        let below = |rest: &str| rest.is_empty() || rest.starts_with('/');
        host_fits && (self.path == "/" || path.strip_prefix(&*self.path).is_some_and(below))
    }

    /// The more is said, the earlier a route is asked; what is said of the host counts first.
    fn precision(&self) -> (usize, usize, usize) {
        let (kind, length) = match &self.host {
            Host::Any => (0, 0),
            Host::Below(end) => (1, end.len()),
            Host::Exact(_) => (2, 0),
        };
        (kind, length, self.path.len())
    }
}

/// Why a text is no [`Route`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "write a host, a path or both, without scheme, port and query, for instance \
     \"shop.example.org/cart\", \"*.example.org\" or \"/static\""
)]
pub struct RouteError;

impl FromStr for Route {
    type Err = RouteError;

    fn from_str(text: &str) -> Result<Route, RouteError> {
        let (host, path) = text.split_at(text.find('/').unwrap_or(text.len()));
        let path_fits = |c: char| c.is_ascii_graphic() && !"?#*".contains(c);
        if text.is_empty() || !path.chars().all(path_fits) || path.contains("//") {
            return Err(RouteError);
        }
        let host = match (host, host.strip_prefix('*')) {
            ("", _) => Host::Any,
            (_, Some(end)) => {
                let name = end.strip_prefix('.').filter(|name| is_name(name)).ok_or(RouteError)?;
                Host::Below(format!(".{}", name.to_ascii_lowercase()))
            }
            (host, None) if is_name(host) || is_address(host) => {
                Host::Exact(host.to_ascii_lowercase())
            }
            _ => return Err(RouteError),
        };
        let path = match path.trim_end_matches('/') {
            "" => "/",
            path => path,
        };
        Ok(Route { host, path: path.to_owned() })
    }
}

fn is_name(text: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    text.split('.').all(|label| !label.is_empty() && label.chars().all(fits))
}

/// An address of IPv6, in brackets; one of IPv4 passes as a name.
fn is_address(text: &str) -> bool {
    let inner = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    inner.is_some_and(|inner| inner.parse::<std::net::Ipv6Addr>().is_ok())
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = if self.path == "/" { "" } else { &*self.path };
        match &self.host {
            Host::Any => f.write_str(&self.path),
            Host::Below(end) => write!(f, "*{end}{path}"),
            Host::Exact(name) => write!(f, "{name}{path}"),
        }
    }
}

/// The routes of a listener with where each leads, the most precise first.
#[derive(Debug, Clone)]
pub struct Routes<T>(Vec<(Route, T)>);

impl<T> Routes<T> {
    /// Of two equal routes the first is taken.
    pub fn new(mut routes: Vec<(Route, T)>) -> Routes<T> {
        routes.sort_by_key(|(route, _)| std::cmp::Reverse(route.precision()));
        Routes(routes)
    }

    /// Where a request leads: an exact host before `*.`, `*.` before none, then the longest path.
    /// A host that no path fits falls through to less precise hosts. Time grows with the routes.
    ///
    /// `host` is that of the request, with its port or without; `path` without the query.
    pub fn find(&self, host: &str, path: &str) -> Option<&T> {
        let host = without_port(host);
        self.0.iter().find(|(route, _)| route.takes(host, path)).map(|(_, to)| to)
    }

    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.iter().map(|(_, to)| to)
    }
}

/// Nor with the dot that ends a name in full.
fn without_port(host: &str) -> &str {
    let (name, port) = host.rsplit_once(':').unwrap_or((host, ""));
    let name = if port.chars().all(|c| c.is_ascii_digit()) { name } else { host };
    name.strip_suffix('.').unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn routes(texts: &[&'static str]) -> Routes<&'static str> {
        Routes::new(texts.iter().map(|text| (text.parse().unwrap(), *text)).collect())
    }

    #[test]
    fn the_most_precise_route_takes_the_request() {
        let routes = routes(&[
            "/static",
            "*.example.org",
            "*.shop.example.org",
            "shop.example.org/cart",
            "shop.example.org/cart/old/",
            "Blog.Example.org",
            "[::1]",
            "/",
        ]);
        let check = |host: &str, path: &str, expected: &str| {
            assert_eq!(routes.find(host, path), Some(&expected), "{host} {path}");
        };
        check("shop.example.org", "/cart", "shop.example.org/cart");
        check("shop.example.org", "/cart/1", "shop.example.org/cart");
        check("shop.example.org", "/cart/old", "shop.example.org/cart/old/");
        check("shop.example.org", "/cart/older", "shop.example.org/cart");
        // No path fits: on to the next host.
        check("shop.example.org", "/carts", "*.example.org");
        check("shop.example.org", "/static", "*.example.org");
        check("SHOP.example.ORG.:8080", "/cart", "shop.example.org/cart");
        check("a.shop.example.org", "/cart", "*.shop.example.org");
        check("a.b.example.org", "/", "*.example.org");
        check("example.org", "/", "/");
        check(".example.org", "/", "/");
        check("badexample.org", "/static/a", "/static");
        check("blog.example.org", "/static", "Blog.Example.org");
        check("[::1]:80", "/", "[::1]");
        check("[::1]", "/", "[::1]");
        check("", "/statics", "/");
        check("", "", "/");
    }

    #[test]
    fn without_a_route_for_all_some_requests_have_none() {
        let routes = routes(&["example.org/api"]);
        for (host, path) in [("example.org", "/"), ("example.org", "/apis"), ("", "/api")] {
            assert_eq!(routes.find(host, path), None, "{host} {path}");
        }
    }

    #[test]
    fn what_is_no_route_is_refused() {
        for wrong in [
            "", "*", "*/a", "*.", "a*.b", "*.*.a", "http://a", "a:80", "a b", "/a b", "/a?b",
            "/a#", "/a*", "a..b", ".a", "a.", "é", "/é", "//a", "/a//b", "[::1", "[a]", "a]/",
            "/a\n",
        ] {
            assert_eq!(wrong.parse::<Route>(), Err(RouteError), "{wrong:?}");
        }
    }

    proptest! {
        #[test]
        fn a_route_is_read_as_it_is_shown(text in "(\\*\\.)?[a-zA-Z.]{0,6}(/[a-z/]{0,6})?") {
            if let Ok(route) = text.parse::<Route>() {
                prop_assert_eq!(route.to_string().parse(), Ok(route));
            }
        }

        #[test]
        fn whatever_is_asked_for_nothing_panics(host in ".{0,20}", path in ".{0,20}") {
            let found = routes(&["*.a", "b", "/x", "/"]).find(&host, &path).is_some();
            prop_assert!(found);
        }
    }
}

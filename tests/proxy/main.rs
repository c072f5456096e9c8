//! I/O: the reverse proxy over real sockets: real replicas behind it, real clients and hostile
//! bytes before it.
#![allow(clippy::disallowed_methods)]

mod harness;

mod balancing;
mod failures;
mod heads;
mod hostile;
mod lifetimes;
mod limits;
mod routes;
mod scaling;
mod streaming;

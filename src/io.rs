//! I/O: clock, disk, network and processes; the only module that may touch them.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod collector;

pub mod store;

pub mod recording;

pub mod artifact;

pub mod calendar;

pub mod plot;

pub mod actuator;

pub mod proxy;

pub mod service;

pub mod api;

pub mod command;

pub mod worker;

pub mod demo;

pub mod docker;

pub mod discovery;

pub mod atomic_file;

pub mod clock;

pub mod health;

pub mod memory;

pub mod signal;

pub mod top;

//! Pure: the tour of Foresail, modules in reading order.
//!
//! Samples become a [`series`]; the trainer fits a [`forecast`] model to it, with what a
//! [`calendar`] says of promotions and holidays; the [`planner`] turns demand and forecast into a
//! decision; the [`autoscaler`] is the one step machine that holds their state; the [`fleet`] turns
//! a decision into commands for named replicas; the [`balancer`] chooses among those that are
//! ready. The [`simulator`] replays recorded load through the same step. [`config`] is text to
//! validated values, and [`io`] is the only place with clock, disk and network.

pub mod series;

pub mod forecast;

pub mod calendar;

pub mod planner;

pub mod autoscaler;

pub mod fleet;

pub mod balancer;

pub mod simulator;

pub mod config;

pub mod io;

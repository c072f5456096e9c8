//! I/O: the commands of the command line, one per file: clap arguments and a `run`.

pub mod backtest;
mod batch;
pub mod compare;
pub mod config;
pub mod demo;
#[cfg(test)]
mod files;
pub mod forecast;
pub mod import;
pub mod models;
mod output;
mod page;
pub mod plan;
mod recorded;
pub mod serve;
pub mod top;
pub mod train;
pub mod worker;

use std::fmt;

/// How a command prints its result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Format {
    #[default]
    Table,
    Json,
}

/// Why a command failed; decides the exit code.
#[derive(Debug)]
pub enum CommandError {
    /// The user can mend it: exit code 2. The message says what is wrong, where, and what would be
    /// right.
    BadInput(String),
    /// Exit code 1.
    Failed(String),
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CommandError::BadInput(message) | CommandError::Failed(message) => f.write_str(message),
        }
    }
}

impl CommandError {
    pub fn exit_code(&self) -> u8 {
        match self {
            CommandError::BadInput(_) => 2,
            CommandError::Failed(_) => 1,
        }
    }
}

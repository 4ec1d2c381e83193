//! Measures how long servers and images take to answer, and scratch-server beside its peers. See README.md.
//!
//! Three layers: `measure` takes samples, `statistics` makes medians and ratios of them, `report` shows those. The
//! `parts` say what is sampled and know neither tables nor plots; `command` and `session` put the layers together for
//! the two kinds of command line.

mod cli;
mod command;
mod measure;
mod parts;
mod peers;
mod report;
mod session;
mod statistics;
mod suite;
mod verdict;
mod workshop;

use std::process::ExitCode;

use clap::Parser;

use cli::{Cli, Command};

/// How a run ended; see the exit codes in `cli`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Outcome {
    Complete = 0,
    GateClosed = 1,
    NothingMeasured = 3,
    SomethingLeftOut = 4,
}

/// clap's own.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    measure::process::play_role();
    measure::engine::play_role();
    let cli = Cli::parse();
    let outcome = match &cli.command {
        Some(Command::Measure(options)) => command::measure(options),
        None => suite::run(&cli.parts),
    };
    match outcome {
        Ok(outcome) => ExitCode::from(outcome as u8),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(USAGE)
        }
    }
}

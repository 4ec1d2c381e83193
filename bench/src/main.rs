//! Measures scratch-server beside the programs that people would run instead. See README.md.

mod cli;
mod client;
mod image;
mod latency;
mod launch;
mod load;
mod memory;
mod peers;
mod plot;
mod probe;
mod proc;
mod report;
mod session;
mod shutdown;
mod startup;
mod stats;
mod throughput;
mod verdict;
mod workers;

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;

use cli::{Options, Part};

fn main() -> ExitCode {
    launch::stand_guard_if_asked();
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<()> {
    let session = session::Session::prepare(options)?;
    let mut parts = Vec::new();
    for part in options.parts() {
        let measured = match part {
            Part::All => unreachable!("parts() has spelled it out"),
            Part::Startup => startup::measure(&session)?,
            Part::Throughput => throughput::measure(&session)?,
            Part::Latency => latency::measure(&session)?,
            Part::Workers => workers::measure(&session)?,
            Part::Memory => memory::measure(&session)?,
            Part::Shutdown => shutdown::measure(&session)?,
            Part::Probe => probe::measure(&session)?,
            Part::Image => image::measure(&session)?,
        };
        println!("\n{}", report::show(&measured));
        parts.push(measured);
    }
    let verdicts = verdict::judge(&session, &parts, options.is_all());
    if !verdicts.is_empty() {
        println!(
            "\nwhat the figures must reach\n{}",
            verdict::table(&verdicts)
        );
    }
    report::write(&session, &parts, &verdicts)
}

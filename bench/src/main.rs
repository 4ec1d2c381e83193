//! Measures scratch-server beside the programs that people would run instead. See README.md.

mod cli;
mod client;
mod launch;
mod load;
mod peers;
mod proc;
mod report;
mod session;
mod startup;
mod stats;
mod throughput;

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;

fn main() -> ExitCode {
    launch::hidden_roles();
    match run(&cli::Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &cli::Options) -> Result<()> {
    let session = session::Session::prepare(options)?;
    let mut parts = Vec::new();
    for part in options.parts() {
        let measured = match part {
            cli::Part::Startup => startup::measure(&session)?,
            cli::Part::Throughput => throughput::measure(&session)?,
            _ => continue,
        };
        println!("\n{}", report::show(&measured));
        parts.push(measured);
    }
    report::write(&session, &parts)?;
    Ok(())
}

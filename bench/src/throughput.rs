//! Requests a second and CPU a request, with as much load as there can be.

use std::time::Duration;

use anyhow::Result;

use crate::{
    launch::pin,
    load::{self, Pace},
    peers::Target,
    proc,
    report::Measured,
    session::{Server, Session},
};

/// Caches, branch predictors and allocators settle well within it.
pub const WARM_UP: Duration = Duration::from_millis(200);

pub fn measure(session: &Session) -> Result<Measured> {
    let rounds = session.options.rounds(15, 1);
    let (mut rates, mut costs) = (Vec::new(), Vec::new());
    let mut notes = Vec::new();

    for &connections in &session.options.connections {
        let mut rate = session.metric(&format!("req/s, {connections}"), "");
        let mut cpu = session.metric(&format!("CPU/req, {connections}"), "µs");
        let able = |target: &Target| {
            target.traits.keep_alive && (connections == 1 || target.traits.concurrent)
        };
        let what = format!("throughput, {connections} connections");
        notes.extend(session.each_target(&what, rounds, able, |round, target| {
            let server = session.start(target, &[session.cores.server], 1, false)?;
            let sample = saturate(session, &server, connections, &[session.cores.load])?;
            rate.record(target, round, sample.rate);
            cpu.record(target, round, sample.cpu_micros);
            Ok(())
        }));
        rates.push(rate.with_ratio());
        costs.push(cpu.with_ratio());
    }
    pin(&session.cores.all);
    let generator = match session.wrk() {
        Some(_) => "wrk",
        None => "own load generator: wrk was not found",
    };
    Ok(Measured {
        part: "throughput",
        title: format!(
            "one worker on core {}, load from core {} ({generator}), {rounds} rounds of {:?}",
            session.cores.server,
            session.cores.load,
            session.options.load_time()
        ),
        tables: vec![rates, costs],
        notes,
    })
}

pub struct Sample {
    /// Requests a second.
    pub rate: f64,
    pub cpu_micros: f64,
}

/// Load from the calling thread and wrk, confined to `cores`.
pub fn saturate(
    session: &Session,
    server: &Server,
    connections: usize,
    cores: &[usize],
) -> Result<Sample> {
    pin(cores);
    load::drive(server.port, connections, Pace::Saturate, WARM_UP)?;
    let group = server.running.group();
    let before = proc::total(group, proc::cpu)?;
    let duration = session.options.load_time();
    let (requests, seconds) = match session.wrk() {
        Some(wrk) => load::wrk(&wrk, server.port, connections, duration, cores)?,
        None => {
            let outcome = load::drive(server.port, connections, Pace::Saturate, duration)?;
            (outcome.requests, outcome.seconds)
        }
    };
    let cpu = proc::total(group, proc::cpu)?.saturating_sub(before);
    Ok(Sample {
        rate: requests as f64 / seconds,
        cpu_micros: cpu as f64 / 1e3 / requests as f64,
    })
}

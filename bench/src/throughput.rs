//! Requests a second, CPU a request, and latency at a fixed rate.

use std::time::Duration;

use anyhow::Result;

use crate::{
    launch::pin,
    load::{self, Pace},
    peers::Target,
    proc,
    report::{Measured, Metric},
    session::{Server, Session},
};

const CONNECTIONS: [usize; 3] = [1, 32, 256];
/// Caches, branch predictors and allocators settle well within it.
const WARM_UP: Duration = Duration::from_millis(200);

pub fn measure(session: &Session) -> Result<Measured> {
    let rounds = session.options.rounds(7, 3);
    let (mut rates, mut costs) = (Vec::new(), Vec::new());
    let mut notes = Vec::new();

    for connections in CONNECTIONS {
        let mut rate = session.metric(&format!("req/s, {connections}"), "");
        let mut cpu = session.metric(&format!("CPU/req, {connections}"), "µs");
        let able = |target: &Target| {
            target.traits.keep_alive && (connections == 1 || target.traits.concurrent)
        };
        let what = format!("throughput, {connections} connections");
        notes.extend(session.interleave(&what, rounds, able, |round, target| {
            let server = session.start(target, &[session.cores.server], 1, false)?;
            let sample = saturate(session, &server, connections, &[session.cores.load])?;
            rate.record(target, round, sample.rate);
            cpu.record(target, round, sample.cpu_micros);
            Ok(())
        }));
        rates.push(rate.with_ratio());
        costs.push(cpu.with_ratio());
    }
    let (latencies, failed) = latency(session, rounds);
    notes.extend(failed);
    let (gain, failed) = two_workers(session, rounds);
    notes.extend(failed);
    pin(&session.cores.all);
    let generator = if session.wrk().is_some() {
        "wrk"
    } else {
        "own load generator: wrk was not found"
    };
    Ok(Measured {
        part: "throughput",
        title: format!(
            "one worker on core {}, load from core {} ({generator}), {rounds} rounds of {:?}",
            session.cores.server,
            session.cores.load,
            session.options.load_time()
        ),
        tables: vec![rates, costs, latencies, vec![gain]],
        notes,
    })
}

struct Sample {
    rate: f64,
    cpu_micros: f64,
}

fn saturate(
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

fn latency(session: &Session, rounds: usize) -> (Vec<Metric>, Vec<String>) {
    let rate = session.options.rate;
    let quantiles = [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999)];
    let mut columns =
        quantiles.map(|(name, _)| session.metric(&format!("{name} at {rate}/s"), "µs"));
    let able = |target: &Target| target.traits.keep_alive && target.traits.concurrent;
    let notes = session.interleave("latency, 32 connections", rounds, able, |round, target| {
        let server = session.start(target, &[session.cores.server], 1, false)?;
        pin(&[session.cores.load]);
        load::drive(server.port, 32, Pace::Saturate, WARM_UP)?;
        let outcome = load::drive(
            server.port,
            32,
            Pace::Rate(rate),
            session.options.load_time(),
        )?;
        for (column, (_, quantile)) in columns.iter_mut().zip(quantiles) {
            column.record(
                target,
                round,
                outcome.latency.value_at_quantile(quantile) as f64 / 1e3,
            );
        }
        Ok(())
    });
    (columns.into(), notes)
}

/// The gain of a second worker, both times with the same two cores. Where there are more than two,
/// load comes from the others; else it shares them, which is the same for all.
fn two_workers(session: &Session, rounds: usize) -> (Metric, Vec<String>) {
    let cores = &session.cores;
    let second = cores
        .all
        .iter()
        .rev()
        .copied()
        .find(|&core| core != cores.server && core != cores.load);
    let servers = [cores.server, second.unwrap_or(cores.load)];
    let others: Vec<usize> = cores
        .all
        .iter()
        .copied()
        .filter(|core| !servers.contains(core))
        .take(2)
        .collect();
    let load_cores = if others.is_empty() {
        servers.to_vec()
    } else {
        others
    };

    let mut gain = session.metric("2 workers beside 1, 256", "×");
    let able = |target: &Target| target.traits.workers && target.traits.concurrent;
    let notes = session.interleave(
        "two workers, 256 connections",
        rounds,
        able,
        |round, target| {
            let rate = |workers| -> Result<f64> {
                let server = session.start(target, &servers, workers, false)?;
                Ok(saturate(session, &server, 256, &load_cores)?.rate)
            };
            // Which comes first alternates, like the order of targets.
            let (one, two) = if round % 2 == 0 {
                let one = rate(1)?;
                (one, rate(2)?)
            } else {
                let two = rate(2)?;
                (rate(1)?, two)
            };
            gain.record(target, round, two / one);
            Ok(())
        },
    );
    (gain, notes)
}

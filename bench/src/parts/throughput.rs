//! Requests a second and CPU a request, with as much load as there can be.

use std::{collections::BTreeMap, time::Duration};

use anyhow::Result;

use crate::{
    measure::{
        cores::{Cores, pin},
        load::{self, Pace},
        process::find,
        samples::Measured,
    },
    peers::{
        Target,
        Trait::{Concurrent, KeepAlive},
    },
    session::{Server, Session},
};

/// Caches, branch predictors and allocators settle well within it.
pub const WARM_UP: Duration = Duration::from_millis(200);

pub fn measure(session: &Session) -> Measured {
    let rounds = session.options.rounds(15, 1);
    let (mut rates, mut costs) = (Vec::new(), Vec::new());
    let mut left_out = BTreeMap::new();
    for &connections in &session.options.connections {
        let mut rate = session.metric(&format!("req/s, {connections}"), "");
        let mut cpu = session.metric(&format!("CPU/req, {connections}"), "µs");
        let able = |target: &Target| {
            target.can(if connections == 1 {
                &[KeepAlive]
            } else {
                &[KeepAlive, Concurrent]
            })
        };
        let what = format!("throughput, {connections} connections");
        left_out.extend(session.each_target(&what, rounds, able, |round, target| {
            let mut server = session.start(target, &session.cores, 1, false)?;
            let sample = saturate(session, &mut server, connections, &session.cores)?;
            rate.record(&target.peer.name, round, sample.rate);
            cpu.record(&target.peer.name, round, sample.cpu_micros);
            Ok(())
        }));
        rates.push(rate.with_ratio());
        costs.push(cpu.with_ratio());
    }
    let generator = find("wrk").map_or("own load generator: wrk was not found", |_| "wrk");
    Measured {
        title: format!(
            "one worker on core {:?}, load from core {:?} ({generator}), {rounds} rounds of {:?}",
            session.cores.server,
            session.cores.load,
            session.options.load_time()
        ),
        tables: vec![rates, costs],
        left_out,
        ..Measured::default()
    }
}

pub struct Sample {
    /// Requests a second.
    pub rate: f64,
    pub cpu_micros: f64,
}

/// Load from the calling thread and wrk, confined to the cores of the load.
pub fn saturate(
    session: &Session,
    server: &mut Server,
    connections: usize,
    cores: &Cores,
) -> Result<Sample> {
    pin(&cores.load);
    load::drive(server.port, connections, Pace::Saturate, WARM_UP)?;
    let before = server.running.used()?.cpu;
    let duration = session.options.load_time();
    let (requests, rate) = match find("wrk") {
        Ok(wrk) => load::wrk(&wrk, server.port, connections, duration, cores)?,
        Err(_) => {
            let outcome = load::drive(server.port, connections, Pace::Saturate, duration)?;
            (
                outcome.requests,
                outcome.requests as f64 / duration.as_secs_f64(),
            )
        }
    };
    let cpu = server.running.used()?.cpu.saturating_sub(before);
    Ok(Sample {
        rate,
        cpu_micros: cpu as f64 / 1e3 / requests as f64,
    })
}

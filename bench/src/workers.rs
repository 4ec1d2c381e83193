//! What a second worker gains.

use anyhow::Result;

use crate::{launch::pin, peers::Target, report::Measured, session::Session, throughput::saturate};

const CONNECTIONS: usize = 256;

pub fn measure(session: &Session) -> Result<Measured> {
    let rounds = session.options.rounds(15, 1);
    let (servers, load) = cores(session);
    let mut one_worker = session.metric("1 worker", "req/s");
    let mut two_workers = session.metric("2 workers", "req/s");
    let mut gain = session.metric("gain", "×");

    let able = |target: &Target| target.traits.workers && target.traits.concurrent;
    let notes = session.each_target("workers", rounds, able, |round, target| {
        let rate = |workers| -> Result<f64> {
            let server = session.start(target, &servers, workers, false)?;
            Ok(saturate(session, &server, CONNECTIONS, &load)?.rate)
        };
        // Which comes first alternates, like the order of targets.
        let (one, two) = if round % 2 == 0 {
            let one = rate(1)?;
            (one, rate(2)?)
        } else {
            let two = rate(2)?;
            (rate(1)?, two)
        };
        one_worker.record(target, round, one);
        two_workers.record(target, round, two);
        gain.record(target, round, two / one);
        Ok(())
    });
    pin(&session.cores.all);
    Ok(Measured {
        part: "workers",
        title: format!(
            "{CONNECTIONS} connections, server on cores {servers:?}, load from {load:?}, {rounds} \
             rounds of {:?}",
            session.options.load_time()
        ),
        tables: vec![vec![one_worker, two_workers, gain]],
        notes,
    })
}

/// Two cores for the server, both times. Load comes from others; a machine that has only two gives
/// it the same ones, which is the same for all.
fn cores(session: &Session) -> (Vec<usize>, Vec<usize>) {
    let cores = &session.cores;
    let is_free = |core: &usize| ![cores.server, cores.load].contains(core);
    let second = cores
        .all
        .iter()
        .rev()
        .copied()
        .find(is_free)
        .unwrap_or(cores.load);
    let servers = vec![cores.server, second];
    let others: Vec<usize> = cores
        .all
        .iter()
        .copied()
        .filter(|core| !servers.contains(core))
        .take(2)
        .collect();
    let load = if others.is_empty() {
        servers.clone()
    } else {
        others
    };
    (servers, load)
}

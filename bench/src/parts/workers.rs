//! What a second worker gains.

use anyhow::Result;

use crate::{
    measure::{cores::Cores, samples::Measured},
    peers::{
        Target,
        Trait::{Concurrent, Workers},
    },
    session::Session,
};

use super::throughput::saturate;

const CONNECTIONS: usize = 256;

pub fn measure(session: &Session) -> Measured {
    let rounds = session.options.rounds(15, 1);
    let cores = two_for_servers(&session.cores);
    let mut one_worker = session.metric("1 worker", "req/s");
    let mut two_workers = session.metric("2 workers", "req/s");
    let mut gain = session.metric("gain", "×");
    let able = |target: &Target| target.can(&[Workers, Concurrent]);
    let left_out = session.each_target("workers", rounds, able, |round, target| {
        let rate = |workers| -> Result<f64> {
            let mut server = session.start(target, &cores, workers, false)?;
            Ok(saturate(session, &mut server, CONNECTIONS, &cores)?.rate)
        };
        // Which comes first alternates, like the order of targets.
        let (one, two) = if round % 2 == 0 {
            let one = rate(1)?;
            (one, rate(2)?)
        } else {
            let two = rate(2)?;
            (rate(1)?, two)
        };
        one_worker.record(&target.peer.name, round, one);
        two_workers.record(&target.peer.name, round, two);
        gain.record(&target.peer.name, round, two / one);
        Ok(())
    });
    Measured {
        title: format!(
            "{CONNECTIONS} connections, server on cores {:?}, load from {:?}, {rounds} rounds of {:?}",
            cores.server,
            cores.load,
            session.options.load_time()
        ),
        tables: vec![vec![one_worker, two_workers, gain]],
        left_out,
        ..Measured::default()
    }
}

/// Two cores for the server, both times. Load comes from others; a machine that has only two gives it the same ones,
/// which is the same for all.
fn two_for_servers(cores: &Cores) -> Cores {
    let taken = [cores.server[0], cores.load[0]];
    let second = cores
        .all
        .iter()
        .rev()
        .copied()
        .find(|core| !taken.contains(core))
        .unwrap_or(cores.load[0]);
    let server = vec![cores.server[0], second];
    let others: Vec<usize> = cores
        .all
        .iter()
        .copied()
        .filter(|core| !server.contains(core))
        .take(2)
        .collect();
    let load = if others.is_empty() {
        server.clone()
    } else {
        others
    };
    Cores {
        server,
        load,
        all: cores.all.clone(),
    }
}

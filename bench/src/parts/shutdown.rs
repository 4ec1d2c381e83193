//! From SIGTERM to exit.

use std::{thread, time::Duration};

use anyhow::{Context, Result};
use nix::sys::signal::Signal;

use crate::{
    measure::{process::now, samples::Measured},
    peers::{
        Target,
        Trait::{Concurrent, KeepAlive},
    },
    session::Session,
};

use super::memory;

pub const IDLE: &str = "idle";
pub const BUSY: &str = "1000 keep-alive connections";
const CONNECTIONS: usize = 1_000;
/// After ten seconds Docker kills.
const LIMIT: Duration = Duration::from_secs(10);

pub fn measure(session: &Session) -> Measured {
    let mut idle = session.metric(IDLE, "ms");
    let mut busy = session.metric(BUSY, "ms");
    let rounds = session.options.rounds(11, 3);
    let mut left_out = session.each_target(
        "shutdown, idle",
        rounds,
        |_| true,
        |round, target| {
            idle.record(&target.peer.name, round, terminate(session, target, 0)?);
            Ok(())
        },
    );
    let able = |target: &Target| target.can(&[KeepAlive, Concurrent]);
    left_out.extend(
        session.each_target("shutdown, connections", rounds, able, |round, target| {
            busy.record(
                &target.peer.name,
                round,
                terminate(session, target, CONNECTIONS)?,
            );
            Ok(())
        }),
    );
    Measured {
        title: format!("SIGTERM to exit, connections idle after one request, {rounds} rounds"),
        tables: vec![vec![idle, busy]],
        left_out,
        ..Measured::default()
    }
}

fn terminate(session: &Session, target: &Target, connections: usize) -> Result<f64> {
    let mut server = session.start(target, &session.cores, 1, connections > 0)?;
    let mut open = Vec::new();
    memory::open(server.port, &mut open, connections, true)?;
    thread::sleep(Duration::from_millis(50));
    let signalled = now();
    server.running.signal(Signal::SIGTERM)?;
    let ended = server.running.wait(LIMIT)?;
    let ended = ended.with_context(|| format!("still running {LIMIT:?} after SIGTERM"))?;
    Ok((ended.at - signalled) as f64 / 1e6)
}

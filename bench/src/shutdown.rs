//! From SIGTERM to exit.

use std::{thread, time::Duration};

use anyhow::{Context, Result};
use rustix::process::Signal;

use crate::{
    launch::{now, pin},
    memory,
    peers::Target,
    report::Measured,
    session::Session,
};

const CONNECTIONS: usize = 1_000;
/// After ten seconds Docker kills.
const LIMIT: Duration = Duration::from_secs(10);

pub fn measure(session: &Session) -> Result<Measured> {
    let mut idle = session.metric("idle", "ms");
    let mut busy = session.metric("1000 keep-alive connections", "ms");

    pin(&[session.cores.load]);
    let rounds = session.options.rounds(11, 3);
    let mut notes = session.each_target(
        "shutdown, idle",
        rounds,
        |_| true,
        |round, target| {
            idle.record(target, round, terminate(session, target, 0)?);
            Ok(())
        },
    );
    let able = |target: &Target| target.traits.keep_alive && target.traits.concurrent;
    notes.extend(
        session.each_target("shutdown, connections", rounds, able, |round, target| {
            busy.record(target, round, terminate(session, target, CONNECTIONS)?);
            Ok(())
        }),
    );
    pin(&session.cores.all);
    Ok(Measured {
        part: "shutdown",
        title: format!("SIGTERM to exit, connections idle after one request, {rounds} rounds"),
        tables: vec![vec![idle, busy]],
        notes,
    })
}

fn terminate(session: &Session, target: &Target, connections: usize) -> Result<f64> {
    let mut server = session.start(target, &[session.cores.server], 1, connections > 0)?;
    let mut open = Vec::new();
    memory::open(server.port, &mut open, connections, true)?;
    thread::sleep(Duration::from_millis(50));
    let signalled = now();
    server.running.signal(Signal::TERM)?;
    let ended = server
        .running
        .wait(LIMIT)?
        .with_context(|| format!("still running {LIMIT:?} after SIGTERM"))?;
    Ok((ended.at - signalled) as f64 / 1e6)
}

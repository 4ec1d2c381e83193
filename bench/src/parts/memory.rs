//! Memory of an idle server, and of each idle connection.

use std::{io::Write, net::TcpStream, thread, time::Duration};

use anyhow::{Result, ensure};

use crate::{
    measure::{client, proc, samples::Measured},
    peers::{
        Target,
        Trait::{Concurrent, KeepAlive},
    },
    session::{Server, Session},
};

/// The slope between them leaves out what a server needs once.
const FEW: usize = 1_000;
const MANY: usize = 8_000;
/// Long enough to settle, short enough for the deadlines that servers put on silent connections.
const SETTLE: Duration = Duration::from_secs(1);
/// After a burst, servers that give memory back take some time to.
const AFTER_BURST: Duration = Duration::from_secs(5);

pub fn measure(session: &Session) -> Measured {
    let mut idle = session.metric("PSS idle", "KiB");
    let mut silent = session.metric("connection, silent", "bytes");
    let mut asked = session.metric("connection, after a request", "bytes");
    let mut burst = session.metric("PSS after a burst", "KiB");
    let rounds = session.options.rounds(3, 1);
    let mut left_out = session.each_target(
        "memory, idle",
        rounds,
        |_| true,
        |round, target| {
            let server = session.start(target, &session.cores, 1, false)?;
            thread::sleep(SETTLE / 4);
            idle.record(&target.peer.name, round, pss(&server) / 1024.0);
            Ok(())
        },
    );
    let able = |target: &Target| target.can(&[KeepAlive, Concurrent]);
    for (what, metric, ask) in [
        ("silent", &mut silent, false),
        ("after a request", &mut asked, true),
    ] {
        let what = format!("memory, connections, {what}");
        left_out.extend(session.each_target(&what, rounds, able, |round, target| {
            let server = session.start(target, &session.cores, 1, true)?;
            metric.record(
                &target.peer.name,
                round,
                bytes_per_connection(&server, ask)?,
            );
            Ok(())
        }));
    }
    left_out.extend(
        session.each_target("memory, burst", rounds, able, |round, target| {
            let server = session.start(target, &session.cores, 1, true)?;
            burst.record(&target.peer.name, round, after_burst(&server)? / 1024.0);
            Ok(())
        }),
    );
    Measured {
        title: format!(
            "one worker; of a connection: the slope from {FEW} to {MANY}; burst: {MANY} requests at once, their \
             connections closed {AFTER_BURST:?} ago; {rounds} rounds"
        ),
        tables: vec![vec![idle, silent, asked, burst]],
        left_out,
        ..Measured::default()
    }
}

fn bytes_per_connection(server: &Server, ask: bool) -> Result<f64> {
    let mut connections = Vec::with_capacity(MANY);
    let mut pss_with = |count| -> Result<f64> {
        open(server.port, &mut connections, count, ask)?;
        thread::sleep(SETTLE);
        Ok(pss(server))
    };
    let (few, many) = (pss_with(FEW)?, pss_with(MANY)?);
    let closed = connections
        .iter()
        .filter(|connection| !is_open(connection))
        .count();
    ensure!(
        closed == 0,
        "{closed} of {MANY} connections were closed by the server"
    );
    Ok((many - few) / (MANY - FEW) as f64)
}

/// All are sent before the first answer is read.
fn after_burst(server: &Server) -> Result<f64> {
    let mut connections = Vec::with_capacity(MANY);
    open(server.port, &mut connections, MANY, false)?;
    for connection in &mut connections {
        connection.write_all(client::REQUEST)?;
    }
    for connection in &mut connections {
        client::read_response(connection)?;
    }
    drop(connections);
    thread::sleep(AFTER_BURST);
    Ok(pss(server))
}

/// Opens connections until there are `count`; each asks once if `ask`.
pub fn open(port: u16, connections: &mut Vec<TcpStream>, count: usize, ask: bool) -> Result<()> {
    while connections.len() < count {
        let mut connection = client::connect(port)?;
        if ask {
            client::exchange(&mut connection)?;
        } else if connections.len() % 100 == 99 {
            // A full accept queue would cost a second each.
            thread::sleep(Duration::from_millis(2));
        }
        connections.push(connection);
    }
    Ok(())
}

fn is_open(connection: &TcpStream) -> bool {
    let peek = || {
        connection.set_nonblocking(true)?;
        connection.peek(&mut [0])
    };
    peek().is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
}

fn pss(server: &Server) -> f64 {
    server.running.total(|pid| proc::memory(pid, "Pss")) as f64
}

//! A probe of a healthy server, from exec to exit.

use std::{fs, path::PathBuf, time::Duration};

use anyhow::{Context, Result, ensure};

use crate::{
    measure::{
        cores::Cores,
        process::{Program, Running, find},
        rounds::interleave,
        samples::{Measured, Metric},
    },
    peers::{self, Peer},
    session::Session,
};

use super::syscalls;

pub const TIME: &str = "exec to exit";
pub const OURS: &str = "healthcheck";
/// The same probe when it connects and asks nothing, which is what the floor does.
pub const OURS_CONNECT: &str = "healthcheck tcp://";
pub const FLOOR: &str = "c-connect";
/// What the exchange of a request and its answer adds, whatever program makes it.
pub const FLOOR_REQUEST: &str = "c-request";
const LIMIT: Duration = Duration::from_secs(10);

struct Probe {
    name: String,
    path: PathBuf,
    args: Vec<String>,
    /// Of a program that consists of one file.
    bytes: Option<u64>,
}

pub fn measure(session: &Session) -> Result<Measured> {
    let server = match &session.server {
        Some(path) => Peer::ours("probed", path),
        None => peers::all()?.remove(0),
    };
    let server = server.prepare(&session.shop).context("a server to probe")?;
    // The probe has the core that is measured to itself.
    let cores = &session.cores;
    let loaded = Cores {
        server: cores.load.clone(),
        ..cores.clone()
    };
    let server = session.start(&server, &loaded, 1, false)?;
    let mut notes = Vec::new();
    let probes = find_probes(session, server.port, &mut notes)?;
    let names: Vec<String> = probes.iter().map(|probe| probe.name.clone()).collect();
    let metric = |name, unit| Metric::new(name, unit, &names);
    let (mut time, mut faults) = (metric(TIME, "ms").with_ratio(), metric("page faults", ""));
    let (mut calls, mut bytes) = (metric("system calls", ""), metric("bytes", ""));
    let program = |probe: &Probe| {
        let program = Program::new(&probe.path)
            .args(&probe.args)
            .env("PORT", server.port);
        program.env("LISTEN", format!("127.0.0.1:{}", server.port))
    };
    let rounds = session.options.rounds(201, 51);
    let left_out = interleave(
        "probe",
        rounds,
        &probes,
        |probe| &probe.name,
        |round, probe| {
            let mut running = Running::start(&program(probe), cores)?;
            let ended = running.wait(LIMIT)?.context("it did not end")?;
            ensure!(
                ended.code == Some(0),
                "exit code {:?}: {}",
                ended.code,
                running.last_lines()
            );
            time.record(
                &probe.name,
                round,
                (ended.at - running.executed()?.at) as f64 / 1e6,
            );
            faults.record(&probe.name, round, running.used()?.faults as f64);
            Ok(())
        },
    );
    let strace = find("strace");
    if let Err(error) = &strace {
        notes.push(format!("system calls: {error}"));
    }
    for probe in &probes {
        if let Some(size) = probe.bytes {
            bytes.record(&probe.name, 0, size as f64);
        }
        if strace.is_ok() {
            let log = session.shop.directory().join("strace");
            let count = syscalls::count(&program(probe), &log, cores, || Ok(()))?;
            calls.record(&probe.name, 0, count as f64);
        }
    }
    Ok(Measured {
        title: format!("exec to exit on core {:?}, {rounds} rounds", cores.server),
        tables: vec![vec![time, faults, calls, bytes]],
        notes,
        left_out,
        ..Measured::default()
    })
}

fn find_probes(session: &Session, port: u16, notes: &mut Vec<String>) -> Result<Vec<Probe>> {
    let mut probes = Vec::new();
    let product = session
        .healthcheck
        .clone()
        .filter(|_| !session.options.only)
        .map(|path| (OURS.to_owned(), path));
    for (name, path) in product
        .into_iter()
        .chain(session.options.probe_variants.iter().cloned())
    {
        let path = session.shop.keep(&name, &path)?;
        let bytes = Some(fs::metadata(&path)?.len());
        let connect = Probe {
            name: OURS_CONNECT.to_owned(),
            path: path.clone(),
            args: vec![format!("tcp://127.0.0.1:{port}")],
            bytes: None,
        };
        let connect = (name == OURS).then_some(connect);
        probes.push(Probe {
            name,
            path,
            args: Vec::new(),
            bytes,
        });
        probes.extend(connect);
    }
    let url = format!("http://127.0.0.1:{port}/health");
    // As each is put into a HEALTHCHECK.
    let peers = [
        (FLOOR, session.shop.build_c("connect"), vec![]),
        (FLOOR_REQUEST, session.shop.build_c("request"), vec![]),
        ("c-nothing", session.shop.build_c("nothing"), vec![]),
        (
            "busybox wget",
            find("busybox"),
            vec!["wget", "-q", "-O", "/dev/null", &url],
        ),
        ("curl", find("curl"), vec!["-fsS", "-o", "/dev/null", &url]),
    ];
    for (name, path, args) in peers {
        match path {
            Ok(path) => {
                let bytes = name
                    .starts_with("c-")
                    .then(|| fs::metadata(&path))
                    .transpose()?
                    .map(|file| file.len());
                let args = args.into_iter().map(str::to_owned).collect();
                probes.push(Probe {
                    name: name.to_owned(),
                    path,
                    args,
                    bytes,
                });
            }
            Err(error) => notes.push(format!("{name}: {error:#}")),
        }
    }
    Ok(probes)
}

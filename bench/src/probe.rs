//! A probe of a healthy server, from exec to exit.

use std::{fs, path::PathBuf, time::Duration};

use anyhow::{Context, Result, ensure};

use crate::{
    launch::{Capture, Program, Running, pin},
    peers::{PEERS, Target, find},
    report::{Measured, Metric},
    session::{PRODUCT, Session, interleave},
    startup::count_syscalls,
};

pub const OURS: &str = "healthcheck";
/// The same probe when it connects and asks nothing, which is what the floor does.
pub const OURS_CONNECT: &str = "healthcheck tcp://";
pub const FLOOR: &str = "c-connect";
/// What the exchange of a request and its answer adds, whoever makes it.
pub const FLOOR_REQUEST: &str = "c-request";
const LIMIT: Duration = Duration::from_secs(10);

struct Probe {
    name: String,
    path: PathBuf,
    args: Vec<String>,
    bytes: Option<u64>,
}

pub fn measure(session: &Session) -> Result<Measured> {
    let server = match &session.server {
        Some(path) => Target::ours(PRODUCT, path, &session.shop),
        None => PEERS[0].1(&session.shop),
    };
    let server = server.context("a server to probe")?;
    // The probe has the core that is measured to itself.
    let server = session.start(&server, &[session.cores.load], 1, false)?;
    let mut notes = Vec::new();
    let probes = find_probes(session, server.port, &mut notes)?;
    let names: Vec<String> = probes.iter().map(|probe| probe.name.clone()).collect();
    let metric = |name, unit| Metric::new(name, unit, names.clone());
    let (mut time, mut faults) = (metric("exec to exit", "µs"), metric("page faults", ""));
    let (mut syscalls, mut bytes) = (metric("syscalls", ""), metric("bytes", ""));

    pin(&[session.cores.server]);
    let rounds = session.options.rounds(201, 51);
    let all: Vec<&Probe> = probes.iter().collect();
    let program = |probe: &Probe| {
        Program::new(&probe.path)
            .args(&probe.args)
            .env("PORT", server.port)
            .env("LISTEN", format!("127.0.0.1:{}", server.port))
    };
    notes.extend(interleave(
        "probe",
        rounds,
        &all,
        |probe| &probe.name,
        |round, probe| {
            let mut running =
                Running::start(&program(probe), &[session.cores.server], Capture::Nothing)?;
            let ended = running.wait(LIMIT)?.context("did not end")?;
            let exec = running.exec()?;
            ensure!(ended.status.success(), "{}", ended.status);
            time.record_named(&probe.name, round, (ended.at - exec.at) as f64 / 1e3);
            faults.record_named(
                &probe.name,
                round,
                ended.faults.saturating_sub(exec.faults_before) as f64,
            );
            Ok(())
        },
    ));
    if find("strace").is_err() {
        notes.push("syscalls: strace is not installed".to_owned());
    }
    for probe in &probes {
        if let Some(size) = probe.bytes {
            bytes.record_named(&probe.name, 0, size as f64);
        }
        if find("strace").is_ok() {
            let log = session.shop.directory.join("strace-probe");
            let count = count_syscalls(&program(probe), &log, &session.cores.all, || Ok(()))?;
            syscalls.record_named(&probe.name, 0, count as f64);
        }
    }
    pin(&session.cores.all);
    Ok(Measured {
        part: "probe",
        title: format!(
            "exec to exit on core {}, {rounds} rounds",
            session.cores.server
        ),
        tables: vec![vec![time.with_ratio(), faults, syscalls, bytes]],
        notes,
    })
}

fn find_probes(session: &Session, port: u16, notes: &mut Vec<String>) -> Result<Vec<Probe>> {
    let product = session
        .healthcheck
        .clone()
        .map(|path| (OURS.to_owned(), path));
    let ours = product
        .into_iter()
        .chain(session.options.probe_variants.iter().cloned());
    let mut probes = Vec::new();
    for (name, path) in ours {
        let path = session.shop.keep(&name, &path)?;
        let bytes = Some(fs::metadata(&path)?.len());
        let connect = (name == OURS).then(|| Probe {
            name: OURS_CONNECT.to_owned(),
            path: path.clone(),
            args: vec![format!("tcp://127.0.0.1:{port}")],
            bytes: None,
        });
        probes.push(Probe {
            name,
            path,
            args: Vec::new(),
            bytes,
        });
        probes.extend(connect);
    }
    let url = format!("http://127.0.0.1:{port}/health");
    let peers = [
        (FLOOR, session.shop.build_c("connect"), vec![]),
        (FLOOR_REQUEST, session.shop.build_c("request"), vec![]),
        ("c-nothing", session.shop.build_c("nothing"), vec![]),
        // As each is put into a HEALTHCHECK. A shared library's size is not the probe's: no bytes.
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
                let args = args.into_iter().map(str::to_owned).collect();
                let bytes = if name.starts_with("c-") {
                    Some(fs::metadata(&path)?.len())
                } else {
                    None
                };
                probes.push(Probe {
                    name: name.to_owned(),
                    path,
                    args,
                    bytes,
                });
            }
            Err(error) => notes.push(format!("left out: {name}: {error:#}")),
        }
    }
    Ok(probes)
}

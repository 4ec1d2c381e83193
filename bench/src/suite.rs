//! `startup`, `throughput` and the others: the product beside its peers.

use std::{fs, path::Path};

use anyhow::Result;

use crate::{
    Outcome,
    cli::{Part, PartOptions},
    measure::{
        client::Url,
        engine::Engine,
        samples::{Measured, Metric},
    },
    parts::{
        image::{self, Candidate},
        latency, memory, probe, shutdown, startup, syscalls, throughput, workers,
    },
    peers::Role,
    report::{self, svg},
    session::{LIMIT, PRODUCT, Session, TINY},
    verdict,
    workshop::{MUSL_GCC, c_compiler},
};

/// File, title, part, metric, and the row that is emphasised.
const PLOTS: [(&str, &str, &str, &str, &str); 4] = [
    (
        "startup.svg",
        "Start-up: exec to the first 200, one core",
        "startup",
        startup::FIRST_ANSWER,
        PRODUCT,
    ),
    (
        "throughput.svg",
        "CPU time a request, 32 keep-alive connections, one core",
        "throughput",
        "CPU/req, 32",
        PRODUCT,
    ),
    (
        "memory.svg",
        "Memory of an idle keep-alive connection, after a request",
        "memory",
        "connection, after a request",
        PRODUCT,
    ),
    (
        "probe.svg",
        "Health probe: exec to exit",
        "probe",
        probe::TIME,
        probe::OURS,
    ),
];

pub fn run(options: &PartOptions) -> Result<Outcome> {
    let session = Session::prepare(options)?;
    let mut parts = Vec::new();
    for part in options.parts() {
        let (name, measured) = match part {
            Part::All => unreachable!("parts() has spelled it out"),
            Part::Startup => ("startup", measure_startup(&session)),
            Part::Throughput => ("throughput", throughput::measure(&session)),
            Part::Latency => ("latency", latency::measure(&session)),
            Part::Workers => ("workers", workers::measure(&session)),
            Part::Memory => ("memory", memory::measure(&session)),
            Part::Shutdown => ("shutdown", shutdown::measure(&session)),
            Part::Probe => ("probe", probe::measure(&session)?),
            Part::Image => ("image", measure_image(&session)),
        };
        let sources = session
            .targets
            .iter()
            .map(|target| (target.peer.name.clone(), target.version.clone()));
        let measured = Measured {
            part: name.to_owned(),
            sources: sources.collect(),
            ..measured
        };
        println!("\n{}", report::text(&measured));
        parts.push(measured);
    }
    for (name, why) in &session.missing {
        eprintln!("not found: {name}: {why}");
    }
    let directory = options
        .out
        .clone()
        .unwrap_or_else(|| session.shop.bench.join("target/results"));
    write(&session, &parts, &directory)?;
    Ok(outcome(&session, &parts))
}

fn measure_startup(session: &Session) -> Measured {
    let servers = session.targets.iter().map(|target| startup::Server {
        name: target.peer.name.clone(),
        source: target.version.clone(),
        start: Box::new(move |port| {
            let program = target.program(&session.shop, port, 1, false)?;
            Ok((program, Url::of_port(port)))
        }),
    });
    let plan = startup::Plan {
        rounds: session.options.rounds(101, 21),
        // Each has been started once, to see whether it answers.
        warmup: 0,
        cold: false,
        statuses: vec![200],
        limit: LIMIT,
        cores: session.cores.clone(),
    };
    let mut measured = startup::measure(servers.collect(), &plan);
    syscalls::add_to_startup(session, &mut measured);
    measured
}

/// The binaries are known where there is no engine too.
fn measure_image(session: &Session) -> Measured {
    let plan = image::Plan {
        rounds: session.options.rounds(11, 3),
        warmup: 1,
        statuses: vec![200],
        limit: LIMIT * 3,
        env: Vec::new(),
        port: None,
        path: "/".to_owned(),
    };
    let images = session.options.images.iter();
    let candidate = |image: &String| Candidate {
        name: image.clone(),
        words: vec![image.clone()],
    };
    let engine = Engine::find(None, &session.cores);
    let mut measured = image::measure(engine, images.map(candidate).collect(), &plan);
    let tiny = session.shop.directory().join(TINY);
    let built = [
        (
            PRODUCT,
            session.server.clone().zip(session.healthcheck.clone()),
        ),
        (TINY, Some((tiny.join("server"), tiny.join("healthcheck")))),
    ];
    let mut binaries = Metric::new(
        image::BINARIES,
        "bytes",
        &built.clone().map(|(name, _)| name.to_owned()),
    );
    for (name, files) in built {
        let bytes = |(server, healthcheck)| {
            Some(fs::metadata(server).ok()?.len() + fs::metadata(healthcheck).ok()?.len())
        };
        if let Some(bytes) = files.and_then(bytes) {
            binaries.record(name, 0, bytes as f64);
        }
    }
    measured.tables.push(vec![binaries]);
    measured
}

/// A JSON file for each part, the verdicts, and the plots of what was measured.
fn write(session: &Session, parts: &[Measured], directory: &Path) -> Result<()> {
    fs::create_dir_all(directory)?;
    for part in parts {
        fs::write(
            directory.join(&part.part).with_extension("json"),
            report::json(part)?,
        )?;
    }
    for (file, title, part, metric, emphasised) in PLOTS {
        let part = parts.iter().find(|measured| measured.part == part);
        if let Some(metric) = part.and_then(|measured| measured.metric(metric)) {
            fs::write(directory.join(file), svg::bars(title, metric, emphasised)?)?;
        }
    }
    let peers = session
        .targets
        .iter()
        .filter(|target| target.peer.role == Role::Peer);
    let peers: Vec<String> = peers.map(|target| target.peer.name.clone()).collect();
    let floors_count = c_compiler() == MUSL_GCC;
    if !floors_count {
        eprintln!("warning: {MUSL_GCC} is not installed: nothing is judged by the floors");
    }
    let mut verdicts = verdict::judge(parts, &peers, floors_count)?;
    verdicts.retain(|verdict| session.options.is_all() || verdict.pass.is_some());
    if !verdicts.is_empty() {
        println!(
            "\nwhat the figures must reach\n{}",
            verdict::table(&verdicts)
        );
    }
    if session.options.is_all() {
        fs::write(
            directory.join("verdict.json"),
            serde_json::to_string_pretty(&verdicts)? + "\n",
        )?;
    }
    eprintln!("wrote {}", directory.display());
    Ok(())
}

/// A peer that is not installed counts as left out if it was named.
fn outcome(session: &Session, parts: &[Measured]) -> Outcome {
    let options = session.options;
    let is_wanted = |name: &String| {
        let named = options
            .peers
            .as_ref()
            .is_some_and(|peers| peers.contains(name));
        named || name == PRODUCT || options.variants.iter().any(|(variant, _)| variant == name)
    };
    let is_complete =
        parts.iter().all(|part| part.left_out.is_empty()) && !session.missing.keys().any(is_wanted);
    match (parts.iter().any(Measured::has_samples), is_complete) {
        (false, _) => Outcome::NothingMeasured,
        (true, true) => Outcome::Complete,
        (true, false) => Outcome::SomethingLeftOut,
    }
}

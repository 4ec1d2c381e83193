//! Servers from exec to their first answer.

use std::{fs, thread, time::Duration};

use anyhow::Result;
use nix::unistd::sync;

use crate::measure::{
    client::{self, Url, Wanted},
    cores::Cores,
    proc,
    process::{Program, Running},
    rounds::{interleave, with_control},
    samples::{Measured, Metric},
};

/// The figure that ratios and gates are about.
pub const FIRST_ANSWER: &str = "first 200";

/// One to be measured.
pub struct Server<'a> {
    pub name: String,
    pub source: String,
    pub start: Start<'a>,
}

/// Gives the program that listens on a free port, and where to ask it.
pub type Start<'a> = Box<dyn Fn(u16) -> Result<(Program, Url)> + 'a>;

pub struct Plan {
    pub rounds: usize,
    /// Starts of each that are not counted. One that fails there is left out.
    pub warmup: usize,
    /// Whether the page cache is dropped before each start.
    pub cold: bool,
    pub statuses: Vec<u16>,
    pub limit: Duration,
    pub cores: Cores,
}

/// Of one start; times in milliseconds since exec.
pub struct Sample {
    pub listening: f64,
    pub answered: f64,
    pub cpu: f64,
    pub faults: f64,
    /// KiB: each process's own peak, so memory that processes share counts more than once.
    pub peak: f64,
}

pub fn measure(servers: Vec<Server>, plan: &Plan) -> Measured {
    let mut measured = Measured {
        part: "startup".into(),
        ..Measured::default()
    };
    let cold = plan.cold
        && match drop_page_cache() {
            Ok(()) => true,
            Err(error) => {
                measured.notes.push(format!(
                    "the runs are warm: the page cache may not be dropped here: {error}"
                ));
                false
            }
        };
    if plan.cores.are_shared() {
        measured
            .notes
            .push("server and client share one core: each takes time from the other".into());
    }
    measured.sources = servers
        .iter()
        .map(|server| (server.name.clone(), server.source.clone()))
        .collect();
    let once = |server: &Server| {
        if cold {
            drop_page_cache()?;
        }
        sample(server, plan)
    };
    let failed = interleave(
        "warm-up",
        plan.warmup,
        &servers,
        |server| &server.name,
        |_, server| once(server).map(drop),
    );
    let servers: Vec<&Server> = servers
        .iter()
        .filter(|server| !failed.contains_key(&server.name))
        .collect();
    measured.left_out = failed;
    if servers.is_empty() {
        return measured;
    }
    let (rows, control) = with_control(&servers, |server| &server.name);
    let names: Vec<String> = rows.iter().map(|(name, _)| name.clone()).collect();
    let mut answered = Metric::new(FIRST_ANSWER, "ms", &names).with_ratio();
    let mut listening = Metric::new("listening", "ms", &names);
    let mut waited = Metric::new("listening to 200", "ms", &names);
    let mut cpu = Metric::new("CPU time", "ms", &names);
    let mut faults = Metric::new("page faults", "", &names);
    let mut peak = Metric::new("peak memory", "KiB", &names);
    let failed = interleave(
        "start-up",
        plan.rounds,
        &rows,
        |(name, _)| name,
        |round, (name, server)| {
            let sample = once(server)?;
            answered.record(name, round, sample.answered);
            listening.record(name, round, sample.listening);
            waited.record(name, round, sample.answered - sample.listening);
            cpu.record(name, round, sample.cpu);
            faults.record(name, round, sample.faults);
            peak.record(name, round, sample.peak);
            Ok(())
        },
    );
    measured.left_out.extend(failed);
    let cache = if cold {
        "cold page cache"
    } else {
        "warm page cache"
    };
    measured.title = format!(
        "exec to the first answer, servers on core {:?}, client on {:?}, {cache}, {} rounds",
        plan.cores.server, plan.cores.load, plan.rounds
    );
    measured.tables = vec![vec![answered, listening, waited, cpu, faults, peak]];
    measured.control = Some(control);
    measured
}

fn sample(server: &Server, plan: &Plan) -> Result<Sample> {
    let (program, url) = (server.start)(client::free_port()?)?;
    client::ensure_free(&url)?;
    let mut running = Running::start(&program, &plan.cores)?;
    let shared = plan.cores.are_shared();
    let wanted = Wanted {
        url: &url,
        statuses: &plan.statuses,
        limit: plan.limit,
        pause: if shared {
            Duration::from_micros(50)
        } else {
            Duration::ZERO
        },
    };
    let answer = client::first_answer(&wanted, || running.check())
        .map_err(|error| running.explain(error))?;
    // At once, before it goes on to do other things.
    let used = running.used()?;
    let peak = running.total(|pid| proc::memory(pid, "VmHWM"));
    let since_exec = {
        let exec = running.executed()?.at;
        move |at: u64| at.saturating_sub(exec) as f64 / 1e6
    };
    Ok(Sample {
        listening: since_exec(answer.listening),
        answered: since_exec(answer.answered),
        cpu: used.cpu as f64 / 1e6,
        faults: used.faults as f64,
        peak: peak as f64 / 1024.0,
    })
}

/// Files that the kernel keeps in memory are read from the disk again. Only root may do that.
fn drop_page_cache() -> Result<()> {
    // What is not written yet is not dropped.
    sync();
    fs::write("/proc/sys/vm/drop_caches", "1")?;
    // The disk goes on for a moment.
    thread::sleep(Duration::from_millis(20));
    Ok(())
}

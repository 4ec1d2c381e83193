//! Images from `create` to their first answer, and to the end.

use std::{
    cell::Cell,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context, Result, bail};
use jiff::Timestamp;
use serde_json::Value;

use crate::measure::{
    client::{self, Url, Wanted},
    engine::{Container, Engine, Image, finish, watch_start},
    process::now,
    rounds::{interleave, with_control},
    samples::{Measured, Metric},
};

use super::startup::FIRST_ANSWER;

/// The metric of the product's own files.
pub const BINARIES: &str = "both binaries";

/// One to be measured.
pub struct Candidate {
    pub name: String,
    /// The image, and what to run in it instead of its own command.
    pub words: Vec<String>,
}

pub struct Plan {
    pub rounds: usize,
    pub warmup: usize,
    pub statuses: Vec<u16>,
    pub limit: Duration,
    pub env: Vec<(String, String)>,
    /// By default the one that an image exposes.
    pub port: Option<u16>,
    pub path: String,
}

/// Of one container; times in milliseconds.
struct Sample {
    create: f64,
    start: f64,
    /// Since the command `start` was executed.
    to_exec: Option<f64>,
    exec_to_listening: Option<f64>,
    listening_to_answer: Option<f64>,
    /// Since the command `create` was executed: what `run` takes.
    answered: f64,
    healthy: Option<Result<f64>>,
    stop: f64,
    exit_code: f64,
}

/// Without an engine all are left out.
pub fn measure(engine: Result<Engine>, candidates: Vec<Candidate>, plan: &Plan) -> Measured {
    let mut measured = Measured {
        part: "image".into(),
        ..Measured::default()
    };
    let engine = match &engine {
        Ok(engine) => engine,
        Err(error) => {
            let why = |candidate: Candidate| (candidate.name, format!("{error:#}"));
            measured.left_out = candidates.into_iter().map(why).collect();
            return measured;
        }
    };
    let mut found = Vec::new();
    for Candidate { name, words } in candidates {
        measured.sources.insert(name.clone(), words.join(" "));
        match engine.image(&words[0]) {
            Ok(image) => found.push((name, image, words)),
            Err(error) => drop(measured.left_out.insert(name, format!("{error:#}"))),
        }
    }
    let once =
        |(_, image, words): &(String, Image, Vec<String>)| sample(engine, image, words, plan);
    let failed = interleave(
        "warm-up",
        plan.warmup,
        &found,
        |(name, ..)| name,
        |_, one| once(one).map(drop),
    );
    found.retain(|(name, ..)| !failed.contains_key(name));
    measured.left_out.extend(failed);
    if found.is_empty() {
        return measured;
    }
    let (rows, control) = with_control(&found, |(name, ..)| name);
    let names: Vec<String> = rows.iter().map(|(name, _)| name.clone()).collect();
    let metric = |name| Metric::new(name, "ms", &names);
    let mut answered = metric(FIRST_ANSWER).with_ratio();
    let (mut create, mut start) = (metric("create"), metric("start"));
    let (mut to_exec, mut to_listening) = (metric("start to exec"), metric("exec to listening"));
    let (mut to_answer, mut healthy) = (metric("listening to 200"), metric("healthy"));
    let (mut stop, mut exit_code) = (metric("stop"), Metric::new("exit code", "", &names));
    let mut size = Metric::new("size", "bytes", &names);
    let failed = interleave(
        "images",
        plan.rounds,
        &rows,
        |(name, _)| name,
        |round, (name, one)| {
            let sample = once(one)?;
            answered.record(name, round, sample.answered);
            create.record(name, round, sample.create);
            start.record(name, round, sample.start);
            stop.record(name, round, sample.stop);
            exit_code.record(name, round, sample.exit_code);
            size.record(name, 0, one.1.bytes);
            let phases = [
                (&mut to_exec, sample.to_exec),
                (&mut to_listening, sample.exec_to_listening),
                (&mut to_answer, sample.listening_to_answer),
                (&mut healthy, sample.healthy.transpose()?),
            ];
            for (metric, time) in phases {
                if let Some(time) = time {
                    metric.record(name, round, time);
                }
            }
            Ok(())
        },
    );
    measured.left_out.extend(failed);
    if to_exec.samples(&names[0]).is_empty() {
        measured.notes.push(format!(
            "exec and listening cannot be seen: {} runs containers elsewhere",
            engine.name
        ));
    }
    measured.title = format!(
        "create to the first answer by way of a port on loopback, {}, {} rounds; healthy is since create as well",
        engine.name, plan.rounds
    );
    measured.tables = vec![
        vec![answered, create, to_exec, to_listening, to_answer],
        vec![start, healthy, stop, exit_code, size],
    ];
    measured.control = Some(control);
    measured
}

fn sample(engine: &Engine, image: &Image, words: &[String], plan: &Plan) -> Result<Sample> {
    let inner = plan
        .port
        .or(image.port)
        .context("the image does not expose one port: --container-port says which")?;
    let port = client::free_port()?;
    let url: Url = format!("http://127.0.0.1:{port}{}", plan.path).parse()?;
    let (container, created) = Container::create(engine, (port, inner), &plan.env, words)?;

    let (executed, done) = (AtomicBool::new(false), AtomicBool::new(false));
    let (started, answer, watched) = thread::scope(|scope| {
        let watcher = scope.spawn(|| watch_start(inner, &executed, &done));
        let answer = engine
            .start(&["start", &container.name])
            .and_then(|mut start| {
                // Not before: an engine's proxy accepts while the container has no network yet. It would have the kernel
                // look for an address that is not there, and look again after a second.
                let deadline = Instant::now() + plan.limit;
                let is_early = || !executed.load(Ordering::Relaxed) && Instant::now() < deadline;
                while is_early() && start.wait(Duration::from_micros(100))?.is_none() {}
                let wanted = Wanted {
                    url: &url,
                    statuses: &plan.statuses,
                    limit: plan.limit,
                    pause: Duration::from_micros(200),
                };
                // An engine that is asked often is slow at what it is doing.
                let (ended, next) = (
                    Cell::new(false),
                    Cell::new(Instant::now() + Duration::from_millis(500)),
                );
                let answer = client::first_answer(&wanted, || {
                    if !ended.get() && start.wait(Duration::ZERO)?.is_some() {
                        ended.set(true);
                    }
                    if ended.get() && Instant::now() >= next.get() {
                        ensure_runs(engine, &container)?;
                        next.set(Instant::now() + Duration::from_millis(500));
                    }
                    Ok(())
                });
                // An error of `start` says more than that nothing answered.
                let started = finish(start, plan.limit)?;
                let answer =
                    answer.map_err(|error| ensure_runs(engine, &container).err().unwrap_or(error));
                Ok((started, answer?))
            });
        done.store(true, Ordering::Relaxed);
        let watched = watcher.join().expect("the watcher does not panic");
        answer.map(|(started, answer)| (started, answer, watched))
    })?;

    let healthy = image
        .has_healthcheck
        .then(|| healthy_at(engine, &container, plan.limit));
    let state = engine.state(&container)?;
    // Somebody else's container may have been started at the same time.
    let is_ours = watched.pid.is_some() && state["Pid"].as_u64() == watched.pid;
    let executed = watched.executed.filter(|_| is_ours);
    let listening = watched.listening.filter(|_| is_ours);
    let stopped = engine.run(&["stop", &container.name])?;
    let exit_code = engine.state(&container)?["ExitCode"]
        .as_f64()
        .context("the container has no exit code")?;
    let between = |from: u64, to: u64| to.saturating_sub(from) as f64 / 1e6;
    Ok(Sample {
        create: between(created.executed, created.ended),
        start: between(started.executed, started.ended),
        to_exec: executed.map(|at| between(started.executed, at)),
        exec_to_listening: executed.zip(listening).map(|(from, to)| between(from, to)),
        listening_to_answer: listening.map(|from| between(from, answer.answered)),
        answered: between(created.executed, answer.answered),
        healthy: healthy.map(|at| Ok(between(created.executed, at?))),
        stop: between(stopped.executed, stopped.ended),
        exit_code,
    })
}

/// An error, with the last lines of its log, if the container has ended.
fn ensure_runs(engine: &Engine, container: &Container) -> Result<()> {
    let state = engine.state(container)?;
    if state["Status"] == "exited" {
        let logs = finish_logs(engine, container)?;
        bail!(
            "exited with code {} before it answered{logs}",
            state["ExitCode"]
        );
    }
    Ok(())
}

fn finish_logs(engine: &Engine, container: &Container) -> Result<String> {
    let mut logs = engine.start(&["logs", "--tail", "3", &container.name])?;
    logs.wait(Duration::from_secs(10))?;
    let last = logs.last_lines();
    Ok(if last.is_empty() {
        last
    } else {
        format!(": {last}")
    })
}

/// By the clock of the engine, which notes when a probe ended: looking late does not count.
fn healthy_at(engine: &Engine, container: &Container, limit: Duration) -> Result<u64> {
    let deadline = Instant::now() + limit;
    loop {
        let state = engine.state(container)?;
        let health = if state["Health"].is_object() {
            &state["Health"]
        } else {
            &state["Healthcheck"]
        };
        if health["Status"] == "healthy" {
            let probes = health["Log"]
                .as_array()
                .context("the engine has no log of probes")?;
            let passed = probes
                .iter()
                .find(|probe| probe["ExitCode"] == 0)
                .context("no probe has passed")?;
            return monotonic(&passed["End"]);
        }
        if Instant::now() > deadline {
            bail!(
                "was {} after {}",
                health["Status"],
                humantime::format_duration(limit)
            );
        }
        thread::sleep(Duration::from_millis(50));
    }
}

/// A date as a time of the clock that `now` reads.
fn monotonic(date: &Value) -> Result<u64> {
    let date: Timestamp = date.as_str().context("a probe without a date")?.parse()?;
    let ago = Timestamp::try_from(SystemTime::now())?.duration_since(date);
    Ok(now().saturating_sub_signed(ago.as_nanos() as i64))
}

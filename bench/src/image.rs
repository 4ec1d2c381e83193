//! The image: its size, and `docker run` to the first 200 and to healthy.

use std::{
    env, fs,
    io::{BufRead, BufReader},
    path::Path,
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, ensure};

use crate::{
    client,
    launch::{Capture, Program, Running, now},
    peers::find,
    report::{Measured, Metric},
    session::{PRODUCT, Session, interleave},
};

pub const BINARIES: &str = "both binaries";
/// What the names of containers start with; the benchmark's process id follows.
const CONTAINER: &str = "scratch-server-bench-";
const LIMIT: Duration = Duration::from_secs(30);

pub fn measure(session: &Session) -> Result<Measured> {
    let images = &session.options.images;
    // The binaries are known where there is no engine too.
    let names: Vec<String> = match images.iter().any(|image| image == PRODUCT) {
        true => images.clone(),
        false => [PRODUCT.to_owned()]
            .into_iter()
            .chain(images.iter().cloned())
            .collect(),
    };
    let metric = |name, unit| Metric::new(name, unit, names.clone());
    let mut binaries = metric(BINARIES, "bytes");
    let mut size = metric("image", "bytes");
    let mut answered = metric("docker run to first 200", "ms");
    let mut healthy = metric("to healthy", "ms");
    let mut notes = Vec::new();

    if let (Some(server), Some(healthcheck)) = (&session.server, &session.healthcheck) {
        let bytes = fs::metadata(server)?.len() + fs::metadata(healthcheck)?.len();
        binaries.record_named(PRODUCT, 0, bytes as f64);
    }
    let mut found = Vec::new();
    for image in images {
        match docker(&["image", "inspect", "--format", "{{.Size}}", image])
            .and_then(|text| Ok(text.parse::<f64>()?))
        {
            Ok(bytes) => {
                size.record_named(image, 0, bytes);
                found.push(image);
            }
            Err(error) => notes.push(format!("{image}: {error:#}")),
        }
    }
    if !found.is_empty() {
        remove_leftovers()?;
    }
    let rounds = session.options.rounds(11, 3);
    notes.extend(interleave(
        "image",
        rounds,
        &found,
        |image| image,
        |round, image| {
            let (first_200, health) = run(session, image, round)?;
            answered.record_named(image, round, first_200);
            if let Some(health) = health {
                healthy.record_named(image, round, health);
            }
            Ok(())
        },
    ));
    Ok(Measured {
        part: "image",
        title: format!("the binaries, and the image where an engine has it, {rounds} rounds"),
        tables: vec![vec![binaries, size, answered, healthy]],
        notes,
    })
}

/// Milliseconds from `docker run` to the first 200, and to healthy where there is a HEALTHCHECK.
fn run(session: &Session, image: &str, round: usize) -> Result<(f64, Option<f64>)> {
    let container = Container(format!(
        "scratch-server-bench-{}-{round}",
        std::process::id()
    ));
    let has_healthcheck = docker(&[
        "image",
        "inspect",
        "--format",
        "{{if .Config.Healthcheck}}yes{{end}}",
        image,
    ])? == "yes";
    let port = client::free_port()?;
    // Listening before the container runs, so that nothing has to be polled.
    let filter = format!("container={}", container.0);
    let events = Program::new(find("docker")?).args([
        "events",
        "--filter",
        &filter,
        "--filter",
        "event=health_status",
        "--format",
        "{{.Action}}",
    ]);
    let engine = [
        "HOME",
        "PATH",
        "DOCKER_HOST",
        "DOCKER_CONFIG",
        "DOCKER_CONTEXT",
    ];
    let events = engine
        .into_iter()
        .fold(events, |events, name| match env::var(name) {
            Ok(value) => events.env(name, value),
            Err(_) => events,
        });
    let mut events = Running::start(&events, &session.cores.all, Capture::Stdout)?;
    events.exec()?;
    std::thread::sleep(Duration::from_millis(200));

    let start = now();
    let publish = format!("127.0.0.1:{port}:8080");
    docker(&[
        "run",
        "--detach",
        "--name",
        &container.0,
        "--publish",
        &publish,
        image,
    ])?;
    client::wait_ready(port, LIMIT)?;
    let answered = (now() - start) as f64 / 1e6;
    if !has_healthcheck {
        return Ok((answered, None));
    }
    let stdout = events.stdout().context("the events")?;
    let waiting = std::thread::spawn(move || {
        let mut lines = BufReader::new(stdout).lines().map_while(Result::ok);
        lines
            .find(|line| line.ends_with(": healthy"))
            .map(|_| now())
    });
    while !waiting.is_finished() && now() < start + LIMIT.as_nanos() as u64 {
        std::thread::sleep(Duration::from_millis(1));
    }
    // Ends its output, and with it the thread.
    drop(events);
    let healthy = waiting
        .join()
        .expect("the thread does not panic")
        .context("it did not become healthy")?;
    Ok((answered, Some((healthy - start) as f64 / 1e6)))
}

/// Of runs that were killed: a container belongs to the engine, and ends with nobody.
fn remove_leftovers() -> Result<()> {
    let filter = format!("name=^{CONTAINER}");
    for name in docker(&["ps", "--all", "--filter", &filter, "--format", "{{.Names}}"])?.lines() {
        let pid = name
            .strip_prefix(CONTAINER)
            .and_then(|rest| rest.split('-').next());
        if pid.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            drop(Container(name.to_owned()));
        }
    }
    Ok(())
}

/// Dropping it removes it.
struct Container(String);

impl Drop for Container {
    fn drop(&mut self) {
        let _ = docker(&["rm", "--force", "--volumes", &self.0]);
    }
}

fn docker(args: &[&str]) -> Result<String> {
    let output = Command::new(find("docker")?).args(args).output()?;
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

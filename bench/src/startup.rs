//! From exec to the first 200, and the counts that do not depend on how busy the machine is.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    thread,
    time::Duration,
};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};

use crate::{
    client,
    launch::{Capture, Exec, Program, Running, now, pin},
    peers::{Setup, Target, find},
    proc,
    report::Measured,
    session::Session,
};

const LIMIT: Duration = Duration::from_secs(10);

pub fn measure(session: &Session) -> Result<Measured> {
    let mut connecting = session.metric("first 200", "µs");
    let mut cpu = session.metric("CPU of it", "µs");
    let mut faults = session.metric("page faults", "");
    let mut touched = session.metric("touched (RSS)", "KiB");
    let mut announced = session.metric("first 200, by log line", "µs");
    let mut syscalls = session.metric("syscalls", "");
    let mut notes = Vec::new();

    // What this thread starts begins on the core of servers: nothing has to migrate.
    pin(&[session.cores.server]);
    let rounds = session.options.rounds(101, 21);
    notes.extend(session.each_target(
        "startup by connecting",
        rounds,
        |_| true,
        |round, target| {
            let sample = by_connecting(session, target)?;
            connecting.record(target, round, sample.micros);
            cpu.record(target, round, sample.cpu_micros);
            faults.record(target, round, sample.faults);
            touched.record(target, round, sample.touched_kib);
            Ok(())
        },
    ));
    let announces = |target: &Target| target.traits.announces;
    notes.extend(session.each_target(
        "startup by log line",
        rounds.div_ceil(4),
        announces,
        |round, target| {
            announced.record(target, round, by_log_line(session, target)?);
            Ok(())
        },
    ));
    match find("strace") {
        Ok(_) => notes.extend(session.each_target(
            "syscalls",
            1,
            |_| true,
            |round, target| {
                syscalls.record(
                    target,
                    round,
                    syscalls_to_first_200(session, target)? as f64,
                );
                Ok(())
            },
        )),
        Err(error) => notes.push(format!("syscalls: {error}")),
    }
    pin(&session.cores.all);
    Ok(Measured {
        part: "startup",
        title: format!(
            "exec to first 200, core {} alone, {rounds} rounds",
            session.cores.server
        ),
        tables: vec![
            vec![
                connecting.with_ratio(),
                announced.with_ratio(),
                cpu.with_ratio(),
            ],
            vec![syscalls, faults, touched],
        ],
        notes,
    })
}

struct Sample {
    micros: f64,
    cpu_micros: f64,
    faults: f64,
    touched_kib: f64,
}

/// The client runs on its own core and is already trying when the server is started. A refused
/// connection is refused by the kernel on the client's core: the server does not notice.
fn by_connecting(session: &Session, target: &Target) -> Result<Sample> {
    let port = client::free_port()?;
    let program = program(session, target, port, false)?;
    let load_core = session.cores.load;
    thread::scope(|scope| {
        let client = scope.spawn(move || {
            pin(&[load_core]);
            client::first_200(port, LIMIT)
        });
        let mut running = Running::start(&program, &[session.cores.server], Capture::Nothing)?;
        let answered = client.join().expect("the client does not panic")?;
        let group = running.group();
        let (cpu, faults) = (
            proc::total(group, proc::cpu)?,
            proc::total(group, proc::faults)?,
        );
        let touched = proc::total(group, |pid| proc::memory(pid, "Rss"))?;
        let Exec {
            at,
            faults_before,
            cpu_before,
        } = running.exec()?;
        Ok(Sample {
            micros: micros(answered.saturating_sub(at)),
            cpu_micros: micros(cpu.saturating_sub(cpu_before)),
            faults: faults.saturating_sub(faults_before) as f64,
            touched_kib: touched as f64 / 1024.0,
        })
    })
}

/// The second way: the client sleeps until the server says that it listens, then asks once.
fn by_log_line(session: &Session, target: &Target) -> Result<f64> {
    let port = client::free_port()?;
    let program = program(session, target, port, true)?;
    let mut running = Running::start(&program, &[session.cores.server], Capture::Stderr)?;
    let stderr = running.stderr().context("stderr")?;
    let client = thread::spawn({
        let core = session.cores.load;
        move || {
            pin(&[core]);
            // Ends at the latest when the server is killed.
            let said = |line: String| {
                line.to_ascii_lowercase().contains("listening") || line.contains("Starting server")
            };
            let mut lines = BufReader::new(stderr).lines().map_while(Result::ok);
            lines
                .find(|line| said(line.clone()))
                .context("it never said that it listens")?;
            client::first_200(port, LIMIT)
        }
    });
    let deadline = now() + LIMIT.as_nanos() as u64;
    while !client.is_finished() && now() < deadline {
        thread::sleep(Duration::from_millis(1));
    }
    let at = running.exec()?.at;
    drop(running);
    let answered = client.join().expect("the client does not panic")?;
    Ok(micros(answered.saturating_sub(at)))
}

/// Until it rests after the first answer.
fn syscalls_to_first_200(session: &Session, target: &Target) -> Result<usize> {
    let port = client::free_port()?;
    let program = program(session, target, port, false)?;
    count_syscalls(
        &program,
        &session.directory(target).join("strace"),
        &session.cores.all,
        || {
            client::wait_ready(port, LIMIT)?;
            thread::sleep(Duration::from_millis(100));
            Ok(())
        },
    )
}

/// Runs a program under strace until `done` returns, and counts its system calls.
pub fn count_syscalls(
    program: &Program,
    log: &Path,
    cores: &[usize],
    done: impl FnOnce() -> Result<()>,
) -> Result<usize> {
    let strace = Program {
        path: find("strace")?,
        args: Vec::new(),
        env: program.env.clone(),
    }
    .args([
        "-f".as_ref(),
        "-o".as_ref(),
        log.as_os_str(),
        program.path.as_os_str(),
    ])
    .args(&program.args);
    let mut running = Running::start(&strace, cores, Capture::Nothing)?;
    done()?;
    // A server is killed; a program that ends by itself gets the time to.
    if running.wait(Duration::from_millis(500))?.is_none() {
        // strace writes out its log when all that it traces has ended.
        let strace = running.group();
        let traced = proc::members(strace)?
            .into_iter()
            .filter_map(|pid| Pid::from_raw(pid as i32));
        for process in traced.filter(|&pid| pid != strace) {
            kill_process(process, Signal::KILL)?;
        }
        running.wait(LIMIT)?.context("strace did not end")?;
    }
    Ok(syscalls(&fs::read_to_string(log)?))
}

fn syscalls(log: &str) -> usize {
    let is_call = |line: &&str| {
        let call = line.trim_start_matches(|char: char| char.is_ascii_digit() || char == ' ');
        call.starts_with(|char: char| char.is_ascii_lowercase()) && call.contains('(')
    };
    log.lines().filter(is_call).count()
}

fn program(session: &Session, target: &Target, port: u16, announce: bool) -> Result<Program> {
    let directory = session.directory(target);
    target.program(&Setup {
        port,
        workers: 1,
        many_connections: false,
        announce,
        directory: &directory,
    })
}

fn micros(nanos: u64) -> f64 {
    nanos as f64 / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn syscalls_are_counted_once_each_and_signals_are_not() {
        let log = "12 execve(\"/a\", [\"/a\"], 0x7 /* 2 vars */) = 0
12 epoll_wait(3,  <unfinished ...>
13 write(2, \"x\", 1) = 1
12 <... epoll_wait resumed>[{}], 1, -1) = 1
12 --- SIGTERM {si_signo=SIGTERM} ---
12 +++ exited with 0 +++
";
        assert_eq!(syscalls(log), 3);
    }
}

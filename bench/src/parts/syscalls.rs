//! System calls, which hardly depend on how busy the machine is. Counted by strace.

use std::{fs, path::Path, thread, time::Duration};

use anyhow::{Context, Result};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{
    measure::{
        client,
        cores::Cores,
        process::{Program, Running, find},
        samples::Measured,
    },
    session::{LIMIT, Session, wait_ready},
};

/// Of a start, until the server rests after its first answer.
pub fn add_to_startup(session: &Session, measured: &mut Measured) {
    if let Err(error) = find("strace") {
        return measured.notes.push(format!("system calls: {error}"));
    }
    let mut syscalls = session.metric("system calls", "");
    let failed = session.each_target(
        "system calls",
        1,
        |_| true,
        |round, target| {
            let port = client::free_port()?;
            let program = target.program(&session.shop, port, 1, false)?;
            let log = session.shop.directory().join("strace");
            let count = count(&program, &log, &session.cores, || {
                wait_ready(port, || Ok(()))?;
                thread::sleep(Duration::from_millis(100));
                Ok(())
            })?;
            syscalls.record(&target.peer.name, round, count as f64);
            Ok(())
        },
    );
    measured.left_out.extend(failed);
    measured.tables.push(vec![syscalls]);
}

/// Runs a program until `done` returns, and counts its system calls.
pub fn count(
    program: &Program,
    log: &Path,
    cores: &Cores,
    done: impl FnOnce() -> Result<()>,
) -> Result<usize> {
    let strace = Program {
        path: find("strace")?,
        args: Vec::new(),
        ..program.clone()
    };
    let strace = strace.args([
        "-f".as_ref(),
        "-o".as_ref(),
        log.as_os_str(),
        program.path.as_os_str(),
    ]);
    let mut running = Running::start(&strace.args(&program.args), cores)?;
    done()?;
    // A server is killed; a program that ends by itself gets the time to.
    if running.wait(Duration::from_millis(500))?.is_none() {
        // strace writes out its log when all that it traces has ended.
        let strace = running.executed()?.pid;
        for traced in running.processes().into_iter().filter(|&pid| pid != strace) {
            kill(Pid::from_raw(traced as i32), Signal::SIGKILL)?;
        }
        running.wait(LIMIT)?.context("strace did not end")?;
    }
    Ok(calls(&fs::read_to_string(log)?))
}

fn calls(log: &str) -> usize {
    let is_call = |line: &&str| {
        let call = line.trim_start_matches(|char: char| char.is_ascii_digit() || char == ' ');
        call.starts_with(|char: char| char.is_ascii_lowercase()) && call.contains('(')
    };
    log.lines().filter(is_call).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_counted_once_each_and_signals_are_not() {
        let log = "12 execve(\"/a\", [\"/a\"], 0x7 /* 2 vars */) = 0
12 epoll_wait(3,  <unfinished ...>
13 write(2, \"x\", 1) = 1
12 <... epoll_wait resumed>[{}], 1, -1) = 1
12 --- SIGTERM {si_signo=SIGTERM} ---
12 +++ exited with 0 +++
";
        assert_eq!(calls(log), 3);
    }
}

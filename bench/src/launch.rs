//! Starting the programs under test, and making sure that none outlives the benchmark.
//!
//! A program is started through the launcher, a small program that says when it execs.

use std::{
    env,
    ffi::OsString,
    io::{BufRead, BufReader, Read, Write},
    os::{
        fd::OwnedFd,
        unix::{net::UnixStream, process::CommandExt},
    },
    path::PathBuf,
    process::{self, ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus, Stdio},
    sync::{Mutex, OnceLock},
    time::Duration,
};

use anyhow::{Context, Result};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{
        Pid, PidfdFlags, Signal, WaitOptions, getpid, kill_process, kill_process_group, pidfd_open,
        set_child_subreaper, waitpgid,
    },
    thread::{CpuSet, sched_setaffinity},
    time::{ClockId, clock_gettime},
};

use crate::proc;

const GUARD: &str = "__guard";

/// One clock for every process of the machine, in nanoseconds.
pub fn now() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Confines the calling thread, and what it starts from now on, to `cores`.
pub fn pin(cores: &[usize]) {
    let mut set = CpuSet::new();
    cores.iter().for_each(|&core| set.set(core));
    // Without it the figures are noisier, not wrong; the cores were taken from the allowed set.
    let _ = sched_setaffinity(None, &set);
}

/// The launcher's path, set before anything is started.
pub static LAUNCHER: OnceLock<PathBuf> = OnceLock::new();

/// A program, its arguments and its whole environment.
#[derive(Clone, Debug)]
pub struct Program {
    pub path: PathBuf,
    pub args: Vec<OsString>,
    pub env: Vec<(String, String)>,
}

impl Program {
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            args: Vec::new(),
            env: Vec::new(),
        }
    }

    pub fn args(mut self, args: impl IntoIterator<Item = impl Into<OsString>>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    pub fn env(mut self, name: &str, value: impl ToString) -> Self {
        self.env.push((name.to_owned(), value.to_string()));
        self
    }
}

/// Which of the program's streams the caller reads; the others are `/dev/null`.
#[derive(Clone, Copy, PartialEq)]
pub enum Capture {
    Nothing,
    Stdout,
    Stderr,
}

/// The moment of exec.
#[derive(Clone, Copy)]
pub struct Exec {
    pub at: u64,
    /// CPU nanoseconds of the launcher, which the kernel goes on counting from after exec.
    pub cpu_before: u64,
    /// Minor page faults of the launcher, likewise.
    pub faults_before: u64,
}

fn parse_report(text: &str) -> Result<Exec> {
    let mut words = text.splitn(3, ' ');
    let mut word = || words.next().context("too short");
    Ok(Exec {
        at: word()?.parse()?,
        cpu_before: word()?.parse()?,
        faults_before: proc::faults_of(word()?)?,
    })
}

/// The end of a program.
pub struct Ended {
    pub at: u64,
    /// Minor page faults, the launcher's included.
    pub faults: u64,
    pub status: ExitStatus,
}

/// A started program. Dropping it kills it with all its descendants (they share a process group).
pub struct Running {
    child: process::Child,
    report: UnixStream,
    group: Pid,
}

impl Running {
    pub fn start(program: &Program, cores: &[usize], capture: Capture) -> Result<Self> {
        // The report comes over stdin: programs under test read nothing, but some are read from.
        let (report, to_child) = UnixStream::pair()?;
        let stream = |wanted| {
            if capture == wanted {
                Stdio::piped()
            } else {
                Stdio::null()
            }
        };
        let child = Command::new(LAUNCHER.get().context("the launcher is built first")?)
            .arg(process::id().to_string())
            .arg(
                cores
                    .iter()
                    .map(ToString::to_string)
                    .collect::<Vec<_>>()
                    .join(","),
            )
            .arg(&program.path)
            .args(&program.args)
            .env_clear()
            .envs(program.env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::from(OwnedFd::from(to_child)))
            .stdout(stream(Capture::Stdout))
            .stderr(stream(Capture::Stderr))
            .process_group(0)
            .spawn()?;
        let group = Pid::from_child(&child);
        guard(&format!("+{}", child.id()));
        report.set_read_timeout(Some(Duration::from_secs(10)))?;
        Ok(Self {
            child,
            report,
            group,
        })
    }

    /// Waits for exec. Startup asks only after its measurement: the answer would wake this process
    /// at the very moment that is being measured.
    pub fn exec(&mut self) -> Result<Exec> {
        let mut text = String::new();
        self.report
            .read_to_string(&mut text)
            .context("no word from the launcher")?;
        parse_report(&text).with_context(|| format!("could not exec: {text}"))
    }

    pub fn group(&self) -> Pid {
        self.group
    }

    pub fn stdout(&mut self) -> Option<ChildStdout> {
        self.child.stdout.take()
    }

    pub fn stderr(&mut self) -> Option<ChildStderr> {
        self.child.stderr.take()
    }

    pub fn signal(&self, signal: Signal) -> Result<()> {
        Ok(kill_process(self.group, signal)?)
    }

    /// How it ended, or `None` if it has not within `limit`.
    pub fn wait(&mut self, limit: Duration) -> Result<Option<Ended>> {
        let fd = pidfd_open(self.group, PidfdFlags::empty())?;
        let limit = Timespec {
            tv_sec: limit.as_secs() as i64,
            tv_nsec: limit.subsec_nanos().into(),
        };
        if poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&limit))? == 0 {
            return Ok(None);
        }
        let at = now();
        // Its counters can be read until it is waited for.
        let faults = proc::faults(self.child.id())?;
        Ok(Some(Ended {
            at,
            faults,
            status: self.child.wait()?,
        }))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // The group outlives its leader for as long as a descendant is in it.
        let _ = kill_process_group(self.group, Signal::KILL);
        let _ = self.child.wait();
        // Its descendants are children of the benchmark now (`adopt_orphans`).
        while waitpgid(self.group, WaitOptions::empty()).is_ok() {}
        guard(&format!("-{}", self.child.id()));
    }
}

/// Makes this process the parent of what its children leave behind, so that killed workers are
/// reaped here: in a container there may be no init to do it.
pub fn adopt_orphans() {
    // Any process but the kernel's 0 turns it on; without it, only zombies are at stake.
    let _ = set_child_subreaper(Some(getpid()));
}

/// Runs the guard if that is what this process was started for.
pub fn stand_guard_if_asked() {
    if env::args_os().nth(1).is_some_and(|role| role == GUARD) {
        stand_guard();
    }
}

/// Tells the guard, a process that outlives this one by a moment, which process groups there are.
/// PDEATHSIG reaches the child alone; the guard ends its descendants (nginx's workers) as well,
/// even when the benchmark is killed with SIGKILL.
fn guard(line: &str) {
    static GUARD_STDIN: OnceLock<Option<Mutex<ChildStdin>>> = OnceLock::new();
    let stdin = GUARD_STDIN.get_or_init(|| {
        let guard = Command::new(env::current_exe().ok()?)
            .arg(GUARD)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            // Out of the terminal's group: Ctrl-C must not end it first.
            .process_group(0)
            .spawn();
        guard.ok()?.stdin.map(Mutex::new)
    });
    if let Some(mut stdin) = stdin.as_ref().and_then(|stdin| stdin.lock().ok()) {
        let _ = writeln!(stdin, "{line}");
    }
}

fn stand_guard() -> ! {
    let mut groups: Vec<i32> = Vec::new();
    for line in BufReader::new(std::io::stdin())
        .lines()
        .map_while(Result::ok)
    {
        match (
            line.get(..1),
            line.get(1..).and_then(|pid| pid.parse().ok()),
        ) {
            (Some("+"), Some(pid)) => groups.push(pid),
            (_, Some(pid)) => groups.retain(|&group| group != pid),
            _ => {}
        }
    }
    for group in groups.into_iter().filter_map(Pid::from_raw) {
        let _ = kill_process_group(group, Signal::KILL);
    }
    process::exit(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn report_is_three_figures_or_an_error_that_says_why() {
        let exec = parse_report("17 23 9 (a b) R 1 9 9 0 -1 0 138 0 0").unwrap();
        assert_eq!(
            (exec.at, exec.cpu_before, exec.faults_before),
            (17, 23, 138)
        );
        assert!(parse_report("No such file or directory (os error 2)").is_err());
        assert!(parse_report("").is_err());
    }
}

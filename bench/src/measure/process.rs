//! Starts a program, knows when it is executed, and leaves nothing of it behind.
//!
//! Two copies of this tool stand between it and the program. The *supervisor* becomes the parent of every process that
//! the program leaves behind. When its connection to the tool closes, because the sample is taken or because the tool
//! was killed, with SIGKILL if need be, it kills all of them. The *launcher* notes the time and then becomes the
//! program by exec, so the figures contain neither a fork nor the size of the tool.

use std::{
    convert::Infallible,
    env,
    ffi::OsString,
    fs::File,
    io::{ErrorKind, Read, Write},
    os::{
        fd::{AsFd, OwnedFd},
        unix::{fs::FileExt, net::UnixStream, process::CommandExt},
    },
    path::{Path, PathBuf},
    process::{self, Child, Command},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        memfd::{MFdFlags, memfd_create},
        prctl::{set_child_subreaper, set_pdeathsig},
        signal::{Signal, kill},
        wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid},
    },
    time::{ClockId, clock_gettime},
    unistd::{Pid, dup2_stdin, getppid},
};
use serde::{Deserialize, Serialize};

use super::{
    cores::{Cores, parse_list, pin},
    proc::{self, Usage},
};

const SUPERVISE: &str = "__supervise";
const LAUNCH: &str = "__launch";
/// This tool, even when its file has been replaced since.
pub const THIS_TOOL: &str = "/proc/self/exe";
/// Starting the supervisor and the launcher takes a few milliseconds.
const START_LIMIT: Duration = Duration::from_secs(10);

/// One clock for every process of the machine, in nanoseconds.
pub fn now() -> u64 {
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("Linux has a monotonic clock");
    Duration::from(time).as_nanos() as u64
}

/// A program, its arguments and its environment.
#[derive(Clone, Debug)]
pub struct Program {
    pub path: PathBuf,
    pub args: Vec<OsString>,
    pub env: Vec<(String, String)>,
    /// Whether it has the environment of this tool as well.
    pub inherits: bool,
}

impl Program {
    /// With an empty environment.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            args: Vec::new(),
            env: Vec::new(),
            inherits: false,
        }
    }

    /// From the words of a command, with the environment of this tool.
    pub fn from_words(words: &[String]) -> Result<Self> {
        let (name, args) = words.split_first().context("the command is empty")?;
        let path = find(name)?;
        let inherits = true;
        Ok(Self {
            inherits,
            ..Self::new(path).args(args)
        })
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

/// A program of `PATH`, or of the directories of servers, which `PATH` often leaves out.
pub fn find(name: &str) -> Result<PathBuf> {
    let path = env::var("PATH").unwrap_or_default() + ":/usr/sbin:/usr/local/sbin";
    match which::which_in(name, Some(path), env::current_dir()?) {
        Ok(path) => Ok(path),
        Err(_) if Path::new(name).is_file() && name.contains('/') => {
            bail!("{name} is not executable: permission denied")
        }
        Err(_) => bail!("{name} is not installed: no such command"),
    }
}

#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub struct Executed {
    pub at: u64,
    pub pid: u32,
    /// By the launcher until then: the kernel goes on counting from it.
    used: Usage,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Ended {
    pub at: u64,
    pid: u32,
    /// `None` if a signal ended it.
    pub code: Option<i32>,
    signal: Option<String>,
    used: Usage,
}

/// What the supervisor and the launcher report, one JSON value a line.
#[derive(Deserialize, Serialize)]
enum Event {
    Executed(Executed),
    NotExecuted(String),
    Ended(Ended),
    /// No process is left.
    AllEnded,
}

/// A started program with all its descendants. Dropping it kills them.
pub struct Running {
    supervisor: Child,
    /// `None` only while it is dropped.
    control: Option<UnixStream>,
    unread: Vec<u8>,
    stdout: File,
    stderr: File,
    executed: Option<Executed>,
    not_executed: Option<String>,
    ended: Vec<Ended>,
    all_ended: bool,
}

impl Running {
    /// Returns before the program is executed, so that a client can be there first. The calling thread is pinned to
    /// the cores of the load afterwards.
    pub fn start(program: &Program, cores: &Cores) -> Result<Self> {
        let (control, theirs) = UnixStream::pair()?;
        control.set_nonblocking(true)?;
        // Not pipes, which somebody would have to empty meanwhile.
        let file =
            || Ok::<_, nix::Error>(File::from(memfd_create("output", MFdFlags::MFD_CLOEXEC)?));
        let (stdout, stderr) = (file()?, file()?);
        let mut command = Command::new(THIS_TOOL);
        command
            .args([SUPERVISE, &join(&cores.load), &join(&cores.server)])
            .arg(&program.path)
            .args(&program.args);
        if !program.inherits {
            command.env_clear();
        }
        command
            .envs(program.env.iter().map(|(name, value)| (name, value)))
            .stdin(OwnedFd::from(theirs))
            .stdout(stdout.try_clone()?)
            .stderr(stderr.try_clone()?)
            // Out of the terminal's group: Ctrl-C ends this tool, and the supervisor then does its work.
            .process_group(0);
        // What is started on the core of servers need not migrate to it.
        pin(&cores.server);
        let supervisor = command.spawn().context("starting the supervisor");
        pin(&cores.load);
        Ok(Self {
            supervisor: supervisor?,
            control: Some(control),
            unread: Vec::new(),
            stdout,
            stderr,
            executed: None,
            not_executed: None,
            ended: Vec::new(),
            all_ended: false,
        })
    }

    /// Waits for exec. To be called after the measurement: the answer would wake this process in the middle of it.
    pub fn executed(&mut self) -> Result<Executed> {
        self.wait_until(START_LIMIT, |running| {
            running.executed.is_some() || running.not_executed.is_some() || running.all_ended
        })?;
        if let Some(error) = &self.not_executed {
            bail!("could not be executed: {error}");
        }
        self.executed.context("the launcher gave no answer")
    }

    /// An error if no process of the program is left.
    pub fn check(&mut self) -> Result<()> {
        self.read_events()?;
        if let Some(error) = &self.not_executed {
            bail!("could not be executed: {error}");
        }
        if !self.all_ended {
            return Ok(());
        }
        let leader = self.executed.map(|executed| executed.pid);
        let how = match self.ended.iter().find(|ended| Some(ended.pid) == leader) {
            Some(Ended {
                code: Some(code), ..
            }) => format!("exited with code {code}"),
            Some(Ended {
                signal: Some(signal),
                ..
            }) => format!("was ended by {signal}"),
            _ => "ended".to_owned(),
        };
        bail!("{how} before it answered")
    }

    /// An error with what is known of the program: whether it had a processor, as long as it lives, and the last lines
    /// that it wrote.
    pub fn explain(&mut self, error: anyhow::Error) -> anyhow::Error {
        let mut text = format!("{error:#}");
        if let (false, Ok(used)) = (self.all_ended, self.used()) {
            let seconds = |nanos| nanos as f64 / 1e9;
            let (ran, waited) = (seconds(used.cpu), seconds(used.waited));
            text +=
                &format!("; it ran for {ran:.2} s, and waited for a processor for {waited:.2} s");
        }
        match self.last_lines() {
            last if last.is_empty() => anyhow::anyhow!(text),
            last => anyhow::anyhow!("{text}: {last}"),
        }
    }

    /// How the program's first process ended, or `None` if it has not within `limit`.
    pub fn wait(&mut self, limit: Duration) -> Result<Option<Ended>> {
        let leader = self.executed()?.pid;
        let find = |running: &Self| running.ended.iter().find(|end| end.pid == leader).cloned();
        self.wait_until(limit, |running| find(running).is_some())?;
        Ok(find(self))
    }

    /// What all its processes have used since exec, those that have ended included.
    pub fn used(&mut self) -> Result<Usage> {
        let living: Usage = self
            .processes()
            .into_iter()
            .filter_map(|pid| proc::usage(pid).ok())
            .sum();
        let before = self.executed()?.used;
        self.read_events()?;
        let ended: Usage = self.ended.iter().map(|ended| ended.used).sum();
        Ok(living + ended - before)
    }

    /// The sum of a figure over the processes that there are.
    pub fn total(&self, measure: impl Fn(u32) -> Result<u64>) -> u64 {
        self.processes()
            .into_iter()
            .filter_map(|pid| measure(pid).ok())
            .sum()
    }

    pub fn processes(&self) -> Vec<u32> {
        proc::descendants(self.supervisor.id())
    }

    /// To its first process.
    pub fn signal(&mut self, signal: Signal) -> Result<()> {
        Ok(kill(pid(self.executed()?.pid), signal)?)
    }

    /// What the program has written to stdout.
    pub fn stdout(&self) -> Result<String> {
        contents(&self.stdout)
    }

    /// The last lines of stderr, or else of stdout, on one line, for an error.
    pub fn last_lines(&self) -> String {
        let stderr = contents(&self.stderr).unwrap_or_default();
        let stdout = self.stdout().unwrap_or_default();
        let output = if stderr.trim().is_empty() {
            stdout
        } else {
            stderr
        };
        let lines: Vec<&str> = output
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty())
            .collect();
        let last = lines[lines.len().saturating_sub(3)..].join(" | ");
        let start = last
            .char_indices()
            .rev()
            .nth(299)
            .map_or(0, |(index, _)| index);
        last[start..].to_owned()
    }

    fn wait_until(&mut self, limit: Duration, done: impl Fn(&Self) -> bool) -> Result<()> {
        let deadline = Instant::now() + limit;
        loop {
            self.read_events()?;
            let left = deadline.saturating_duration_since(Instant::now());
            if done(self) || left.is_zero() || self.all_ended {
                return Ok(());
            }
            let control = self.control.as_ref().expect("it is there until drop");
            let timeout = PollTimeout::try_from(left.as_millis() + 1).unwrap_or(PollTimeout::MAX);
            poll(
                &mut [PollFd::new(control.as_fd(), PollFlags::POLLIN)],
                timeout,
            )?;
        }
    }

    /// Takes in what has been reported, without waiting.
    fn read_events(&mut self) -> Result<()> {
        let mut chunk = [0; 4096];
        let mut control = self.control.as_ref().expect("it is there until drop");
        loop {
            match control.read(&mut chunk) {
                Ok(0) => {
                    self.all_ended = true;
                    break;
                }
                Ok(count) => self.unread.extend_from_slice(&chunk[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            }
        }
        while let Some(end) = self.unread.iter().position(|&byte| byte == b'\n') {
            let line: Vec<u8> = self.unread.drain(..=end).collect();
            match serde_json::from_slice(&line)? {
                Event::Executed(executed) => self.executed = Some(executed),
                Event::NotExecuted(error) => self.not_executed = Some(error),
                Event::Ended(ended) => self.ended.push(ended),
                Event::AllEnded => self.all_ended = true,
            }
        }
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.control = None;
        let _ = self.supervisor.wait();
    }
}

/// Runs the supervisor or the launcher, if this process was started as one.
pub fn play_role() {
    let args: Vec<OsString> = env::args_os().skip(1).collect();
    let Some((role, args)) = args.split_first() else {
        return;
    };
    let outcome = match role.to_str() {
        Some(SUPERVISE) => supervise(args),
        Some(LAUNCH) => launch(args),
        _ => return,
    };
    let Err(error) = outcome;
    // Stdin is the connection to the tool, which may be gone.
    let _ = report(
        &mut stdin_socket(),
        &Event::NotExecuted(format!("{error:#}")),
    );
    process::exit(1)
}

fn supervise(args: &[OsString]) -> Result<Infallible> {
    let [own_cores, args @ ..] = args else {
        bail!("no cores")
    };
    set_child_subreaper(true)?;
    let mut control = stdin_socket();
    // The launcher's PDEATHSIG is for the death of the thread that starts it: this one.
    let launcher = Command::new(THIS_TOOL)
        .args([LAUNCH.into(), OsString::from(process::id().to_string())])
        .args(args)
        .spawn()?;
    pin(&parse_list(&own_cores.to_string_lossy()));
    drop(launcher);
    let mut reports = stdin_socket();
    let reaper = thread::spawn(move || reap_all(&mut reports));
    // Nothing is ever sent: a read returns when the tool has closed its end, or has died.
    let _ = control.read(&mut [0]);
    while !reaper.is_finished() {
        for process in proc::descendants(process::id()) {
            let _ = kill(pid(process), Signal::SIGKILL);
        }
        thread::sleep(Duration::from_millis(1));
    }
    process::exit(0)
}

/// Until there is no child left. What a process has used is read before it is reaped, and gone after.
fn reap_all(reports: &mut UnixStream) {
    while let Ok(status) = waitid(Id::All, WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT) {
        let at = now();
        let (code, signal) = match status {
            WaitStatus::Exited(_, code) => (Some(code), None),
            WaitStatus::Signaled(_, signal, _) => (None, Some(signal.to_string())),
            _ => (None, None),
        };
        let Some(ended) = status.pid() else { continue };
        let used = proc::usage(ended.as_raw() as u32).unwrap_or_default();
        let pid = ended.as_raw() as u32;
        let _ = report(
            reports,
            &Event::Ended(Ended {
                at,
                pid,
                code,
                signal,
                used,
            }),
        );
        let _ = waitpid(ended, None);
    }
    let _ = report(reports, &Event::AllEnded);
}

fn launch(args: &[OsString]) -> Result<Infallible> {
    let [supervisor, cores, program, args @ ..] = args else {
        bail!("no program")
    };
    set_pdeathsig(Signal::SIGKILL)?;
    // It may have died before the line above.
    ensure!(
        getppid().to_string() == supervisor.to_string_lossy(),
        "the supervisor has ended"
    );
    pin(&parse_list(&cores.to_string_lossy()));
    // A copy that exec closes.
    let mut control = stdin_socket();
    dup2_stdin(File::open("/dev/null")?)?;
    let mut command = Command::new(program);
    command.args(args);
    let (pid, used) = (process::id(), proc::usage(process::id())?);
    // After the clock is read, every system call is in the figure.
    report(
        &mut control,
        &Event::Executed(Executed {
            at: now(),
            pid,
            used,
        }),
    )?;
    let error = command.exec();
    report(&mut control, &Event::NotExecuted(error.to_string()))?;
    process::exit(1)
}

fn stdin_socket() -> UnixStream {
    let stdin = std::io::stdin().as_fd().try_clone_to_owned();
    UnixStream::from(stdin.expect("the tool gives a socket as stdin"))
}

/// In one write, so that the reports of two processes do not mix.
fn report(socket: &mut UnixStream, event: &Event) -> Result<()> {
    Ok(socket.write_all((serde_json::to_string(event)? + "\n").as_bytes())?)
}

fn contents(file: &File) -> Result<String> {
    let mut bytes = vec![0; file.metadata()?.len() as usize];
    let count = file.read_at(&mut bytes, 0)?;
    Ok(String::from_utf8_lossy(&bytes[..count]).into_owned())
}

fn pid(raw: u32) -> Pid {
    Pid::from_raw(raw as i32)
}

fn join(cores: &[usize]) -> String {
    cores
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(",")
}

//! `launcher PARENT CORE,... PROGRAM ARGUMENT...`: pins itself, asks the kernel to be killed with
//! its parent, notes the time, and execs.
//!
//! So the time of exec is taken in the process that execs, and nothing runs between fork and exec
//! that would need `unsafe`. It is a program of its own because exec takes down the memory of
//! whoever calls it, within the time that is measured: from the benchmark itself that took 40 µs
//! more.
//!
//! Stdin is a socket that the report goes to: nanoseconds of the monotonic clock and of CPU time
//! so far, and `/proc/self/stat`; or, when anything fails, why.

use std::{
    env,
    error::Error,
    ffi::OsString,
    fs::File,
    io::{Read, Write},
    os::unix::{net::UnixStream, process::CommandExt},
    process::{Command, ExitCode},
};

use rustix::{
    io::fcntl_dupfd_cloexec,
    process::{Signal, getppid, set_parent_process_death_signal},
    stdio::{dup2_stdin, stdin},
    thread::{CpuSet, sched_setaffinity},
    time::{ClockId, clock_gettime},
};

fn main() -> ExitCode {
    // Closed by exec: its end tells the benchmark that there is nothing more to come.
    let Ok(report) = fcntl_dupfd_cloexec(stdin(), 3) else {
        return ExitCode::FAILURE;
    };
    let mut report = UnixStream::from(report);
    let Err(error) = launch(env::args_os().skip(1).collect(), &mut report);
    let _ = write!(report, "{error}");
    ExitCode::FAILURE
}

fn launch(args: Vec<OsString>, report: &mut UnixStream) -> Result<Never, Box<dyn Error>> {
    let [parent, cores, program, args @ ..] = &args[..] else {
        return Err("no program".into());
    };
    set_parent_process_death_signal(Some(Signal::KILL))?;
    // It may have died before the line above.
    if getppid()
        .map(|pid| pid.as_raw_nonzero().to_string().into())
        .as_ref()
        != Some(parent)
    {
        return Err("the benchmark has ended".into());
    }
    let mut set = CpuSet::new();
    for core in cores.to_string_lossy().split(',') {
        set.set(core.parse()?);
    }
    sched_setaffinity(None, &set)?;
    dup2_stdin(File::open("/dev/null")?)?;

    let mut command = Command::new(program);
    command.args(args);
    let mut stat = [0; 1024];
    let stat_len = File::open("/proc/self/stat")?.read(&mut stat)?;
    let stat = String::from_utf8_lossy(&stat[..stat_len]);
    // In one write: after the clock is read, every system call is in the figure.
    let text = format!(
        "{} {} {stat}",
        nanos(ClockId::Monotonic),
        nanos(ClockId::ProcessCPUTime)
    );
    report.write_all(text.as_bytes())?;
    Err(command.exec().into())
}

enum Never {}

fn nanos(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

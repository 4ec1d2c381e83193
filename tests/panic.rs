//! A route that panics ends the process, and does not leave it half alive.
//!
//! Needs the example as `cargo build` makes it, which aborts as the server does; what `cargo test`
//! makes unwinds: `cargo build --example panicking && cargo test --test panic -- --ignored --skip tiny`

mod common;

use std::env;
use std::ffi::OsStr;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;

use common::{GET, Server, example};

/// Runs the example, asks for the route that panics, and gives the signal that ended the process, and
/// whether the panic's message is in the log.
fn end_after_panic(command: Command) -> (Option<i32>, bool) {
    let mut server = Server::spawn(command);
    let mut kept = server.connect();
    assert_eq!(kept.request(GET).status, 200);
    let mut client = server.connect();
    client.send("GET /panic HTTP/1.1\r\nHost: test\r\n\r\n");
    let signal = server.exit().signal();
    let lines = server.remaining_lines();
    (signal, lines.iter().any(|line| line.contains("has a bug")))
}

#[test]
#[ignore = "needs the example"]
fn a_route_that_panics_ends_the_process_by_sigabrt() {
    // A shell reports it as 134.
    let end = end_after_panic(Command::new(example("panicking")));
    assert_eq!(end, (Some(libc::SIGABRT), true));
}

#[test]
#[ignore = "needs the example, and root for a PID namespace"]
fn a_route_that_panics_ends_pid_1_by_sigsegv() {
    // The kernel keeps SIGABRT from a PID 1 that has no handler for it. So abort(3) goes on, on x86-64
    // in either C library, to an instruction that faults.
    let end = end_after_panic(as_pid_1(example("panicking")));
    assert_eq!(end, (Some(libc::SIGSEGV), true));
}

#[test]
#[ignore = "needs the example of the tiny build, which `TINY_EXAMPLE` names, and root"]
fn a_panic_of_the_tiny_build_ends_it_by_a_faulting_instruction_and_says_nothing() {
    let example = env::var_os("TINY_EXAMPLE").expect("the example's path");
    let signal = if cfg!(target_arch = "x86_64") {
        libc::SIGILL
    } else {
        libc::SIGTRAP
    };
    for command in [Command::new(&example), as_pid_1(&example)] {
        assert_eq!(end_after_panic(command), (Some(signal), false));
    }
}

/// unshare(1) ends as its child does. Docker reports a signal as 128 + its number.
fn as_pid_1(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("unshare");
    command
        .args(["--pid", "--fork", "--kill-child"])
        .arg(program);
    command
}

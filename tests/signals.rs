//! Signals that come while the service is still being made, and after that. The module belongs to the
//! binary and not to the library, so its source is compiled into this test, which runs itself once more as
//! the process that is signalled.

#[path = "../src/shutdown.rs"]
mod shutdown;

mod common;

use std::fs;
use std::future::pending;
use std::io::{self, Write};
use std::process::{Command, Stdio};
use std::sync::mpsc::Receiver;
use std::{env, process};

use scratch_server::event_loop;

use common::{Process, read_lines, wait_for_line, wait_until};
use shutdown::Signals;

/// What `main` does with its signals. The start blocks its thread until it is told how to go on.
#[test]
#[ignore = "is the process that the other tests signal"]
fn signalled_process() {
    let signals = sys::signal_pipe().expect("a pipe");
    let event_loop = event_loop().expect("an event loop");
    event_loop.block_on(async {
        let signals = Signals::watch(signals).expect("the event loop watches the pipe");
        let start = async {
            println!("starting");
            let mut word = String::new();
            io::stdin().read_line(&mut word).expect("a word");
            if word == "wait\n" {
                println!("waiting");
                pending::<()>().await;
            }
        };
        if signals.unless_signalled(start).await.is_none() {
            process::exit(0);
        }
        println!("serving");
        signals.first().await;
        println!("stopping");
        pending().await
    })
}

/// The process, in the middle of its start.
struct Signalled {
    process: Process,
    lines: Receiver<String>,
}

impl Signalled {
    fn start() -> Self {
        let mut command = Command::new(env::current_exe().expect("this test has a path"));
        command
            .args(["signalled_process", "--exact", "--ignored"])
            // In one thread, which gets every signal.
            .args(["--nocapture", "--test-threads=1"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut process = Process::spawn(command);
        let lines = read_lines(process.0.stdout.take().expect("stdout is piped"));
        let start = Self { process, lines };
        start.wait_for("starting");
        start
    }

    fn wait_for(&self, line: &str) {
        wait_for_line(&self.lines, line);
    }

    /// Tells the start how to go on.
    fn say(&mut self, word: &str) {
        let stdin = self.process.0.stdin.as_mut().expect("stdin is piped");
        writeln!(stdin, "{word}").expect("the process reads");
    }

    /// Sends a signal and waits until it has been delivered.
    fn signal(&self, name: &str) {
        self.process.signal(name);
        let status = format!("/proc/{}/status", self.process.pid());
        wait_until("no signal is pending", || {
            let status = fs::read_to_string(&status).expect("the process exists");
            let mut pending = status.lines().filter(|line| {
                let value = line.strip_prefix("SigPnd:\t");
                let value = value.or(line.strip_prefix("ShdPnd:\t"));
                value.is_some_and(|signals| signals != "0000000000000000")
            });
            pending.next().is_none()
        });
    }

    fn exit_code(&mut self) -> Option<i32> {
        self.process.exit().code()
    }
}

#[test]
fn a_signal_ends_a_start_that_is_not_finished() {
    for signal in ["TERM", "INT"] {
        let mut start = Signalled::start();
        start.say("wait");
        start.wait_for("waiting");
        start.process.signal(signal);
        assert_eq!(start.exit_code(), Some(0));
    }
}

#[test]
fn a_signal_that_came_while_the_start_blocked_ends_it() {
    let mut start = Signalled::start();
    start.signal("TERM");
    start.say("wait");
    assert_eq!(start.exit_code(), Some(0));
}

#[test]
fn signals_that_came_while_the_start_blocked_are_seen_in_order() {
    for (first, second, code) in [
        ("TERM", "INT", 130),
        ("INT", "TERM", 143),
        ("TERM", "TERM", 143),
        ("INT", "INT", 130),
    ] {
        let mut start = Signalled::start();
        start.signal(first);
        start.signal(second);
        start.say("go on");
        assert_eq!(start.exit_code(), Some(code), "{first}, {second}");
    }
}

#[test]
fn the_first_signal_stops_a_server_and_the_second_ends_it_with_its_number() {
    for (first, second, code) in [("TERM", "INT", 130), ("INT", "TERM", 143)] {
        let mut start = Signalled::start();
        start.say("go on");
        start.wait_for("serving");
        start.process.signal(first);
        start.wait_for("stopping");
        start.process.signal(second);
        assert_eq!(start.exit_code(), Some(code));
    }
}

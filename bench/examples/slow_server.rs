//! A server that is slow, or wrong, by a known amount: what the tests of the benchmark measure.

use std::{
    env,
    io::{Read, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    process::{Command, exit},
    thread,
    time::Duration,
};

use clap::Parser;
use nix::{
    sys::signal::{SigSet, Signal},
    time::{ClockId, clock_gettime},
    unistd::setsid,
};

#[derive(Parser)]
struct Options {
    /// Of 127.0.0.1; by default that of the environment.
    #[arg(long)]
    port: Option<u16>,
    #[arg(long, default_value_t = 0)]
    sleep_before_listen: u64,
    /// After a connection is accepted.
    #[arg(long, default_value_t = 0)]
    sleep_before_answer: u64,
    /// Milliseconds of CPU time before it listens.
    #[arg(long, default_value_t = 0)]
    spin: u64,
    /// MiB of memory that are written to before it listens.
    #[arg(long, default_value_t = 0)]
    touch: usize,
    /// How many requests are answered with 503 first.
    #[arg(long, default_value_t = 0)]
    unavailable: usize,
    #[arg(long, default_value_t = 200)]
    status: u16,
    /// Goes on in a session of its own, and its first process exits.
    #[arg(long)]
    daemon: bool,
    #[arg(long)]
    leave_session: bool,
    #[arg(long)]
    ignore_sigterm: bool,
    /// Says so, and exits with this code in place of listening.
    #[arg(long)]
    exit: Option<i32>,
    /// Listens, and never answers.
    #[arg(long)]
    silent: bool,
    /// Takes no part; the tests find the process by it.
    #[arg(long)]
    tag: Option<String>,
}

// The child is to outlive this process.
#[expect(clippy::zombie_processes)]
fn main() {
    let options = Options::parse();
    if options.leave_session {
        setsid().unwrap();
    }
    if options.ignore_sigterm {
        SigSet::from(Signal::SIGTERM).thread_block().unwrap();
    }
    spin(Duration::from_millis(options.spin));
    if options.daemon {
        let mut args: Vec<String> = env::args().collect();
        args.retain(|arg| arg != "--daemon" && !arg.starts_with("--spin"));
        Command::new(&args[0])
            .args(&args[1..])
            .arg("--leave-session")
            .spawn()
            .unwrap();
        return;
    }
    if let Some(code) = options.exit {
        eprintln!("first of four lines\nthe second\nthe third\nno configuration");
        exit(code);
    }
    let port = options
        .port
        .unwrap_or_else(|| env::var("PORT").unwrap().parse().unwrap());
    let memory = vec![1u8; options.touch << 20];
    thread::sleep(Duration::from_millis(options.sleep_before_listen));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
    for (index, stream) in listener.incoming().enumerate() {
        let status = if index < options.unavailable {
            503
        } else {
            options.status
        };
        answer(stream.unwrap(), status, &options);
    }
    drop(memory);
}

fn answer(mut stream: TcpStream, status: u16, options: &Options) {
    thread::sleep(Duration::from_millis(options.sleep_before_answer));
    if options.silent {
        thread::sleep(Duration::MAX);
    }
    let _ = stream.read(&mut [0; 4096]);
    let _ = write!(stream, "HTTP/1.1 {status} X\r\ncontent-length: 0\r\n\r\n");
}

/// By the clock of CPU time, which stands still while others have the processor.
fn spin(time: Duration) {
    let used = || Duration::from(clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).unwrap());
    while used() < time {}
}

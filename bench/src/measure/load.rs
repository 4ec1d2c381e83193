//! Load: wrk where it is found, else a generator of its own; the fixed rate is always its own.

use std::{
    collections::VecDeque,
    io::{ErrorKind, Read, Write},
    net::TcpStream,
    path::Path,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use hdrhistogram::Histogram;
use nix::{
    poll::PollTimeout,
    sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags},
};

use super::{
    client::{self, REQUEST},
    cores::Cores,
    process::{Program, Running, now},
};

#[derive(Clone, Copy)]
pub enum Pace {
    /// Each connection asks again as soon as it is answered.
    Saturate,
    /// Requests a second over all connections, on a schedule that slow answers do not stretch:
    /// a latency counts from when its request was due, so that no omission hides a stall.
    Rate(u32),
}

pub struct Outcome {
    pub requests: u64,
    /// Nanoseconds.
    pub latency: Histogram<u64>,
}

/// Requests in all and a second, from `wrk` on the given cores.
pub fn wrk(
    wrk: &Path,
    port: u16,
    connections: usize,
    duration: Duration,
    cores: &Cores,
) -> Result<(u64, f64)> {
    let program = Program::new(wrk).args([
        format!("-t{}", cores.load.len().min(connections)),
        format!("-c{connections}"),
        format!("-d{}s", duration.as_secs().max(1)),
        format!("http://127.0.0.1:{port}/"),
    ]);
    let cores = Cores {
        server: cores.load.clone(),
        ..cores.clone()
    };
    let mut running = Running::start(&program, &cores)?;
    running
        .wait(duration * 2 + Duration::from_secs(5))?
        .context("wrk did not end")?;
    parse_wrk(&running.stdout()?)
}

fn parse_wrk(text: &str) -> Result<(u64, f64)> {
    let failed = |line: &&str| line.starts_with("Socket errors") || line.starts_with("Non-2xx");
    if let Some(line) = text.lines().map(str::trim).find(failed) {
        bail!("wrk: {line}");
    }
    let find = |pick: fn(&str) -> Option<&str>| {
        let found = text.lines().find_map(pick);
        found.with_context(|| format!("wrk said: {text}"))
    };
    let requests = find(|line| Some(line.split_once(" requests in ")?.0))?;
    let rate = find(|line| line.strip_prefix("Requests/sec:"))?;
    Ok((requests.trim().parse()?, rate.trim().parse()?))
}

/// Runs load from the calling thread, which should be pinned: it spins.
pub fn drive(port: u16, connections: usize, pace: Pace, duration: Duration) -> Result<Outcome> {
    // Every response of a server has the same length, so counting bytes is enough.
    let response_len = client::exchange(&mut client::connect(port)?)?;
    let poll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    let mut pool = (0..connections)
        .map(|index| Connection::open(port, &poll, index))
        .collect::<Result<Vec<_>>>()?;
    let mut idle: VecDeque<usize> = (0..connections).collect();
    let mut latency = Histogram::<u64>::new_with_bounds(1, 60_000_000_000, 3)?;
    let mut events = vec![EpollEvent::empty(); connections.max(64)];
    let mut reconnects = 0;

    let start = now();
    let end = start + duration.as_nanos() as u64;
    let mut due = start;
    loop {
        let time = now();
        if time >= end {
            break;
        }
        match pace {
            Pace::Saturate => {
                for index in idle.drain(..) {
                    pool[index].send(time)?;
                }
            }
            Pace::Rate(rate) => {
                while due <= time
                    && let Some(index) = idle.pop_front()
                {
                    pool[index].send(due)?;
                    due += 1_000_000_000 / u64::from(rate);
                }
            }
        }
        let ready = poll.wait(&mut events, PollTimeout::ZERO)?;
        for event in &events[..ready] {
            let index = event.data() as usize;
            match pool[index].receive(response_len)? {
                Received::Part => {}
                Received::Whole => {
                    latency.saturating_record(now() - pool[index].due);
                    idle.push_back(index);
                }
                Received::Closed => {
                    reconnects += 1;
                    ensure!(reconnects < 1000, "the server keeps closing connections");
                    let due = pool[index].due;
                    pool[index] = Connection::open(port, &poll, index)?;
                    pool[index].send(due)?;
                }
            }
        }
    }
    let requests = latency.len();
    if let Pace::Rate(rate) = pace {
        let wanted = f64::from(rate) * duration.as_secs_f64();
        ensure!(
            requests as f64 > wanted * 0.99,
            "only {requests} of {wanted} requests were answered"
        );
    }
    Ok(Outcome { requests, latency })
}

enum Received {
    Part,
    Whole,
    Closed,
}

struct Connection {
    stream: TcpStream,
    due: u64,
    received: usize,
}

impl Connection {
    fn open(port: u16, poll: &Epoll, index: usize) -> Result<Self> {
        let stream = client::connect(port)?;
        stream.set_nonblocking(true)?;
        poll.add(&stream, EpollEvent::new(EpollFlags::EPOLLIN, index as u64))?;
        Ok(Self {
            stream,
            due: 0,
            received: 0,
        })
    }

    fn send(&mut self, due: u64) -> Result<()> {
        self.due = due;
        self.received = 0;
        match self.stream.write(REQUEST) {
            Ok(count) => ensure!(
                count == REQUEST.len(),
                "a request did not fit into the socket"
            ),
            // It was closed while idle: the read side will say so.
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::BrokenPipe | ErrorKind::ConnectionReset
                ) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    fn receive(&mut self, response_len: usize) -> Result<Received> {
        let mut chunk = [0; 4096];
        match self.stream.read(&mut chunk) {
            Ok(0) => Ok(Received::Closed),
            Ok(count) => {
                self.received += count;
                ensure!(
                    self.received <= response_len,
                    "a response was longer than the first"
                );
                Ok(if self.received == response_len {
                    Received::Whole
                } else {
                    Received::Part
                })
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(Received::Part),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => Ok(Received::Closed),
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{net::TcpListener, thread};

    use super::*;

    const WRK: &str = "Running 2s test @ http://127.0.0.1:8080/
  1 threads and 32 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency   231.18us   37.72us   1.05ms   82.98%
    Req/Sec   136.31k     5.46k  143.64k    85.00%
  271195 requests in 2.00s, 37.77MB read
Requests/sec: 135577.39
Transfer/sec:     18.88MB
";

    #[test]
    fn wrk_output_gives_requests_in_all_and_a_second() {
        assert_eq!(parse_wrk(WRK).unwrap(), (271_195, 135_577.39));
    }

    #[test]
    fn wrk_errors_are_not_taken_for_throughput() {
        let broken = WRK.replace(
            "Requests/sec",
            "  Non-2xx or 3xx responses: 5\nRequests/sec",
        );
        assert!(parse_wrk(&broken).is_err());
        assert!(parse_wrk("unable to connect to 127.0.0.1:8080 Connection refused").is_err());
    }

    /// Answers each read with `text` after `delay`, one connection, on a thread that ends with it.
    fn serve(text: &'static [u8], delay: Duration) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        thread::spawn(move || {
            for stream in listener.incoming().take(2) {
                let mut stream = stream.unwrap();
                let mut chunk = [0; 4096];
                while stream.read(&mut chunk).is_ok_and(|count| count > 0) {
                    thread::sleep(delay);
                    if stream.write_all(text).is_err() {
                        break;
                    }
                }
            }
        });
        port
    }

    const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

    #[test]
    fn saturating_load_counts_responses() {
        let port = serve(OK, Duration::ZERO);
        let outcome = drive(port, 1, Pace::Saturate, Duration::from_millis(50)).unwrap();
        assert!(outcome.requests > 10, "{}", outcome.requests);
    }

    #[test]
    fn rate_that_the_server_cannot_hold_is_an_error() {
        let port = serve(OK, Duration::from_millis(20));
        let error = drive(port, 1, Pace::Rate(1000), Duration::from_millis(200))
            .err()
            .unwrap();
        assert!(error.to_string().contains("of 200 requests"), "{error}");
    }
}

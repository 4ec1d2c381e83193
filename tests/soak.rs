//! What takes longer than a test should: `cargo test --test soak -- --ignored --nocapture`
//!
//! `SOAK_STOPS` (20) and `SOAK_CONNECTIONS` (10,000) set how long.

mod common;

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::ops::AddAssign;
use std::thread;
use std::time::Duration;
use std::{env, str};

use common::{Client, GET, PATIENCE, Server, wait_until, with_each_number_of_workers};

const CLIENTS: usize = 16;

fn setting(variable: &str, default: u64) -> u64 {
    env::var(variable).map_or(default, |value| value.parse().expect("a number"))
}

/// How requests and connections ended for the clients of a server that stops under load.
#[derive(Debug, Default)]
struct Tally {
    answered: usize,
    /// Connections that ended as announced, after a response with `Connection: close`.
    announced: usize,
    /// Requests on a kept connection that crossed its close on the way: the server had not received them
    /// yet, and had nothing more to do. Without a delay HTTP/1.1 has no way to prevent that.
    raced: usize,
    /// Connections that the kernel had made and the server never accepted: made after its last look
    /// at the queue.
    unaccepted: usize,
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.answered += other.answered;
        self.announced += other.announced;
        self.raced += other.raced;
        self.unaccepted += other.unaccepted;
    }
}

/// Sends request after request, each as soon as the last is answered, until nobody listens.
fn client(address: SocketAddr) -> Tally {
    let mut tally = Tally::default();
    while let Ok(mut stream) = TcpStream::connect_timeout(&address, PATIENCE) {
        stream
            .set_read_timeout(Some(PATIENCE))
            .expect("a timeout can be set");
        let mut answers = 0;
        loop {
            match request(&mut stream) {
                Some(close) => {
                    answers += 1;
                    if close {
                        tally.announced += 1;
                        let after = stream.read_to_end(&mut Vec::new());
                        assert_eq!(after.expect("an orderly close"), 0);
                        // A firewall remembers each closed connection for two minutes, and has
                        // room for some 100,000.
                        thread::sleep(Duration::from_millis(5));
                        break;
                    }
                }
                None if answers == 0 => break tally.unaccepted += 1,
                None => break tally.raced += 1,
            }
        }
        tally.answered += answers;
    }
    tally
}

/// Whether the response says `close`; nothing if there is none. Half a response is a failure.
fn request(stream: &mut TcpStream) -> Option<bool> {
    if stream.write_all(GET.as_bytes()).is_err() {
        return None;
    }
    let mut response = Vec::new();
    while !is_whole(&response) {
        let mut part = [0; 1024];
        match stream.read(&mut part) {
            Ok(0) => break,
            Ok(length) => response.extend_from_slice(&part[..length]),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => break,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => panic!("{error}"),
        }
    }
    if response.is_empty() {
        return None;
    }
    let response = str::from_utf8(&response).expect("text");
    assert!(response.starts_with("HTTP/1.1 200 OK\r\n"), "{response}");
    assert!(is_whole(response.as_bytes()), "{response}");
    Some(response.contains("\r\nconnection: close\r\n"))
}

/// Whether a response has a head and all of its body.
fn is_whole(response: &[u8]) -> bool {
    let response = String::from_utf8_lossy(response);
    let Some((head, body)) = response.split_once("\r\n\r\n") else {
        return false;
    };
    let mut lines = head.lines();
    let length = lines.find_map(|line| line.strip_prefix("content-length: "));
    body.len() == length.map_or(0, |length| length.parse().expect("a number"))
}

fn stop_under_load(delay: &str, workers: &str) -> Tally {
    let mut total = Tally::default();
    for _ in 0..setting("SOAK_STOPS", 20) {
        let mut server = Server::start(&[("SHUTDOWN_DELAY", delay), ("WORKERS", workers)]);
        let address = server.address;
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| thread::spawn(move || client(address)))
            .collect();
        thread::sleep(Duration::from_millis(100));
        server.signal("TERM");
        assert_eq!(server.exit().code(), Some(0));
        for client in clients {
            total += client.join().expect("no half response");
        }
    }
    println!("SHUTDOWN_DELAY={delay} WORKERS={workers}: {total:?}");
    total
}

#[test]
#[ignore = "takes several seconds"]
fn no_kept_connection_ends_unannounced_while_the_delay_lasts() {
    with_each_number_of_workers(|workers| {
        let tally = stop_under_load("300ms", workers);
        assert_eq!(tally.raced, 0);
        assert!(tally.announced > 0);
    });
}

#[test]
#[ignore = "takes several seconds"]
fn no_response_is_cut_short_without_a_delay() {
    with_each_number_of_workers(|workers| {
        assert!(stop_under_load("0", workers).answered > 0);
    });
}

/// Resident memory in KiB, and open descriptors.
fn resources(server: &Server) -> (u64, usize) {
    let status = fs::read_to_string(format!("/proc/{}/status", server.pid())).expect("status");
    let resident = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .expect("VmRSS");
    let resident = resident
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .expect("a number");
    let descriptors = fs::read_dir(format!("/proc/{}/fd", server.pid())).expect("descriptors");
    (resident, descriptors.count())
}

/// Opens a connection, does something with it, and drops it wherever it is.
fn churn_once(address: SocketAddr, random: &mut fastrand::Rng) {
    let mut client = Client::connect(address);
    let mut request = GET.as_bytes().to_vec();
    match random.u8(0..8) {
        0 => return,
        1 => request.truncate(random.usize(1..GET.len())),
        2 => request[random.usize(..GET.len())] = random.u8(..),
        3 => request = GET.repeat(random.usize(2..200)).into_bytes(),
        4 => {
            request = b"GET /livez HTTP/1.1\r\nHost: test\r\nContent-Length: 9\r\n\r\nhalf".to_vec()
        }
        5 => {
            request = (0..random.usize(1..20_000))
                .map(|_| random.u8(..))
                .collect()
        }
        6 => {
            client.send(&request);
            client.response();
        }
        _ => {}
    }
    // The server may have had enough already.
    let _ = client.0.write_all(&request);
    if random.bool() {
        let _ = client.0.read(&mut [0; 64]);
    }
}

fn churn(address: SocketAddr, connections: u64) {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    thread::scope(|scope| {
        for churner in 0..CLIENTS as u64 {
            scope.spawn(move || {
                let mut random = fastrand::Rng::with_seed(seed.wrapping_add(churner));
                for _ in 0..connections / CLIENTS as u64 {
                    churn_once(address, &mut random);
                }
            });
        }
    });
}

#[test]
#[ignore = "takes a minute"]
fn connections_dropped_at_random_leave_nothing_behind() {
    let mut server = Server::start(&[("HEADER_TIMEOUT", "100ms"), ("MAX_CONNECTIONS", "200")]);
    let (_, descriptors) = resources(&server);
    let churn_and_settle = |connections| {
        churn(server.address, connections);
        wait_until("no more descriptors are open than before", || {
            resources(&server).1 <= descriptors
        });
        resources(&server).0
    };
    // What the server needs at its busiest may stay with it: only growth after that is a leak.
    let before = churn_and_settle(2_000);
    let connections = setting("SOAK_CONNECTIONS", 10_000);
    let after = churn_and_settle(connections);
    println!("{connections} connections: {before} KiB before, {after} KiB right after");
    wait_until("the server has no more than a quarter more", || {
        // The server looks for memory to give back when enough connections have ended.
        assert_eq!(server.get("/health").status, 200);
        resources(&server).0 <= before + before / 4
    });
    server.signal("TERM");
    assert_eq!(server.exit().code(), Some(0));
}

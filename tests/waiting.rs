//! Connections that wait cost nothing. Alone in its process, where it counts what the workers do.

mod common;
#[path = "service/harness.rs"]
mod harness;
#[path = "service/sync.rs"]
mod sync;

use std::fs;
use std::future::ready;
use std::num::NonZeroUsize;
use std::thread;
use std::time::{Duration, Instant};

use common::{Client, PATIENCE};
use harness::{Family, Server, get, limits, text};
use scratch_server::Limits;
use sync::{Count, Gate};
use tokio::task::spawn_local;
use tokio::time::sleep;

/// They need twice as many descriptors, because both ends are in this process.
const CONNECTIONS: usize = 500;

/// What all workers together may do in one second: much less than one look at each connection, or
/// than one wake-up in 20 ms.
const MOST_TICKS: u64 = 5;
const MOST_WAKE_UPS: u64 = 25;

/// The clock ticks (10 ms) that the workers have spent, and how often they have waited.
fn spent_by_workers() -> (u64, u64) {
    let (mut ticks, mut waits) = (0, 0);
    for task in fs::read_dir("/proc/self/task").expect("proc(5)") {
        let read = |file: &str| {
            let path = task.as_ref().expect("a thread").path().join(file);
            // It may have ended since.
            fs::read_to_string(path).unwrap_or_default()
        };
        if !read("comm").ends_with("worker\n") {
            continue;
        }
        let stat = read("stat");
        let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
        let fields = fields.split_whitespace().skip(11).take(2);
        ticks += fields
            .map(|ticks| ticks.parse::<u64>().expect("a number"))
            .sum::<u64>();
        let status = read("status");
        let voluntary = status
            .lines()
            .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        waits += voluntary.map_or(0, |count| count.trim().parse().expect("a number"));
    }
    (ticks, waits)
}

/// Waits for a second in which the workers do next to nothing.
fn assert_quiet(name: &str) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let before = spent_by_workers();
        thread::sleep(Duration::from_secs(1));
        let after = spent_by_workers();
        let ticks = after.0.saturating_sub(before.0);
        let waits = after.1.saturating_sub(before.1);
        if ticks <= MOST_TICKS && waits <= MOST_WAKE_UPS {
            return;
        }
        assert!(
            Instant::now() < deadline,
            "{name}: {ticks} ticks, {waits} wake-ups in a second"
        );
    }
}

/// Five hundred connections, each with `bytes` sent.
fn connect_all(server: &Server, bytes: &str) -> Vec<Client> {
    let connect = |_| {
        let mut client = server.connect();
        client.send(bytes);
        client
    };
    (0..CONNECTIONS).map(connect).collect()
}

#[test]
fn connections_that_wait_cost_nothing() {
    const POST: &str = "POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 100000\r\n\r\n";
    let large = hyper::body::Bytes::from(vec![b'x'; 1_000_000]);
    let short_head = Limits {
        header_timeout: Duration::from_millis(100),
        ..limits()
    };
    for workers in [1, 4].map(|count| NonZeroUsize::new(count).expect("not zero")) {
        let (running, gate) = (Count::default(), Gate::new());
        // On a unix socket, where the kernel takes 200 kB of a large answer and not megabytes.
        let server = Server::start_on(Family::Unix, workers, limits(), {
            let (running, gate, large) = (running.clone(), gate.clone(), large.clone());
            move |request| {
                let (running, gate, large) = (running.clone(), gate.clone(), large.clone());
                async move {
                    running.add(1);
                    if request.uri() == "/wait" {
                        gate.pass().await;
                    }
                    text(large)
                }
            }
        });
        // A handler that waits.
        let clients = connect_all(&server, &get("/wait"));
        running.wait_for(CONNECTIONS);
        assert_quiet("handlers");
        drop(clients);
        // A peer that does not take its answer.
        let clients = connect_all(&server, &get("/"));
        running.wait_for(2 * CONNECTIONS);
        assert_quiet("answers");
        drop(clients);
        // A head that is not whole.
        let clients = connect_all(&server, "GET / HTTP/1.1\r\nHost: test\r\n");
        assert_quiet("heads");
        drop(clients);
        // No request at all.
        let clients = connect_all(&server, "");
        assert_quiet("silence");
        drop(clients);
        // A body that its service holds, of which more comes after the answer than the server reads: the
        // bytes could be a head, until the time of a head is over.
        let server = Server::start(workers, short_head.clone(), |request| {
            spawn_local(async move {
                sleep(2 * PATIENCE).await;
                drop(request);
            });
            ready(text("at once"))
        });
        let clients: Vec<_> = (0..20)
            .map(|_| {
                let mut client = server.connect();
                assert_eq!(client.request(POST).body, "at once");
                client.send([b'x'; 50_000]);
                client
            })
            .collect();
        assert_quiet("bodies");
        drop(clients);
    }
}

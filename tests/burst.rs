//! Memory after a burst of connections: alone in its process, as it holds a thousand descriptors.

mod common;

use std::fs;

use common::{GET, Server, wait_until};

const CONNECTIONS: usize = 900;

/// What the process holds of its own in RAM, in KiB.
fn held(server: &Server) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", server.pid())).expect("proc(5)");
    let held = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"))
        .and_then(|held| held.trim().strip_suffix(" kB"));
    held.expect("a line for it").parse().expect("a number")
}

#[test]
fn memory_goes_back_to_the_kernel_when_a_burst_is_over() {
    for workers in ["1", "4"] {
        let server = Server::start(&[("WORKERS", workers), ("HEADER_TIMEOUT", "60s")]);
        server.get("/livez");
        let before = held(&server);
        let (start, rest) = GET.split_at(10);
        let mut clients: Vec<_> = (0..CONNECTIONS).map(|_| server.connect()).collect();
        clients.iter_mut().for_each(|client| client.send(start));
        wait_until("each connection has its buffers", || {
            held(&server) > before + 5_000
        });
        for client in &mut clients {
            assert_eq!(client.request(rest).status, 200);
        }
        let during = held(&server);
        // Each connection keeps a kilobyte, and with it the page in which that lies.
        wait_until("quiet connections have given their buffers back", || {
            held(&server) < during / 2
        });
        drop(clients);
        // glibc keeps a heap for each thread, and in each what shares its pages with a block that is in use: up to
        // 2 MB, where a busy machine spread the connections over the workers.
        let left = if cfg!(target_env = "musl") {
            500
        } else {
            3_000
        };
        wait_until("closed connections have given nearly all back", || {
            held(&server) < before + left
        });
    }
}

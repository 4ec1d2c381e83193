//! Clients that take their answer slowly, and those that do not take it.

use std::future::ready;
use std::io::{ErrorKind, Read};
use std::num::NonZeroUsize;
use std::thread;
use std::time::{Duration, Instant};

use hyper::Request;
use hyper::body::Bytes;
use hyper::service::service_fn;
use scratch_server::Limits;

use crate::harness::{Family, Server, get, limits, text};
use crate::sync::Count;

test_with_one_worker_and_four!(
    a_client_that_takes_something_now_and_then_is_not_cut_off,
    a_client_that_takes_nothing_is_cut_off,
);

const LENGTH: usize = 10_000_000;

/// Serves a large answer, and counts the open connections.
fn start(family: Family, workers: NonZeroUsize, write_timeout: Duration) -> (Server, Count) {
    let limits = Limits {
        write_timeout,
        ..limits()
    };
    let open = Count::default();
    let large = Bytes::from(vec![b'x'; LENGTH]);
    let server = Server::start_with(family, workers, limits, {
        let open = open.clone();
        move |_peer| {
            let (open, large) = (open.guard(), large.clone());
            service_fn(move |_: Request<_>| {
                let _open = &open;
                ready(Ok(text(large.clone())))
            })
        }
    });
    (server, open)
}

/// The client takes too little to make room for more: the kernel reports room only when a third of its buffer
/// is free, or three quarters on a unix socket.
fn a_client_that_takes_something_now_and_then_is_not_cut_off(workers: NonZeroUsize) {
    let write_timeout = Duration::from_secs(2);
    for (family, a_little) in [(Family::Ipv4, 20_000), (Family::Unix, 5_000)] {
        let (server, _) = start(family, workers, write_timeout);
        let mut client = server.connect();
        client.send(get("/"));
        client.head_response();
        let mut taken = 0;
        let start = Instant::now();
        while start.elapsed() < 2 * write_timeout {
            thread::sleep(Duration::from_millis(100));
            taken += client.read_exact(a_little).len();
        }
        client.read_exact(LENGTH - taken);
        assert_eq!(client.request(&get("/")).status, 200, "{family:?}");
    }
}

fn a_client_that_takes_nothing_is_cut_off(workers: NonZeroUsize) {
    for family in Family::BOTH {
        let (server, open) = start(family, workers, Duration::from_millis(300));
        let mut client = server.connect();
        client.send(get("/"));
        client.head_response();
        open.wait_for(0);
        let mut body = Vec::new();
        let end = client.0.read_to_end(&mut body);
        assert!(body.len() < LENGTH, "{family:?}: {}", body.len());
        if let Family::Ipv4 = family {
            let error = end.map_err(|error| error.kind());
            assert_eq!(error, Err(ErrorKind::ConnectionReset));
        }
    }
}

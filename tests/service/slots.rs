//! How many connections are busy at a time.

use std::future::ready;
use std::io::{Read, Write};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread;

use hyper::body::Bytes;
use scratch_server::Limits;

use crate::common::Client;
use crate::harness::{Family, Server, limits, text};
use crate::sync::{Count, Gate};

test_with_one_worker_and_four!(
    busy_connections_never_exceed_the_cap_and_the_others_wait,
    an_eviction_does_not_reset_an_answer_that_is_on_its_way,
);

const CAP: usize = 4;
const CLIENTS: usize = 20;
const GET_AND_CLOSE: &str = "GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n";

fn busy_connections_never_exceed_the_cap_and_the_others_wait(workers: NonZeroUsize) {
    for family in Family::BOTH {
        let (running, ended) = (Count::default(), Count::default());
        let (gate, most) = (Gate::new(), Arc::new(AtomicUsize::new(0)));
        let limits = Limits {
            max_connections: NonZeroUsize::new(CAP).expect("not zero"),
            ..limits()
        };
        let server = Server::start_on(family, workers, limits, {
            let (running, ended) = (running.clone(), ended.clone());
            let (gate, most) = (gate.clone(), most.clone());
            move |_| {
                let (running, ended) = (running.clone(), ended.clone());
                let (gate, most) = (gate.clone(), most.clone());
                async move {
                    let guard = running.guard();
                    most.fetch_max(running.current(), SeqCst);
                    gate.pass().await;
                    drop(guard);
                    ended.add(1);
                    text("served")
                }
            }
        });
        let mut clients: Vec<_> = (0..CLIENTS).map(|_| server.connect()).collect();
        clients
            .iter_mut()
            .for_each(|client| client.send(GET_AND_CLOSE));
        for served in 0..CLIENTS {
            // Each connection that ends lets another in, as long as one waits.
            running.wait_for(CAP.min(CLIENTS - served));
            gate.admit(1);
            ended.wait_for(served + 1);
        }
        for client in &mut clients {
            assert_eq!(client.response().body, "served");
        }
        assert_eq!(most.load(SeqCst), CAP, "{family:?}");
    }
}

/// Each client sends a body that nobody reads, so that its connection closes in stages after the answer,
/// and the next client waits for its slot.
fn an_eviction_does_not_reset_an_answer_that_is_on_its_way(workers: NonZeroUsize) {
    const CLIENTS: usize = 8;
    const REQUESTS: usize = 50;
    let limits = Limits {
        max_connections: NonZeroUsize::new(2).expect("2 is not zero"),
        ..limits()
    };
    let large = Bytes::from(vec![b'x'; 500_000]);
    let server = Server::start(workers, limits, {
        let large = large.clone();
        move |_| ready(text(large.clone()))
    });
    let head = "POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 20000\r\n\r\n";
    let request = head.to_owned() + &"x".repeat(20_000);
    let address = server.address();
    let served = Count::default();
    thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                for _ in 0..REQUESTS {
                    let mut stream = Client::connect(address).0;
                    let mut answer = Vec::new();
                    let end = stream
                        .write_all(request.as_bytes())
                        .and_then(|()| stream.read_to_end(&mut answer));
                    // A connection may be evicted before its first byte arrives.
                    assert!(answer.is_empty() || answer.ends_with(&large), "{end:?}");
                    served.add(usize::from(!answer.is_empty()));
                }
            });
        }
    });
    assert!(served.current() > 0);
}

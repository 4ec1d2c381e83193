//! Times that are too long for the clock.

use std::num::NonZeroUsize;
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::Request;
use hyper::body::Bytes;
use scratch_server::{Drained, Limits};

use crate::harness::{Server, get, text};
use crate::sync::Count;

test_with_one_worker_and_four!(a_time_that_is_too_long_for_the_clock_never_passes);

const LENGTH: usize = 10_000_000;

fn a_time_that_is_too_long_for_the_clock_never_passes(workers: NonZeroUsize) {
    let limits = Limits {
        header_timeout: Duration::MAX,
        idle_timeout: Duration::MAX,
        read_timeout: Duration::MAX,
        write_timeout: Duration::MAX,
        shutdown_timeout: Duration::MAX,
        ..Limits::default()
    };
    let large = Bytes::from(vec![b'x'; LENGTH]);
    let called = Count::default();
    let mut server = Server::start(workers, limits, {
        let called = called.clone();
        move |request| {
            called.add(1);
            let large = large.clone();
            async move {
                let body = Request::into_body(request).collect().await;
                body.expect("the body comes");
                text(large)
            }
        }
    });
    let [mut idle, mut late_head, mut late_body, mut stalled] = [(); 4].map(|()| server.connect());
    for client in [&mut idle, &mut late_head] {
        client.send(get("/"));
        client.head_response();
        client.read_exact(LENGTH);
    }
    late_head.send("GET / HT");
    late_body.send("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 1\r\n\r\n");
    stalled.send(get("/"));
    called.wait_for(4);
    // Takes many looks at all of them.
    for _ in 0..10 {
        let mut client = server.connect();
        client.send(get("/"));
        client.head_response();
        client.read_exact(LENGTH);
    }
    server.drain(idle);
    late_head.send("TP/1.1\r\nHost: test\r\n\r\n");
    late_body.send("x");
    for client in [&mut late_head, &mut late_body, &mut stalled] {
        assert_eq!(client.head_response().status, 200);
        client.read_exact(LENGTH);
        client.assert_closed();
    }
    assert_eq!(server.drained(), Drained::Complete);
}

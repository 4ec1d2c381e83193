//! A service that answers at once, and goes on reading the body of the request.

use std::error::Error;
use std::future::ready;
use std::io::{self, ErrorKind};
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use http_body_util::BodyExt;
use scratch_server::{Drained, Limits};
use tokio::task::spawn_local;

use crate::harness::{Server, limits, text};
use crate::sync::Count;

test_with_one_worker_and_four!(
    a_slow_body_is_received_and_never_taken_for_a_request,
    a_body_that_comes_whole_after_the_answer_ends_at_once,
    a_body_is_received_during_the_drain,
    a_body_that_stalls_ends_in_an_error,
);

/// Looks like a request.
const PIECE: &str = "GET / HTTP/1.1\r\nHost: test\r\n\r\n";
const PIECES: usize = 10;
const LENGTH: &str = "POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 300\r\n\r\n";
const CHUNKED: &str = "POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n";

/// What the service tells the test.
#[derive(Clone, Default)]
struct Receiver {
    called: Count,
    received: Count,
    ended: Count,
    bytes: Arc<Mutex<Vec<u8>>>,
    error: Arc<Mutex<Option<hyper::Error>>>,
}

impl Receiver {
    fn start(workers: NonZeroUsize, limits: Limits) -> (Server, Self) {
        let receiver = Self::default();
        let server = Server::start(workers, limits, {
            let receiver = receiver.clone();
            move |mut request| {
                let receiver = receiver.clone();
                receiver.called.add(1);
                spawn_local(async move {
                    while let Some(frame) = request.frame().await {
                        match frame {
                            Ok(frame) => {
                                let data = frame.into_data().expect("no trailers were sent");
                                let mut bytes = receiver.bytes.lock().expect("nobody panics");
                                bytes.extend_from_slice(&data);
                                receiver.received.add(data.len());
                            }
                            Err(error) => {
                                *receiver.error.lock().expect("nobody panics") = Some(error);
                                break;
                            }
                        }
                    }
                    receiver.ended.add(1);
                });
                ready(text("at once"))
            }
        });
        (server, receiver)
    }

    fn assert_received(&self, pieces: usize) {
        self.ended.wait_for(1);
        let bytes = self.bytes.lock().expect("nobody panics");
        assert_eq!(*bytes, PIECE.repeat(pieces).as_bytes());
        assert_eq!(self.called.current(), 1);
    }
}

/// A piece of the body, as it is sent.
fn piece(head: &str) -> String {
    match head {
        CHUNKED => format!("{:x}\r\n{PIECE}\r\n", PIECE.len()),
        _ => PIECE.to_owned(),
    }
}

fn a_slow_body_is_received_and_never_taken_for_a_request(workers: NonZeroUsize) {
    // Limits that are shorter than the body takes, which is no late head; and limits that no test reaches.
    let short = Limits {
        header_timeout: Duration::from_millis(100),
        idle_timeout: Duration::from_millis(100),
        ..limits()
    };
    for (head, limits) in [
        (LENGTH, short.clone()),
        (CHUNKED, short),
        (LENGTH, limits()),
        (CHUNKED, limits()),
    ] {
        let (server, receiver) = Receiver::start(workers, limits);
        let mut client = server.connect();
        client.send(head);
        assert_eq!(client.response().body, "at once", "{head}");
        for count in 1..=PIECES {
            // A pause, after which a quiet connection would have given its buffers back.
            thread::sleep(Duration::from_millis(50));
            client.send(piece(head));
            receiver.received.wait_for(count * PIECE.len());
        }
        if head == CHUNKED {
            client.send("0\r\n\r\n");
        }
        receiver.assert_received(PIECES);
        client.assert_closed();
    }
}

/// The connection is idle then: a server that stops closes it at once.
fn a_body_that_comes_whole_after_the_answer_ends_at_once(workers: NonZeroUsize) {
    for head in [LENGTH, CHUNKED] {
        let (server, receiver) = Receiver::start(workers, limits());
        let mut client = server.connect();
        client.send(head);
        assert_eq!(client.response().body, "at once", "{head}");
        let end = if head == CHUNKED { "0\r\n\r\n" } else { "" };
        client.send(piece(head).repeat(PIECES) + end);
        receiver.assert_received(PIECES);
        drop(server);
        client.assert_closed();
    }
}

fn a_body_is_received_during_the_drain(workers: NonZeroUsize) {
    for head in [LENGTH, CHUNKED] {
        let (mut server, receiver) = Receiver::start(workers, limits());
        let mut client = server.connect();
        client.send(head);
        assert_eq!(client.response().body, "at once", "{head}");
        client.send(piece(head));
        receiver.received.wait_for(PIECE.len());
        let idle = server.connect();
        server.drain(idle);
        for count in 2..=PIECES {
            client.send(piece(head));
            receiver.received.wait_for(count * PIECE.len());
        }
        if head == CHUNKED {
            client.send("0\r\n\r\n");
        }
        client.assert_closed();
        receiver.assert_received(PIECES);
        assert_eq!(server.drained(), Drained::Complete);
    }
}

fn a_body_that_stalls_ends_in_an_error(workers: NonZeroUsize) {
    let limits = Limits {
        read_timeout: Duration::from_millis(300),
        ..limits()
    };
    for head in [LENGTH, CHUNKED] {
        let (server, receiver) = Receiver::start(workers, limits.clone());
        let mut client = server.connect();
        client.send(head.to_owned() + &piece(head));
        assert_eq!(client.response().body, "at once", "{head}");
        receiver.assert_received(1);
        client.assert_closed();
        let error = receiver.error.lock().expect("nobody panics").take();
        let error = error.expect("an error");
        let source = error
            .source()
            .and_then(|source| source.downcast_ref::<io::Error>());
        assert_eq!(
            source.map(io::Error::kind),
            Some(ErrorKind::TimedOut),
            "{error:?}"
        );
    }
}

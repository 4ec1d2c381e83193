//! Answers that cannot be completed: no client takes a part of one for the whole. A handler that panics
//! gives none.

use std::future::ready;
use std::io::{self, ErrorKind};
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::CONTENT_LENGTH;
use hyper::service::service_fn;
use hyper::{Request, Response};
use scratch_server::{Drained, Limits};

use crate::common::{Client, PATIENCE};
use crate::harness::{Family, Server, Stream, StreamSender, get, limits, send_frame, text};

test_with_one_worker_and_four!(
    a_chunked_body_that_ends_in_an_error_has_no_last_chunk,
    a_body_of_known_length_that_ends_in_an_error_is_short,
    a_body_that_ends_before_its_length_is_short,
    an_http_1_0_body_that_ends_in_an_error_is_reset,
    an_answer_that_is_cut_off_is_not_completed,
    an_http_1_0_answer_that_is_cut_off_is_reset,
    a_handler_that_panics_ends_its_connection_and_frees_its_slot,
    a_service_that_cannot_be_made_ends_its_connection_and_frees_its_slot,
);

/// Serves bodies that are streamed by the test; of length 10 under `/length`.
fn start(
    family: Family,
    workers: NonZeroUsize,
    limits: Limits,
) -> (Server, Receiver<StreamSender>) {
    let (senders, bodies) = channel();
    let server = Server::start_on(family, workers, limits, move |request| {
        let (sender, body) = Stream::new(1);
        senders.send(sender).expect("the test waits for it");
        let mut response = Response::new(body);
        if request.uri() == "/length" {
            response.headers_mut().insert(CONTENT_LENGTH, 10.into());
        }
        ready(response)
    });
    (server, bodies)
}

/// Sends `request`, and waits until a first part of the answer is there.
fn read_first_part(
    server: &Server,
    bodies: &Receiver<StreamSender>,
    request: &str,
) -> (Client, StreamSender) {
    let mut client = server.connect();
    client.send(request);
    let mut sender = bodies.recv_timeout(PATIENCE).expect("a request");
    send_frame(&mut sender, "part");
    client.read_until("part");
    (client, sender)
}

fn is_reset(client: &mut Client) -> bool {
    let end = client.read_to_end();
    end.is_err_and(|error| error.kind() == ErrorKind::ConnectionReset)
}

fn a_chunked_body_that_ends_in_an_error_has_no_last_chunk(workers: NonZeroUsize) {
    for family in Family::BOTH {
        let (server, bodies) = start(family, workers, limits());
        let (mut client, sender) = read_first_part(&server, &bodies, &get("/"));
        sender.abort(io::Error::other("broken"));
        let rest = client.read_to_end().expect("an orderly close");
        assert_eq!(rest, b"\r\n", "{family:?}");
    }
}

fn a_body_of_known_length_that_ends_in_an_error_is_short(workers: NonZeroUsize) {
    for family in Family::BOTH {
        let (server, bodies) = start(family, workers, limits());
        let (mut client, sender) = read_first_part(&server, &bodies, &get("/length"));
        sender.abort(io::Error::other("broken"));
        client.assert_closed();
    }
}

fn a_body_that_ends_before_its_length_is_short(workers: NonZeroUsize) {
    for family in Family::BOTH {
        let (server, bodies) = start(family, workers, limits());
        let (mut client, sender) = read_first_part(&server, &bodies, &get("/length"));
        drop(sender);
        client.assert_closed();
    }
}

fn an_http_1_0_body_that_ends_in_an_error_is_reset(workers: NonZeroUsize) {
    let (server, bodies) = start(Family::Ipv4, workers, limits());
    let (mut client, sender) = read_first_part(&server, &bodies, "GET / HTTP/1.0\r\n\r\n");
    sender.abort(io::Error::other("broken"));
    assert!(is_reset(&mut client));
}

fn an_answer_that_is_cut_off_is_not_completed(workers: NonZeroUsize) {
    for family in Family::BOTH {
        let limits = Limits {
            shutdown_timeout: Duration::from_millis(100),
            ..limits()
        };
        let (mut server, bodies) = start(family, workers, limits);
        let (mut client, _sender) = read_first_part(&server, &bodies, &get("/"));
        server.stop();
        assert_eq!(server.drained(), Drained::CutOff(1));
        assert_eq!(client.read_to_end().expect("an orderly close"), b"\r\n");
    }
}

fn an_http_1_0_answer_that_is_cut_off_is_reset(workers: NonZeroUsize) {
    let limits = Limits {
        shutdown_timeout: Duration::from_millis(100),
        ..limits()
    };
    let (mut server, bodies) = start(Family::Ipv4, workers, limits);
    let (mut client, _sender) = read_first_part(&server, &bodies, "GET / HTTP/1.0\r\n\r\n");
    server.stop();
    assert_eq!(server.drained(), Drained::CutOff(1));
    assert!(is_reset(&mut client));
}

fn a_handler_that_panics_ends_its_connection_and_frees_its_slot(workers: NonZeroUsize) {
    let limits = Limits {
        max_connections: NonZeroUsize::MIN,
        ..limits()
    };
    let mut server = Server::start(workers, limits, |request| {
        assert_eq!(request.uri(), "/", "as the test wants it");
        ready(text("answered"))
    });
    for _ in 0..4 {
        let mut client = server.connect();
        client.send(get("/panic"));
        client.assert_closed();
    }
    assert_eq!(server.get("/").body, "answered");
    server.stop();
    assert_eq!(server.drained(), Drained::Complete);
}

fn a_service_that_cannot_be_made_ends_its_connection_and_frees_its_slot(workers: NonZeroUsize) {
    let limits = Limits {
        max_connections: NonZeroUsize::MIN,
        ..limits()
    };
    let failures = workers.get();
    let made = AtomicUsize::new(0);
    let mut server = Server::start_with(Family::Ipv4, workers, limits, move |_| {
        assert!(
            made.fetch_add(1, Relaxed) >= failures,
            "as the test wants it"
        );
        service_fn(|_: Request<Incoming>| ready(Ok(text("answered"))))
    });
    for _ in 0..failures {
        let mut client = server.connect();
        client.assert_closed();
    }
    assert_eq!(server.get("/").body, "answered");
    server.stop();
    assert_eq!(server.drained(), Drained::Complete);
}

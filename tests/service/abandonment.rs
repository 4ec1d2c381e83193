//! Clients that are gone, by the end of their stream (FIN) or by a reset: their requests are abandoned,
//! and those of clients that only half-closed are answered.

use std::future::ready;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use scratch_server::{Drained, Limits};

use crate::common::{Client, wait_until};
use crate::harness::{Family, Server, get, limits, text};
use crate::routes::{Routes, start_request};

test_with_one_worker_and_four!(
    a_client_that_half_closes_gets_its_answers,
    a_client_that_half_closes_and_is_slow_gets_a_large_answer,
    a_client_that_half_closes_gets_an_answer_that_moves,
    a_body_that_is_read_is_answered_after_the_end_of_the_stream,
    a_client_that_closes_before_its_answer_is_abandoned,
    a_client_that_closes_during_its_answer_is_abandoned,
    a_client_that_resets_is_abandoned,
    a_client_that_resets_before_its_answer_is_written_holds_nothing,
    bytes_that_nobody_reads_hide_the_end_of_the_stream,
    bytes_that_nobody_reads_do_not_hide_a_reset,
    abandoned_handlers_lock_nobody_out_and_hold_no_stop,
);

/// Longer than a half-closed client is waited for.
const LONG: Duration = Duration::from_millis(1_500);

fn a_client_that_half_closes_gets_its_answers(workers: NonZeroUsize) {
    for family in Family::BOTH {
        let (server, routes) = Routes::start(family, workers, limits());
        // On a fresh connection.
        for (path, body) in [("/now", "now"), ("/100ms", "late")] {
            let mut client = server.connect();
            client.send(get(path));
            client.half_close();
            assert_eq!(client.response().body, body, "{family:?}");
            client.assert_closed();
        }
        // On a kept one, where the event loop learns of the end of the stream together with the requests
        // before it.
        for later in [
            ["/now"].as_slice(),
            &["/now"; 3],
            &["/100ms"; 3],
            &["/100ms", "/now"],
        ] {
            let mut client = server.connect();
            client.send(get("/block"));
            routes.blocked.wait_for(1);
            later.iter().for_each(|path| client.send(get(path)));
            client.half_close();
            routes.gate.admit(1);
            assert_eq!(client.response().body, "blocked");
            for path in later {
                let body = if *path == "/now" { "now" } else { "late" };
                assert_eq!(client.response().body, body, "{family:?} {later:?}");
            }
            client.assert_closed();
            routes.blocked.reset();
        }
    }
}

fn a_client_that_half_closes_and_is_slow_gets_a_large_answer(workers: NonZeroUsize) {
    for family in Family::BOTH {
        let (server, _) = Routes::start(family, workers, limits());
        let mut client = server.connect();
        client.send(get("/large"));
        client.half_close();
        client.head_response();
        // Too little at a time to make room for more, so that nothing is written meanwhile.
        for _ in 0..2 {
            thread::sleep(LONG);
            client.read_exact(50_000);
        }
        client.read_exact(10_000_000 - 2 * 50_000);
        client.assert_closed();
    }
}

/// All of it takes longer than a half-closed client is waited for.
fn a_client_that_half_closes_gets_an_answer_that_moves(workers: NonZeroUsize) {
    for family in Family::BOTH {
        let (server, _) = Routes::start(family, workers, limits());
        let mut client = server.connect();
        client.send(get("/slow"));
        client.half_close();
        client.head_response();
        let body = "5\r\nframe\r\n".repeat(8) + "0\r\n\r\n";
        assert_eq!(client.read_until("0\r\n\r\n"), body, "{family:?}");
        client.assert_closed();
    }
}

fn a_body_that_is_read_is_answered_after_the_end_of_the_stream(workers: NonZeroUsize) {
    const LENGTH: &str = "POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: 20000\r\n\r\n";
    const CHUNKED: &str = "POST /echo HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n";
    let body = "x".repeat(20_000);
    let chunks = format!("3e8\r\n{}\r\n", "x".repeat(1_000)).repeat(20);
    for family in Family::BOTH {
        let (server, routes) = Routes::start(family, workers, limits());
        for (request, echoed) in [
            ([LENGTH, &body].concat(), body.as_str()),
            ([CHUNKED, &chunks, "0\r\n\r\n"].concat(), &body),
            // Not whole: the handler gets an error, and may answer.
            ([LENGTH, "half"].concat(), "incomplete"),
            ([CHUNKED, &chunks].concat(), "incomplete"),
        ] {
            let mut client = server.connect();
            client.send(&request);
            client.half_close();
            assert!(client.response().body == echoed, "{family:?}");
            client.assert_closed();
            // The same, behind another request and all of it in the socket.
            let mut client = server.connect();
            client.send(get("/block"));
            routes.blocked.wait_for(1);
            client.send(&request);
            client.half_close();
            routes.gate.admit(1);
            assert_eq!(client.response().body, "blocked");
            assert!(client.response().body == echoed, "{family:?}");
            client.assert_closed();
            routes.blocked.reset();
        }
    }
}

fn a_client_that_closes_before_its_answer_is_abandoned(workers: NonZeroUsize) {
    for family in Family::BOTH {
        let (server, routes) = Routes::start(family, workers, limits());
        // The client closes the connection, or only its own side.
        drop(start_request(&server, &routes, &get("/wait")));
        routes.running.wait_for(0);
        let mut client = start_request(&server, &routes, &get("/wait"));
        client.half_close();
        client.assert_closed();
        assert_eq!(routes.running.current(), 0, "{family:?}");
        // So is the second request of a connection.
        let mut client = start_request(&server, &routes, &(get("/now") + &get("/wait")));
        client.half_close();
        assert_eq!(client.response().body, "now");
        client.assert_closed();
        assert_eq!(routes.running.current(), 0, "{family:?}");
    }
}

fn a_client_that_closes_during_its_answer_is_abandoned(workers: NonZeroUsize) {
    for family in Family::BOTH {
        let (server, routes) = Routes::start(family, workers, limits());
        let mut client = start_request(&server, &routes, &get("/stream"));
        client.read_until("first\r\n");
        drop(client);
        routes.running.wait_for(0);
        let mut client = start_request(&server, &routes, &get("/stream"));
        client.half_close();
        client.read_until("first\r\n");
        // No last chunk: what came is not the whole answer.
        client.assert_closed();
        assert_eq!(routes.running.current(), 0, "{family:?}");
    }
}

fn a_client_that_resets_is_abandoned(workers: NonZeroUsize) {
    for family in Family::BOTH {
        let (server, routes) = Routes::start(family, workers, limits());
        // Before the answer, with an earlier one that was not read.
        let client = start_request(&server, &routes, &(get("/now") + &get("/wait")));
        client.wait_until_readable();
        client.reset();
        routes.running.wait_for(0);
        // During the answer.
        let client = start_request(&server, &routes, &get("/stream"));
        client.wait_until_readable();
        client.reset();
        routes.running.wait_for(0);
    }
}

/// The reset comes after the last look at the socket, so the write is what fails.
fn a_client_that_resets_before_its_answer_is_written_holds_nothing(workers: NonZeroUsize) {
    let client = Arc::new(Mutex::new(None::<Client>));
    let mut server = Server::start(workers, limits(), {
        let client = client.clone();
        move |_| {
            if let Some(client) = client.lock().expect("no panic").take() {
                client.reset();
            }
            ready(text("answered"))
        }
    });
    {
        // The handler waits for the lock.
        let mut client = client.lock().expect("no panic");
        client.insert(server.connect()).send(get("/"));
    }
    wait_until("the client resets", || {
        client.lock().expect("no panic").is_none()
    });
    assert_eq!(server.get("/").body, "answered");
    server.stop();
    assert_eq!(server.drained(), Drained::Complete);
}

fn bytes_that_nobody_reads_hide_the_end_of_the_stream(workers: NonZeroUsize) {
    for family in Family::BOTH {
        let (server, routes) = Routes::start(family, workers, limits());
        let body = "POST /wait HTTP/1.1\r\nHost: test\r\nContent-Length: 100000\r\n\r\n".to_owned()
            + &"x".repeat(100_000);
        for request in [body, get("/wait") + &get("/now").repeat(1_000)] {
            let mut client = start_request(&server, &routes, &request);
            client.half_close();
            // Only time can show that something does not happen.
            thread::sleep(LONG);
            routes.gate.admit(1);
            assert_eq!(client.response().body, "waited", "{family:?}");
        }
    }
}

fn bytes_that_nobody_reads_do_not_hide_a_reset(workers: NonZeroUsize) {
    for family in Family::BOTH {
        let (server, routes) = Routes::start(family, workers, limits());
        let requests = get("/now") + &get("/wait") + &get("/now").repeat(1_000);
        let client = start_request(&server, &routes, &requests);
        client.wait_until_readable();
        client.reset();
        routes.running.wait_for(0);
    }
}

fn abandoned_handlers_lock_nobody_out_and_hold_no_stop(workers: NonZeroUsize) {
    for family in Family::BOTH {
        let limits = Limits {
            max_connections: NonZeroUsize::new(20).expect("20 is not zero"),
            ..limits()
        };
        let (mut server, routes) = Routes::start(family, workers, limits);
        let mut clients: Vec<_> = (0..20)
            .map(|_| start_request(&server, &routes, &get("/wait")))
            .collect();
        clients.drain(..10).for_each(Client::reset);
        clients.iter().for_each(Client::half_close);
        assert_eq!(server.get("/now").status, 200, "{family:?}");
        routes.running.wait_for(0);
        // These may be abandoned only when the server drains already.
        let clients: Vec<_> = (0..20)
            .map(|_| start_request(&server, &routes, &get("/wait")))
            .collect();
        drop(clients);
        server.stop();
        assert_eq!(server.drained(), Drained::Complete, "{family:?}");
        assert_eq!(routes.running.current(), 0, "{family:?}");
    }
}

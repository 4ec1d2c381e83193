//! Clients that are gone while the server drains: their requests are over, and not cut off.

use std::num::NonZeroUsize;

use scratch_server::Drained;

use crate::harness::{Family, get, limits};
use crate::routes::{Routes, start_request};

test_with_one_worker_and_four!(
    a_client_that_closes_in_a_drain_counts_as_done,
    a_client_that_resets_in_a_drain_counts_as_done,
    a_client_that_half_closes_in_a_drain_gets_its_answer,
);

fn a_client_that_closes_in_a_drain_counts_as_done(workers: NonZeroUsize) {
    for family in Family::BOTH {
        for request in [get("/wait"), get("/stream")] {
            let (mut server, routes) = Routes::start(family, workers, limits());
            let client = start_request(&server, &routes, &request);
            let idle = server.connect();
            server.drain(idle);
            drop(client);
            assert_eq!(server.drained(), Drained::Complete, "{family:?}");
            assert_eq!(routes.running.current(), 0, "{family:?}");
        }
    }
}

fn a_client_that_resets_in_a_drain_counts_as_done(workers: NonZeroUsize) {
    for family in Family::BOTH {
        for request in [get("/wait"), get("/stream")] {
            let (mut server, routes) = Routes::start(family, workers, limits());
            let client = start_request(&server, &routes, &(get("/now") + &request));
            let idle = server.connect();
            server.drain(idle);
            client.wait_until_readable();
            client.reset();
            assert_eq!(server.drained(), Drained::Complete, "{family:?}");
            assert_eq!(routes.running.current(), 0, "{family:?}");
        }
    }
}

fn a_client_that_half_closes_in_a_drain_gets_its_answer(workers: NonZeroUsize) {
    for family in Family::BOTH {
        let (mut server, routes) = Routes::start(family, workers, limits());
        let mut client = start_request(&server, &routes, &get("/wait"));
        let idle = server.connect();
        server.drain(idle);
        routes.gate.admit(1);
        client.half_close();
        let answer = client.response();
        assert!(answer.closes(), "{family:?}");
        assert_eq!(answer.body, "waited", "{family:?}");
        client.assert_closed();
        assert_eq!(server.drained(), Drained::Complete, "{family:?}");
    }
}

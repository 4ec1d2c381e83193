//! A process that could not run for a while, as under `docker pause` or on a machine that was
//! suspended, does not hold the time that has passed against what came meanwhile.

mod common;

use std::io::{ErrorKind, Read};
use std::thread;
use std::time::Duration;

use common::{Client, GET, Server, with_each_number_of_workers};

/// Long enough for the clients of a test to do what they have to do before.
const TIMEOUT: &str = "3s";

/// Longer than the timeout.
const PAUSE: Duration = Duration::from_millis(3_500);

/// Many, so that it is no accident if all are answered.
const MANY: usize = 100;

/// Stops the process while the clients do something, and for longer than the timeout.
fn pause(server: &Server, meanwhile: impl FnOnce()) {
    server.freeze();
    meanwhile();
    // Not to wait for anything: the length of the pause is the subject.
    thread::sleep(PAUSE);
    server.thaw();
}

/// Connections that the server has accepted.
fn accepted(server: &Server) -> Vec<Client> {
    let clients = (0..MANY).map(|_| server.connect()).collect();
    // They are accepted in order.
    server.get("/livez");
    clients
}

fn assert_all_are_answered(clients: &mut [Client]) {
    for client in clients {
        let response = client.response();
        assert_eq!((response.status, response.closes()), (200, false));
    }
}

#[test]
fn a_first_request_that_came_during_a_pause_is_answered() {
    with_each_number_of_workers(|workers| {
        let server = Server::start(&[("WORKERS", workers), ("HEADER_TIMEOUT", TIMEOUT)]);
        let mut clients = accepted(&server);
        pause(&server, || {
            clients.iter_mut().for_each(|client| client.send(GET));
        });
        assert_all_are_answered(&mut clients);
    });
}

#[test]
fn a_head_whose_rest_came_during_a_pause_is_answered() {
    with_each_number_of_workers(|workers| {
        let server = Server::start(&[("WORKERS", workers), ("HEADER_TIMEOUT", TIMEOUT)]);
        let mut clients = accepted(&server);
        let (start, rest) = GET.split_at(GET.len() / 2);
        clients.iter_mut().for_each(|client| client.send(start));
        // A round trip, so that the server has read the first half.
        server.get("/livez");
        pause(&server, || {
            clients.iter_mut().for_each(|client| client.send(rest));
        });
        assert_all_are_answered(&mut clients);
    });
}

#[test]
fn a_later_request_that_came_during_a_pause_is_answered() {
    with_each_number_of_workers(|workers| {
        let server = Server::start(&[("WORKERS", workers), ("IDLE_TIMEOUT", TIMEOUT)]);
        let mut clients = accepted(&server);
        clients.iter_mut().for_each(|client| client.send(GET));
        assert_all_are_answered(&mut clients);
        pause(&server, || {
            clients.iter_mut().for_each(|client| client.send(GET));
        });
        assert_all_are_answered(&mut clients);
    });
}

#[test]
fn a_client_that_reads_again_during_a_pause_is_served_on() {
    with_each_number_of_workers(|workers| {
        let server = Server::start(&[("WORKERS", workers), ("WRITE_TIMEOUT", TIMEOUT)]);
        let mut stalled = server.stall();
        let client = &mut stalled.client;
        let mut answers = Vec::new();
        pause(&server, || {
            client
                .0
                .set_nonblocking(true)
                .expect("sockets can be nonblocking");
            let error = client.0.read_to_end(&mut answers).expect_err("no end yet");
            assert_eq!(error.kind(), ErrorKind::WouldBlock);
            client
                .0
                .set_nonblocking(false)
                .expect("sockets can be blocking");
        });
        assert!(!answers.is_empty());
        let mut writer = stalled.client.second_handle();
        let last = "GET /livez HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n";
        let end = [stalled.rest(), last].concat();
        let requests = stalled.requests() + 1;
        thread::scope(|scope| {
            scope.spawn(move || writer.send(end));
            let rest = stalled.client.read_to_end().expect("an orderly close");
            answers.extend(rest);
        });
        let answers = String::from_utf8(answers).expect("text");
        assert_eq!(answers.matches("HTTP/1.1 200 OK\r\n").count(), requests);
    });
}

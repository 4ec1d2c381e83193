//! No client can hold the server: each way of trying ends by its own limit, with the right status
//! where HTTP has one, while another client notices nothing.

mod common;

use std::io::{ErrorKind, Write};
use std::net::Shutdown;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use scratch_server::Limits;

use common::{
    Client, GET, PATIENCE, Server, limit_descriptors, wait_until, with_each_number_of_workers,
};

/// Runs `test` while a second client sends request after request, all of which must succeed.
fn beside_another_client(server: &Server, test: impl FnOnce()) {
    /// Ends the other client when `test` is over, also by a panic.
    struct SetOnDrop<'a>(&'a AtomicBool);
    impl Drop for SetOnDrop<'_> {
        fn drop(&mut self) {
            self.0.store(true, Relaxed);
        }
    }

    let done = AtomicBool::new(false);
    let address = server.address;
    thread::scope(|scope| {
        let over = SetOnDrop(&done);
        let done = &done;
        scope.spawn(move || {
            let mut client = Client::connect(address);
            let mut requests = 0;
            while !done.load(Relaxed) || requests == 0 {
                assert_eq!(client.request(GET).status, 200);
                requests += 1;
            }
        });
        test();
        drop(over);
    });
}

/// Sends `chunk` again and again until the server has closed the connection.
fn send_until_closed(client: &mut Client, chunk: &[u8]) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match client.0.write_all(chunk) {
            Ok(()) => assert!(Instant::now() < deadline, "the server still takes bytes"),
            Err(error) => {
                // A write that timed out would show no close.
                let closed = [ErrorKind::BrokenPipe, ErrorKind::ConnectionReset];
                return assert!(closed.contains(&error.kind()), "{error}");
            }
        }
    }
}

#[test]
fn a_head_that_drips_is_answered_408() {
    with_each_number_of_workers(|workers| {
        let server = Server::start(&[("WORKERS", workers), ("HEADER_TIMEOUT", "300ms")]);
        beside_another_client(&server, || {
            // Before the connection, whose time runs from accept on.
            let started = Instant::now();
            let mut client = server.connect();
            let head = format!("GET /{} HTTP/1.1\r\nHost: test\r\n\r\n", "a".repeat(10_000));
            client
                .0
                .set_read_timeout(Some(Duration::from_millis(20)))
                .expect("a timeout");
            for byte in head.bytes() {
                // The wait between two bytes is a read: it ends as soon as there is an answer.
                if client.0.write_all(&[byte]).is_err() || client.0.peek(&mut [0]).is_ok() {
                    break;
                }
            }
            assert!(started.elapsed() >= Duration::from_millis(300));
            assert!(started.elapsed() < Limits::default().header_timeout);
            client
                .0
                .set_read_timeout(Some(PATIENCE))
                .expect("a timeout");
            let response = client.response();
            assert_eq!((response.status, response.closes()), (408, true));
            response.assert_date();
            client.assert_closed();
        });
    });
}

#[test]
fn a_silent_connection_is_closed_without_a_word() {
    let server = Server::start(&[("HEADER_TIMEOUT", "100ms")]);
    beside_another_client(&server, || {
        let started = Instant::now();
        server.connect().assert_closed();
        assert!(started.elapsed() >= Duration::from_millis(100));
        assert!(started.elapsed() < Limits::default().header_timeout);
    });
}

#[test]
fn a_first_head_that_begins_late_has_only_the_rest_of_its_time() {
    let timeout = Duration::from_secs(4);
    let server = Server::start(&[("HEADER_TIMEOUT", "4s")]);
    let mut client = server.connect();
    // Not to wait for anything: the time without a byte is the subject.
    thread::sleep(timeout / 2);
    let begun = Instant::now();
    client.send("GET /livez HT");
    assert_eq!(client.response().status, 408);
    assert!(begun.elapsed() < timeout);
}

#[test]
fn a_head_may_pause_for_longer_than_a_body() {
    let server = Server::start(&[("HEADER_TIMEOUT", "1m"), ("READ_TIMEOUT", "100ms")]);
    let mut client = server.connect();
    client.send("GET /livez HT");
    // Not to wait for anything: the time without a byte is the subject.
    thread::sleep(Duration::from_millis(300));
    client.send("TP/1.1\r\nHost: test\r\n\r\n");
    assert_eq!(client.response().status, 200);
}

#[test]
fn an_idle_kept_connection_is_closed_after_the_idle_timeout() {
    // Shorter and longer than its buffers are kept.
    for (timeout, millis) in [("10ms", 10), ("300ms", 300)] {
        let server = Server::start(&[("IDLE_TIMEOUT", timeout)]);
        beside_another_client(&server, || {
            let mut client = server.connect();
            // Before the answer, after which the server may have been quiet for a while when the client reads it.
            let started = Instant::now();
            client.request(GET);
            client.assert_closed();
            assert!(started.elapsed() >= Duration::from_millis(millis));
        });
    }
}

#[test]
fn a_kept_connection_outlives_the_header_timeout_and_its_buffers() {
    let server = Server::start(&[("HEADER_TIMEOUT", "100ms")]);
    let mut waiting = server.connect();
    waiting.request(GET);
    // Each of these is closed by the same timeout, so together they take longer than it, and longer than
    // buffers are kept.
    for _ in 0..8 {
        server.connect().assert_closed();
    }
    assert_eq!(waiting.request(GET).status, 200);
}

#[test]
fn a_later_head_has_its_time_from_its_first_byte() {
    let server = Server::start(&[("HEADER_TIMEOUT", "200ms")]);
    beside_another_client(&server, || {
        let mut kept = server.connect();
        kept.request(GET);
        let started = Instant::now();
        kept.send("GET /livez HTTP/1.1\r\n");
        assert_eq!(kept.response().status, 408);
        assert!(started.elapsed() >= Duration::from_millis(200));
        assert!(started.elapsed() < Limits::default().header_timeout);
        kept.assert_closed();

        let mut pipelined = server.connect();
        pipelined.send([GET, GET, "GET /livez HTTP/1.1\r\n"].concat());
        assert_eq!(pipelined.response().status, 200);
        assert_eq!(pipelined.response().status, 200);
        assert_eq!(pipelined.response().status, 408);
        pipelined.assert_closed();
    });
}

#[test]
fn a_head_split_anywhere_is_served() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    for at in 1..GET.len() {
        let (start, end) = GET.split_at(at);
        client.send(start);
        // A round trip, so that the two parts are read separately.
        server.get("/livez");
        client.send(end);
        assert_eq!(client.response().status, 200, "{start:?}");
    }
}

#[test]
fn a_client_that_pipelines_and_never_reads_is_cut_off() {
    with_each_number_of_workers(|workers| {
        let server = Server::start(&[("WORKERS", workers), ("WRITE_TIMEOUT", "300ms")]);
        beside_another_client(&server, || {
            let mut client = server.connect();
            let started = Instant::now();
            send_until_closed(&mut client, GET.repeat(100).as_bytes());
            assert!(started.elapsed() < Limits::default().write_timeout);
        });
    });
}

#[test]
fn thousands_of_pipelined_requests_are_all_answered_to_a_client_that_reads() {
    let server = Server::start(&[]);
    let client = server.connect();
    let mut writer = client.second_handle();
    thread::scope(|scope| {
        scope.spawn(move || {
            writer.send(GET.repeat(5_000));
            writer.send("GET /livez HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
        });
        let mut client = client;
        let answers = client.read_to_end().expect("an orderly close");
        let answers = String::from_utf8(answers).expect("text");
        assert_eq!(answers.matches("HTTP/1.1 200 OK\r\n").count(), 5_001);
    });
}

#[test]
fn a_body_is_answered_without_being_read() {
    let server = Server::start(&[]);
    beside_another_client(&server, || {
        for (body, what) in [
            (
                "Content-Length: 1000000000\r\n\r\nnever sent",
                "announced and never sent",
            ),
            (
                "Transfer-Encoding: chunked\r\n\r\n",
                "chunked and never sent",
            ),
            (
                "Content-Length: 5\r\nExpect: 100-continue\r\n\r\n",
                "waiting for 100",
            ),
        ] {
            let mut client = server.connect();
            client.send(format!("GET /livez HTTP/1.1\r\nHost: test\r\n{body}"));
            let response = client.response();
            assert_eq!((response.status, response.closes()), (200, true), "{what}");
            client.assert_closed();
        }
    });
}

#[test]
fn an_endless_body_is_answered_and_closed() {
    let server = Server::start(&[]);
    beside_another_client(&server, || {
        let mut client = server.connect();
        client.send("GET /livez HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n");
        let chunk = [b"10000\r\n".as_slice(), &[b'x'; 0x10000], b"\r\n"].concat();
        send_until_closed(&mut client, &chunk);
    });
}

#[test]
fn the_answer_to_a_large_body_is_not_lost_to_a_reset() {
    let server = Server::start(&[]);
    for _ in 0..20 {
        let mut client = server.connect();
        client.send("GET /livez HTTP/1.1\r\nHost: test\r\nContent-Length: 1000000\r\n\r\n");
        client.send(vec![b'x'; 1_000_000]);
        assert_eq!(client.response().status, 200);
        client.assert_closed();
    }
}

#[test]
fn a_head_that_is_too_large_is_refused() {
    let server = Server::start(&[]);
    beside_another_client(&server, || {
        let long = "a".repeat(1 << 20);
        let many: String = (0..10_000)
            .map(|field| format!("f{field}: x\r\n"))
            .collect();
        for (head, statuses) in [
            (
                format!("GET /livez HTTP/1.1\r\nHost: test\r\nLong: {long}\r\n\r\n"),
                &[431][..],
            ),
            (
                format!("GET /livez HTTP/1.1\r\nHost: test\r\n{long}: x\r\n\r\n"),
                &[431],
            ),
            (
                format!("GET /livez HTTP/1.1\r\nHost: test\r\n{many}\r\n"),
                &[431],
            ),
            (
                format!("GET /{long} HTTP/1.1\r\nHost: test\r\n\r\n"),
                &[414, 431],
            ),
            (
                format!("{long} / HTTP/1.1\r\nHost: test\r\n\r\n"),
                &[400, 431],
            ),
        ] {
            let mut client = server.connect();
            client.send(&head);
            let response = client.response();
            assert!(
                statuses.contains(&response.status),
                "{}: {}",
                &head[..40],
                response.status
            );
            assert!(response.closes());
            response.assert_date();
            client.assert_closed();
        }
    });
}

/// A head of this many bytes, with this many fields.
fn head(length: usize, fields: usize) -> String {
    let start = "GET /livez HTTP/1.1\r\nHost: test\r\n";
    let short: String = (2..fields)
        .map(|field| format!("f{field}: x\r\n"))
        .collect();
    let long = length - start.len() - short.len() - "l: \r\n\r\n".len();
    let head = format!("{start}{short}l: {}\r\n\r\n", "a".repeat(long));
    assert_eq!((head.len(), head.lines().count()), (length, fields + 2));
    head
}

#[test]
fn a_head_of_8_kib_with_100_fields_is_served_and_no_larger_one() {
    let server = Server::start(&[]);
    for (length, fields, status) in [
        (8_192, 100, 200),
        (8_192, 101, 431),
        (8_193, 100, 431),
        (8_193, 2, 431),
        (2_000, 101, 431),
    ] {
        let head = head(length, fields);
        let mut whole = server.connect();
        whole.send(&head);
        let mut kept = server.connect();
        kept.request(GET);
        kept.send(&head);
        let mut split = server.connect();
        let (start, end) = head.split_at(length - 1);
        split.send(start);
        // A round trip, so that the two parts are read separately.
        server.get("/livez");
        split.send(end);
        for (mut client, how) in [(whole, "whole"), (kept, "kept"), (split, "split")] {
            let response = client.response();
            let what = format!("{length} bytes, {fields} fields, {how}");
            assert_eq!(response.status, status, "{what}");
            assert_eq!(response.closes(), status != 200, "{what}");
        }
    }
}

#[test]
fn a_head_behind_another_request_may_be_larger_but_not_twice_as_large() {
    // hyper reads 8 KiB at a time, and refuses a head when it has 8 KiB of it and no end.
    let server = Server::start(&[]);
    for (length, status) in [(8_192, 200), (16_384, 431)] {
        let mut client = server.connect();
        client.send([GET, &head(length, 100)].concat());
        assert_eq!(client.response().status, 200);
        assert_eq!(client.response().status, status, "{length} bytes");
    }
}

#[test]
fn a_client_that_half_closes_still_gets_its_answer() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    client.send(GET);
    client.0.shutdown(Shutdown::Write).expect("a half-close");
    assert_eq!(client.response().status, 200);
    client.assert_closed();
}

#[test]
fn at_the_cap_the_connection_idle_longest_makes_room() {
    with_each_number_of_workers(|workers| {
        let server = Server::start(&[("WORKERS", workers), ("MAX_CONNECTIONS", "3")]);
        let mut clients: Vec<_> = (0..3)
            .map(|_| {
                let mut client = server.connect();
                client.request(GET);
                client
            })
            .collect();
        // The first is not the one that is idle longest any more.
        clients[0].request(GET);
        assert_eq!(server.get("/health").status, 200);
        clients[1].assert_closed();
        // The new one has closed, so there is room and nobody else had to leave.
        assert_eq!(clients[0].request(GET).status, 200);
        assert_eq!(clients[2].request(GET).status, 200);
    });
}

#[test]
fn silent_connections_cannot_lock_anyone_out() {
    with_each_number_of_workers(|workers| {
        let limits = [
            ("WORKERS", workers),
            ("MAX_CONNECTIONS", "10"),
            ("HEADER_TIMEOUT", "1m"),
        ];
        let server = Server::start(&limits);
        let mut silent: Vec<_> = (0..200).map(|_| server.connect()).collect();
        for _ in 0..20 {
            assert_eq!(server.get("/health").status, 200);
        }
        wait_until("no more are open than may be", || {
            silent.retain(|client| !client.is_closed());
            silent.len() <= 10
        });
    });
}

#[test]
fn at_the_cap_with_nobody_idle_connections_wait_until_one_is() {
    with_each_number_of_workers(|workers| {
        let limits = [
            ("WORKERS", workers),
            ("MAX_CONNECTIONS", "2"),
            ("HEADER_TIMEOUT", "1m"),
        ];
        let server = Server::start(&limits);
        let mut busy: Vec<_> = (0..2)
            .map(|_| {
                let mut client = server.connect();
                client.request(GET);
                client.send("GET /livez HT");
                client
            })
            .collect();
        let mut waiting: Vec<_> = (0..8).map(|_| server.connect()).collect();
        waiting.iter_mut().for_each(|client| client.send(GET));
        // Each worker has accepted one of them, and has no place for it.
        let accepted: u32 = workers.parse().expect("a number");
        wait_until("the server leaves the others in the queue", || {
            server.accept_queue() == 8 - accepted && server.is_asleep()
        });
        assert!(waiting.iter().all(Client::waits));
        for client in &mut busy {
            client.send("TP/1.1\r\nHost: test\r\n\r\n");
            assert_eq!(client.response().status, 200);
        }
        for client in &mut waiting {
            assert_eq!(client.response().status, 200);
        }
    });
}

/// Processor time that the process has used.
fn processor_time(server: &Server) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", server.pid())).expect("stat");
    let fields: Vec<_> = stat
        .rsplit(") ")
        .next()
        .expect("fields")
        .split(' ')
        .collect();
    let ticks: u64 = fields[11..13]
        .iter()
        .map(|ticks| ticks.parse::<u64>().unwrap())
        .sum();
    // USER_HZ is 100 on every Linux port.
    Duration::from_millis(ticks * 10)
}

/// A server that may have fewer descriptors than it knows of: the limit is lowered when it serves already.
/// A service that opens many files has the same effect.
fn start_and_limit(descriptors: u32, workers: &str) -> Server {
    let server = start_after("true", workers);
    limit_descriptors(server.pid(), descriptors);
    server
}

/// A server that is started by a shell after `setup`.
fn start_after(setup: &str, workers: &str) -> Server {
    let mut command = Server::command_after(setup);
    command.envs([
        ("LISTEN", "127.0.0.1:0"),
        ("HEADER_TIMEOUT", "1m"),
        ("WORKERS", workers),
    ]);
    Server::spawn(command)
}

/// A client that keeps its connection after a first answer.
fn idle_client(server: &Server) -> Client {
    let mut client = server.connect();
    assert_eq!(client.request(GET).status, 200);
    client
}

/// A client that has sent half a head.
fn busy_client(server: &Server) -> Client {
    let mut client = server.connect();
    // Before the next one connects, which could have this one evicted while it is silent.
    client.send("GET /livez HT");
    client
}

/// Connects more clients than the server has descriptors for: the one that is idle longest makes room. Stops
/// the server, and returns the errors and warnings of its log.
fn complaints_when_the_connection_idle_longest_makes_room(server: Server) -> Vec<String> {
    let mut clients: Vec<_> = (0..70).map(|_| idle_client(&server)).collect();
    clients[0].assert_closed();
    assert_eq!(server.get("/health").status, 200);
    let last = clients.last_mut().expect("there are clients");
    assert_eq!(last.request(GET).status, 200);
    stop_and_read_complaints(server)
}

/// Stops the server, and returns the lines of its log that are errors or warnings.
fn stop_and_read_complaints(mut server: Server) -> Vec<String> {
    server.signal("TERM");
    assert_eq!(server.exit().code(), Some(0));
    let mut lines = server.remaining_lines();
    lines.retain(|line| line.starts_with("error: ") || line.starts_with("warning: "));
    lines
}

#[test]
fn the_soft_limit_on_descriptors_is_none() {
    with_each_number_of_workers(|workers| {
        let server = start_after("ulimit -Hn 4096; ulimit -Sn 64", workers);
        let mut clients: Vec<_> = (0..70).map(|_| idle_client(&server)).collect();
        assert_eq!(server.get("/health").status, 200);
        for client in &mut clients {
            assert_eq!(client.request(GET).status, 200);
        }
        assert!(stop_and_read_complaints(server).is_empty());
    });
}

#[test]
fn at_the_hard_limit_on_descriptors_the_connection_idle_longest_makes_room() {
    with_each_number_of_workers(|workers| {
        let server = start_after("ulimit -n 64", workers);
        let complaints = complaints_when_the_connection_idle_longest_makes_room(server);
        assert!(
            complaints.len() == 1 && complaints[0].starts_with("warning: MAX_CONNECTIONS="),
            "{complaints:?}"
        );
    });
}

#[test]
fn descriptors_that_the_server_does_not_know_of_lock_nobody_out() {
    with_each_number_of_workers(|workers| {
        let server = start_and_limit(64, workers);
        let complaints = complaints_when_the_connection_idle_longest_makes_room(server);
        assert!(complaints.is_empty(), "{complaints:?}");
    });
}

#[test]
fn at_the_hard_limit_on_descriptors_with_nobody_idle_connections_wait() {
    with_each_number_of_workers(|workers| {
        let server = start_after("ulimit -n 64", workers);
        let mut busy: Vec<_> = (0..100).map(|_| busy_client(&server)).collect();
        // First all requests and then all answers: of those that wait, each worker has one in hand, and which
        // of them takes the next free slot is not fixed.
        for client in &mut busy {
            client.send("TP/1.1\r\nHost: test\r\n\r\n");
        }
        for client in &mut busy {
            assert_eq!(client.response().status, 200);
        }
        let complaints = stop_and_read_complaints(server);
        assert!(
            complaints.len() == 1 && complaints[0].starts_with("warning: MAX_CONNECTIONS="),
            "{complaints:?}"
        );
    });
}

#[test]
fn exhausted_descriptors_are_waited_out_without_spinning() {
    with_each_number_of_workers(|workers| {
        let mut server = start_and_limit(48, workers);
        let mut held: Vec<_> = (0..100).map(|_| busy_client(&server)).collect();
        server.line("error: cannot accept connections, waiting: ");
        let before = processor_time(&server);
        thread::sleep(Duration::from_secs(1));
        let used = processor_time(&server) - before;
        assert!(
            used <= Duration::from_millis(100),
            "{used:?} of processor time in a second"
        );

        // Everyone is served when descriptors are free again.
        for client in &mut held {
            client.send("TP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
        }
        for client in &mut held {
            assert_eq!(client.response().status, 200);
        }
        assert_eq!(server.get("/health").status, 200);
        let complaints = stop_and_read_complaints(server);
        assert!(complaints.is_empty(), "{complaints:?}");
    });
}

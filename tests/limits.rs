//! No client can hold the server: each way of trying ends by its own limit, with the right status
//! where HTTP has one, while another client notices nothing.

mod common;

use std::io::{ErrorKind, Write};
use std::net::Shutdown;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use common::{Client, PATIENCE, Server};

const GET: &str = "GET / HTTP/1.1\r\nHost: test\r\n\r\n";

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
                // And not that it took none for long.
                let closed = [ErrorKind::BrokenPipe, ErrorKind::ConnectionReset];
                return assert!(closed.contains(&error.kind()), "{error}");
            }
        }
    }
}

#[test]
fn a_head_that_drips_is_answered_408() {
    for workers in ["1", "4"] {
        let server = Server::start(&[("WORKERS", workers), ("HEADER_TIMEOUT", "300ms")]);
        beside_another_client(&server, || {
            let mut client = server.connect();
            let started = Instant::now();
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
            client
                .0
                .set_read_timeout(Some(PATIENCE))
                .expect("a timeout");
            let response = client.response();
            assert_eq!((response.status, response.closes()), (408, true));
            client.assert_closed();
        });
    }
}

#[test]
fn a_silent_connection_is_closed_without_a_word() {
    let server = Server::start(&[("HEADER_TIMEOUT", "100ms")]);
    beside_another_client(&server, || {
        let started = Instant::now();
        server.connect().assert_closed();
        assert!(started.elapsed() >= Duration::from_millis(100));
    });
}

#[test]
fn an_idle_kept_connection_is_closed_after_the_idle_timeout() {
    // Shorter and longer than its buffers are kept.
    for (timeout, millis) in [("10ms", 10), ("300ms", 300)] {
        let server = Server::start(&[("IDLE_TIMEOUT", timeout)]);
        beside_another_client(&server, || {
            let mut client = server.connect();
            client.request(GET);
            let answered = Instant::now();
            client.assert_closed();
            // The server may have been quiet for a moment when the client has read its answer.
            assert!(answered.elapsed() >= Duration::from_millis(millis / 2));
        });
    }
}

#[test]
fn a_kept_connection_outlives_the_header_timeout_and_its_buffers() {
    let server = Server::start(&[("HEADER_TIMEOUT", "100ms")]);
    let mut waiting = server.connect();
    waiting.request(GET);
    // Takes longer than the timeout, and than buffers are kept: it ends by a limit of its own.
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
        kept.send("GET / HTTP/1.1\r\n");
        assert_eq!(kept.response().status, 408);
        kept.assert_closed();

        let mut pipelined = server.connect();
        pipelined.send([GET, GET, "GET / HTTP/1.1\r\n"].concat());
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
        server.get("/");
        client.send(end);
        assert_eq!(client.response().status, 200, "{start:?}");
    }
}

#[test]
fn a_client_that_pipelines_and_never_reads_is_cut_off() {
    for workers in ["1", "4"] {
        let server = Server::start(&[("WORKERS", workers), ("WRITE_TIMEOUT", "300ms")]);
        beside_another_client(&server, || {
            let mut client = server.connect();
            send_until_closed(&mut client, GET.repeat(100).as_bytes());
        });
    }
}

#[test]
fn thousands_of_pipelined_requests_are_all_answered_to_a_client_that_reads() {
    let server = Server::start(&[]);
    let client = server.connect();
    let mut writer = Client(client.0.try_clone().expect("a second handle"));
    thread::scope(|scope| {
        scope.spawn(move || {
            writer.send(GET.repeat(5_000));
            writer.send("GET /livez HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
        });
        let mut client = client;
        let answers = client.read_to_end().expect("an orderly close");
        let answers = String::from_utf8(answers).expect("text");
        assert_eq!(answers.matches("HTTP/1.1 200 OK\r\n").count(), 5_001);
        assert!(answers.ends_with("alive"));
    });
}

#[test]
fn a_body_is_answered_without_being_read() {
    let server = Server::start(&[]);
    beside_another_client(&server, || {
        for (method, status) in [("GET", 200), ("POST", 405)] {
            for (body, what) in [
                ("Content-Length: 5\r\n\r\nhello", "whole"),
                (
                    "Content-Length: 1000000000\r\n\r\nnever sent",
                    "announced and never sent",
                ),
                (
                    "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
                    "chunked",
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
                client.send(format!("{method} / HTTP/1.1\r\nHost: test\r\n{body}"));
                let response = client.response();
                assert_eq!(
                    (response.status, response.closes()),
                    (status, true),
                    "{what}"
                );
                client.assert_closed();
            }
        }
    });
}

#[test]
fn an_endless_body_is_answered_and_closed() {
    let server = Server::start(&[]);
    beside_another_client(&server, || {
        let mut client = server.connect();
        client.send("POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n");
        let chunk = [b"10000\r\n".as_slice(), &[b'x'; 0x10000], b"\r\n"].concat();
        send_until_closed(&mut client, &chunk);
    });
}

#[test]
fn the_answer_to_a_large_body_is_not_lost_to_a_reset() {
    let server = Server::start(&[]);
    for _ in 0..20 {
        let mut client = server.connect();
        client.send("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 1000000\r\n\r\n");
        client.send(vec![b'x'; 1_000_000]);
        assert_eq!(client.response().status, 405);
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
                format!("GET / HTTP/1.1\r\nHost: test\r\nLong: {long}\r\n\r\n"),
                &[431][..],
            ),
            (
                format!("GET / HTTP/1.1\r\nHost: test\r\n{long}: x\r\n\r\n"),
                &[431],
            ),
            (
                format!("GET / HTTP/1.1\r\nHost: test\r\n{many}\r\n"),
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
            client.assert_closed();
        }
    });
}

#[test]
fn the_largest_head_that_fits_is_served() {
    let server = Server::start(&[]);
    let head = format!(
        "GET / HTTP/1.1\r\nHost: test\r\nLong: {}\r\n\r\n",
        "a".repeat(8_000)
    );
    assert_eq!(server.connect().request(&head).status, 200);
    let many: String = (0..90).map(|field| format!("f{field}: x\r\n")).collect();
    let head = format!("GET / HTTP/1.1\r\nHost: test\r\n{many}\r\n");
    assert_eq!(server.connect().request(&head).status, 200);
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
    for workers in ["1", "4"] {
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
    }
}

#[test]
fn silent_connections_cannot_lock_anyone_out() {
    for workers in ["1", "4"] {
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
        let deadline = Instant::now() + PATIENCE;
        loop {
            silent.retain(|client| !client.is_closed());
            if silent.len() <= 10 {
                break;
            }
            assert!(Instant::now() < deadline, "{} are still open", silent.len());
            thread::yield_now();
        }
    }
}

#[test]
fn at_the_cap_with_nobody_idle_a_connection_waits_for_one_to_close() {
    for workers in ["1", "4"] {
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
                client.send("GET / HT");
                client
            })
            .collect();
        let mut waiting: Vec<_> = (0..8).map(|_| server.connect()).collect();
        waiting.iter_mut().for_each(|client| client.send(GET));
        for client in &mut busy {
            client.send("TP/1.1\r\nHost: test\r\n\r\n");
            assert_eq!(client.response().status, 200);
        }
        for client in &mut waiting {
            assert_eq!(client.response().status, 200);
        }
    }
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

#[test]
fn exhausted_descriptors_are_waited_out_without_spinning() {
    for workers in ["1", "4"] {
        let mut command = std::process::Command::new("sh");
        command
            .args(["-c", "ulimit -n 48; exec \"$0\""])
            .arg(common::server_binary())
            .env_clear()
            .envs([
                ("LISTEN", "127.0.0.1:0"),
                ("HEADER_TIMEOUT", "1m"),
                ("WORKERS", workers),
            ]);
        let mut server = Server::spawn(command);
        let mut held: Vec<_> = (0..100).map(|_| server.connect()).collect();
        held.iter_mut().for_each(|client| client.send("GET / HT"));
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
        server.signal("TERM");
        assert_eq!(server.exit().code(), Some(0));
        let lines = server.remaining_lines();
        assert!(
            lines.iter().all(|line| !line.contains("cannot accept")) || workers != "1",
            "{lines:?}"
        );
    }
}

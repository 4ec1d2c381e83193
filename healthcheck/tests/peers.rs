//! Peers that misbehave, each met by the whole probe over a real socket.

mod support;

use std::hint;
use std::io::{self, Read, Write};
use std::iter;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use support::peers::{LATE, PEERS};
use support::*;

const OK: &str = "HTTP/1.1 200 OK\r\n";

fn with_timeout(url: &str) -> Run {
    let timeout = format!("{}ms", TIMEOUT.as_millis());
    probe([url, "--timeout", &timeout])
}

#[test]
fn each_peer_of_the_table_gets_its_verdict() {
    for &(name, verdict, meet) in PEERS {
        println!("{name}");
        let peer = Peer::answering_on("127.0.0.1:0", move |head, mut stream| {
            meet(head, &mut stream);
        });
        let url = peer.url() + "/";
        match verdict {
            Ok(()) => probe([&url, "--timeout=20s"]).assert_healthy(),
            Err(LATE) => with_timeout(&url).assert_unhealthy_after(TIMEOUT, &url, LATE),
            Err(cause) => probe([&url, "--timeout=20s"]).assert_unhealthy(&url, cause),
        }
    }
}

#[test]
fn port_that_nothing_listens_on_is_refused() {
    let port = SilentPort::new();
    let url = format!("http://127.0.0.1:{}/", port.number);
    probe([&url]).assert_unhealthy(&url, "connect: refused");
}

#[test]
fn full_accept_queue_is_waited_for_until_the_deadline() {
    let queue = FullQueue::new(Ipv4Addr::LOCALHOST.into());
    let url = format!("http://{}/", queue.address);
    with_timeout(&url).assert_unhealthy_after(TIMEOUT, &url, "connect: timed out");
}

#[test]
fn peer_that_never_accepts_is_waited_for_until_the_deadline() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    with_timeout(&url).assert_unhealthy_after(TIMEOUT, &url, "receive: timed out");
}

#[test]
fn body_that_drips_is_read_until_the_text_is_whole() {
    let peer = Peer::answering(|mut stream| {
        write!(stream, "{OK}\r\n").unwrap();
        drip(stream, b"a healthy database ".iter().copied().cycle());
    });
    probe([&peer.url(), "--body=healthy", "--timeout=20s"]).assert_healthy();
}

#[test]
fn body_that_drips_is_read_no_longer_than_the_deadline() {
    let peer = Peer::answering(|mut stream| {
        write!(stream, "{OK}\r\n").unwrap();
        drip(stream, iter::repeat(b'a'));
    });
    let url = peer.url() + "/";
    probe([&url, "--body=b", "--timeout=300ms"]).assert_unhealthy_after(
        TIMEOUT,
        &url,
        "receive: timed out",
    );
}

#[test]
fn peer_that_closes_at_once_is_unhealthy() {
    let peer = Peer::new(drop);
    let url = peer.url() + "/";
    let run = probe([&url]);
    // Whether the request is sent before or after that is a race, and so is its end.
    let cause = [
        "send: error 32",
        "send: reset",
        "receive: reset",
        "receive: closed",
    ]
    .into_iter()
    .find(|cause| run.errors.contains(cause));
    run.assert_unhealthy(&url, cause.unwrap_or("reset or closed"));
}

#[test]
fn peer_that_resets_is_unhealthy() {
    // Closing a socket with unread bytes resets the connection.
    let peer = Peer::new(|mut stream| stream.read_exact(&mut [0]).unwrap());
    let url = peer.url() + "/";
    probe([&url]).assert_unhealthy(&url, "receive: reset");
}

#[test]
fn answer_of_a_peer_that_does_not_read_the_request_counts() {
    let peer = Peer::new(|mut stream| stream.write_all(b"HTTP/1.1 503 Busy\r\n\r\n").unwrap());
    let url = peer.url() + "/";
    probe([&url]).assert_unhealthy(&url, "receive: status 503 wanted 200-299");
}

#[test]
fn answer_after_interim_ones_counts() {
    let interim = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n";
    let peer = Peer::saying(&format!("{interim}HTTP/1.1 503 Busy\r\n"));
    let url = peer.url() + "/";
    probe([&url]).assert_unhealthy(&url, "receive: status 503 wanted 200-299");
}

#[test]
fn switching_protocols_is_final() {
    let peer = Peer::saying("HTTP/1.1 101 Switching Protocols\r\n");
    probe([&peer.url(), "--status=101"]).assert_healthy();
}

#[test]
fn healthy_is_2xx_unless_told_otherwise() {
    for status in ["200", "204", "299"] {
        probe([&Peer::saying(&format!("HTTP/1.1 {status} X\r\n")).url()]).assert_healthy();
    }
    for status in ["199", "300", "302", "404", "503", "999"] {
        let peer = Peer::saying(&format!("HTTP/1.1 {status} X\r\nLocation: /\r\n\r\n"));
        let url = peer.url() + "/";
        match status {
            // Interim: the final one never comes.
            "199" => with_timeout(&url).assert_unhealthy_after(TIMEOUT, &url, "receive: timed out"),
            _ => probe([&url])
                .assert_unhealthy(&url, &format!("receive: status {status} wanted 200-299")),
        }
    }
    let peer = Peer::saying("HTTP/1.1 302 Found\r\n");
    probe([&peer.url(), "--status", "401,200-399"]).assert_healthy();
    let peer = Peer::saying("HTTP/1.1 200 OK\r\n");
    let url = peer.url() + "/";
    probe([&url, "--status", "401,300-399"])
        .assert_unhealthy(&url, "receive: status 200 wanted 401,300-399");
}

#[test]
fn status_lines_that_servers_send_are_taken() {
    for line in [
        "HTTP/1.0 200 OK\r\n",
        "HTTP/1.1 200\r\n",
        "HTTP/1.1 200 \r\n",
        "HTTP/1.1 200 OK\n",
        "HTTP/1.1 200 Tr\u{e8}s bien\t!\r\n",
    ] {
        probe([&Peer::saying(line).url()]).assert_healthy();
    }
}

#[test]
fn what_is_not_a_status_line_is_not_http() {
    for garbage in [
        "\x16\x03\x01\x02",
        "SSH-2.0-OpenSSH_9.2\r\n",
        "\r\nHTTP/1.1 200 OK\r\n",
        "http/1.1 200 OK\r\n",
        "HTTP/2.0 200 OK\r\n",
        "HTTP/1.1  200 OK\r\n",
        "HTTP/1.1 20 OK\r\n",
        "HTTP/1.1 2000 OK\r\n",
        "HTTP/1.1 099 OK\r\n",
        "HTTP/1.1 +20 OK\r\n",
        "HTTP/1.1 200OK\r\n",
        "HTTP/1.1 200 O\0K\r\n",
        "HTTP/1.1 200 OK\r\r\n",
        "ICY 200 OK\r\n",
        "<html>HTTP/1.1 200 OK\r\n",
    ] {
        let peer = Peer::saying(garbage);
        let url = peer.url() + "/";
        probe([&url]).assert_unhealthy(&url, "receive: not HTTP");
    }
}

#[test]
fn header_line_of_a_megabyte_is_passed_over() {
    let long = "a".repeat(1 << 20);
    for header in [
        format!("Name: {long}"),
        long.clone(),
        format!("{long}: value"),
    ] {
        let interim = format!("HTTP/1.1 103 Early Hints\r\n{header}\r\n\r\n");
        probe([
            &Peer::saying(&format!("{interim}{OK}")).url(),
            "--timeout=20s",
        ])
        .assert_healthy();
        let response = format!("{OK}{header}\r\nContent-Length: 7\r\n\r\nhealthy");
        probe([
            &Peer::saying(&response).url(),
            "--body=healthy",
            "--timeout=20s",
        ])
        .assert_healthy();
    }
}

#[test]
fn endless_headers_are_read_no_longer_than_the_deadline() {
    let peer = Peer::answering(|mut stream| {
        stream.write_all(OK.as_bytes()).unwrap();
        while stream.write_all(b"Name: value\r\n").is_ok() {}
    });
    let url = peer.url() + "/";
    probe([&url, "--body=healthy", "--timeout=300ms"]).assert_unhealthy_after(
        TIMEOUT,
        &url,
        "receive: timed out",
    );
}

#[test]
fn endless_body_is_unhealthy_once_64_kib_are_searched() {
    let peer = Peer::answering(|mut stream| {
        write!(stream, "{OK}\r\n").unwrap();
        while stream.write_all(&[b'a'; 4096]).is_ok() {}
    });
    let url = peer.url() + "/";
    probe([&url, "--body=b"]).assert_unhealthy(&url, "receive: no \"b\" in the body");
}

#[test]
fn text_is_found_however_the_body_is_framed() {
    for body in [
        "Content-Length: 9\r\n\r\nunhealthy",
        "Content-Length: 5000000000\r\n\r\nhealthy",
        "content-length:7\r\n\r\nhealthy",
        "\r\nhealthy",
        "Transfer-Encoding: chunked\r\n\r\n3\r\nhea\r\n004;a=b\r\nlthy\r\n0\r\n\r\n",
        "Transfer-Encoding: gzip, chunked\r\n\r\n1\r\nh\r\n1 \r\ne\r\n5\r\nalthy\r\n",
        "Content-Length: 1\r\nTransfer-Encoding: Chunked\r\n\r\nA\r\n.. healthy\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n7\nhealthy\n",
        "Transfer-Encoding: identity\r\n\r\nhealthy",
    ] {
        let peer = Peer::saying(&format!("{OK}{body}"));
        probe([&peer.url(), "--body", "healthy"]).assert_healthy();
    }
}

#[test]
fn text_is_missed_where_the_body_ends_without_it() {
    for body in [
        "Content-Length: 6\r\n\r\nhealthy",
        "Content-Length: 0\r\n\r\nhealthy",
        "Transfer-Encoding: chunked\r\n\r\n6\r\nhealth\r\n0\r\n\r\nhealthy",
        "Transfer-Encoding: chunked\r\n\r\n7\r\nHealthy\r\n0\r\n",
        "Transfer-Encoding: chunked\r\n\r\n0\r\nhealthy\r\n",
    ] {
        let peer = Peer::saying(&format!("{OK}{body}"));
        let url = peer.url() + "/";
        probe([&url, "--body", "healthy"])
            .assert_unhealthy(&url, "receive: no \"healthy\" in the body");
    }
    let peer = Peer::saying("HTTP/1.1 204 No Content\r\n\r\nhealthy");
    let url = peer.url() + "/";
    probe([&url, "--body=healthy"]).assert_unhealthy(&url, "receive: no \"healthy\" in the body");
}

#[test]
fn text_is_searched_in_the_first_64_kib() {
    let filling = "h".repeat(65_536 - 7);
    let peer = Peer::saying(&format!("{OK}\r\n{filling}healthy"));
    probe([&peer.url(), "--body=healthy"]).assert_healthy();
    let peer = Peer::saying(&format!("{OK}\r\n{filling}hhealthy"));
    let url = peer.url() + "/";
    probe([&url, "--body=healthy"]).assert_unhealthy(&url, "receive: no \"healthy\" in the body");
}

#[test]
fn body_that_is_cut_short_is_not_whole() {
    for body in [
        "Content-Length: 8\r\n\r\nhealth",
        "Transfer-Encoding: chunked\r\n\r\n6\r\nhealth\r\n",
        "Transfer-Encoding: chunked\r\n\r\n7\r\nhealth",
        "Content-Length: 8\r\n",
    ] {
        let response = format!("{OK}{body}");
        let peer =
            Peer::answering(move |mut stream| stream.write_all(response.as_bytes()).unwrap());
        let url = peer.url() + "/";
        probe([&url, "--body=healthy"]).assert_unhealthy(&url, "receive: closed");
    }
    let peer = Peer::answering(|mut stream| write!(stream, "{OK}\r\nhealth").unwrap());
    let url = peer.url() + "/";
    probe([&url, "--body=healthy"]).assert_unhealthy(&url, "receive: no \"healthy\" in the body");
}

#[test]
fn body_that_is_framed_wrongly_is_not_http() {
    for body in [
        "Content-Length: 1x\r\n\r\n",
        "Content-Length: -1\r\n\r\n",
        "Content-Length: \r\n\r\n",
        "Content-Length: 7, 7\r\n\r\n",
        "Content-Length: 7\r\nContent-Length: 8\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\nhealthy\r\n",
        "Transfer-Encoding: chunked\r\n\r\n\r\nhealthy\r\n",
        "Transfer-Encoding: chunked\r\n\r\n1\r\nhealthy\r\n",
        "Transfer-Encoding: chunked\r\n\r\n-1\r\nhealthy\r\n",
    ] {
        let peer = Peer::saying(&format!("{OK}{body}"));
        let url = peer.url() + "/";
        probe([&url, "--body", "healthy"]).assert_unhealthy(&url, "receive: not HTTP");
    }
}

#[test]
fn connect_is_all_that_tcp_asks_for() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("tcp://{}", listener.local_addr().unwrap());
    probe([&url]).assert_healthy();
    let port = SilentPort::new();
    let url = format!("tcp://127.0.0.1:{}", port.number);
    probe([&url]).assert_unhealthy(&url, "connect: refused");
}

#[test]
fn attempts_go_on_until_healthy() {
    let statuses = ["503", "404", "200"];
    let next = AtomicUsize::new(0);
    let peer = Peer::answering(move |stream| {
        let status = statuses[next.fetch_add(1, Relaxed)];
        say(stream, format!("HTTP/1.1 {status} X\r\n").as_bytes());
    });
    probe([&peer.url(), "--wait", "20s"]).assert_healthy();
    assert_eq!(peer.requests.try_iter().count(), statuses.len());
}

#[test]
fn each_change_of_the_answer_is_one_line_with_the_attempts_so_far() {
    let statuses = ["401", "401", "401", "503", "503", "200"];
    let next = AtomicUsize::new(0);
    let peer = Peer::answering(move |stream| {
        let status = statuses[next.fetch_add(1, Relaxed)];
        say(stream, format!("HTTP/1.1 {status} X\r\n").as_bytes());
    });
    let url = peer.url() + "/";
    let run = probe([&url, "--wait=20s", "--verbose"]);
    assert_eq!(run.status.code(), Some(0), "{run:?}");
    let lines: Vec<_> = run.errors.lines().chain(run.output.lines()).collect();
    let expected = [
        ("receive: status 401 wanted 200-299", " ms)"),
        ("receive: status 503 wanted 200-299", " ms, 4 attempts)"),
        ("healthy: status 200", " ms, 6 attempts)"),
    ];
    assert_eq!(lines.len(), expected.len(), "{run:?}");
    for (line, (answer, count)) in lines.into_iter().zip(expected) {
        let start = format!("healthcheck: {url}: {answer} (");
        assert!(line.starts_with(&start) && line.ends_with(count), "{line}");
    }
}

#[test]
fn answer_that_stays_the_same_is_reported_first_and_last() {
    let peer = Peer::saying("HTTP/1.1 401 X\r\n");
    let run = probe([&peer.url(), "--wait=300ms", "--verbose"]);
    assert_eq!(run.status.code(), Some(1), "{run:?}");
    let lines: Vec<_> = run.errors.lines().collect();
    assert_eq!(lines.len(), 2, "{run:?}");
    assert!(!lines[0].contains("attempts"), "{run:?}");
    assert!(lines[1].ends_with(" attempts)"), "{run:?}");
}

#[test]
fn attempts_end_when_the_wait_is_over() {
    let port = SilentPort::new();
    let url = format!("http://127.0.0.1:{}/", port.number);
    let run = probe([&url, "--wait=300ms", "--timeout=20s"]);
    run.assert_unhealthy_after(TIMEOUT, &url, "connect: refused");
    // The probe pauses for a tenth of a second between two.
    let attempts = run.errors.rsplit_once(", ").map(|(_, rest)| rest);
    let attempts = attempts.and_then(|rest| rest.strip_suffix(" attempts)\n"));
    let attempts: u32 = attempts.map_or(1, |number| number.parse().unwrap());
    assert!(attempts <= 4, "{run:?}");
    // An attempt is cut short by it.
    let peer = Peer::answering(|stream| say(stream, b""));
    let url = peer.url() + "/";
    let run = probe([&url, "--wait=300ms", "--timeout=20s"]);
    run.assert_unhealthy_after(TIMEOUT, &url, "receive: timed out");
}

#[test]
fn each_attempt_has_its_own_timeout() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let peer = thread::spawn(move || {
        let (_silent, _) = listener.accept().unwrap();
        let (mut stream, _) = listener.accept().unwrap();
        read_head(&mut stream);
        say(stream, OK.as_bytes());
    });
    probe([&url, "--wait=20s", "--timeout=100ms"]).assert_healthy();
    peer.join().unwrap();
}

#[test]
fn deadline_is_the_same_however_slowly_the_peer_answers() {
    // Every phase takes a part of it.
    let peer = Peer::new(|mut stream| {
        thread::sleep(Duration::from_millis(150));
        read_head(&mut stream);
        thread::sleep(Duration::from_millis(100));
        drip(stream, OK.bytes());
    });
    let url = peer.url() + "/";
    with_timeout(&url).assert_unhealthy_after(TIMEOUT, &url, "receive: timed out");
}

#[test]
fn deadline_holds_on_a_crowded_processor() {
    let allowed = sched_getaffinity(None).unwrap();
    let mut one = CpuSet::new();
    one.set(
        (0..CpuSet::MAX_CPU)
            .find(|&cpu| allowed.is_set(cpu))
            .unwrap(),
    );
    // Measured from the connection on, because the deadline does not cover the start of the process.
    let (sender, measured) = mpsc::channel();
    let silent = Peer::new(move |mut stream| {
        let connected = Instant::now();
        let closed = io::copy(&mut stream, &mut io::sink());
        let _ = sender.send((closed, connected.elapsed()));
    });
    let url = silent.url() + "/";
    let is_over = AtomicBool::new(false);
    let end = Instant::now() + 10 * MARGIN;
    thread::scope(|scope| {
        let crowd = scope.spawn(|| {
            // The threads of the crowd and the probe inherit this from the thread that starts them. When the
            // probe yields the processor, each of the others has a turn before it runs again.
            sched_setaffinity(None, &one).unwrap();
            for _ in 0..32 {
                scope.spawn(|| {
                    while !is_over.load(Relaxed) && Instant::now() < end {
                        hint::spin_loop();
                    }
                });
            }
            with_timeout(&url)
        });
        let measured = measured.recv_timeout(10 * MARGIN);
        is_over.store(true, Relaxed);
        let (closed, elapsed) = measured.expect("the probe connects and closes");
        crowd
            .join()
            .unwrap()
            .assert_waited(TIMEOUT, &url, "receive: timed out");
        assert!(
            closed.is_ok() && elapsed < TIMEOUT + MARGIN,
            "{closed:?} {elapsed:?}"
        );
    });
}

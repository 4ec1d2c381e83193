//! The peers of the table in docs/probe.md: this probe is tested on them, and others are compared.

use std::io::{Read, Write};
use std::iter;

use super::{drip, say};

/// A connection to a probe, of either family of sockets.
pub trait Connection: Read + Write {}
impl<T: Read + Write> Connection for T {}

/// How a connection is met once the head of the request is read.
pub type Meet = fn(&str, &mut dyn Connection);

/// A peer: its name, whether it is healthy or else what the probe says, and how it meets a connection.
pub type Meeting = (&'static str, Result<(), &'static str>, Meet);

/// What the probe says of a peer that does not decide it before the deadline.
pub const LATE: &str = "receive: timed out";

/// A peer that is healthy.
pub const HEALTHY: Meet = |_, peer| say(peer, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");

pub const PEERS: &[Meeting] = &[
    ("accepts and says nothing", Err(LATE), |_, peer| {
        say(peer, b"")
    }),
    (
        "drips the status line past the deadline",
        Err(LATE),
        |_, peer| {
            drip(
                peer,
                b"HTTP/1.1 200 ".iter().copied().chain(iter::repeat(b'K')),
            );
        },
    ),
    (
        "drips headers after a status line of 200",
        Ok(()),
        |_, peer| {
            let _ = peer.write_all(b"HTTP/1.1 200 OK\r\nA: ");
            drip(peer, iter::repeat(b'a'));
        },
    ),
    ("drips the body of a 200", Ok(()), |_, peer| {
        let _ = peer.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
        drip(peer, iter::repeat(b'a'));
    }),
    (
        "closes without an answer",
        Err("receive: closed"),
        |_, _| {},
    ),
    (
        "closes within the status line",
        Err("receive: closed"),
        |_, peer| {
            let _ = peer.write_all(b"HTTP/1.1 200 O");
        },
    ),
    ("100, then 200", Ok(()), |_, peer| {
        say(
            peer,
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        );
    }),
    ("103, then 200", Ok(()), |_, peer| {
        say(peer, b"HTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    }),
    ("100 again and again", Err(LATE), |_, peer| {
        while peer.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").is_ok() {}
    }),
    ("200", Ok(()), |_, peer| {
        say(peer, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    }),
    ("200 in HTTP/1.0", Ok(()), |_, peer| {
        let _ = peer.write_all(b"HTTP/1.0 200 OK\r\n\r\nhealthy");
    }),
    (
        "200 without a reason or the space before it",
        Ok(()),
        |_, peer| {
            say(peer, b"HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n");
        },
    ),
    ("204", Ok(()), |_, peer| {
        say(peer, b"HTTP/1.1 204 No Content\r\n\r\n")
    }),
    (
        "302 to a page that is 200",
        Err("receive: status 302 wanted 200-299"),
        |head, peer| {
            say(
                peer,
                match head.contains(" /there ") {
                    true => b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".as_slice(),
                    false => b"HTTP/1.1 302 Found\r\nLocation: /there\r\nContent-Length: 0\r\n\r\n",
                },
            );
        },
    ),
    (
        "404",
        Err("receive: status 404 wanted 200-299"),
        |_, peer| say(peer, b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"),
    ),
    (
        "503",
        Err("receive: status 503 wanted 200-299"),
        |_, peer| say(peer, b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"),
    ),
    (
        "500 with a status line of 200 in its body",
        Err("receive: status 500 wanted 200-299"),
        |_, peer| {
            let _ = peer.write_all(b"HTTP/1.1 500 No\r\n\r\nHTTP/1.1 200 OK\r\n\r\n");
        },
    ),
    (
        "is not HTTP (`SSH-2.0-...`)",
        Err("receive: not HTTP"),
        |_, peer| say(peer, b"SSH-2.0-OpenSSH_9.2\r\n"),
    ),
    (
        "is almost HTTP (`HTTP/1.1 20 OK`)",
        Err("receive: not HTTP"),
        |_, peer| {
            say(peer, b"HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n");
        },
    ),
    ("200 with a header line of 1 MiB", Ok(()), |_, peer| {
        let long = "a".repeat(1 << 20);
        say(
            peer,
            format!("HTTP/1.1 200 OK\r\nA: {long}\r\nContent-Length: 0\r\n\r\n").as_bytes(),
        );
    }),
    ("200 with a body that does not end", Ok(()), |_, peer| {
        let _ = peer.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
        while peer.write_all(&[b'a'; 4096]).is_ok() {}
    }),
];

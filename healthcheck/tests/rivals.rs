//! What other probes make of the same peers. Not a test of this one, but the way to make the table in
//! `docs/probe.md`:
//!
//! `cargo test -p healthcheck --test rivals -- --ignored --nocapture`

mod support;

use std::env;
use std::io::{self, Read, Write};
use std::iter;
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use support::*;

/// When a probe that was given one second is late.
const LATE: Duration = Duration::from_millis(1500);

/// When it is killed.
const KILLED: Duration = Duration::from_secs(6);

struct Rival {
    name: &'static str,
    command: fn(url: &str, socket: Option<&str>) -> Option<Command>,
}

const RIVALS: [Rival; 4] = [
    Rival {
        name: "`healthcheck`",
        command: |url, socket| {
            let mut command = command();
            command.args(["--timeout", "1s"]);
            command.arg(socket.map_or(url.into(), |socket| format!("unix:{socket}")));
            Some(command)
        },
    },
    Rival {
        name: "`curl -f`",
        command: |url, socket| {
            let mut command = Command::new("curl");
            command.args(["-fsS", "-o", "/dev/null", "--max-time", "1", url]);
            command.args(
                socket
                    .into_iter()
                    .flat_map(|socket| ["--unix-socket", socket]),
            );
            Some(command)
        },
    },
    Rival {
        name: "`busybox wget --spider`",
        command: |url, socket| {
            let mut command = Command::new("busybox");
            command.args(["wget", "-q", "--spider", "-T", "1", url]);
            socket.is_none().then_some(command)
        },
    },
    Rival {
        name: "`httpcheck`",
        command: |url, socket| {
            let mut command = Command::new("httpcheck");
            command.args(["-t", "1", url]);
            socket.is_none().then_some(command)
        },
    },
];

/// A peer, whether it is healthy, and how it meets a connection once the head of a request is read.
type Meeting = (&'static str, bool, fn(&str, &mut dyn Connection));

trait Connection: Read + Write {}
impl<T: Read + Write> Connection for T {}

const PEERS: &[Meeting] = &[
    ("accepts and says nothing", false, |_, peer| say(peer, b"")),
    (
        "drips the status line past the deadline",
        false,
        |_, peer| {
            drip(
                peer,
                b"HTTP/1.1 200 ".iter().copied().chain(iter::repeat(b'K')),
            );
        },
    ),
    (
        "drips headers after a status line of 200",
        true,
        |_, peer| {
            let _ = peer.write_all(b"HTTP/1.1 200 OK\r\nA: ");
            drip(peer, iter::repeat(b'a'));
        },
    ),
    ("drips the body of a 200", true, |_, peer| {
        let _ = peer.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
        drip(peer, iter::repeat(b'a'));
    }),
    ("closes without an answer", false, |_, _| {}),
    ("closes within the status line", false, |_, peer| {
        let _ = peer.write_all(b"HTTP/1.1 200 O");
    }),
    ("100, then 200", true, |_, peer| {
        say(
            peer,
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        );
    }),
    ("103, then 200", true, |_, peer| {
        say(peer, b"HTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    }),
    ("100 again and again", false, |_, peer| {
        while peer.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").is_ok() {}
    }),
    ("200", true, |_, peer| {
        say(peer, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    }),
    ("200 in HTTP/1.0", true, |_, peer| {
        let _ = peer.write_all(b"HTTP/1.0 200 OK\r\n\r\nhealthy");
    }),
    (
        "200 without a reason or the space before it",
        true,
        |_, peer| {
            say(peer, b"HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n");
        },
    ),
    ("204", true, |_, peer| {
        say(peer, b"HTTP/1.1 204 No Content\r\n\r\n")
    }),
    ("302 to a page that is 200", false, |head, peer| {
        say(
            peer,
            match head.contains(" /there ") {
                true => b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".as_slice(),
                false => b"HTTP/1.1 302 Found\r\nLocation: /there\r\nContent-Length: 0\r\n\r\n",
            },
        );
    }),
    ("404", false, |_, peer| {
        say(peer, b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
    }),
    ("503", false, |_, peer| {
        say(peer, b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n")
    }),
    (
        "500 with a status line of 200 in its body",
        false,
        |_, peer| {
            let _ = peer.write_all(b"HTTP/1.1 500 No\r\n\r\nHTTP/1.1 200 OK\r\n\r\n");
        },
    ),
    ("is not HTTP (`SSH-2.0-...`)", false, |_, peer| {
        say(peer, b"SSH-2.0-OpenSSH_9.2\r\n")
    }),
    ("is almost HTTP (`HTTP/1.1 20 OK`)", false, |_, peer| {
        say(peer, b"HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n");
    }),
    ("200 with a header line of 1 MiB", true, |_, peer| {
        let long = "a".repeat(1 << 20);
        say(
            peer,
            format!("HTTP/1.1 200 OK\r\nA: {long}\r\nContent-Length: 0\r\n\r\n").as_bytes(),
        );
    }),
    ("200 with a body that does not end", true, |_, peer| {
        let _ = peer.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
        while peer.write_all(&[b'a'; 4096]).is_ok() {}
    }),
];

/// Meets every connection that `accept` brings, each in a thread of its own.
fn meet_all<T: Connection + Send + 'static>(
    mut accept: impl FnMut() -> io::Result<T> + Send + 'static,
    meet: fn(&str, &mut dyn Connection),
) {
    thread::spawn(move || {
        while let Ok(mut connection) = accept() {
            thread::spawn(move || {
                let head = read_head(&mut connection);
                meet(&head, &mut connection);
            });
        }
    });
}

fn peer_at(address: &str, meet: fn(&str, &mut dyn Connection)) -> u16 {
    let listener = TcpListener::bind(address).expect("there is a free port");
    let port = listener.local_addr().expect("it is bound").port();
    meet_all(move || Ok(listener.accept()?.0), meet);
    port
}

/// `yes` for the right verdict in time, said with 0 or 1; else what is wrong.
fn judge(command: Option<Command>, healthy: bool) -> String {
    let Some(mut command) = command else {
        return "cannot".into();
    };
    let started = Instant::now();
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let Ok(mut child) = command.spawn() else {
        return "not found".into();
    };
    let status = loop {
        match child.try_wait().expect("it is a child") {
            Some(status) => break status,
            None if started.elapsed() > KILLED => {
                let _ = child.kill();
                let _ = child.wait();
                return format!("**held for {} s**", KILLED.as_secs());
            }
            None => thread::sleep(Duration::from_millis(5)),
        }
    };
    let code = status.code().unwrap_or(-1);
    match (code == 0) == healthy {
        _ if started.elapsed() > LATE => format!("**{:.1} s**", started.elapsed().as_secs_f32()),
        false => format!("**{}**", if healthy { "unhealthy" } else { "healthy" }),
        true if code > 1 => format!("exit {code}"),
        true => "yes".into(),
    }
}

fn row(name: &str, healthy: bool, judged: impl Fn(&Rival) -> String) {
    let wanted = if healthy { "healthy" } else { "unhealthy" };
    let cells: Vec<_> = RIVALS.iter().map(judged).collect();
    println!("| {name} | {wanted} | {} |", cells.join(" | "));
}

#[test]
#[ignore = "a comparison, and it takes minutes"]
fn table() {
    let names: Vec<_> = RIVALS.iter().map(|rival| rival.name).collect();
    println!("| the peer | is | {} |", names.join(" | "));
    println!("| --- | --- |{}", " --- |".repeat(names.len()));

    let refused = format!("http://127.0.0.1:{}/", free_port());
    row("refuses", false, |rival| {
        judge((rival.command)(&refused, None), false)
    });
    for &(name, healthy, meet) in PEERS {
        row(name, healthy, |rival| {
            let url = format!("http://127.0.0.1:{}/", peer_at("127.0.0.1:0", meet));
            judge((rival.command)(&url, None), healthy)
        });
    }
    let ok = |_: &str, peer: &mut dyn Connection| {
        say(peer, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    };
    for (name, address, host) in [
        ("200 on `[::1]`", "[::1]:0", "[::1]"),
        ("200 on `localhost`, IPv6 only", "[::1]:0", "localhost"),
        ("200 on `localhost`, IPv4 only", "127.0.0.1:0", "localhost"),
    ] {
        row(name, true, |rival| {
            let url = format!("http://{host}:{}/", peer_at(address, ok));
            judge((rival.command)(&url, None), true)
        });
    }
    row("200 while `http_proxy` points elsewhere", true, |rival| {
        let url = format!("http://127.0.0.1:{}/", peer_at("127.0.0.1:0", ok));
        let command = (rival.command)(&url, None).map(|mut command| {
            command.env("http_proxy", &refused);
            command
        });
        judge(command, true)
    });
    row("200 on a unix socket", true, |rival| {
        let path = env::temp_dir().join(format!("rivals-{}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let listener = UnixListener::bind(&path).expect("the directory can be written to");
        meet_all(move || Ok(listener.accept()?.0), ok);
        let cell = judge((rival.command)("http://localhost/", path.to_str()), true);
        let _ = std::fs::remove_file(&path);
        cell
    });
}

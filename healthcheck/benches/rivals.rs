//! Writes the table in `docs/probe.md`: what other probes make of the peers that this one is tested on.
//!
//! `cargo bench --package healthcheck --bench rivals`

#[path = "../tests/support/mod.rs"]
mod support;

use std::env;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use support::peers::{HEALTHY, Meet, PEERS};
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

fn peer_at(address: &str, meet: Meet) -> Peer {
    Peer::answering_on(address, move |head, mut stream| meet(head, &mut stream))
}

fn row(name: &str, healthy: bool, judged: impl Fn(&Rival) -> String) {
    let wanted = if healthy { "healthy" } else { "unhealthy" };
    let cells: Vec<_> = RIVALS.iter().map(judged).collect();
    println!("| {name} | {wanted} | {} |", cells.join(" | "));
}

fn main() {
    let names: Vec<_> = RIVALS.iter().map(|rival| rival.name).collect();
    println!("| the peer | is | {} |", names.join(" | "));
    println!("| --- | --- |{}", " --- |".repeat(names.len()));

    let silent = SilentPort::new();
    let refused = format!("http://127.0.0.1:{}/", silent.number);
    row("refuses", false, |rival| {
        judge((rival.command)(&refused, None), false)
    });
    for &(name, verdict, meet) in PEERS {
        row(name, verdict.is_ok(), |rival| {
            let peer = peer_at("127.0.0.1:0", meet);
            judge((rival.command)(&(peer.url() + "/"), None), verdict.is_ok())
        });
    }
    for (name, address, host) in [
        ("200 on `[::1]`", "[::1]:0", "[::1]"),
        ("200 on `localhost`, IPv6 only", "[::1]:0", "localhost"),
        ("200 on `localhost`, IPv4 only", "127.0.0.1:0", "localhost"),
    ] {
        row(name, true, |rival| {
            let url = format!(
                "http://{host}:{}/",
                peer_at(address, HEALTHY).address.port()
            );
            judge((rival.command)(&url, None), true)
        });
    }
    row("200 while `http_proxy` points elsewhere", true, |rival| {
        let peer = peer_at("127.0.0.1:0", HEALTHY);
        let command = (rival.command)(&(peer.url() + "/"), None).map(|mut command| {
            command.env("http_proxy", &refused);
            command
        });
        judge(command, true)
    });
    row("200 on a unix socket", true, |rival| {
        let path = env::temp_dir().join(format!("rivals-{}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let _requests = answer_unix(&path, |head, mut stream| HEALTHY(head, &mut stream));
        let cell = judge((rival.command)("http://localhost/", path.to_str()), true);
        let _ = std::fs::remove_file(&path);
        cell
    });
}

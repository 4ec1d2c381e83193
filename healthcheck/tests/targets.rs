//! What is probed and with which request: targets, the environment, headers and methods.

mod support;

use std::env;
use std::fs;
use std::net::{Ipv6Addr, TcpListener};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{self, Stdio};
use std::sync::mpsc::Receiver;
use std::thread;
use std::time::Duration;

use rustix::net::{AddressFamily, SocketAddrUnix, SocketType, bind, listen};
use support::*;

const OK: &[u8] = b"HTTP/1.1 200 OK\r\n";

fn answering_on(address: &str) -> Peer {
    Peer::answering_on(address, |_, stream| say(stream, OK))
}

/// A path for a unix socket in a directory of its own, removed on drop.
struct Socket {
    directory: PathBuf,
    path: String,
}

impl Socket {
    fn new(name: &str) -> Self {
        let directory = env::temp_dir().join(format!("healthcheck-{}-{name}", process::id()));
        fs::create_dir(&directory).unwrap();
        let path = directory.join("s").to_str().unwrap().to_owned();
        Self { directory, path }
    }

    fn answer(&self) -> Receiver<String> {
        answer_unix(&self.path, |_, stream| say(stream, OK))
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}

#[test]
fn request_is_complete_and_asks_to_close() {
    let peer = answering_on("127.0.0.1:0");
    probe([&(peer.url() + "/ready?a=b")]).assert_healthy();
    let expected = format!(
        "GET /ready?a=b HTTP/1.1\r\nHost: {}\r\nUser-Agent: healthcheck/{}\r\nConnection: close\r\n\r\n",
        peer.address,
        env!("CARGO_PKG_VERSION"),
    );
    assert_eq!(peer.head(), expected);
}

#[test]
fn headers_are_added_and_replace_those_of_the_same_name() {
    let peer = answering_on("127.0.0.1:0");
    let headers = [
        "--header",
        "HOST: a.test",
        "--header=X-Empty:",
        "--header=user-agent: b",
    ];
    let run = Running::start(command().arg(peer.url()).args(headers)).finish();
    run.assert_healthy();
    let expected =
        "GET / HTTP/1.1\r\nConnection: close\r\nHOST: a.test\r\nX-Empty:\r\nuser-agent: b\r\n\r\n";
    assert_eq!(peer.head(), expected);
}

#[test]
fn method_can_be_head() {
    let peer = answering_on("127.0.0.1:0");
    probe([&peer.url(), "--method", "HEAD"]).assert_healthy();
    assert!(peer.head().starts_with("HEAD / HTTP/1.1\r\n"));
}

#[test]
fn server_of_the_environment_is_probed() {
    for (bound, listen) in [
        ("127.0.0.1:0", ":"),
        ("127.0.0.1:0", "127.0.0.1:"),
        ("0.0.0.0:0", "0.0.0.0:"),
        ("127.0.0.1:0", "[::]:"),
        ("[::1]:0", ":"),
        ("[::1]:0", "[::1]:"),
        ("[::]:0", "[::]:"),
    ] {
        if bound.starts_with('[') && !has_ipv6() {
            continue;
        }
        let peer = answering_on(bound);
        let listen = format!("{listen}{}", peer.address.port());
        // PORT is not looked at.
        probe_with(&[("LISTEN", &listen), ("PORT", "http")], []).assert_healthy();
        assert!(
            peer.head().starts_with("GET /health HTTP/1.1\r\n"),
            "{listen}"
        );
    }
}

#[test]
fn port_of_the_environment_is_probed_in_both_address_families() {
    for bound in ["127.0.0.1:0", "[::1]:0"] {
        if bound.starts_with('[') && !has_ipv6() {
            continue;
        }
        let peer = answering_on(bound);
        let port = peer.address.port().to_string();
        // An empty variable is an unset one.
        probe_with(&[("LISTEN", ""), ("PORT", &port)], ["/ready"]).assert_healthy();
        let head = peer.head();
        assert!(head.starts_with(&format!(
            "GET /ready HTTP/1.1\r\nHost: localhost:{port}\r\n"
        )));
    }
}

#[test]
fn line_names_the_server_of_the_environment() {
    let silent = SilentPort::new();
    let port = silent.number;
    let target = format!("http://localhost:{port}/health");
    probe_with(&[("PORT", &port.to_string())], []).assert_unhealthy(&target, "connect: refused");
    let listen = format!("0.0.0.0:{port}");
    let target = format!("http://127.0.0.1:{port}/x");
    probe_with(&[("LISTEN", &listen)], ["/x"]).assert_unhealthy(&target, "connect: refused");
    let target = "unix:/no/such:/health";
    probe_with(&[("LISTEN", "unix:/no/such")], [])
        .assert_unhealthy(target, "connect: no such socket");
}

#[test]
fn unix_sockets_are_probed() {
    let socket = Socket::new("probed");
    let requests = socket.answer();
    let listen = format!("unix:{}", socket.path);
    probe_with(&[("LISTEN", &listen)], []).assert_healthy();
    probe([&listen]).assert_healthy();
    probe([&format!("{listen}:/ready")]).assert_healthy();
    for path in ["/health", "/", "/ready"] {
        let head = next_head(&requests);
        assert!(
            head.starts_with(&format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n")),
            "{head}"
        );
    }
}

#[test]
fn full_accept_queue_of_a_unix_socket_is_waited_for_until_the_deadline() {
    let socket = Socket::new("full");
    let listener = rustix::net::socket(AddressFamily::UNIX, SocketType::STREAM, None).unwrap();
    bind(&listener, &SocketAddrUnix::new(&*socket.path).unwrap()).unwrap();
    listen(&listener, 0).unwrap();
    let _queued = UnixStream::connect(&socket.path).unwrap();
    let url = format!("unix:{}:/", socket.path);
    probe([&url, "--timeout=300ms"]).assert_unhealthy_after(TIMEOUT, &url, "connect: timed out");
}

#[test]
fn server_that_starts_later_is_waited_for() {
    let socket = Socket::new("later");
    let target = format!("unix:{}", socket.path);
    let running = Running::start(command().args([&target, "--wait=20s", "--verbose"]));
    let failed = running
        .errors
        .recv_timeout(Duration::from_secs(20))
        .unwrap();
    assert!(failed.starts_with("healthcheck: unix:/"), "{failed}");
    assert!(failed.contains(":/: connect: no such socket ("), "{failed}");
    let _requests = socket.answer();
    let run = running.finish();
    assert_eq!(run.status.code(), Some(0), "{run:?}");
    assert!(run.output.contains(": healthy: status 200 ("), "{run:?}");
}

#[test]
fn hosts_are_addresses_or_localhost() {
    for (bound, host) in [
        ("127.0.0.1:0", "127.0.0.1"),
        ("127.0.0.1:0", "localhost"),
        ("[::1]:0", "localhost"),
        ("[::1]:0", "[::1]"),
        ("[::1]:0", "[0:0::0:1]"),
    ] {
        if bound.starts_with('[') && !has_ipv6() {
            continue;
        }
        let peer = answering_on(bound);
        let authority = format!("{host}:{}", peer.address.port());
        probe([&format!("http://{authority}")]).assert_healthy();
        assert!(peer.head().contains(&format!("\r\nHost: {authority}\r\n")));
        let listener = TcpListener::bind(bound).unwrap();
        let port = listener.local_addr().unwrap().port();
        probe([&format!("tcp://{host}:{port}")]).assert_healthy();
    }
}

#[test]
fn proxy_of_the_environment_is_ignored() {
    let peer = answering_on("127.0.0.1:0");
    let silent = SilentPort::new();
    let proxy = format!("http://127.0.0.1:{}", silent.number);
    probe_with(
        &[("HTTP_PROXY", &proxy), ("http_proxy", &proxy)],
        [&peer.url()],
    )
    .assert_healthy();
}

#[test]
fn timeout_of_the_environment_counts_unless_there_is_an_option() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", silent.local_addr().unwrap());
    let run = probe_with(&[("HEALTHCHECK_TIMEOUT", "300ms")], [&url]);
    run.assert_unhealthy_after(TIMEOUT, &url, "receive: timed out");
    let run = probe_with(&[("HEALTHCHECK_TIMEOUT", "x")], [&url, "--timeout=300ms"]);
    run.assert_unhealthy_after(TIMEOUT, &url, "receive: timed out");
}

#[test]
fn verbose_says_so_when_healthy_and_how_long_it_took() {
    let delay = Duration::from_millis(20);
    let peer = Peer::answering(move |stream| {
        thread::sleep(delay);
        say(stream, b"HTTP/1.1 200 OK\r\n\r\n");
    });
    let run = probe([&peer.url(), "--verbose", "--timeout=20s"]);
    assert_eq!((run.status.code(), run.errors.as_str()), (Some(0), ""));
    let start = format!("healthcheck: {}/: healthy: status 200 (", peer.url());
    let elapsed = run.output.strip_prefix(&start);
    let elapsed = elapsed.and_then(|rest| rest.strip_suffix(" ms)\n")?.parse().ok());
    let elapsed = Duration::from_millis(elapsed.unwrap_or_else(|| panic!("{run:?}")));
    // It counts whole milliseconds, from its first wait on.
    assert!(elapsed >= delay / 2 && elapsed <= run.elapsed, "{run:?}");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("tcp://{}", listener.local_addr().unwrap());
    let run = probe([&url, "--verbose"]);
    assert!(
        run.output
            .starts_with(&format!("healthcheck: {url}: healthy: connected ("))
    );
}

#[test]
fn port_80_is_left_out_of_a_url_alone() {
    for (target, shown) in [
        ("http://127.0.0.1:80/", "http://127.0.0.1/"),
        ("http://127.0.0.1", "http://127.0.0.1/"),
        ("tcp://127.0.0.1:80", "tcp://127.0.0.1:80"),
    ] {
        // Whether anything listens there does not matter.
        let run = probe([target, "--verbose"]);
        let line = run.output + &run.errors;
        assert!(
            line.starts_with(&format!("healthcheck: {shown}: ")),
            "{line}"
        );
    }
}

#[test]
fn arguments_and_variables_that_are_not_valid_are_named_with_their_rule() {
    for (arguments, line) in [
        (
            ["--timeout", "0"],
            r#"--timeout="0": expected a time such as 500ms, 3s or 1m, above 0, at most 24 hours"#,
        ),
        (
            ["--timeout=25h", "/"],
            r#"--timeout="25h": expected a time such as 500ms, 3s or 1m, above 0, at most 24 hours"#,
        ),
        (
            ["/", "--wait"],
            r#"--wait="": expected a time such as 500ms, 3s or 1m, above 0, at most 24 hours"#,
        ),
        (
            ["--status", "20-299"],
            r#"--status="20-299": expected statuses such as 200-299,401"#,
        ),
        (
            ["--status=200,", "/"],
            r#"--status="200,": expected statuses such as 200-299,401"#,
        ),
        (
            ["--status=299-200", "/"],
            r#"--status="299-200": expected statuses such as 200-299,401"#,
        ),
        (
            ["--header", "a b: c"],
            r#"--header="a b: c": expected 'Name: value' on one line, 2048 bytes in all"#,
        ),
        (
            ["--header", ": c"],
            r#"--header=": c": expected 'Name: value' on one line, 2048 bytes in all"#,
        ),
        (
            ["--header", "a: b\r\nc: d"],
            r#"--header="a: b\x0d\x0ac: d": expected 'Name: value' on one line, 2048 bytes in all"#,
        ),
        (
            ["--header", "a: b\rc: d"],
            r#"--header="a: b\x0dc: d": expected 'Name: value' on one line, 2048 bytes in all"#,
        ),
        (
            ["--header", "a: b\nc: d"],
            r#"--header="a: b\x0ac: d": expected 'Name: value' on one line, 2048 bytes in all"#,
        ),
        (
            ["--method", "get"],
            r#"--method="get": expected GET or HEAD"#,
        ),
        (["--body", ""], r#"--body="": expected some text"#),
        (
            ["--verbose=1", "/"],
            r#""--verbose=1": expected an option that --help lists"#,
        ),
        (["--", "/"], r#""--": expected an option that --help lists"#),
        (["-v", "/"], r#""-v": expected an option that --help lists"#),
        (["/a", "/b"], r#""/b": expected one target"#),
        (
            ["/a b", "--verbose"],
            r#""/a b": expected a path of visible ASCII without #, at most 1024 bytes"#,
        ),
        (
            ["http://[::1]/#a", "--verbose"],
            r##""http://[::1]/#a": expected a path of visible ASCII without #, at most 1024 bytes"##,
        ),
        (
            ["unix:a", "--verbose"],
            r#""unix:a": expected unix: and the absolute path of a socket, at most 107 bytes"#,
        ),
        (
            ["tcp://[::1]:1", "--body=x"],
            r#""tcp://[::1]:1": expected HTTP, for the options given"#,
        ),
        (
            ["--method=HEAD", "--body=x"],
            r#"--body="x": expected no --body with HEAD"#,
        ),
        (
            ["https://a", "--verbose"],
            r#""https://a": expected http://, as the probe has no TLS"#,
        ),
    ] {
        probe(arguments).assert_invalid(line);
    }
}

#[test]
fn targets_are_refused_each_for_its_own_reason() {
    let forms = "/PATH, [http://]HOST:PORT[/PATH], unix:/SOCKET[:/PATH] or tcp://HOST:PORT";
    let host = "an IPv4 address, [IPv6] or localhost: there is no DNS";
    let port = "a port from 1 to 65535";
    let user = "no user@ before the host: use --header";
    let tls = "http://, as the probe has no TLS";
    for (rule, targets) in [
        (
            forms,
            [
                "",
                "8080",
                "localhost",
                "localhost:",
                "ftp://127.0.0.1",
                "ftp://127.0.0.1:80/",
                "HTTP://127.0.0.1",
                "http:/127.0.0.1",
                "tcp://127.0.0.1:80/",
            ]
            .as_slice(),
        ),
        (
            host,
            &[
                "http://",
                "http:///ready",
                "http://example.com",
                "http://example.com:99999/",
                "example.com:80",
                "tcp://db:5432",
                "http://127.1/",
                "http://::1/",
                "http://[::1/",
                "http://[::1]80/",
                "http://127.0.0.1?a",
                "http://localhost.:80",
            ],
        ),
        (
            port,
            &[
                "http://127.0.0.1:/",
                "http://127.0.0.1:0/",
                "http://127.0.0.1:65536/",
                "http://localhost:99999",
                "localhost:99999",
                ":0",
                "http://127.0.0.1:http/",
                "tcp://localhost",
                "tcp://127.0.0.1",
            ],
        ),
        (
            user,
            &[
                "http://user@127.0.0.1/",
                "http://user:pw@localhost:80/",
                "http://user:pw@example.com",
                "user@localhost:80",
            ],
        ),
        (tls, &["https://localhost", "https://127.0.0.1:8443/ready"]),
    ] {
        for target in targets {
            probe([target]).assert_invalid(&format!("\"{target}\": expected {rule}"));
        }
    }
}

#[test]
fn host_and_scheme_may_be_left_out() {
    let peer = answering_on("127.0.0.1:0");
    let port = peer.address.port();
    for (target, path) in [
        (format!(":{port}"), "/"),
        (format!(":{port}/ready?to=http://a"), "/ready?to=http://a"),
        (format!("localhost:{port}"), "/"),
        (format!("localhost:{port}/ready"), "/ready"),
        (format!("http://:{port}"), "/"),
    ] {
        probe([&target]).assert_healthy();
        let start = format!("GET {path} HTTP/1.1\r\nHost: localhost:{port}\r\n");
        assert!(peer.head().starts_with(&start), "{target}");
    }
    probe([&format!("127.0.0.1:{port}/ready")]).assert_healthy();
    assert!(peer.head().contains(&format!("Host: 127.0.0.1:{port}\r\n")));
    probe([&format!("tcp://:{port}")]).assert_healthy();
}

#[test]
fn localhost_leaves_time_for_ipv4_where_packets_to_the_ipv6_loopback_vanish() {
    if !has_ipv6() {
        return;
    }
    let queue = FullQueue::new(Ipv6Addr::LOCALHOST.into());
    let port = queue.address.port();
    let url = format!("http://localhost:{port}/");
    // With nothing else to connect to, the whole time is its own: it may accept yet.
    let timeout = format!("{}ms", TIMEOUT.as_millis());
    probe([&url, "--timeout", &timeout]).assert_unhealthy_after(
        TIMEOUT,
        &url,
        "connect: timed out",
    );
    let peer = answering_on(&format!("127.0.0.1:{port}"));
    // Half of the time is for IPv6, and what is left is enough on a machine that is busy.
    let run = probe([&url, "--timeout=6s", "--verbose"]);
    assert_eq!(run.status.code(), Some(0), "{run:?}");
    assert!(peer.head().contains(&format!("Host: localhost:{port}\r\n")));
}

#[test]
fn environment_that_is_not_valid_is_named_with_its_rule() {
    let endpoint = "ADDRESS:PORT, :PORT, [IPV6]:PORT or unix:/path";
    let zero = "a port, as the probe cannot know which one 0 took";
    for (variable, value, rule) in [
        ("PORT", "http", "a number from 0 to 65535"),
        ("PORT", "0", zero),
        ("LISTEN", "8080", endpoint),
        ("LISTEN", "localhost:80", endpoint),
        ("LISTEN", "[::]:0", zero),
        (
            "HEALTHCHECK_TIMEOUT",
            "0s",
            "a time such as 500ms, 3s or 1m, above 0, at most 24 hours",
        ),
    ] {
        let line = format!("{variable}=\"{value}\": expected {rule}");
        probe_with(&[(variable, value)], []).assert_invalid(&line);
    }
}

#[test]
fn lines_stay_short_and_plain_whatever_is_given() {
    let long = "\x1b\u{e9}\"".repeat(300);
    for (name, value) in [("--timeout", &long), ("--body", &long), ("--header", &long)] {
        let run = probe([name, value, "http://127.0.0.1:1/", "--status=1"]);
        assert_eq!(run.status.code(), Some(1));
        assert!(
            run.errors.len() < 200
                && run
                    .errors
                    .trim_end()
                    .bytes()
                    .all(|byte| (b' '..=b'~').contains(&byte)),
            "{run:?}"
        );
        assert_eq!(run.errors.lines().count(), 1);
    }
    // A verdict is short enough by itself: the end of its line is there.
    let path = "p".repeat(1000);
    let peer = Peer::saying("HTTP/1.1 503 Busy\r\n\r\n");
    let http = format!("{}/{path}", peer.url());
    let unix = format!("unix:/{:s<106}:/{path}", "");
    let statuses = format!("--status={}200", "200,".repeat(100));
    for (arguments, cause) in [
        (
            [&http, statuses.as_str()],
            "pp...: receive: status 503 wanted 200,",
        ),
        (
            [&http, &format!("--body={path}")],
            "pp...: receive: status 503 wanted 200-299 (",
        ),
        ([&unix, "--wait=150ms"], "pp...: connect: no such socket ("),
    ] {
        let run = probe(arguments);
        let line = &run.errors;
        assert!(line.len() < 200 && line.ends_with(")\n"), "{run:?}");
        assert!(line.contains(cause), "{run:?}");
    }
}

#[test]
fn longest_request_is_sent_whole() {
    let peer = answering_on("127.0.0.1:0");
    let path = "/".repeat(1024);
    let header = format!("A: {}", "b".repeat(2048 - "A: \r\n".len()));
    probe([&format!("{}{path}", peer.url()), "--header", &header]).assert_healthy();
    let head = peer.head();
    assert!(head.starts_with(&format!("GET {path} HTTP/1.1\r\n")));
    assert!(head.ends_with(&format!("\r\n{header}\r\n\r\n")));
    let one_more = format!("{header}b");
    let run = probe(["--header", &one_more]);
    let rule = "expected 'Name: value' on one line, 2048 bytes in all";
    assert!(run.errors.contains(rule), "{run:?}");
    let many = ["--header=A:bcdefghijklmnopqrstuvwxyz", "--header=a: "].repeat(64);
    let run = Running::start(command().args(many)).finish();
    assert!(run.errors.contains(rule), "{run:?}");
}

#[test]
fn help_and_version_are_answered_and_healthy() {
    let help = probe(["--help"]);
    assert_eq!(probe(["-h"]).output, help.output);
    assert_eq!((help.status.code(), help.errors.as_str()), (Some(0), ""));
    for option in [
        "--timeout",
        "--wait",
        "--status",
        "--header",
        "--method",
        "--body",
        "--verbose",
    ] {
        assert!(help.output.contains(option), "{option}");
    }
    let version = probe(["--version"]);
    assert_eq!(
        version.output,
        format!("healthcheck {}\n", env!("CARGO_PKG_VERSION"))
    );
    assert_eq!(version.status.code(), Some(0));
}

#[test]
fn exit_code_stands_when_the_reader_is_gone() {
    let silent = SilentPort::new();
    let refused = format!("tcp://127.0.0.1:{}", silent.number);
    for (argument, code) in [("--help", 0), ("--no-such", 1), (&refused, 1)] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let status = command()
            .arg(argument)
            .stdout(Stdio::from(writer.try_clone().unwrap()))
            .stderr(Stdio::from(writer))
            .status()
            .unwrap();
        assert_eq!(status.code(), Some(code), "{argument}");
    }
}

#[test]
fn program_needs_no_name() {
    use std::os::unix::process::CommandExt;
    let run = Running::start(command().arg0("").arg("--version")).finish();
    assert_eq!(run.status.code(), Some(0));
    assert!(run.output.starts_with("healthcheck "));
}

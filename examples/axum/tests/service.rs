//! The service from outside: what axum answers, and what becomes of its state when the server stops.

#[path = "../../../tests/common/mod.rs"]
mod common;

use std::env;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::Command;

use common::elf::assert_static;
use common::{Client, Process, Response, Server, server_binary};

/// A path for a journal in a directory of its own, removed on drop.
struct Journal(PathBuf);

impl Journal {
    fn new(test: &str) -> Self {
        let directory = env::temp_dir().join(format!("axum-{test}-{}", std::process::id()));
        fs::create_dir_all(&directory).expect("a directory for the journal");
        Self(directory.join("journal"))
    }

    fn path(&self) -> &str {
        self.0.to_str().expect("a path of text")
    }

    fn text(&self) -> String {
        fs::read_to_string(&self.0).expect("the journal")
    }

    fn server(&self, variables: &[(&str, &str)]) -> Server {
        Server::start(&[&[("JOURNAL", self.path())], variables].concat())
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(self.0.parent().expect("a directory"));
    }
}

fn post(client: &mut Client, json: &str) -> Response {
    let length = json.len();
    client.request(&format!(
        "POST /reminders HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{json}"
    ))
}

fn remind(server: &Server, text: &str, after_ms: u32) {
    let json = format!(r#"{{"text":"{text}","after_ms":{after_ms}}}"#);
    assert_eq!(post(&mut server.connect(), &json).status, 201);
}

/// Opens the stream of events, and returns its lines, chunk sizes included.
fn events(server: &Server) -> impl Iterator<Item = String> + use<> {
    let mut client = server.connect();
    let response = client.request("GET /events HTTP/1.1\r\nHost: test\r\n\r\n");
    assert_eq!(response.header("content-type"), Some("text/event-stream"));
    assert_eq!(response.header("transfer-encoding"), Some("chunked"));
    let lines = BufReader::new(client.0).lines();
    lines.map(|line| line.expect("the stream ends in order"))
}

#[test]
fn the_binary_is_static() {
    assert_static(&server_binary());
}

#[test]
fn json_goes_in_and_comes_out() {
    let journal = Journal::new("json");
    let server = journal.server(&[]);
    let response = post(&mut server.connect(), r#"{"text":"tea","after_ms":600000}"#);
    assert_eq!(response.status, 201);
    assert_eq!(response.header("content-type"), Some("application/json"));
    assert_eq!(response.body, r#"{"id":1,"text":"tea"}"#);

    let shown = server.get("/reminders/1");
    assert_eq!((shown.status, shown.body), (200, response.body));
    assert_eq!(server.get("/reminders/2").status, 404);
    assert_eq!(server.get("/reminders/one").status, 400);
    for (json, status) in [("{", 400), ("{}", 422)] {
        assert_eq!(post(&mut server.connect(), json).status, status, "{json}");
    }
}

#[test]
fn a_body_above_the_limit_is_refused_with_and_without_its_length() {
    let journal = Journal::new("limit");
    let server = journal.server(&[]);
    let json = format!(r#"{{"text":"{:5000}","after_ms":0}}"#, "");
    let response = post(&mut server.connect(), &json);
    assert_eq!(response.status, 413);

    let length = json.len();
    let response = server.connect().request(&format!(
        "POST /reminders HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n{length:x}\r\n{json}\r\n0\r\n\r\n"
    ));
    assert_eq!(response.status, 413);
}

#[test]
fn a_handler_that_takes_too_long_is_504_and_the_connection_lives_on() {
    let journal = Journal::new("timeout");
    let server = journal.server(&[]);
    let mut client = server.connect();
    let response = client.request("GET /reminders/next HTTP/1.1\r\nHost: test\r\n\r\n");
    assert_eq!((response.status, response.closes()), (504, false));
    let response = client.request("GET /livez HTTP/1.1\r\nHost: test\r\n\r\n");
    assert_eq!((response.status, response.body.as_str()), (200, "alive"));
}

#[test]
fn events_arrive_and_their_stream_ends_when_the_server_stops() {
    for workers in ["1", "4"] {
        let journal = Journal::new(&format!("events-{workers}"));
        let mut server = journal.server(&[("WORKERS", workers)]);
        let mut events = events(&server);
        remind(&server, "tea", 1);
        let event = events.find(|line| line.starts_with("data: "));
        assert_eq!(event.as_deref(), Some(r#"data: {"id":1,"text":"tea"}"#));
        server.terminate();
        // The last chunk, without which the stream would look broken off.
        let rest: Vec<_> = events.collect();
        assert_eq!(rest[rest.len() - 2..], ["0", ""], "{rest:?}");
        assert_eq!(server.exit().code(), Some(0));
    }
}

#[test]
fn a_start_that_hangs_is_ended_by_a_signal() {
    let journal = Journal::new("hangs");
    let fifo = Command::new("mkfifo").arg(journal.path()).status();
    assert!(fifo.expect("mkfifo(1) runs").success());
    let mut command = Server::command();
    command.env("LISTEN", "127.0.0.1:0");
    command.env("JOURNAL", journal.path());
    // Nobody reads from the pipe, and until then open(2) waits.
    let mut server = Server::spawn_starting(command);
    server.signal("TERM");
    assert_eq!(server.exit().code(), Some(0));
}

#[test]
fn a_start_that_fails_is_one_line_and_exit_code_1() {
    for (journal, line) in [
        (
            "/missing/journal",
            "error: cannot open JOURNAL=\"/missing/journal\": No such file or directory",
        ),
        ("", "error: JOURNAL=\"\": expected the path of a file"),
    ] {
        let mut command = Server::command();
        command.env("LISTEN", "127.0.0.1:0").env("RUST_LOG", "warn");
        command.env("JOURNAL", journal);
        let (code, _, stderr) = Process::run(command);
        assert_eq!(code, Some(1));
        assert!(
            stderr.starts_with(line) && stderr.lines().count() == 1,
            "{stderr}"
        );
    }
}

#[test]
fn what_is_buffered_is_written_at_the_end() {
    let journal = Journal::new("buffered");
    let mut server = journal.server(&[]);
    let mut events = events(&server);
    remind(&server, "tea", 0);
    assert!(events.any(|line| line.starts_with("data: ")));
    assert_eq!(journal.text(), "", "it is buffered");
    server.signal("TERM");
    assert_eq!(server.exit().code(), Some(0));
    assert_eq!(journal.text(), "{\"id\":1,\"text\":\"tea\"}\n");
}

#[test]
fn tasks_of_the_service_are_waited_for_whichever_worker_spawned_them() {
    for workers in ["1", "4"] {
        let journal = Journal::new(&format!("tasks-{workers}"));
        let mut server = journal.server(&[("WORKERS", workers)]);
        for _ in 0..16 {
            remind(&server, "tea", 300);
        }
        server.signal("TERM");
        assert_eq!(server.exit().code(), Some(0));
        assert_eq!(journal.text().lines().count(), 16);
    }
}

#[test]
fn tasks_that_take_too_long_are_not_waited_for() {
    let journal = Journal::new("long-tasks");
    let mut server = journal.server(&[]);
    remind(&server, "now", 0);
    remind(&server, "much later", 600_000);
    server.signal("TERM");
    server.line("1 reminders were not due in time");
    assert_eq!(server.exit().code(), Some(0));
    assert_eq!(journal.text(), "{\"id\":1,\"text\":\"now\"}\n");
}

#[test]
fn readiness_is_off_while_the_server_stops_and_what_is_in_progress_is_answered() {
    let journal = Journal::new("drain");
    let mut server = journal.server(&[("SHUTDOWN_DELAY", "10m")]);
    assert_eq!(server.get("/health").status, 200);
    let mut waiting = server.connect();
    waiting.send("GET /reminders/next HTTP/1.1\r\nHost: test\r\n\r\n");
    server.terminate();
    for path in ["/health", "/readyz"] {
        let response = server.get(path);
        assert_eq!((response.status, response.closes()), (503, true), "{path}");
    }
    assert_eq!(server.get("/livez").status, 200);
    remind(&server, "tea", 1);
    let answer = waiting.response();
    assert_eq!((answer.status, answer.closes()), (200, true));
    assert_eq!(answer.body, r#"{"id":1,"text":"tea"}"#);
}

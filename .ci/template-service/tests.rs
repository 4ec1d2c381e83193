//! What the routes answer.

mod common;

use std::env;
use std::fs;

use common::Server;

fn post_sum(server: &Server, json: &str) -> (u16, String) {
    let length = json.len();
    let response = server.connect().request(&format!(
        "POST /sum HTTP/1.1\r\nHost: test\r\nContent-Length: {length}\r\n\r\n{json}"
    ));
    (response.status, response.body)
}

#[test]
fn json_goes_in_and_comes_out() {
    let server = Server::start(&[]);
    let sum = post_sum(&server, r#"{"numbers":[1.5,2]}"#);
    assert_eq!(sum, (200, r#"{"sum":3.5}"#.to_owned()));
    assert_eq!(post_sum(&server, "{}").0, 400);
}

#[test]
fn a_streamed_answer_is_whole() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    client.send("GET /countdown HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
    let answer = client.read_to_end().expect("an orderly close");
    let answer = String::from_utf8(answer).expect("text");
    assert!(answer.contains("\r\n999\n"), "{answer}");
    assert!(answer.ends_with("\n0\n\r\n0\r\n\r\n"), "{answer}");
}

#[test]
fn a_file_of_its_own_is_compiled_in() {
    let server = Server::start(&[]);
    assert_eq!(server.get("/about").body, "Sums on scratch\n");
}

#[test]
fn a_state_that_cannot_be_made_is_one_line_and_exit_code_1() {
    let mut command = Server::command();
    command.env("LISTEN", "127.0.0.1:0").env("RUST_LOG", "off");
    command.env("JOURNAL", "/missing/journal");
    let (code, _, stderr) = common::Process::run(command);
    let line = "error: cannot open the journal: No such file or directory (os error 2)\n";
    assert_eq!((code, stderr.as_str()), (Some(1), line));
}

#[test]
fn the_journal_is_written_at_the_end() {
    let journal = env::temp_dir().join(format!("sums-{}", std::process::id()));
    let mut server = Server::start(&[("JOURNAL", journal.to_str().expect("text"))]);
    post_sum(&server, r#"{"numbers":[1,2]}"#);
    let before = fs::read_to_string(&journal).expect("the journal");
    server.signal("TERM");
    assert_eq!(server.exit().code(), Some(0));
    let after = fs::read_to_string(&journal).expect("the journal");
    fs::remove_file(journal).expect("the journal");
    assert_eq!((before.as_str(), after.as_str()), ("", "{\"sum\":3.0}\n"));
}

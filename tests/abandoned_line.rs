//! The log line of a request that was abandoned. The library logs to the stderr of its process, so the
//! test runs itself in another process and reads what that one logs.

mod common;
#[path = "service/harness.rs"]
mod harness;
#[path = "service/sync.rs"]
mod sync;

use std::env;
use std::future::pending;
use std::num::NonZeroUsize;
use std::process::Command;

use common::Process;
use harness::{Family, Server, get, limits, text};
use http_body_util::Full;
use hyper::Response;
use hyper::body::Bytes;
use scratch_server::{Drained, log};
use sync::Count;

const NAME: &str = "the_log_line_of_an_abandoned_request_says_so";
const LOGGED: &str = "IS_LOGGED";

#[test]
fn the_log_line_of_an_abandoned_request_says_so() {
    if env::var_os(LOGGED).is_some() {
        return abandon_one_request();
    }
    let itself = env::current_exe().expect("a path");
    let mut command = Command::new(itself);
    command
        .args([NAME, "--exact", "--nocapture"])
        .env(LOGGED, "1");
    let (code, stdout, log) = Process::run(command);
    assert_eq!(code, Some(0), "{stdout}{log}");
    let line = |path: &str| {
        let mut lines = log.lines().filter(|line| line.contains(path));
        let line = lines.next().unwrap_or_else(|| panic!("no line in {log:?}"));
        assert_eq!(lines.next(), None);
        line
    };
    let answered = line("\"/answered\"");
    assert!(
        answered.starts_with("GET \"/answered\" 200 8 bytes "),
        "{answered}"
    );
    assert!(answered.ends_with(" us unix"), "{answered}");
    let abandoned = line("\"/abandoned\"");
    assert!(
        abandoned.starts_with("GET \"/abandoned\" - 0 bytes "),
        "{abandoned}"
    );
    assert!(abandoned.ends_with(" us unix abandoned"), "{abandoned}");
}

fn abandon_one_request() {
    log::init(log::Level::Debug);
    let called = Count::default();
    let mut server = Server::start_on(Family::Unix, NonZeroUsize::MIN, limits(), {
        let called = called.clone();
        move |request| {
            called.add(1);
            let is_answered = request.uri() == "/answered";
            async move {
                match is_answered {
                    true => text("answered"),
                    false => pending::<Response<Full<Bytes>>>().await,
                }
            }
        }
    });
    assert_eq!(server.get("/answered").body, "answered");
    let mut client = server.connect();
    client.send(get("/abandoned"));
    called.wait_for(2);
    client.half_close();
    client.assert_closed();
    server.stop();
    assert_eq!(server.drained(), Drained::Complete);
    log::flush();
}

//! The image: it becomes healthy, and a stop under load loses no request.
//!
//! Needs Docker Engine 25 or newer and the image `axum-on-scratch`: `cargo test --test image --
//! --ignored --nocapture`.

#[path = "../../../tests/common/mod.rs"]
mod common;

use std::env;
use std::fs::{self, Permissions};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::docker::docker;
use common::{Client, PATIENCE};

const IMAGE: &str = "axum-on-scratch";
const CLIENTS: usize = 8;
/// Requests that are answered before the stop.
const BEFORE: usize = 1_000;

/// A container, and the directory with its journal; both removed on drop.
struct Container {
    id: String,
    directory: PathBuf,
}

impl Container {
    fn run() -> Self {
        let directory = env::temp_dir().join(format!("axum-image-{}", std::process::id()));
        fs::create_dir_all(&directory).expect("a directory for the journal");
        // The user of the image has no name here.
        fs::set_permissions(&directory, Permissions::from_mode(0o777)).expect("permissions");
        let volume = format!("--volume={}:/journal", directory.display());
        let options = [
            "--detach",
            "--read-only",
            "--cap-drop=ALL",
            "--security-opt=no-new-privileges",
            "--memory=32m",
            "--memory-swap=32m",
            "--publish=127.0.0.1::8080",
            "--env=SHUTDOWN_DELAY=2s",
            &volume,
        ];
        let id = docker(&[&["run"], &options[..], &[IMAGE]].concat());
        Self { id, directory }
    }

    fn inspect(&self, format: &str) -> String {
        docker(&["inspect", "--format", format, &self.id])
    }

    fn wait_until_healthy(&self) {
        let deadline = Instant::now() + PATIENCE;
        while self.inspect("{{.State.Health.Status}}") != "healthy" {
            let state = || self.inspect("{{json .State}}");
            assert!(Instant::now() < deadline, "{}", state());
            thread::sleep(Duration::from_millis(10));
        }
    }

    fn address(&self) -> SocketAddr {
        let address = docker(&["port", &self.id, "8080"]);
        address.parse().expect("one address")
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let remove = ["rm", "--force", "--volumes", &self.id];
        let _ = Command::new("docker").args(remove).output();
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// Sends request after request, each when the last is answered, until an answer announces the end of
/// the connection. Then it sends one more on a new connection, which the delay allows, and gives up,
/// as a client does behind a load balancer. Counts each answer, and fails where there is none.
fn client(address: SocketAddr, answered: &AtomicUsize) {
    let json = r#"{"text":"tea","after_ms":0}"#;
    let length = json.len();
    let request = format!(
        "POST /reminders HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{json}"
    );
    for _ in 0..2 {
        let mut client = Client::connect(address);
        loop {
            let response = client.request(&request);
            assert_eq!(response.status, 201, "{response:?}");
            answered.fetch_add(1, Ordering::Relaxed);
            if response.closes() {
                client.assert_closed();
                break;
            }
        }
    }
}

#[test]
#[ignore = "needs Docker and the image"]
fn a_stop_under_load_loses_no_request_and_no_reminder() {
    let container = Container::run();
    container.wait_until_healthy();
    let address = container.address();
    let answered = AtomicUsize::new(0);
    thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| scope.spawn(|| client(address, &answered)))
            .collect();
        let deadline = Instant::now() + PATIENCE;
        while answered.load(Ordering::Relaxed) < BEFORE {
            assert!(Instant::now() < deadline, "{answered:?} were answered");
            thread::sleep(Duration::from_millis(1));
        }
        docker(&["stop", &container.id]);
        for client in clients {
            client.join().expect("every request is answered");
        }
    });
    assert_eq!(container.inspect("{{.State.ExitCode}}"), "0");
    let journal = fs::read_to_string(container.directory.join("reminders.jsonl"));
    let written = journal.expect("the journal").lines().count();
    let answered = answered.into_inner();
    assert_eq!(written, answered);
    println!("{answered} requests of {CLIENTS} clients answered and written, none lost");
    let size = docker(&["image", "inspect", "--format", "{{.Size}}", IMAGE]);
    println!("{IMAGE}: {size} bytes");
}

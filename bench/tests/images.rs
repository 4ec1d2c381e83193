//! `measure --image`, with an engine and an image of this repository.

mod common;

use std::{
    env,
    process::{Command, Stdio},
};

use common::{Run, bench, directory, wait_until};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

#[test]
#[ignore = "needs Docker and the image scratch-server"]
fn image_is_measured_from_create_to_stop() {
    let json = directory("image").join("out.json");
    let images = [
        "--image",
        "scratch-server",
        "--image",
        "gone=localhost/no-such-image:1",
    ];
    // This one ends at once, and says why.
    let broken = ["--image", "broken=scratch-server --no-such-option"];
    let tool = bench(["measure", "--runs", "2", "--timeout", "60s"])
        .args(images)
        .args(broken)
        .arg("--json")
        .arg(&json)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let label = format!("startup-bench={}", tool.id());
    let run = Run::from(tool.wait_with_output().unwrap());
    assert_eq!(run.code, Some(4), "{}{}", run.stdout, run.stderr);
    let json: Value = serde_json::from_str(&std::fs::read_to_string(json).unwrap()).unwrap();
    let figure = |metric: &str| {
        let median = &json["summaries"][metric]["scratch-server"]["summary"]["median"];
        median
            .as_f64()
            .unwrap_or_else(|| panic!("{metric}: {json:#}"))
    };
    let phases = [
        "create",
        "start to exec",
        "exec to listening",
        "listening to 200",
        "first 200",
        "healthy",
        "start",
        "stop",
    ];
    assert!(phases.iter().all(|phase| figure(phase) >= 0.0));
    assert!(figure("first 200") > figure("create") && figure("healthy") > figure("create"));
    assert_eq!(figure("exit code"), 0.0);
    assert!(figure("size") > 100_000.0);
    let left_out = |name: &str| {
        json["left_out"][name]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    assert!(
        left_out("gone")
            .starts_with("no image localhost/no-such-image:1 is here, and it cannot be pulled: ")
    );
    assert!(
        left_out("broken").starts_with("exited with code 2 before it answered: "),
        "{}",
        left_out("broken")
    );
    assert_eq!(containers(&label), "");
}

#[test]
#[ignore = "needs Docker and the image scratch-server"]
fn containers_are_removed_when_the_tool_is_killed() {
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGKILL] {
        let mut tool = bench(["measure", "--image", "scratch-server", "--runs", "1000"]);
        let mut tool = tool
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let label = format!("startup-bench={}", tool.id());
        wait_until("a container is there", || !containers(&label).is_empty());
        kill(Pid::from_raw(tool.id() as i32), signal).unwrap();
        wait_until("the tool ends", || tool.try_wait().unwrap().is_some());
        wait_until("the container is gone", || containers(&label).is_empty());
    }
}

#[test]
fn engine_that_does_not_answer_is_one_line() {
    let socket = directory("no-engine").join("socket");
    let mut tool = bench(["measure", "--image", "scratch-server", "--image", "other"]);
    let output = tool
        .env("DOCKER_HOST", format!("unix://{}", socket.display()))
        .args(["--engine", "docker"])
        .output();
    let run = Run::from(output.unwrap());
    assert_eq!(run.code, Some(3), "{}{}", run.stdout, run.stderr);
    let lines: Vec<&str> = run.stdout.lines().collect();
    assert!(
        lines.len() == 2 && lines.iter().all(|line| line.contains(": no engine: ")),
        "{}",
        run.stdout
    );
}

fn containers(label: &str) -> String {
    let filter = format!("label={label}");
    let output = Command::new("docker")
        .args(["ps", "--all", "--quiet", "--filter", &filter])
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{output:?} {:?}",
        env::var("DOCKER_HOST")
    );
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

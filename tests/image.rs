//! The image that ships: what is in it, and that it keeps its promises under Docker.
//!
//! Needs Docker Engine 25 or newer and the image, which `IMAGE` names (`scratch-server` unless
//! set): `cargo test --test image -- --ignored`. It may have `MAX_IMAGE` bytes. `RUST_IMAGE` names what
//! stands in for the base image of a build where that cannot be pulled. `IMAGE_MEMORY` replaces each limit on
//! memory, for an image of another architecture: the emulator takes some itself.

mod common;

use std::env;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::thread;
use std::time::{Duration, Instant};

use common::docker::{copy_sources, docker};
use common::elf::{assert_one_segment, assert_static};
use common::{Client, GET, PATIENCE, SERVICE_ENVIRONMENT, example, wait_until};

const MAX_IMAGE: u64 = 690_000;
/// Of the probe for x86-64, and for arm64, whose instructions are larger.
const MAX_PROBE: [(&str, u64); 2] = [("amd64", 16_383), ("arm64", 16_895)];

/// What an orchestrator that trusts nothing would run it with.
const CONFINED: [&str; 8] = [
    "--read-only",
    "--cap-drop=ALL",
    "--security-opt=no-new-privileges",
    "--memory=6m",
    "--memory-swap=6m",
    "--pids-limit=8",
    "--publish=127.0.0.1::8080",
    "--publish=127.0.0.1::9000",
];

fn image() -> String {
    env::var("IMAGE").unwrap_or_else(|_| "scratch-server".into())
}

fn docker_output(arguments: &[&str]) -> Output {
    Command::new("docker")
        .args(arguments)
        .output()
        .expect("docker is on PATH")
}

fn inspect(format: &str) -> String {
    docker(&["image", "inspect", "--format", format, &image()])
}

/// A container, removed on drop.
struct Container(String);

impl Container {
    fn run(options: &[&str]) -> Self {
        Self::run_image(&image(), options)
    }

    fn run_image(image: &str, options: &[&str]) -> Self {
        let environment: Vec<_> = SERVICE_ENVIRONMENT
            .iter()
            .map(|(name, value)| format!("--env={name}={value}"))
            .collect();
        let environment: Vec<_> = environment.iter().map(String::as_str).collect();
        // Docker takes the last one of each option.
        let memory = env::var("IMAGE_MEMORY").map_or(vec![], |memory| {
            vec![
                format!("--memory={memory}"),
                format!("--memory-swap={memory}"),
            ]
        });
        let memory: Vec<_> = memory.iter().map(String::as_str).collect();
        let run = ["run", "--detach"];
        Self(docker(
            &[&run[..], &environment, options, &memory, &[image]].concat(),
        ))
    }

    fn inspect(&self, format: &str) -> String {
        docker(&["inspect", "--format", format, &self.0])
    }

    /// Waits until the image's own HEALTHCHECK says `healthy`.
    fn wait_until_healthy(&self) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let health = self.inspect("{{.State.Status}} {{.State.Health.Status}}");
            if health == "running healthy" {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "{health}: {}",
                self.inspect("{{json .State}}")
            );
            thread::sleep(Duration::from_millis(10));
        }
    }

    fn address(&self, port: u16) -> SocketAddr {
        docker(&["port", &self.0, &port.to_string()])
            .parse()
            .expect("one address")
    }

    /// Stops it; Docker kills what takes a second.
    fn stop(&self) -> String {
        docker(&["stop", "--time=1", &self.0]);
        self.inspect("{{.State.ExitCode}}")
    }

    /// Waits for the end, and gives back the exit code.
    fn exit_code(&self) -> String {
        wait_until("the container has ended", || {
            self.inspect("{{.State.Status}}") == "exited"
        });
        self.inspect("{{.State.ExitCode}}")
    }

    fn log(&self) -> String {
        let Output { stdout, stderr, .. } = docker_output(&["logs", &self.0]);
        String::from_utf8([stdout, stderr].concat()).expect("text")
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        docker_output(&["rm", "--force", &self.0]);
    }
}

/// The image's files, copied out; removed on drop.
struct Files(PathBuf);

impl Files {
    fn copy(test: &str) -> Self {
        let directory = env::temp_dir().join(format!("image-{test}-{}", std::process::id()));
        fs::create_dir_all(&directory).expect("a directory for the files");
        let container = Container(docker(&["create", &image()]));
        let archive = directory.join("image.tar");
        docker(&["export", "--output", path(&archive), &container.0]);
        let status = Command::new("tar")
            .args([
                "--extract",
                "--file",
                path(&archive),
                "--directory",
                path(&directory),
            ])
            .status();
        assert!(status.expect("tar is on PATH").success());
        fs::remove_file(archive).expect("the archive is there");
        Self(directory)
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn path(path: &Path) -> &str {
    path.to_str().expect("a path of text")
}

#[test]
#[ignore = "needs Docker and the image"]
fn there_are_two_files_and_both_are_small_and_static() {
    let files = Files::copy("files");
    let mut names: Vec<_> = fs::read_dir(&files.0)
        .expect("the files")
        .map(|entry| {
            entry
                .expect("an entry")
                .file_name()
                .into_string()
                .expect("text")
        })
        // Mount points and files that Docker puts into every container.
        .filter(|name| !["dev", "etc", "proc", "sys", ".dockerenv"].contains(&name.as_str()))
        .collect();
    names.sort();
    assert_eq!(names, ["healthcheck", "server"]);
    for entry in fs::read_dir(files.0.join("etc")).expect("what Docker adds") {
        let metadata = entry
            .expect("an entry")
            .path()
            .symlink_metadata()
            .expect("metadata");
        assert!(
            metadata.is_symlink() || metadata.len() == 0,
            "a file of the image's own in /etc"
        );
    }
    for name in names {
        assert_static(&files.0.join(name));
    }
    let probe = files.0.join("healthcheck");
    assert_one_segment(&probe);
    let probe = fs::metadata(probe).expect("metadata").len();
    let architecture = inspect("{{.Architecture}}");
    let (_, max) = MAX_PROBE
        .into_iter()
        .find(|(name, _)| *name == architecture)
        .expect("an architecture that the image can be built for");
    assert!(probe <= max, "{probe} bytes");
    let size: u64 = inspect("{{.Size}}").parse().expect("a number");
    let max = env::var("MAX_IMAGE").map_or(MAX_IMAGE, |max| max.parse().expect("a number"));
    assert!(size <= max, "{size} bytes");
}

#[test]
#[ignore = "needs Docker and the image"]
fn the_configuration_is_what_orchestrators_ask_for() {
    assert_eq!(inspect("{{.Config.User}}"), "65532:65532");
    assert_eq!(inspect("{{json .Config.Entrypoint}}"), r#"["/server"]"#);
    assert_eq!(
        inspect("{{json .Config.Healthcheck.Test}}"),
        r#"["CMD","/healthcheck"]"#
    );
    assert_eq!(inspect("{{.Config.StopSignal}}"), "SIGTERM");
    assert_eq!(
        inspect("{{json .Config.ExposedPorts}}"),
        r#"{"8080/tcp":{}}"#
    );
    let label = |name: &str| {
        inspect(&format!(
            r#"{{{{index .Config.Labels "org.opencontainers.image.{name}"}}}}"#
        ))
    };
    assert!(!label("title").is_empty());
    assert_eq!(label("version"), env!("CARGO_PKG_VERSION"));
    for program in ["server", "healthcheck"] {
        let entrypoint = format!("--entrypoint=/{program}");
        let said = docker(&["run", "--rm", &entrypoint, &image(), "--version"]);
        assert_eq!(said, format!("{program} {}", label("version")));
    }
    assert_eq!(label("licenses"), "MIT OR Apache-2.0");
    assert!(!label("description").is_empty());
}

#[test]
#[ignore = "needs Docker and the image"]
fn a_confined_container_becomes_healthy_answers_and_stops_clean() {
    let container = Container::run(&CONFINED);
    container.wait_until_healthy();
    for target in ["/livez", "/health"] {
        let mut client = Client::connect(container.address(8080));
        let request = format!("GET {target} HTTP/1.1\r\nHost: test\r\n\r\n");
        assert_eq!(client.request(&request).status, 200, "{target}");
    }
    assert_eq!(container.stop(), "0");
    assert_eq!(container.inspect("{{.State.OOMKilled}}"), "false");
}

#[test]
#[ignore = "needs Docker and the image"]
fn the_probe_follows_the_servers_port() {
    let container = Container::run(&[&["--env=PORT=9000"], &CONFINED[..]].concat());
    container.wait_until_healthy();
    let mut client = Client::connect(container.address(9000));
    assert_eq!(client.request(GET).status, 200);
}

#[test]
#[ignore = "needs Docker and the image"]
fn the_probe_fails_on_an_unhealthy_status() {
    let container = Container::run(&CONFINED);
    container.wait_until_healthy();
    let probe = docker_output(&["exec", &container.0, "/healthcheck", "--status=201"]);
    assert_eq!(probe.status.code(), Some(1));
    let line = String::from_utf8(probe.stderr).expect("text");
    assert!(
        line.contains("status 200") && line.lines().count() == 1,
        "{line}"
    );
}

#[test]
#[ignore = "needs Docker and the image"]
fn every_interface_means_ipv4_alone_where_the_kernel_has_no_ipv6() {
    // What socket(2) says then: EAFNOSUPPORT (97) for AF_INET6 (10).
    let profile = r#"{ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [ {
        "names": ["socket"], "action": "SCMP_ACT_ERRNO", "errnoRet": 97,
        "args": [ { "index": 0, "value": 10, "op": "SCMP_CMP_EQ" } ] } ] }"#;
    let file = env::temp_dir().join(format!("no-ipv6-{}.json", std::process::id()));
    fs::write(&file, profile).expect("a file for the profile");
    let seccomp = format!("--security-opt=seccomp={}", path(&file));
    let container = Container::run(&[&CONFINED[..], &[&seccomp]].concat());
    let _ = fs::remove_file(&file);
    // The probe connects to localhost.
    container.wait_until_healthy();
    assert!(
        container
            .log()
            .starts_with("Starting server on port 8080 (0.0.0.0:8080)\n")
    );
    assert_eq!(
        Client::connect(container.address(8080)).request(GET).status,
        200
    );
}

#[test]
#[ignore = "needs Docker and the image"]
fn a_bad_value_ends_the_container_with_exit_code_2_and_one_line() {
    let container = Container::run(&["--env=PORT=http"]);
    let line = "error: PORT=\"http\": expected a number from 0 to 65535\n";
    assert_eq!(container.exit_code(), "2");
    assert_eq!(container.log(), line);
}

#[test]
#[ignore = "needs Docker and the image"]
fn workers_that_cannot_start_end_the_container_with_exit_code_1_and_one_line() {
    let options = [
        "--pids-limit=16",
        "--env=WORKERS=20",
        "--env=RUST_LOG=error",
    ];
    let container = Container::run(&options);
    let code = container.exit_code();
    let log = container.log();
    assert_eq!(code, "1", "{log}");
    let start = "error: cannot start the workers: ";
    assert!(log.starts_with(start) && log.lines().count() == 1, "{log}");
}

#[test]
#[ignore = "needs Docker and the image"]
fn a_route_that_panics_ends_pid_1_with_139() {
    let example = example("panicking");
    let mount = format!("--volume={}:/panicking:ro", path(&example));
    let container = Container(docker(&[
        "run",
        "--detach",
        &mount,
        "--entrypoint=/panicking",
        &image(),
        "8080",
    ]));
    container.wait_until_healthy();
    docker_output(&["exec", &container.0, "/healthcheck", "/panic"]);
    // Not 134: the kernel keeps SIGABRT from a PID 1 that has no handler for it, and abort(3) ends it by
    // an instruction that faults.
    let code = container.exit_code();
    let log = container.log();
    assert_eq!(code, "139", "{log}");
    assert!(log.contains("has a bug"), "{log}");
}

#[test]
#[ignore = "needs Docker and the image"]
fn a_second_signal_ends_pid_1_at_once_with_its_number() {
    for (signal, code) in [("TERM", "143"), ("INT", "130")] {
        let container = Container::run(&CONFINED);
        container.wait_until_healthy();
        let mut client = Client::connect(container.address(8080));
        client.send("GET / HT");
        docker(&["kill", "--signal=TERM", &container.0]);
        // The listener is closed when the first signal has been taken.
        wait_until("the listener is closed", || {
            let probe = docker_output(&["exec", &container.0, "/healthcheck"]);
            !probe.status.success()
        });
        docker(&["kill", &format!("--signal={signal}"), &container.0]);
        assert_eq!(container.exit_code(), code);
    }
}

#[test]
#[ignore = "needs Docker and the image"]
fn a_flood_of_half_heads_is_survived_in_32_mib() {
    let options = [
        "--memory=32m",
        "--memory-swap=32m",
        "--publish=127.0.0.1::8080",
    ];
    let container = Container::run(&options);
    container.wait_until_healthy();
    let address = container.address(8080);
    // As many as MAX_CONNECTIONS allows by default, and some more that wait behind them.
    let mut flood: Vec<_> = (0..1_100)
        .map(|_| {
            let mut client = Client::connect(address);
            client.send("GET / HTTP/1.1\r\nHost: test\r\n");
            client
        })
        .collect();
    // A connection whose bytes the proxy of the published port delivers late is idle until then, and makes
    // room for another. The others stay until they are told that they are too late.
    let told = |client: &mut Client| {
        client
            .read_to_end()
            .is_ok_and(|answer| answer.starts_with(b"HTTP/1.1 408 "))
    };
    let late = flood
        .iter_mut()
        .filter_map(|client| told(client).then_some(()))
        .count();
    assert!(late >= 500, "{late} of 1,100 were told");
    docker(&["exec", &container.0, "/healthcheck"]);
    assert_eq!(
        container.inspect("{{.State.Status}} {{.State.OOMKilled}}"),
        "running false"
    );
}

/// A copy of the sources, and the image that was built from it; both removed on drop.
struct Change(PathBuf, String);

impl Drop for Change {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
        docker_output(&["image", "rm", &self.1]);
    }
}

#[test]
#[ignore = "needs Docker and the image"]
fn a_change_to_the_sources_is_served_and_compiles_no_dependency() {
    let name = format!("image-change-{}", std::process::id());
    let change = Change(env::temp_dir().join(&name), name);
    copy_sources(&change.0);
    let main = change.0.join("src/main.rs");
    let source = fs::read_to_string(&main).expect("main");
    // Another change each time, or the second run would find it in the build cache.
    fs::write(&main, source.replace("Starting server", &change.1)).expect("a change");
    let allocator = change.0.join("crates/malloc/src/lib.rs");
    let source = fs::read_to_string(&allocator).expect("the allocator");
    fs::write(&allocator, format!("{source}// {}\n", change.1)).expect("a change");
    // Without a value the build argument is taken from the environment, if it is there.
    let arguments = [
        "--progress=plain",
        "--build-arg=RUST_IMAGE",
        "--tag",
        &change.1,
    ];
    let build = docker_output(&[&["build"], &arguments[..], &[path(&change.0)]].concat());
    let log = String::from_utf8(build.stderr).expect("text");
    assert!(build.status.success(), "{log}");
    let mut compiled = log
        .lines()
        .filter_map(|line| line.split_once(" Compiling "));
    for package in [env!("CARGO_PKG_NAME"), "malloc"] {
        assert!(log.contains(&format!(" Compiling {package} ")), "{log}");
    }
    // Cargo names the directory of a package that is no dependency from a registry.
    assert!(
        compiled.all(|(_, package)| package.ends_with("(/build)") || package.contains("(/build/")),
        "{log}"
    );

    let container = Container::run_image(&change.1, &["--publish=127.0.0.1::8080"]);
    container.wait_until_healthy();
    let mut client = Client::connect(container.address(8080));
    assert_eq!(client.request(GET).status, 200);
    assert_eq!(container.stop(), "0");
    let log = container.log();
    assert!(log.contains(&change.1), "{log}");
}

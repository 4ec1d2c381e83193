//! The Compose files: one container, a database beside it, and sources that are served as saved.
//!
//! Needs Docker Engine 25 or newer with Compose 2.25 or newer: `cargo test --test compose --
//! --ignored`. Where `postgres` or `rust` cannot be pulled, `POSTGRES_IMAGE` and `RUST_IMAGE` name
//! what stands in for them.

mod common;

use std::env;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use common::docker::{copy_sources, docker, success};
use common::{Client, GET};

/// How long a first build of everything may take.
const BUILD: Duration = Duration::from_secs(300);

/// From the save of a file to its answer. Seen: 2 s.
const SERVED: Duration = Duration::from_secs(30);

const PLAIN: [&str; 0] = [];
const DATABASE: [&str; 2] = ["--profile", "database"];
const DEVELOPMENT: [&str; 4] = ["--file", "compose.yaml", "--file", "compose.dev.yaml"];

/// A Compose project on a copy of the sources, with images of its own; all of it removed on drop.
struct Project {
    name: String,
    directory: PathBuf,
    options: Vec<&'static str>,
}

impl Project {
    fn new(test: &str, options: &[&'static str]) -> Self {
        let name = format!("compose-{test}-{}", std::process::id());
        let directory = env::temp_dir().join(&name);
        copy_sources(&directory);
        Self {
            name,
            directory,
            options: options.to_vec(),
        }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("docker");
        command
            .arg("compose")
            .args(&self.options)
            .args(arguments)
            .current_dir(&self.directory)
            .env("COMPOSE_PROJECT_NAME", &self.name)
            .env("IMAGE", &self.name)
            .env("PUBLISH", "127.0.0.1:0");
        command
    }

    fn compose(&self, arguments: &[&str]) -> String {
        success(self.command(arguments))
    }

    /// The services that have a container, in any state.
    fn services(&self) -> Vec<String> {
        let list = self.compose(&["ps", "--all", "--services"]);
        let mut services: Vec<_> = list.lines().map(str::to_owned).collect();
        services.sort();
        services
    }

    fn inspect(&self, service: &str, format: &str) -> String {
        let container = self.compose(&["ps", "--all", "--quiet", service]);
        docker(&["inspect", "--format", format, &container])
    }

    fn address(&self) -> Option<SocketAddr> {
        let output = self.command(&["port", "server", "8080"]).output();
        let stdout = output.expect("docker is on PATH").stdout;
        String::from_utf8(stdout).expect("text").trim().parse().ok()
    }

    /// Waits until the server has logged `line` and answers.
    fn wait_for(&self, line: &str, patience: Duration) {
        let deadline = Instant::now() + patience;
        loop {
            // It may fail while one container takes the place of another.
            let logs = self
                .command(&["logs", "--no-log-prefix", "server"])
                .output();
            let logs =
                String::from_utf8_lossy(&logs.expect("docker is on PATH").stdout).into_owned();
            if logs.contains(line) {
                break;
            }
            assert!(Instant::now() < deadline, "no {line:?}: {logs}");
            thread::sleep(Duration::from_millis(50));
        }
        let address = self.address().expect("a port");
        assert_eq!(Client::connect(address).request(GET).status, 200);
    }

    fn edit(&self, file: &str, from: &str, to: &str) {
        let path = self.directory.join(file);
        let text = fs::read_to_string(&path).expect("the file is there");
        assert!(text.contains(from), "{file} has no {from:?}");
        fs::write(path, text.replace(from, to)).expect("the file is writable");
    }

    /// Takes it down and checks that it is gone.
    fn down(&self) {
        self.compose(&["down", "--volumes"]);
        for objects in ["container", "network", "volume"] {
            let filter = format!("label=com.docker.compose.project={}", self.name);
            let mut list = vec![objects, "ls", "--quiet", "--filter", &filter];
            if objects == "container" {
                list.push("--all");
            }
            assert_eq!(docker(&list), "", "{objects}s are left");
        }
    }
}

impl Drop for Project {
    fn drop(&mut self) {
        let _ = self.command(&["down", "--volumes"]).output();
        let label = format!("label=com.docker.compose.project={}", self.name);
        let _ = Command::new("docker")
            .args(["image", "prune", "--all", "--force", "--filter", &label])
            .output();
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// `up --watch`, as it runs in somebody's terminal; interrupted on drop, and killed if that does not end it.
struct Watch {
    child: Child,
    log: PathBuf,
}

impl Watch {
    fn start(project: &Project) -> Self {
        let log = project.directory.join("watch.log");
        let file = File::create(&log).expect("a log");
        let child = project
            .command(&["up", "--watch"])
            .stdin(Stdio::null())
            .stderr(file.try_clone().expect("the log again"))
            .stdout(file)
            .spawn()
            .expect("docker is on PATH");
        Self { child, log }
    }

    /// Waits until the terminal shows `part`.
    fn wait_for(&self, part: &str) {
        let deadline = Instant::now() + SERVED;
        loop {
            let log = fs::read_to_string(&self.log).expect("text");
            if log.contains(part) {
                return;
            }
            assert!(Instant::now() < deadline, "no {part:?}: {log}");
            thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = Command::new("kill")
            .args(["-INT", &self.child.id().to_string()])
            .status();
        let deadline = Instant::now() + SERVED;
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(50));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
#[ignore = "needs Docker"]
fn every_combination_of_files_and_profiles_is_clean() {
    let project = Project::new("config", &PLAIN);
    for files in [&PLAIN[..], &DEVELOPMENT] {
        for profile in [&PLAIN[..], &DATABASE] {
            let arguments = [files, profile, &["config", "--quiet"]].concat();
            let Output {
                status,
                stdout,
                stderr,
            } = project
                .command(&arguments)
                .env_remove("IMAGE")
                .env_remove("POSTGRES_IMAGE")
                .env_remove("PUBLISH")
                .env_remove("RUST_IMAGE")
                .output()
                .expect("docker is on PATH");
            let said = String::from_utf8([stdout, stderr].concat()).expect("text");
            assert!(
                status.success() && said.is_empty(),
                "{arguments:?}: {status}, {said}"
            );
        }
    }
}

#[test]
#[ignore = "needs Docker"]
fn up_is_one_confined_container_that_is_healthy_and_down_leaves_nothing() {
    let project = Project::new("plain", &PLAIN);
    project.compose(&["up", "--wait"]);
    assert_eq!(project.services(), ["server"]);
    assert_eq!(
        project.inspect("server", "{{.State.Health.Status}}"),
        "healthy"
    );
    let response = Client::connect(project.address().expect("a port"))
        .request("GET /health HTTP/1.1\r\nHost: test\r\n\r\n");
    assert_eq!(response.status, 200);

    let host =
        |field: &str| project.inspect("server", &format!("{{{{json .HostConfig.{field}}}}}"));
    assert_eq!(host("Memory"), (32 << 20).to_string());
    assert_eq!(host("NanoCpus"), "1000000000");
    assert_eq!(host("PidsLimit"), "16");
    assert_eq!(host("ReadonlyRootfs"), "true");
    assert_eq!(host("CapDrop"), r#"["ALL"]"#);
    assert_eq!(host("SecurityOpt"), r#"["no-new-privileges:true"]"#);
    // The part that the file does not name is the image's.
    assert_eq!(
        project.inspect("server", "{{json .Config.Healthcheck.Test}}"),
        r#"["CMD","/healthcheck"]"#
    );

    project.compose(&["stop"]);
    assert_eq!(project.inspect("server", "{{.State.ExitCode}}"), "0");
    project.down();
}

#[test]
#[ignore = "needs Docker"]
fn the_server_starts_when_the_database_is_healthy_and_its_url_is_right() {
    let project = Project::new("database", &DATABASE);
    project.compose(&["up", "--wait"]);
    assert_eq!(project.services(), ["db", "server"]);
    let healthy = project.inspect(
        "db",
        "{{range .State.Health.Log}}{{if eq .ExitCode 0}}{{.End.UnixNano}} {{end}}{{end}}",
    );
    let started = project.inspect("server", "{{.State.StartedAt}}");
    let mut date = Command::new("date");
    date.args(["--date", &started, "+%s%N"]);
    let started: u64 = success(date).parse().expect("nanoseconds");
    let first: &str = healthy.split(' ').next().expect("a success");
    assert!(first.parse::<u64>().expect("nanoseconds") < started);

    let environment = project.inspect("server", "{{range .Config.Env}}{{println .}}{{end}}");
    let url = environment
        .lines()
        .find_map(|line| line.strip_prefix("DATABASE_URL="))
        .expect("a URL");
    let query =
        |sql: &str| project.compose(&["exec", "-T", "db", "psql", url, "-qtA", "--command", sql]);
    query("create table kept (word text)");
    query("insert into kept values ('still here')");
    project.compose(&["down"]);
    project.compose(&["up", "--wait"]);
    assert_eq!(query("select word from kept"), "still here");
    project.down();
}

#[test]
#[ignore = "needs Docker"]
fn a_saved_change_is_served_and_a_mistake_waits_for_its_correction() {
    const FIRST: &str = "Starting server";
    const SECOND: &str = "Starting changed server";
    const THIRD: &str = "Starting corrected server";
    let main = "src/main.rs";
    let project = Project::new("development", &DEVELOPMENT);

    let watch = Watch::start(&project);
    project.wait_for(FIRST, BUILD);
    project.edit(main, FIRST, SECOND);
    let saved = Instant::now();
    project.wait_for(SECOND, SERVED);
    println!("served {:.1?} after it was saved", saved.elapsed());
    project.edit(main, "fn run(", "mistake fn run(");
    watch.wait_for("could not compile");
    project.edit(main, "mistake fn run(", "fn run(");
    project.edit(main, SECOND, THIRD);
    project.wait_for(THIRD, SERVED);
    drop(watch);

    // The build cache gives this file the time of change that it had in the first build.
    project.edit(main, THIRD, FIRST);
    let watch = Watch::start(&project);
    project.wait_for(FIRST, SERVED);
    drop(watch);
    project.down();
}

//! The benchmark itself, run beside the C floor, which needs nothing but the C compiler that Rust
//! links with.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

const LIMIT: Duration = Duration::from_secs(30);

#[test]
#[ignore = "runs a benchmark, which wants a machine that does nothing else"]
fn every_part_that_needs_no_engine_gives_figures() {
    let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join("smoke");
    let mut bench = bench(&[
        "startup",
        "throughput",
        "latency",
        "memory",
        "shutdown",
        "probe",
    ]);
    bench.args([
        "--rounds",
        "1",
        "--seconds",
        "1",
        "--rate",
        "100",
        "--connections",
        "2",
    ]);
    bench.arg("--out").arg(&out);
    let output = bench.output().unwrap();
    let (stdout, stderr) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{stdout}{stderr}");

    let figures = [
        ("startup", "first 200"),
        ("startup", "first 200, by log line"),
        ("startup", "page faults"),
        ("throughput", "CPU/req, 2"),
        ("latency", "p99"),
        ("memory", "PSS idle"),
        ("shutdown", "1000 keep-alive connections"),
        ("probe", "exec to exit"),
    ];
    for (part, name) in figures {
        let json = fs::read_to_string(out.join(part).with_extension("json")).unwrap();
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        let metric = json["metrics"]
            .as_array()
            .unwrap()
            .iter()
            .find(|metric| metric["name"] == name);
        let target = if part == "probe" {
            "c-connect"
        } else {
            "c-epoll"
        };
        let median = &metric.unwrap()["targets"][target]["summary"]["median"];
        assert!(
            median.as_f64().unwrap() > 0.0,
            "{part}, {name}: {json:#}\n{stdout}"
        );
    }
    assert!(
        fs::read_to_string(out.join("startup.svg"))
            .unwrap()
            .contains("c-epoll")
    );
}

#[test]
fn killed_benchmark_leaves_no_server_behind() {
    let child = bench(&["startup", "--rounds", "100000"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut child = KillOnDrop(child);
    let directory =
        Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("target/run-{}", child.0.id()));
    wait_until("a server runs", || !running_from(&directory).is_empty());
    child.0.kill().unwrap();
    child.0.wait().unwrap();
    wait_until("every server is gone", || {
        running_from(&directory).is_empty()
    });
    // The next run would do it.
    let _ = fs::remove_dir_all(directory);
}

fn bench(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bench"));
    command.args(args).args(["--only", "--peers", "c-epoll"]);
    command
}

struct KillOnDrop(Child);

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The processes whose program lies in `directory`.
fn running_from(directory: &Path) -> Vec<PathBuf> {
    let programs = fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| fs::read_link(entry.ok()?.path().join("exe")).ok());
    programs
        .filter(|program| program.starts_with(directory))
        .collect()
}

fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < LIMIT, "not within {LIMIT:?}: {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

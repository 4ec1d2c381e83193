//! The benchmark as a program, and the server that it measures in tests.
#![allow(dead_code, reason = "each test uses some of it")]

use std::{
    env,
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::{Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

pub const LIMIT: Duration = Duration::from_secs(60);

pub fn bench(args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
    // By way of env(1): a job in the background of a shell without job control ignores SIGINT, and so do its children.
    let mut command = Command::new("env");
    command
        .args(["--default-signal=INT", env!("CARGO_BIN_EXE_startup-bench")])
        .args(args);
    command
}

/// The command of a server that is slow, or wrong, as the options say.
pub fn server(name: &str, options: &str) -> String {
    let tests = env::current_exe().unwrap();
    let examples = tests.ancestors().nth(2).unwrap().join("examples");
    format!(
        "{name}={} --port {{port}} {options}",
        examples.join("slow_server").display()
    )
}

/// A directory of its own for each test.
pub fn directory(name: &str) -> PathBuf {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = fs::remove_dir_all(&directory);
    fs::create_dir_all(&directory).unwrap();
    directory
}

pub struct Run {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl From<Output> for Run {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

/// Tests run side by side, measurements had better not.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// `measure` of some servers, and what it wrote to --json.
pub fn measure(test: &str, servers: &[String], args: &[&str]) -> (Run, Value) {
    let json = directory(test).join("out.json");
    let mut command = bench(["measure"]);
    for server in servers {
        command.args(["--server", server]);
    }
    command.args(args).arg("--json").arg(&json);
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let run = Run::from(command.output().unwrap());
    let text = fs::read_to_string(json).unwrap_or_default();
    (run, serde_json::from_str(&text).unwrap_or_default())
}

/// The samples of a metric, all of which there must be.
pub fn samples(json: &Value, metric: &str, name: &str) -> Vec<f64> {
    let metrics = json["tables"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|table| table.as_array().unwrap());
    let metric = metrics
        .into_iter()
        .find(|found| found["name"] == metric)
        .unwrap();
    let samples = metric["samples"][name]
        .as_array()
        .unwrap_or_else(|| panic!("{name}: {json:#}"));
    samples
        .iter()
        .map(|sample| sample.as_f64().unwrap())
        .collect()
}

pub fn least(samples: &[f64]) -> f64 {
    samples.iter().copied().fold(f64::INFINITY, f64::min)
}

/// The processes that have `tag` on their command line.
pub fn tagged(tag: &str) -> Vec<u32> {
    let pids = fs::read_dir("/proc").unwrap();
    let pids = pids.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    let has_tag = |pid: &u32| {
        let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.split('\0').any(|word| word == tag)
    };
    pids.filter(has_tag).collect()
}

pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < LIMIT, "not within {LIMIT:?}: {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

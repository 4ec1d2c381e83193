//! The `docker` command, and what it builds from.

use std::fs;
use std::path::Path;
use std::process::Command;

/// What a build reads, and the Compose files.
const SOURCES: [&str; 11] = [
    ".cargo",
    ".dockerignore",
    "Cargo.lock",
    "Cargo.toml",
    "Dockerfile",
    "build.rs",
    "compose.dev.yaml",
    "compose.yaml",
    "crates",
    "healthcheck",
    "src",
];

/// Makes `directory` with a copy of the sources in it, to be changed by a test.
pub fn copy_sources(directory: &Path) {
    fs::create_dir_all(directory).expect("a directory for the sources");
    let mut copy = Command::new("cp");
    copy.arg("--recursive")
        .args(SOURCES)
        .arg(directory)
        .current_dir(env!("CARGO_MANIFEST_DIR"));
    success(copy);
}

/// Runs `docker` and gives back what it printed.
pub fn docker(arguments: &[&str]) -> String {
    let mut command = Command::new("docker");
    command.args(arguments);
    success(command)
}

/// Runs a command that has to succeed and gives back what it printed.
pub fn success(mut command: Command) -> String {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {output:?}");
    String::from_utf8(output.stdout)
        .expect("text")
        .trim_end()
        .to_owned()
}

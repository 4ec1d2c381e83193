//! The `docker` command, and what it builds from.

use std::fs;
use std::path::Path;
use std::process::Command;

/// The files that Docker and Compose themselves read, which `.dockerignore` does not list.
const FILES: [&str; 4] = [
    ".dockerignore",
    "Dockerfile",
    "compose.dev.yaml",
    "compose.yaml",
];

/// Makes `directory` with a copy of the sources in it, to be changed by a test.
pub fn copy_sources(directory: &Path) {
    fs::create_dir_all(directory).expect("a directory for the sources");
    let ignored = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(".dockerignore"))
        .expect("the list of what a build sees");
    let sources = ignored.lines().filter_map(|line| line.strip_prefix('!'));
    let mut copy = Command::new("cp");
    copy.arg("--recursive")
        .args(FILES)
        .args(sources)
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

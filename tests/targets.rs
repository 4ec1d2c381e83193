//! The Dockerfile's other targets, each an image with the target's name as its tag.
//!
//! `IMAGE` names the repository of the tags (`scratch-server` unless set): `cargo test --test
//! targets -- --ignored`. What these images share with the default one, tests/image.rs tests.

mod common;

use std::env;
use std::process::Command;

use common::docker::docker;

fn image(target: &str) -> String {
    let repository = env::var("IMAGE").unwrap_or_else(|_| "scratch-server".into());
    format!("{repository}:{target}")
}

fn shell(target: &str, script: &str) -> String {
    let image = image(target);
    docker(&["run", "--rm", "--entrypoint=sh", &image, "-c", script])
}

#[test]
#[ignore = "needs Docker and the image"]
fn healthcheck_is_one_layer_that_runs() {
    let image = image("healthcheck");
    let layers = docker(&[
        "image",
        "inspect",
        "--format={{len .RootFS.Layers}} {{.Size}}",
        &image,
    ]);
    let (layers, size) = layers.split_once(' ').expect("two numbers");
    let probe = docker(&[
        "run",
        "--rm",
        "--entrypoint=stat",
        &self::image("debug"),
        "--format=%s",
        "/healthcheck",
    ]);
    // The file and nothing else.
    assert_eq!((layers, size), ("1", probe.as_str()));
    let version = docker(&["run", "--rm", &image, "--version"]);
    assert_eq!(version, concat!("healthcheck ", env!("CARGO_PKG_VERSION")));
}

#[test]
#[ignore = "needs Docker and the image"]
fn healthcheck_is_built_without_the_server() {
    // Without a value the build argument is taken from the environment, if it is there.
    let build = Command::new("docker")
        .args(["build", "--progress=plain", "--target=healthcheck"])
        .args(["--build-arg=RUST_IMAGE", env!("CARGO_MANIFEST_DIR")])
        .output()
        .expect("docker is on PATH");
    let log = String::from_utf8(build.stderr).expect("text");
    assert!(build.status.success(), "{log}");
    // BuildKit names the stage of each step, also of those that it has in its cache.
    assert!(log.contains(" [build-healthcheck "), "{log}");
    assert!(!log.contains(" [build "), "{log}");
}

#[test]
#[ignore = "needs Docker and the image"]
fn debian_and_debug_have_a_user_with_a_name_and_certificates() {
    for target in ["debian", "debug"] {
        assert_eq!(
            shell(
                target,
                "id -un && test -s /etc/ssl/certs/ca-certificates.crt"
            ),
            "nonroot",
            "{target}"
        );
    }
}

#[test]
#[ignore = "needs Docker and the image"]
fn debug_has_curl() {
    let body = shell(
        "debug",
        "/server 2>/dev/null & curl -sf --retry 30 --retry-delay 1 --retry-connrefused localhost:8080/livez",
    );
    assert_eq!(body, "alive");
}

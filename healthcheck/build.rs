//! Makes the probe small where it ships: on musl, in the release profile.

use std::env;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=src/link.ld");
    println!("cargo:rustc-check-cfg=cfg(bare)");
    let is = |variable: &str, value: &str| env::var(variable).is_ok_and(|found| found == value);
    if is("CARGO_CFG_TARGET_ENV", "musl") && is("PROFILE", "release") {
        println!("cargo:rustc-cfg=bare");
        let package = env::var("CARGO_MANIFEST_DIR").expect("cargo sets it");
        link(&["-T", &format!("{package}/src/link.ld")]);
        // For x86_64, rustc links static programs position-independent. For others it does not know how, which
        // is its start-up code alone: the probe has its own (src/start.rs).
        link(&["-pie", "--no-dynamic-linker", "-z", "text"]);
    }
}

/// Adds arguments for the linker itself (rust-lld).
fn link(arguments: &[&str]) {
    for argument in arguments {
        println!("cargo:rustc-link-arg-bins={argument}");
    }
}

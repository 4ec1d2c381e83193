//! Link flags for the musl binary, the one that goes into the image. Bytes are those of `server`.

use std::path::PathBuf;
use std::{env, fs};

/// Nothing unwinds: a panic aborts, and the binary has no symbols that a backtrace could show.
const NO_UNWIND_TABLES: &str = "\
SECTIONS { /DISCARD/ : { *(.eh_frame .eh_frame.* .gcc_except_table .gcc_except_table.*) } }
INSERT AFTER .rodata;
";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if env::var("CARGO_CFG_TARGET_ENV").is_ok_and(|environment| environment == "musl") {
        let script = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"))
            .join("no-unwind-tables.ld");
        fs::write(&script, NO_UNWIND_TABLES).expect("OUT_DIR is writable");
        for flag in [
            // 24,500 bytes: relocations of a position-independent executable, packed.
            "-Wl,-z,pack-relative-relocs".to_owned(),
            // 78,000 bytes: tables for unwinding, and the index to them.
            format!("-Wl,-T,{}", script.display()),
            "-Wl,--no-eh-frame-hdr".to_owned(),
            // 4,100 bytes, and two mappings of four: code and constants share pages.
            "-Wl,-z,noseparate-code".to_owned(),
            "-Wl,--build-id=none".to_owned(),
        ] {
            println!("cargo::rustc-link-arg-bins={flag}");
        }
    }
}

//! The parts about the product, run beside the C floor, which needs nothing but the C compiler that Rust links with.

mod common;

use std::fs;

use common::{Run, bench, directory};
use serde_json::Value;

#[test]
#[ignore = "runs a benchmark, which wants a machine that does nothing else"]
fn every_part_that_needs_no_engine_gives_figures() {
    let figures = [
        ("startup", "first 200", "c-epoll"),
        ("startup", "listening", "c-epoll"),
        ("startup", "page faults", "c-epoll"),
        ("throughput", "CPU/req, 2", "c-epoll"),
        ("latency", "p99", "c-epoll"),
        ("memory", "PSS idle", "c-epoll"),
        ("memory", "PSS after a burst", "c-epoll"),
        ("shutdown", "1000 keep-alive connections", "c-epoll"),
        ("probe", "exec to exit", "c-connect"),
    ];
    let out = directory("parts");
    let parts = [
        "startup",
        "throughput",
        "latency",
        "memory",
        "shutdown",
        "probe",
    ];
    let options = [
        "--only",
        "--peers",
        "c-epoll",
        "--rounds",
        "1",
        "--rate",
        "100",
        "--connections",
        "2",
    ];
    let output = bench(parts)
        .args(options)
        .arg("--out")
        .arg(&out)
        .output()
        .unwrap();
    let run = Run::from(output);
    assert_eq!(run.code, Some(0), "{}{}", run.stdout, run.stderr);
    for (part, metric, name) in figures {
        let json = fs::read_to_string(out.join(part).with_extension("json")).unwrap();
        let json: Value = serde_json::from_str(&json).unwrap();
        let median = &json["summaries"][metric][name]["summary"]["median"];
        assert!(
            median.as_f64().is_some_and(|median| median > 0.0),
            "{part}, {metric}: {json:#}\n{}",
            run.stdout
        );
    }
    assert!(
        fs::read_to_string(out.join("startup.svg"))
            .unwrap()
            .contains("c-epoll")
    );
}

#[test]
fn peer_that_does_not_exist_is_a_wrong_command_line() {
    let run = Run::from(
        bench(["startup", "--only", "--peers", "no-such-peer"])
            .output()
            .unwrap(),
    );
    assert_eq!(run.code, Some(2), "{}{}", run.stdout, run.stderr);
    assert!(
        run.stderr
            .contains("error: no peer \"no-such-peer\": there are c-epoll, "),
        "{}",
        run.stderr
    );
}

//! `measure --server` from outside, with servers that are slow or wrong by a known amount.

mod common;

use std::{fs, net::TcpListener, process::Stdio};

use common::{Run, bench, directory, least, measure, samples, server, tagged, wait_until};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::json;

#[test]
fn sleep_before_listening_is_in_the_phase_before_it() {
    let servers = [
        server("fast", ""),
        server("slow", "--sleep-before-listen 50"),
    ];
    let (run, json) = measure("before-listening", &servers, &["--runs", "6"]);
    assert_eq!(run.code, Some(0), "{}{}", run.stdout, run.stderr);
    let of = |metric, name| samples(&json, metric, name);
    assert!(
        of("listening", "slow").iter().all(|&time| time >= 50.0),
        "{json:#}"
    );
    // Of six, one at least finds an idle processor.
    assert!(
        least(&of("listening", "fast")) < 50.0 && least(&of("first 200", "fast")) < 50.0,
        "{json:#}"
    );
    assert!(least(&of("listening to 200", "slow")) < 50.0, "{json:#}");
}

#[test]
fn sleep_after_accepting_is_in_the_phase_after_it() {
    let servers = [server("slow", "--sleep-before-answer 50")];
    let (run, json) = measure("after-accepting", &servers, &["--runs", "6"]);
    assert_eq!(run.code, Some(0), "{}{}", run.stdout, run.stderr);
    assert!(
        least(&samples(&json, "listening", "slow")) < 50.0,
        "{json:#}"
    );
    assert!(
        least(&samples(&json, "listening to 200", "slow")) >= 50.0,
        "{json:#}"
    );
}

#[test]
fn only_the_wanted_status_counts_as_the_answer() {
    let servers = [
        server("late", "--unavailable 3"),
        server("created", "--status 201"),
    ];
    let (run, json) = measure(
        "unavailable",
        &servers,
        &["--runs", "3", "--status", "200,201"],
    );
    assert_eq!(run.code, Some(0), "{}{}", run.stdout, run.stderr);
    // After each answer of another kind the client pauses for a millisecond.
    assert!(
        least(&samples(&json, "listening to 200", "late")) >= 3.0,
        "{json:#}"
    );
    assert_eq!(samples(&json, "first 200", "created").len(), 3);
}

#[test]
fn all_processes_are_counted_those_that_have_ended_too() {
    let servers = [
        server("idle", ""),
        server("busy", "--spin=50 --touch 16"),
        server("daemon", "--spin=50 --touch 16 --daemon --tag counted"),
    ];
    let (run, json) = measure("counted", &servers, &["--runs", "2"]);
    assert_eq!(run.code, Some(0), "{}{}", run.stdout, run.stderr);
    for name in ["busy", "daemon"] {
        assert!(least(&samples(&json, "CPU time", name)) >= 49.0, "{json:#}");
        assert!(
            least(&samples(&json, "peak memory", name)) >= 16.0 * 1024.0,
            "{json:#}"
        );
    }
    assert!(
        least(&samples(&json, "CPU time", "idle")) < 49.0,
        "{json:#}"
    );
    assert!(
        least(&samples(&json, "page faults", "idle")) > 0.0,
        "{json:#}"
    );
    assert!(tagged("counted").is_empty());
}

#[test]
fn port_and_environment_reach_the_server_and_the_url() {
    let command = server("mine", "").replace(" --port {port}", " --tag={port} --status $STATUS");
    assert!(command.contains("$STATUS"), "there is no shell");
    let command = command.replace("$STATUS", "204");
    // Without --port the server takes that of PORT, which --env does not hide.
    let args = [
        "--runs",
        "1",
        "--env",
        "OTHER={port}",
        "--url",
        "http://localhost:{port}/a?b=c",
        "--status",
        "204",
    ];
    let (run, _) = measure("environment", &[command], &args);
    assert_eq!(run.code, Some(0), "{}{}", run.stdout, run.stderr);
}

#[test]
fn each_error_is_one_line_and_the_others_are_still_measured() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = format!(
        "taken=http://127.0.0.1:{}/",
        taken.local_addr().unwrap().port()
    );
    let directory = directory("errors-files");
    let text = directory.join("text");
    fs::write(&text, "not a program").unwrap();
    let servers = [
        server("good", ""),
        "absent=no-such-command --port {port}".to_owned(),
        format!("forbidden={}", text.display()),
        server("exits", "--exit 3"),
        server("deaf", "--sleep-before-listen 60000"),
        server("mute", "--silent"),
        server("broken", "--status 500"),
        server("taken", ""),
    ];
    let args = [
        "--runs",
        "1",
        "--timeout",
        "1s",
        "--url",
        "http://127.0.0.1:{port}/",
        "--url",
        &taken,
    ];
    let (run, json) = measure("errors", &servers, &args);
    assert_eq!(run.code, Some(4), "{}{}", run.stdout, run.stderr);
    assert_eq!(samples(&json, "first 200", "good").len(), 1);
    let expected = [
        (
            "absent",
            "no-such-command is not installed: no such command",
        ),
        ("forbidden", "is not executable: permission denied"),
        (
            "exits",
            "exited with code 3 before it answered: the second | the third | no configuration",
        ),
        ("deaf", "did not listen at port"),
        (
            "mute",
            "accepted a connection and did not answer, until the time limit of 1s",
        ),
        ("broken", "answered 500, until the time limit of 1s"),
        ("taken", "is taken: something listens on it already"),
    ];
    for (name, error) in expected {
        let lines: Vec<&str> = run
            .stdout
            .lines()
            .filter(|line| line.starts_with(&format!("left out: {name}: ")))
            .collect();
        assert!(
            lines.len() == 1 && lines[0].contains(error),
            "{name}: {lines:?}\n{}",
            run.stdout
        );
    }
    assert_eq!(
        run.stdout
            .lines()
            .filter(|line| line.starts_with("left out: "))
            .count(),
        expected.len()
    );
}

#[test]
fn error_tells_whether_a_server_that_never_listens_had_a_processor() {
    let servers = [
        server("asleep", "--sleep-before-listen 60000"),
        server("busy", "--spin 60000"),
    ];
    let args = ["--runs", "1", "--warmup", "0", "--timeout", "3s"];
    let (run, json) = measure("processor", &servers, &args);
    assert_eq!(run.code, Some(3), "{}{}", run.stdout, run.stderr);
    let seconds = |name: &str| -> Vec<f64> {
        let error = json["left_out"][name].as_str().unwrap();
        let (_, times) = error.split_once("; it ran for ").expect(error);
        times.split(' ').flat_map(str::parse).collect()
    };
    // On a busy machine it may have waited for most of it.
    let (asleep, busy) = (seconds("asleep"), seconds("busy"));
    assert!(
        asleep.len() == 2 && asleep.iter().sum::<f64>() < 1.0,
        "{asleep:?}"
    );
    assert!(busy.iter().sum::<f64>() > 1.0, "{busy:?}");
}

#[test]
fn nothing_measured_is_3_and_a_wrong_command_line_is_2() {
    let (run, _) = measure("nothing", &["gone=no-such-command".to_owned()], &[]);
    assert_eq!(run.code, Some(3), "{}", run.stderr);
    let good = server("good", "");
    let wrong: [&[&str]; 8] = [
        &["measure"],
        &["measure", "--server", &good, "--image", "a"],
        &["measure", "--server", &good, "--server", &good],
        &["measure", "--server", &good, "--url", "http://example.org/"],
        &[
            "measure",
            "--server",
            &good,
            "--url",
            "other=http://127.0.0.1/",
        ],
        &[
            "measure",
            "--server",
            &good,
            "--baseline",
            "no-such-file",
            "--fail-above",
            "1.1",
        ],
        &[
            "measure",
            "--server",
            &good,
            "--json",
            "/no/such/directory/file",
        ],
        &[
            "measure",
            "--server",
            &good,
            "--fail-above",
            "1.1",
            "--runs",
            "5",
        ],
    ];
    for args in wrong {
        let run = Run::from(bench(args).output().unwrap());
        assert_eq!(run.code, Some(2), "{args:?}: {}{}", run.stdout, run.stderr);
        assert!(
            run.stderr.starts_with("error: "),
            "{args:?}: {}",
            run.stderr
        );
    }
}

#[test]
fn gate_is_closed_by_a_slower_server_alone() {
    let (fast, slow) = (
        server("fast", ""),
        server("slow", "--sleep-before-listen 500"),
    );
    let args = ["--runs", "6", "--fail-above", "1.10"];
    let (run, _) = measure("gate-closed", &[fast.clone(), slow.clone()], &args);
    assert_eq!(run.code, Some(1), "{}{}", run.stdout, run.stderr);
    assert_eq!(
        run.stderr
            .lines()
            .filter(|line| line.starts_with("error: slow: first 200 is "))
            .count(),
        1,
        "{}",
        run.stderr
    );
    let (run, _) = measure("gate-open", &[slow, fast], &args);
    assert_eq!(run.code, Some(0), "{}{}", run.stdout, run.stderr);
}

#[test]
fn gate_compares_with_a_baseline() {
    let baseline = |time: f64| {
        let samples = json!({ "mine": [time, time, time, time, time, time] });
        let metric = json!({ "name": "first 200", "unit": "ms", "has_ratio": true, "names": ["mine"], "samples": samples });
        let nothing = json!({});
        json!({ "part": "startup", "title": "", "tables": [[metric]], "control": null, "sources": nothing, "notes": [], "left_out": nothing })
    };
    let file = directory("baseline").join("baseline.json");
    let file_name = file.display().to_string();
    let args = [
        "--runs",
        "6",
        "--baseline",
        &file_name,
        "--fail-above",
        "1.10",
    ];
    for (time, code) in [(1e6, 0), (1e-6, 1)] {
        fs::write(&file, baseline(time).to_string()).unwrap();
        let (run, _) = measure("gate-baseline", &[server("mine", "")], &args);
        assert_eq!(run.code, Some(code), "{}{}", run.stdout, run.stderr);
        // One that the baseline has and this run has not cannot be judged.
        let (run, _) = measure("gate-baseline", &[server("other", "")], &args);
        assert_eq!(run.code, Some(4), "{}{}", run.stdout, run.stderr);
    }
}

#[test]
fn table_and_plot_are_written_and_each_sample_is_in_the_json() {
    let directory = directory("files");
    let (markdown, svg) = (directory.join("a.md"), directory.join("a.svg"));
    let args = [
        "--runs",
        "2",
        "--markdown",
        markdown.to_str().unwrap(),
        "--svg",
        svg.to_str().unwrap(),
    ];
    let (run, json) = measure("files", &[server("one", ""), server("two", "")], &args);
    assert_eq!(run.code, Some(0), "{}{}", run.stdout, run.stderr);
    let markdown = fs::read_to_string(markdown).unwrap();
    assert!(
        markdown.contains("| one (A/A) ") && markdown.contains("| two "),
        "{markdown}"
    );
    // Of the first row at least: one that is far slower is cut, and has no dots.
    let dots = fs::read_to_string(svg).unwrap().matches("<circle").count();
    assert!((2..=6).contains(&dots), "{dots}");
    assert_eq!(samples(&json, "first 200", "one (A/A)").len(), 2);
}

#[test]
fn cold_run_drops_the_page_cache_or_says_that_it_may_not() {
    let (run, json) = measure(
        "cold",
        &[server("mine", "")],
        &["--runs", "1", "--warmup", "0", "--cold"],
    );
    assert_eq!(run.code, Some(0), "{}{}", run.stdout, run.stderr);
    let is_cold = json["title"].as_str().unwrap().contains("cold page cache");
    assert_ne!(
        is_cold,
        run.stdout
            .contains("note: the runs are warm: the page cache may not be dropped"),
        "{}",
        run.stdout
    );
}

#[test]
fn nothing_is_left_running_when_the_tool_is_killed() {
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGKILL] {
        let tag = format!("killed-by-{signal}");
        // It has left the session and the process group, and its parent.
        let server = server(
            "daemon",
            &format!("--daemon --ignore-sigterm --sleep-before-answer 60000 --tag {tag}"),
        );
        let mut tool = bench(["measure", "--timeout", "60s", "--server", &server]);
        let mut tool = tool
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let own_child = |pid: &u32| *pid != tool.id();
        let is_daemon = |pid: u32| {
            fs::read_to_string(format!("/proc/{pid}/cmdline"))
                .unwrap_or_default()
                .contains("--leave-session")
        };
        wait_until("the daemon runs", || {
            tagged(&tag).into_iter().any(is_daemon)
        });
        assert!(tagged(&tag).iter().any(own_child));
        kill(Pid::from_raw(tool.id() as i32), signal).unwrap();
        wait_until("the tool ends", || tool.try_wait().unwrap().is_some());
        wait_until("every process is gone", || tagged(&tag).is_empty());
    }
}

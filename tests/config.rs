//! What the binary reads from the environment. The module belongs to the binary and not to the library, so
//! its source is compiled into this test.

#[path = "../src/config.rs"]
#[allow(dead_code)]
mod config;

use std::cell::RefCell;
use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::os::unix::ffi::OsStringExt;
use std::time::Duration;

use scratch_server::Limits;
use scratch_server::log::Level;
use settings::Endpoint;

use config::Config;

/// The number of this process.
const PID: u32 = 42;

fn config(variables: &[(&str, &str)]) -> Result<Config, String> {
    Config::from_lookup(
        |name| {
            let (_, value) = variables.iter().find(|(variable, _)| *variable == name)?;
            Some(value.into())
        },
        PID,
    )
    .map_err(|error| error.to_string())
}

/// Every variable that is read.
fn variables() -> Vec<&'static str> {
    let names = RefCell::new(Vec::new());
    let config = Config::from_lookup(
        |name| {
            names.borrow_mut().push(name);
            None
        },
        PID,
    );
    assert!(config.is_ok());
    names.into_inner()
}

#[test]
fn an_empty_environment_gives_the_defaults() {
    let defaults = Config {
        endpoint: Some(Endpoint::Any { port: 8080 }),
        notify_socket: None,
        socket_mode: None,
        workers: NonZeroUsize::MIN,
        limits: Limits::default(),
        log: Level::Info,
    };
    assert_eq!(config(&[]), Ok(defaults.clone()));
    let empty: Vec<_> = variables().into_iter().map(|name| (name, "")).collect();
    assert_eq!(empty.len(), 15);
    assert_eq!(config(&empty), Ok(defaults));
}

#[test]
fn every_variable_is_read() {
    let config = config(&[
        ("LISTEN", "127.0.0.1:81"),
        ("PORT", "ignored"),
        ("SOCKET_MODE", "0640"),
        ("WORKERS", "3"),
        ("MAX_CONNECTIONS", "1000000"),
        ("HEADER_TIMEOUT", "1"),
        ("IDLE_TIMEOUT", "2m"),
        ("READ_TIMEOUT", "7s"),
        ("WRITE_TIMEOUT", "3ms"),
        ("SHUTDOWN_DELAY", "4s"),
        ("SHUTDOWN_TIMEOUT", "0"),
        ("RUST_LOG", "WARN"),
        ("NOTIFY_SOCKET", "@name"),
    ]);
    let expected = Config {
        endpoint: Some(Endpoint::Ip("127.0.0.1:81".parse().unwrap())),
        notify_socket: Some(b"@name"),
        socket_mode: Some(0o640),
        workers: NonZeroUsize::new(3).unwrap(),
        limits: Limits {
            max_connections: NonZeroUsize::new(1_000_000).unwrap(),
            header_timeout: Duration::from_secs(1),
            idle_timeout: Duration::from_secs(120),
            read_timeout: Duration::from_secs(7),
            write_timeout: Duration::from_millis(3),
            shutdown_delay: Duration::from_secs(4),
            shutdown_timeout: Duration::ZERO,
        },
        log: Level::Warn,
    };
    assert_eq!(config, Ok(expected));
}

#[test]
fn a_socket_for_this_process_goes_before_listen_and_port() {
    let passed = |pid, count| {
        let variables = [("LISTEN_PID", pid), ("LISTEN_FDS", count), ("PORT", "81")];
        config(&variables).map(|config| config.endpoint)
    };
    assert_eq!(passed("42", "1"), Ok(None));
    let own = Ok(Some(Endpoint::Any { port: 81 }));
    for (pid, count) in [("43", "1"), ("43", "2"), ("", "1"), ("x", "1"), ("42", "")] {
        assert_eq!(passed(pid, count), own, "{pid:?} {count:?}");
    }
    let unread = [("LISTEN_PID", "42"), ("LISTEN_FDS", "1"), ("PORT", "http")];
    assert!(config(&unread).is_ok());
    for count in ["0", "2", "x", "01"] {
        let line = format!("LISTEN_FDS={count:?}: expected 1, as the server has one socket");
        assert_eq!(passed("42", count), Err(line));
    }
}

#[test]
fn a_value_that_breaks_its_rule_is_named_with_it() {
    for (variable, value, rule) in [
        (
            "LISTEN",
            "8080",
            "ADDRESS:PORT, :PORT, [IPV6]:PORT or unix:/path",
        ),
        ("PORT", "http", "a number from 0 to 65535"),
        (
            "SOCKET_MODE",
            "66",
            "three octal digits, such as 660 or 0666",
        ),
        (
            "SOCKET_MODE",
            "668",
            "three octal digits, such as 660 or 0666",
        ),
        (
            "SOCKET_MODE",
            "1777",
            "three octal digits, such as 660 or 0666",
        ),
        (
            "SOCKET_MODE",
            "00666",
            "three octal digits, such as 660 or 0666",
        ),
        (
            "SOCKET_MODE",
            "rw-",
            "three octal digits, such as 660 or 0666",
        ),
        ("WORKERS", "0", "a number from 1 to 1000000, or auto"),
        ("WORKERS", "Auto", "a number from 1 to 1000000, or auto"),
        ("MAX_CONNECTIONS", "1000001", "a number from 1 to 1000000"),
        (
            "HEADER_TIMEOUT",
            "0",
            "a duration from 1ms to 24 hours, such as 500ms, 5s or 2m",
        ),
        (
            "IDLE_TIMEOUT",
            "25h",
            "a duration from 1ms to 24 hours, such as 500ms, 5s or 2m",
        ),
        (
            "READ_TIMEOUT",
            "0s",
            "a duration from 1ms to 24 hours, such as 500ms, 5s or 2m",
        ),
        (
            "WRITE_TIMEOUT",
            "0ms",
            "a duration from 1ms to 24 hours, such as 500ms, 5s or 2m",
        ),
        (
            "SHUTDOWN_DELAY",
            "-1",
            "a duration from 0 to 24 hours, such as 500ms, 5s or 2m",
        ),
        (
            "SHUTDOWN_TIMEOUT",
            "x",
            "a duration from 0 to 24 hours, such as 500ms, 5s or 2m",
        ),
        (
            "RUST_LOG",
            "hyper=debug",
            "off, error, warn, info or debug, and no directives",
        ),
    ] {
        let message = format!("{variable}={value:?}: expected {rule}");
        assert_eq!(config(&[(variable, value)]), Err(message));
    }
}

#[test]
fn an_error_stays_one_line_whatever_the_value() {
    assert_eq!(
        config(&[("PORT", "1\n\"2\u{7f}")]),
        Err(r#"PORT="1\n\"2\x7f": expected a number from 0 to 65535"#.to_owned())
    );
    let error = Config::from_lookup(|_| Some(OsString::from_vec(vec![0xff])), PID).unwrap_err();
    assert!(error.to_string().starts_with(r#"LISTEN="\xff""#));
}

#[test]
fn any_value_is_read_or_named_in_one_line() {
    let variables = variables();
    let seed = fastrand::u64(..);
    let mut random = fastrand::Rng::with_seed(seed);
    for _ in 0..20_000 {
        let variable = variables[random.usize(..variables.len())];
        let value: Vec<u8> = (0..random.usize(1..8))
            .map(|_| match random.u8(..4) {
                0 => random.u8(..),
                1 => b"0123456789"[random.usize(..10)],
                _ => b"0:[]./msunixautodebg +-"[random.usize(..23)],
            })
            .collect();
        let set = OsString::from_vec(value.clone());
        let config = Config::from_lookup(|name| (name == variable).then(|| set.clone()), PID);
        match config {
            Ok(config) => {
                let number = str::from_utf8(&value)
                    .ok()
                    .and_then(|value| value.parse().ok());
                if let (Some(Endpoint::Any { port }), "PORT") = (config.endpoint, variable) {
                    assert_eq!(Some(u64::from(port)), number, "seed {seed}: {value:?}");
                }
                if let ("MAX_CONNECTIONS", count) = (variable, config.limits.max_connections) {
                    assert_eq!(Some(count.get() as u64), number, "seed {seed}: {value:?}");
                }
            }
            Err(error) => {
                let line = error.to_string();
                assert!(
                    line.starts_with(&format!("{variable}=\"")),
                    "seed {seed}: {line}"
                );
                assert!(!line.contains(char::is_control), "seed {seed}: {line:?}");
            }
        }
    }
}

//! The environment, read once into typed values.

use std::ffi::OsString;
use std::fmt;
use std::num::NonZeroUsize;
use std::os::unix::ffi::OsStringExt;
use std::thread;
use std::time::Duration;

use settings::{Endpoint, non_empty, parse_duration, parse_number};

use crate::log::Level;

const MAX_COUNT: u32 = 1_000_000;

/// Everything that the environment can set.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Config {
    /// `LISTEN`, or `PORT` on every interface; port 8080 by default.
    pub endpoint: Endpoint<'static>,
    /// `WORKERS`: event-loop threads, 1 by default; `auto` is one per usable CPU.
    pub workers: NonZeroUsize,
    /// What a client may take, and how long.
    pub limits: Limits,
    /// `RUST_LOG`: what goes to stderr, `info` by default.
    pub log: Level,
}

/// What the server allows its clients and itself.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Limits {
    /// `MAX_CONNECTIONS`: open connections, 1,000 by default.
    pub max_connections: NonZeroUsize,
    /// `HEADER_TIMEOUT`: how long a request's head may take, 5 s by default. The first head's time
    /// runs from accept on, a later one's from its first byte.
    pub header_timeout: Duration,
    /// `IDLE_TIMEOUT`: how long a connection may wait between requests, 75 s by default.
    pub idle_timeout: Duration,
    /// `WRITE_TIMEOUT`: how long a peer may take no byte of its answer, 5 s by default.
    pub write_timeout: Duration,
    /// `SHUTDOWN_DELAY`: how long new connections are accepted after the first signal, 0 by default.
    pub shutdown_delay: Duration,
    /// `SHUTDOWN_TIMEOUT`: how long requests in progress may take after that, 8 s by default:
    /// Docker kills after 10.
    pub shutdown_timeout: Duration,
}

/// A variable that does not parse, shown as `PORT="http": expected a number from 0 to 65535`.
#[derive(Debug, Eq, PartialEq)]
pub struct ConfigError {
    variable: &'static str,
    value: String,
    rule: &'static str,
}

impl Config {
    /// Reads every variable through `lookup`; one that is empty counts as unset.
    ///
    /// # Errors
    ///
    /// The first variable whose value breaks its rule.
    pub fn from_lookup(
        lookup: impl Fn(&'static str) -> Option<OsString>,
    ) -> Result<Self, ConfigError> {
        // Configuration lives as long as the process, so its bytes may as well be static.
        let lookup = |variable| -> Option<&'static [u8]> {
            non_empty(lookup(variable).map(|value| &*value.into_vec().leak()))
        };
        let variables = Variables(lookup);
        Ok(Self {
            endpoint: Endpoint::from_variables((variables.0)("LISTEN"), (variables.0)("PORT"))
                .map_err(|invalid| {
                    ConfigError::new(invalid.variable, invalid.value, invalid.rule)
                })?,
            workers: variables.read(
                "WORKERS",
                NonZeroUsize::MIN,
                "a number from 1 to 1000000, or auto",
                |value| match value {
                    b"auto" => Some(thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)),
                    _ => parse_count(value),
                },
            )?,
            limits: Limits::from_variables(&variables)?,
            log: variables.read(
                "RUST_LOG",
                Level::Info,
                "off, error, warn, info or debug, and no directives",
                Level::parse,
            )?,
        })
    }
}

impl Limits {
    fn from_variables(variables: &Variables<impl Lookup>) -> Result<Self, ConfigError> {
        let defaults = Self::default();
        Ok(Self {
            max_connections: variables.read(
                "MAX_CONNECTIONS",
                defaults.max_connections,
                "a number from 1 to 1000000",
                parse_count,
            )?,
            header_timeout: variables.timeout("HEADER_TIMEOUT", defaults.header_timeout)?,
            idle_timeout: variables.timeout("IDLE_TIMEOUT", defaults.idle_timeout)?,
            write_timeout: variables.timeout("WRITE_TIMEOUT", defaults.write_timeout)?,
            shutdown_delay: variables.duration("SHUTDOWN_DELAY", defaults.shutdown_delay)?,
            shutdown_timeout: variables.duration("SHUTDOWN_TIMEOUT", defaults.shutdown_timeout)?,
        })
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections: NonZeroUsize::new(1_000).expect("1,000 is not zero"),
            header_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(75),
            write_timeout: Duration::from_secs(5),
            shutdown_delay: Duration::ZERO,
            shutdown_timeout: Duration::from_secs(8),
        }
    }
}

trait Lookup: Fn(&'static str) -> Option<&'static [u8]> {}
impl<F: Fn(&'static str) -> Option<&'static [u8]>> Lookup for F {}

struct Variables<F>(F);

impl<F: Lookup> Variables<F> {
    fn read<T>(
        &self,
        variable: &'static str,
        default: T,
        rule: &'static str,
        parse: impl Fn(&[u8]) -> Option<T>,
    ) -> Result<T, ConfigError> {
        match (self.0)(variable) {
            None => Ok(default),
            Some(value) => parse(value).ok_or_else(|| ConfigError::new(variable, value, rule)),
        }
    }

    fn duration(&self, variable: &'static str, default: Duration) -> Result<Duration, ConfigError> {
        self.read(
            variable,
            default,
            "a duration from 0 to 24 hours, such as 500ms, 5s or 2m",
            parse_duration,
        )
    }

    fn timeout(&self, variable: &'static str, default: Duration) -> Result<Duration, ConfigError> {
        self.read(
            variable,
            default,
            "a duration from 1ms to 24 hours, such as 500ms, 5s or 2m",
            |value| parse_duration(value).filter(|duration| !duration.is_zero()),
        )
    }
}

fn parse_count(value: &[u8]) -> Option<NonZeroUsize> {
    NonZeroUsize::new(parse_number(value, MAX_COUNT)? as usize)
}

impl ConfigError {
    fn new(variable: &'static str, value: &[u8], rule: &'static str) -> Self {
        Self {
            variable,
            value: String::from_utf8_lossy(value).into_owned(),
            rule,
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            variable,
            value,
            rule,
        } = self;
        // `{:?}` escapes what would otherwise break the line.
        write!(f, "{variable}={value:?}: expected {rule}")
    }
}

impl std::error::Error for ConfigError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(variables: &[(&str, &str)]) -> Result<Config, String> {
        Config::from_lookup(|name| {
            let (_, value) = variables.iter().find(|(variable, _)| *variable == name)?;
            Some(value.into())
        })
        .map_err(|error| error.to_string())
    }

    #[test]
    fn an_empty_environment_gives_the_defaults() {
        let defaults = Config {
            endpoint: Endpoint::Any { port: 8080 },
            workers: NonZeroUsize::MIN,
            limits: Limits::default(),
            log: Level::Info,
        };
        assert_eq!(config(&[]), Ok(defaults.clone()));
        let empty = [
            "LISTEN",
            "PORT",
            "WORKERS",
            "MAX_CONNECTIONS",
            "IDLE_TIMEOUT",
            "RUST_LOG",
        ];
        assert_eq!(config(&empty.map(|name| (name, ""))), Ok(defaults));
    }

    #[test]
    fn every_variable_is_read() {
        let config = config(&[
            ("LISTEN", "127.0.0.1:81"),
            ("PORT", "ignored"),
            ("WORKERS", "3"),
            ("MAX_CONNECTIONS", "1000000"),
            ("HEADER_TIMEOUT", "1"),
            ("IDLE_TIMEOUT", "2m"),
            ("WRITE_TIMEOUT", "3ms"),
            ("SHUTDOWN_DELAY", "4s"),
            ("SHUTDOWN_TIMEOUT", "0"),
            ("RUST_LOG", "WARN"),
        ]);
        let expected = Config {
            endpoint: Endpoint::Ip("127.0.0.1:81".parse().unwrap()),
            workers: NonZeroUsize::new(3).unwrap(),
            limits: Limits {
                max_connections: NonZeroUsize::new(1_000_000).unwrap(),
                header_timeout: Duration::from_secs(1),
                idle_timeout: Duration::from_secs(120),
                write_timeout: Duration::from_millis(3),
                shutdown_delay: Duration::from_secs(4),
                shutdown_timeout: Duration::ZERO,
            },
            log: Level::Warn,
        };
        assert_eq!(config, Ok(expected));
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
            Err(r#"PORT="1\n\"2\u{7f}": expected a number from 0 to 65535"#.to_owned())
        );
        let error = Config::from_lookup(|_| Some(OsString::from_vec(vec![0xff]))).unwrap_err();
        assert!(error.to_string().starts_with("LISTEN=\"\u{fffd}\""));
    }

    #[test]
    fn any_value_is_read_or_named_in_one_line() {
        let variables = [
            "LISTEN",
            "PORT",
            "WORKERS",
            "MAX_CONNECTIONS",
            "HEADER_TIMEOUT",
            "IDLE_TIMEOUT",
            "WRITE_TIMEOUT",
            "SHUTDOWN_DELAY",
            "SHUTDOWN_TIMEOUT",
            "RUST_LOG",
        ];
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
            let config = Config::from_lookup(|name| (name == variable).then(|| set.clone()));
            match config {
                Ok(config) => {
                    let number = str::from_utf8(&value)
                        .ok()
                        .and_then(|value| value.parse().ok());
                    if let (Endpoint::Any { port }, "PORT") = (config.endpoint, variable) {
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
}

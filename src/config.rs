//! The environment, read once into typed values.

use std::ffi::OsString;
use std::fmt;
use std::num::NonZeroUsize;
use std::os::unix::ffi::OsStringExt;
use std::thread;
use std::time::Duration;

use scratch_server::Limits;
use scratch_server::log::Level;
use settings::{Endpoint, Invalid, non_empty, parse_duration, parse_number};

const MAX_COUNT: u32 = 1_000_000;

/// Everything that the environment can set.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Config {
    /// `LISTEN`, or `PORT` on every interface; port 8080 by default. `None` if `LISTEN_PID` and `LISTEN_FDS`
    /// say that a service manager passes the socket; then `LISTEN` and `PORT` are not read.
    pub endpoint: Option<Endpoint<'static>>,
    /// `SOCKET_MODE`: permissions of a unix socket's file; those that the umask leaves by default.
    pub socket_mode: Option<u32>,
    /// `NOTIFY_SOCKET`: where a service manager waits to be told that the server is ready.
    pub notify_socket: Option<&'static [u8]>,
    /// `WORKERS`: event-loop threads, 1 by default; `auto` is one per usable CPU.
    pub workers: NonZeroUsize,
    /// The other variables: the cap on connections, and the timeouts.
    pub limits: Limits,
    /// `RUST_LOG`: what goes to stderr, `info` by default.
    pub log: Level,
}

/// A variable that does not parse, shown as `PORT="http": expected a number from 0 to 65535`.
#[derive(Debug, Eq, PartialEq)]
pub struct ConfigError(Invalid<'static>);

impl ConfigError {
    /// Descriptor 3 is not what `LISTEN_FDS` says.
    pub const PASSED_SOCKET: Self = Self(Invalid {
        variable: "LISTEN_FDS",
        value: b"1",
        rule: "descriptor 3 to be a TCP or unix stream socket that listens",
    });
}

impl Config {
    /// Reads every variable through `lookup`; one that is empty counts as unset. `pid` is the number of
    /// this process.
    ///
    /// # Errors
    ///
    /// The first variable whose value breaks its rule.
    pub fn from_lookup(
        lookup: impl Fn(&'static str) -> Option<OsString>,
        pid: u32,
    ) -> Result<Self, ConfigError> {
        let variables = Variables(&lookup);
        Ok(Self {
            endpoint: match is_socket_passed(&variables, pid)? {
                true => None,
                false => Some(endpoint(&variables)?),
            },
            notify_socket: variables.value("NOTIFY_SOCKET"),
            socket_mode: variables.read(
                "SOCKET_MODE",
                None,
                "three octal digits, such as 660 or 0666",
                |value| Some(Some(parse_mode(value)?)),
            )?,
            workers: variables.read(
                "WORKERS",
                NonZeroUsize::MIN,
                "a number from 1 to 1000000, or auto",
                |value| match value {
                    b"auto" => Some(thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)),
                    _ => parse_count(value),
                },
            )?,
            limits: limits(&variables)?,
            log: variables.read(
                "RUST_LOG",
                Level::Info,
                "off, error, warn, info or debug, and no directives",
                Level::parse,
            )?,
        })
    }
}

/// Whether a service manager passes a socket to this process (sd_listen_fds(3)). The variables may also be
/// inherited from another process that was passed one, such as a shell; that socket is not for this one.
fn is_socket_passed(variables: &Variables<'_>, pid: u32) -> Result<bool, ConfigError> {
    let to = variables.value("LISTEN_PID");
    let count = variables.value("LISTEN_FDS");
    match (to.and_then(|to| parse_number(to, u32::MAX)), count) {
        (Some(to), Some(b"1")) if to == pid => Ok(true),
        (Some(to), Some(value)) if to == pid => Err(ConfigError(Invalid {
            variable: "LISTEN_FDS",
            value,
            rule: "1, as the server has one socket",
        })),
        _ => Ok(false),
    }
}

fn endpoint(variables: &Variables<'_>) -> Result<Endpoint<'static>, ConfigError> {
    Endpoint::from_variables(variables.value("LISTEN"), variables.value("PORT"))
        .map_err(ConfigError)
}

fn limits(variables: &Variables<'_>) -> Result<Limits, ConfigError> {
    let defaults = Limits::default();
    Ok(Limits {
        max_connections: variables.read(
            "MAX_CONNECTIONS",
            defaults.max_connections,
            "a number from 1 to 1000000",
            parse_count,
        )?,
        header_timeout: variables.timeout("HEADER_TIMEOUT", defaults.header_timeout)?,
        idle_timeout: variables.timeout("IDLE_TIMEOUT", defaults.idle_timeout)?,
        read_timeout: variables.timeout("READ_TIMEOUT", defaults.read_timeout)?,
        write_timeout: variables.timeout("WRITE_TIMEOUT", defaults.write_timeout)?,
        shutdown_delay: variables.duration("SHUTDOWN_DELAY", defaults.shutdown_delay)?,
        shutdown_timeout: variables.duration("SHUTDOWN_TIMEOUT", defaults.shutdown_timeout)?,
    })
}

/// The environment, through a function that gives a variable's value, if it has one.
struct Variables<'l>(&'l dyn Fn(&'static str) -> Option<OsString>);

impl Variables<'_> {
    /// The value of a variable; one that is empty counts as unset. Configuration lives as long as the
    /// process, so its bytes may as well be static.
    fn value(&self, variable: &'static str) -> Option<&'static [u8]> {
        non_empty(self.0(variable).map(|value| &*value.into_vec().leak()))
    }

    fn read<T>(
        &self,
        variable: &'static str,
        default: T,
        rule: &'static str,
        parse: impl Fn(&[u8]) -> Option<T>,
    ) -> Result<T, ConfigError> {
        match self.value(variable) {
            None => Ok(default),
            Some(value) => parse(value).ok_or(ConfigError(Invalid {
                variable,
                value,
                rule,
            })),
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

/// Three octal digits; a zero may stand before them.
fn parse_mode(value: &[u8]) -> Option<u32> {
    let digits = match value {
        [b'0', digits @ ..] if digits.len() == 3 => digits,
        digits => digits,
    };
    let is_octal = digits.iter().all(|digit| matches!(digit, b'0'..=b'7'));
    (digits.len() == 3 && is_octal).then(|| {
        digits
            .iter()
            .fold(0, |mode, digit| mode << 3 | u32::from(digit - b'0'))
    })
}

/// An endpoint as `LISTEN` would write it.
pub fn describe(endpoint: &Endpoint<'_>) -> String {
    match *endpoint {
        Endpoint::Any { port } => format!(":{port}"),
        Endpoint::Ip(address) => address.to_string(),
        Endpoint::Unix(path) => format!("unix:{}", path.escape_ascii()),
    }
}

fn parse_count(value: &[u8]) -> Option<NonZeroUsize> {
    NonZeroUsize::new(parse_number(value, MAX_COUNT)? as usize)
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Invalid {
            variable,
            value,
            rule,
        } = self.0;
        let value = value.escape_ascii();
        write!(f, "{variable}=\"{value}\": expected {rule}")
    }
}

impl std::error::Error for ConfigError {}

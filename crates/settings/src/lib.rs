//! How settings are written, for the server and for its probe: here the endpoint that `LISTEN` and
//! `PORT` describe, in `parse` numbers, durations and hosts.
//!
//! Nothing here allocates or formats, because the probe fits in a few kilobytes. Values are bytes,
//! because those of the environment need not be UTF-8.

#![no_std]
#![forbid(unsafe_code)]

use core::net::SocketAddr;

pub use parse::{
    MAX_DURATION, parse_duration, parse_host, parse_millis, parse_number, parse_port, split,
    split_at_first, split_at_last,
};

mod parse;

/// The port when neither `LISTEN` nor `PORT` names one.
pub const DEFAULT_PORT: u16 = 8080;

/// The longest path of a unix socket in bytes: `sun_path` has 108, one of them for the final NUL
/// (unix(7)).
pub const MAX_UNIX_PATH: usize = 107;

/// Where the server listens.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Endpoint<'a> {
    /// Every interface, in both address families where the kernel has both.
    Any {
        /// 0 takes a free port.
        port: u16,
    },
    /// One address, or all those of one family.
    Ip(SocketAddr),
    /// The absolute path of a unix stream socket, 1 to [`MAX_UNIX_PATH`] bytes.
    Unix(&'a [u8]),
}

/// A variable whose value breaks the rule for it.
///
/// Shown as `PORT="http": expected a number from 0 to 65535`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Invalid<'a> {
    /// The name of the variable.
    pub variable: &'static str,
    /// Its value, as found.
    pub value: &'a [u8],
    /// What the value has to be, to be read after "expected".
    pub rule: &'static str,
}

impl<'a> Endpoint<'a> {
    /// Reads `LISTEN` (`HOST:PORT`, `:PORT`, `[V6]:PORT` or `unix:/path`) and, where that is unset,
    /// `PORT` (default [`DEFAULT_PORT`]). An empty variable is an unset one, as `${PORT:-}` in
    /// Compose leaves it.
    ///
    /// # Errors
    ///
    /// The variable that does not parse. `PORT` is not looked at when `LISTEN` is set.
    pub fn from_variables(
        listen: Option<&'a [u8]>,
        port: Option<&'a [u8]>,
    ) -> Result<Self, Invalid<'a>> {
        match (non_empty(listen), non_empty(port)) {
            (Some(value), _) => Self::parse(value).ok_or(Invalid {
                variable: "LISTEN",
                value,
                rule: "ADDRESS:PORT, :PORT, [IPV6]:PORT or unix:/path",
            }),
            (None, Some(value)) => match parse_port(value) {
                Some(port) => Ok(Self::Any { port }),
                None => Err(Invalid {
                    variable: "PORT",
                    value,
                    rule: "a number from 0 to 65535",
                }),
            },
            (None, None) => Ok(Self::Any { port: DEFAULT_PORT }),
        }
    }

    /// What [`Endpoint::from_variables`] reads from `LISTEN`.
    pub fn parse(value: &'a [u8]) -> Option<Self> {
        if let Some(path) = value.strip_prefix(b"unix:") {
            return is_unix_path(path).then_some(Self::Unix(path));
        }
        if let Some(port) = value.strip_prefix(b":") {
            return Some(Self::Any {
                port: parse_port(port)?,
            });
        }
        let (host, port) = split_at_last(value, b':')?;
        Some(Self::Ip(SocketAddr::new(
            parse_host(host)?,
            parse_port(port)?,
        )))
    }
}

/// A variable's value, if it is set to anything at all.
pub fn non_empty(value: Option<&[u8]>) -> Option<&[u8]> {
    value.filter(|value| !value.is_empty())
}

/// Whether `path` can name a unix socket: absolute, and short enough for the kernel.
pub fn is_unix_path(path: &[u8]) -> bool {
    path.starts_with(b"/") && path.len() <= MAX_UNIX_PATH
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;

    fn endpoint<'a>(listen: &'a str, port: &'a str) -> Result<Endpoint<'a>, &'static str> {
        Endpoint::from_variables(Some(listen.as_bytes()), Some(port.as_bytes()))
            .map_err(|invalid| invalid.variable)
    }

    #[test]
    fn unset_and_empty_variables_mean_the_default_port_on_every_interface() {
        let default = Ok(Endpoint::Any { port: 8080 });
        assert_eq!(Endpoint::from_variables(None, None), default);
        assert_eq!(endpoint("", ""), Ok(Endpoint::Any { port: 8080 }));
    }

    #[test]
    fn valid_endpoints_are_read() {
        assert_eq!(endpoint("", "0"), Ok(Endpoint::Any { port: 0 }));
        assert_eq!(endpoint("", "65535"), Ok(Endpoint::Any { port: 65535 }));
        assert_eq!(endpoint(":9000", ""), Ok(Endpoint::Any { port: 9000 }));
        for address in ["127.0.0.1:80", "0.0.0.0:8080", "[::]:0", "[::1]:443"] {
            let expected = Endpoint::Ip(address.parse().unwrap());
            assert_eq!(endpoint(address, ""), Ok(expected));
        }
        let path = [b"/".as_slice(), &[b'a'; MAX_UNIX_PATH - 1]].concat();
        let longest = [b"unix:".as_slice(), &path].concat();
        assert_eq!(
            Endpoint::from_variables(Some(&longest), None),
            Ok(Endpoint::Unix(&path))
        );
    }

    #[test]
    fn invalid_endpoints_name_their_variable() {
        for port in [
            "http",
            "-1",
            "+80",
            "65536",
            " 80",
            "80 ",
            "8_0",
            "99999999999",
        ] {
            assert_eq!(endpoint("", port), Err("PORT"), "{port}");
        }
        let too_long = std::format!("unix:/{}", "a".repeat(MAX_UNIX_PATH));
        for listen in [
            "8080",
            ":",
            ":http",
            "localhost:80",
            "1.2.3.4",
            "::1:80",
            "[::1]",
            "unix:",
            "unix:a",
            "[fe80::1%1]:80",
            "[::ffff:1.2.3.4]:80",
            &too_long,
        ] {
            assert_eq!(endpoint(listen, ""), Err("LISTEN"), "{listen}");
        }
        assert!(Endpoint::from_variables(Some(b"\xff:80"), None).is_err());
    }

    #[test]
    fn port_is_ignored_when_listen_is_set() {
        assert_eq!(endpoint(":1", "http"), Ok(Endpoint::Any { port: 1 }));
    }
}

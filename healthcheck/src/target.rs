//! What to probe: read from an argument, or from the environment that the server reads too.

use core::num::NonZeroU16;

use settings::{Endpoint, is_unix_path, parse_host, parse_port, split_at_first, split_at_last};

use crate::text::Text;

/// The longest path in bytes.
const MAX_PATH: usize = 1024;

/// The port of `http://` URLs that name none (RFC 9110 section 4.2.1).
const HTTP_PORT: u16 = 80;

/// The host that is `[::1]` and, if that cannot be connected, `127.0.0.1`.
pub const LOCALHOST: &[u8] = b"localhost";

const FORMS: &str = "/PATH, [http://]HOST:PORT[/PATH], unix:/SOCKET[:/PATH] or tcp://HOST:PORT";

/// What to probe.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Target<'a> {
    /// [`LOCALHOST`], what [`parse_host`] takes, or the path of a unix socket.
    pub host: &'a [u8],
    /// The port; none for a unix socket.
    pub port: Option<NonZeroU16>,
    /// What to ask for. Empty is a target that is healthy once it is connected.
    pub path: &'a [u8],
}

impl<'a> Target<'a> {
    /// The server at `endpoint`, which was read from `listen`, the value of `LISTEN`. One on every
    /// interface is probed over loopback.
    ///
    /// # Errors
    ///
    /// What was expected instead of port 0. The server takes a free port, and nothing tells the
    /// probe which.
    pub fn at_endpoint(
        endpoint: Endpoint<'a>,
        listen: &'a [u8],
        path: &'a [u8],
    ) -> Result<Self, &'static str> {
        let (host, port) = match endpoint {
            Endpoint::Unix(socket) => {
                return Ok(Self {
                    host: socket,
                    port: None,
                    path,
                });
            }
            Endpoint::Any { port } => (LOCALHOST, port),
            Endpoint::Ip(address) => {
                let host = match (address.ip().is_unspecified(), address.is_ipv4()) {
                    (true, true) => b"127.0.0.1",
                    (true, false) => LOCALHOST,
                    _ => split_at_last(listen, b':').unwrap_or_default().0,
                };
                (host, address.port())
            }
        };
        let port = NonZeroU16::new(port);
        if port.is_none() {
            return Err("a port, as the probe cannot know which one 0 took");
        }
        Ok(Self { host, port, path })
    }

    /// A target that has nothing to do with the environment: `[http://]HOST[:PORT][/PATH]`,
    /// `unix:/SOCKET[:/PATH]` or `tcp://HOST:PORT`.
    ///
    /// HOST is an IPv4 address, an IPv6 address in brackets, or `localhost`, which may be left out
    /// before a port. There is no DNS: a probe that asks a name server says whether the name server is
    /// healthy. A path that is left out is `/`; without `http://` there has to be a port. The path of a
    /// socket ends at the first `:/`.
    ///
    /// # Errors
    ///
    /// What was expected instead.
    pub fn parse(argument: &'a [u8]) -> Result<Self, &'static str> {
        if let Some(rest) = argument.strip_prefix(b"unix:") {
            let (host, path) = cut(rest, b":/");
            let path = path.strip_prefix(b":").unwrap_or(b"/");
            if !is_unix_path(host) {
                return Err("unix: and the absolute path of a socket, at most 107 bytes");
            }
            check_path(path)?;
            return Ok(Self {
                host,
                port: None,
                path,
            });
        }
        let (scheme, rest) = cut(argument, b"/");
        if scheme == b"https:" {
            return Err("http://, as the probe has no TLS");
        }
        let (is_http, is_tcp) = (scheme == b"http:", scheme == b"tcp:");
        let (authority, path) = if is_http || is_tcp {
            cut(rest.strip_prefix(b"//").ok_or(FORMS)?, b"/")
        } else {
            (scheme, rest)
        };
        let (host, port) = match split_at_last(authority, b':') {
            Some((b"", port)) => (LOCALHOST, port),
            Some((host, port)) if !port.ends_with(b"]") => (host, port),
            _ if is_http => (authority, b"80".as_slice()),
            _ => (authority, b"".as_slice()),
        };
        let is_whole = match (is_http, is_tcp) {
            (true, _) => true,
            (_, true) => path.is_empty(),
            // `ftp://HOST` ends up here too, with nothing behind its colon.
            _ => !port.is_empty(),
        };
        if !is_whole {
            return Err(FORMS);
        }
        if host != LOCALHOST && parse_host(host).is_none() {
            if split_at_first(authority, b'@').is_some() {
                return Err("no user@ before the host: use --header");
            }
            return Err("an IPv4 address, [IPv6] or localhost: there is no DNS");
        }
        let port = NonZeroU16::new(parse_port(port).unwrap_or(0));
        if port.is_none() {
            return Err("a port from 1 to 65535");
        }
        let path = match path {
            b"" if !is_tcp => b"/",
            path => path,
        };
        check_path(path)?;
        Ok(Self { host, port, path })
    }

    /// Appends the target as a URL, of which the host and the path may be cut.
    pub(crate) fn describe(&self, text: &mut Text<'_>) {
        text.push(match (self.port, self.path) {
            (None, _) => b"unix:".as_slice(),
            (_, b"") => b"tcp://",
            _ => b"http://",
        });
        text.push_escaped(self.host, 56);
        self.push_port(text);
        text.push_escaped(self.path, 40);
    }

    /// Appends the value of the `Host` header, the authority of the target (RFC 9110 section 7.2).
    pub(crate) fn push_host(&self, text: &mut Text<'_>) {
        if self.port.is_none() {
            text.push(LOCALHOST);
        } else {
            text.push(self.host);
            self.push_port(text);
        }
    }

    fn push_port(&self, text: &mut Text<'_>) {
        let port = self.port.map_or(0, NonZeroU16::get);
        // Left out where it is the default one (RFC 9110 section 4.2.3).
        if port == HTTP_PORT && !self.path.is_empty() {
            return;
        }
        text.push(b":");
        if port != 0 {
            text.push_number(port.into());
        }
    }
}

/// What is before the first `mark`, and what is from there on.
fn cut<'a>(text: &'a [u8], mark: &[u8]) -> (&'a [u8], &'a [u8]) {
    let end = text.windows(mark.len()).position(|bytes| bytes == mark);
    text.split_at_checked(end.unwrap_or(text.len()))
        .unwrap_or_default()
}

/// Whether a path, with or without a query, can stand in a request line (RFC 9112 section 3.2.1).
///
/// # Errors
///
/// What was expected instead.
pub(crate) fn check_path(path: &[u8]) -> Result<(), &'static str> {
    let is_valid = |byte: &u8| byte.is_ascii_graphic() && *byte != b'#';
    if path.len() <= MAX_PATH && path.iter().all(is_valid) {
        Ok(())
    } else {
        Err("a path of visible ASCII without #, at most 1024 bytes")
    }
}

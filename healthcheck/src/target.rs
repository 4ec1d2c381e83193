//! What to probe: read from an argument, or from the environment that the server reads too.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use endpoint::{Endpoint, Invalid, is_unix_path, non_empty, parse_port};

use crate::text::Text;

/// The path when neither the argument nor a URL says otherwise: the server's readiness.
const DEFAULT_PATH: &[u8] = b"/health";

/// The longest path in bytes.
const MAX_PATH: usize = 1024;

/// The port of `http://` URLs that name none (RFC 9110 section 4.2.1).
const HTTP_PORT: u16 = 80;

/// The forms that a target argument takes.
const FORMS: &str = "/PATH, http://HOST[:PORT][/PATH], unix:/SOCKET[:/PATH] or tcp://HOST:PORT";

/// What to probe.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Target<'a> {
    /// Where to connect.
    pub peer: Peer<'a>,
    /// What to ask for; `None` is a target that is healthy once it is connected.
    pub path: Option<&'a [u8]>,
}

/// Where to connect.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Peer<'a> {
    /// `[::1]` and, if that cannot be connected, `127.0.0.1`.
    Localhost {
        /// Never 0.
        port: u16,
    },
    /// One address.
    Ip {
        /// The address as it was written, in brackets if it is IPv6.
        host: &'a [u8],
        /// The address and the port, which is never 0.
        address: SocketAddr,
    },
    /// The absolute path of a unix stream socket.
    Unix(&'a [u8]),
}

impl<'a> Target<'a> {
    /// The server that `LISTEN` and `PORT` describe: where it listens on every interface, it is
    /// probed over loopback. `path` is asked for, or else `/health`.
    ///
    /// # Errors
    ///
    /// The variable or the path that is not valid. A port of 0 is not: the server takes a free one,
    /// and nothing tells the probe which.
    pub fn from_environment(
        listen: Option<&'a [u8]>,
        port: Option<&'a [u8]>,
        path: Option<&'a [u8]>,
    ) -> Result<Self, Invalid<'a>> {
        let path = path.unwrap_or(DEFAULT_PATH);
        if !is_path(path) {
            return Err(invalid_argument(path, PATH_RULE));
        }
        let peer = match Endpoint::from_variables(listen, port)? {
            Endpoint::Any { port } => Peer::Localhost { port },
            Endpoint::Ip(address) => match address.ip() {
                IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Peer::Ip {
                    host: b"127.0.0.1",
                    address: SocketAddr::new(Ipv4Addr::LOCALHOST.into(), address.port()),
                },
                IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Peer::Localhost {
                    port: address.port(),
                },
                _ => Peer::Ip {
                    host: split_port(listen.unwrap_or_default()).0,
                    address,
                },
            },
            Endpoint::Unix(path) => Peer::Unix(path),
        };
        if peer.port() == Some(0) {
            let (variable, value) = match non_empty(listen) {
                Some(value) => ("LISTEN", value),
                None => ("PORT", port.unwrap_or_default()),
            };
            let rule = "a port from 1 to 65535, as the probe cannot know which free one was taken";
            return Err(Invalid {
                variable,
                value,
                rule,
            });
        }
        Ok(Self {
            peer,
            path: Some(path),
        })
    }

    /// A target that has nothing to do with the environment: `http://HOST[:PORT][/PATH]`,
    /// `unix:/SOCKET[:/PATH]` or `tcp://HOST:PORT`.
    ///
    /// HOST is an IPv4 address, an IPv6 address in brackets, or `localhost`. There is no DNS: a
    /// probe that asks a name server says whether the name server is healthy. A path that is left
    /// out is `/`. The path of a socket ends at the first `:/`.
    ///
    /// # Errors
    ///
    /// The argument, with the rule that it breaks.
    pub fn from_argument(argument: &'a [u8]) -> Result<Self, Invalid<'a>> {
        Self::parse(argument).map_err(|rule| invalid_argument(argument, rule))
    }

    fn parse(argument: &'a [u8]) -> Result<Self, &'static str> {
        let (peer, path) = if let Some(rest) = argument.strip_prefix(b"http://") {
            let end = rest.iter().position(|byte| b"/?#".contains(byte));
            let (authority, path) = rest
                .split_at_checked(end.unwrap_or(rest.len()))
                .ok_or(FORMS)?;
            (Peer::parse(authority, Some(HTTP_PORT))?, path)
        } else if let Some(rest) = argument.strip_prefix(b"unix:") {
            let end = rest.windows(2).position(|pair| pair == b":/");
            let (socket, path) = rest
                .split_at_checked(end.unwrap_or(rest.len()))
                .ok_or(FORMS)?;
            if !is_unix_path(socket) {
                return Err("unix: and the absolute path of a socket, at most 107 bytes");
            }
            (Peer::Unix(socket), path.strip_prefix(b":").unwrap_or(path))
        } else if let Some(authority) = argument.strip_prefix(b"tcp://") {
            return Ok(Self {
                peer: Peer::parse(authority, None)?,
                path: None,
            });
        } else if argument.starts_with(b"https://") {
            return Err("http://, as the probe has no TLS");
        } else {
            return Err(FORMS);
        };
        let path = if path.is_empty() { b"/" } else { path };
        if !is_path(path) {
            return Err(PATH_RULE);
        }
        Ok(Self {
            peer,
            path: Some(path),
        })
    }

    /// Appends the target as a URL.
    pub(crate) fn describe(&self, text: &mut Text) {
        match (self.peer, self.path) {
            (Peer::Unix(socket), path) => {
                text.push(b"unix:").push(socket).push(b":");
                text.push(path.unwrap_or_default());
            }
            (peer, Some(path)) => {
                text.push(b"http://");
                peer.describe(text, HTTP_PORT);
                text.push(path);
            }
            (peer, None) => {
                text.push(b"tcp://");
                peer.describe(text, 0);
            }
        }
    }

    /// Appends the value of the `Host` header: the authority of the target, without the port where
    /// that is the default one (RFC 9110 sections 4.2.3 and 7.2).
    pub(crate) fn host(&self, text: &mut Text) {
        self.peer.describe(text, HTTP_PORT);
    }
}

impl<'a> Peer<'a> {
    fn parse(authority: &'a [u8], default_port: Option<u16>) -> Result<Self, &'static str> {
        let (host, port) = if authority.ends_with(b"]") {
            (authority, b"".as_slice())
        } else {
            split_port(authority)
        };
        let port = match (port, default_port) {
            (b"", Some(port)) => Some(port),
            (text, _) => text.strip_prefix(b":").and_then(parse_port),
        };
        let port = port
            .filter(|&port| port != 0)
            .ok_or("a port from 1 to 65535")?;
        if host == b"localhost" {
            return Ok(Self::Localhost { port });
        }
        let address = parse_ip(host).ok_or(
            "an IPv4 address, an [IPv6] address or localhost as the host: there is no DNS",
        )?;
        Ok(Self::Ip {
            host,
            address: SocketAddr::new(address, port),
        })
    }

    fn port(&self) -> Option<u16> {
        match self {
            Self::Localhost { port } => Some(*port),
            Self::Ip { address, .. } => Some(address.port()),
            Self::Unix(_) => None,
        }
    }

    fn describe(&self, text: &mut Text, default_port: u16) {
        text.push(match self {
            Self::Ip { host, .. } => host,
            _ => b"localhost",
        });
        if let Some(port) = self.port()
            && port != default_port
        {
            text.push(b":").push_number(port.into());
        }
    }
}

/// What is before the last colon, and the rest, which is empty or starts with that colon.
fn split_port(authority: &[u8]) -> (&[u8], &[u8]) {
    let end = authority.iter().rposition(|&byte| byte == b':');
    authority
        .split_at_checked(end.unwrap_or(authority.len()))
        .unwrap_or((authority, b""))
}

fn parse_ip(host: &[u8]) -> Option<IpAddr> {
    let text = core::str::from_utf8(host).ok()?;
    match text.strip_prefix('[') {
        Some(rest) => Some(IpAddr::V6(rest.strip_suffix(']')?.parse().ok()?)),
        None => Some(IpAddr::V4(text.parse().ok()?)),
    }
}

const PATH_RULE: &str = "a path of visible ASCII without #, at most 1024 bytes";

/// Whether this is an absolute path, with or without a query, that can stand in a request line
/// (RFC 9112 section 3.2.1).
fn is_path(path: &[u8]) -> bool {
    path.starts_with(b"/")
        && path.len() <= MAX_PATH
        && path
            .iter()
            .all(|byte| byte.is_ascii_graphic() && *byte != b'#')
}

/// An argument that is no option's value.
pub(crate) fn invalid_argument<'a>(value: &'a [u8], rule: &'static str) -> Invalid<'a> {
    Invalid {
        variable: "",
        value,
        rule,
    }
}

//! The listening socket, of either kind.

use std::fmt;
use std::fs;
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use endpoint::Endpoint;
use tokio::net::{TcpSocket, TcpStream};

/// Connections that the kernel holds for us until they are accepted, as far as
/// `net.core.somaxconn` allows.
const BACKLOG: u32 = 4_096;

/// A listening socket; clones share it.
#[derive(Clone, Debug)]
pub struct Listener(Arc<Socket>);

#[derive(Debug)]
enum Socket {
    Tcp(std::net::TcpListener),
    Unix(UnixListener, PathBuf),
}

/// Who is at the other end: an address, or nothing that a unix socket could tell.
#[derive(Clone, Copy, Debug)]
pub struct Peer(Option<SocketAddr>);

impl Listener {
    /// Binds and listens. [`Endpoint::Any`] is one dual-stack socket, or one for IPv4 where the
    /// kernel has no IPv6. The file of a unix socket that nobody listens on is replaced.
    ///
    /// # Errors
    ///
    /// Those of socket(2), bind(2) and listen(2).
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime with its I/O driver.
    pub fn bind(endpoint: &Endpoint<'_>) -> io::Result<Self> {
        let socket = match *endpoint {
            Endpoint::Any { port } => Socket::Tcp(
                bind_tcp((Ipv6Addr::UNSPECIFIED, port).into()).or_else(|error| {
                    if is_ipv6_missing(&error) {
                        bind_tcp((Ipv4Addr::UNSPECIFIED, port).into())
                    } else {
                        Err(error)
                    }
                })?,
            ),
            Endpoint::Ip(address) => Socket::Tcp(bind_tcp(address)?),
            Endpoint::Unix(path) => {
                let path = Path::new(std::ffi::OsStr::from_bytes(path));
                Socket::Unix(bind_unix(path)?, path.to_owned())
            }
        };
        Ok(Self(Arc::new(socket)))
    }

    /// The address that was bound, with the port that the kernel chose for port 0; nothing for a
    /// unix socket.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        match &*self.0 {
            Socket::Tcp(listener) => listener.local_addr().ok(),
            Socket::Unix(..) => None,
        }
    }

    /// Accepts a connection, asking the kernel each time: tokio's own listener may answer "would
    /// block" from memory.
    pub(crate) fn accept(&self) -> io::Result<(TcpStream, Peer)> {
        let (stream, peer) = match &*self.0 {
            Socket::Tcp(listener) => {
                let (stream, peer) = listener.accept()?;
                (stream, Peer(Some(peer)))
            }
            // From here on a stream is a descriptor to recv(2) from and send(2) to, the same
            // calls in both families, so one type does for both.
            Socket::Unix(listener, _) => {
                let (stream, _) = listener.accept()?;
                (OwnedFd::from(stream).into(), Peer(None))
            }
        };
        stream.set_nonblocking(true)?;
        Ok((TcpStream::from_std(stream)?, peer))
    }
}

impl AsRawFd for Listener {
    fn as_raw_fd(&self) -> RawFd {
        match &*self.0 {
            Socket::Tcp(listener) => listener.as_raw_fd(),
            Socket::Unix(listener, _) => listener.as_raw_fd(),
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if let Self::Unix(_, path) = self {
            let _ = fs::remove_file(path);
        }
    }
}

impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&*self.0, self.local_addr()) {
            (_, Some(address)) => write!(f, "port {} ({address})", address.port()),
            (Socket::Unix(_, path), _) => write!(f, "unix:{}", path.display()),
            (Socket::Tcp(_), None) => f.write_str("an unknown address"),
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(address) => address.fmt(f),
            None => f.write_str("unix"),
        }
    }
}

/// An endpoint as `LISTEN` would write it.
pub fn describe(endpoint: &Endpoint<'_>) -> String {
    match *endpoint {
        Endpoint::Any { port } => format!(":{port}"),
        Endpoint::Ip(address) => address.to_string(),
        Endpoint::Unix(path) => format!("unix:{}", String::from_utf8_lossy(path).escape_debug()),
    }
}

fn bind_tcp(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }?;
    // Or a restart would have to wait for the connections of the last run to leave TIME_WAIT.
    socket.set_reuseaddr(true)?;
    // Accepted sockets inherit it on Linux, which saves a system call for each.
    socket.set_nodelay(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)?.into_std()
}

fn is_ipv6_missing(error: &io::Error) -> bool {
    const EAFNOSUPPORT: i32 = 97;
    error.kind() == ErrorKind::AddrNotAvailable || error.raw_os_error() == Some(EAFNOSUPPORT)
}

fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    let listener = match UnixListener::bind(path) {
        Err(error) if error.kind() == ErrorKind::AddrInUse && is_stale(path) => {
            fs::remove_file(path)?;
            UnixListener::bind(path)
        }
        other => other,
    }?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Whether `path` is the socket of a server that is gone: a file of its own, but nobody listens.
fn is_stale(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket())
        && UnixStream::connect(path)
            .is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
}

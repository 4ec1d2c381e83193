//! The listening socket, of either kind.

use std::ffi::OsStr;
use std::fmt;
use std::fs::{self, Permissions};
use std::io::{self, ErrorKind};
use std::net::{self, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net as unix;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use settings::Endpoint;
use socket2::{Domain, SockRef, Type};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UnixListener, UnixSocket};

/// Connections that the kernel holds for us until they are accepted, as far as
/// `net.core.somaxconn` allows.
pub(crate) const BACKLOG: u32 = 4_096;

/// A listening socket that the event loop watches.
pub struct Listener(Socket<TcpListener, UnixListener>);

/// A listening socket that no event loop watches: each accept is a system call.
pub(crate) struct Detached(Socket<net::TcpListener, unix::UnixListener>);

enum Socket<T, U> {
    Tcp(T),
    // The file is dropped first: without a listener it looks stale, and another server would replace it.
    // The file of a socket that was passed does not belong to this server, and is absent here.
    Unix(Option<Arc<SocketFile>>, U),
}

/// The file of a unix socket, removed when the last listener on it is dropped.
struct SocketFile {
    path: PathBuf,
    /// The device and inode that were bound: another server may have put its own socket there since.
    identity: Option<(u64, u64)>,
}

/// The other end of a connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Peer {
    /// A TCP client. Where one socket serves both address families, an IPv4 client has its IPv4
    /// address.
    Tcp(SocketAddr),
    /// A client of a unix socket, which has no address.
    Unix,
}

impl Listener {
    /// Binds and listens. [`Endpoint::Any`] is one dual-stack socket, or one for IPv4 where the
    /// kernel has no IPv6. The file of a unix socket that nobody listens on is replaced; a new one has
    /// the permissions `socket_mode`, or those that the umask leaves.
    ///
    /// # Errors
    ///
    /// Those of socket(2), bind(2), chmod(2) and listen(2).
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime with its I/O driver.
    pub fn bind(endpoint: &Endpoint<'_>, socket_mode: Option<u32>) -> io::Result<Self> {
        Ok(Self(match *endpoint {
            Endpoint::Any { port } => {
                Socket::Tcp(match bind_tcp((Ipv6Addr::UNSPECIFIED, port).into()) {
                    Err(error) if is_ipv6_missing(&error) => {
                        bind_tcp((Ipv4Addr::UNSPECIFIED, port).into())
                    }
                    other => other,
                }?)
            }
            Endpoint::Ip(address) => Socket::Tcp(bind_tcp(address)?),
            Endpoint::Unix(path) => {
                let path = Path::new(OsStr::from_bytes(path));
                let (file, listener) = bind_unix(path, socket_mode)?;
                Socket::Unix(Some(Arc::new(file)), listener)
            }
        }))
    }

    /// Takes over a socket that listens already, such as one that a service manager passes. The file of a
    /// unix socket stays where it is at the end.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] if it is neither a TCP nor a unix stream socket; those of
    /// getsockopt(2), setsockopt(2), fcntl(2) and epoll(7).
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime with its I/O driver.
    pub fn adopt(socket: OwnedFd) -> io::Result<Self> {
        let options = SockRef::from(&socket);
        if options.r#type()? != Type::STREAM {
            return Err(ErrorKind::InvalidInput.into());
        }
        options.set_nonblocking(true)?;
        match options.domain()? {
            Domain::IPV4 | Domain::IPV6 => {
                options.set_tcp_nodelay(true)?;
                Detached(Socket::Tcp(socket.into())).attach()
            }
            Domain::UNIX => Detached(Socket::Unix(None, socket.into())).attach(),
            _ => Err(ErrorKind::InvalidInput.into()),
        }
    }

    /// The address that was bound, with the port that the kernel chose for port 0; nothing for a
    /// unix socket.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        match &self.0 {
            Socket::Tcp(listener) => listener.local_addr().ok(),
            Socket::Unix(..) => None,
        }
    }

    pub(crate) fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<(TcpStream, Peer)>> {
        match &self.0 {
            Socket::Tcp(listener) => listener
                .poll_accept(cx)
                .map_ok(|(stream, address)| (stream, Peer::tcp(address))),
            Socket::Unix(_, listener) => {
                let (stream, _) = ready!(listener.poll_accept(cx))?;
                Poll::Ready(stream.into_std().and_then(unix_stream))
            }
        }
    }

    /// A second handle to the same socket, for another event loop.
    pub(crate) fn detached_clone(&self) -> io::Result<Detached> {
        Ok(Detached(match &self.0 {
            Socket::Tcp(listener) => Socket::Tcp(listener.as_fd().try_clone_to_owned()?.into()),
            Socket::Unix(file, listener) => {
                Socket::Unix(file.clone(), listener.as_fd().try_clone_to_owned()?.into())
            }
        }))
    }

    /// The lowest number that no descriptor of this process has: that many are open, if their numbers have no
    /// gap.
    pub(crate) fn lowest_free_descriptor(&self) -> io::Result<RawFd> {
        let socket = match &self.0 {
            Socket::Tcp(listener) => listener.as_fd(),
            Socket::Unix(_, listener) => listener.as_fd(),
        };
        Ok(socket.try_clone_to_owned()?.as_raw_fd())
    }

    pub(crate) fn detach(self) -> io::Result<Detached> {
        Ok(Detached(match self.0 {
            Socket::Tcp(listener) => Socket::Tcp(listener.into_std()?),
            Socket::Unix(file, listener) => Socket::Unix(file, listener.into_std()?),
        }))
    }
}

impl Detached {
    /// Registers the socket with the caller's event loop.
    pub(crate) fn attach(self) -> io::Result<Listener> {
        Ok(Listener(match self.0 {
            Socket::Tcp(listener) => Socket::Tcp(TcpListener::from_std(listener)?),
            Socket::Unix(file, listener) => Socket::Unix(file, UnixListener::from_std(listener)?),
        }))
    }

    pub(crate) fn accept(&self) -> io::Result<(TcpStream, Peer)> {
        match &self.0 {
            Socket::Tcp(listener) => {
                let (stream, address) = listener.accept()?;
                stream.set_nonblocking(true)?;
                Ok((TcpStream::from_std(stream)?, Peer::tcp(address)))
            }
            Socket::Unix(_, listener) => {
                let (stream, _) = listener.accept()?;
                stream.set_nonblocking(true)?;
                unix_stream(stream)
            }
        }
    }
}

/// From here on a stream is a descriptor to recv(2) from and send(2) to. Both calls are the same in
/// either family, so one type does for both.
fn unix_stream(stream: unix::UnixStream) -> io::Result<(TcpStream, Peer)> {
    Ok((
        TcpStream::from_std(OwnedFd::from(stream).into())?,
        Peer::Unix,
    ))
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.identity.is_some() && identity(&self.path) == self.identity {
            let _ = fs::remove_file(&self.path);
        }
    }
}

impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.0, self.local_addr()) {
            (_, Some(address)) => write!(f, "port {} ({address})", address.port()),
            (Socket::Unix(Some(file), _), _) => write!(f, "unix:{}", file.path.display()),
            (Socket::Unix(None, _), _) => f.write_str("a unix socket that was passed"),
            (Socket::Tcp(_), None) => f.write_str("an unknown address"),
        }
    }
}

impl Peer {
    fn tcp(address: SocketAddr) -> Self {
        Self::Tcp(SocketAddr::new(address.ip().to_canonical(), address.port()))
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix => f.write_str("unix"),
        }
    }
}

fn bind_tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }?;
    // Otherwise a restart would have to wait for the connections of the last run to leave TIME_WAIT.
    socket.set_reuseaddr(true)?;
    // Accepted sockets inherit it on Linux, which saves a system call for each.
    socket.set_nodelay(true)?;
    if address.ip() == Ipv6Addr::UNSPECIFIED {
        // Otherwise `net.ipv6.bindv6only` would decide whether IPv4 clients are served.
        SockRef::from(&socket).set_only_v6(false)?;
    }
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

fn is_ipv6_missing(error: &io::Error) -> bool {
    error.kind() == ErrorKind::AddrNotAvailable || error.raw_os_error() == Some(libc::EAFNOSUPPORT)
}

fn bind_unix(path: &Path, mode: Option<u32>) -> io::Result<(SocketFile, UnixListener)> {
    let socket = UnixSocket::new_stream()?;
    match socket.bind(path) {
        Err(error) if error.kind() == ErrorKind::AddrInUse && is_stale(path) => {
            fs::remove_file(path)?;
            socket.bind(path)
        }
        other => other,
    }?;
    let file = SocketFile {
        path: path.to_owned(),
        identity: identity(path),
    };
    if let Some(mode) = mode {
        // Before it listens, so that nobody can connect with other permissions.
        fs::set_permissions(path, Permissions::from_mode(mode))?;
    }
    Ok((file, socket.listen(BACKLOG)?))
}

/// The device and inode of a file.
fn identity(path: &Path) -> Option<(u64, u64)> {
    let metadata = fs::symlink_metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino()))
}

/// Whether `path` is the socket of a server that is gone: the file is there, but nothing listens.
fn is_stale(path: &Path) -> bool {
    // A datagram socket cannot be connected to a listener, but the error says whether there is one, without
    // a wait for a place in the accept queue.
    let refused = || unix::UnixDatagram::unbound()?.connect(path);
    fs::symlink_metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket())
        && refused().is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;
    use crate::workers::event_loop;

    /// Connects a client to a TCP listener, and returns the stream that is accepted.
    fn accepted(listen: impl FnOnce() -> io::Result<Listener>) -> TcpStream {
        event_loop().expect("an event loop").block_on(async {
            let listener = listen().expect("a listener");
            let address = listener.local_addr().expect("it is on TCP");
            let _client = net::TcpStream::connect(address).expect("a connection");
            let accepted = poll_fn(|cx| listener.poll_accept(cx)).await;
            accepted.expect("a connection waits").0
        })
    }

    #[test]
    fn accepted_connections_of_a_bound_and_a_passed_socket_have_tcp_nodelay() {
        let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let bound = accepted(|| Listener::bind(&Endpoint::Ip(loopback), None));
        assert!(bound.nodelay().expect("an option of TCP"));
        let passed = accepted(|| Listener::adopt(net::TcpListener::bind(loopback)?.into()));
        assert!(passed.nodelay().expect("an option of TCP"));
    }
}

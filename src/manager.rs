//! The service manager that started this process, such as systemd or Podman: the socket that it passes,
//! and the messages to it.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use scratch_server::{Listener, log};

use crate::config::ConfigError;

/// The listening socket that the manager passes as descriptor 3 (sd_listen_fds(3)). To be called once,
/// and before another socket listens.
///
/// # Errors
///
/// If descriptor 3 is something else.
///
/// # Panics
///
/// Outside of a tokio runtime with its I/O driver.
pub fn passed_listener() -> Result<Listener, ConfigError> {
    let listener = sys::passed_listener().and_then(Listener::adopt);
    listener.map_err(|_| ConfigError::PASSED_SOCKET)
}

/// Tells the manager how far this process is (sd_notify(3)).
pub struct Notifier(Option<&'static [u8]>);

impl Notifier {
    /// `socket` is the value of `NOTIFY_SOCKET`: the path of a unix socket, or `@` and its abstract name.
    /// Without it nothing is sent.
    pub fn new(socket: Option<&'static [u8]>) -> Self {
        Self(socket)
    }

    /// Sends `state`, such as `READY=1`. Where that fails, one line is logged and nothing more is sent.
    pub fn notify(&mut self, state: &str) {
        let Some(socket) = self.0 else { return };
        if let Err(error) = send(socket, state) {
            let socket = socket.escape_ascii();
            log::warn(format_args!(
                "NOTIFY_SOCKET=\"{socket}\": {state} was not sent: {error}"
            ));
            self.0 = None;
        }
    }
}

fn send(socket: &[u8], state: &str) -> io::Result<()> {
    let address = match socket {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
        path => SocketAddr::from_pathname(OsStr::from_bytes(path)),
    }?;
    let socket = UnixDatagram::unbound()?;
    // A manager that does not read must not hold up the event loop.
    socket.set_nonblocking(true)?;
    socket.send_to_addr(state.as_bytes(), &address)?;
    Ok(())
}

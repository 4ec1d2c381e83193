//! One attempt: connect, send, receive, each no longer than the timer allows.

use core::mem::MaybeUninit;
use core::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use core::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::{self, Errno};
use rustix::net::{
    AddressFamily, SocketAddrAny, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with,
};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_gettime,
    timerfd_settime,
};

use crate::options::Options;
use crate::response::{Fault, Response};
use crate::target::Peer;
use crate::text::Text;

/// Why an attempt failed, and while doing what.
#[derive(Clone, Copy)]
pub(crate) struct Failure {
    pub(crate) phase: &'static str,
    pub(crate) cause: Cause,
}

#[derive(Clone, Copy)]
pub(crate) enum Cause {
    TimedOut,
    Os(Errno),
    Answer(Fault),
}

impl From<Errno> for Cause {
    fn from(errno: Errno) -> Self {
        Self::Os(errno)
    }
}

/// A deadline that the kernel keeps: a descriptor that turns readable when the time is up, watched
/// along with the socket. Nothing re-arms it, and there is no clock to read.
pub(crate) struct Timer(OwnedFd);

impl Timer {
    /// Starts a timer that ends after `duration`.
    pub(crate) fn start(duration: Duration) -> Result<Self, Errno> {
        let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC)?;
        let once = Itimerspec {
            it_interval: Timespec::default(),
            // Zero would never end.
            it_value: timespec(duration.max(Duration::from_nanos(1))),
        };
        timerfd_settime(&timer, TimerfdTimerFlags::empty(), &once)?;
        Ok(Self(timer))
    }

    /// The time that is left: zero once it is up.
    pub(crate) fn left(&self) -> Duration {
        timerfd_gettime(&self.0).map_or(Duration::ZERO, |timer| {
            let Timespec { tv_sec, tv_nsec } = timer.it_value;
            Duration::from_secs(tv_sec as u64) + Duration::from_nanos(tv_nsec as u64)
        })
    }

    /// Waits until `fd` is ready for `events` or has failed.
    fn wait(&self, fd: &OwnedFd, events: PollFlags) -> Result<(), Cause> {
        let mut fds = [PollFd::new(&self.0, PollFlags::IN), PollFd::new(fd, events)];
        match poll(&mut fds, None) {
            Err(Errno::INTR) => {}
            result => drop(result?),
        }
        if fds[0].revents().is_empty() {
            Ok(())
        } else {
            Err(Cause::TimedOut)
        }
    }

    /// Does nothing for `pause`; an error if the time is up before.
    pub(crate) fn pause(&self, pause: Duration) -> Result<(), Cause> {
        let mut fds = [PollFd::new(&self.0, PollFlags::IN)];
        match poll(&mut fds, Some(&timespec(pause))) {
            Ok(0) | Err(Errno::INTR) => Ok(()),
            _ => Err(Cause::TimedOut),
        }
    }
}

fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: duration.as_secs() as i64,
        tv_nsec: duration.subsec_nanos().into(),
    }
}

/// How long to leave a peer alone that is not ready yet.
pub(crate) const PAUSE: Duration = Duration::from_millis(100);

/// Probes once: the status of a healthy answer, or `None` where connecting is all that was asked.
pub(crate) fn attempt(options: &Options<'_>, timer: &Timer) -> Result<Option<u16>, Failure> {
    let failure = |phase| move |cause| Failure { phase, cause };
    let socket = connect_peer(options.target.peer, timer).map_err(failure("connect"))?;
    let Some(path) = options.target.path else {
        return Ok(None);
    };
    let sent = send(&socket, request(options, path).as_bytes(), timer);
    // A peer may answer and close before it has read the request, so the answer counts first.
    let received = receive(&socket, options, timer);
    match (sent, received) {
        (_, Ok(status)) => Ok(Some(status)),
        (Err(cause), Err(Cause::Os(_) | Cause::Answer(Fault::Closed))) => {
            Err(failure("send")(cause))
        }
        (_, Err(cause)) => Err(failure("receive")(cause)),
    }
}

fn connect_peer(peer: Peer<'_>, timer: &Timer) -> Result<OwnedFd, Cause> {
    match peer {
        Peer::Localhost { port } => connect_address(
            SocketAddr::new(Ipv6Addr::LOCALHOST.into(), port).into(),
            timer,
        )
        .or_else(|_| {
            connect_address(
                SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port).into(),
                timer,
            )
        }),
        Peer::Ip { address, .. } => connect_address(address.into(), timer),
        Peer::Unix(path) => connect_address(SocketAddrUnix::new(path)?.into(), timer),
    }
}

fn connect_address(address: SocketAddrAny, timer: &Timer) -> Result<OwnedFd, Cause> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let family: AddressFamily = address.address_family();
    let socket = socket_with(family, SocketType::STREAM, flags, None)?;
    loop {
        // Called again, it tells how the connection that is under way went.
        match connect(&socket, &address) {
            Ok(()) | Err(Errno::ISCONN) => return Ok(socket),
            Err(Errno::INPROGRESS | Errno::ALREADY | Errno::INTR) => {
                timer.wait(&socket, PollFlags::OUT)?;
            }
            // The accept queue of a unix socket is full, and nothing tells when it no longer is.
            Err(Errno::AGAIN) => timer.pause(PAUSE)?,
            Err(errno) => return Err(errno.into()),
        }
    }
}

fn request(options: &Options<'_>, path: &[u8]) -> Text {
    let given = |name: &[u8]| {
        let mut names = options
            .headers()
            .filter_map(|field| field.get(..name.len() + 1));
        names.any(|field| {
            field.ends_with(b":")
                && field
                    .get(..name.len())
                    .is_some_and(|field| field.eq_ignore_ascii_case(name))
        })
    };
    let mut text = Text::new();
    text.push(if options.head { b"HEAD " } else { b"GET " });
    text.push(path).push(b" HTTP/1.1\r\n");
    if !given(b"host") {
        text.push(b"Host: ");
        options.target.host(&mut text);
        text.push(b"\r\n");
    }
    if !given(b"user-agent") {
        text.push(
            concat!(
                "User-Agent: healthcheck/",
                env!("CARGO_PKG_VERSION"),
                "\r\n"
            )
            .as_bytes(),
        );
    }
    if !given(b"connection") {
        text.push(b"Connection: close\r\n");
    }
    for header in options.headers() {
        text.push(header).push(b"\r\n");
    }
    text.push(b"\r\n");
    text
}

fn send(socket: &OwnedFd, mut bytes: &[u8], timer: &Timer) -> Result<(), Cause> {
    while !bytes.is_empty() {
        match io::write(socket, bytes) {
            Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
            Err(Errno::AGAIN | Errno::INTR) => timer.wait(socket, PollFlags::OUT)?,
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

fn receive(socket: &OwnedFd, options: &Options<'_>, timer: &Timer) -> Result<u16, Cause> {
    let mut response = Response::new(options.statuses, options.text);
    let mut buffer = [MaybeUninit::uninit(); 4096];
    loop {
        // Before each read, so that a peer that never pauses is bound by the deadline too.
        timer.wait(socket, PollFlags::IN)?;
        match io::read(socket.as_fd(), &mut buffer) {
            Ok(([], _)) => return Err(Cause::Answer(response.close())),
            Ok((bytes, _)) => {
                if let Some(verdict) = response.push(bytes) {
                    return verdict.map_err(Cause::Answer);
                }
            }
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

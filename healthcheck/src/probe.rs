//! One attempt: connect, send, receive, each no longer than the timer allows.

use core::cell::OnceCell;
use core::ffi::CStr;
use core::mem::{self, MaybeUninit};
use core::net::{IpAddr, SocketAddr};
use core::num::NonZeroU16;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::{self, Errno};
use rustix::net::addr::SocketAddrArg;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use rustix::thread::sched_yield;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_gettime,
    timerfd_settime,
};
use settings::{MAX_UNIX_PATH, parse_host, split, split_at_first};

use crate::Failure;
use crate::options::Options;
use crate::response::{Response, is_named};
use crate::target::{LOCALHOST, Target};
use crate::text::Text;

/// A deadline that the kernel keeps: a descriptor that turns readable when the time is up, watched
/// along with the socket. Nothing re-arms it, and there is no clock to read.
///
/// It starts at the first wait: by then the server is waking up to the connection, and the two system
/// calls overlap with its work.
pub(crate) struct Timer {
    millis: u32,
    started: OnceCell<OwnedFd>,
}

impl Timer {
    /// A timer that ends after so many milliseconds.
    pub(crate) fn new(millis: u32) -> Self {
        Self {
            millis,
            started: OnceCell::new(),
        }
    }

    fn start(&self) -> Result<&OwnedFd, Errno> {
        if let Some(timer) = self.started.get() {
            return Ok(timer);
        }
        let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC)?;
        let once = Itimerspec {
            it_interval: Timespec::default(),
            // A timer of zero is disarmed: it would never end.
            it_value: timespec(self.millis.max(1)),
        };
        timerfd_settime(&timer, TimerfdTimerFlags::empty(), &once)?;
        Ok(self.started.get_or_init(|| timer))
    }

    /// The milliseconds that are left, rounded up: zero once the time is up. Starts the timer if
    /// nothing has; all of its time is left if that fails.
    pub(crate) fn left(&self) -> u32 {
        let timer = self.start().and_then(timerfd_gettime);
        timer.map_or(self.millis, |timer| {
            let Timespec { tv_sec, tv_nsec } = timer.it_value;
            // At most 24 hours, so it fits.
            tv_sec as u32 * 1000 + (tv_nsec as u32).div_ceil(1_000_000)
        })
    }

    /// Waits until `fd` is ready for `events` or has failed, and returns which; none of them if a
    /// signal came. An error if the time is up before.
    fn wait(&self, fd: &OwnedFd, events: PollFlags) -> Result<PollFlags, Errno> {
        self.poll(fd, events, None)
    }

    /// Does nothing for so many milliseconds. An error if the time is up before.
    pub(crate) fn pause(&self, millis: u32) -> Result<PollFlags, Errno> {
        self.poll(self.start()?, PollFlags::empty(), Some(&timespec(millis)))
    }

    fn poll(
        &self,
        fd: &OwnedFd,
        events: PollFlags,
        limit: Option<&Timespec>,
    ) -> Result<PollFlags, Errno> {
        let mut fds = [
            PollFd::new(self.start()?, PollFlags::IN),
            PollFd::new(fd, events),
        ];
        match poll(&mut fds, limit) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
        if fds[0].revents().is_empty() {
            Ok(fds[1].revents())
        } else {
            Err(Errno::TIMEDOUT)
        }
    }
}

fn timespec(millis: u32) -> Timespec {
    Timespec {
        tv_sec: (millis / 1000).into(),
        tv_nsec: (millis % 1000 * 1_000_000).into(),
    }
}

/// Milliseconds to wait before a peer that is not ready is tried again.
pub(crate) const PAUSE: u32 = 100;

/// Probes once: the status of a healthy answer, or `None` for a target that is only connected to.
// Not inlined: 220 bytes less.
#[inline(never)]
pub(crate) fn attempt(options: &Options<'_>, timer: &Timer) -> Result<Option<u16>, Failure> {
    let socket = connect_target(&options.target, timer).map_err(Failure::Connect)?;
    let result = exchange(&socket, options, timer);
    if result.is_ok() {
        // Not dropped: the end of the process closes it.
        mem::forget(socket);
    }
    result
}

fn exchange(
    socket: &OwnedFd,
    options: &Options<'_>,
    timer: &Timer,
) -> Result<Option<u16>, Failure> {
    if options.target.path.is_empty() {
        return Ok(None);
    }
    send(socket, options, timer).map_err(Failure::Send)?;
    receive(socket, options, timer).map(Some)
}

fn connect_target(target: &Target<'_>, timer: &Timer) -> Result<OwnedFd, Errno> {
    if target.port.is_none() {
        let mut bytes = [0; MAX_UNIX_PATH + 1];
        for (slot, byte) in bytes.iter_mut().zip(target.host) {
            *slot = *byte;
        }
        let path = CStr::from_bytes_until_nul(&bytes).unwrap_or_default();
        return connect_address(
            AddressFamily::UNIX,
            &SocketAddrUnix::new(path)?,
            timer,
            None,
        );
    }
    if target.host != LOCALHOST {
        return connect_host(target.host, target.port, timer, None);
    }
    // If packets to `[::1]` vanish, half of the time is left for 127.0.0.1. A server whose accept queue is full
    // looks the same for the first second, so if 127.0.0.1 cannot be connected either, `[::1]` is tried again
    // for the rest of the time.
    let half = timespec(timer.millis / 2);
    let first = connect_host(b"[::1]", target.port, timer, Some(&half));
    let Err(cause) = first else { return first };
    let second = connect_host(b"127.0.0.1", target.port, timer, None);
    if second.is_err() && cause == Errno::TIMEDOUT {
        return connect_host(b"[::1]", target.port, timer, None);
    }
    second
}

/// Connects to a host before the time is up, and within `limit` if there is one.
fn connect_host(
    host: &[u8],
    port: Option<NonZeroU16>,
    timer: &Timer,
    limit: Option<&Timespec>,
) -> Result<OwnedFd, Errno> {
    let ip = parse_host(host).ok_or(Errno::INVAL)?;
    let address = SocketAddr::new(ip, port.map_or(0, NonZeroU16::get));
    let family = match ip {
        IpAddr::V4(_) => AddressFamily::INET,
        IpAddr::V6(_) => AddressFamily::INET6,
    };
    connect_address(family, &address, timer, limit)
}

fn connect_address(
    family: AddressFamily,
    address: &impl SocketAddrArg,
    timer: &Timer,
    limit: Option<&Timespec>,
) -> Result<OwnedFd, Errno> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = socket_with(family, SocketType::STREAM, flags, None)?;
    loop {
        // A second call returns why the connection that was under way failed.
        match connect(&socket, address) {
            Ok(()) | Err(Errno::ISCONN) => return Ok(socket),
            Err(Errno::INPROGRESS | Errno::ALREADY | Errno::INTR) => {
                let ready = timer.poll(&socket, PollFlags::OUT, limit)?;
                if ready == PollFlags::OUT {
                    return Ok(socket);
                }
                if ready.is_empty() && limit.is_some() {
                    return Err(Errno::TIMEDOUT);
                }
            }
            // The accept queue of a unix socket is full, and no event says when it has room again.
            Err(Errno::AGAIN) => {
                timer.pause(PAUSE)?;
            }
            Err(errno) => return Err(errno),
        }
    }
}

fn request(text: &mut Text<'_>, options: &Options<'_>) {
    let is_given = |name: &[u8]| {
        split(options.headers, b'\n').any(|header| {
            split_at_first(header, b':').is_some_and(|(given, _)| is_named(given, name))
        })
    };
    text.push(if options.head { b"HEAD " } else { b"GET " });
    text.push(options.target.path);
    text.push(b" HTTP/1.1\r\n");
    if !is_given(b"host") {
        text.push(b"Host: ");
        options.target.push_host(text);
        text.push(b"\r\n");
    }
    if !is_given(b"user-agent") {
        text.push(USER_AGENT);
    }
    if !is_given(b"connection") {
        text.push(b"Connection: close\r\n");
    }
    text.push(options.headers);
    text.push(b"\r\n");
}

const USER_AGENT: &[u8] = concat!(
    "User-Agent: healthcheck/",
    env!("CARGO_PKG_VERSION"),
    "\r\n"
)
.as_bytes();

/// Room for the longest path and the most headers that are accepted.
const MAX_REQUEST: usize = 3584;

fn send(socket: &OwnedFd, options: &Options<'_>, timer: &Timer) -> Result<(), Errno> {
    let mut buffer = [0; MAX_REQUEST];
    let mut text = Text::new(&mut buffer);
    request(&mut text, options);
    let mut bytes = text.as_bytes();
    while !bytes.is_empty() {
        match io::write(socket, bytes) {
            Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
            Err(Errno::AGAIN | Errno::INTR) => {
                timer.wait(socket, PollFlags::OUT)?;
            }
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// How often to look for an answer before sleeping until it comes: for about 65 us where no other process
/// wants the processor. A healthy server is on the same machine and most often needs less, and a sleep
/// with its wake-up costs 30 us.
const LOOKS: u32 = 60;

fn receive(socket: &OwnedFd, options: &Options<'_>, timer: &Timer) -> Result<u16, Failure> {
    let mut response = Response::new(options.statuses, options.text);
    let mut buffer = [MaybeUninit::uninit(); 2048];
    let mut looks = 0..LOOKS;
    loop {
        let no_wait = looks.next().map(|_| {
            // The server may have no processor but this one.
            sched_yield();
            Timespec::default()
        });
        // Before each read, so that a peer that never pauses is bound by the deadline too.
        let ready = timer
            .poll(socket, PollFlags::IN, no_wait.as_ref())
            .map_err(Failure::Receive)?;
        if ready.is_empty() {
            continue;
        }
        match io::read(socket.as_fd(), &mut buffer) {
            Ok(([], _)) => return Err(response.close()),
            Ok((bytes, _)) => {
                if let Some(verdict) = response.push(bytes) {
                    return verdict;
                }
            }
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(errno) => return Err(Failure::Receive(errno)),
        }
    }
}

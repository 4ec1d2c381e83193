//! A probe to run, and peers for it to meet.

#![allow(dead_code, reason = "each test file uses a part")]

pub mod checks;
pub mod peers;

use std::env;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream, ToSocketAddrs};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fd::OwnedFd;
use rustix::net::{AddressFamily, SocketType, bind, getsockname, listen, socket};

/// How long anything may take that should be immediate, on a machine that is busy.
pub const MARGIN: Duration = Duration::from_secs(2);

/// A deadline that a test waits for.
pub const TIMEOUT: Duration = Duration::from_millis(300);

/// The probe, with none of the variables that it reads.
///
/// `HEALTHCHECK_BIN` is another build of it to test, such as the one in an image.
pub fn command() -> Command {
    let built = env!("CARGO_BIN_EXE_healthcheck").into();
    let mut command = Command::new(env::var_os("HEALTHCHECK_BIN").unwrap_or(built));
    for variable in ["LISTEN", "PORT", "HEALTHCHECK_TIMEOUT"] {
        command.env_remove(variable);
    }
    command.stdin(Stdio::null());
    command
}

/// Runs the probe with `arguments`.
pub fn probe<const N: usize>(arguments: [&str; N]) -> Run {
    Running::start(command().args(arguments)).finish()
}

/// Runs the probe with `variables` and `arguments`.
pub fn probe_with<const N: usize>(variables: &[(&str, &str)], arguments: [&str; N]) -> Run {
    Running::start(command().envs(variables.iter().copied()).args(arguments)).finish()
}

/// A probe under way; killed when it is dropped.
pub struct Running {
    child: Child,
    started: Instant,
    output: Receiver<String>,
    pub errors: Receiver<String>,
}

impl Running {
    pub fn start(command: &mut Command) -> Self {
        let started = Instant::now();
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the probe is built");
        let output = lines(child.stdout.take().expect("it is piped"));
        let errors = lines(child.stderr.take().expect("it is piped"));
        Self {
            child,
            started,
            output,
            errors,
        }
    }

    pub fn finish(mut self) -> Run {
        let output = rest(&self.output);
        let errors = rest(&self.errors);
        let elapsed = self.started.elapsed();
        let status = self.child.wait().expect("it is a child");
        Run {
            status,
            output,
            errors,
            elapsed,
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // An error means that it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a stream brings, in pieces as they arrive, until it ends.
fn lines(mut stream: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = stream.read(&mut buffer) {
            let text = String::from_utf8_lossy(&buffer[..count]).into_owned();
            if sender.send(text).is_err() {
                break;
            }
        }
    });
    receiver
}

fn rest(pieces: &Receiver<String>) -> String {
    let deadline = Instant::now() + Duration::from_secs(20);
    let mut text = String::new();
    loop {
        match pieces.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(piece) => text.push_str(&piece),
            Err(mpsc::RecvTimeoutError::Disconnected) => return text,
            Err(mpsc::RecvTimeoutError::Timeout) => panic!("the probe does not end: {text}"),
        }
    }
}

/// What a probe did.
#[derive(Debug)]
pub struct Run {
    pub status: ExitStatus,
    pub output: String,
    pub errors: String,
    pub elapsed: Duration,
}

impl Run {
    /// Healthy: silent, and long before any deadline.
    #[track_caller]
    pub fn assert_healthy(&self) {
        assert_eq!(self.status.code(), Some(0), "{self:?}");
        assert_eq!((self.output.as_str(), self.errors.as_str()), ("", ""));
        assert!(self.elapsed < MARGIN, "{self:?}");
    }

    /// Unhealthy: one line, `healthcheck: TARGET: CAUSE (N ms)`, long before any deadline; after more
    /// than one attempt `(N ms, M attempts)`.
    #[track_caller]
    pub fn assert_unhealthy(&self, target: &str, cause: &str) {
        self.assert_reports(target, cause);
        assert!(self.elapsed < MARGIN, "{self:?}");
    }

    /// Unhealthy with one line, after `limit` and not long after.
    #[track_caller]
    pub fn assert_unhealthy_after(&self, limit: Duration, target: &str, cause: &str) {
        self.assert_waited(limit, target, cause);
        assert!(self.elapsed >= limit, "{self:?}");
        assert!(self.elapsed < limit + MARGIN, "{self:?}");
    }

    /// Unhealthy with one line, which says that `limit` is over.
    #[track_caller]
    pub fn assert_waited(&self, limit: Duration, target: &str, cause: &str) {
        let elapsed = self.assert_reports(target, cause);
        // The line counts whole milliseconds.
        assert!(elapsed + Duration::from_millis(1) >= limit, "{self:?}");
    }

    #[track_caller]
    fn assert_reports(&self, target: &str, cause: &str) -> Duration {
        assert_eq!(self.status.code(), Some(1), "{self:?}");
        assert_eq!(self.output, "");
        assert!(self.errors.len() < 200, "{self:?}");
        let elapsed = self
            .errors
            .strip_prefix(&format!("healthcheck: {target}: {cause} ("))
            .and_then(|rest| rest.strip_suffix(")\n"))
            .and_then(|rest| match rest.split_once(", ") {
                Some((rest, attempts)) => attempts.strip_suffix(" attempts").map(|_| rest),
                None => Some(rest),
            })
            .and_then(|rest| rest.strip_suffix(" ms")?.parse().ok());
        let elapsed = elapsed.unwrap_or_else(|| panic!("not {target}: {cause}: {self:?}"));
        Duration::from_millis(elapsed)
    }

    /// Refused to probe at all, with one line.
    #[track_caller]
    pub fn assert_invalid(&self, line: &str) {
        assert_eq!(self.status.code(), Some(1), "{self:?}");
        assert_eq!(self.output, "");
        assert_eq!(self.errors, format!("healthcheck: {line}\n"));
        assert!(self.errors.len() < 200, "{self:?}");
    }
}

/// A peer on TCP, which meets each connection in a thread of its own.
pub struct Peer {
    pub address: SocketAddr,
    /// The heads of the requests that have been read.
    pub requests: Receiver<String>,
}

impl Peer {
    /// `meet` is given each connection before anything is read from it.
    pub fn new(meet: impl Fn(TcpStream) + Send + Sync + 'static) -> Self {
        Self::on("127.0.0.1:0", move |stream, _| meet(stream))
    }

    /// `answer` is given each connection when the head of its request has been read.
    pub fn answering(answer: impl Fn(TcpStream) + Send + Sync + 'static) -> Self {
        Self::answering_on("127.0.0.1:0", move |_, stream| answer(stream))
    }

    /// A peer at `address` that is like [`Peer::answering`]; `answer` is given the head as well.
    pub fn answering_on(
        address: impl ToSocketAddrs,
        answer: impl Fn(&str, TcpStream) + Send + Sync + 'static,
    ) -> Self {
        Self::on(address, move |mut stream, requests| {
            let head = read_head(&mut stream);
            let _ = requests.send(head.clone());
            answer(&head, stream);
        })
    }

    /// A peer that answers `response` and keeps the connection open until the probe closes it.
    pub fn saying(response: &(impl AsRef<[u8]> + ?Sized)) -> Self {
        let response = response.as_ref().to_vec();
        Self::answering(move |stream| say(stream, &response))
    }

    fn on(
        address: impl ToSocketAddrs,
        meet: impl Fn(TcpStream, Sender<String>) + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(address).expect("there is a free port");
        let address = listener.local_addr().expect("it is bound");
        let (sender, requests) = mpsc::channel();
        meet_all(
            move || Ok(listener.accept()?.0),
            move |stream| meet(stream, sender.clone()),
        );
        Self { address, requests }
    }

    /// Its URL, without a path.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The head of the next request.
    pub fn head(&self) -> String {
        next_head(&self.requests)
    }
}

/// A peer on the unix socket `path` that is like [`Peer::answering_on`], and the heads of the requests
/// that it has read.
pub fn answer_unix(
    path: impl AsRef<Path>,
    answer: impl Fn(&str, UnixStream) + Send + Sync + 'static,
) -> Receiver<String> {
    let listener = UnixListener::bind(path).expect("the directory can be written to");
    let (sender, requests) = mpsc::channel();
    meet_all(
        move || Ok(listener.accept()?.0),
        move |mut stream| {
            let head = read_head(&mut stream);
            let _ = sender.send(head.clone());
            answer(&head, stream);
        },
    );
    requests
}

/// Meets every connection that `accept` brings, each in a thread of its own.
fn meet_all<T: Send + 'static>(
    mut accept: impl FnMut() -> io::Result<T> + Send + 'static,
    meet: impl Fn(T) + Send + Sync + 'static,
) {
    let meet = Arc::new(meet);
    thread::spawn(move || {
        while let Ok(connection) = accept() {
            let meet = meet.clone();
            thread::spawn(move || meet(connection));
        }
    });
}

/// The head of the next request.
pub fn next_head(requests: &Receiver<String>) -> String {
    requests
        .recv_timeout(Duration::from_secs(20))
        .expect("there was a request")
}

/// A port that is taken, and that nothing listens on.
pub struct SilentPort {
    _socket: OwnedFd,
    pub number: u16,
}

impl SilentPort {
    pub fn new() -> Self {
        let socket = socket(AddressFamily::INET, SocketType::STREAM, None).expect("there is IPv4");
        bind(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0)).expect("there is a free port");
        let address = getsockname(&socket).expect("it is bound");
        let number = SocketAddrV4::try_from(address).expect("it is IPv4").port();
        Self {
            _socket: socket,
            number,
        }
    }
}

/// A listener whose accept queue is full: the kernel drops the first packet of a connection that does not
/// fit in the queue, so to a client it is as if packets vanish.
pub struct FullQueue {
    _listener: OwnedFd,
    _queued: TcpStream,
    pub address: SocketAddr,
}

impl FullQueue {
    /// Listens at `address`, on a port that the kernel chooses.
    pub fn new(address: IpAddr) -> Self {
        let family = match address {
            IpAddr::V4(_) => AddressFamily::INET,
            IpAddr::V6(_) => AddressFamily::INET6,
        };
        let listener = socket(family, SocketType::STREAM, None).expect("there is this family");
        bind(&listener, &SocketAddr::new(address, 0)).expect("there is a free port");
        listen(&listener, 0).expect("it is bound");
        let address = getsockname(&listener).expect("it is bound");
        let address = SocketAddr::try_from(address).expect("it is TCP");
        let queued = TcpStream::connect(address).expect("the queue has room for one");
        Self {
            _listener: listener,
            _queued: queued,
            address,
        }
    }
}

/// Whether there is an IPv6 loopback.
pub fn has_ipv6() -> bool {
    TcpListener::bind("[::1]:0").is_ok()
}

/// Reads up to the end of a request's head.
pub fn read_head(stream: &mut impl Read) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && matches!(stream.read(&mut byte), Ok(1)) {
        head.push(byte[0]);
    }
    String::from_utf8(head).expect("the head is ASCII")
}

/// Says `response`, and waits for the other side to close.
pub fn say(mut stream: impl Read + Write, response: &[u8]) {
    // An error means that the probe has made up its mind.
    let _ = stream.write_all(response);
    let _ = io::copy(&mut stream, &mut io::sink());
}

/// Says `response` a byte at a time, forever if it is endless, until the other side closes.
pub fn drip(mut stream: impl Write, response: impl IntoIterator<Item = u8>) {
    for byte in response {
        if stream.write_all(&[byte]).is_err() {
            return;
        }
        thread::sleep(Duration::from_millis(10));
    }
}

//! The server as a process, and a client that says exactly what it is told to.

// Each test binary uses its own part of this.
#![allow(dead_code)]

pub mod docker;
pub mod elf;

use std::env;
use std::fs;
use std::io::{self, BufRead, BufReader, Cursor, ErrorKind, Read, Write};
use std::mem;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use socket2::SockRef;

/// How long anything may take that should happen at all. A bound, never a measure.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A request that every service answers with 200, without reading a body.
pub const GET: &str = "GET /livez HTTP/1.1\r\nHost: test\r\n\r\n";

/// Every promise holds with one worker as with several.
pub fn with_each_number_of_workers(test: impl Fn(&str)) {
    for workers in ["1", "4"] {
        test(workers);
    }
}

/// Waits until `condition` holds, which `what` says in words.
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "never: {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// The variables that the service cannot start without, beside those of the skeleton: each test sets
/// them.
pub const SERVICE_ENVIRONMENT: &[(&str, &str)] = &[];

/// The server that is tested: the one that cargo built, or that `SERVER_BIN` names, such as the
/// one out of the image.
pub fn server_binary() -> PathBuf {
    env::var_os("SERVER_BIN").map_or_else(|| env!("CARGO_BIN_EXE_server").into(), PathBuf::from)
}

/// An example, as it was last built.
pub fn example(name: &str) -> PathBuf {
    let test = env::current_exe().expect("this test has a path");
    let profile = test.ancestors().nth(2).expect("cargo's directories");
    let example = profile.join("examples").join(name);
    assert!(example.exists(), "cargo build --example {name}");
    example
}

/// Limits a process to so many descriptors, whatever it has open by now.
pub fn limit_descriptors(pid: u32, number: u32) {
    let status = Command::new("prlimit")
        .arg(format!("--pid={pid}"))
        .arg(format!("--nofile={number}:{number}"))
        .status();
    assert!(status.expect("prlimit(1) runs").success());
}

/// A process, killed on drop.
pub struct Process(pub Child);

impl Process {
    pub fn spawn(mut command: Command) -> Self {
        Self(command.spawn().expect("the program starts"))
    }

    /// Runs a program to its end; returns its exit code, its stdout and its stderr. These are read at the
    /// end, so neither may be more than a pipe holds.
    pub fn run(mut command: Command) -> (Option<i32>, String, String) {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = Self::spawn(command);
        let status = process.exit();
        let (stdout, stderr) = (process.0.stdout.take(), process.0.stderr.take());
        let stdout = io::read_to_string(stdout.expect("stdout is piped")).expect("text");
        let stderr = io::read_to_string(stderr.expect("stderr is piped")).expect("text");
        (status.code(), stdout, stderr)
    }

    pub fn pid(&self) -> u32 {
        self.0.id()
    }

    /// Sends the signal of this name, such as `TERM`.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill")
            .args([format!("-{name}"), self.pid().to_string()])
            .status();
        assert!(status.expect("kill(1) runs").success());
    }

    /// Waits for the process to end.
    pub fn exit(&mut self) -> ExitStatus {
        let mut status = None;
        wait_until("the process ends", || {
            status = self.0.try_wait().expect("the child can be waited for");
            status.is_some()
        });
        status.expect("the process has ended")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// How the log line begins that says where a server listens.
const STARTING: &str = "Starting server on ";

/// A server process, killed on drop.
pub struct Server {
    process: Process,
    lines: Receiver<String>,
    /// What was logged after the line that says where it listens, up to the line that was waited for.
    start: String,
    stderr: Option<ChildStderr>,
    pub address: SocketAddr,
    /// The unix socket that it listens on instead of the address.
    path: Option<PathBuf>,
}

impl Server {
    /// Starts a server on a free port of the loopback interface and waits until it serves.
    pub fn start(variables: &[(&str, &str)]) -> Self {
        let mut command = Self::command();
        command
            .env("LISTEN", "127.0.0.1:0")
            .envs(variables.iter().copied());
        Self::spawn(command)
    }

    /// The command, with nothing in its environment but what the service needs.
    pub fn command() -> Command {
        let mut command = Command::new(server_binary());
        command
            .env_clear()
            .envs(SERVICE_ENVIRONMENT.iter().copied());
        command
    }

    /// The command, run by a shell after `setup`, such as `ulimit -n 64`.
    pub fn command_after(setup: &str) -> Command {
        // Without the descriptors that this process was given: a limit counts them.
        let clean = r#"for path in /proc/self/fd/*; do
            fd=${path##*/}; [ "$fd" -le 2 ] || exec {fd}>&-
        done"#;
        let mut command = Command::new("bash");
        command
            .args(["-c", &format!("{clean}; {setup}; exec \"$0\"")])
            .arg(server_binary())
            .env_clear()
            .envs(SERVICE_ENVIRONMENT.iter().copied());
        command
    }

    /// Starts `command`, waits until it serves, and reads all that it logs.
    pub fn spawn(command: Command) -> Self {
        Self::spawn_until("Ready: ", command).read()
    }

    /// Starts `command`, waits until it listens, and reads all that it logs. Its service may still be
    /// in the making.
    pub fn spawn_starting(command: Command) -> Self {
        Self::spawn_until(STARTING, command).read()
    }

    /// Starts `command`, waits until it serves, and leaves the rest of its log in the pipe.
    pub fn spawn_unread(command: Command) -> Self {
        Self::spawn_until("Ready: ", command)
    }

    fn read(mut self) -> Self {
        let start = Cursor::new(mem::take(&mut self.start));
        self.lines = read_lines(start.chain(self.stderr()));
        self
    }

    /// Starts `command` and waits for the line that begins with `last`.
    fn spawn_until(last: &'static str, mut command: Command) -> Self {
        command.stderr(Stdio::piped());
        let mut server = Self {
            process: Process::spawn(command),
            lines: channel().1,
            start: String::new(),
            stderr: None,
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            path: None,
        };
        let mut stderr = server.process.0.stderr.take().expect("stderr is piped");
        let (sender, started) = channel();
        // In a thread, as a read from a pipe has no deadline.
        thread::spawn(move || {
            let mut start = String::new();
            loop {
                let line = read_line(&mut stderr);
                start.push_str(&line);
                start.push('\n');
                if line.starts_with(last) {
                    break;
                }
            }
            let _ = sender.send((start, stderr));
        });
        let started = started.recv_timeout(PATIENCE);
        let (start, stderr) = started.expect("the server says that it starts");
        let mut lines = start.lines();
        let endpoint = lines.find_map(|line| line.strip_prefix(STARTING));
        let endpoint = endpoint.expect("the server says where it listens");
        if let Some((_, bound)) = endpoint.rsplit_once('(') {
            let bound: SocketAddr = bound.trim_end_matches(')').parse().expect("an address");
            server.address.set_port(bound.port());
        }
        server.path = endpoint.strip_prefix("unix:").map(PathBuf::from);
        // What follows the line that says where it listens.
        server.start = lines.map(|line| format!("{line}\n")).collect();
        server.stderr = Some(stderr);
        server
    }

    /// The rest of the log, which nothing has read yet.
    pub fn stderr(&mut self) -> ChildStderr {
        self.stderr.take().expect("nobody reads stderr yet")
    }

    /// Waits for a log line that contains `part`, and gives it back.
    pub fn line(&mut self, part: &str) -> String {
        wait_for_line(&self.lines, part)
    }

    /// The log lines from here to the end of the process.
    pub fn remaining_lines(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) => lines.push(line),
                Err(RecvTimeoutError::Disconnected) => return lines,
                Err(RecvTimeoutError::Timeout) => panic!("stderr is still open"),
            }
        }
    }

    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Sends the signal of this name, such as `TERM`.
    pub fn signal(&self, name: &str) {
        self.process.signal(name);
    }

    /// Sends SIGTERM and waits until the server has taken it.
    pub fn terminate(&mut self) {
        self.signal("TERM");
        self.line("Shutdown signal received");
    }

    /// Waits for the process to end.
    pub fn exit(&mut self) -> ExitStatus {
        self.process.exit()
    }

    /// Stops the process, so that what clients do next reaches the kernel and not the server.
    pub fn freeze(&self) {
        self.signal("STOP");
        wait_until("every thread of the server is stopped", || {
            self.all_threads_are('T')
        });
    }

    /// Lets a frozen process go on.
    pub fn thaw(&self) {
        self.signal("CONT");
    }

    /// How many threads the process has.
    pub fn threads(&self) -> usize {
        self.thread_directories().count()
    }

    /// Whether the server waits for something to happen.
    pub fn is_asleep(&self) -> bool {
        self.all_threads_are('S')
    }

    /// Whether every thread of the process is in this state, as proc(5) writes it.
    fn all_threads_are(&self, state: char) -> bool {
        self.thread_directories().all(|thread| {
            // One that has ended in between is in no state at all.
            fs::read_to_string(thread.join("stat")).is_ok_and(|stat| {
                let fields = stat.rsplit(") ").next().expect("a state");
                fields.starts_with(state)
            })
        })
    }

    /// What proc(5) has of each thread.
    fn thread_directories(&self) -> impl Iterator<Item = PathBuf> {
        let threads = fs::read_dir(format!("/proc/{}/task", self.pid())).expect("the process");
        threads.map_while(Result::ok).map(|thread| thread.path())
    }

    /// Connects a client that reads no answer, and sends requests until the server takes no more. The last
    /// request may have been sent in part.
    ///
    /// This takes no time on a unix socket, and a second or more on TCP: over loopback the kernel holds
    /// megabytes of answers.
    pub fn stall(&self) -> Stalled {
        let mut client = self.connect();
        // Otherwise there would be megabytes more to send and to answer.
        let socket = SockRef::from(&client.0);
        let limited = socket
            .set_recv_buffer_size(65_536)
            .and_then(|()| socket.set_send_buffer_size(65_536));
        limited.expect("buffers can be limited");
        let requests = GET.repeat(100);
        let mut sent = 0;
        client
            .0
            .set_nonblocking(true)
            .expect("sockets can be nonblocking");
        wait_until("the server waits for the client to read", || {
            let before = sent;
            loop {
                match client
                    .0
                    .write(&requests.as_bytes()[sent % requests.len()..])
                {
                    Ok(length) => sent += length,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) => panic!("{error}"),
                }
            }
            if sent > before {
                return false;
            }
            // If the server is woken for something else, and sleeps again without having read what waits
            // for it, it has no room for an answer.
            let not_taken = || sys::unsent(&client.0).expect("a socket has a queue");
            let left = not_taken();
            self.get("/livez");
            wait_until("the server sleeps", || self.is_asleep());
            left > 0 && not_taken() == left
        });
        client
            .0
            .set_nonblocking(false)
            .expect("sockets can be blocking");
        Stalled { client, sent }
    }

    /// The connections that nobody has accepted.
    pub fn accept_queue(&self) -> u32 {
        let port = format!(":{:04X}", self.address.port());
        let sockets = fs::read_to_string("/proc/net/tcp").expect("the kernel's table");
        let queues = sockets.lines().find_map(|line| {
            let fields: Vec<_> = line.split_whitespace().collect();
            let is_listener = fields[1].ends_with(&port) && fields[2].ends_with(":0000");
            is_listener.then(|| fields[4].to_owned())
        });
        let queues = queues.expect("the server listens");
        let (_, queue) = queues.split_once(':').expect("two queues");
        u32::from_str_radix(queue, 16).expect("a number")
    }

    pub fn connect(&self) -> Client {
        match &self.path {
            Some(path) => Client::connect_unix(path),
            None => Client::connect(self.address),
        }
    }

    /// One request on a connection of its own.
    pub fn get(&self, path: &str) -> Response {
        self.connect()
            .request(&format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n"))
    }
}

/// A client that stalls the server, see [`Server::stall`].
pub struct Stalled {
    pub client: Client,
    sent: usize,
}

impl Stalled {
    /// The requests that were sent, the last of them perhaps in part.
    pub fn requests(&self) -> usize {
        self.sent.div_ceil(GET.len())
    }

    /// What is missing of the last request.
    pub fn rest(&self) -> &'static str {
        &GET[(self.sent + GET.len() - 1) % GET.len() + 1..]
    }
}

/// A path for a socket in a directory of its own, removed on drop.
pub struct SocketPath(pub PathBuf);

impl SocketPath {
    pub fn new(test: &str) -> Self {
        let name = format!("scratch-server-{test}-{}", std::process::id());
        let directory = env::temp_dir().join(name);
        fs::create_dir_all(&directory).expect("a directory for the socket");
        Self(directory.join("server.sock"))
    }

    /// What `LISTEN` says for it.
    pub fn listen(&self) -> String {
        format!("unix:{}", self.0.display())
    }

    /// Waits until a server answers, which it does after the last line of its start.
    pub fn wait_until_served(&self) {
        wait_until("the server listens", || {
            UnixStream::connect(&self.0).is_ok()
        });
        assert_eq!(Client::connect_unix(&self.0).request(GET).status, 200);
    }
}

impl Drop for SocketPath {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(self.0.parent().expect("a directory"));
    }
}

/// Reads the lines of a stream in a thread, as a read from a pipe has no deadline.
pub fn read_lines(stream: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, lines) = channel();
    thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            let _ = sender.send(line);
        }
    });
    lines
}

/// Waits for a line that contains `part`, and gives it back.
pub fn wait_for_line(lines: &Receiver<String>, part: &str) -> String {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(line) if line.contains(part) => return line,
            Ok(_) => {}
            Err(error) => panic!("no line with {part:?}: {error}"),
        }
    }
}

/// Reads one line and nothing behind it.
fn read_line(stream: &mut impl Read) -> String {
    let mut line = Vec::new();
    let mut byte = [0];
    while stream.read(&mut byte).expect("the stream can be read") == 1 && byte != *b"\n" {
        line.push(byte[0]);
    }
    assert_eq!(
        byte,
        *b"\n",
        "the stream ended: {:?}",
        String::from_utf8_lossy(&line)
    );
    String::from_utf8(line).expect("text")
}

/// A connection whose reads and writes all have a bound.
pub struct Client(pub TcpStream);

/// A response, as it came.
#[derive(Debug)]
pub struct Response {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Response {
    /// The value of a field, if there is exactly one of this name.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.head.lines().skip(1).filter_map(|line| {
            let (field, value) = line.split_once(':')?;
            field.eq_ignore_ascii_case(name).then(|| value.trim())
        });
        values.next().filter(|_| values.next().is_none())
    }

    pub fn closes(&self) -> bool {
        self.header("connection") == Some("close")
    }

    /// RFC 9110 section 6.6.1: now, in the one format that is to be generated (section 5.6.7).
    pub fn assert_date(&self) {
        let date = self.header("date").expect("one date");
        let time = httpdate::parse_http_date(date).expect("a date");
        assert_eq!(httpdate::fmt_http_date(time), date);
        let age = SystemTime::now().duration_since(time).expect("the past");
        assert!(age < PATIENCE, "{date}");
    }
}

impl Client {
    pub fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect_timeout(&address, PATIENCE).expect("the server accepts");
        stream.set_nodelay(true).expect("TCP_NODELAY can be set");
        Self::bounded(stream)
    }

    /// Connects to a unix socket. Reads and writes are the same calls in either family, so one type
    /// of stream does for both.
    pub fn connect_unix(path: &Path) -> Self {
        let stream = UnixStream::connect(path).expect("the server accepts");
        Self::bounded(OwnedFd::from(stream).into())
    }

    /// A client whose reads and writes on `stream` all have a bound.
    pub fn bounded(stream: TcpStream) -> Self {
        stream
            .set_read_timeout(Some(PATIENCE))
            .expect("a timeout can be set");
        stream
            .set_write_timeout(Some(PATIENCE))
            .expect("a timeout can be set");
        Self(stream)
    }

    /// The same connection, for another thread.
    pub fn second_handle(&self) -> Self {
        Self(self.0.try_clone().expect("a descriptor is free"))
    }

    /// Ends the client's side of the stream; it can still read.
    pub fn half_close(&self) {
        self.0.shutdown(Shutdown::Write).expect("a half-close");
    }

    /// Closes so that the server's side is reset. On a unix socket that happens only if there is an answer
    /// that was not read.
    pub fn reset(self) {
        let linger = SockRef::from(&self.0).set_linger(Some(Duration::ZERO));
        linger.expect("SO_LINGER can be set");
    }

    /// Waits until there is something to read, and leaves it there.
    pub fn wait_until_readable(&self) {
        // A read with a timeout is not restarted after a signal (signal(7)).
        while let Err(error) = self.0.peek(&mut [0]) {
            assert_eq!(error.kind(), ErrorKind::Interrupted, "nothing to read");
        }
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.0
            .write_all(bytes.as_ref())
            .expect("the server takes the bytes");
    }

    /// Sends a request and reads the response.
    pub fn request(&mut self, request: &str) -> Response {
        self.send(request);
        if request.starts_with("HEAD ") {
            self.head_response()
        } else {
            self.response()
        }
    }

    /// Reads a response to `GET`.
    pub fn response(&mut self) -> Response {
        let mut response = self.head_response();
        let length = response
            .header("content-length")
            .map_or(0, |length| length.parse().unwrap());
        response.body = String::from_utf8(self.read_exact(length)).expect("a body of text");
        response
    }

    /// Reads so many bytes of a body.
    pub fn read_exact(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.0.read_exact(&mut bytes).expect("a whole body");
        bytes
    }

    /// Reads the head of a response, and no body, whatever length the head says.
    pub fn head_response(&mut self) -> Response {
        let head = self.read_until("\r\n\r\n");
        let status = head
            .get(9..12)
            .and_then(|status| status.parse().ok())
            .expect("a status");
        Response {
            status,
            head,
            body: String::new(),
        }
    }

    /// Reads up to `end` and nothing behind it.
    pub fn read_until(&mut self, end: &str) -> String {
        let mut bytes = Vec::new();
        while !bytes.ends_with(end.as_bytes()) {
            let mut byte = [0];
            if let Err(error) = self.0.read_exact(&mut byte) {
                panic!("{error} after {:?}", String::from_utf8_lossy(&bytes));
            }
            bytes.push(byte[0]);
        }
        String::from_utf8(bytes).expect("text")
    }

    /// Reads what is left until the server closes.
    pub fn read_to_end(&mut self) -> io::Result<Vec<u8>> {
        let mut rest = Vec::new();
        self.0.read_to_end(&mut rest)?;
        Ok(rest)
    }

    /// Whether the server has closed, as far as the kernel knows by now.
    pub fn is_closed(&self) -> bool {
        matches!(self.peek(), Ok(0))
    }

    /// Whether the server has neither answered nor closed, as far as the kernel knows by now.
    pub fn waits(&self) -> bool {
        matches!(self.peek(), Err(error) if error.kind() == ErrorKind::WouldBlock)
    }

    fn peek(&self) -> io::Result<usize> {
        self.0
            .set_nonblocking(true)
            .expect("sockets can be nonblocking");
        let peeked = self.0.peek(&mut [0]);
        self.0
            .set_nonblocking(false)
            .expect("sockets can be blocking");
        peeked
    }

    /// Waits for an orderly close, with nothing before it.
    pub fn assert_closed(&mut self) {
        let rest = self.read_to_end().expect("an orderly close");
        assert_eq!(String::from_utf8_lossy(&rest), "");
    }
}

//! The server as a process, and a client that says exactly what it is told to.

// Each test binary uses its own part of this.
#![allow(dead_code)]

pub mod docker;
pub mod elf;

use std::env;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

/// How long anything may take that should happen at all. A bound, never a measure.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// The server that is tested: the one that cargo built, or that `SERVER_BIN` names, such as the
/// one out of the image.
pub fn server_binary() -> PathBuf {
    env::var_os("SERVER_BIN").map_or_else(|| env!("CARGO_BIN_EXE_server").into(), PathBuf::from)
}

/// A server process, killed on drop.
pub struct Server {
    child: Child,
    lines: Receiver<String>,
    stderr: Option<ChildStderr>,
    pub address: SocketAddr,
}

impl Server {
    /// Starts a server on a free port of the loopback interface and waits until it listens.
    pub fn start(variables: &[(&str, &str)]) -> Self {
        let mut command = Self::command();
        command
            .env("LISTEN", "127.0.0.1:0")
            .envs(variables.iter().copied());
        Self::spawn(command)
    }

    /// The command, with nothing in its environment.
    pub fn command() -> Command {
        let mut command = Command::new(server_binary());
        command.env_clear();
        command
    }

    /// Starts `command`, waits until it listens, and reads all that it logs.
    pub fn spawn(command: Command) -> Self {
        let mut server = Self::spawn_unread(command);
        let stderr = BufReader::new(server.stderr());
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        server.lines = lines;
        server
    }

    /// Starts `command`, waits until it listens, and leaves the rest of its log in the pipe.
    pub fn spawn_unread(mut command: Command) -> Self {
        let mut child = command
            .stderr(Stdio::piped())
            .spawn()
            .expect("the server starts");
        let mut stderr = child.stderr.take().expect("stderr is piped");
        let start = loop {
            let line = read_line(&mut stderr);
            if line.starts_with("Starting server on ") {
                break line;
            }
        };
        let mut address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        if let Some((_, bound)) = start.rsplit_once('(') {
            let bound: SocketAddr = bound.trim_end_matches(')').parse().expect("an address");
            address.set_port(bound.port());
        }
        Self {
            child,
            lines: channel().1,
            stderr: Some(stderr),
            address,
        }
    }

    /// What was not read of the log.
    pub fn stderr(&mut self) -> ChildStderr {
        self.stderr.take().expect("nobody reads stderr yet")
    }

    /// Waits for a log line that contains `part`, and gives it back.
    pub fn line(&mut self, part: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self
                .lines
                .recv_timeout(deadline.saturating_duration_since(Instant::now()))
            {
                Ok(line) if line.contains(part) => return line,
                Ok(_) => {}
                Err(error) => panic!("no log line with {part:?}: {error}"),
            }
        }
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
        self.child.id()
    }

    /// Sends the signal of this name, such as `TERM`.
    pub fn signal(&self, name: &str) {
        kill(name, self.pid());
    }

    /// Sends SIGTERM and waits until the server has taken it.
    pub fn terminate(&mut self) {
        self.signal("TERM");
        self.line("Shutdown signal received");
    }

    /// Waits for the process to end.
    pub fn exit(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().expect("the child can be waited for") {
                return status;
            }
            assert!(Instant::now() < deadline, "the server does not exit");
            thread::sleep(Duration::from_millis(1));
        }
    }

    pub fn connect(&self) -> Client {
        Client::connect(self.address)
    }

    /// One request on a connection of its own.
    pub fn get(&self, path: &str) -> Response {
        self.connect()
            .request(&format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends the signal of this name, such as `TERM`, to a process.
pub fn kill(name: &str, pid: u32) {
    let status = Command::new("kill")
        .args([format!("-{name}"), pid.to_string()])
        .status();
    assert!(status.expect("kill(1) runs").success());
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
}

impl Client {
    pub fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect_timeout(&address, PATIENCE).expect("the server accepts");
        stream
            .set_read_timeout(Some(PATIENCE))
            .expect("a timeout can be set");
        stream
            .set_write_timeout(Some(PATIENCE))
            .expect("a timeout can be set");
        stream.set_nodelay(true).expect("TCP_NODELAY can be set");
        Self(stream)
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
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).expect("a whole body");
        response.body = String::from_utf8(body).expect("a body of text");
        response
    }

    /// Reads a response that has no body, whatever it says.
    pub fn head_response(&mut self) -> Response {
        let mut head = Vec::new();
        // A byte at a time, so that nothing behind the head is taken.
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            match self.0.read(&mut byte) {
                Ok(1) => head.push(byte[0]),
                other => panic!("{other:?} after {:?}", String::from_utf8_lossy(&head)),
            }
        }
        let head = String::from_utf8(head).expect("a head of text");
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

    /// Reads what is left until the server closes.
    pub fn read_to_end(&mut self) -> io::Result<Vec<u8>> {
        let mut rest = Vec::new();
        self.0.read_to_end(&mut rest)?;
        Ok(rest)
    }

    /// Whether the server has closed, as far as the kernel knows by now.
    pub fn is_closed(&self) -> bool {
        self.0
            .set_nonblocking(true)
            .expect("sockets can be nonblocking");
        let peeked = self.0.peek(&mut [0]);
        self.0
            .set_nonblocking(false)
            .expect("sockets can be blocking");
        matches!(peeked, Ok(0))
    }

    /// Waits for an orderly close, with nothing before it.
    pub fn assert_closed(&mut self) {
        let rest = self.read_to_end().expect("an orderly close");
        assert_eq!(String::from_utf8_lossy(&rest), "");
    }
}

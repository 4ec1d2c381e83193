//! What a service manager passes and is told: sd_listen_fds(3) and sd_notify(3).
//!
//! With systemd's own program: `cargo test --test manager -- --ignored`

mod common;

use std::fs;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener};
use std::process::{Command, Stdio, id};

use common::{
    Client, GET, PATIENCE, Process, Server, SocketPath, server_binary, wait_until,
    with_each_number_of_workers,
};
use socket2::{Domain, SockAddr, Socket, Type};

/// What the shell does before it becomes the server: it names its own process, and has its standard
/// input as descriptor 3.
const PASS: &str = "exec 3<&0 0</dev/null; LISTEN_PID=$$; LISTEN_FDS=1; LISTEN_FDNAMES=http";

/// A server that is passed `socket` after `setup`.
fn command_with(socket: impl AsFd, setup: &str) -> Command {
    let socket = socket.as_fd().try_clone_to_owned().expect("a descriptor");
    let run = r#"export LISTEN_PID LISTEN_FDS LISTEN_FDNAMES; exec "$0""#;
    let mut command = Command::new("/bin/sh");
    command
        .args(["-c", &format!("{setup}; {run}")])
        .arg(server_binary())
        .env_clear()
        .envs(common::SERVICE_ENVIRONMENT.iter().copied())
        .stdin(Stdio::from(socket));
    command
}

fn tcp() -> TcpListener {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port")
}

#[test]
fn a_passed_tcp_socket_goes_before_listen_and_port() {
    with_each_number_of_workers(|workers| {
        let socket = tcp();
        let address = socket.local_addr().expect("an address");
        // Before there is a server.
        let mut client = Client::connect(address);
        client.send(GET);
        let mut command = command_with(&socket, PASS);
        command.envs([("LISTEN", "none"), ("PORT", "none"), ("WORKERS", workers)]);
        let mut server = Server::spawn(command);
        assert_eq!(server.address, address);
        assert_eq!(client.response().status, 200);
        assert_eq!(server.get("/livez").status, 200);
        // A process that the service starts does not have it.
        let info = fs::read_to_string(format!("/proc/{}/fdinfo/3", server.pid()));
        let info = info.expect("descriptor 3 is open");
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
        let flags = u32::from_str_radix(flags.expect("flags").trim(), 8).expect("octal digits");
        assert_ne!(flags & libc::O_CLOEXEC.unsigned_abs(), 0, "{info}");
        server.signal("TERM");
        assert_eq!(server.exit().code(), Some(0));
    });
}

#[test]
fn a_passed_unix_socket_is_served_and_its_file_stays() {
    with_each_number_of_workers(|workers| {
        let path = SocketPath::new("passed");
        let socket = UnixListener::bind(&path.0).expect("a socket");
        let mut command = command_with(&socket, PASS);
        command.env("WORKERS", workers);
        let mut server = Server::spawn(command);
        assert_eq!(Client::connect_unix(&path.0).request(GET).status, 200);
        server.signal("TERM");
        assert_eq!(server.exit().code(), Some(0));
        assert!(path.0.exists());
    });
}

#[test]
fn a_connection_that_comes_between_two_servers_waits_for_the_second() {
    let socket = tcp();
    let address = socket.local_addr().expect("an address");
    let mut first = Server::spawn(command_with(&socket, PASS));
    assert_eq!(first.get("/livez").status, 200);
    first.signal("TERM");
    assert_eq!(first.exit().code(), Some(0));
    let mut client = Client::connect(address);
    client.send(GET);
    let _second = Server::spawn(command_with(&socket, PASS));
    assert_eq!(client.response().status, 200);
}

#[test]
fn a_socket_that_was_passed_to_another_process_is_ignored() {
    for setup in [
        format!("{PASS}; LISTEN_PID=1"),
        format!("{PASS}; LISTEN_PID=; LISTEN_FDS=7"),
        format!("{PASS}; LISTEN_PID=none"),
        format!("{PASS}; LISTEN_FDS="),
    ] {
        let socket = tcp();
        let mut command = command_with(&socket, &setup);
        command.env("LISTEN", "127.0.0.1:0");
        let server = Server::spawn(command);
        assert_ne!(server.address, socket.local_addr().expect("an address"));
        assert_eq!(server.get("/livez").status, 200);
    }
}

#[test]
fn what_is_not_one_listening_stream_socket_is_one_line_and_exit_code_2() {
    let file = OwnedFd::from(fs::File::open("/dev/null").expect("a file"));
    let datagram = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let silent = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    let path = SocketPath::new("packets");
    let packets = Socket::new(Domain::UNIX, Type::SEQPACKET, None).expect("a socket");
    let address = SockAddr::unix(&path.0).expect("a short path");
    packets.bind(&address).expect("a free path");
    packets.listen(1).expect("it is bound");
    let socket = tcp();

    let kind = "descriptor 3 to be a TCP or unix stream socket that listens";
    let count = "1, as the server has one socket";
    let closed = format!("{PASS}; exec 3<&-");
    for (fd, setup, value, rule) in [
        (file.as_fd(), PASS, "1", kind),
        (datagram.as_fd(), PASS, "1", kind),
        (silent.as_fd(), PASS, "1", kind),
        (packets.as_fd(), PASS, "1", kind),
        (socket.as_fd(), &closed, "1", kind),
        (socket.as_fd(), &format!("{PASS}; LISTEN_FDS=2"), "2", count),
        (socket.as_fd(), &format!("{PASS}; LISTEN_FDS=0"), "0", count),
        (socket.as_fd(), &format!("{PASS}; LISTEN_FDS=x"), "x", count),
    ] {
        let (code, stdout, stderr) = Process::run(command_with(fd, setup));
        let line = format!("error: LISTEN_FDS={value:?}: expected {rule}\n");
        assert_eq!((code, stdout.as_str(), stderr), (Some(2), "", line));
    }
}

#[test]
#[ignore = "needs systemd-socket-activate"]
fn systemd_starts_the_server_at_the_first_connection() {
    let path = SocketPath::new("systemd");
    let mut command = Command::new("systemd-socket-activate");
    command
        .arg(format!("--listen={}", path.0.display()))
        .arg("--fdname=http")
        .arg(server_binary());
    for (name, value) in common::SERVICE_ENVIRONMENT {
        command.arg(format!("--setenv={name}={value}"));
    }
    let mut systemd = Process::spawn(command);
    let program = format!("/proc/{}/exe", systemd.pid());
    let runs_server = || fs::read_link(&program).expect("it runs") == server_binary();
    wait_until("systemd has bound the socket", || path.0.exists());
    assert!(!runs_server());
    // Nothing but a connection starts the server, which takes the place of systemd's process.
    path.wait_until_served();
    assert!(runs_server());
    systemd.signal("TERM");
    assert_eq!(systemd.exit().code(), Some(0));
    assert!(path.0.exists());
}

/// What is told at the start and at the end of a server, in their order.
fn told_at(socket: &UnixDatagram, notify_socket: &str) -> [String; 2] {
    let receive = || {
        socket.set_read_timeout(Some(PATIENCE)).expect("a bound");
        let mut state = [0; 64];
        let length = socket.recv(&mut state).expect("the server tells its state");
        String::from_utf8(state[..length].to_vec()).expect("text")
    };
    let mut server = Server::start(&[("NOTIFY_SOCKET", notify_socket)]);
    let start = receive();
    assert_eq!(server.get("/livez").status, 200);
    server.signal("TERM");
    let end = receive();
    assert_eq!(server.exit().code(), Some(0));
    [start, end]
}

#[test]
fn the_manager_is_told_when_the_server_is_ready_and_when_it_stops() {
    let path = SocketPath::new("told");
    let socket = UnixDatagram::bind(&path.0).expect("a socket");
    let name = path.0.to_str().expect("text");
    assert_eq!(told_at(&socket, name), ["READY=1", "STOPPING=1"]);

    let name = format!("scratch-server-told-{}", id());
    let address = SocketAddr::from_abstract_name(&name).expect("a short name");
    let socket = UnixDatagram::bind_addr(&address).expect("a socket");
    assert_eq!(
        told_at(&socket, &format!("@{name}")),
        ["READY=1", "STOPPING=1"]
    );
}

#[test]
fn the_manager_is_told_nothing_by_a_server_that_cannot_start() {
    let path = SocketPath::new("cannot-start");
    let socket = UnixDatagram::bind(&path.0).expect("a socket");
    socket.set_nonblocking(true).expect("it can be nonblocking");
    let other = tcp();
    let taken = other.local_addr().expect("an address").to_string();
    for (listen, workers) in [(taken.as_str(), "1"), ("127.0.0.1:0", "20")] {
        let mut command = Server::command_after("ulimit -n 64");
        command
            .env("LISTEN", listen)
            .env("WORKERS", workers)
            .env("NOTIFY_SOCKET", &path.0);
        let (code, _, stderr) = Process::run(command);
        assert_eq!(code, Some(1), "{stderr}");
        let told = socket.recv(&mut [0; 64]).map_err(|error| error.kind());
        assert_eq!(told, Err(ErrorKind::WouldBlock), "{stderr}");
    }
}

#[test]
fn a_manager_that_is_gone_or_does_not_read_is_one_warning_and_nothing_else() {
    let path = SocketPath::new("full");
    let full = UnixDatagram::bind(&path.0).expect("a socket");
    let sender = UnixDatagram::unbound().expect("a socket");
    sender.set_nonblocking(true).expect("it can be nonblocking");
    while sender.send_to(b"x", &path.0).is_ok() {}
    let full_path = path.0.to_str().expect("text");
    for socket in ["/no/such/socket", "@no-such-name", "none", full_path] {
        let mut server = Server::start(&[("NOTIFY_SOCKET", socket)]);
        assert_eq!(server.get("/livez").status, 200);
        server.signal("TERM");
        assert_eq!(server.exit().code(), Some(0));
        let lines = server.remaining_lines();
        let told: Vec<_> = lines
            .iter()
            .filter(|line| line.contains("NOTIFY_SOCKET"))
            .collect();
        let start = format!("NOTIFY_SOCKET={socket:?}: READY=1 was not sent: ");
        assert!(told.len() == 1 && told[0].contains(&start), "{lines:?}");
    }
    drop(full);
}

//! What is still unsent, on real sockets of both families.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant};

/// How long anything may take that should happen at all. A bound, never a measure.
const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn a_tcp_socket_has_nothing_unsent_once_its_peer_has_taken_everything() {
    let (writer, reader) = tcp_pair();
    writer.set_nonblocking(true).unwrap();
    assert_falls_as_the_peer_reads(writer, reader);
}

#[test]
fn a_unix_socket_has_nothing_unsent_once_its_peer_has_taken_everything() {
    let (writer, reader) = UnixStream::pair().unwrap();
    writer.set_nonblocking(true).unwrap();
    assert_falls_as_the_peer_reads(writer, reader);
}

#[test]
fn a_descriptor_without_a_send_queue_is_an_error() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let error = sys::unsent(&listener).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
    let file = std::fs::File::open("/dev/null").unwrap();
    let error = sys::unsent(&file).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ENOTTY));
}

fn tcp_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let writer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (reader, _) = listener.accept().unwrap();
    (writer, reader)
}

/// `writer` does not wait.
fn assert_falls_as_the_peer_reads(mut writer: impl Write + AsFd, mut reader: impl Read) {
    assert_eq!(sys::unsent(&writer).unwrap(), 0, "nothing was written");

    let written = fill(&mut writer);
    let full = sys::unsent(&writer).unwrap();
    assert!(full > 0, "the peer has not read any of {written} bytes");

    reader.read_exact(&mut vec![0; written / 2]).unwrap();
    wait_until(|| sys::unsent(&writer).unwrap() < full);

    reader
        .read_exact(&mut vec![0; written - written / 2])
        .unwrap();
    wait_until(|| sys::unsent(&writer).unwrap() == 0);
}

/// Writes until the kernel takes no more, and returns the number of bytes.
fn fill(writer: &mut impl Write) -> usize {
    let chunk = [0; 64 * 1024];
    let mut written = 0;
    loop {
        match writer.write(&chunk) {
            Ok(count) => written += count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return written,
            Err(error) => panic!("{error}"),
        }
    }
}

/// Waits for what no event announces: the peer's kernel acknowledges when it likes.
fn wait_until(mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "it never holds");
        thread::yield_now();
    }
}

//! The smallest HTTP client that can tell when a server is ready. It only ever talks to loopback.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream},
    sync::atomic::{AtomicU16, Ordering},
    time::Duration,
};

use anyhow::{Context, Result, bail};

use crate::launch::now;

pub const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
const IO_TIMEOUT: Duration = Duration::from_secs(2);

/// A port that nothing listens on. All lie below the range that the kernel takes for outgoing
/// connections: in it, connecting to a closed port can connect a socket to itself.
pub fn free_port() -> Result<u16> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    for _ in 0..10_000 {
        let port = 20_000 + NEXT.fetch_add(1, Ordering::Relaxed) % 10_000;
        if TcpListener::bind(address(port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no free port from 20000 to 29999")
}

pub fn connect(port: u16) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect(address(port))?;
    stream.set_read_timeout(Some(IO_TIMEOUT))?;
    Ok(stream)
}

/// Connects again and again, as fast as it can, until a 200 comes back. Returns when it came.
pub fn first_200(port: u16, limit: Duration) -> Result<u64> {
    let deadline = now() + limit.as_nanos() as u64;
    let mut refused = 0u64;
    loop {
        match connect(port) {
            Ok(mut stream) => {
                exchange(&mut stream)?;
                return Ok(now());
            }
            Err(_) if now() < deadline => refused += 1,
            Err(error) => bail!(
                "no answer within {limit:?}, {refused} connections refused, the last: {error}"
            ),
        }
    }
}

/// As `first_200`, for when the moment does not matter: with a pause, and the body looked at.
pub fn wait_ready(port: u16, limit: Duration) -> Result<()> {
    let deadline = now() + limit.as_nanos() as u64;
    loop {
        match connect(port) {
            Ok(mut stream) => {
                let response = exchange(&mut stream)?;
                if !response.ends_with(b"Hello from Rust in Docker!\n") {
                    bail!("unexpected answer: {}", String::from_utf8_lossy(&response));
                }
                return Ok(());
            }
            Err(_) if now() < deadline => std::thread::sleep(Duration::from_millis(1)),
            Err(error) => bail!("no answer within {limit:?}: {error}"),
        }
    }
}

/// One request; the whole response. Anything but a 200 is an error.
pub fn exchange(stream: &mut TcpStream) -> Result<Vec<u8>> {
    stream.write_all(REQUEST)?;
    let mut response = Vec::with_capacity(512);
    let mut chunk = [0; 4096];
    loop {
        let count = stream.read(&mut chunk).context("reading the response")?;
        response.extend_from_slice(&chunk[..count]);
        if !response.starts_with(b"HTTP/1.1 200")
            && !response.starts_with(b"HTTP/1.0 200")
            && response.len() >= 12
        {
            bail!("not a 200: {}", String::from_utf8_lossy(&response));
        }
        if response_len(&response).is_some_and(|len| response.len() >= len) {
            return Ok(response);
        }
        if count == 0 {
            bail!(
                "closed early, after {:?}",
                String::from_utf8_lossy(&response)
            );
        }
    }
}

/// How long the response is, as soon as its head says so.
fn response_len(response: &[u8]) -> Option<usize> {
    let head_len = response
        .windows(4)
        .position(|window| window == b"\r\n\r\n")?
        + 4;
    let head = std::str::from_utf8(&response[..head_len]).ok()?;
    let body_len = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length")
            .then(|| value.trim().parse::<usize>().ok())?
    })?;
    Some(head_len + body_len)
}

fn address(port: u16) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::LOCALHOST, port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn response_len_needs_the_whole_head() {
        assert_eq!(
            response_len(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n"),
            None
        );
        assert_eq!(
            response_len(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n"),
            Some(41)
        );
        assert_eq!(response_len(b"HTTP/1.1 200 OK\r\n\r\nbody"), None);
    }

    #[test]
    fn closed_port_is_reported_within_its_limit() {
        let port = free_port().unwrap();
        let error = first_200(port, Duration::from_millis(20)).unwrap_err();
        assert!(
            error.to_string().contains("no answer within 20ms"),
            "{error}"
        );
    }
}

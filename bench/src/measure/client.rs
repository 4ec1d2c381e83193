//! The smallest HTTP client that can tell when a server is ready. It only ever talks to loopback.

use std::{
    fmt,
    io::{ErrorKind, Read, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream},
    str::FromStr,
    sync::atomic::{AtomicU16, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use http::Uri;
use nix::sys::socket::{setsockopt, sockopt};

use super::process::now;

/// What a port's number is put in place of, in commands and URLs.
pub const PORT: &str = "{port}";
/// How often a client that waits for an answer looks whether the server still lives.
const LOOK: Duration = Duration::from_millis(10);
/// Between two requests, after an answer that was not the wanted one.
const PAUSE: Duration = Duration::from_millis(1);

/// `http://HOST[:PORT][/PATH]` of this machine.
#[derive(Clone, Debug, PartialEq)]
pub struct Url {
    addresses: Vec<SocketAddr>,
    authority: String,
    path: String,
}

impl Url {
    /// Of 127.0.0.1.
    pub fn of_port(port: u16) -> Self {
        Self::from_str(&format!("http://127.0.0.1:{port}/")).expect("it is well-formed")
    }

    pub fn port(&self) -> u16 {
        self.addresses[0].port()
    }
}

impl FromStr for Url {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let uri: Uri = text
            .parse()
            .with_context(|| format!("{text:?} is no URL"))?;
        ensure!(
            uri.scheme_str() == Some("http"),
            "{text:?} does not begin with http://"
        );
        let authority = uri.authority().context("it has no host")?;
        let hosts = match authority.host().trim_matches(['[', ']']) {
            "localhost" => vec![
                IpAddr::from(Ipv4Addr::LOCALHOST),
                Ipv6Addr::LOCALHOST.into(),
            ],
            host => host.parse().into_iter().collect(),
        };
        let is_here = !hosts.is_empty() && hosts.iter().all(IpAddr::is_loopback);
        ensure!(
            is_here,
            "{text:?} is not of this machine: its host must be localhost, 127.0.0.1 or [::1]"
        );
        let port = authority.port_u16().unwrap_or(80);
        ensure!(port > 0, "{text:?} has port 0, which nothing can listen on");
        Ok(Self {
            addresses: hosts.into_iter().map(|host| (host, port).into()).collect(),
            authority: authority.to_string(),
            path: uri
                .path_and_query()
                .map_or("/", |path| path.as_str())
                .to_owned(),
        })
    }
}

impl fmt::Display for Url {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        write!(formatter, "http://{}{}", self.authority, self.path)
    }
}

/// A port that nothing listens on. All lie below the range that the kernel takes for outgoing connections: in it,
/// connecting to a closed port can connect a socket to itself.
pub fn free_port() -> Result<u16> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Two tools that run side by side begin in different places.
    let start = std::process::id() as u16 % 10_000;
    for _ in 0..10_000 {
        let port = 20_000 + start.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % 10_000;
        if TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no free port from 20000 to 29999")
}

/// An error if something listens there before the server is started: it would be measured in its place.
pub fn ensure_free(url: &Url) -> Result<()> {
    let taken = url
        .addresses
        .iter()
        .any(|address| TcpStream::connect_timeout(address, LOOK).is_ok());
    ensure!(
        !taken,
        "port {} is taken: something listens on it already",
        url.port()
    );
    Ok(())
}

/// What the client waits for.
pub struct Wanted<'a> {
    pub url: &'a Url,
    pub statuses: &'a [u16],
    pub limit: Duration,
    /// Between two refused connections: where the server has no core of its own, it has to get the client's.
    pub pause: Duration,
}

#[derive(Clone, Copy, Debug)]
pub struct Answered {
    /// When a connection was first accepted, by the kernel.
    pub listening: u64,
    /// When the head of the first wanted answer was there.
    pub answered: u64,
}

/// Connects as fast as it can, and asks until the wanted answer comes. A refused connection is refused by the kernel on the client's
/// core: the server does not notice. `check` returns an error once the server has ended.
pub fn first_answer(wanted: &Wanted, mut check: impl FnMut() -> Result<()>) -> Result<Answered> {
    let Wanted {
        url,
        statuses,
        limit,
        pause,
    } = wanted;
    let deadline = Instant::now() + *limit;
    let mut look_at = Instant::now() + LOOK;
    // Whether there is time left. `check` costs a system call, so not each time.
    let mut look = || -> Result<bool> {
        let now = Instant::now();
        if now >= look_at {
            check()?;
            look_at = now + LOOK;
        }
        Ok(now < deadline)
    };
    let mut listening = None;
    let mut last = None;
    for address in url.addresses.iter().cycle() {
        if !look()? {
            break;
        }
        let left = deadline
            .saturating_duration_since(Instant::now())
            .max(PAUSE);
        let Ok(mut stream) = TcpStream::connect_timeout(address, left) else {
            if !pause.is_zero() {
                thread::sleep(*pause);
            }
            continue;
        };
        let accepted = *listening.get_or_insert_with(now);
        match ask(&mut stream, url, &mut look) {
            Ok(Some(status)) if statuses.contains(&status) => {
                return Ok(Answered {
                    listening: accepted,
                    answered: now(),
                });
            }
            Ok(Some(status)) => last = Some(format!("answered {status}")),
            Ok(None) => last = last.or(Some("accepted a connection and did not answer".to_owned())),
            Err(error) if error.is::<std::io::Error>() => {
                last = Some(format!("closed the connection: {error}"))
            }
            Err(error) => return Err(error),
        }
        thread::sleep(PAUSE);
    }
    let last = last.unwrap_or_else(|| format!("did not listen at port {}", url.port()));
    bail!(
        "{last}, until the time limit of {}",
        humantime::format_duration(*limit)
    )
}

/// The status of the final answer, or `None` if none comes while there is `time_left`.
fn ask(
    stream: &mut TcpStream,
    url: &Url,
    mut time_left: impl FnMut() -> Result<bool>,
) -> Result<Option<u16>> {
    reset_on_close(stream)?;
    stream.set_read_timeout(Some(LOOK))?;
    stream.write_all(request(url).as_bytes())?;
    let mut head = Vec::with_capacity(1024);
    let mut chunk = [0; 4096];
    loop {
        match stream.read(&mut chunk) {
            Ok(0) => return Err(std::io::Error::from(ErrorKind::UnexpectedEof).into()),
            Ok(count) => head.extend_from_slice(&chunk[..count]),
            Err(error) if [ErrorKind::WouldBlock, ErrorKind::TimedOut].contains(&error.kind()) => {
                if !time_left()? {
                    return Ok(None);
                }
            }
            Err(error) => return Err(error.into()),
        }
        while let Some((status, len)) = parse_head(&head)? {
            if status >= 200 {
                return Ok(Some(status));
            }
            head.drain(..len);
        }
    }
}

fn request(url: &Url) -> String {
    format!(
        "GET {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: startup-bench\r\nAccept: */*\r\n\r\n",
        url.path, url.authority
    )
}

/// Status and length of the head, as soon as it is whole.
fn parse_head(bytes: &[u8]) -> Result<Option<(u16, usize)>> {
    let mut headers = [httparse::EMPTY_HEADER; 100];
    let mut response = httparse::Response::new(&mut headers);
    match response.parse(bytes) {
        Ok(httparse::Status::Complete(len)) => Ok(Some((response.code.unwrap_or(0), len))),
        Ok(httparse::Status::Partial) => Ok(None),
        Err(error) => bail!("answered something that is not HTTP: {error}"),
    }
}

/// Connections that are reset leave nothing in TIME_WAIT: thousands of them would use up the ports, and one would
/// keep a server from its fixed port.
fn reset_on_close(stream: &TcpStream) -> Result<()> {
    let linger = nix::libc::linger {
        l_onoff: 1,
        l_linger: 0,
    };
    Ok(setsockopt(stream, sockopt::Linger, &linger)?)
}

/// A connection to be kept.
pub fn connect(port: u16) -> Result<TcpStream> {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    reset_on_close(&stream)?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    Ok(stream)
}

/// One request on a connection that is kept; the length of the whole response.
pub fn exchange(stream: &mut TcpStream) -> Result<usize> {
    stream.write_all(REQUEST)?;
    read_response(stream)
}

/// Its length. Anything but a 200 with a length is an error.
pub fn read_response(stream: &mut TcpStream) -> Result<usize> {
    let mut response = Vec::with_capacity(512);
    let mut chunk = [0; 4096];
    loop {
        let count = stream.read(&mut chunk).context("reading the response")?;
        ensure!(
            count > 0,
            "closed early, after {:?}",
            String::from_utf8_lossy(&response)
        );
        response.extend_from_slice(&chunk[..count]);
        if let Some((status, head_len)) = parse_head(&response)? {
            ensure!(
                status == 200,
                "not a 200: {}",
                String::from_utf8_lossy(&response)
            );
            let len = head_len + content_length(&response).context("no content-length")?;
            if response.len() >= len {
                return Ok(len);
            }
        }
    }
}

/// What load consists of.
pub const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";

fn content_length(response: &[u8]) -> Option<usize> {
    let mut headers = [httparse::EMPTY_HEADER; 100];
    let mut parsed = httparse::Response::new(&mut headers);
    parsed.parse(response).ok()?;
    let header = parsed
        .headers
        .iter()
        .find(|header| header.name.eq_ignore_ascii_case("content-length"))?;
    std::str::from_utf8(header.value).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn url_is_of_this_machine_and_keeps_its_query() {
        let url: Url = "http://[::1]:81/a?b=c".parse().unwrap();
        assert_eq!(
            (url.addresses[0], url.path.as_str()),
            ("[::1]:81".parse().unwrap(), "/a?b=c")
        );
        assert_eq!(
            "http://localhost".parse::<Url>().unwrap().addresses.len(),
            2
        );
        assert_eq!("http://localhost".parse::<Url>().unwrap().port(), 80);
        for other in [
            "https://127.0.0.1/",
            "127.0.0.1:80",
            "http://example.org/",
            "http://10.0.0.1/",
            "http://localhost:0/",
        ] {
            assert!(other.parse::<Url>().is_err(), "{other}");
        }
    }

    #[test]
    fn head_counts_when_it_is_whole() {
        assert_eq!(
            parse_head(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n").unwrap(),
            None
        );
        assert_eq!(
            parse_head(b"HTTP/1.0 404 No\r\n\r\n").unwrap(),
            Some((404, 19))
        );
        assert!(parse_head(b"SSH-2.0-x\r\n\r\n").is_err());
        assert_eq!(
            content_length(b"HTTP/1.1 200 OK\r\ncontent-LENGTH: 3\r\n\r\n"),
            Some(3)
        );
    }

    #[test]
    fn closed_port_is_reported_within_its_limit() {
        let url = Url::of_port(free_port().unwrap());
        let limit = Duration::from_millis(30);
        let wanted = Wanted {
            url: &url,
            statuses: &[200],
            limit,
            pause: Duration::ZERO,
        };
        let error = first_answer(&wanted, || Ok(())).unwrap_err().to_string();
        assert!(
            error.contains("did not listen") && error.contains("30ms"),
            "{error}"
        );
    }

    #[test]
    fn server_that_has_ended_is_not_waited_for() {
        let url = Url::of_port(free_port().unwrap());
        let wanted = Wanted {
            url: &url,
            statuses: &[200],
            limit: Duration::from_secs(60),
            pause: Duration::ZERO,
        };
        let error = first_answer(&wanted, || bail!("it ended")).unwrap_err();
        assert_eq!(error.to_string(), "it ended");
    }

    #[test]
    fn interim_answers_are_skipped() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = Url::of_port(listener.local_addr().unwrap().port());
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 1024]);
            stream
                .write_all(b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n")
                .unwrap();
        });
        let limit = Duration::from_secs(10);
        let wanted = Wanted {
            url: &url,
            statuses: &[204],
            limit,
            pause: Duration::ZERO,
        };
        let answered = first_answer(&wanted, || Ok(())).unwrap();
        assert!(answered.listening <= answered.answered);
        server.join().unwrap();
    }
}

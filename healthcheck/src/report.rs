//! The report: one line, under 200 bytes, whatever was given to the probe.

use rustix::fd::BorrowedFd;
use rustix::io::Errno;

use crate::Failure;
use crate::options::{Options, Subject};
use crate::text::Text;

/// The longest line, with its end.
const MAX_LINE: usize = 199;

/// `healthcheck: PORT="http": expected a number from 0 to 65535`
pub(crate) fn invalid(stream: BorrowedFd<'_>, subject: &Subject<'_>, rule: &str) {
    let mut buffer = [0; MAX_LINE];
    let mut line = Text::new(&mut buffer);
    line.push(b"healthcheck: ");
    line.push_escaped(subject.name, 60);
    if !subject.name.is_empty() {
        line.push(b"=");
    }
    line.push(b"\"");
    line.push_escaped(subject.value, 60);
    line.push(b"\": expected ");
    line.push(rule.as_bytes());
    line.push(b"\n");
    write(stream, line.as_bytes());
}

/// `healthcheck: http://localhost:8080/health: connect: refused (0 ms)`, and after more than one attempt
/// how many there were.
// Not inlined: 40 bytes less.
#[inline(never)]
pub(crate) fn verdict(
    stream: BorrowedFd<'_>,
    options: &Options<'_>,
    elapsed: u32,
    attempts: u32,
    result: Result<Option<u16>, Failure>,
) {
    let mut buffer = [0; MAX_LINE];
    let mut line = Text::new(&mut buffer);
    line.push(b"healthcheck: ");
    options.target.describe(&mut line);
    line.push(match result {
        Ok(_) => b": healthy: ".as_slice(),
        Err(Failure::Connect(_)) => b": connect: ",
        Err(Failure::Send(_)) => b": send: ",
        Err(_) => b": receive: ",
    });
    match result {
        Ok(None) => line.push(b"connected"),
        Ok(Some(status)) | Err(Failure::Status(status)) => {
            line.push(b"status ");
            line.push_number(status.into());
            if result.is_err() {
                line.push(b" wanted ");
                line.push_escaped(options.statuses.as_bytes(), 24);
            }
        }
        Err(Failure::Connect(errno) | Failure::Send(errno) | Failure::Receive(errno)) => {
            push_error(&mut line, errno);
        }
        Err(Failure::NotHttp) => line.push(b"not HTTP"),
        Err(Failure::Closed) => line.push(b"closed"),
        Err(Failure::TextMissing) => {
            line.push(b"no \"");
            line.push_escaped(options.text.unwrap_or_default(), 24);
            line.push(b"\" in the body");
        }
    }
    line.push(b" (");
    line.push_number(elapsed);
    line.push(b" ms");
    if attempts > 1 {
        line.push(b", ");
        line.push_number(attempts);
        line.push(b" attempts");
    }
    line.push(b")\n");
    write(stream, line.as_bytes());
}

/// Appends the name of an error that a probe meets, or else its number.
fn push_error(line: &mut Text<'_>, errno: Errno) {
    let name = match errno {
        Errno::CONNREFUSED => b"refused".as_slice(),
        Errno::TIMEDOUT => b"timed out",
        Errno::CONNRESET => b"reset",
        Errno::NOENT => b"no such socket",
        Errno::ACCESS => b"permission denied",
        _ => b"error ",
    };
    line.push(name);
    if name == b"error " {
        line.push_number(errno.raw_os_error() as u32);
    }
}

/// Writes, whether or not there is still a reader.
pub(crate) fn write(stream: BorrowedFd<'_>, text: &[u8]) {
    let _ = rustix::io::write(stream, text);
}

//! What is said: one line, under 200 bytes, whatever was given to the probe.

use rustix::fd::BorrowedFd;
use rustix::io::Errno;

use crate::options::{Options, Subject};
use crate::probe::Failure;
use crate::response::Fault;
use crate::text::Text;

/// The longest line, with its end.
const MAX_LINE: usize = 199;

/// `healthcheck: PORT="http": expected a number from 0 to 65535`
pub(crate) fn invalid(stream: BorrowedFd<'_>, subject: &Subject<'_>, rule: &str) {
    let mut buffer = [0; MAX_LINE];
    let mut line = Text::new(&mut buffer);
    line.push(b"healthcheck: ");
    line.push(subject.name);
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

/// `healthcheck: http://localhost:8080/health: connect: refused (0 ms)`
// Not inlined: 140 bytes less.
#[inline(never)]
pub(crate) fn verdict(
    stream: BorrowedFd<'_>,
    options: &Options<'_>,
    elapsed: u32,
    result: Result<Option<u16>, Failure>,
) {
    let mut buffer = [0; MAX_LINE];
    let mut line = Text::new(&mut buffer);
    line.push(b"healthcheck: ");
    options.target.describe(&mut line);
    match result {
        Ok(None) => line.push(b": healthy: connected"),
        Ok(Some(status)) => {
            line.push(b": healthy: status ");
            line.push_number(status.into());
        }
        Err(Failure::Connect(errno)) => push_error(&mut line, b": connect: ", errno),
        Err(Failure::Send(errno)) => push_error(&mut line, b": send: ", errno),
        Err(Failure::Receive(errno)) => push_error(&mut line, b": receive: ", errno),
        Err(Failure::Answer(Fault::NotHttp)) => line.push(b": receive: not HTTP"),
        Err(Failure::Answer(Fault::Closed)) => line.push(b": receive: closed"),
        Err(Failure::Answer(Fault::Status(status))) => {
            line.push(b": receive: status ");
            line.push_number(status.into());
            line.push(b" wanted ");
            line.push_escaped(options.statuses.as_bytes(), 24);
        }
        Err(Failure::Answer(Fault::TextMissing)) => {
            line.push(b": receive: no \"");
            line.push_escaped(options.text.unwrap_or_default(), 24);
            line.push(b"\" in the body");
        }
    }
    line.push(b" (");
    line.push_number(elapsed);
    line.push(b" ms)\n");
    write(stream, line.as_bytes());
}

/// Appends the phase, and the name of an error that a probe meets, or else its number.
fn push_error(line: &mut Text<'_>, phase: &[u8], errno: Errno) {
    line.push(phase);
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

/// Writes, whether or not whoever was to read it is still there.
pub(crate) fn write(stream: BorrowedFd<'_>, text: &[u8]) {
    let _ = rustix::io::write(stream, text);
}

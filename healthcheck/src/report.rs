//! What is said: one line, under 200 bytes, whatever was given to the probe.

use core::time::Duration;

use endpoint::Invalid;
use rustix::io::Errno;

use crate::options::Options;
use crate::probe::{Cause, Failure};
use crate::response::Fault;
use crate::text::Text;

/// `healthcheck: PORT="http": expected a number from 0 to 65535`
pub(crate) fn invalid(invalid: &Invalid<'_>) -> Text {
    let mut line = Text::new();
    line.push(NAME).push(invalid.variable.as_bytes());
    if !invalid.variable.is_empty() {
        line.push(b"=");
    }
    line.push(b"\"")
        .push_escaped(invalid.value, 60)
        .push(b"\": expected ");
    line.push(invalid.rule.as_bytes()).push(b"\n");
    line
}

/// `healthcheck: http://localhost:8080/health: connect: refused (0 ms)`
pub(crate) fn verdict(
    options: &Options<'_>,
    elapsed: Duration,
    result: Result<Option<u16>, Failure>,
) -> Text {
    let mut target = Text::new();
    options.target.describe(&mut target);
    let mut line = Text::new();
    line.push(NAME)
        .push_escaped(target.as_bytes(), 100)
        .push(b": ");
    match result {
        Ok(Some(status)) => line.push(b"healthy: status ").push_number(status.into()),
        Ok(None) => line.push(b"healthy: connected"),
        Err(Failure { phase, cause }) => {
            line.push(phase.as_bytes()).push(b": ");
            match cause {
                Cause::TimedOut => line.push(b"timed out"),
                Cause::Os(errno) => os_error(&mut line, errno),
                Cause::Answer(Fault::NotHttp) => line.push(b"not HTTP"),
                Cause::Answer(Fault::Closed) => line.push(b"closed before the answer was whole"),
                Cause::Answer(Fault::Status(status)) => line
                    .push(b"status ")
                    .push_number(status.into())
                    .push(b" wanted ")
                    .push_escaped(options.statuses.as_bytes(), 32),
                Cause::Answer(Fault::TextMissing) => line
                    .push(b"no \"")
                    .push_escaped(options.text.unwrap_or_default(), 24)
                    .push(b"\" in the body"),
            }
        }
    };
    // At most 24 hours, so it fits.
    line.push(b" (")
        .push_number(elapsed.as_millis() as u32)
        .push(b" ms)\n");
    line
}

const NAME: &[u8] = b"healthcheck: ";

fn os_error(line: &mut Text, errno: Errno) -> &mut Text {
    match errno {
        Errno::CONNREFUSED => line.push(b"refused"),
        Errno::CONNRESET => line.push(b"reset"),
        Errno::PIPE => line.push(b"closed"),
        Errno::NOENT => line.push(b"no such socket"),
        Errno::ACCESS | Errno::PERM => line.push(b"permission denied"),
        Errno::NETUNREACH | Errno::HOSTUNREACH | Errno::ADDRNOTAVAIL => line.push(b"unreachable"),
        errno => line
            .push(b"error ")
            .push_number(errno.raw_os_error() as u32),
    }
}

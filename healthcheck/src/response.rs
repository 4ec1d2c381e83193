//! The answer: pushed in as it arrives, in pieces of any size, decided as early as it can be.
//!
//! Nothing is kept but the start of one line, so a header of a megabyte or an endless body costs
//! time alone, and the probe's deadline bounds that.

use settings::split_at_first;

use crate::Failure;
use crate::options::Statuses;

/// How many bytes of a body are searched.
const MAX_BODY: u32 = 64 * 1024;

/// Enough for the header fields that frame a body; of longer lines the rest is dropped.
const KEPT: usize = 64;

/// What an answer turned out to be: its status if it is healthy.
pub type Verdict = Result<u16, Failure>;

/// An HTTP/1 response in the course of arriving.
pub struct Response<'a> {
    wanted: Statuses<'a>,
    text: Option<&'a [u8]>,
    /// How many bytes of `text` the body so far ends with.
    matched: usize,
    /// Bytes of the body that are still to be searched.
    unsearched: u32,
    /// Bytes of the body, or of its chunk, that are still to come.
    left: u32,
    framing: Framing,
    state: State,
    status: u16,
    /// The line at hand, without its LF; of the status line only the length is kept.
    line_len: usize,
    line: [u8; KEPT],
}

#[derive(Clone, Copy)]
enum State {
    StatusLine,
    InterimHeader,
    Header,
    ChunkSize,
    ChunkEnd,
    Body,
}

/// Where the body ends (RFC 9112 section 6.3).
#[derive(Clone, Copy, Eq, PartialEq)]
enum Framing {
    /// Where the peer closes.
    Close,
    Length,
    Chunked,
}

impl<'a> Response<'a> {
    /// A response that is healthy if its status is among `wanted` and its body has `text` in it.
    pub fn new(wanted: Statuses<'a>, text: Option<&'a [u8]>) -> Self {
        Self {
            wanted,
            text,
            state: State::StatusLine,
            status: 0,
            line: [0; KEPT],
            line_len: 0,
            framing: Framing::Close,
            left: 0,
            unsearched: MAX_BODY,
            matched: 0,
        }
    }

    /// Takes the next bytes; `None` when they do not decide it.
    pub fn push(&mut self, bytes: &[u8]) -> Option<Verdict> {
        bytes.iter().find_map(|byte| self.step(*byte).transpose())
    }

    /// The failure that it is if the peer closes now.
    pub fn close(&self) -> Failure {
        match (self.state, self.framing) {
            (State::Body, Framing::Close) => Failure::TextMissing,
            _ => Failure::Closed,
        }
    }

    // Not inlined: 170 bytes less.
    #[inline(never)]
    fn step(&mut self, byte: u8) -> Result<Option<u16>, Failure> {
        match self.state {
            State::StatusLine => return self.status_line(byte),
            State::Body => return self.body(byte),
            _ => {}
        }
        if byte != b'\n' {
            if let Some(slot) = self.line.get_mut(self.line_len) {
                *slot = byte;
                self.line_len += 1;
            }
            return Ok(None);
        }
        let line = self.line.get(..self.line_len).unwrap_or_default();
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        self.line_len = 0;
        self.state = match (self.state, line) {
            (State::InterimHeader, b"") => State::StatusLine,
            (State::Header, b"") => match self.framing {
                Framing::Chunked => State::ChunkSize,
                Framing::Length if self.left == 0 => return Err(Failure::TextMissing),
                Framing::Length => State::Body,
                Framing::Close => {
                    self.left = u32::MAX;
                    State::Body
                }
            },
            (State::ChunkEnd, b"") => State::ChunkSize,
            (State::ChunkSize, _) => {
                self.left = parse_size(line, 16).ok_or(Failure::NotHttp)?;
                if self.left == 0 {
                    return Err(Failure::TextMissing);
                }
                State::Body
            }
            (State::ChunkEnd, _) => return Err(Failure::NotHttp),
            (State::InterimHeader, _) => State::InterimHeader,
            (state, _) => {
                let (name, value) = split_at_first(line, b':').unwrap_or_default();
                let value = value.trim_ascii();
                if is_named(name, b"transfer-encoding") {
                    // The last coding decides, in any case of letters.
                    let last = value.len().wrapping_sub(b"chunked".len());
                    self.framing = match value.get(last..) {
                        Some(coding) if is_named(coding, b"chunked") => Framing::Chunked,
                        _ => Framing::Close,
                    };
                } else if is_named(name, b"content-length") && self.framing != Framing::Chunked {
                    let length = parse_size(value, 10).ok_or(Failure::NotHttp)?;
                    if self.framing == Framing::Length && self.left != length {
                        return Err(Failure::NotHttp);
                    }
                    self.framing = Framing::Length;
                    self.left = length;
                }
                state
            }
        };
        Ok(None)
    }

    /// `HTTP/1.1 200 OK` (RFC 9112 section 4), with these liberties: a lone LF ends it, as section
    /// 2.2 allows, and the space before an empty reason may be missing, as some servers leave it out.
    fn status_line(&mut self, byte: u8) -> Result<Option<u16>, Failure> {
        // A zero is any digit.
        const START: &[u8; 12] = b"HTTP/1.0 000";
        const BEFORE_REASON: usize = START.len();
        const REASON: usize = BEFORE_REASON + 1;
        const LF: usize = BEFORE_REASON + 2;
        let at = self.line_len;
        self.line_len = if let Some(&expected) = START.get(at) {
            if expected == b'0' && byte.is_ascii_digit() {
                // The first digit is the version's, and `% 1000` drops it.
                self.status = (self.status * 10 + u16::from(byte - b'0')) % 1000;
            } else if expected != byte {
                return Err(Failure::NotHttp);
            }
            at + 1
        } else {
            match byte {
                b'\n' => {
                    self.line_len = 0;
                    return self.end_of_status_line();
                }
                b'\r' if at != LF => LF,
                b' ' if at == BEFORE_REASON => REASON,
                b'\t' | b' '..=b'~' | 0x80.. if at == REASON => REASON,
                _ => return Err(Failure::NotHttp),
            }
        };
        Ok(None)
    }

    fn end_of_status_line(&mut self) -> Result<Option<u16>, Failure> {
        self.state = State::Header;
        match self.status {
            // There is no class 0.
            0..=99 => Err(Failure::NotHttp),
            // Another status line follows, but for 101 (RFC 9110 section 15.2.2).
            100 | 102..=199 => {
                self.state = State::InterimHeader;
                Ok(None)
            }
            status if !self.wanted.contains(status) => Err(Failure::Status(status)),
            status if self.text.is_none() => Ok(Some(status)),
            // These have no body (RFC 9112 section 6.3).
            101 | 204 | 304 => Err(Failure::TextMissing),
            _ => Ok(None),
        }
    }

    fn body(&mut self, byte: u8) -> Result<Option<u16>, Failure> {
        let text = self.text.unwrap_or_default();
        self.matched = extend_match(text, self.matched, byte);
        if self.matched == text.len() {
            return Ok(Some(self.status));
        }
        self.left -= 1;
        self.unsearched -= 1;
        if self.unsearched == 0 || (self.left == 0 && self.framing != Framing::Chunked) {
            return Err(Failure::TextMissing);
        }
        if self.left == 0 {
            self.state = State::ChunkEnd;
        }
        Ok(None)
    }
}

/// Whether this is `name`, which is in lower case.
pub(crate) fn is_named(text: &[u8], name: &[u8]) -> bool {
    text.len() == name.len()
        && text
            .iter()
            .zip(name)
            .all(|(byte, lower)| byte.to_ascii_lowercase() == *lower)
}

/// The number that a line starts with; one that is too large is as good as the largest. What
/// follows must be an extension of a chunk (RFC 9112 section 7.1.1) if anything does.
fn parse_size(line: &[u8], radix: u32) -> Option<u32> {
    let mut size = None;
    for &byte in line {
        match char::from(byte).to_digit(radix) {
            Some(digit) => {
                let sum: u32 = size.unwrap_or(0);
                size = Some(sum.saturating_mul(radix).saturating_add(digit));
            }
            None if radix == 16 && b"; \t".contains(&byte) => break,
            None => return None,
        }
    }
    size
}

/// How many bytes of `text` a body ends with once `byte` is added, when it ended with `matched`
/// before. What the body ended with is the start of `text` itself, so no body need be kept.
fn extend_match(text: &[u8], matched: usize, byte: u8) -> usize {
    let seen = text.get(..matched).unwrap_or_default();
    let mut length = matched;
    while let Some((start, rest)) = text.split_at_checked(length) {
        if rest.first() == Some(&byte) && seen.ends_with(start) {
            return length + 1;
        }
        length = length.wrapping_sub(1);
    }
    0
}

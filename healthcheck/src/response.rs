//! The answer: pushed in as it arrives, in pieces of any size, decided as early as it can be.
//!
//! Nothing is kept but the start of one line, so a header of a megabyte or an endless body costs
//! time alone, and the probe's deadline bounds that.

use endpoint::parse_number;

use crate::options::Statuses;

/// How many bytes of a body are searched.
const MAX_BODY: u32 = 64 * 1024;

/// Enough for the header fields that frame a body; of longer lines the rest is dropped.
const KEPT: usize = 64;

/// What an answer turned out to be: its status if it is healthy.
pub type Verdict = Result<u16, Fault>;

/// Why an answer is not healthy.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fault {
    /// No status line, or a body framed in a way that RFC 9112 does not allow.
    NotHttp,
    /// A whole status line, with a status that is not wanted.
    Status(u16),
    /// The text is not in the first 64 KiB of the body.
    TextMissing,
    /// The peer closed before the answer was decided.
    Closed,
}

/// An HTTP/1 response in the course of arriving.
pub struct Response<'a> {
    wanted: Statuses<'a>,
    text: Option<&'a [u8]>,
    state: State,
    status: u16,
    /// The line at hand, without its LF; of the status line only the length is kept.
    line: [u8; KEPT],
    line_len: usize,
    framing: Framing,
    /// Bytes of the body, or of its chunk, that are still to come.
    left: u32,
    /// Bytes of the body that are still to be searched.
    unsearched: u32,
    /// How many bytes of `text` the body so far ends with.
    matched: usize,
}

#[derive(Clone, Copy)]
enum State {
    StatusLine,
    Header,
    ChunkSize,
    ChunkEnd,
    Body,
}

/// Where the body ends (RFC 9112 section 6.3).
#[derive(Clone, Copy, Eq, PartialEq)]
enum Framing {
    /// Nothing said so far: where the peer closes.
    Unsaid,
    Length(u32),
    Chunked,
    /// Another transfer coding: where the peer closes.
    Coded,
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
            framing: Framing::Unsaid,
            left: 0,
            unsearched: MAX_BODY,
            matched: 0,
        }
    }

    /// Takes the next bytes; `None` when they do not decide it.
    pub fn push(&mut self, bytes: &[u8]) -> Option<Verdict> {
        bytes.iter().find_map(|byte| self.step(*byte).transpose())
    }

    /// What it means that the peer closes now.
    pub fn close(&self) -> Fault {
        match (self.state, self.framing) {
            (State::Body, Framing::Unsaid | Framing::Coded) => Fault::TextMissing,
            _ => Fault::Closed,
        }
    }

    fn step(&mut self, byte: u8) -> Result<Option<u16>, Fault> {
        match self.state {
            State::StatusLine => return self.status_line(byte),
            State::Body => return self.body(byte),
            _ => {}
        }
        if byte != b'\n' {
            if let Some(slot) = self.line.get_mut(self.line_len) {
                *slot = byte;
            }
            self.line_len = self.line_len.saturating_add(1);
            return Ok(None);
        }
        let line = self.line;
        let whole = self.line_len <= KEPT;
        let line = line.get(..self.line_len).unwrap_or(&line);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        self.line_len = 0;
        match self.state {
            State::Header if line.is_empty() => self.end_of_head(),
            State::Header => self.header(line, whole),
            State::ChunkSize => self.chunk_size(line, whole),
            _ if line.is_empty() => {
                self.state = State::ChunkSize;
                Ok(())
            }
            _ => Err(Fault::NotHttp),
        }?;
        Ok(None)
    }

    /// `HTTP/1.1 200 OK` (RFC 9112 section 4), with these liberties: a lone LF ends it, as section
    /// 2.2 allows, and the space before an empty reason may be missing, as some servers leave it out.
    fn status_line(&mut self, byte: u8) -> Result<Option<u16>, Fault> {
        const REASON: usize = 13;
        const LF: usize = 14;
        let at = self.line_len;
        self.line_len = match (at, byte) {
            (0..7, _) if b"HTTP/1.".get(at) == Some(&byte) => at + 1,
            (7, b'0'..=b'9') | (8, b' ') => at + 1,
            // The first digit is the class, and there is no class 0.
            (9, b'1'..=b'9') => {
                self.status = u16::from(byte - b'0');
                at + 1
            }
            (10 | 11, b'0'..=b'9') => {
                self.status = self.status * 10 + u16::from(byte - b'0');
                at + 1
            }
            (12, b' ') => REASON,
            (REASON, b'\t' | b' '..=b'~' | 0x80..) => REASON,
            (12 | REASON, b'\r') => LF,
            (12 | REASON | LF, b'\n') => {
                self.line_len = 0;
                self.state = State::Header;
                return self.end_of_status_line();
            }
            _ => return Err(Fault::NotHttp),
        };
        Ok(None)
    }

    fn end_of_status_line(&mut self) -> Result<Option<u16>, Fault> {
        if self.is_interim() {
            return Ok(None);
        }
        if !self.wanted.contains(self.status) {
            return Err(Fault::Status(self.status));
        }
        match (self.text, self.status) {
            (None, status) => Ok(Some(status)),
            // These have no body (RFC 9112 section 6.3).
            (Some(_), 101 | 204 | 304) => Err(Fault::TextMissing),
            _ => Ok(None),
        }
    }

    /// Whether another status line follows; nothing does after 101 (RFC 9110 section 15.2.2).
    fn is_interim(&self) -> bool {
        self.status < 200 && self.status != 101
    }

    fn header(&mut self, line: &[u8], whole: bool) -> Result<(), Fault> {
        let Some(colon) = line.iter().position(|&byte| byte == b':') else {
            return Ok(());
        };
        let (name, value) = line.split_at_checked(colon).unwrap_or_default();
        let value = value.get(1..).unwrap_or_default().trim_ascii();
        if name.eq_ignore_ascii_case(b"transfer-encoding") {
            let last = value.rsplit(|&byte| byte == b',').next();
            let last = last.unwrap_or_default().trim_ascii_start();
            self.framing = if last.eq_ignore_ascii_case(b"chunked") {
                Framing::Chunked
            } else {
                Framing::Coded
            };
        } else if name.eq_ignore_ascii_case(b"content-length") {
            if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
                return Err(Fault::NotHttp);
            }
            let length = Framing::Length(parse_number(value, u32::MAX).unwrap_or(u32::MAX));
            match self.framing {
                Framing::Unsaid => self.framing = length,
                Framing::Length(_) if self.framing != length => return Err(Fault::NotHttp),
                // A transfer coding overrides it.
                _ => {}
            }
        } else {
            return Ok(());
        }
        if whole { Ok(()) } else { Err(Fault::NotHttp) }
    }

    fn end_of_head(&mut self) -> Result<(), Fault> {
        if self.is_interim() {
            self.state = State::StatusLine;
            self.framing = Framing::Unsaid;
            return Ok(());
        }
        self.left = match self.framing {
            Framing::Chunked => {
                self.state = State::ChunkSize;
                return Ok(());
            }
            Framing::Length(0) => return Err(Fault::TextMissing),
            Framing::Length(length) => length,
            Framing::Unsaid | Framing::Coded => u32::MAX,
        };
        self.state = State::Body;
        Ok(())
    }

    /// `1a;extension` (RFC 9112 section 7.1).
    fn chunk_size(&mut self, line: &[u8], whole: bool) -> Result<(), Fault> {
        let end = line.iter().position(|byte| !byte.is_ascii_hexdigit());
        let (digits, rest) = line
            .split_at_checked(end.unwrap_or(line.len()))
            .unwrap_or_default();
        let ended = match rest.first() {
            None => whole,
            Some(byte) => b"; \t".contains(byte),
        };
        if digits.is_empty() || !ended {
            return Err(Fault::NotHttp);
        }
        self.left = digits.iter().fold(0, |size: u32, digit| {
            let digit = (*digit as char).to_digit(16).unwrap_or(0);
            size.saturating_mul(16).saturating_add(digit)
        });
        if self.left == 0 {
            return Err(Fault::TextMissing);
        }
        self.state = State::Body;
        Ok(())
    }

    fn body(&mut self, byte: u8) -> Result<Option<u16>, Fault> {
        let text = self.text.unwrap_or_default();
        self.matched = extend_match(text, self.matched, byte);
        if self.matched == text.len() {
            return Ok(Some(self.status));
        }
        self.left -= 1;
        self.unsearched -= 1;
        match (self.left, self.framing) {
            _ if self.unsearched == 0 => Err(Fault::TextMissing),
            (0, Framing::Chunked) => {
                self.state = State::ChunkEnd;
                Ok(None)
            }
            (0, _) => Err(Fault::TextMissing),
            _ => Ok(None),
        }
    }
}

/// How many bytes of `text` a body ends with once `byte` is added, when it ended with `matched`
/// before. What the body ended with is the start of `text` itself, so no body need be kept.
fn extend_match(text: &[u8], matched: usize, byte: u8) -> usize {
    let seen = text.get(..matched).unwrap_or_default();
    (0..=matched)
        .rev()
        .find(|&length| {
            text.get(length) == Some(&byte)
                && text
                    .get(..length)
                    .is_some_and(|start| seen.ends_with(start))
        })
        .map_or(0, |length| length + 1)
}

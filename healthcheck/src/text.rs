//! Text without allocation and without `core::fmt`, whose machinery would be half of the binary.

/// Text of up to [`Text::CAPACITY`] bytes; what does not fit is left out.
pub(crate) struct Text {
    bytes: [u8; Self::CAPACITY],
    len: usize,
}

impl Text {
    /// Enough for a request with the longest path and the most headers that are accepted.
    pub(crate) const CAPACITY: usize = 4096;

    pub(crate) const fn new() -> Self {
        Self {
            bytes: [0; Self::CAPACITY],
            len: 0,
        }
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    pub(crate) fn push(&mut self, text: &[u8]) -> &mut Self {
        for (slot, byte) in self.bytes.iter_mut().skip(self.len).zip(text) {
            *slot = *byte;
            self.len += 1;
        }
        self
    }

    pub(crate) fn push_number(&mut self, number: u32) -> &mut Self {
        if number > 9 {
            self.push_number(number / 10);
        }
        self.push(&[b'0' + (number % 10) as u8])
    }

    /// Appends what came from outside so that it stays on one line and within `limit` bytes:
    /// whatever is not visible ASCII or a space, and quotes, as `\x0a`; a cut as `...`.
    pub(crate) fn push_escaped(&mut self, text: &[u8], limit: usize) -> &mut Self {
        let end = self.len + limit.saturating_sub(CUT.len());
        for &byte in text {
            if self.len + 4 > end {
                return self.push(CUT);
            }
            match byte {
                b'"' | b'\\' | 0..b' ' | 0x7f.. => {
                    self.push(&[b'\\', b'x', hex_digit(byte >> 4), hex_digit(byte & 15)])
                }
                _ => self.push(&[byte]),
            };
        }
        self
    }
}

const CUT: &[u8] = b"...";

fn hex_digit(nibble: u8) -> u8 {
    nibble + if nibble < 10 { b'0' } else { b'a' - 10 }
}

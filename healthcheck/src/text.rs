//! Text without allocation and without `core::fmt`, which would be half of the binary.

/// Text in a buffer of a fixed size; what does not fit is left out.
pub(crate) struct Text<'b> {
    buffer: &'b mut [u8],
    len: usize,
}

impl<'b> Text<'b> {
    pub(crate) fn new(buffer: &'b mut [u8]) -> Self {
        Self { buffer, len: 0 }
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.buffer.get(..self.len).unwrap_or_default()
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The text, for as long as its buffer.
    pub(crate) fn into_bytes(self) -> &'b [u8] {
        self.buffer.get(..self.len).unwrap_or_default()
    }

    pub(crate) fn push(&mut self, text: &[u8]) {
        for byte in text {
            if let Some(slot) = self.buffer.get_mut(self.len) {
                *slot = *byte;
                self.len += 1;
            }
        }
    }

    pub(crate) fn push_number(&mut self, number: u32) {
        if number > 9 {
            self.push_number(number / 10);
        }
        self.push(&[b'0' + (number % 10) as u8]);
    }

    /// Appends text from outside so that it stays on one line and within `limit` bytes. Quotes, backslashes,
    /// and bytes that are neither visible ASCII nor spaces become `\x0a`; text that is cut ends in `...`.
    pub(crate) fn push_escaped(&mut self, text: &[u8], limit: usize) {
        let end = self.len + limit;
        for &byte in text {
            // The longest form of a byte, and the cut, must fit.
            if self.len + 7 > end {
                return self.push(b"...");
            }
            if matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\' {
                self.push(&[byte]);
            } else {
                self.push(&[b'\\', b'x', hex_digit(byte >> 4), hex_digit(byte & 15)]);
            }
        }
    }
}

fn hex_digit(nibble: u8) -> u8 {
    nibble + if nibble < 10 { b'0' } else { b'a' - 10 }
}

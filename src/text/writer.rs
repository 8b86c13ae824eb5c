//! Writes text into a slice. It saves flash to do this without `core::fmt`.

use super::{BufferTooSmall, base64};

/// Appends text to a slice. The writer counts on after the slice is full, so [`Writer::finish`] can
/// report the exact size that the text needs.
pub(crate) struct Writer<'b> {
    buffer: &'b mut [u8],
    len: usize,
    reserved: usize,
}

impl<'b> Writer<'b> {
    pub(crate) fn new(buffer: &'b mut [u8]) -> Self {
        Self { buffer, len: 0, reserved: 0 }
    }

    #[inline(never)]
    pub(crate) fn byte(&mut self, byte: u8) {
        put(self.buffer, &mut self.len, byte);
    }

    pub(crate) fn str(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    #[inline(never)]
    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        let end = self.len + bytes.len();
        if let Some(slot) = self.buffer.get_mut(self.len..end) {
            slot.copy_from_slice(bytes);
        }
        self.len = end;
    }

    /// Writes a number in decimal. The code avoids 64-bit division, whose library function takes half a
    /// kilobyte on a Cortex-M: [`divide_by_ten`] divides larger numbers 16 bits at a time.
    pub(crate) fn decimal(&mut self, number: u64) {
        let mut number = number;
        let mut digits = [b'0'; 20];
        let mut first = digits.len() - 1;
        for (at, digit) in digits.iter_mut().enumerate().rev() {
            let (quotient, rest) = match u32::try_from(number) {
                Ok(number) => (u64::from(number / 10), number % 10),
                Err(_) => divide_by_ten(number),
            };
            number = quotient;
            *digit = b'0' + rest as u8;
            first = at;
            if number == 0 {
                break;
            }
        }
        self.bytes(digits.get(first..).unwrap_or_default());
    }

    /// Writes `text` percent-encoded, except for the unreserved characters of
    /// [RFC 3986](https://www.rfc-editor.org/rfc/rfc3986#section-2.3).
    pub(crate) fn percent(&mut self, text: &[u8]) {
        const HEX: &[u8; 16] = b"0123456789ABCDEF";
        // A local copy, which the compiler keeps in a register.
        let mut len = self.len;
        for &byte in text {
            if is_unreserved(byte) {
                put(self.buffer, &mut len, byte);
            } else {
                for byte in [b'%', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]] {
                    put(self.buffer, &mut len, byte);
                }
            }
        }
        self.len = len;
    }

    pub(crate) fn base64(&mut self, bytes: &[u8]) {
        base64::encode(bytes, &mut |quad| self.bytes(&quad));
    }

    /// Writes a signature as percent-encoded base64. The length depends on the signature, so the writer
    /// reserves room for the longest one. A buffer that is large enough once is always large enough.
    pub(crate) fn percent_base64(&mut self, mac: &[u8; 32]) {
        let start = self.len;
        base64::encode(mac, &mut |quad| self.percent(&quad));
        self.reserved += LONGEST_SIGNATURE.saturating_sub(self.len - start);
    }

    /// Returns the text that was written after the length was `mark`, or `None` if it did not fit.
    pub(crate) fn since(&self, mark: usize) -> Option<&[u8]> {
        self.buffer.get(mark..self.len)
    }

    /// Sets the length back to `mark`.
    pub(crate) fn rewind(&mut self, mark: usize) {
        self.len = mark;
    }

    /// Returns the number of bytes written so far, including those that did not fit.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Returns the text, or the size that it needs.
    pub(crate) fn finish(self) -> Result<&'b mut [u8], BufferTooSmall> {
        let needed = self.len.saturating_add(self.reserved);
        if needed > self.buffer.len() {
            return Err(BufferTooSmall { needed, exact: true });
        }
        Ok(self.buffer.get_mut(..self.len).unwrap_or_default())
    }
}

fn put(buffer: &mut [u8], len: &mut usize, byte: u8) {
    if let Some(slot) = buffer.get_mut(*len) {
        *slot = byte;
    }
    *len += 1;
}

pub(crate) const fn is_unreserved(byte: u8) -> bool {
    /// One bit for each value of a byte.
    const UNRESERVED: [u32; 8] = {
        let mut bits = [0; 8];
        let mut byte = 0_u8;
        while byte < 128 {
            if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
                bits[byte as usize / 32] |= 1 << (byte % 32);
            }
            byte += 1;
        }
        bits
    };
    UNRESERVED[(byte >> 5) as usize] >> (byte & 31) & 1 == 1
}

#[cold]
fn divide_by_ten(number: u64) -> (u64, u32) {
    let mut rest = 0;
    let quotient = [48, 32, 16, 0].iter().fold(0, |quotient, shift| {
        let dividend = rest << 16 | (number >> shift) as u32 & 0xffff;
        rest = dividend % 10;
        quotient | u64::from(dividend / 10) << shift
    });
    (quotient, rest)
}

/// The longest signature in percent-encoded base64: 42 characters of three bytes each, one character that
/// never needs an escape, and the escaped padding.
pub(crate) const LONGEST_SIGNATURE: usize = 42 * 3 + 1 + 3;

/// Returns bytes that are known to be UTF-8 as text: output of a [`Writer`], or JSON that was checked.
#[inline(never)]
pub(crate) fn text(known: &[u8]) -> &str {
    core::str::from_utf8(known).unwrap_or_default()
}

/// Returns the number of decimal digits of `number`.
pub(crate) const fn digits(number: usize) -> usize {
    match number.checked_ilog10() {
        Some(log) => log as usize + 1,
        None => 1,
    }
}

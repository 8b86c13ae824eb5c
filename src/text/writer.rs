//! The one way in which this crate writes text: into a slice, without `core::fmt`.

use super::{BufferTooSmall, base64};

/// Appends to a slice and keeps counting past its end, so that a writer that ran over
/// knows exactly how much room the text needs. Nothing is checked until [`Writer::finish`].
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

    /// Decimal digits. A 64-bit division would cost a Cortex-M half a kilobyte, so what does
    /// not fit 32 bits is divided by hand, in 16-bit limbs.
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

    /// Percent-encodes all but the unreserved characters of RFC 3986.
    pub(crate) fn percent(&mut self, text: &[u8]) {
        const HEX: &[u8; 16] = b"0123456789ABCDEF";
        // In a variable, it stays in a register.
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

    /// Base64 of a signature, percent-encoded. Signatures differ in how much of them must be
    /// escaped; room for the worst is asked for, so that a buffer that serves once serves
    /// always.
    pub(crate) fn percent_base64(&mut self, mac: &[u8; 32]) {
        let start = self.len;
        base64::encode(mac, &mut |quad| self.percent(&quad));
        self.reserved += LONGEST_SIGNATURE.saturating_sub(self.len - start);
    }

    /// What was written since the length was `mark`, unless the buffer is too small for it.
    pub(crate) fn since(&self, mark: usize) -> Option<&[u8]> {
        self.buffer.get(mark..self.len)
    }

    /// Goes back to where the length was `mark`.
    pub(crate) fn rewind(&mut self, mark: usize) {
        self.len = mark;
    }

    /// How many bytes were written, or would have been.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

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
    /// A bit for each byte.
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

/// The longest signature, percent-encoded: forty-two characters, then one that is never escaped and
/// the escaped padding.
pub(crate) const LONGEST_SIGNATURE: usize = 42 * 3 + 1 + 3;

/// Bytes that are known to be UTF-8: what a writer wrote, or part of a document that was
/// checked.
#[inline(never)]
pub(crate) fn text(known: &[u8]) -> &str {
    core::str::from_utf8(known).unwrap_or_default()
}

/// The length of a number in decimal.
pub(crate) const fn digits(number: usize) -> usize {
    match number.checked_ilog10() {
        Some(log) => log as usize + 1,
        None => 1,
    }
}

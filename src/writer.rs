//! The one way in which this crate writes text: into a slice, without `core::fmt`.

use base64::{Engine, engine::general_purpose::STANDARD};

use crate::error::BufferTooSmall;

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

    pub(crate) fn byte(&mut self, byte: u8) {
        if let Some(slot) = self.buffer.get_mut(self.len) {
            *slot = byte;
        }
        self.len = self.len.saturating_add(1);
    }

    pub(crate) fn str(&mut self, text: &str) {
        let end = self.len.saturating_add(text.len());
        if let Some(slot) = self.buffer.get_mut(self.len..end) {
            slot.copy_from_slice(text.as_bytes());
        }
        self.len = end;
    }

    /// Decimal digits, by long division in 16-bit limbs: a 64-bit division would cost a
    /// Cortex-M half a kilobyte.
    pub(crate) fn decimal(&mut self, number: u64) {
        let mut limbs = [48, 32, 16, 0].map(|shift| (number >> shift) as u32 & 0xffff);
        let mut digits = [b'0'; 20];
        let mut first = digits.len() - 1;
        for (at, digit) in digits.iter_mut().enumerate().rev() {
            let mut rest = 0;
            for limb in &mut limbs {
                let dividend = rest << 16 | *limb;
                *limb = dividend / 10;
                rest = dividend % 10;
            }
            *digit = b'0' + rest as u8;
            first = at;
            if limbs == [0; 4] {
                break;
            }
        }
        for &digit in digits.get(first..).unwrap_or_default() {
            self.byte(digit);
        }
    }

    /// Percent-encodes all but the unreserved characters of RFC 3986.
    pub(crate) fn percent(&mut self, text: &str) {
        const HEX: &[u8; 16] = b"0123456789ABCDEF";
        for byte in text.bytes() {
            if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
                self.byte(byte);
            } else {
                self.byte(b'%');
                self.byte(HEX[usize::from(byte >> 4)]);
                self.byte(HEX[usize::from(byte & 15)]);
            }
        }
    }

    /// Base64 of a signature, percent-encoded. Signatures differ in how much of them must be
    /// escaped; room for the worst is asked for, so that a buffer that serves once serves
    /// always.
    pub(crate) fn percent_base64(&mut self, mac: &[u8; 32]) {
        // Forty-two characters, then one that is never escaped and the escaped padding.
        const WORST: usize = 42 * 3 + 1 + 3;
        let start = self.len;
        let mut text = [0; 44];
        // 32 bytes are always 44 characters: the error is unreachable, and would show as an
        // empty signature rather than as a panic.
        let len = STANDARD.encode_slice(mac, &mut text).unwrap_or(0);
        let text = text.get(..len).and_then(|text| core::str::from_utf8(text).ok());
        self.percent(text.unwrap_or_default());
        self.reserved += WORST.saturating_sub(self.len - start);
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

//! Base64 of keys and signatures ([RFC 4648](https://www.rfc-editor.org/rfc/rfc4648#section-4)).
//!
//! The base64 crate encodes, three bytes at a time. With a length that the compiler knows, its encoder
//! is small. The crate's decoder is not used: its code takes 1.6 kB, and it does not pass the no-panic
//! proof (see `crate::total`). The decoder here is shorter. A test compares the two.

use ::base64::{Engine, engine::general_purpose::STANDARD};

/// The reason why a text cannot be decoded.
pub(crate) enum Undecodable {
    /// Not base64: the position of the first wrong or missing character.
    At(usize),
    /// The bytes do not fit the buffer.
    TooLong,
}

/// Decodes into the start of `bytes`, and returns the number of bytes.
pub(crate) fn decode(text: &[u8], bytes: &mut [u8]) -> Result<usize, Undecodable> {
    // A line feed at the end is the most common mistake. The error names its position.
    let trimmed = text.trim_ascii_end();
    if trimmed.len() < text.len() {
        return Err(Undecodable::At(trimmed.len()));
    }
    let padding = text.iter().rev().take(2).take_while(|&&byte| byte == b'=').count();
    let digits = text.len() - padding;
    let mut len = 0;
    // The bits that were read, and the number of bits that are not written yet.
    let (mut bits, mut pending) = (0_u32, 0);
    for (at, &character) in text.get(..digits).unwrap_or_default().iter().enumerate() {
        let digit = digit(character).ok_or(Undecodable::At(at))?;
        bits = bits << 6 | u32::from(digit);
        pending += 6;
        if pending >= 8 {
            pending -= 8;
            *bytes.get_mut(len).ok_or(Undecodable::TooLong)? = (bits >> pending) as u8;
            len += 1;
        }
    }
    if !text.len().is_multiple_of(4) {
        return Err(Undecodable::At(text.len()));
    }
    // The bits that do not fill a byte must be zero.
    if bits & ((1 << pending) - 1) != 0 {
        return Err(Undecodable::At(digits - 1));
    }
    Ok(len)
}

fn digit(character: u8) -> Option<u8> {
    Some(match character {
        b'A'..=b'Z' => character - b'A',
        b'a'..=b'z' => character - b'a' + 26,
        b'0'..=b'9' => character - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        _ => return None,
    })
}

/// Encodes `bytes`, and calls `each` with every four characters.
pub(crate) fn encode(bytes: &[u8], each: &mut dyn FnMut([u8; 4])) {
    let (triples, rest) = bytes.as_chunks();
    for triple in triples {
        each(quad(triple));
    }
    match *rest {
        [a] => {
            let [a, b, ..] = quad(&[a, 0, 0]);
            each([a, b, b'=', b'=']);
        }
        [a, b] => {
            let [a, b, c, _] = quad(&[a, b, 0]);
            each([a, b, c, b'=']);
        }
        _ => {}
    }
}

#[inline(never)]
fn quad(triple: &[u8; 3]) -> [u8; 4] {
    let mut quad = [0; 4];
    // Three bytes are always four characters: the error cannot occur.
    let _ = STANDARD.encode_slice(triple, &mut quad);
    quad
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tries every end of a text, with every byte at each of the last eight places.
    #[test]
    fn decodes_as_the_base64_crate_does() {
        for keep in 0..=8 {
            for at in 0..keep {
                for character in 0..=u8::MAX {
                    for end in ["", "=", "==", "===", "\n"] {
                        let mut text = [b'A'; 11];
                        text[at] = character;
                        text[keep..keep + end.len()].copy_from_slice(end.as_bytes());
                        let text = &text[..keep + end.len()];
                        let (mut ours, mut theirs) = ([0; 16], [0; 16]);
                        let len = decode(text, &mut ours).ok();
                        assert_eq!(len, STANDARD.decode_slice(text, &mut theirs).ok(), "{text:?}");
                        assert!(len.is_none() || ours == theirs, "{text:?}");
                    }
                }
            }
        }
    }
}

//! Base64 of keys and signatures.
//!
//! Encoding is the base64 crate's, three bytes at a time: with lengths that the compiler
//! knows, what is left of its engine is small. Its decoder is 1.6 kB of code for speed that
//! one key a boot does not need, and can panic as far as the linker sees; the few lines here
//! are held against it by a test.

use ::base64::{Engine, engine::general_purpose::STANDARD};

/// Why a text could not be decoded.
pub(crate) enum Undecodable {
    /// Not base64: the position of the first wrong character, or of the missing one.
    At(usize),
    /// More than there is room for.
    TooLong,
}

/// Decodes into the start of `bytes`, and returns how many there are.
pub(crate) fn decode(text: &[u8], bytes: &mut [u8]) -> Result<usize, Undecodable> {
    // A line feed, say: the commonest mistake deserves its own place.
    let trimmed = text.trim_ascii_end();
    if trimmed.len() < text.len() {
        return Err(Undecodable::At(trimmed.len()));
    }
    let padding = text.iter().rev().take(2).take_while(|&&byte| byte == b'=').count();
    let digits = text.len() - padding;
    let mut len = 0;
    // The last bits, and how many of them are still to be written.
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
    // What stands for no whole byte must be zero.
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

/// Encodes, and hands on four characters at a time.
pub(crate) fn encode(bytes: &[u8], each: &mut dyn FnMut([u8; 4])) {
    let (triples, rest) = bytes.as_chunks();
    for triple in triples {
        each(quad(triple));
    }
    // What stands for no byte is padding.
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

    /// Every way to end a text, with every character in every place of its last eight.
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

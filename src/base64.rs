//! Base64 of keys and signatures, four characters at a time: with lengths that the compiler
//! knows, what is left of the engine is small, and cannot panic.

use ::base64::{DecodeError, DecodeSliceError, Engine, engine::general_purpose::STANDARD};

/// Why a text could not be decoded.
pub(crate) enum Undecodable {
    /// Not base64, from this position on.
    At(usize),
    /// More than there is room for.
    TooLong,
}

/// Decodes into the start of `bytes`, and returns how many there are.
pub(crate) fn decode(text: &[u8], bytes: &mut [u8]) -> Result<usize, Undecodable> {
    let (quads, rest) = text.as_chunks();
    let mut len = 0;
    for (at, quad) in quads.iter().enumerate() {
        let mut triple = [0; 3];
        let decoded = decode_quad(quad, &mut triple).map_err(|offset| Undecodable::At(at * 4 + offset))?;
        // Padding ends the text.
        if decoded < 3 && at + 1 < quads.len() {
            return Err(Undecodable::At(at * 4 + decoded + 1));
        }
        for byte in triple.iter().take(decoded) {
            *bytes.get_mut(len).ok_or(Undecodable::TooLong)? = *byte;
            len += 1;
        }
    }
    match rest {
        [] => Ok(len),
        // A line feed at the end is worth a position of its own.
        _ => Err(Undecodable::At(text.len() - rest.iter().rev().take_while(|byte| byte.is_ascii_whitespace()).count())),
    }
}

fn decode_quad(quad: &[u8; 4], triple: &mut [u8; 3]) -> Result<usize, usize> {
    STANDARD.decode_slice(quad, triple).map_err(|error| match error {
        DecodeSliceError::DecodeError(
            DecodeError::InvalidByte(offset, _) | DecodeError::InvalidLastSymbol { offset, .. },
        ) => offset,
        _ => quad.len(),
    })
}

/// Encodes, and hands on four characters at a time.
pub(crate) fn encode(bytes: &[u8], mut each: impl FnMut([u8; 4])) {
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

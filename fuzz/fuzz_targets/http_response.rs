//! The HTTP reader: however the bytes arrive, the answer is the same, and it lies within the
//! buffer.

#![no_main]

use azure_dps::Error;
use azure_dps::http::{Response, ResponseReader};
use libfuzzer_sys::fuzz_target;

fn read(bytes: &[u8], piece: usize) -> Result<(Response, Vec<u8>), Error> {
    let mut buffer = [0; 512];
    let mut reader = ResponseReader::new();
    let mut rest = bytes;
    loop {
        let space = reader.space(&mut buffer)?;
        assert!(!space.is_empty());
        let len = rest.len().min(piece).min(space.len());
        space[..len].copy_from_slice(&rest[..len]);
        rest = &rest[len..];
        if let Some(response) = reader.received(&mut buffer, len)? {
            assert!(response.body_len <= buffer.len());
            return Ok((response, response.answer(&buffer).body.to_vec()));
        }
    }
}

fuzz_target!(|input: (u8, &[u8])| {
    let (piece, bytes) = input;
    let pieces = read(bytes, usize::from(piece).max(1));
    let whole = read(bytes, usize::MAX);
    match (pieces, whole) {
        (Ok((mut in_pieces, body)), Ok((at_once, same))) => {
            // What follows an answer is seen only if it came along with it.
            in_pieces.keep_alive = at_once.keep_alive;
            assert_eq!((in_pieces, body), (at_once, same));
        }
        // A buffer that is too small shows sooner or later, depending on the pieces.
        (Err(Error::BufferTooSmall(_)), _) | (_, Err(Error::BufferTooSmall(_))) => {}
        (Err(one), Err(other)) => assert_eq!(one, other),
        (one, other) => panic!("{one:?} in pieces, {other:?} at once"),
    }
});

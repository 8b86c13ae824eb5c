//! The HTTP reader. The answer does not depend on how the bytes arrive, and lies within the buffer.

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
            // Bytes after an answer are only seen if they arrived with it.
            in_pieces.keep_alive = at_once.keep_alive;
            assert_eq!((in_pieces, body), (at_once, same));
        }
        // The pieces determine when a too small buffer is detected.
        (Err(Error::BufferTooSmall(_)), _) | (_, Err(Error::BufferTooSmall(_))) => {}
        (Err(one), Err(other)) => assert_eq!(one, other),
        (one, other) => panic!("{one:?} in pieces, {other:?} at once"),
    }
});

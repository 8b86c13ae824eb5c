//! The HTTP codec: answers in pieces of every size, with every framing, and many invalid ones.

mod support;

use azure_dps::http::{MAX_HEADERS, Response, ResponseReader};
use azure_dps::{
    Error,
    error::{BufferTooSmall, Malformed, TransportError},
};
use support::*;

const CLOSED: Error = Error::Transport(TransportError::Closed);

/// Reads an answer in pieces of `piece` bytes and then the end of the connection.
fn read(answer: &[u8], piece: usize, size: usize) -> Result<(Response, Vec<u8>), Error> {
    let mut buffer = vec![0; size];
    let mut reader = ResponseReader::new();
    let mut rest = answer;
    loop {
        let space = reader.space(&mut buffer)?;
        let len = rest.len().min(piece).min(space.len());
        space[..len].copy_from_slice(&rest[..len]);
        rest = &rest[len..];
        if let Some(response) = reader.received(&mut buffer, len)? {
            return Ok((response, response.answer(&buffer).body.to_vec()));
        }
    }
}

#[test]
fn the_services_answers_in_pieces_of_every_size() {
    let retry = "Retry-After: 3\r\nLocation: https://global.azure-devices-provisioning.net/0ne00002193/registrations/breakroom499-contoso-tstrsd-007/register\r\n";
    for (answer, status, retry_after, body) in [
        (http("202 Accepted", retry, ASSIGNING), 202, Some(3), ASSIGNING),
        (http_chunked("202 Accepted", retry, ASSIGNING, 1), 202, Some(3), ASSIGNING),
        (http("200 OK", "", ASSIGNED), 200, None, ASSIGNED),
        (http_chunked("200 OK", "", ASSIGNED, 7), 200, None, ASSIGNED),
        (http_chunked("200 OK", "", ASSIGNED, 4096), 200, None, ASSIGNED),
    ] {
        for piece in 1..=answer.len() {
            let (response, read_body) = read(&answer, piece, 1024).unwrap();
            assert_eq!((response.status, response.retry_after, response.keep_alive), (status, retry_after, true));
            assert_eq!(read_body, body.as_bytes());
        }
    }
}

#[test]
fn an_answer_cut_at_any_byte_is_incomplete() {
    for answer in [http("200 OK", "", ASSIGNED), http_chunked("200 OK", "", ASSIGNED, 16)] {
        for len in 0..answer.len() {
            assert_eq!(read(&answer[..len], 64, 2048), Err(CLOSED), "{len}");
        }
    }
}

#[test]
fn framing() {
    let ok = |text: &str| {
        let (response, body) = read(text.as_bytes(), 5, 256).unwrap_or_else(|error| panic!("{text:?}: {error}"));
        (response.status, String::from_utf8(body).unwrap(), response.keep_alive)
    };
    for (text, status, body, keep_alive) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", 200, "{}", true),
        ("HTTP/1.1 200\r\ncontent-length:2\r\n\r\n{}", 200, "{}", true),
        ("HTTP/1.1 200 OK\nContent-Length: 2\n\n{}", 200, "{}", true),
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\n{}", 200, "{}", true),
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: Close\r\n\r\n{}", 200, "{}", false),
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: x, close\r\n\r\n{}", 200, "{}", false),
        ("HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n{}", 200, "{}", false),
        ("HTTP/1.0 200 OK\r\nContent-Length: 2\r\nConnection: keep-alive\r\n\r\n{}", 200, "{}", true),
        ("HTTP/1.1 200 OK\r\n\r\n{}", 200, "{}", false),
        ("HTTP/1.1 200 OK\r\n\r\n", 200, "", false),
        ("HTTP/1.1 204 No Content\r\n\r\n", 204, "", true),
        ("HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", 204, "", true),
        ("HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", 304, "", false),
        ("HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n", 304, "", false),
        ("HTTP/1.1 429 Too Many\r\nContent-Length: 0\r\n\r\n", 429, "", true),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: CHUNKED\r\n\r\n2;ext=1\r\n{}\r\n0\r\n\r\n", 200, "{}", true),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nTrailer: x\r\n\r\n", 200, "{}", true),
        ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", 200, "{}", true),
        ("HTTP/1.1 103 Early\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", 200, "{}", true),
    ] {
        assert_eq!(ok(text), (status, body.to_string(), keep_alive), "{text:?}");
    }
}

#[test]
fn bytes_after_an_answer_end_the_connection() {
    let (response, body) = read(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}HTTP/1.1 200 OK", 100, 256).unwrap();
    assert_eq!((body.as_slice(), response.keep_alive), (&b"{}"[..], false));
}

#[test]
fn retry_after() {
    for (value, expected) in [
        ("0", Some(0)),
        ("3", Some(3)),
        (" 120 ", Some(120)),
        ("99999999999999999999", Some(u32::MAX)),
        ("-1", None),
        ("1.5", None),
        ("", None),
        ("Wed, 21 Oct 2026 07:28:00 GMT", None),
    ] {
        let text = format!("HTTP/1.1 202 A\r\nretry-AFTER: {value}\r\nContent-Length: 0\r\n\r\n");
        assert_eq!(read(text.as_bytes(), 100, 256).unwrap().0.retry_after, expected, "{value}");
    }
}

#[test]
fn invalid_http_is_malformed() {
    let head = Err(Malformed::HttpHead.into());
    let chunk = Err(Malformed::HttpChunk.into());
    for (text, expected) in [
        ("garbage\r\n\r\n", head.clone()),
        ("HTTP/2 200 OK\r\n\r\n", head.clone()),
        ("SSH-2.0-OpenSSH_9\r\n", head.clone()),
        ("\u{16}\u{3}\u{3}", head.clone()),
        ("HTTP/1.1 2x0 OK\r\n\r\n", head.clone()),
        ("HTTP/1.1 101 Switching\r\n\r\n", head.clone()),
        ("HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", head.clone()),
        ("HTTP/1.1 200 OK\r\nContent-Length: 1, 1\r\n\r\n", head.clone()),
        ("HTTP/1.1 200 OK\r\nContent-Length: 4294967296\r\n\r\n", head.clone()),
        ("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", head.clone()),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", head.clone()),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n", head.clone()),
        ("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", head.clone()),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n", chunk.clone()),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}x", chunk.clone()),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-2\r\n", chunk.clone()),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\r\n\r\n", chunk.clone()),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n;x\r\n\r\n", chunk.clone()),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n\r\n\r\n", chunk.clone()),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n11111111111111111\r\n", chunk.clone()),
    ] {
        for piece in [1, 3, 1000] {
            assert_eq!(read(text.as_bytes(), piece, 256), expected, "{text:?}");
        }
    }
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "X: y\r\n".repeat(MAX_HEADERS + 1));
    assert_eq!(read(many.as_bytes(), 100, 4096), Err(Malformed::TooManyHeaders.into()));
    let enough = format!("HTTP/1.1 200 OK\r\n{}Content-Length: 0\r\n\r\n", "X: y\r\n".repeat(MAX_HEADERS - 1));
    assert!(read(enough.as_bytes(), 100, 4096).is_ok());
}

#[test]
fn a_wrong_buffer_is_an_error_without_panic() {
    let answer = http_chunked("200 OK", "", ASSIGNED, 7);
    for (first, then) in [(1024, 0), (1024, 10), (1024, 300), (10, 1024), (300, 299)] {
        for len in 1..300 {
            let mut reader = ResponseReader::new();
            let mut buffer = vec![0; first];
            let len = len.min(first);
            reader.space(&mut buffer).unwrap()[..len].copy_from_slice(&answer[..len]);
            let _ = reader.received(&mut buffer, len);
            let mut other = vec![b'0'; then];
            if let Ok(space) = reader.space(&mut other) {
                let len = space.len();
                let _ = reader.received(&mut other, len);
                let _ = reader.space(&mut other).map(|_| ());
            }
        }
    }
}

#[test]
fn a_small_buffer_error_names_the_needed_size() {
    let too_small = |answer: &[u8], size| match read(answer, 16, size) {
        Err(Error::BufferTooSmall(BufferTooSmall { needed, exact, .. })) => (needed, exact),
        other => panic!("{size}: {other:?}"),
    };
    let head = http("200 OK", "", "").len();
    // With a Content-Length the named size is exact as soon as the head fits.
    let answer = http("200 OK", "", ASSIGNED);
    for size in head + 4..ASSIGNED.len() {
        assert_eq!(too_small(&answer, size), (ASSIGNED.len(), true));
    }
    assert!(read(&answer, 16, ASSIGNED.len()).is_ok());
    for size in 1..head {
        assert_eq!(too_small(&answer, size), (size + 1, false));
    }
    // Without Content-Length the named size is a lower bound.
    let mut size = 1;
    let answer = http_chunked("200 OK", "", ASSIGNED, 100);
    while let Err(Error::BufferTooSmall(error)) = read(&answer, 16, size) {
        assert!(error.needed > size && !error.exact);
        size = error.needed;
    }
    assert!(read(&answer, 16, size).is_ok());
    assert!(size <= ASSIGNED.len() + 16, "{size}");
    // Endless heads and bodies fail with the same error.
    let endless_head = ["HTTP/1.1 200 OK\r\nX: ", &"x".repeat(10_000)].concat();
    assert_eq!(too_small(endless_head.as_bytes(), 1024), (1025, false));
    let endless_body = ["HTTP/1.1 200 OK\r\n\r\n", &"x".repeat(10_000)].concat();
    assert_eq!(too_small(endless_body.as_bytes(), 1024), (1025, false));
    let huge_chunk = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffff\r\n";
    assert_eq!(too_small(huge_chunk.as_bytes(), 1024), (0xff_ffff, false));
    let endless_extension = ["HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;", &"x".repeat(10_000)].concat();
    assert_eq!(too_small(endless_extension.as_bytes(), 1024), (1025, false));
}

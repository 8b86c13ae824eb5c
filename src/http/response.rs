use crate::{
    error::{BufferTooSmall, Error, Malformed, TransportError},
    provisioning::Answer,
    text::json::{parse_seconds, parse_u32},
    total::move_down,
};

/// The maximum number of header lines of an answer. The service sends about eight.
pub const MAX_HEADERS: usize = 32;

/// The maximum number of interim answers (1xx) before the final one. The requests do not ask for any.
const MAX_INTERIM: u8 = 8;

/// Reads one HTTP answer from pieces of any size, in one buffer.
///
/// The body replaces the head at the start of the buffer, without the framing of chunks. So the buffer must hold
/// the larger of the two. See the [module](crate::http) for an example.
///
/// Source: [RFC 9112](https://www.rfc-editor.org/rfc/rfc9112).
#[derive(Clone, Debug)]
#[cfg_attr(feature = "defmt-v1", derive(defmt::Format))]
pub struct ResponseReader {
    phase: Phase,
    /// `buffer[..body]` is the body so far. `buffer[raw..filled]` was received, but not read yet.
    body: usize,
    raw: usize,
    filled: usize,
    interim: u8,
    response: Response,
}

/// A complete HTTP answer: the head, and the length of the body in the buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[cfg_attr(feature = "defmt-v1", derive(defmt::Format))]
pub struct Response {
    /// The HTTP status.
    pub status: u16,
    /// `Retry-After` in seconds. A date counts as absent: the service does not send dates.
    pub retry_after: Option<u32>,
    /// The length of the body, which is at the start of the buffer.
    pub body_len: usize,
    /// `true` if you can send another request on this connection.
    pub keep_alive: bool,
}

impl Response {
    /// Returns the answer for [`Provisioning::on_answer`](crate::Provisioning::on_answer). `buffer` is the buffer
    /// of the reader.
    pub fn answer<'b>(&self, buffer: &'b [u8]) -> Answer<'b> {
        Answer::new(self.status, self.retry_after, buffer.get(..self.body_len).unwrap_or_default())
    }
}

#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "defmt-v1", derive(defmt::Format))]
enum Phase {
    Head,
    /// The number of missing bytes of the body.
    Length(usize),
    UntilClose,
    ChunkSize,
    /// The number of missing bytes of the chunk.
    Chunk(usize),
    ChunkEnd,
    Trailers,
    Complete,
}

impl ResponseReader {
    /// Creates a reader for one answer.
    pub const fn new() -> Self {
        Self {
            phase: Phase::Head,
            body: 0,
            raw: 0,
            filled: 0,
            interim: 0,
            response: Response { status: 0, retry_after: None, body_len: 0, keep_alive: false },
        }
    }

    /// Returns the space for the bytes that arrive next. It has room for at least one byte.
    ///
    /// # Errors
    /// [`Error::BufferTooSmall`] if the answer does not fit the buffer.
    pub fn space<'b>(&mut self, buffer: &'b mut [u8]) -> Result<&'b mut [u8], Error> {
        let size = buffer.len();
        if self.filled > size {
            // This is not the buffer with the answer.
            return Err(BufferTooSmall::at_least(self.filled).into());
        }
        if self.filled == size && self.raw > self.body {
            move_down(buffer, self.raw..self.filled, self.body);
            self.filled -= self.raw - self.body;
            self.raw = self.body;
        }
        match buffer.get_mut(self.filled..) {
            Some(space) if !space.is_empty() => Ok(space),
            _ => Err(BufferTooSmall::at_least(size + 1).into()),
        }
    }

    /// Reads `len` bytes that you have put into [`space`](Self::space). Returns the answer as soon as it is
    /// complete.
    ///
    /// If the server closed the connection, pass 0.
    ///
    /// # Errors
    /// - [`Error::Malformed`] if this is not HTTP/1.1;
    /// - [`Error::BufferTooSmall`] if the body does not fit the buffer;
    /// - [`Error::Transport`] if the server closed the connection too early.
    pub fn received(&mut self, buffer: &mut [u8], len: usize) -> Result<Option<Response>, Error> {
        if len == 0 {
            return match self.phase {
                Phase::UntilClose => {
                    self.complete();
                    Ok(Some(self.response))
                }
                _ => Err(Error::Transport(TransportError::Closed)),
            };
        }
        self.filled = self.filled.saturating_add(len).min(buffer.len());
        while self.advance(buffer)? {}
        Ok(match self.phase {
            Phase::Complete => Some(self.response),
            _ => None,
        })
    }

    /// Returns `true` if no byte of the answer has arrived yet.
    pub fn is_untouched(&self) -> bool {
        self.filled == 0 && matches!(self.phase, Phase::Head)
    }

    /// Reads one piece of the answer. Returns `false` if more bytes are needed, or if the answer is complete.
    fn advance(&mut self, buffer: &mut [u8]) -> Result<bool, Error> {
        match self.phase {
            Phase::Head => self.head(buffer),
            Phase::Length(missing) => Ok(self.take(buffer, missing, Phase::Length, Phase::Complete)),
            Phase::UntilClose => {
                self.take(buffer, usize::MAX, |_| Phase::UntilClose, Phase::UntilClose);
                Ok(false)
            }
            Phase::ChunkSize => {
                let raw = self.raw(buffer);
                // httparse reads a size without digits as zero.
                if raw.first().is_some_and(|byte| !byte.is_ascii_hexdigit()) {
                    return Err(Malformed::HttpChunk.into());
                }
                match httparse::parse_chunk_size(raw).map_err(|_| Malformed::HttpChunk)? {
                    httparse::Status::Complete((len, size)) => {
                        let size = usize::try_from(size).map_err(|_| Malformed::HttpChunk)?;
                        let needed = self.body.saturating_add(size);
                        if needed > buffer.len() {
                            return Err(BufferTooSmall { needed, exact: false }.into());
                        }
                        self.raw += len;
                        self.phase = if size == 0 { Phase::Trailers } else { Phase::Chunk(size) };
                        Ok(true)
                    }
                    httparse::Status::Partial => Ok(false),
                }
            }
            Phase::Chunk(missing) => Ok(self.take(buffer, missing, Phase::Chunk, Phase::ChunkEnd)),
            Phase::ChunkEnd => match self.raw(buffer) {
                [b'\r', b'\n', ..] => {
                    self.raw += 2;
                    self.phase = Phase::ChunkSize;
                    Ok(true)
                }
                [] | [b'\r'] => Ok(false),
                _ => Err(Malformed::HttpChunk.into()),
            },
            Phase::Trailers => {
                let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
                match httparse::parse_headers(self.raw(buffer), &mut headers).map_err(head_error)? {
                    httparse::Status::Complete((len, _)) => {
                        self.raw += len;
                        self.complete();
                        Ok(true)
                    }
                    httparse::Status::Partial => Ok(false),
                }
            }
            Phase::Complete => {
                // Bytes after the answer mean that the connection cannot be used again.
                self.response.keep_alive &= self.raw >= self.filled;
                Ok(false)
            }
        }
    }

    fn head(&mut self, buffer: &mut [u8]) -> Result<bool, Error> {
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut head = httparse::Response::new(&mut headers);
        let len = match head.parse(self.raw(buffer)).map_err(head_error)? {
            httparse::Status::Complete(len) => len,
            httparse::Status::Partial => return Ok(false),
        };
        let status = head.code.ok_or(Malformed::HttpHead)?;
        let http_1_1 = head.version == Some(1);
        let framing = Framing::read(head.headers.iter().map(|header| (header.name, header.value)))?;
        self.response = Response {
            status,
            retry_after: framing.retry_after,
            body_len: 0,
            keep_alive: if http_1_1 { !framing.close } else { framing.keep_alive },
        };
        self.raw += len;
        self.phase = match (status, framing.chunked, framing.length) {
            // An interim answer: the final one follows. Interim answers do not fill the buffer, so only this
            // limit ends a series of them.
            (100 | 102..=199, ..) if self.interim < MAX_INTERIM => {
                self.interim += 1;
                Phase::Head
            }
            (100..=199, ..) => return Err(Malformed::HttpHead.into()),
            // These answers have no body. If the head announces one, the next bytes are ambiguous.
            (204 | 304, chunked, length) => {
                self.response.keep_alive &= !chunked && length.unwrap_or(0) == 0;
                Phase::Length(0)
            }
            (_, true, None) if http_1_1 => Phase::ChunkSize,
            (_, true, _) => return Err(Malformed::HttpHead.into()),
            (_, false, Some(length)) => {
                if length > buffer.len() {
                    return Err(BufferTooSmall { needed: length, exact: true }.into());
                }
                Phase::Length(length)
            }
            (_, false, None) => {
                self.response.keep_alive = false;
                Phase::UntilClose
            }
        };
        Ok(true)
    }

    /// Moves up to `missing` raw bytes to the end of the body.
    fn take(&mut self, buffer: &mut [u8], missing: usize, rest: fn(usize) -> Phase, then: Phase) -> bool {
        let available = self.raw(buffer).len().min(missing);
        let end = self.raw + available;
        move_down(buffer, self.raw..end, self.body);
        self.raw = end;
        self.body += available;
        self.phase = rest(missing - available);
        if available < missing {
            // All received bytes are read, so the next bytes can follow the body directly.
            self.raw = self.body;
            self.filled = self.body;
            return false;
        }
        self.phase = then;
        if let Phase::Complete = then {
            self.complete();
        }
        true
    }

    fn complete(&mut self) {
        self.phase = Phase::Complete;
        self.response.body_len = self.body;
    }

    fn raw<'b>(&self, buffer: &'b [u8]) -> &'b [u8] {
        buffer.get(self.raw..self.filled).unwrap_or_default()
    }
}

impl Default for ResponseReader {
    fn default() -> Self {
        Self::new()
    }
}

/// The data of the header lines about the body and the connection.
#[derive(Default)]
pub(crate) struct Framing {
    pub(crate) length: Option<usize>,
    pub(crate) chunked: bool,
    close: bool,
    keep_alive: bool,
    pub(crate) retry_after: Option<u32>,
}

impl Framing {
    pub(crate) fn read<'h>(headers: impl Iterator<Item = (&'h str, &'h [u8])>) -> Result<Self, Malformed> {
        let mut framing = Framing::default();
        for (header, value) in headers {
            let is = |name: &str| header.eq_ignore_ascii_case(name);
            let value = value.trim_ascii();
            if is("content-length") {
                let length = parse_u32(value).and_then(|length| usize::try_from(length).ok());
                let length = length.ok_or(Malformed::HttpHead)?;
                if framing.length.replace(length).is_some_and(|other| other != length) {
                    return Err(Malformed::HttpHead);
                }
            } else if is("transfer-encoding") {
                if framing.chunked || !value.eq_ignore_ascii_case(b"chunked") {
                    return Err(Malformed::HttpHead);
                }
                framing.chunked = true;
            } else if is("connection") {
                for option in value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii) {
                    framing.close |= option.eq_ignore_ascii_case(b"close");
                    framing.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
                }
            } else if is("retry-after") {
                framing.retry_after = parse_seconds(value);
            }
        }
        Ok(framing)
    }
}

fn head_error(error: httparse::Error) -> Malformed {
    match error {
        httparse::Error::TooManyHeaders => Malformed::TooManyHeaders,
        _ => Malformed::HttpHead,
    }
}

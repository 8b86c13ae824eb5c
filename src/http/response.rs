use crate::{
    error::{BufferTooSmall, Error, Malformed, TransportError},
    provisioning::Answer,
    text::json::{parse_seconds, parse_u32},
    total::move_down,
};

/// The most header lines of an answer that are read. The service sends about eight.
pub const MAX_HEADERS: usize = 32;

/// The most interim answers (1xx) before the real one. Nothing here asks for any.
const MAX_INTERIM: u8 = 8;

/// Reads one HTTP answer from pieces of any size, in the caller's one buffer.
///
/// The buffer needs room for the head, and then, the head being forgotten, for the body: it
/// comes to lie at the start of the buffer, with chunked framing removed.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "defmt-v1", derive(defmt::Format))]
pub struct ResponseReader {
    phase: Phase,
    /// `buffer[..body]` is finished body, `buffer[raw..filled]` is still to be read.
    body: usize,
    raw: usize,
    filled: usize,
    interim: u8,
    response: Response,
}

/// The head of an answer, and where its body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[cfg_attr(feature = "defmt-v1", derive(defmt::Format))]
pub struct Response {
    /// The HTTP status.
    pub status: u16,
    /// `Retry-After` in seconds. The service sends no dates; one is treated as absent.
    pub retry_after: Option<u32>,
    /// The body is this much of the start of the buffer.
    pub body_len: usize,
    /// Whether the connection can carry another request.
    pub keep_alive: bool,
}

impl Response {
    /// The answer as the state machine wants it, from the buffer that the reader filled.
    pub fn answer<'b>(&self, buffer: &'b [u8]) -> Answer<'b> {
        Answer::new(self.status, self.retry_after, buffer.get(..self.body_len).unwrap_or_default())
    }
}

#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "defmt-v1", derive(defmt::Format))]
enum Phase {
    Head,
    /// So much of the body is missing.
    Length(usize),
    UntilClose,
    ChunkSize,
    /// So much of the chunk is missing.
    Chunk(usize),
    ChunkEnd,
    Trailers,
    Complete,
}

impl ResponseReader {
    /// A reader at the beginning of an answer.
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

    /// Where to put the bytes that arrive next: at least one.
    ///
    /// # Errors
    /// [`Error::BufferTooSmall`] if the answer does not fit.
    pub fn space<'b>(&mut self, buffer: &'b mut [u8]) -> Result<&'b mut [u8], Error> {
        let size = buffer.len();
        if self.filled > size {
            // Not the buffer that the answer is in.
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

    /// Takes note of `len` bytes more in the buffer; 0 means that the peer closed the
    /// connection. Returns the answer as soon as it is complete.
    ///
    /// # Errors
    /// [`Error::Malformed`] if this is not HTTP/1.1, [`Error::BufferTooSmall`] if the body
    /// will not fit, [`Error::Transport`] if the connection closed too early.
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

    /// Whether nothing of an answer has arrived yet.
    pub fn is_untouched(&self) -> bool {
        self.filled == 0 && matches!(self.phase, Phase::Head)
    }

    /// Reads one piece of the answer; `false` if more bytes are needed, or none.
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
                // httparse takes a size without digits for zero.
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
                // What follows an answer that nobody asked for makes the connection unusable.
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
            // An interim answer; the real one follows. They leave the buffer, which would not end
            // them where time stands still.
            (100 | 102..=199, ..) if self.interim < MAX_INTERIM => {
                self.interim += 1;
                Phase::Head
            }
            (100..=199, ..) => return Err(Malformed::HttpHead.into()),
            // These have no body; a head that announces one leaves it in doubt what follows.
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
            // Nothing raw is left: the next bytes follow the body without a gap.
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

/// What the header lines say of the body and of the connection.
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

//! DPS over any byte stream with the blocking [`embedded_io`] 0.7 traits: a TLS session on
//! bare metal, a modem, a `TcpStream` in an adapter.
//!
//! DPS speaks TLS 1.2 only. The stream that `connect` returns must already be secured, and
//! its server certificate checked for the endpoint's host name; this crate picks no TLS.
//!
//! [`embedded_io`]: https://docs.rs/embedded-io/0.7

use core::{fmt, time::Duration};

use ::embedded_io::{Read, Write};

use crate::{
    Assignment, BufferTooSmall, Fault, InvalidIdentifier, InvalidKey, Provisioning, Step, TransportFault,
    http::{self, Response, ResponseReader},
};

/// Runs a provisioning to its end, and again if it is called again.
///
/// - `unix_time`: the wall clock in seconds, for the token's expiry.
/// - `buffer`: for requests and answers; see the crate's [sizes](crate#sizes).
/// - `connect`: returns a new, secured stream, its handshake done, or gives up at the time
///   on `clock` that it is given. A stream is kept for as long as the service keeps it; when
///   it was closed between two polls, a new one is asked for. Errors are converted by `?` into [`ConnectError::Network`], which is retried; a
///   certificate that is not trusted should be [`ConnectError::Untrusted`], which is final.
/// - `clock`: a monotonic clock's reading, from any start. It must go on during `delay`, and
///   not wrap.
/// - `delay`: waits for so long, at least.
///
/// Wipe the buffer afterwards if others can read it: remains of the token may be in it.
///
/// The time for each request is checked between reads, so a peer that trickles is bounded.
/// A `read` that never returns can be bounded by the stream alone: give it a time-out.
///
/// # Errors
/// [`Error`] with whatever ended the run.
///
/// ```
/// # use azure_dps::*;
/// # use core::time::Duration;
/// # fn secured_stream() -> Result<&'static [u8], core::convert::Infallible> { Ok(&[]) }
/// # struct Stream(&'static [u8]);
/// # impl ::embedded_io::ErrorType for Stream { type Error = core::convert::Infallible; }
/// # impl ::embedded_io::Read for Stream {
/// #     fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Self::Error> { ::embedded_io::Read::read(&mut self.0, buffer) }
/// # }
/// # impl ::embedded_io::Write for Stream {
/// #     fn write(&mut self, buffer: &[u8]) -> Result<usize, Self::Error> { Ok(buffer.len()) }
/// #     fn flush(&mut self) -> Result<(), Self::Error> { Ok(()) }
/// # }
/// # let connect = |_deadline| Ok::<_, azure_dps::embedded_io::ConnectError<core::convert::Infallible>>(Stream(concat!("HTTP/1.1 200 OK\r\n\r\n",
/// #     r#"{"status":"assigned","registrationState":{"assignedHub":"hub.example","deviceId":"dev-1"}}"#).as_bytes()));
/// # let (unix_time, clock, delay) = (1_700_000_000, || Duration::ZERO, |_| ());
/// let mut key = DeviceKey::from_base64("JC8F96eayuQwwz+PkE7IzjH2lIAjCUnAa61tDigBnSs=")?;
/// let registration = Registration::new(IdScope::new("0ne00002193")?, RegistrationId::new("dev-1")?);
/// let mut provisioning = Provisioning::new(registration, Credential::sas(&mut key));
///
/// let mut buffer = [0; 1024];
/// match azure_dps::embedded_io::provision(&mut provisioning, unix_time, &mut buffer, connect, clock, delay) {
///     Ok(assignment) => assert_eq!(assignment.assigned_hub(), "hub.example"),
///     Err(error) => panic!("{error}"),
/// }
/// # Ok::<(), azure_dps::Error>(())
/// ```
pub fn provision<'b, S, C>(
    provisioning: &mut Provisioning<'_>,
    unix_time: u64,
    buffer: &'b mut [u8],
    mut connect: impl FnMut(Duration) -> Result<S, ConnectError<C>>,
    mut clock: impl FnMut() -> Duration,
    mut delay: impl FnMut(Duration),
) -> Result<Assignment<'b>, Error<C, S::Error>>
where
    S: Read + Write,
{
    let mut connection = None;
    let mut cause = None;
    provisioning.start(clock(), unix_time);
    loop {
        match provisioning.step(clock()) {
            Step::Wait(duration) => delay(duration),
            Step::Send => match exchange(provisioning, buffer, &mut connection, &mut connect, &mut clock) {
                Ok(response) => {
                    if !response.keep_alive {
                        connection = None;
                    }
                    provisioning.on_answer(clock(), response.answer(buffer));
                }
                Err(error) => {
                    connection = None;
                    provisioning.on_error(clock(), error.kind());
                    cause = Some(error);
                }
            },
            Step::Finished => break,
        }
    }
    // The stream's own error says more than that the network failed.
    provisioning.result(buffer).map_err(|error| match cause {
        Some(cause) if cause.kind() == error => cause,
        _ => Error::Provisioning(error),
    })
}

/// One request and its answer, on the connection at hand or on a new one.
fn exchange<S: Read + Write, C>(
    provisioning: &mut Provisioning<'_>,
    buffer: &mut [u8],
    connection: &mut Option<S>,
    connect: &mut impl FnMut(Duration) -> Result<S, ConnectError<C>>,
    clock: &mut impl FnMut() -> Duration,
) -> Result<Response, Error<C, S::Error>> {
    let now = clock();
    let deadline = provisioning.request_deadline(now);
    let reused = connection.is_some();
    let stream = match connection {
        Some(stream) => stream,
        None => {
            let stream = connection.insert(connect(deadline)?);
            provisioning.on_connected();
            stream
        }
    };
    let len = http::write_request(provisioning, now, buffer)?;
    let mut reader = ResponseReader::new();
    match round_trip(stream, buffer, len, &mut reader, deadline, clock) {
        // The service closes connections that idle between polls. Nothing of an answer has
        // come, so this is no failure.
        Err(error) if reused && reader.is_untouched() && error.is_disconnect() => {
            // A modem has one socket, and a small device memory for one session.
            *connection = None;
            let stream = connection.insert(connect(deadline)?);
            provisioning.on_connected();
            // What the stream did to the buffer is its own affair.
            let len = http::write_request(provisioning, now, buffer)?;
            round_trip(stream, buffer, len, &mut ResponseReader::new(), deadline, clock)
        }
        result => result,
    }
}

fn round_trip<S: Read + Write, C>(
    stream: &mut S,
    buffer: &mut [u8],
    len: usize,
    reader: &mut ResponseReader,
    deadline: Duration,
    clock: &mut impl FnMut() -> Duration,
) -> Result<Response, Error<C, S::Error>> {
    let mut in_time = || match clock() < deadline {
        true => Ok(()),
        false => Err(crate::Error::Transport(TransportFault::Stalled)),
    };
    // Not `write_all`, which panics on a stream that takes nothing.
    let mut request = buffer.get(..len).unwrap_or_default();
    while !request.is_empty() {
        in_time()?;
        match stream.write(request).map_err(Error::Stream)? {
            0 => return Err(crate::Error::Transport(TransportFault::Closed).into()),
            written => request = request.get(written..).unwrap_or_default(),
        }
    }
    stream.flush().map_err(Error::Stream)?;
    loop {
        in_time()?;
        let read = stream.read(reader.space(buffer)?).map_err(Error::Stream)?;
        if let Some(response) = reader.received(buffer, read)? {
            return Ok(response);
        }
    }
}

/// Why there is no connection, as far as it matters for what to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectError<C> {
    /// The network's fault: the run tries again.
    Network(C),
    /// The other side did not prove who it is: the run ends. A clock that is off looks like
    /// this as well.
    Untrusted(C),
}

impl<C> From<C> for ConnectError<C> {
    fn from(error: C) -> Self {
        ConnectError::Network(error)
    }
}

/// What ended a run over a byte stream. `C` is what `connect` reports, `S` the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error<C, S> {
    /// Anything but the network, or a network fault that the stream has no error for.
    Provisioning(crate::Error),
    /// No connection could be made; the last attempt's error.
    Connect(C),
    /// The server's certificate is not trusted.
    Untrusted(C),
    /// Reading or writing failed; the last attempt's error.
    Stream(S),
}

impl<C, S> Error<C, S> {
    /// The same without the stream's own error.
    pub fn kind(&self) -> crate::Error {
        match self {
            Error::Provisioning(error) => *error,
            Error::Connect(_) => crate::Error::Transport(TransportFault::Connect),
            Error::Untrusted(_) => crate::Error::Untrusted,
            Error::Stream(_) => crate::Error::Transport(TransportFault::Stream),
        }
    }

    /// Whose move it is.
    pub fn fault(&self) -> Fault {
        self.kind().fault()
    }

    fn is_disconnect(&self) -> bool {
        matches!(self, Error::Stream(_) | Error::Provisioning(crate::Error::Transport(TransportFault::Closed)))
    }
}

impl<C, S> From<ConnectError<C>> for Error<C, S> {
    fn from(error: ConnectError<C>) -> Self {
        match error {
            ConnectError::Network(error) => Error::Connect(error),
            ConnectError::Untrusted(error) => Error::Untrusted(error),
        }
    }
}

impl<C, S> From<crate::Error> for Error<C, S> {
    fn from(error: crate::Error) -> Self {
        Error::Provisioning(error)
    }
}

impl<C, S> From<InvalidIdentifier> for Error<C, S> {
    fn from(error: InvalidIdentifier) -> Self {
        Error::Provisioning(error.into())
    }
}

impl<C, S> From<InvalidKey> for Error<C, S> {
    fn from(error: InvalidKey) -> Self {
        Error::Provisioning(error.into())
    }
}

impl<C, S> From<BufferTooSmall> for Error<C, S> {
    fn from(error: BufferTooSmall) -> Self {
        Error::Provisioning(error.into())
    }
}

impl<C: fmt::Display, S: fmt::Display> fmt::Display for Error<C, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.kind().fmt(f)?;
        match self {
            Error::Provisioning(_) => Ok(()),
            Error::Connect(error) | Error::Untrusted(error) => write!(f, ": {error}"),
            Error::Stream(error) => write!(f, ": {error}"),
        }
    }
}

impl<C, S> core::error::Error for Error<C, S>
where
    C: core::error::Error + 'static,
    S: core::error::Error + 'static,
{
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Error::Provisioning(_) => None,
            Error::Connect(error) | Error::Untrusted(error) => Some(error),
            Error::Stream(error) => Some(error),
        }
    }
}

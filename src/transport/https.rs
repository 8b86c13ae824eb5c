//! A transport with TCP and TLS for Linux gateways that have a symmetric key.
//!
//! It uses [minreq]. See [`run`] for an example.
//!
//! # Limits
//!
//! | not supported | result |
//! |---|---|
//! | a CA file that is set in code | there is no function for it. The variable `SSL_CERT_FILE` works |
//! | a client certificate | [`Error::Unsupported`](crate::Error::Unsupported) for [`Attestation::x509`](crate::Attestation::x509) |
//! | a proxy in `HTTPS_PROXY`, `https_proxy`, `ALL_PROXY` or `all_proxy` | [`Error::Unsupported`](crate::Error::Unsupported) for an `https` endpoint, even if `NO_PROXY` lists its host |
//! | an IPv6 address as the host | [`Error::InvalidEndpoint`](crate::Error::InvalidEndpoint) |
//!
//! The feature `rustls` supports all four: see `azure_dps::tls`.
//!
//! # Certificates
//!
//! The transport trusts the certificates of the operating system, or those in the file that the environment variable
//! `SSL_CERT_FILE` names.
//!
//! **Warning:** if any crate of the program enables minreq's feature `https`, minreq ignores both without an error. This
//! crate enables `https-rustls-probe`.
//!
//! # Weaknesses of minreq
//!
//! | behavior of minreq 3.0 | behavior of this transport |
//! |---|---|
//! | reports a missing or invalid answer as a 503 | [`TransportError::Closed`]: the run tries again |
//! | reports an incomplete body as a success | [`TransportError::Closed`]: the run tries again |
//! | reports an incomplete head as a 200 without a body | [`TransportError::Closed`]: the run tries again |
//! | sends `Authorization` to another host after a redirect | does not follow redirects |
//! | reports `100 Continue` as the final answer | [`Malformed::HttpHead`] |
//! | stores answers of any size | reads a body only as far as it fits the caller's buffer |
//! | a TLS handshake that stalls leaves a thread behind after the time-out | the same |
//! | has no time-out for a body whose TLS record arrives slowly | [`TransportError::Stalled`]: the run tries again. A thread stays behind |
//! | opens a new connection for each request | the same |
//! | a time-out does not say whether the request was sent | the request counts as sent ([`Provisioning::register_was_sent`]) |
//! | reports a body that ends between two chunks as complete | the same, if the JSON is complete |
//! | reports an error answer with an incomplete head as an answer without a body | an error without a code |
//! | reports an invalid chunk as an I/O error | [`Malformed::HttpChunk`] |
//! | accepts two lengths, unknown encodings and lengths with a sign | [`Malformed::HttpHead`], except for the sign |
//! | accepts any HTTP version, and zeros and lines without a colon in a head | the same |
//! | panics in debug builds if a header line has exactly the maximum length | sets no maximum: only the time and the memory of the system limit a head |
//!
//! [minreq]: https://docs.rs/minreq/3

use std::{
    boxed::Box,
    fmt, format,
    io::{ErrorKind, Read},
    num::ParseIntError,
    string::{String, ToString},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
    vec::Vec,
};

use minreq::{Method, ResponseLazy};
use zeroize::Zeroizing;

use super::proxy;
use crate::{
    error::{BufferTooSmall, Fault, Malformed, TransportError},
    http::{Framing, write_target},
    identity::Sign,
    provisioning::{Answer, Progress, Provisioning, Request, Step},
    text::{
        json::{JsonProblem, Object},
        writer::Writer,
    },
};

/// Runs a started [`Provisioning`] to its end.
///
/// Then read the result from `buffer`: with [`Provisioning::result`], or after a failure with
/// [`Provisioning::details`].
///
/// - `signer` has the key. An array of two signers is a primary and a secondary key.
/// - `buffer` holds requests and the bodies of answers. [`Sizes::http`](crate::provisioning::Sizes::http) returns its
///   size.
/// - `clock` returns the time of the monotonic clock of [`Provisioning::start`]. It must not stop during `delay`.
/// - `delay` waits for at least the given time.
/// - `observe` is called with each [`Progress`]. Pass `|_| ()` if you do not need it.
///
/// Copies of the token may stay in memory: minreq does not wipe its memory, and `buffer` may contain parts of the token.
///
/// # Errors
/// - [`Error`] with the reason of the failure;
/// - [`NotStarted`](crate::Error::NotStarted) if [`Provisioning::start`] was not called for this run.
///
/// # Example
///
/// ```no_run
/// use azure_dps::*;
/// use std::time::{Instant, SystemTime, UNIX_EPOCH};
///
/// let mut key = DeviceKey::new();
/// key.read_base64("JC8F96eayuQwwz+PkE7IzjH2lIAjCUnAa61tDigBnSs=")?;
/// let registration = Registration::new(IdScope::new("0ne00002193")?, RegistrationId::new("dev-1")?);
/// let mut provisioning = Provisioning::new(registration, Attestation::symmetric_key());
///
/// let unix_time = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
/// let started = Instant::now();
/// let clock = || started.elapsed();
/// let mut buffer = [0; 4096];
/// provisioning.start(clock(), unix_time);
/// https::run(&mut provisioning, &mut key, &mut buffer, clock, std::thread::sleep, |_| ())?;
/// let assignment = provisioning.result(&buffer)?;
/// println!("{} {}", assignment.assigned_hub(), assignment.device_id());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn run(
    provisioning: &mut Provisioning<'_>,
    signer: &mut (impl Sign + ?Sized),
    buffer: &mut [u8],
    mut clock: impl FnMut() -> Duration,
    mut delay: impl FnMut(Duration),
    mut observe: impl FnMut(Progress),
) -> Result<(), Error> {
    provisioning.check_started()?;
    let mut cause = None;
    loop {
        if let Some(progress) = provisioning.progress() {
            observe(progress);
        }
        let step = provisioning.step(clock());
        if let Some(progress) = provisioning.progress() {
            observe(progress);
        }
        let done = match step {
            Step::Wait(duration) => {
                delay(duration);
                Ok(())
            }
            Step::Sign => provisioning.sign_with(signer, buffer).map_err(Error::from),
            Step::Activate => provisioning.activate_with(signer, buffer).map_err(Error::from),
            Step::Send => exchange(provisioning, clock(), buffer, &mut observe).map(|answer| {
                // The cause of an earlier network failure does not belong to a later error.
                cause = None;
                provisioning.on_answer(clock(), answer);
            }),
            Step::Finished => break,
        };
        if let Err(error) = done {
            provisioning.on_error(clock(), error.kind);
            cause = error.cause;
        }
    }
    provisioning.outcome().map_err(|kind| Error { kind, cause })
}

fn exchange<'b>(
    provisioning: &mut Provisioning<'_>,
    now: Duration,
    buffer: &'b mut [u8],
    observe: &mut impl FnMut(Progress),
) -> Result<Answer<'b>, Error> {
    let deadline = provisioning.request_deadline(now);
    if provisioning.needs_client_certificate() {
        return Err(crate::error::Error::Unsupported.into());
    }
    if provisioning.endpoint().is_https()
        && let Some((variable, _)) = proxy::variable()
    {
        let why = format!("{variable} is set to a proxy: use the feature `rustls`, or unset the variable");
        return Err(Error { kind: crate::error::Error::Unsupported, cause: Some(why.into()) });
    }
    provisioning.begin_request(now)?;
    if let Some(progress) = provisioning.progress() {
        observe(progress);
    }
    // minreq has time-outs in whole seconds only.
    let timeout = deadline.saturating_sub(now).as_secs().clamp(1, 86_400);
    let until = Instant::now() + Duration::from_secs(timeout);
    let request = request(provisioning, buffer)?
        .with_follow_redirects(false)
        // With a limit, minreq may subtract more than the rest of the limit, and panic.
        .with_max_headers_size(None)
        .with_timeout(timeout);
    let response = request.send_lazy().map_err(Error::from);
    // minreq connects and writes in one call.
    if !matches!(&response, Err(error) if is_unsent(error.kind)) {
        provisioning.on_request_written();
    }
    let response = response?;
    read(response, until, buffer)
}

fn request(provisioning: &Provisioning<'_>, buffer: &mut [u8]) -> Result<minreq::Request, Error> {
    let mut text = |write: &dyn Fn(&mut Writer<'_>)| -> Result<String, Error> {
        let mut writer = Writer::new(buffer);
        write(&mut writer);
        let text = writer.finish().map_err(crate::error::Error::from)?;
        Ok(String::from_utf8_lossy(text).into_owned())
    };
    let endpoint = provisioning.endpoint();
    // minreq would pass the brackets to the resolver.
    if endpoint.host().starts_with('[') {
        return Err(crate::error::Error::InvalidEndpoint.into());
    }
    let scheme = if endpoint.is_https() { "https://" } else { "http://" };
    let url = text(&|writer| {
        writer.str(scheme);
        endpoint.write_authority(writer);
        write_target(provisioning, writer);
    })?;
    let (method, has_body) = match provisioning.request() {
        Request::Register if provisioning.is_lookup() => (Method::Post, true),
        Request::Register => (Method::Put, true),
        Request::Status { .. } => (Method::Get, false),
    };
    let body = has_body.then(|| text(&|writer| provisioning.write_body(writer))).transpose()?;
    let mut request = minreq::Request::new(method, url)
        .with_header("User-Agent", crate::USER_AGENT)
        .with_header("Accept", "application/json");
    if provisioning.has_token() {
        request = request.with_header("Authorization", text(&|writer| provisioning.write_token(writer))?);
    }
    if let Some(body) = body {
        request = request.with_header("Content-Type", "application/json").with_body(body);
    }
    Ok(request)
}

fn read(response: ResponseLazy, until: Instant, buffer: &mut [u8]) -> Result<Answer<'_>, Error> {
    let status = response.status_code;
    // A status with less than three digits is incomplete.
    if response.reason_phrase == "Server did not provide a status line" || status < 100 {
        return Err(closed());
    }
    let headers = response.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
    let Framing { length, chunked, retry_after, .. } = Framing::read(headers).map_err(crate::error::Error::from)?;
    if status < 200 || chunked && length.is_some() {
        return Err(crate::error::Error::from(Malformed::HttpHead).into());
    }
    if let Some(needed) = length.filter(|&length| length > buffer.len()) {
        return Err(crate::error::Error::from(BufferTooSmall { needed, exact: true }).into());
    }

    let body = Zeroizing::new(read_body(response, buffer.len() + 1, until)?);
    let Some(space) = buffer.get_mut(..body.len()) else {
        return Err(crate::error::Error::from(BufferTooSmall::at_least(body.len())).into());
    };
    space.copy_from_slice(&body);
    let body: &[u8] = space;
    // Without a length, only the JSON itself shows whether the body is complete. An error answer may have no body.
    let complete = match length {
        Some(length) => body.len() == length,
        None if body.is_empty() => status >= 300,
        None => !std::str::from_utf8(body)
            .is_ok_and(|text| Object::parse(text).is_err_and(|error| error.problem == JsonProblem::End)),
    };
    if !complete {
        return Err(closed());
    }
    Ok(Answer::new(status, retry_after, body))
}

/// Reads at most `at_most` bytes of a body, in a thread.
///
/// The time-out of minreq applies to each read of the socket, and a TLS record may need thousands of reads. So after
/// `until`, this function returns and leaves the thread behind.
fn read_body(response: ResponseLazy, at_most: usize, until: Instant) -> Result<Vec<u8>, Error> {
    let (sender, receiver) = mpsc::channel();
    let read = move || {
        // Allocated once, because a growing vector leaves copies in memory. The payload may be secret.
        let mut body = Vec::with_capacity(at_most);
        let read = response.take(at_most as u64).read_to_end(&mut body);
        // After the time-out, there is no receiver.
        let _ = sender.send(read.map(|_| body));
    };
    thread::Builder::new().spawn(read).map_err(minreq::Error::IoError)?;
    match receiver.recv_timeout(until.saturating_duration_since(Instant::now())) {
        Ok(read) => Ok(read.map_err(minreq::Error::IoError)?),
        Err(RecvTimeoutError::Timeout) => Err(minreq::Error::IoError(ErrorKind::TimedOut.into()).into()),
        // The thread has panicked.
        Err(RecvTimeoutError::Disconnected) => Err(crate::error::Error::Transport(TransportError::Stream).into()),
    }
}

/// Returns `true` if TLS rejects the server. A new attempt would fail in the same way. An alert from the server or a
/// corrupted record may be temporary.
fn is_untrusted(error: &std::io::Error) -> bool {
    use rustls::Error::{InvalidCertificate, InvalidMessage, PeerIncompatible, PeerMisbehaved};
    let error = error.get_ref().and_then(|error| error.downcast_ref());
    matches!(error, Some(InvalidCertificate(_) | InvalidMessage(_) | PeerIncompatible(_) | PeerMisbehaved(_)))
}

/// Converts an error kind as the other transports do. `embedded_io` has no `UnexpectedEof`.
fn fault(kind: ErrorKind) -> TransportError {
    match kind {
        ErrorKind::TimedOut => TransportError::Stalled,
        ErrorKind::ConnectionReset
        | ErrorKind::ConnectionAborted
        | ErrorKind::BrokenPipe
        | ErrorKind::NotConnected
        | ErrorKind::UnexpectedEof
        | ErrorKind::WriteZero => TransportError::Closed,
        ErrorKind::ConnectionRefused
        | ErrorKind::HostUnreachable
        | ErrorKind::NetworkUnreachable
        | ErrorKind::AddrInUse
        | ErrorKind::AddrNotAvailable => TransportError::Connect,
        _ => TransportError::Stream,
    }
}

/// Returns `true` if the host name has no address. The standard library has no error kind for this case.
fn is_unresolved(error: &std::io::Error) -> bool {
    error.to_string().starts_with("failed to lookup address information")
}

/// Returns `true` if no part of the request was sent, because the connection or the TLS handshake failed.
const fn is_unsent(error: crate::error::Error) -> bool {
    matches!(error, crate::error::Error::Transport(TransportError::Connect) | crate::error::Error::Untrusted)
}

fn closed() -> Error {
    crate::error::Error::Transport(TransportError::Closed).into()
}

/// The error that ended a run over minreq.
#[derive(Debug)]
pub struct Error {
    kind: crate::error::Error,
    cause: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// Returns the error without the cause from the network.
    pub fn kind(&self) -> crate::error::Error {
        self.kind
    }

    /// Returns who must act.
    pub fn fault(&self) -> Fault {
        self.kind.fault()
    }
}

impl From<crate::error::Error> for Error {
    fn from(kind: crate::error::Error) -> Self {
        Self { kind, cause: None }
    }
}

impl From<minreq::Error> for Error {
    fn from(error: minreq::Error) -> Self {
        Self { kind: kind(&error), cause: Some(Box::new(error)) }
    }
}

fn kind(error: &minreq::Error) -> crate::error::Error {
    use minreq::Error as Http;
    match error {
        Http::IoError(error) => {
            // minreq wraps the error of an invalid chunk.
            let cause = error.get_ref();
            match cause.and_then(|cause| cause.downcast_ref()) {
                Some(error) => kind(error),
                None if cause.is_some_and(|cause| cause.is::<ParseIntError>()) => Malformed::HttpChunk.into(),
                None if is_untrusted(error) => crate::error::Error::Untrusted,
                None if is_unresolved(error) => crate::error::Error::Transport(TransportError::Connect),
                None => crate::error::Error::Transport(fault(error.kind())),
            }
        }
        Http::MalformedChunkLength | Http::MalformedChunkEnd => Malformed::HttpChunk.into(),
        Http::MalformedContentLength | Http::InvalidUtf8InResponse => Malformed::HttpHead.into(),
        Http::HeadersOverflow | Http::StatusLineOverflow => Malformed::TooManyHeaders.into(),
        _ => crate::error::Error::Transport(TransportError::Connect),
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.kind.fmt(f)?;
        match &self.cause {
            Some(cause) => write!(f, ": {cause}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.cause.as_deref().map(|cause| cause as _)
    }
}

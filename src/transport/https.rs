//! A transport with TCP and TLS included, over [minreq]: for Linux gateways that have a key.
//!
//! # What it cannot do
//!
//! | not over minreq | what happens |
//! |---|---|
//! | a CA file that is chosen in code | there is no call for it; `SSL_CERT_FILE` works |
//! | a client certificate | [`Error::Unsupported`](crate::Error::Unsupported) for [`Attestation::x509`](crate::Attestation::x509) |
//! | a proxy, in `HTTPS_PROXY`, `https_proxy`, `ALL_PROXY` or `all_proxy` | [`Error::Unsupported`](crate::Error::Unsupported) for an `https` endpoint, even if `NO_PROXY` lists its host |
//! | an IPv6 address for a host name | [`Error::InvalidEndpoint`](crate::Error::InvalidEndpoint) |
//!
//! The feature `rustls`, whose module is `azure_dps::tls`, does all four.
//!
//! # Certificates
//!
//! The certificates that are trusted are the system's, or those of the file named by the
//! environment variable `SSL_CERT_FILE`. (They are silently ignored if any crate of the
//! program turns on minreq's feature `https`; this one turns on `https-rustls-probe`.) To
//! choose them in code, use the feature `rustls`.
//!
//! # What minreq hides, and what becomes of it here
//!
//! | minreq 3.0 | Here |
//! |---|---|
//! | no answer, or garbage, is a 503 of its own making | [`TransportError::Closed`], retried |
//! | a body cut short is a success | [`TransportError::Closed`], retried |
//! | a head cut short is a 200 with no body | [`TransportError::Closed`], retried |
//! | redirects carry `Authorization` to another host | none are followed |
//! | `100 Continue` is the final answer | [`Malformed::HttpHead`] |
//! | answers of any size are stored | a body is read as far as the caller's buffer has room |
//! | a stalled TLS handshake leaves a thread behind after the time-out | cannot be mended |
//! | a body whose TLS record trickles in has no time-out | [`TransportError::Stalled`], retried; a thread stays behind |
//! | each request is a connection of its own | cannot be mended |
//! | a time-out does not tell whether the request was sent | it counts as sent ([`Provisioning::register_was_sent`]) |
//! | a body that is cut short between two chunks is complete | so it is, if the document is |
//! | a refusal whose head is cut short has no body | a refusal without a code |
//! | a broken chunk is an I/O error like any other | [`Malformed::HttpChunk`] |
//! | two lengths, unknown encodings, sizes with a sign | all but the sign are [`Malformed::HttpHead`] |
//! | HTTP of any version, zeros and lines without a colon in a head | cannot be mended |
//! | a header line of exactly the limit panics in debug builds | no limit is set; the time and the system's memory are the bounds |
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

/// Runs a started [`Provisioning`] to its end. The outcome is read with [`Provisioning::result`] or
/// [`Provisioning::details`], from `buffer`.
///
/// - `signer`: holds the key. An array of two signers is a primary and a secondary key.
/// - `buffer`: for the bodies of answers, and for requests; see [`Sizes`](crate::provisioning::Sizes).
/// - `clock`: a monotonic clock's reading: the clock of [`Provisioning::start`]. It must go on during
///   `delay`.
/// - `delay`: waits for at least this long.
/// - `observe`: is told how the run goes on; `|_| ()` if you do not need it.
///
/// The token goes through memory of minreq's that nobody wipes, and remains of it may be in
/// `buffer`.
///
/// # Errors
/// [`Error`] with what ended the run. [`NotStarted`](crate::Error::NotStarted) if the run was not
/// started, or not started again after its end.
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
                // A refusal that comes after a network failure has nothing to do with it.
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
        let why = format!("{variable} names a proxy: use the feature `rustls`, or unset the variable");
        return Err(Error { kind: crate::error::Error::Unsupported, cause: Some(why.into()) });
    }
    provisioning.begin_request(now)?;
    if let Some(progress) = provisioning.progress() {
        observe(progress);
    }
    // Whole seconds are all that minreq knows.
    let timeout = deadline.saturating_sub(now).as_secs().clamp(1, 86_400);
    let until = Instant::now() + Duration::from_secs(timeout);
    let request = request(provisioning, buffer)?
        .with_follow_redirects(false)
        // With a limit, minreq subtracts more from it than there is left.
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
    // minreq hands the brackets to the resolver.
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
    // No status has less than three digits, unless it was cut short.
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
    // Without a length nothing but the document itself tells that it was cut short. A
    // refusal needs none.
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

/// At most so much of a body. The time-out of minreq's own is for each piece that TLS reads of a record, and a
/// record may come in thousands of them: what is late is left to a thread, as handshakes are.
fn read_body(response: ResponseLazy, at_most: usize, until: Instant) -> Result<Vec<u8>, Error> {
    let (sender, receiver) = mpsc::channel();
    let read = move || {
        // At once, so that it is not copied as it grows: it may be a secret of the operator's.
        let mut body = Vec::with_capacity(at_most);
        let read = response.take(at_most as u64).read_to_end(&mut body);
        // Nobody waits for what is late.
        let _ = sender.send(read.map(|_| body));
    };
    thread::Builder::new().spawn(read).map_err(minreq::Error::IoError)?;
    match receiver.recv_timeout(until.saturating_duration_since(Instant::now())) {
        Ok(read) => Ok(read.map_err(minreq::Error::IoError)?),
        Err(RecvTimeoutError::Timeout) => Err(minreq::Error::IoError(ErrorKind::TimedOut.into()).into()),
        // The thread is gone without a word.
        Err(RecvTimeoutError::Disconnected) => Err(crate::error::Error::Transport(TransportError::Stream).into()),
    }
}

/// What TLS objects to will be the same the next time. What the peer complains of, or what a
/// line corrupts, may pass.
fn is_untrusted(error: &std::io::Error) -> bool {
    use rustls::Error::{InvalidCertificate, InvalidMessage, PeerIncompatible, PeerMisbehaved};
    let error = error.get_ref().and_then(|error| error.downcast_ref());
    matches!(error, Some(InvalidCertificate(_) | InvalidMessage(_) | PeerIncompatible(_) | PeerMisbehaved(_)))
}

/// As the other transports tell them apart, whose kinds have no `UnexpectedEof`.
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

/// Returns `true` if the host name has no address. The standard library has no kind for that.
fn is_unresolved(error: &std::io::Error) -> bool {
    error.to_string().starts_with("failed to lookup address information")
}

/// Returns `true` if nothing of a request was sent: there was no connection, or no TLS on it.
const fn is_unsent(error: crate::error::Error) -> bool {
    matches!(error, crate::error::Error::Transport(TransportError::Connect) | crate::error::Error::Untrusted)
}

fn closed() -> Error {
    crate::error::Error::Transport(TransportError::Closed).into()
}

/// What ended a run over minreq.
#[derive(Debug)]
pub struct Error {
    kind: crate::error::Error,
    cause: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// The error without the network's own words.
    pub fn kind(&self) -> crate::error::Error {
        self.kind
    }

    /// Whose move it is.
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
            // What is wrong with chunks is wrapped.
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

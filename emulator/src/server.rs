//! Connections: accepting them, securing them, speaking HTTP/1.1 on them, and cutting them.
//!
//! HTTP is the one protocol that lives here, because a webhook speaks it too; [`Protocol`] is where
//! others come in.

use std::{
    convert::Infallible,
    fmt, io, mem,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use futures_util::future::BoxFuture;
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper::{
    Request, Response,
    body::{Bytes, Frame, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::pki_types::CertificateDer;
use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tokio_io_timeout::TimeoutStream;
use tokio_rustls::TlsAcceptor;

use crate::tls;

/// How many connections of a listener are served at a time; more wait in the backlog. An idle one
/// costs 17 KB, over TLS 26 KB.
const MAX_CONNECTIONS: usize = 4096;

/// How much a request's head may hold.
const MAX_HEAD: usize = 32 * 1024;

/// How long a peer may take for a handshake, a request's head, its body, or reading the answer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) type Body = BoxBody<Bytes, Infallible>;

/// Why a connection ended. It concerns nobody but its peer.
pub(crate) type Broken = Box<dyn std::error::Error + Send + Sync>;

/// What a connection carries.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin + 'static> Stream for S {}

/// The certificates that a TLS client showed, its own first, whose key it has proven to hold. What
/// they are worth is another question.
pub(crate) type Peer = Arc<[CertificateDer<'static>]>;

/// What is spoken on a listener's connections.
pub(crate) trait Protocol: Send + Sync + 'static {
    const SPEAKS: Speech;

    /// Serves one connection until it ends.
    fn speak<S: Stream>(&self, stream: S, peer: Peer) -> impl Future<Output = Result<(), Broken>> + Send;

    /// How long a peer may take for what it has to do.
    fn patience(&self) -> Duration;

    /// Puts on record what concerns the listener, and no peer in particular.
    fn note(&self, what: String);

    /// Tells why a connection came to nothing.
    fn connection_failed(&self, peer: IpAddr, why: String);
}

/// The peer is not to be answered.
#[derive(Debug)]
pub(crate) struct NoAnswer;

impl std::fmt::Display for NoAnswer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("no answer was wanted")
    }
}

impl std::error::Error for NoAnswer {}

/// The peer came to no request, and why.
#[derive(Debug)]
pub(crate) struct NoRequest(pub(crate) String);

impl fmt::Display for NoRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NoRequest {}

/// What answers HTTP requests.
pub(crate) trait Handler: Send + Sync + 'static {
    fn handle(
        &self,
        request: Request<Incoming>,
        connection: &Connection,
    ) -> impl Future<Output = Result<Response<Body>, NoAnswer>> + Send;

    /// As [`Protocol::patience`].
    fn patience(&self) -> Duration {
        PATIENCE
    }

    /// As [`Protocol::note`].
    fn note(&self, what: String);

    /// As [`Protocol::connection_failed`].
    fn connection_failed(&self, _peer: IpAddr, _why: String) {}
}

/// The connection that a request came on, and what its answer does to it.
#[derive(Clone, Default)]
pub(crate) struct Connection {
    pub(crate) peer: Peer,
    pub(crate) fault: Fault,
    after: Arc<Mutex<Option<BoxFuture<'static, ()>>>>,
}

impl Connection {
    /// Goes on with this when the answer has switched protocols.
    pub(crate) fn go_on_with(&self, after: impl Future<Output = ()> + Send + 'static) {
        *self.after.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::pin(after));
    }

    fn take_after(&self) -> Option<BoxFuture<'static, ()>> {
        self.after.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Binds now, so that the caller learns at once what is wrong, and the port.
pub(crate) fn bind(address: &str) -> io::Result<(std::net::TcpListener, SocketAddr)> {
    let listener = std::net::TcpListener::bind(address)?;
    // The standard library's backlog is 128: of devices that all come at once, the others would be
    // dropped, and try again seconds later.
    SockRef::from(&listener).listen(MAX_CONNECTIONS as i32)?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

/// Serves until the runtime ends.
pub(crate) async fn serve<P: Protocol>(
    listener: std::net::TcpListener,
    tls: Option<TlsAcceptor>,
    protocol: P,
) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    let limit = max_connections();
    let connections = Arc::new(Semaphore::new(limit));
    let protocol = Arc::new(protocol);
    let (mut noted_full, mut noted_error) = (false, false);
    loop {
        if connections.available_permits() == 0 && !mem::replace(&mut noted_full, true) {
            protocol.note(format!("{limit} connections, which is the limit: more wait to be accepted"));
        }
        let Ok(permit) = Arc::clone(&connections).acquire_owned().await else {
            return Ok(());
        };
        let (stream, address) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors, or the peer is gone again: neither ends the service.
                if !mem::replace(&mut noted_error, true) {
                    protocol.note(format!("a connection cannot be accepted yet: {error}"));
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
                continue;
            }
        };
        let (tls, protocol) = (tls.clone(), Arc::clone(&protocol));
        tokio::spawn(async move {
            let _permit = permit;
            // A peer that breaks off or speaks nonsense concerns nobody else.
            let _ = serve_connection(stream, address.ip(), tls, &*protocol).await;
        });
    }
}

/// Not more than the process may have files open: half of those are left to the calls of webhooks
/// and to everything else, which must not fail because of a crowd at the door.
fn max_connections() -> usize {
    #[cfg(unix)]
    if let Ok((files, _)) = rlimit::Resource::NOFILE.get() {
        return usize::try_from(files / 2).unwrap_or(usize::MAX).clamp(1, MAX_CONNECTIONS);
    }
    MAX_CONNECTIONS
}

async fn serve_connection<P: Protocol>(
    stream: TcpStream,
    address: IpAddr,
    tls: Option<TlsAcceptor>,
    protocol: &P,
) -> Result<(), Broken> {
    stream.set_nodelay(true)?;
    let Some(tls) = tls else {
        return speak(stream, address, Peer::default(), protocol).await;
    };
    let (stream, first) = Sniffed::new(stream);
    let handshake = match tokio::time::timeout(protocol.patience(), tls.accept(stream)).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err((tls::explain(&error), error.into())),
        Err(late) => Err((format!("it did not finish within {:?}", protocol.patience()), Broken::from(late))),
    };
    match (handshake, first.get()) {
        (Ok(stream), _) => {
            let peer = stream.get_ref().1.peer_certificates().unwrap_or_default().into();
            let (stream, first) = Sniffed::new(stream);
            let spoken = speak(stream, address, peer, protocol).await;
            if first.get() == Some(&None) {
                protocol.connection_failed(address, tls::closed_unused());
            }
            spoken
        }
        (Err((why, error)), Some(&Some(first))) => {
            let why = Speech::Tls.misses(first).unwrap_or_else(|| format!("the TLS handshake failed: {why}"));
            protocol.connection_failed(address, why);
            Err(error)
        }
        // A peer that says nothing has no fault.
        (Err((_, error)), _) => Err(error),
    }
}

/// Speaks the protocol, and tells if the peer spoke another one.
async fn speak<P: Protocol>(stream: impl Stream, address: IpAddr, peer: Peer, protocol: &P) -> Result<(), Broken> {
    let (stream, first) = Sniffed::new(stream);
    let spoken = protocol.speak(stream, peer).await;
    let misses = first.get().and_then(|&first| P::SPEAKS.misses(first?));
    let malformed = || {
        let error = spoken.as_ref().err()?;
        if let Some(NoRequest(why)) = error.downcast_ref() {
            return Some(why.clone());
        }
        let error: &hyper::Error = error.downcast_ref()?;
        error.is_parse().then(|| {
            if error.is_parse_too_large() {
                format!("the request's head has more than {} KB, or too many fields", MAX_HEAD / 1024)
            } else {
                format!("the request is not HTTP/1.1: {error}")
            }
        })
    };
    if let Some(why) = misses.or_else(malformed) {
        protocol.connection_failed(address, why);
    }
    spoken
}

/// What a peer may speak.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Speech {
    Http,
    Mqtt,
    Tls,
}

impl Speech {
    /// What is wrong, and what to do about it, when a peer's first byte is of something else.
    fn misses(self, first: u8) -> Option<String> {
        let came = match first {
            0x16 => Self::Tls,
            0x10 => Self::Mqtt,
            byte if byte.is_ascii_uppercase() => Self::Http,
            _ => return None,
        };
        Some(match (came, self) {
            (Self::Tls, Self::Http) => "TLS on a port for plain HTTP: use http://, or the port of --https".to_owned(),
            (Self::Tls, Self::Mqtt) => "TLS on a port for plain MQTT: use the port of --mqtts".to_owned(),
            (Self::Http, Self::Tls) => "plain HTTP on a port for TLS: use https://, or the port of --http".to_owned(),
            (Self::Mqtt, Self::Tls) => "plain MQTT on a port for TLS: use TLS, or the port of --mqtt".to_owned(),
            (Self::Http, Self::Mqtt) => "HTTP on a port for MQTT: use the port of --http or --https".to_owned(),
            (Self::Mqtt, Self::Http) => {
                "MQTT on a port for HTTP: use the port of --mqtt or --mqtts, or MQTT over WebSocket".to_owned()
            }
            _ => return None,
        })
    }
}

/// What was read first from a stream: a byte, or its end.
type First = Arc<OnceLock<Option<u8>>>;

/// A stream that remembers what was read from it first.
struct Sniffed<S> {
    stream: S,
    first: First,
}

impl<S> Sniffed<S> {
    fn new(stream: S) -> (Self, First) {
        let first = First::default();
        (Self { stream, first: Arc::clone(&first) }, first)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Sniffed<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let poll = Pin::new(&mut self.stream).poll_read(context, buffer);
        if poll.is_ready() {
            self.first.get_or_init(|| buffer.filled().get(before).copied());
        }
        poll
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Sniffed<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// HTTP/1.1, and what a connection is upgraded to.
pub(crate) struct Http<H>(pub(crate) Arc<H>);

impl<H: Handler> Protocol for Http<H> {
    const SPEAKS: Speech = Speech::Http;

    fn patience(&self) -> Duration {
        self.0.patience()
    }

    fn note(&self, what: String) {
        self.0.note(what);
    }

    fn connection_failed(&self, peer: IpAddr, why: String) {
        self.0.connection_failed(peer, why);
    }

    async fn speak<S: Stream>(&self, stream: S, peer: Peer) -> Result<(), Broken> {
        let connection = Connection { peer, ..Connection::default() };
        let patience = self.patience();
        let mut stream = TimeoutStream::new(stream);
        stream.set_write_timeout(Some(patience));
        let stream = Faulty::new(Box::pin(stream), connection.fault.clone());
        let service = service_fn(|request| {
            let (handler, connection) = (Arc::clone(&self.0), connection.clone());
            async move { handler.handle(request, &connection).await }
        });
        http1::Builder::new()
            .timer(TokioTimer::new())
            // As the real service writes them; not every client compares names without case.
            .title_case_headers(true)
            .header_read_timeout(patience)
            .max_buf_size(MAX_HEAD)
            // A peer that has said all it wants to say still reads.
            .half_close(true)
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades()
            .await?;
        if let Some(after) = connection.take_after() {
            after.await;
        }
        Ok(())
    }
}

/// How the current answer is to be broken, shared with the stream that carries it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fault(Arc<Mutex<Wire>>);

#[derive(Debug, Default)]
enum Wire {
    #[default]
    Whole,
    /// So many bytes still go out.
    Cut(usize),
    /// These bytes go out instead, as far as they have not yet.
    Raw(Vec<u8>, usize),
}

impl Fault {
    pub(crate) fn cut_after(&self, bytes: usize) {
        self.set(Wire::Cut(bytes));
    }

    pub(crate) fn replace_by(&self, bytes: Vec<u8>) {
        self.set(Wire::Raw(bytes, 0));
    }

    fn set(&self, wire: Wire) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = wire;
    }
}

/// A stream with a [`Fault`].
pub(crate) struct Faulty<S> {
    stream: S,
    fault: Fault,
}

impl<S> Faulty<S> {
    pub(crate) fn new(stream: S, fault: Fault) -> Self {
        Self { stream, fault }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Faulty<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Faulty<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let Self { stream, fault } = self.get_mut();
        let mut wire = fault.0.lock().unwrap_or_else(PoisonError::into_inner);
        let cut = || io::Error::new(io::ErrorKind::BrokenPipe, "cut by a script");
        match &mut *wire {
            Wire::Whole => Pin::new(stream).poll_write(context, bytes),
            Wire::Cut(left) => {
                let now = bytes.len().min(*left);
                if now == 0 {
                    // What went out so far must arrive before the end does.
                    return Pin::new(stream).poll_flush(context).map(|flushed| flushed.and(Err(cut())));
                }
                let poll = Pin::new(stream).poll_write(context, &bytes[..now]);
                if let Poll::Ready(Ok(written)) = &poll {
                    *left -= *written;
                }
                poll
            }
            Wire::Raw(raw, sent) => {
                while *sent < raw.len() {
                    match Pin::new(&mut *stream).poll_write(context, &raw[*sent..]) {
                        Poll::Ready(Ok(0)) => return Poll::Ready(Err(cut())),
                        Poll::Ready(Ok(written)) => *sent += written,
                        Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                        Poll::Pending => return Poll::Pending,
                    }
                }
                Pin::new(stream).poll_flush(context).map(|flushed| flushed.and(Err(cut())))
            }
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// Why a request's body could not be read.
pub(crate) enum BodyFault {
    TooLong,
    Broken,
    Late,
}

/// A whole body, within a limit. One that is too long is read on for a while, so that its sender
/// comes to reading the answer.
pub(crate) async fn read_body(mut body: Incoming, limit: usize, patience: Duration) -> Result<Vec<u8>, BodyFault> {
    let read = async {
        let (mut bytes, mut length) = (Vec::new(), 0);
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.map_err(|_| BodyFault::Broken)?.into_data() else {
                continue;
            };
            length += data.len();
            if length <= limit {
                bytes.extend_from_slice(&data);
            } else if length > 16 * limit {
                break;
            }
        }
        if length <= limit { Ok(bytes) } else { Err(BodyFault::TooLong) }
    };
    tokio::time::timeout(patience, read).await.unwrap_or(Err(BodyFault::Late))
}

/// A body with a Content-Length.
pub(crate) fn whole(text: String) -> Body {
    Full::new(Bytes::from(text)).boxed()
}

/// A chunked body. It has two chunks where it can, because a client that reads only one is wrong.
pub(crate) fn chunked(text: String) -> Body {
    let mut first = Bytes::from(text);
    let second = first.split_off(first.len() / 2);
    Chunks([first, second].into_iter()).boxed()
}

/// Chunks of a length that hyper is not told, so that it has to chunk.
struct Chunks(std::array::IntoIter<Bytes, 2>);

impl hyper::body::Body for Chunks {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let next = self.0.find(|chunk| !chunk.is_empty());
        Poll::Ready(next.map(|chunk| Ok(Frame::data(chunk))))
    }
}

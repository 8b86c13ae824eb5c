//! HTTP/1.1 on a connection, for the device API, the service API, the control API and the built-in webhook.

use std::{
    convert::Infallible,
    fmt,
    net::IpAddr,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use futures_util::future::BoxFuture;
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper::{
    Request, Response,
    body::{Bytes, Frame, Incoming},
    header::{CONTENT_TYPE, HeaderMap},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio_io_timeout::TimeoutStream;

use super::{
    fault::{Fault, Faulty},
    protocol::{Broken, NoRequest, Peer, Protocol, Stream},
    speech::Speech,
};

/// The longest head of a request.
const MAX_HEAD: usize = 32 * 1024;

/// How long a client may take for a handshake, for the head or the body of a request, or to read the answer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) type Body = BoxBody<Bytes, Infallible>;

/// The client gets no answer.
#[derive(Debug)]
pub(crate) struct NoAnswer;

impl fmt::Display for NoAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no answer is sent")
    }
}

impl std::error::Error for NoAnswer {}

/// Answers HTTP requests.
pub(crate) trait Handler: Send + Sync + 'static {
    /// `true` if a client that has closed its side may still read the answer.
    const HALF_CLOSE: bool = true;

    fn handle(
        &self,
        request: Request<Incoming>,
        connection: &Connection,
    ) -> impl Future<Output = Result<Response<Body>, NoAnswer>> + Send;

    /// See [`Protocol::patience`].
    fn patience(&self) -> Duration {
        PATIENCE
    }

    /// See [`Protocol::note`].
    fn note(&self, what: String);

    /// See [`Protocol::connection_failed`].
    fn connection_failed(&self, _peer: IpAddr, _why: String) {}
}

/// The connection of a request. The answer may change what happens on it.
#[derive(Clone, Default)]
pub(crate) struct Connection {
    pub(crate) peer: Peer,
    pub(crate) fault: Fault,
    after: Arc<Mutex<Option<BoxFuture<'static, ()>>>>,
}

impl Connection {
    /// Runs this on the connection after the answer has switched protocols.
    pub(crate) fn go_on_with(&self, after: impl Future<Output = ()> + Send + 'static) {
        *self.after.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::pin(after));
    }

    fn take_after(&self) -> Option<BoxFuture<'static, ()>> {
        self.after.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// HTTP/1.1, and the protocols that a connection is upgraded to.
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
            // The real service writes header names in this form. Some clients compare names with case.
            .title_case_headers(true)
            .header_read_timeout(patience)
            .max_buf_size(MAX_HEAD)
            .half_close(H::HALF_CLOSE)
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades()
            .await
            .map_err(broken)?;
        if let Some(after) = connection.take_after() {
            after.await;
        }
        Ok(())
    }
}

/// Returns why a connection ended. Malformed HTTP is not a request.
fn broken(error: hyper::Error) -> Broken {
    if !error.is_parse() {
        return error.into();
    }
    NoRequest(if error.is_parse_too_large() {
        format!("the request's head has more than {} KB, or too many fields", MAX_HEAD / 1024)
    } else {
        format!("the request is not HTTP/1.1: {error}")
    })
    .into()
}

/// Why the body of a request could not be read.
pub(crate) enum BodyFault {
    TooLong,
    Broken,
    Late,
}

/// Reads a whole body up to a limit. The rest of a longer body is read for a while, so that the client can read the
/// answer.
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

/// Returns the media type of a body, without its parameters.
pub(crate) fn media_type(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(CONTENT_TYPE)?.to_str().unwrap_or_default();
    Some(value.split(';').next().unwrap_or_default().trim())
}

/// Returns a body with a Content-Length.
pub(crate) fn whole(text: String) -> Body {
    Full::new(Bytes::from(text)).boxed()
}

/// Returns a chunked body. It has two chunks if possible, to find clients that read only one chunk.
pub(crate) fn chunked(text: String) -> Body {
    let mut first = Bytes::from(text);
    let second = first.split_off(first.len() / 2);
    Chunks([first, second].into_iter()).boxed()
}

/// Two chunks without a known length, which hyper sends as a chunked body.
struct Chunks(std::array::IntoIter<Bytes, 2>);

impl hyper::body::Body for Chunks {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let next = self.0.find(|chunk| !chunk.is_empty());
        Poll::Ready(next.map(|chunk| Ok(Frame::data(chunk))))
    }
}

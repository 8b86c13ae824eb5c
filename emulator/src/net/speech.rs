//! Recognizes the protocol of a client by its first byte.

use std::{
    io,
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A protocol that a client may use.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Speech {
    Http,
    Mqtt,
    Tls,
}

impl Speech {
    /// If the first byte belongs to another protocol, returns what is wrong and how to correct it.
    pub(super) fn misses(self, first: u8) -> Option<String> {
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

/// The first byte that was read from a stream, or `None` for its end.
pub(super) type First = Arc<OnceLock<Option<u8>>>;

/// A stream that remembers the first byte that was read from it.
pub(super) struct Sniffed<S> {
    stream: S,
    first: First,
}

impl<S> Sniffed<S> {
    pub(super) fn new(stream: S) -> (Self, First) {
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

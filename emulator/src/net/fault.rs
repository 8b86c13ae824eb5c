//! Breaks an answer on the connection as a script specifies.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// How the current answer is broken. The stream that sends the answer shares this value.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fault(Arc<Mutex<Wire>>);

#[derive(Debug, Default)]
enum Wire {
    #[default]
    Whole,
    /// Writes only this many more bytes.
    Cut(usize),
    /// Writes these bytes instead. The number counts the bytes that were written.
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
                    // The written bytes must arrive before the connection ends.
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

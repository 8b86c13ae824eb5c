use core::{ops::Range, time::Duration};

use super::{
    ResponseReader,
    request::{needed, write_request},
};
use crate::{
    error::{Error, TransportError},
    provisioning::{Provisioning, Step},
};

/// The next action of a transport.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Sign with [`Provisioning::sign_with`].
    Sign,
    /// Pass the challenge to the TPM with [`Provisioning::activate_with`].
    Activate,
    /// Wait for this time.
    Wait(Duration),
    /// Drop the connection, if there is one, and open a new one.
    Connect,
    /// Write bytes of this part of the buffer. Then call [`Exchange::on_written`].
    Write(Range<usize>),
    /// Flush the stream. Then call [`Exchange::on_flushed`].
    Flush,
    /// Read bytes into [`Exchange::space`]. Then call [`Exchange::on_read`].
    Read,
    /// The run is over.
    Finished,
}

/// The logic of a transport over byte streams, without I/O. A run may need several streams, one after the other.
pub(crate) struct Exchange {
    phase: Phase,
    /// `true` if there is a connection. The server may have closed it.
    connected: bool,
    /// `true` if the current request uses a connection that had a request before.
    reused: bool,
    deadline: Duration,
    reader: ResponseReader,
}

enum Phase {
    /// No request is sent.
    Idle,
    Connecting,
    /// Connected. Nothing was written yet.
    Connected,
    Writing(Range<usize>),
    Flushing,
    Reading,
}

impl Exchange {
    pub(crate) const fn new() -> Self {
        Self {
            phase: Phase::Idle,
            connected: false,
            reused: false,
            deadline: Duration::ZERO,
            reader: ResponseReader::new(),
        }
    }

    pub(crate) fn next(&mut self, provisioning: &mut Provisioning<'_>, now: Duration, buffer: &mut [u8]) -> Action {
        loop {
            match &self.phase {
                Phase::Idle => match provisioning.step(now) {
                    Step::Sign => return Action::Sign,
                    Step::Activate => return Action::Activate,
                    Step::Wait(duration) => return Action::Wait(duration),
                    Step::Finished => return Action::Finished,
                    Step::Send => {
                        self.deadline = provisioning.request_deadline(now);
                        self.reused = self.connected;
                        self.phase = if self.connected { Phase::Connected } else { Phase::Connecting };
                    }
                },
                // The connector checks the deadline.
                Phase::Connecting => return Action::Connect,
                Phase::Connected => match write_request(provisioning, now, buffer) {
                    Ok(len) => self.phase = Phase::Writing(0..len),
                    Err(error) => self.on_error(provisioning, now, error),
                },
                _ if now >= self.deadline => {
                    self.on_error(provisioning, now, Error::Transport(TransportError::Stalled));
                }
                Phase::Writing(rest) => return Action::Write(rest.clone()),
                Phase::Flushing => return Action::Flush,
                Phase::Reading => match self.reader.space(buffer) {
                    Ok(_) => return Action::Read,
                    Err(error) => self.on_error(provisioning, now, error),
                },
            }
        }
    }

    /// Returns `true` if there is a connection.
    pub(crate) const fn is_connected(&self) -> bool {
        self.connected
    }

    /// Returns the deadline of the current request.
    pub(crate) const fn deadline(&self) -> Duration {
        self.deadline
    }

    /// Returns the space for the next bytes of the answer.
    pub(crate) fn space<'b>(&mut self, buffer: &'b mut [u8]) -> &'b mut [u8] {
        self.reader.space(buffer).unwrap_or_default()
    }

    /// Returns the error of a signature. If the buffer was too small, the error has the size of the request, which
    /// is larger than the message.
    pub(crate) fn signature_error(&self, provisioning: &mut Provisioning<'_>, error: Error) -> Error {
        match error {
            Error::BufferTooSmall(_) => needed(provisioning),
            error => error,
        }
    }

    pub(crate) fn on_connected(&mut self, provisioning: &mut Provisioning<'_>) {
        self.connected = true;
        self.phase = Phase::Connected;
        provisioning.on_connected();
    }

    pub(crate) fn on_written(&mut self, provisioning: &mut Provisioning<'_>, now: Duration, written: usize) {
        let Phase::Writing(rest) = &mut self.phase else { return };
        rest.start = rest.start.saturating_add(written);
        let complete = rest.start >= rest.end;
        if written == 0 {
            // A stream that writes 0 bytes is closed. `write_all` would panic here.
            self.on_error(provisioning, now, Error::Transport(TransportError::Closed));
        } else if complete {
            self.phase = Phase::Flushing;
        }
    }

    pub(crate) fn on_flushed(&mut self) {
        self.reader = ResponseReader::new();
        self.phase = Phase::Reading;
    }

    // Not inlined, because its header lines take half a kilobyte of stack. A TLS handshake would need this stack
    // in addition.
    #[inline(never)]
    pub(crate) fn on_read(
        &mut self,
        provisioning: &mut Provisioning<'_>,
        now: Duration,
        buffer: &mut [u8],
        read: usize,
    ) {
        match self.reader.received(buffer, read) {
            Ok(None) => {}
            Ok(Some(response)) => {
                self.connected = response.keep_alive;
                self.phase = Phase::Idle;
                provisioning.on_answer(now, response.answer(buffer));
            }
            Err(error) => self.on_error(provisioning, now, error),
        }
    }

    /// Takes an error. The connection is not used again.
    pub(crate) fn on_error(&mut self, provisioning: &mut Provisioning<'_>, now: Duration, error: Error) {
        self.connected = false;
        // The service closes idle connections between polls. If no byte of an answer arrived, this is not a
        // failure: the request is sent again on a new connection.
        let was_idle = matches!(error, Error::Transport(TransportError::Closed | TransportError::Stream))
            && self.reused
            && self.is_untouched();
        self.reused = false;
        if was_idle {
            self.phase = Phase::Connecting;
            return;
        }
        self.phase = Phase::Idle;
        provisioning.on_error(now, error);
    }

    fn is_untouched(&self) -> bool {
        match self.phase {
            Phase::Reading => self.reader.is_untouched(),
            _ => true,
        }
    }
}

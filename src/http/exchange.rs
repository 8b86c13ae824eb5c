use core::{ops::Range, time::Duration};

use super::{
    ResponseReader,
    request::{needed, write_request},
};
use crate::{
    error::{Error, TransportError},
    provisioning::{Provisioning, Step},
};

/// What a transport is to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Sign: [`Provisioning::sign_with`].
    Sign,
    /// Give the challenge to the TPM: [`Provisioning::activate_with`].
    Activate,
    /// Nothing, for so long.
    Wait(Duration),
    /// Drop the connection, if there is one, and open another.
    Connect,
    /// Write some of this part of the buffer: [`Exchange::on_written`].
    Write(Range<usize>),
    /// Send what was written: [`Exchange::on_flushed`].
    Flush,
    /// Read some bytes into [`Exchange::space`]: [`Exchange::on_read`].
    Read,
    /// The run is over.
    Finished,
}

/// A run over one byte stream after another, without the streams: the logic of every
/// transport that brings its own.
pub(crate) struct Exchange {
    phase: Phase,
    /// Whether there is a connection, as far as is known.
    connected: bool,
    /// Whether the request under way goes out on a connection that was used before.
    reused: bool,
    deadline: Duration,
    reader: ResponseReader,
}

enum Phase {
    /// Between two exchanges.
    Idle,
    Connecting,
    /// Connected, and nothing written.
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
                // The time that it may take is checked by whoever connects.
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

    /// Whether there is a connection that may be used.
    pub(crate) const fn is_connected(&self) -> bool {
        self.connected
    }

    /// When the exchange that is under way is to be given up.
    pub(crate) const fn deadline(&self) -> Duration {
        self.deadline
    }

    /// Where to read to.
    pub(crate) fn space<'b>(&mut self, buffer: &'b mut [u8]) -> &'b mut [u8] {
        self.reader.space(buffer).unwrap_or_default()
    }

    /// What is wrong with a signature. A buffer that is too small to sign in is too small for the
    /// request as well, which is the size that the caller needs.
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
            // Not `write_all`, which panics on a stream that takes nothing.
            self.on_error(provisioning, now, Error::Transport(TransportError::Closed));
        } else if complete {
            self.phase = Phase::Flushing;
        }
    }

    pub(crate) fn on_flushed(&mut self) {
        self.reader = ResponseReader::new();
        self.phase = Phase::Reading;
    }

    // The header lines take half a kilobyte of stack. Inlined, they would be there under a
    // handshake too.
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

    /// Whatever went wrong, the connection is not used again.
    pub(crate) fn on_error(&mut self, provisioning: &mut Provisioning<'_>, now: Duration, error: Error) {
        self.connected = false;
        // The service closes connections that idle between polls. Nothing of an answer has
        // come, so this is no failure.
        let idled_out = matches!(error, Error::Transport(TransportError::Closed | TransportError::Stream))
            && self.reused
            && self.is_untouched();
        self.reused = false;
        if idled_out {
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

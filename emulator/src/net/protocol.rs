//! The interface between [`listener`](super::listener) and the protocols.

use std::{fmt, net::IpAddr, sync::Arc, time::Duration};

use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite};

use super::speech::Speech;

/// Why a connection ended.
pub(crate) type Broken = Box<dyn std::error::Error + Send + Sync>;

/// The bytes of a connection, with TLS or without.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin + 'static> Stream for S {}

/// What a client presented in the TLS handshake. Empty without TLS.
#[derive(Clone, Debug, Default)]
pub(crate) struct Peer {
    /// The client's certificates, its own first. The client has proved that it holds the private key of its own
    /// certificate. Nothing else about the certificates is verified.
    pub(crate) certificates: Arc<[CertificateDer<'static>]>,
    /// The host that the client dialled (Server Name Indication), in lower case. `None` if the client dialled an IP
    /// address.
    pub(crate) server_name: Option<Arc<str>>,
}

/// The protocol of a listener's connections.
pub(crate) trait Protocol: Send + Sync + 'static {
    const SPEAKS: Speech;

    /// Serves one connection until it ends.
    fn speak<S: Stream>(&self, stream: S, peer: Peer) -> impl Future<Output = Result<(), Broken>> + Send;

    /// Returns how long a client may take for a handshake, a request, or to read the answer.
    fn patience(&self) -> Duration;

    /// Records an event of the listener as a whole.
    fn note(&self, what: String);

    /// Reports why a connection ended without a request.
    fn connection_failed(&self, peer: IpAddr, why: String);
}

/// The reason why a connection ended without a request.
#[derive(Debug)]
pub(crate) struct NoRequest(pub(crate) String);

impl fmt::Display for NoRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NoRequest {}

//! Accepts connections, starts TLS on them, and passes them to the protocol of the listener.

use std::{
    io, mem,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use socket2::SockRef;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tokio_rustls::TlsAcceptor;

use super::{
    protocol::{Broken, NoRequest, Peer, Protocol, Stream},
    speech::{Sniffed, Speech},
    tls,
};

/// The maximum number of connections of a listener at the same time. More connections wait in the backlog. An idle
/// connection takes 17 KB, and 26 KB over TLS.
const MAX_CONNECTIONS: usize = 4096;

/// Binds an address. Returns the listener and its address with the port.
pub(crate) fn bind(address: &str) -> io::Result<(std::net::TcpListener, SocketAddr)> {
    let listener = std::net::TcpListener::bind(address)?;
    // The backlog of the standard library is 128. If more devices connect at once, the system drops their
    // connections, and they try again seconds later.
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
            protocol.note(format!("the limit of {limit} connections is reached: further connections wait"));
        }
        let Ok(permit) = Arc::clone(&connections).acquire_owned().await else {
            return Ok(());
        };
        let (stream, address) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // There are no free file descriptors, or the client has closed the connection. The service continues in
                // both cases.
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
            // An error ends only this connection.
            let _ = serve_connection(stream, address.ip(), tls, &*protocol).await;
        });
    }
}

/// Returns half of the number of files that the process may open. The other half is for webhook calls and everything
/// else, which must not fail when many devices connect.
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
            let (_, session) = stream.get_ref();
            let peer = Peer {
                certificates: session.peer_certificates().unwrap_or_default().into(),
                // rustls converts the name to lower case.
                server_name: session.server_name().map(Into::into),
            };
            let server_name = peer.server_name.clone();
            let (stream, first) = Sniffed::new(stream);
            let spoken = speak(stream, address, peer, protocol).await;
            if first.get() == Some(&None) {
                protocol.connection_failed(address, tls::closed_unused(server_name.as_deref()));
            }
            spoken
        }
        (Err((why, error)), Some(&Some(first))) => {
            let why = Speech::Tls.misses(first).unwrap_or_else(|| format!("the TLS handshake failed: {why}"));
            protocol.connection_failed(address, why);
            Err(error)
        }
        // A client that sent nothing is not reported.
        (Err((_, error)), _) => Err(error),
    }
}

/// Runs the protocol. Reports a client that uses another protocol or makes no request.
async fn speak<P: Protocol>(stream: impl Stream, address: IpAddr, peer: Peer, protocol: &P) -> Result<(), Broken> {
    let (stream, first) = Sniffed::new(stream);
    let spoken = protocol.speak(stream, peer).await;
    let misses = first.get().and_then(|&first| P::SPEAKS.misses(first?));
    let malformed = || spoken.as_ref().err()?.downcast_ref().map(|NoRequest(why)| why.clone());
    if let Some(why) = misses.or_else(malformed) {
        protocol.connection_failed(address, why);
    }
    spoken
}

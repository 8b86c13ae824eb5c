//! MQTT over WebSocket: upgrades an HTTP connection on any path to the subprotocol `mqtt`.

use std::{io, time::Duration};

use futures_util::{SinkExt, StreamExt};
use http_body_util::BodyExt;
use hyper::{
    Request, Response,
    body::{Bytes, Incoming},
    header::{HeaderValue, SEC_WEBSOCKET_PROTOCOL},
};
use hyper_tungstenite::{
    HyperWebsocket, HyperWebsocketStream,
    tungstenite::{self, Message, error::ProtocolError, protocol::WebSocketConfig},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    time::timeout,
};

use crate::{
    net::{
        http::{Body, Connection},
        mqtt::MAX_PACKET,
        protocol::{Broken, NoRequest, Peer, Protocol},
    },
    service::ServiceError,
};

/// Compared without case, because Microsoft's client for C offers `MQTT`.
const SUBPROTOCOL: &str = "mqtt";

/// How many bytes are buffered between the two protocols, in each direction.
const BUFFER: usize = 16 * 1024;

/// Returns `true` if the request asks for WebSocket.
pub(super) fn is_wanted(request: &Request<Incoming>) -> bool {
    hyper_tungstenite::is_upgrade_request(request)
}

/// Answers the request, and continues with MQTT on its connection.
pub(super) fn upgrade(
    request: &mut Request<Incoming>,
    connection: &Connection,
    mqtt: impl Protocol,
) -> Result<Response<Body>, ServiceError> {
    let offered = request.headers().get_all(SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|value| value.to_str().ok());
    let subprotocol = offered
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .find(|each| each.eq_ignore_ascii_case(SUBPROTOCOL))
        // Return the client's spelling, because it compares the answer with its offer.
        .and_then(|each| HeaderValue::from_str(each).ok())
        .ok_or_else(|| ServiceError::bad_request("the WebSocket's subprotocol is not mqtt"))?;
    let config = WebSocketConfig::default().max_message_size(Some(MAX_PACKET)).max_frame_size(Some(MAX_PACKET));
    let (mut response, websocket) = hyper_tungstenite::upgrade(request, Some(config))
        .map_err(|error| ServiceError::bad_request(format!("the WebSocket cannot be opened: {error}")))?;
    response.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, subprotocol);
    let peer = connection.peer.clone();
    connection.go_on_with(async move {
        // An error ends only this connection.
        let _ = serve(websocket, mqtt, peer).await;
    });
    Ok(response.map(BodyExt::boxed))
}

/// Runs MQTT on one end of a pipe, and WebSocket messages on the other.
async fn serve(websocket: HyperWebsocket, mqtt: impl Protocol, peer: Peer) -> Result<(), Broken> {
    let websocket = websocket.await?;
    let (near, far) = tokio::io::duplex(BUFFER);
    let patience = mqtt.patience();
    let (spoken, carried) = tokio::join!(mqtt.speak(near, peer), carry(websocket, far, patience));
    // A client that leaves is not recorded. A connection that the emulator closes is recorded.
    let carried = carried.err().filter(is_sent_away).map(|why| format!("the WebSocket was dropped: {why}"));
    let spoken = spoken.err().filter(|why| why.is::<NoRequest>()).map(|why| why.to_string());
    for outcome in carried.into_iter().chain(spoken) {
        mqtt.note(outcome);
    }
    Ok(())
}

fn is_sent_away(why: &Broken) -> bool {
    match why.downcast_ref() {
        Some(tungstenite::Error::Protocol(why)) => *why != ProtocolError::ResetWithoutClosingHandshake,
        Some(tungstenite::Error::Capacity(_) | tungstenite::Error::Utf8(_)) => true,
        Some(_) => false,
        None => why.downcast_ref().is_none_or(|error: &io::Error| error.kind() == io::ErrorKind::InvalidData),
    }
}

/// "A single WebSocket data frame can contain multiple or partial MQTT Control Packets" (MQTT 3.1.1, section 6). So
/// this carries the frames as a stream of bytes, until either side ends.
async fn carry(websocket: HyperWebsocketStream, pipe: DuplexStream, patience: Duration) -> Result<(), Broken> {
    let (mut sink, mut source) = websocket.split();
    let (mut from_mqtt, mut to_mqtt) = tokio::io::split(pipe);
    let inwards = async {
        while let Some(message) = source.next().await {
            match message? {
                Message::Binary(bytes) => to_mqtt.write_all(&bytes).await?,
                // "MQTT Control Packets MUST be sent in WebSocket binary data frames."
                Message::Text(_) => {
                    let why = "a text frame, but MQTT needs binary frames";
                    return Err(io::Error::new(io::ErrorKind::InvalidData, why).into());
                }
                _ => {}
            }
        }
        Ok::<_, Broken>(())
    };
    let outwards = async {
        let mut buffer = vec![0; BUFFER];
        loop {
            let length = from_mqtt.read(&mut buffer).await?;
            if length == 0 {
                break;
            }
            let message = Message::binary(Bytes::copy_from_slice(&buffer[..length]));
            timeout(patience, sink.send(message)).await??;
        }
        timeout(patience, sink.close()).await??;
        Ok::<_, Broken>(())
    };
    // When one direction ends, end the other one.
    tokio::select! {
        ended = inwards => ended,
        ended = outwards => ended,
    }
}

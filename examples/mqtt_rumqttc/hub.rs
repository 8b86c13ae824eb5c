//! A session with the hub: connects, downloads the twin, disconnects. Copy this file.

use std::{fmt, time::Duration};

use azure_dps::{
    after::{
        Hub, HubOutcome,
        twin::{self, Message, Twin},
    },
    tls,
};
use rumqttc::{
    AsyncClient, ConnectionError, Event, EventLoop, MqttOptions, Outgoing, Packet, QoS, SubscribeReasonCode, Transport,
};
use tokio::time::timeout;

/// The longest wait for CONNACK, and for each answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// The longest packet to receive. The hub allows 32 KB of desired properties and 32 KB of reported ones.
const LARGEST: usize = 128 << 10;
const REQUEST_ID: u32 = 1;

pub struct Session {
    client: AsyncClient,
    events: EventLoop,
}

/// Why there is no session, or why it ended.
#[derive(Debug)]
pub struct Failed {
    /// The outcome for `Reprovisioning::on_hub`.
    pub outcome: HubOutcome,
    /// A description.
    pub seen: String,
}

impl Session {
    /// Connects to the hub at this host and port. `password` is a token. It is empty if the TLS connection presents the
    /// device's certificate.
    pub async fn open(
        hub: &Hub<'_>,
        password: &str,
        (host, port): (&str, u16),
        transport: Transport,
    ) -> Result<Self, Failed> {
        // Only URLs have brackets around an IPv6 address.
        let mut options = MqttOptions::new(hub.client_id(), host.trim_matches(['[', ']']), port);
        let mut buffer = [0; 1024];
        let user_name = hub.write_user_name(&mut buffer).map_err(|error| Failed::unreachable(error.to_string()))?;
        options.set_credentials(user_name, password);
        options.set_keep_alive(Duration::from_secs(60));
        options.set_max_packet_size(LARGEST, usize::MAX);
        options.set_transport(transport);
        let (client, events) = AsyncClient::new(options, 8);
        let mut session = Self { client, events };
        // The first event is the CONNACK.
        session.next().await?;
        Ok(session)
    }

    /// Downloads the twin and calls `read` with it.
    pub async fn twin<T>(&mut self, read: impl FnOnce(&Twin<'_>) -> T) -> Result<T, Failed> {
        let gone = |_| Failed::unreachable("the session ended".to_owned());
        self.client.subscribe(twin::ANSWER_FILTER, QoS::AtLeastOnce).await.map_err(gone)?;
        loop {
            if let Event::Incoming(Packet::SubAck(granted)) = self.next().await? {
                match granted.return_codes.contains(&SubscribeReasonCode::Failure) {
                    true => return Err(Failed::unreachable("the hub rejects the subscription".to_owned())),
                    false => break,
                }
            }
        }
        let mut topic = [0; twin::TOPIC_LEN];
        let topic = twin::write_get_topic(REQUEST_ID, &mut topic).unwrap_or_default();
        self.client.publish(topic, QoS::AtMostOnce, false, "").await.map_err(gone)?;
        loop {
            let Event::Incoming(Packet::Publish(message)) = self.next().await? else { continue };
            match twin::read(&message.topic, &message.payload) {
                Ok(Message::Twin(twin)) if twin.request_id == REQUEST_ID => return Ok(read(&twin)),
                Ok(Message::Refused(refusal)) => {
                    let outcome = refusal.hub_outcome().unwrap_or(HubOutcome::Refused(refusal.status));
                    return Err(Failed { outcome, seen: refusal.to_string() });
                }
                Err(unreadable) => return Err(Failed::unreachable(unreadable.to_string())),
                Ok(_) => {}
            }
        }
    }

    /// Disconnects. Does not check that the DISCONNECT arrives.
    pub async fn close(mut self) {
        let _ = self.client.disconnect().await;
        let left =
            async { while !matches!(self.events.poll().await, Err(_) | Ok(Event::Outgoing(Outgoing::Disconnect))) {} };
        let _ = timeout(Duration::from_secs(1), left).await;
    }

    async fn next(&mut self) -> Result<Event, Failed> {
        match timeout(PATIENCE, self.events.poll()).await {
            Ok(event) => event.map_err(Failed::from),
            Err(_) => Err(Failed::unreachable(format!("no message within {} s", PATIENCE.as_secs()))),
        }
    }
}

impl Failed {
    fn unreachable(seen: String) -> Self {
        Self { outcome: HubOutcome::Unreachable, seen }
    }
}

impl From<ConnectionError> for Failed {
    fn from(error: ConnectionError) -> Self {
        match error {
            ConnectionError::ConnectionRefused(code) => {
                let code = code as u8;
                Self { outcome: HubOutcome::from_connack(code), seen: format!("the hub answered CONNECT with {code}") }
            }
            error => Self::unreachable(tls::describe(&error)),
        }
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.seen)
    }
}

impl std::error::Error for Failed {}

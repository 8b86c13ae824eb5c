//! MQTT 3.1.1 for both services. The user name of CONNECT says which service a client wants.

mod connect;
mod dps;
mod hub;
mod hub_topics;
mod session;

use std::{net::IpAddr, sync::Arc};

use mqtt_proto::v3::{Connack, ConnectReturnCode, Packet};
use tokio::time::{Duration, Instant};

use self::{
    connect::{Greeting, Refusal, Wanted},
    dps::Dps,
    hub::HubSide,
    session::Granted,
};
use super::fault;
use crate::{
    hub::Hub,
    net::{
        mqtt::{Link, LinkError},
        protocol::{Broken, NoRequest, Peer, Protocol, Stream},
        speech::Speech,
    },
    service::{
        Service,
        script::{Action, Operation},
    },
    store::hub_device::Filter,
    watch::records::RequestRecord,
};

/// Both services on one MQTT listener.
pub(crate) struct Mqtt {
    pub(crate) service: Arc<Service>,
    pub(crate) hub: Arc<Hub>,
    /// The listener: `mqtt`, `mqtts`, `ws` or `wss`.
    pub(crate) listener: &'static str,
}

impl Protocol for Mqtt {
    const SPEAKS: Speech = Speech::Mqtt;

    fn patience(&self) -> Duration {
        self.service.patience()
    }

    fn note(&self, what: String) {
        self.service.journal().note(self.listener, what);
    }

    fn connection_failed(&self, peer: IpAddr, why: String) {
        self.service.journal().connection_failed(self.listener, peer, why);
    }

    async fn speak<S: Stream>(&self, stream: S, peer: Peer) -> Result<(), Broken> {
        let mut link = Link::new(stream, self.patience());
        let guest = match self.connect(&mut link, peer).await {
            Ok(Some(guest)) => guest,
            Ok(None) => {
                link.close().await;
                return Ok(());
            }
            Err(error) => {
                link.close().await;
                return Err(match error {
                    LinkError::Protocol(why) => NoRequest(format!("the MQTT session did not start: {why}")).into(),
                    error => error.into(),
                });
            }
        };
        match guest {
            Guest::Dps(dps) => session::serve(&mut link, &*dps, Granted::new()).await?,
            Guest::Hub(mut hub, granted) => {
                let ended = session::serve(&mut link, &*hub, granted).await;
                if ended.is_err() {
                    hub.send_will();
                }
                ended?;
            }
        }
        Ok(())
    }
}

/// A device that is connected to one of the services.
enum Guest<'a> {
    Dps(Box<Dps<'a>>),
    /// A device at a hub, with its subscriptions.
    Hub(Box<HubSide<'a>>, Granted<Filter>),
}

impl Mqtt {
    /// Answers the CONNECT. Returns `None` if it is rejected.
    async fn connect<S: Stream>(&self, link: &mut Link<S>, peer: Peer) -> Result<Option<Guest<'_>>, LinkError> {
        let greeting = match link.receive_until(Some(Instant::now() + link.patience)).await {
            Ok(Packet::Connect(connect)) if connect.protocol == mqtt_proto::Protocol::V311 => {
                Some(Greeting::new(connect, peer))
            }
            // "if the Protocol Level is not supported: return code 0x01, and then disconnect"
            Ok(Packet::Connect(_)) | Err(LinkError::OtherProtocol) => None,
            Ok(_) => return Err(LinkError::Protocol("the first packet is not CONNECT".to_owned())),
            Err(error) => return Err(error),
        };
        let wanted = match &greeting {
            Some(greeting) => Wanted::read(&greeting.user_name),
            None => Err(connect::other_protocol()),
        };
        let mut record = RequestRecord::new(self.listener, "CONNECT");
        let client_id = greeting.as_ref().map_or("", |greeting| &greeting.client_id);
        record.registration_id = Some(client_id.to_owned());
        if let Some(greeting) = &greeting {
            record.path = greeting.user_name.to_string();
            record.authorization = greeting.has_password;
        }
        let operation = match &wanted {
            Ok(Wanted::Hub(user)) => {
                let known = self.hub.registration_id(user.hub, user.device_id);
                record.registration_id = Some(known.unwrap_or_else(|| user.device_id.to_owned()));
                record.hub = Some(user.hub.to_owned());
                Operation::HubConnect
            }
            _ => Operation::Connect,
        };

        let script = self.service.take_script(operation, record.registration_id.as_deref().unwrap_or_default());
        if let Some(script) = &script {
            self.service.clock().sleep(script.delay).await;
        }
        let action = script.map_or(Action::Nothing, |script| script.action);
        let by_script = fault::breaks(&action, &link.fault);
        let mut session_present = false;
        let guest = match (wanted, &greeting) {
            // The client got the script's answer instead of CONNACK, so the session does not start.
            (Ok(_), _) if by_script => Err(Refusal::new(ConnectReturnCode::Accepted, "")),
            (Ok(Wanted::Dps(user)), Some(greeting)) => {
                Dps::let_in(&self.service, self.listener, &user, greeting).map(|dps| Guest::Dps(Box::new(dps)))
            }
            (Ok(Wanted::Hub(user)), Some(greeting)) => {
                HubSide::let_in(&self.service, &self.hub, self.listener, &user, greeting).map(|entered| {
                    session_present = entered.was_kept;
                    Guest::Hub(Box::new(entered.side), entered.granted)
                })
            }
            (Ok(_), None) => Err(connect::other_protocol()),
            (Err(refusal), _) => Err(refusal),
        };
        record.outcome = match &guest {
            _ if by_script => "answered by a script".to_owned(),
            Ok(_) if session_present => "connected, session present".to_owned(),
            Ok(_) => "connected".to_owned(),
            Err(refusal) => format!("CONNACK {}: {}", refusal.code as u8, refusal.why),
        };
        if let Err(Refusal { registration_id: Some(registration_id), .. }) = &guest {
            record.registration_id = Some(registration_id.clone());
        }
        self.service.journal().record_request(record);
        let code = guest.as_ref().err().map_or(ConnectReturnCode::Accepted, |refusal| refusal.code);
        link.send(Connack::new(session_present, code)).await?;
        Ok(guest.ok())
    }
}

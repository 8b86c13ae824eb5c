//! MQTT 3.1.1, on one door for both services. The user name of a CONNECT tells which service a client wants.

#[allow(dead_code)] // Until there is a hub.
mod connect;
mod dps;
#[allow(dead_code)] // Until there is a hub.
mod session;

use std::{net::IpAddr, sync::Arc};

use mqtt_proto::v3::{Connack, ConnectReturnCode, Packet};
use tokio::time::{Duration, Instant};

use self::{
    connect::{Greeting, Refusal, Wanted},
    dps::Dps,
};
use super::fault;
use crate::{
    net::{
        mqtt::{Link, LinkError},
        protocol::{Broken, NoRequest, Peer, Protocol, Stream},
        speech::Speech,
    },
    service::{
        Service,
        script::{Action, Operation},
    },
    watch::records::RequestRecord,
};

/// One listener's view of the services.
pub(crate) struct Mqtt {
    pub(crate) service: Arc<Service>,
    /// `mqtt`, `mqtts`, `ws` or `wss`.
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
        match self.connect(&mut link, peer).await {
            Ok(Some(dps)) => Ok(session::serve(&mut link, &dps, Default::default()).await?),
            Ok(None) => {
                link.close().await;
                Ok(())
            }
            Err(error) => {
                link.close().await;
                Err(match error {
                    LinkError::Protocol(why) => NoRequest(format!("no MQTT session: {why}")).into(),
                    error => error.into(),
                })
            }
        }
    }
}

impl Mqtt {
    /// Answers the CONNECT. Returns `None` if it is refused.
    async fn connect<S: Stream>(&self, link: &mut Link<S>, peer: Peer) -> Result<Option<Dps<'_>>, LinkError> {
        let greeting = match link.receive_until(Some(Instant::now() + link.patience)).await {
            Ok(Packet::Connect(connect)) if connect.protocol == mqtt_proto::Protocol::V311 => {
                Some(Greeting::new(connect, peer))
            }
            // "if the Protocol Level is not supported: return code 0x01, and then disconnect"
            Ok(Packet::Connect(_)) | Err(LinkError::OtherProtocol) => None,
            Ok(_) => return Err(LinkError::Protocol("the first packet is no CONNECT".to_owned())),
            Err(error) => return Err(error),
        };
        let (client_id, user_name, password) = greeting.as_ref().map_or_else(Default::default, |greeting| {
            (greeting.client_id.to_string(), greeting.user_name.to_string(), greeting.has_password)
        });
        let record = RequestRecord {
            path: user_name,
            authorization: password,
            registration_id: Some(client_id.clone()),
            ..RequestRecord::new(self.listener, "CONNECT")
        };
        let guest = greeting.map_or_else(|| Err(connect::other_protocol()), |greeting| self.let_in(&greeting));

        let script = self.service.take_script(Operation::Connect, &client_id);
        if let Some(script) = &script {
            self.service.clock().sleep(script.delay).await;
        }
        let action = script.map_or(Action::Nothing, |script| script.action);
        let by_script = fault::breaks(&action, &link.fault);
        let outcome = match &guest {
            _ if by_script => "answered by a script".to_owned(),
            Ok(_) => "connected".to_owned(),
            Err(Refusal(code, why)) => format!("CONNACK {}: {why}", *code as u8),
        };
        self.service.journal().record_request(RequestRecord { outcome, ..record });
        let code = guest.as_ref().err().map_or(ConnectReturnCode::Accepted, |Refusal(code, _)| *code);
        // Every session is new, even if the client asks for its old one.
        link.send(Connack::new(false, code)).await?;
        Ok(guest.ok())
    }

    fn let_in(&self, greeting: &Greeting) -> Result<Dps<'_>, Refusal> {
        match Wanted::read(&greeting.user_name)? {
            Wanted::Dps(user) => Dps::let_in(&self.service, self.listener, &user, greeting),
            Wanted::Hub(_) => Err(Refusal(ConnectReturnCode::NotAuthorized, "there is no hub".to_owned())),
        }
    }
}

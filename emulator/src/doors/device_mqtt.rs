//! The device API over MQTT 3.1.1: sessions, topics and acknowledgements.

use std::{borrow::Cow, net::IpAddr, sync::Arc};

use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use hyper::body::Bytes;
use mqtt_proto::{
    Pid, QoS, QosPid, TopicFilter, TopicName,
    v3::{Connack, Connect, ConnectReturnCode, Packet, Publish, Subscribe, SubscribeReturnCode},
};
use percent_encoding::percent_decode_str;
use tokio::time::{Duration, Instant};

use super::fault;
use crate::{
    clock::wall_time,
    net::{
        mqtt::{Link, LinkError},
        protocol::{Broken, NoRequest, Peer, Protocol, Stream},
        speech::Speech,
    },
    service::{
        Answer, MAX_BODY, Service, ServiceError, api_version,
        request::{Carrier, Credentials, DeviceRequest},
        script::{Action, Operation},
    },
    watch::records::RequestRecord,
};

/// How many requests of a session are answered at the same time. More requests wait unread.
const MAX_IN_FLIGHT: usize = 8;

/// The only filter: "it only supports the documented topic names and topic filters".
const FILTER: &str = "$dps/registrations/res/#";

const REGISTER: &str = "$dps/registrations/PUT/iotdps-register/?";
const STATUS: &str = "$dps/registrations/GET/iotdps-get-operationstatus/?";

/// One listener's view of the service.
pub(crate) struct DeviceMqtt {
    pub(crate) service: Arc<Service>,
    /// `mqtt`, `mqtts`, `ws` or `wss`.
    pub(crate) listener: &'static str,
}

impl Protocol for DeviceMqtt {
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
            Ok(Some(device)) => Ok(self.session(&mut link, &device).await?),
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

/// Who the client says that it is. Each of its requests is authenticated.
struct Device {
    id_scope: String,
    registration_id: String,
    password: Option<String>,
    peer: Peer,
    api_version: String,
    connected_at: u64,
    /// How long the device may be silent.
    patience: Option<Duration>,
}

impl Device {
    /// The end of the time in which the next packet must come.
    fn deadline(&self) -> Option<Instant> {
        self.patience.map(|patience| Instant::now() + patience)
    }

    fn request<'a>(&'a self, body: &'a [u8]) -> DeviceRequest<'a> {
        DeviceRequest {
            id_scope: &self.id_scope,
            registration_id: &self.registration_id,
            credentials: Credentials {
                authorization: self.password.as_deref(),
                certificates: &self.peer.certificates,
                // Credentials are checked as of CONNECT. A token that expires later does not end the session.
                shown_at: self.connected_at,
                carrier: Carrier::Mqtt,
            },
            api_version: &self.api_version,
            body,
        }
    }
}

/// Why a CONNECT is refused.
struct Refusal(ConnectReturnCode, String);

/// A request whose answer is under way.
struct Exchange {
    record: RequestRecord,
    answer: Answer,
    action: Action,
    request_id: String,
}

type InFlight<'a> = FuturesUnordered<BoxFuture<'a, Exchange>>;

impl DeviceMqtt {
    fn record(&self, device: &Device, method: &str) -> RequestRecord {
        RequestRecord {
            authorization: device.password.is_some(),
            registration_id: Some(device.registration_id.clone()),
            ..RequestRecord::new(self.listener, method)
        }
    }

    /// Answers the CONNECT. Returns `None` if it is refused.
    async fn connect<S: Stream>(&self, link: &mut Link<S>, peer: Peer) -> Result<Option<Device>, LinkError> {
        let refused = |code, why: &str| (None, Err(Refusal(code, why.to_owned())));
        let packet = link.receive_until(Some(Instant::now() + link.patience)).await;
        let (connect, device) = match packet {
            Ok(Packet::Connect(connect)) if connect.protocol == mqtt_proto::Protocol::V311 => {
                let device = device(&connect, peer, self.service.settings().behaviour.strict_api_version);
                (Some(connect), device)
            }
            // "if the Protocol Level is not supported: return code 0x01, and then disconnect"
            Ok(Packet::Connect(_)) | Err(LinkError::OtherProtocol) => {
                refused(ConnectReturnCode::UnacceptableProtocolVersion, "the protocol is not MQTT 3.1.1")
            }
            Ok(_) => return Err(LinkError::Protocol("the first packet is no CONNECT".to_owned())),
            Err(error) => return Err(error),
        };
        let device = device.and_then(|device| self.let_in(device));
        let (client_id, user_name, password) = connect.as_ref().map_or_else(Default::default, |connect| {
            (&*connect.client_id, connect.username.as_deref().unwrap_or_default(), connect.password.is_some())
        });

        let script = self.service.take_script(Operation::Connect, client_id);
        if let Some(script) = &script {
            self.service.clock().sleep(script.delay).await;
        }
        let action = script.map_or(Action::Nothing, |script| script.action);
        let by_script = fault::breaks(&action, &link.fault);
        let outcome = match &device {
            _ if by_script => "answered by a script".to_owned(),
            Ok(_) => "connected".to_owned(),
            Err(Refusal(code, why)) => format!("CONNACK {}: {why}", *code as u8),
        };
        self.service.journal().record_request(RequestRecord {
            path: user_name.to_owned(),
            authorization: password,
            registration_id: Some(client_id.to_owned()),
            outcome,
            ..RequestRecord::new(self.listener, "CONNECT")
        });
        let code = device.as_ref().err().map_or(ConnectReturnCode::Accepted, |Refusal(code, _)| *code);
        // Every session is new, even if the client asks for its old one.
        link.send(Connack::new(false, code)).await?;
        Ok(device.ok())
    }

    /// Lets a client connect. Bad credentials are refused by the first request, or here with `refuse_at_connect`.
    fn let_in(&self, device: Device) -> Result<Device, Refusal> {
        if self.service.settings().behaviour.refuse_at_connect {
            self.service
                .authenticate(&device.request(&[]))
                .map_err(|error| Refusal(ConnectReturnCode::NotAuthorized, error.outcome()))?;
        }
        Ok(device)
    }

    /// Serves a connected device until either side ends the session.
    async fn session<S: Stream>(&self, link: &mut Link<S>, device: &Device) -> Result<(), LinkError> {
        let mut in_flight = InFlight::new();
        let ended = self.serve(link, device, &mut in_flight).await;
        self.record_end(&ended, self.record(device, "-"));
        link.close().await;
        // Requests that came are carried out, although the device no longer waits.
        while let Some(mut exchange) = in_flight.next().await {
            exchange.answer.record(&mut exchange.record, false);
            exchange.record.outcome.push_str(", but the device had gone");
            self.service.journal().record_request(exchange.record);
        }
        ended
    }

    async fn serve<'a, S: Stream>(
        &'a self,
        link: &mut Link<S>,
        device: &'a Device,
        in_flight: &mut InFlight<'a>,
    ) -> Result<(), LinkError> {
        let mut session = Session { granted: None, next_pid: Pid::default() };
        let mut deadline = device.deadline();
        loop {
            let packet = tokio::select! {
                Some(exchange) = in_flight.next() => {
                    self.deliver(link, &mut session, exchange).await?;
                    continue;
                }
                packet = link.receive_until(deadline), if in_flight.len() < MAX_IN_FLIGHT => packet?,
            };
            deadline = device.deadline();
            match packet {
                Packet::Publish(publish) => {
                    let route = acknowledge(link, &publish).await?;
                    in_flight.push(self.exchange(device, route, publish).boxed());
                }
                Packet::Subscribe(subscribe) => {
                    let codes = session.subscribe(&subscribe);
                    self.record_subscribe(device, &subscribe, &codes);
                    link.send_suback(subscribe.pid, codes).await?;
                }
                Packet::Unsubscribe(unsubscribe) => {
                    if unsubscribe.topics.iter().any(|filter| &**filter == FILTER) {
                        session.granted = None;
                    }
                    link.send(Packet::Unsuback(unsubscribe.pid)).await?;
                }
                Packet::Pingreq => link.send(Packet::Pingresp).await?,
                // TCP loses nothing, so nothing is delivered again.
                Packet::Puback(_) => {}
                Packet::Disconnect => return Ok(()),
                other => return Err(LinkError::Protocol(format!("an unexpected {:?}", other.get_type()))),
            }
        }
    }

    /// Carries out one request. The answer is not sent yet.
    async fn exchange(&self, device: &Device, route: Route, publish: Publish) -> Exchange {
        let mut record = self.record(device, route.method());
        record.path = publish.topic_name.to_string();
        let body = &publish.payload;
        if body.len() <= MAX_BODY {
            record.body = String::from_utf8_lossy(body).into_owned();
        }
        let script = self.service.take_script(route.operation, &device.registration_id);
        let (answer, action) = self.service.perform(script, self.ask(device, &route, body)).await;
        Exchange { record, answer, action, request_id: route.request_id }
    }

    async fn ask(&self, device: &Device, route: &Route, body: &[u8]) -> Result<Answer, ServiceError> {
        if body.len() > MAX_BODY {
            return Err(ServiceError::too_large(MAX_BODY));
        }
        match &route.operation_id {
            None => self.service.register(&device.request(body)).await,
            // The body of a poll is ignored: some clients send a space.
            Some(operation_id) => self.service.operation_status(&device.request(&[]), operation_id),
        }
    }

    /// Publishes an answer to a device that has subscribed to it.
    async fn deliver<S: Stream>(
        &self,
        link: &mut Link<S>,
        session: &mut Session,
        exchange: Exchange,
    ) -> Result<(), LinkError> {
        let Exchange { mut record, answer, action, request_id } = exchange;
        let breaks = fault::breaks(&action, &link.fault);
        let Some(qos_pid) = session.qos_pid() else {
            answer.record(&mut record, false);
            record.outcome.push_str(", but the device has not subscribed");
            self.service.journal().record_request(record);
            // Otherwise the script's fault would break the next answer.
            return if breaks { Err(LinkError::Protocol("a script broke it".to_owned())) } else { Ok(()) };
        };
        answer.record(&mut record, !breaks);
        self.service.journal().record_request(record);
        let permuted = matches!(action, Action::PermuteTopic);
        let topic = TopicName::try_from(&*response_topic(&answer, &request_id, permuted))?;
        link.send(Publish::new(qos_pid, topic, Bytes::from(answer.body))).await
    }

    /// Records why the service ended the session. A client that leaves is not recorded.
    fn record_end(&self, ended: &Result<(), LinkError>, record: RequestRecord) {
        let why = match ended {
            Ok(()) | Err(LinkError::Io(_)) => return,
            Err(LinkError::OtherProtocol) => "it speaks another protocol",
            Err(LinkError::Protocol(why)) => why,
        };
        let outcome = format!("the link was dropped: {why}");
        self.service.journal().record_request(RequestRecord { outcome, ..record });
    }

    fn record_subscribe(&self, device: &Device, subscribe: &Subscribe, codes: &[SubscribeReturnCode]) {
        let filters: Vec<&str> = subscribe.topics.iter().map(|(filter, _)| &**filter).collect();
        let outcome = if codes.contains(&SubscribeReturnCode::Failure) {
            format!("refused: the one filter is {FILTER}")
        } else {
            "subscribed".to_owned()
        };
        self.service.journal().record_request(RequestRecord {
            path: filters.join(" "),
            outcome,
            ..self.record(device, "SUBSCRIBE")
        });
    }
}

/// The broker's state of a session.
struct Session {
    /// The QoS of the answers; `None` without a subscription.
    granted: Option<QoS>,
    next_pid: Pid,
}

impl Session {
    /// "When a device app subscribes to a topic with QoS 2, DPS grants maximum QoS level 1."
    fn subscribe(&mut self, subscribe: &Subscribe) -> Vec<SubscribeReturnCode> {
        let grant = |(filter, qos): &(TopicFilter, QoS)| match qos {
            _ if &**filter != FILTER => SubscribeReturnCode::Failure,
            QoS::Level0 => {
                self.granted = Some(QoS::Level0);
                SubscribeReturnCode::MaxLevel0
            }
            QoS::Level1 | QoS::Level2 => {
                self.granted = Some(QoS::Level1);
                SubscribeReturnCode::MaxLevel1
            }
        };
        subscribe.topics.iter().map(grant).collect()
    }

    fn qos_pid(&mut self) -> Option<QosPid> {
        if self.granted? == QoS::Level0 {
            return Some(QosPid::Level0);
        }
        let pid = self.next_pid;
        self.next_pid += 1;
        Some(QosPid::Level1(pid))
    }
}

/// Reads `{idScope}/registrations/{registrationId}/api-version=…`, with more behind a `&`.
fn device(connect: &Connect, peer: Peer, strict_api_version: bool) -> Result<Device, Refusal> {
    let malformed = |why: &str| Refusal(ConnectReturnCode::BadUserNameOrPassword, why.to_owned());
    let user_name = connect.username.as_deref().ok_or_else(|| malformed("there is no user name"))?;
    let form = || malformed("the user name is not {idScope}/registrations/{registrationId}/api-version=…");
    let [id_scope, "registrations", registration_id, query] = user_name.splitn(4, '/').collect::<Vec<_>>()[..] else {
        return Err(form());
    };
    let version = query.split('&').find_map(|part| part.strip_prefix("api-version=")).ok_or_else(form)?;
    if strict_api_version && !api_version::API_VERSIONS.contains(&version) {
        return Err(malformed("the api-version is unknown"));
    }
    if !connect.client_id.eq_ignore_ascii_case(registration_id) {
        let why = "the client ID is not the user name's registration ID";
        return Err(Refusal(ConnectReturnCode::IdentifierRejected, why.to_owned()));
    }
    let keep_alive = Duration::from_secs(connect.keep_alive.into());
    Ok(Device {
        id_scope: id_scope.to_owned(),
        registration_id: registration_id.to_owned(),
        password: connect
            .password
            .as_ref()
            .filter(|password| !password.is_empty())
            .map(|password| String::from_utf8_lossy(password).into_owned()),
        peer,
        api_version: version.to_owned(),
        connected_at: wall_time::unix_seconds(),
        // "within one and a half times the Keep Alive time period"
        patience: (!keep_alive.is_zero()).then_some(keep_alive * 3 / 2),
    })
}

/// The request that a topic names.
struct Route {
    operation: Operation,
    request_id: String,
    /// The operation ID of a poll.
    operation_id: Option<String>,
}

impl Route {
    /// The parameters may come in any order, and the request ID may be anything.
    fn parse(topic: &str) -> Option<Self> {
        let (operation, query) = if let Some(query) = topic.strip_prefix(REGISTER) {
            (Operation::Register, query)
        } else {
            (Operation::Status, topic.strip_prefix(STATUS)?)
        };
        let parameter = |name| query.split('&').find_map(|part| part.strip_prefix(name));
        let decode = |value| percent_decode_str(value).decode_utf8().ok().map(Cow::into_owned);
        Some(Self {
            operation,
            request_id: parameter("$rid=")?.to_owned(),
            operation_id: match operation {
                Operation::Register => None,
                _ => Some(parameter("operationId=").and_then(decode)?),
            },
        })
    }

    fn method(&self) -> &'static str {
        if self.operation_id.is_none() { "PUT" } else { "GET" }
    }
}

/// `$dps/registrations/res/{status}/?$rid={rid}&retry-after={seconds}`.
fn response_topic(answer: &Answer, request_id: &str, permuted: bool) -> String {
    let mut query = vec![format!("$rid={request_id}")];
    query.extend(answer.retry_after.map(|seconds| format!("retry-after={seconds}")));
    if permuted {
        query.reverse();
    }
    format!("$dps/registrations/res/{}/?{}", answer.status, query.join("&"))
}

/// Acknowledges a request.
async fn acknowledge<S: Stream>(link: &mut Link<S>, publish: &Publish) -> Result<Route, LinkError> {
    let route = Route::parse(&publish.topic_name)
        .ok_or_else(|| LinkError::Protocol(format!("a message to {:?}", &*publish.topic_name)))?;
    match publish.qos_pid {
        QosPid::Level0 => {}
        QosPid::Level1(pid) => link.send(Packet::Puback(pid)).await?,
        // No source says what DPS does. A hub "closes the network connection".
        QosPid::Level2(_) => return Err(LinkError::Protocol("a message with QoS 2".to_owned())),
    }
    Ok(route)
}

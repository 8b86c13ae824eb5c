//! An MQTT session with either service: packets, subscriptions, acknowledgements and answers.

use std::collections::BTreeMap;

use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use hyper::body::Bytes;
use mqtt_proto::{
    Pid, QoS, QosPid, TopicName,
    v3::{Packet, Publish, Subscribe, SubscribeReturnCode},
};
use tokio::time::{Duration, Instant};

use crate::{
    doors::fault,
    net::{
        mqtt::{Link, LinkError},
        protocol::Stream,
    },
    service::{Answer, script::Action},
    watch::{journal::Journal, records::RequestRecord},
};

/// How many messages of a session are processed at the same time. Further messages are not read yet.
const MAX_IN_FLIGHT: usize = 8;

/// How a service handles a session with a device.
pub(super) trait Side: Sync {
    /// The request in a message.
    type Route: Send;

    /// A filter that devices may subscribe to.
    type Filter: Copy + Ord + Send + Sync;

    /// The highest QoS of messages to the device.
    const MAX_QOS: QoS;

    fn journal(&self) -> &Journal;

    /// Starts the record of an action of the device.
    fn record(&self, method: &str) -> RequestRecord;

    /// Returns how long the device may be silent.
    fn silence(&self) -> Option<Duration>;

    /// Reads a filter.
    fn filter(&self, filter: &str) -> Result<Self::Filter, UnknownFilter>;

    /// Called with the subscriptions after each change. An error ends the session.
    fn subscribed(&self, _: &Granted<Self::Filter>) -> Result<(), String> {
        Ok(())
    }

    /// Reads the request in a message. An error ends the session.
    fn route(&self, publish: &Publish) -> Result<Self::Route, String>;

    /// Returns `true` if a message is acknowledged when it arrives, `false` if the acknowledgement is its answer.
    fn acknowledges_first(route: &Self::Route) -> bool;

    /// Processes a message and returns its answer, which is not sent yet.
    fn carry_out(&self, route: Self::Route, publish: Publish) -> impl Future<Output = Exchange<Self::Filter>> + Send;

    /// Waits until the service wants something from the device.
    fn order(&self) -> impl Future<Output = Order<Self::Filter>> + Send {
        std::future::pending()
    }
}

/// What happens if a filter is not documented.
pub(super) enum UnknownFilter {
    /// SUBACK has the return code 0x80.
    Refused(String),
    /// The session ends.
    Dropped(String),
}

/// An order of a service to a session.
pub(super) enum Order<F> {
    /// Sends this to the device if the device has subscribed to the filter.
    Send { filter: F, topic: String, body: String, outcome: String },
    /// Ends the session.
    Close(String),
}

/// A message that was processed.
pub(super) struct Exchange<F> {
    pub(super) record: RequestRecord,
    pub(super) action: Action,
    pub(super) reply: Reply<F>,
}

pub(super) enum Reply<F> {
    /// A message to a device that has subscribed to the filter.
    Message { filter: F, topic: String, answer: Answer },
    /// The acknowledgement of telemetry. `None` at QoS 0.
    Acknowledgement(Option<Pid>),
}

type InFlight<'a, F> = FuturesUnordered<BoxFuture<'a, Exchange<F>>>;

/// The subscriptions of a device with the QoS that was granted.
pub(super) type Granted<F> = BTreeMap<F, QoS>;

struct Subscriptions<F> {
    granted: Granted<F>,
    next_pid: Pid,
}

impl<F: Ord> Subscriptions<F> {
    /// "When a device app subscribes to a topic with QoS 2, DPS grants maximum QoS level 1." Hubs do the same.
    fn grant(&mut self, filter: F, qos: QoS) -> SubscribeReturnCode {
        let (granted, code) = match qos {
            QoS::Level0 => (QoS::Level0, SubscribeReturnCode::MaxLevel0),
            QoS::Level1 | QoS::Level2 => (QoS::Level1, SubscribeReturnCode::MaxLevel1),
        };
        self.granted.insert(filter, granted);
        code
    }

    /// Returns how a message is sent. Returns `None` if the device has not subscribed to it.
    fn qos_pid(&mut self, filter: &F, max: QoS) -> Option<QosPid> {
        if *self.granted.get(filter)?.min(&max) == QoS::Level0 {
            return Some(QosPid::Level0);
        }
        let pid = self.next_pid;
        self.next_pid += 1;
        Some(QosPid::Level1(pid))
    }
}

/// Serves a connected device until either side ends the session. Returns an error unless the device sent DISCONNECT.
pub(super) async fn serve<S: Stream, D: Side>(
    link: &mut Link<S>,
    side: &D,
    granted: Granted<D::Filter>,
) -> Result<(), LinkError> {
    let mut in_flight = InFlight::new();
    let subscriptions = Subscriptions { granted, next_pid: Pid::default() };
    let ended = packets(link, side, subscriptions, &mut in_flight).await;
    record_end(side, &ended);
    link.close().await;
    // Finish the requests that arrived, although the device no longer waits.
    while let Some(Exchange { mut record, reply, .. }) = in_flight.next().await {
        let is_telemetry = matches!(reply, Reply::Acknowledgement(_));
        if let Reply::Message { answer, .. } = reply {
            answer.record(&mut record, false);
        }
        record.outcome.push_str(", but the device had disconnected");
        record_reply(side, record, is_telemetry);
    }
    ended
}

async fn packets<'a, S: Stream, D: Side>(
    link: &mut Link<S>,
    side: &'a D,
    mut subscriptions: Subscriptions<D::Filter>,
    in_flight: &mut InFlight<'a, D::Filter>,
) -> Result<(), LinkError> {
    let deadline = || side.silence().map(|silence| Instant::now() + silence);
    let mut next = deadline();
    loop {
        let packet = tokio::select! {
            // Finish earlier messages before the next packet is read.
            biased;
            Some(exchange) = in_flight.next() => {
                deliver(link, side, &mut subscriptions, exchange).await?;
                continue;
            }
            order = side.order() => {
                obey(link, side, &mut subscriptions, order).await?;
                continue;
            }
            packet = link.receive_until(next), if in_flight.len() < MAX_IN_FLIGHT => packet?,
        };
        next = deadline();
        match packet {
            Packet::Publish(publish) => {
                let route = side.route(&publish).map_err(LinkError::Protocol)?;
                match publish.qos_pid {
                    QosPid::Level1(pid) if D::acknowledges_first(&route) => link.send(Packet::Puback(pid)).await?,
                    QosPid::Level0 | QosPid::Level1(_) => {}
                    // A hub "closes the network connection". No source says what DPS does.
                    QosPid::Level2(_) => return Err(LinkError::Protocol("a message with QoS 2".to_owned())),
                }
                in_flight.push(side.carry_out(route, publish).boxed());
            }
            Packet::Subscribe(subscribe) => {
                let codes = grant(side, &mut subscriptions, &subscribe)?;
                link.send_suback(subscribe.pid, codes).await?;
            }
            Packet::Unsubscribe(unsubscribe) => {
                for filter in &unsubscribe.topics {
                    if let Ok(filter) = side.filter(filter) {
                        subscriptions.granted.remove(&filter);
                    }
                }
                side.subscribed(&subscriptions.granted).map_err(LinkError::Protocol)?;
                link.send(Packet::Unsuback(unsubscribe.pid)).await?;
            }
            Packet::Pingreq => link.send(Packet::Pingresp).await?,
            // TCP loses nothing, so no message is sent again.
            Packet::Puback(_) => {}
            Packet::Disconnect => return Ok(()),
            other => return Err(LinkError::Protocol(format!("an unexpected {:?}", other.get_type()))),
        }
    }
}

/// Processes a SUBSCRIBE, and records it.
fn grant<D: Side>(
    side: &D,
    subscriptions: &mut Subscriptions<D::Filter>,
    subscribe: &Subscribe,
) -> Result<Vec<SubscribeReturnCode>, LinkError> {
    let (mut codes, mut outcome) = (Vec::new(), "subscribed".to_owned());
    for (filter, qos) in &subscribe.topics {
        codes.push(match side.filter(filter) {
            Ok(filter) => subscriptions.grant(filter, *qos),
            Err(UnknownFilter::Refused(why)) => {
                outcome = format!("rejected: {why}");
                SubscribeReturnCode::Failure
            }
            Err(UnknownFilter::Dropped(why)) => return Err(LinkError::Protocol(why)),
        });
    }
    side.subscribed(&subscriptions.granted).map_err(LinkError::Protocol)?;
    let filters: Vec<&str> = subscribe.topics.iter().map(|(filter, _)| &**filter).collect();
    side.journal().record_request(RequestRecord { path: filters.join(" "), outcome, ..side.record("SUBSCRIBE") });
    Ok(codes)
}

/// Sends the reply to a message, and records it.
async fn deliver<S: Stream, D: Side>(
    link: &mut Link<S>,
    side: &D,
    subscriptions: &mut Subscriptions<D::Filter>,
    exchange: Exchange<D::Filter>,
) -> Result<(), LinkError> {
    let Exchange { mut record, action, reply } = exchange;
    let breaks = fault::breaks(&action, &link.fault);
    let is_telemetry = matches!(reply, Reply::Acknowledgement(_));
    let packet = match reply {
        Reply::Message { filter, topic, answer } => {
            let qos_pid = subscriptions.qos_pid(&filter, D::MAX_QOS);
            answer.record(&mut record, qos_pid.is_some() && !breaks);
            match qos_pid {
                Some(qos_pid) => Some(message(qos_pid, &topic, Bytes::from(answer.body))?),
                None => {
                    record.outcome.push_str(", but the device has not subscribed");
                    None
                }
            }
        }
        Reply::Acknowledgement(pid) => pid.map(Packet::Puback),
    };
    record_reply(side, record, is_telemetry);
    match packet {
        Some(packet) => link.send(packet).await,
        // Without this error, the fault of the script would break the next answer.
        None if breaks => Err(LinkError::Protocol("a script broke it".to_owned())),
        None => Ok(()),
    }
}

/// Records a reply. Telemetry has its own limit, so that a fleet does not push other records out.
fn record_reply(side: &impl Side, record: RequestRecord, is_telemetry: bool) {
    if is_telemetry {
        side.journal().record_telemetry(record);
    } else {
        side.journal().record_request(record);
    }
}

async fn obey<S: Stream, D: Side>(
    link: &mut Link<S>,
    side: &D,
    subscriptions: &mut Subscriptions<D::Filter>,
    order: Order<D::Filter>,
) -> Result<(), LinkError> {
    match order {
        Order::Close(why) => Err(LinkError::Protocol(why)),
        Order::Send { filter, topic, body, outcome } => {
            let Some(qos_pid) = subscriptions.qos_pid(&filter, D::MAX_QOS) else { return Ok(()) };
            let packet = message(qos_pid, &topic, Bytes::from(body.clone()))?;
            let record = RequestRecord { path: topic, response_body: body, outcome, ..side.record("NOTIFY") };
            side.journal().record_request(record);
            link.send(packet).await
        }
    }
}

fn message(qos_pid: QosPid, topic: &str, body: Bytes) -> Result<Packet, LinkError> {
    Ok(Publish::new(qos_pid, TopicName::try_from(topic)?, body).into())
}

/// Records why the service ended the session. A client that leaves is not recorded.
fn record_end(side: &impl Side, ended: &Result<(), LinkError>) {
    let why = match ended {
        Ok(()) | Err(LinkError::Io(_)) => return,
        Err(LinkError::OtherProtocol) => "the client uses another protocol",
        Err(LinkError::Protocol(why)) => why,
    };
    let outcome = format!("the connection was dropped: {why}");
    side.journal().record_request(RequestRecord { outcome, ..side.record("-") });
}

//! `--connect`: tests whether the hub accepts this device.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use azure_dps::{
    DeviceKey,
    after::{Hub, HubOutcome},
};
use rumqttc::{TlsConfiguration, Transport};
use rustls::ClientConfig;
use serde::Serialize;
use serde_json::value::RawValue;
use zeroize::Zeroizing;

use crate::{
    hub_session::{Failed, Session},
    values::printable,
};

/// The result of the connection to the hub.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HubConnection {
    connected: bool,
    /// The address that the gateway connected to.
    endpoint: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    twin: Option<Twin>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<Refusal>,
}

/// Both parts of the twin, as received.
#[derive(Serialize)]
#[serde(transparent)]
struct Twin(Box<RawValue>);

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Refusal {
    kind: Kind,
    exit_code: u8,
    summary: &'static str,
    seen: String,
    advice: &'static str,
}

/// Why the connection failed. Each variant is an exit code; the help lists the codes.
#[derive(Clone, Copy, Serialize)]
#[serde(rename_all = "camelCase")]
enum Kind {
    HubRefuses = 11,
    HubUnreachable = 12,
}

/// Connects to the hub and downloads the twin. Uses this key, or the certificate in `tls`. Connects to `address`, which
/// may differ from the hub's own.
pub fn check(
    hub: &Hub<'_>,
    key: Option<&mut DeviceKey>,
    address: (&str, u16),
    tls: Arc<ClientConfig>,
) -> HubConnection {
    let checked = download(hub, key, address, tls);
    let endpoint = endpoint(address);
    match checked {
        Ok(twin) => HubConnection { connected: true, endpoint, twin: Some(Twin(twin)), error: None },
        Err(failed) => HubConnection { connected: false, endpoint, twin: None, error: Some(Refusal::of(failed)) },
    }
}

/// Returns the address as text.
pub fn endpoint((host, port): (&str, u16)) -> String {
    format!("mqtts://{host}:{port}")
}

fn download(
    hub: &Hub<'_>,
    key: Option<&mut DeviceKey>,
    address: (&str, u16),
    tls: Arc<ClientConfig>,
) -> Result<Box<RawValue>, Failed> {
    let mut buffer = Zeroizing::new([0; 1024]);
    let password = match key {
        Some(key) => {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
            hub.write_token(key, now + TOKEN_LIFE.as_secs(), buffer.as_mut_slice()).map_err(failed)?
        }
        None => "",
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let twin = runtime.block_on(async {
        let transport = Transport::Tls(TlsConfiguration::Rustls(tls));
        let mut session = Session::open(hub, password, address, transport).await?;
        let twin = session.twin(|twin| {
            let (desired, reported) = (twin.desired.object().raw(), twin.reported.object().raw());
            RawValue::from_string(format!(r#"{{"desired":{desired},"reported":{reported}}}"#))
        });
        let twin = twin.await?.map_err(failed)?;
        session.close().await;
        Ok(twin)
    });
    // A DNS query that is still running must not delay the end.
    runtime.shutdown_background();
    twin
}

/// Longer than the session.
const TOKEN_LIFE: Duration = Duration::from_secs(3600);

fn failed(error: impl ToString) -> Failed {
    Failed { outcome: HubOutcome::Unreachable, seen: error.to_string() }
}

impl HubConnection {
    pub fn twin(&self) -> Option<&str> {
        self.twin.as_ref().map(|Twin(twin)| twin.get())
    }
}

impl Refusal {
    fn of(failed: Failed) -> Self {
        let kind = match failed.outcome {
            HubOutcome::Refused(401 | 403 | 404) => Kind::HubRefuses,
            _ => Kind::HubUnreachable,
        };
        Self {
            kind,
            exit_code: kind as u8,
            summary: match kind {
                Kind::HubRefuses => "this device is assigned, but the hub rejects it",
                Kind::HubUnreachable => "this device is assigned, but the hub cannot be reached",
            },
            seen: failed.seen,
            advice: match kind {
                Kind::HubRefuses => {
                    "ask the operator whether the hub has the device, and whether it is enabled; check this machine's \
                     clock; if the device was moved, register it again (with --record: --reprovision)"
                }
                Kind::HubUnreachable => {
                    "check --ca, --hub-address, the network and its firewall (port 8883), then try again"
                }
            },
        }
    }

    pub fn exit_code(&self) -> u8 {
        self.exit_code
    }

    pub fn text(&self) -> String {
        let Self { summary, seen, advice, .. } = self;
        format!("error: {summary}\n  seen:   {}\n  to do:  {advice}", printable(seen))
    }
}

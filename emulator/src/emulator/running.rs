//! An emulator that runs: where it listens, what happened, and what is to happen next.

use std::{fmt, net::SocketAddr, sync::Arc};

use rustls::sign::CertifiedKey;
use serde_json::Value;

use crate::{
    config::Config,
    contoso::Webhook,
    hub::{Hub, activity::Telemetry, error::HubError},
    identity::server_certificate::{host_names, lacks_names},
    net::worker::Worker,
    service::{Service, script::Script},
    store::device::DeviceRecord,
    watch::records::{RequestRecord, WebhookCall},
};

/// A running emulator. It stops when it is dropped.
///
/// It needs no async runtime: the service runs on its own thread.
pub struct Emulator {
    pub(super) service: Arc<Service>,
    pub(super) hub: Arc<Hub>,
    pub(super) http_url: Option<String>,
    pub(super) https_url: Option<String>,
    pub(super) mqtt_url: Option<String>,
    pub(super) mqtts_url: Option<String>,
    pub(super) control_url: Option<String>,
    pub(super) ca_pem: String,
    pub(super) issuing_ca_pem: String,
    pub(super) renewed_ca: Option<&'static str>,
    pub(super) own_certificate: Option<Arc<CertifiedKey>>,
    pub(super) gateway_names: Vec<String>,
    // The control API is dropped first, then the service, then the webhook that it calls.
    pub(super) _control: Option<Worker>,
    pub(super) _worker: Worker,
    pub(super) contoso: Option<Webhook>,
}

impl Emulator {
    /// Where devices find the service over plain HTTP: `http://127.0.0.1:PORT`.
    #[must_use]
    pub fn http_url(&self) -> Option<&str> {
        self.http_url.as_deref()
    }

    /// Where devices find the service over HTTPS: `https://localhost:PORT`.
    #[must_use]
    pub fn https_url(&self) -> Option<&str> {
        self.https_url.as_deref()
    }

    /// Where devices find the service over plain MQTT: `mqtt://127.0.0.1:PORT`.
    #[must_use]
    pub fn mqtt_url(&self) -> Option<&str> {
        self.mqtt_url.as_deref()
    }

    /// Where devices find the service over MQTT and TLS: `mqtts://localhost:PORT`.
    #[must_use]
    pub fn mqtts_url(&self) -> Option<&str> {
        self.mqtts_url.as_deref()
    }

    /// Where devices find the service over MQTT and WebSocket: the HTTPS listener, with the path that most clients use.
    /// Any other path works, and the HTTP listener accepts `ws:`.
    #[must_use]
    pub fn wss_url(&self) -> Option<String> {
        let address = self.https_url.as_deref()?.strip_prefix("https")?;
        Some(format!("wss{address}/$iothub/websocket"))
    }

    /// Returns what clients of the service API connect with:
    /// `HostName=localhost:PORT;SharedAccessKeyName=provisioningserviceowner;SharedAccessKey=…`. The port 443 is left out.
    /// The HTTPS listener goes before the HTTP listener. A key that was given is not in the text. `None` if there is neither listener, or if
    /// the service API is off, as [`warnings`](Self::warnings) then says.
    #[must_use]
    pub fn service_connection_string(&self) -> Option<String> {
        let url = self.https_url.as_deref().or(self.http_url.as_deref())?;
        let (_, named) = url.split_once("://")?;
        let host = named.parse().map_or_else(|_| named.to_owned(), authority);
        // The client for Node takes all of `HostName` for a host.
        let host = self.https_url.as_ref().and_then(|_| host.strip_suffix(":443")).unwrap_or(&host);
        self.service.connection_string(host)
    }

    /// Returns what is allowed but hardly intended, and depends on how the emulator was started. What depends on the
    /// configuration alone is in [`Config::warnings`].
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let has_service_api = self.http_url.is_some() || self.https_url.is_some();
        let service_api = self.service.service_api_is_off().filter(|_| has_service_api);
        let lacking = self.own_certificate.as_ref().and_then(|own| {
            lacks_names(own, &host_names(self.service.settings().linked_hubs.iter().chain(&self.gateway_names)))
        });
        service_api.into_iter().chain(self.renewed_ca).map(str::to_owned).chain(lacking).collect()
    }

    /// Where the control API and its page are: `http://127.0.0.1:PORT`.
    #[must_use]
    pub fn control_url(&self) -> Option<&str> {
        self.control_url.as_deref()
    }

    /// Returns the certificate of the CA that signed the certificate of the TLS listeners. The CA is made at each
    /// start, or once with [`Builder::data`](crate::Builder::data). It is of no use with a [`Builder::certificate`](crate::Builder::certificate).
    #[must_use]
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// Returns the certificates of the CA that issues certificates to devices: the intermediate that signs them, then
    /// its root. The CA is made at each start, or once with [`Builder::data`](crate::Builder::data). [`Certificate::from_pem`](crate::Certificate::from_pem) reads the first
    /// one: an enrollment group with the intermediate accepts the devices that have an issued certificate.
    #[must_use]
    pub fn issuing_ca_pem(&self) -> &str {
        &self.issuing_ca_pem
    }

    /// Returns the built-in Contoso webhook, unless the configuration names another webhook.
    #[must_use]
    pub fn contoso(&self) -> Option<&Webhook> {
        self.contoso.as_ref()
    }

    /// Returns the names and URLs of all listeners.
    #[doc(hidden)]
    #[must_use]
    pub fn listeners(&self) -> Vec<(&'static str, String)> {
        let listeners = [
            ("http", &self.http_url),
            ("https", &self.https_url),
            ("mqtt", &self.mqtt_url),
            ("mqtts", &self.mqtts_url),
            ("wss", &self.wss_url()),
            ("control", &self.control_url),
        ];
        listeners.into_iter().filter_map(|(name, url)| Some((name, url.clone()?))).collect()
    }

    /// Returns the requests of devices and their answers, in order. At most 10 000 are kept, and 64 MiB of text: the
    /// oldest are dropped.
    #[must_use]
    pub fn requests(&self) -> Vec<RequestRecord> {
        self.service.journal().requests()
    }

    /// Returns the calls of webhooks, in order, within the same bounds.
    #[must_use]
    pub fn webhook_calls(&self) -> Vec<WebhookCall> {
        self.service.journal().webhook_calls()
    }

    /// Returns a device that has a hub, with its twin there.
    #[must_use]
    pub fn device(&self, registration_id: &str) -> Option<DeviceRecord> {
        self.service.device(registration_id)
    }

    /// Returns what a device has sent to its hub.
    #[must_use]
    pub fn telemetry(&self, registration_id: &str) -> Telemetry {
        self.hub.telemetry(registration_id)
    }

    /// Returns `true` if the device is connected to its hub.
    #[must_use]
    pub fn is_connected(&self, registration_id: &str) -> bool {
        self.hub.activity().seen(registration_id).is_connected
    }

    /// Changes a device's twin at its hub: merges `tags` and `desired` of this object into the twin (JSON merge patch:
    /// `null` deletes a member). A connected device is sent the desired properties.
    ///
    /// ```
    /// use azure_dps_emulator::{Config, Emulator};
    /// use serde_json::json;
    ///
    /// let emulator = Emulator::builder(Config::contoso()).start()?;
    /// let changed = emulator.patch_twin("breakroom499-contoso-tstrsd-007", json!({ "desired": { "state": "off" } }));
    /// // It has not registered yet.
    /// assert!(changed.is_err());
    /// # Ok::<(), azure_dps_emulator::StartError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// If the device is at no hub, if the patch has other members, or if the twin would break a limit of the hub.
    pub fn patch_twin(&self, registration_id: &str, patch: Value) -> Result<(), HubError> {
        self.hub.patch_twin_with(registration_id, patch)
    }

    /// Disables a device at its hub, or enables it again. A disabled device cannot connect, and a live connection is
    /// dropped. Its enrollment stays as it is, so that it can register.
    ///
    /// # Errors
    ///
    /// If the device is at no hub.
    pub fn set_hub_enabled(&self, registration_id: &str, enabled: bool) -> Result<(), HubError> {
        self.hub.set_enabled(registration_id, enabled)
    }

    /// Removes a device from its hub, with its twin. A live connection is dropped. DPS still knows the registration;
    /// the next one creates the device at a hub again, with the initial twin.
    ///
    /// # Errors
    ///
    /// If the device is at no hub.
    pub fn remove_from_hub(&self, registration_id: &str) -> Result<(), HubError> {
        self.hub.remove_device(registration_id)
    }

    /// Drops the link of a device to its hub. The device can connect again at once. Returns `false` if the device was
    /// not connected.
    pub fn disconnect(&self, registration_id: &str) -> bool {
        self.hub.disconnect(registration_id, "the operator disconnected the device")
    }

    /// Adds a script to the queue: a fault that the next matching request meets.
    pub fn script(&self, script: Script) {
        self.service.push_script(script);
    }

    /// Changes the configuration while the service runs: enrollments, hubs, behaviour. Listeners and
    /// TLS stay as they are.
    ///
    /// A registration that is running goes on as it began. If its enrollment is disabled or deleted, or if the device
    /// gets an individual enrollment, the registration ends at once with `disabled`, or `failed` with 404201, and
    /// assigns nothing.
    ///
    /// # Panics
    ///
    /// If the changed configuration cannot be used, for the reasons of [`Builder::start`](crate::Builder::start), or cannot be written into the
    /// folder of [`Builder::data`](crate::Builder::data). Nothing is changed then.
    #[track_caller]
    pub fn update(&self, change: impl FnOnce(&mut Config)) {
        if let Err(error) = self.service.update(change) {
            panic!("{error}");
        }
    }

    /// Stops the service: connections are closed, running operations forgotten. With
    /// [`Builder::data`](crate::Builder::data) they go on at the next start.
    pub fn stop(self) {}
}

impl fmt::Debug for Emulator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Emulator")
            .field("http_url", &self.http_url)
            .field("https_url", &self.https_url)
            .field("mqtt_url", &self.mqtt_url)
            .field("mqtts_url", &self.mqtts_url)
            .field("control_url", &self.control_url)
            .field("contoso", &self.contoso)
            .finish_non_exhaustive()
    }
}

/// Names a loopback address `localhost`, because the certificate is for it and most clients expect a name.
pub(super) fn authority(address: SocketAddr) -> String {
    if address.ip().is_loopback() || address.ip().is_unspecified() {
        format!("localhost:{}", address.port())
    } else {
        address.to_string()
    }
}

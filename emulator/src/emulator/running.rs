//! A running emulator: where it listens, what happened, and how tests change it.

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
/// The emulator runs on its own threads, so callers need no async runtime.
///
/// ```
/// use std::{
///     io::{Read, Write},
///     net::TcpStream,
/// };
///
/// use azure_dps_emulator::{Config, Emulator};
///
/// let emulator = Emulator::builder(Config::contoso()).start()?;
///
/// // A register without a SAS token:
/// let address = emulator.http_url().unwrap().strip_prefix("http://").unwrap();
/// let mut device = TcpStream::connect(address)?;
/// let path = "/0ne00002193/registrations/my-device/register?api-version=2021-06-01";
/// write!(device, "PUT {path} HTTP/1.1\r\nHost: dps\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")?;
/// let mut answer = String::new();
/// device.read_to_string(&mut answer)?;
/// assert!(answer.starts_with("HTTP/1.1 401 "));
///
/// // The record says why the service rejected it.
/// let request = &emulator.requests()[0];
/// assert_eq!(request.registration_id.as_deref(), Some("my-device"));
/// assert_eq!(request.http_status, Some(401));
/// println!("{}", request.outcome);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
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
    // Rust drops fields in this order: the control API, the service, then the webhook that the service calls.
    pub(super) _control: Option<Worker>,
    pub(super) _worker: Worker,
    pub(super) contoso: Option<Webhook>,
}

impl Emulator {
    /// Returns the URL of the service over plain HTTP: `http://127.0.0.1:PORT`.
    #[must_use]
    pub fn http_url(&self) -> Option<&str> {
        self.http_url.as_deref()
    }

    /// Returns the URL of the service over HTTPS: `https://localhost:PORT`.
    #[must_use]
    pub fn https_url(&self) -> Option<&str> {
        self.https_url.as_deref()
    }

    /// Returns the URL of the service over plain MQTT: `mqtt://127.0.0.1:PORT`.
    #[must_use]
    pub fn mqtt_url(&self) -> Option<&str> {
        self.mqtt_url.as_deref()
    }

    /// Returns the URL of the service over MQTT and TLS: `mqtts://localhost:PORT`.
    #[must_use]
    pub fn mqtts_url(&self) -> Option<&str> {
        self.mqtts_url.as_deref()
    }

    /// Returns the URL of the service over MQTT and WebSocket: the HTTPS listener with the path that most clients
    /// use. Any other path works. The HTTP listener accepts `ws:`.
    #[must_use]
    pub fn wss_url(&self) -> Option<String> {
        let address = self.https_url.as_deref()?.strip_prefix("https")?;
        Some(format!("wss{address}/$iothub/websocket"))
    }

    /// Returns the connection string for clients of the service API:
    /// `HostName=localhost:PORT;SharedAccessKeyName=provisioningserviceowner;SharedAccessKey=…`.
    ///
    /// The host is that of the HTTPS listener, or of the HTTP listener if there is no HTTPS listener. Port 443 is
    /// left out. A key that was set with [`Builder::service_key`](crate::Builder::service_key) is not in the text.
    ///
    /// Returns `None` if there is neither listener, or if the service API is off. In this case
    /// [`warnings`](Self::warnings) says why.
    #[must_use]
    pub fn service_connection_string(&self) -> Option<String> {
        let url = self.https_url.as_deref().or(self.http_url.as_deref())?;
        let (_, named) = url.split_once("://")?;
        let host = named.parse().map_or_else(|_| named.to_owned(), authority);
        // Microsoft's client for Node treats all of `HostName` as the host, the port included.
        let host = self.https_url.as_ref().and_then(|_| host.strip_suffix(":443")).unwrap_or(&host);
        self.service.connection_string(host)
    }

    /// Returns warnings about valid settings that are probably a mistake, as far as they depend on how the emulator
    /// was started. [`Config::warnings`] returns those that depend on the configuration alone.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let has_service_api = self.http_url.is_some() || self.https_url.is_some();
        let service_api = self.service.service_api_is_off().filter(|_| has_service_api);
        let lacking = self.own_certificate.as_ref().and_then(|own| {
            lacks_names(own, &host_names(self.service.settings().linked_hubs.iter().chain(&self.gateway_names)))
        });
        service_api.into_iter().chain(self.renewed_ca).map(str::to_owned).chain(lacking).collect()
    }

    /// Returns the URL of the control API and its page: `http://127.0.0.1:PORT`.
    #[must_use]
    pub fn control_url(&self) -> Option<&str> {
        self.control_url.as_deref()
    }

    /// Returns the certificate of the CA that signed the certificate of the TLS listeners. The CA is created at each
    /// start, or once with [`Builder::data`](crate::Builder::data). If you set a
    /// [`Builder::certificate`](crate::Builder::certificate), this CA did not sign it.
    #[must_use]
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// Returns the CA that issues certificates to devices: the certificate of the intermediate that signs them, then
    /// the certificate of its root. The CA is created at each start, or once with
    /// [`Builder::data`](crate::Builder::data).
    ///
    /// [`Certificate::from_pem`](crate::Certificate::from_pem) reads the intermediate. An enrollment group with the
    /// intermediate accepts devices that have an issued certificate.
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

    /// Returns the requests of devices and their answers, oldest first. The emulator keeps at most 10 000 requests
    /// and 64 MiB of text, and drops the oldest.
    #[must_use]
    pub fn requests(&self) -> Vec<RequestRecord> {
        self.service.journal().requests()
    }

    /// Returns the calls of webhooks, oldest first. The limits of [`requests`](Self::requests) apply.
    #[must_use]
    pub fn webhook_calls(&self) -> Vec<WebhookCall> {
        self.service.journal().webhook_calls()
    }

    /// Returns a device that is assigned to a hub, with its twin. Returns `None` if the device has no assignment.
    #[must_use]
    pub fn device(&self, registration_id: &str) -> Option<DeviceRecord> {
        self.service.device(registration_id)
    }

    /// Returns the telemetry that a device sent to its hub.
    #[must_use]
    pub fn telemetry(&self, registration_id: &str) -> Telemetry {
        self.hub.telemetry(registration_id)
    }

    /// Returns `true` if the device is connected to its hub.
    #[must_use]
    pub fn is_connected(&self, registration_id: &str) -> bool {
        self.hub.activity().seen(registration_id).is_connected
    }

    /// Changes the twin of a device: merges `tags` and `desired` of this object into the twin, as a JSON merge patch
    /// (`null` deletes a member). If the device is connected to its hub, the hub sends it the desired properties.
    ///
    /// ```
    /// use azure_dps_emulator::{Config, Emulator};
    /// use serde_json::json;
    ///
    /// let emulator = Emulator::builder(Config::contoso()).start()?;
    /// let changed = emulator.patch_twin("breakroom499-contoso-tstrsd-007", json!({ "desired": { "state": "off" } }));
    /// // This device has not registered yet:
    /// assert!(changed.is_err());
    /// # Ok::<(), azure_dps_emulator::StartError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Returns an error if the device is at no hub, if the patch has other members, or if the twin would exceed a
    /// limit of the hub.
    pub fn patch_twin(&self, registration_id: &str, patch: Value) -> Result<(), HubError> {
        self.hub.patch_twin_with(registration_id, patch)
    }

    /// Disables a device at its hub, or enables it again. A disabled device cannot connect, and its connection is
    /// closed. The enrollment does not change, so the device can still register.
    ///
    /// # Errors
    ///
    /// Returns an error if the device is at no hub.
    pub fn set_hub_enabled(&self, registration_id: &str, enabled: bool) -> Result<(), HubError> {
        self.hub.set_enabled(registration_id, enabled)
    }

    /// Removes a device and its twin from its hub. Its connection is closed. DPS keeps the registration. When the
    /// device registers again, DPS creates it at a hub with the initial twin.
    ///
    /// # Errors
    ///
    /// Returns an error if the device is at no hub.
    pub fn remove_from_hub(&self, registration_id: &str) -> Result<(), HubError> {
        self.hub.remove_device(registration_id)
    }

    /// Closes the connection of a device to its hub. The device can connect again at once. Returns `false` if the
    /// device was not connected.
    pub fn disconnect(&self, registration_id: &str) -> bool {
        self.hub.disconnect(registration_id, "the operator disconnected the device")
    }

    /// Adds a script to the queue. The next matching request uses it.
    pub fn script(&self, script: Script) {
        self.service.push_script(script);
    }

    /// Changes the configuration of the running emulator: enrollments, hubs, behavior. Listeners and TLS do not
    /// change.
    ///
    /// A running registration continues with the old configuration, with one exception: if its enrollment is disabled
    /// or deleted, or if the device gets an individual enrollment, the registration ends at once and assigns nothing.
    /// Its status is then `disabled`, or `failed` with 404201.
    ///
    /// # Panics
    ///
    /// Panics if the new configuration is not valid, for the reasons of [`Builder::start`](crate::Builder::start), or
    /// if it cannot be written to the folder of [`Builder::data`](crate::Builder::data). The old configuration stays.
    #[track_caller]
    pub fn update(&self, change: impl FnOnce(&mut Config)) {
        if let Err(error) = self.service.update(change) {
            panic!("{error}");
        }
    }

    /// Stops the emulator: closes its connections and ends its threads. Running registrations are lost, except with
    /// [`Builder::data`](crate::Builder::data): they continue at the next start.
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

/// Writes a loopback address as `localhost`, because most clients expect a name and the certificate has this name.
pub(super) fn authority(address: SocketAddr) -> String {
    if address.ip().is_loopback() || address.ip().is_unspecified() {
        format!("localhost:{}", address.port())
    } else {
        address.to_string()
    }
}

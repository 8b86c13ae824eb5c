//! The set-up of an emulator.

use std::{fmt, path::PathBuf};

use super::running::Emulator;
use crate::{
    config::Config,
    identity::key::SymmetricKey,
    watch::{journal::Observer, records::Event},
};

/// The set-up of an [`Emulator`].
pub struct Builder {
    pub(super) config: Config,
    pub(super) http: Option<String>,
    pub(super) https: Option<String>,
    pub(super) mqtt: Option<String>,
    pub(super) mqtts: Option<String>,
    pub(super) control: Option<String>,
    pub(super) control_token: Option<String>,
    pub(super) control_hosts: Vec<String>,
    pub(super) certificate: Option<(Vec<u8>, Vec<u8>)>,
    pub(super) gateway_names: Vec<String>,
    pub(super) webhook_url: Option<String>,
    pub(super) service_key: Option<SymmetricKey>,
    pub(super) webhook_hosts: Vec<String>,
    pub(super) data: Option<PathBuf>,
    pub(super) time_scale: f64,
    pub(super) observer: Option<Observer>,
    pub(super) contoso_log: Box<dyn Fn(&str) + Send + Sync>,
}

impl Emulator {
    /// Sets up an emulator.
    #[must_use]
    pub fn builder(config: Config) -> Builder {
        Builder {
            config,
            http: None,
            https: None,
            mqtt: None,
            mqtts: None,
            control: None,
            control_token: None,
            control_hosts: Vec::new(),
            certificate: None,
            gateway_names: Vec::new(),
            webhook_url: None,
            service_key: None,
            webhook_hosts: Vec::new(),
            data: None,
            time_scale: 1.0,
            observer: None,
            contoso_log: Box::new(|_| {}),
        }
    }
}

impl Builder {
    /// Listens for plain HTTP, and for MQTT over WebSocket; port 0 takes a free one. Without any listener, the emulator
    /// listens for HTTP on a free port of 127.0.0.1.
    #[must_use]
    pub fn http(mut self, address: impl Into<String>) -> Self {
        self.http = Some(address.into());
        self
    }

    /// Listens for HTTPS, and for MQTT over WebSocket; port 0 takes a free one.
    #[must_use]
    pub fn https(mut self, address: impl Into<String>) -> Self {
        self.https = Some(address.into());
        self
    }

    /// Listens for plain MQTT 3.1.1, which the real service does not; port 0 takes a free one.
    #[must_use]
    pub fn mqtt(mut self, address: impl Into<String>) -> Self {
        self.mqtt = Some(address.into());
        self
    }

    /// Listens for MQTT 3.1.1 over TLS; port 0 takes a free one.
    #[must_use]
    pub fn mqtts(mut self, address: impl Into<String>) -> Self {
        self.mqtts = Some(address.into());
        self
    }

    /// Listens for the control API and serves its page; port 0 takes a free one. Without this there is no control API.
    ///
    /// The control API has no key, token or function key in its answers, but it changes enrollments and devices. So it
    /// listens on a loopback address only, unless there is a [`control_token`](Self::control_token).
    #[must_use]
    pub fn control(mut self, address: impl Into<String>) -> Self {
        self.control = Some(address.into());
        self
    }

    /// Lets only those use the control API who show this token: at least 16 characters.
    #[must_use]
    pub fn control_token(mut self, token: impl Into<String>) -> Self {
        self.control_token = Some(token.into());
        self
    }

    /// Accepts this name in the `Host` of requests to the control API, with any port or as `name:port`. Names of
    /// loopback with the port of the listener are always accepted.
    #[must_use]
    pub fn control_host(mut self, host: impl Into<String>) -> Self {
        self.control_hosts.push(host.into());
        self
    }

    /// Presents this certificate to TLS clients, in PEM and followed by its chain, instead of one by the CA made at
    /// start: for example with RSA as the real service has it, or an expired one.
    #[must_use]
    pub fn certificate(mut self, chain_pem: impl Into<Vec<u8>>, key_pem: impl Into<Vec<u8>>) -> Self {
        self.certificate = Some((chain_pem.into(), key_pem.into()));
        self
    }

    /// Adds this name or IP address to the certificate of the TLS listeners. Devices dial it if `GatewayHostName` is in
    /// their connection string, or if they reach the emulator from another machine. Linked hubs, `localhost`,
    /// `hub.localhost`, `127.0.0.1` and `::1` are in the certificate without this.
    #[must_use]
    pub fn gateway_name(mut self, name: impl Into<String>) -> Self {
        self.gateway_names.push(name.into());
        self
    }

    /// Calls this webhook instead of the built-in Contoso webhook. The URL includes the function key (`?code=…`).
    #[must_use]
    pub fn webhook(mut self, url: impl Into<String>) -> Self {
        self.webhook_url = Some(url.into());
        self
    }

    /// Sets the key of the policy `provisioningserviceowner` of the service API. The well-known key does not count then.
    ///
    /// Without a key, the well-known one counts while every listener is on a loopback address, and the service API is
    /// off if not.
    #[must_use]
    pub fn service_key(mut self, key: SymmetricKey) -> Self {
        self.service_key = Some(key);
        self
    }

    /// Lets the service API set webhooks on this host: a name or an IP address, without scheme and port. Without this,
    /// it may set webhooks on loopback addresses and `localhost` only.
    #[must_use]
    pub fn allow_webhook(mut self, host: impl Into<String>) -> Self {
        self.webhook_hosts.push(host.into());
        self
    }

    /// Keeps enrollments, devices, twins, operations and CAs in this folder, so that they are there again at the next
    /// start. The folder is made if it is not there. No other emulator can use it meanwhile.
    ///
    /// Nothing is answered before it is written. The guarantee holds if the process is killed, not if the machine loses
    /// its power. Keys are in the folder: on Unix only its owner can read it.
    ///
    /// The enrollments of the configuration are created once, if their IDs were never known in the folder. After that
    /// the folder's count. All other settings are the configuration's at every start.
    #[must_use]
    pub fn data(mut self, folder: impl Into<PathBuf>) -> Self {
        self.data = Some(folder.into());
        self
    }

    /// Divides the service's own delays by this factor: the pauses between webhook calls, scripted delays and quota
    /// windows. The time-out of webhook calls is divided too, but it is at least 10 s, or as configured if that is
    /// less. `Retry-After`, token expiry and MQTT's keep-alive stay in plain seconds, because devices count on them.
    #[must_use]
    pub fn time_scale(mut self, scale: f64) -> Self {
        self.time_scale = scale;
        self
    }

    /// Calls `observer` for every event as soon as it has happened. It runs on the service's thread, so it must not
    /// wait.
    #[must_use]
    pub fn observer(mut self, observer: impl Fn(&Event) + Send + Sync + 'static) -> Self {
        self.observer = Some(Box::new(observer));
        self
    }

    /// Calls `observer` for every line that the built-in Contoso webhook logs.
    #[must_use]
    pub fn contoso_log(mut self, observer: impl Fn(&str) + Send + Sync + 'static) -> Self {
        self.contoso_log = Box::new(observer);
        self
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("config", &self.config)
            .field("http", &self.http)
            .field("https", &self.https)
            .field("mqtt", &self.mqtt)
            .field("mqtts", &self.mqtts)
            .field("data", &self.data)
            .field("time_scale", &self.time_scale)
            .finish_non_exhaustive()
    }
}

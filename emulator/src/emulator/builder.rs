//! The settings of an emulator before it starts.

use std::{fmt, path::PathBuf};

use super::running::Emulator;
use crate::{
    config::Config,
    identity::key::SymmetricKey,
    watch::{journal::Observer, records::Event},
};

/// Collects the settings of an [`Emulator`]; [`Emulator::builder`] creates it.
///
/// ```
/// use azure_dps_emulator::{Config, Emulator};
///
/// let emulator = Emulator::builder(Config::contoso())
///     .https("127.0.0.1:0")
///     .mqtts("127.0.0.1:0")
///     .time_scale(1000.0)
///     .start()?;
/// assert!(emulator.https_url().unwrap().starts_with("https://localhost:"));
/// assert!(emulator.mqtts_url().unwrap().starts_with("mqtts://localhost:"));
/// assert_eq!(emulator.http_url(), None);
/// # Ok::<(), azure_dps_emulator::StartError>(())
/// ```
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
    /// Creates a builder with this configuration.
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
    /// Listens for plain HTTP, and for MQTT over WebSocket. Port 0 takes a free port.
    ///
    /// Without any listener, the emulator listens for HTTP on a free port of 127.0.0.1.
    #[must_use]
    pub fn http(mut self, address: impl Into<String>) -> Self {
        self.http = Some(address.into());
        self
    }

    /// Listens for HTTPS, and for MQTT over WebSocket. Port 0 takes a free port.
    #[must_use]
    pub fn https(mut self, address: impl Into<String>) -> Self {
        self.https = Some(address.into());
        self
    }

    /// Listens for plain MQTT 3.1.1. The real service has no such listener. Port 0 takes a free port.
    #[must_use]
    pub fn mqtt(mut self, address: impl Into<String>) -> Self {
        self.mqtt = Some(address.into());
        self
    }

    /// Listens for MQTT 3.1.1 over TLS. Port 0 takes a free port.
    #[must_use]
    pub fn mqtts(mut self, address: impl Into<String>) -> Self {
        self.mqtts = Some(address.into());
        self
    }

    /// Listens for the control API and serves its page. Port 0 takes a free port. The default is no control API.
    ///
    /// The answers of the control API contain no key and no token, but its calls change enrollments and devices. So
    /// the address must be a loopback address, unless you set a [`control_token`](Self::control_token).
    #[must_use]
    pub fn control(mut self, address: impl Into<String>) -> Self {
        self.control = Some(address.into());
        self
    }

    /// Sets the token that every call of the control API must send: at least 16 characters.
    #[must_use]
    pub fn control_token(mut self, token: impl Into<String>) -> Self {
        self.control_token = Some(token.into());
        self
    }

    /// Accepts this name in the `Host` header of requests to the control API. `name` is accepted with any port,
    /// `name:port` with this port. The names of loopback with the port of the listener are always accepted.
    #[must_use]
    pub fn control_host(mut self, host: impl Into<String>) -> Self {
        self.control_hosts.push(host.into());
        self
    }

    /// Sets the certificate of the TLS listeners: the certificate in PEM, followed by its chain. Use it for a
    /// certificate with an RSA key, as the real service has, or for an expired one. By default, the emulator's CA
    /// signs a certificate at start.
    #[must_use]
    pub fn certificate(mut self, chain_pem: impl Into<Vec<u8>>, key_pem: impl Into<Vec<u8>>) -> Self {
        self.certificate = Some((chain_pem.into(), key_pem.into()));
        self
    }

    /// Adds this name or IP address to the certificate of the TLS listeners. You need it if `GatewayHostName` is in
    /// the connection strings of devices, or if devices reach the emulator from another machine. The certificate
    /// always names the linked hubs, `localhost`, `hub.localhost`, `127.0.0.1` and `::1`.
    #[must_use]
    pub fn gateway_name(mut self, name: impl Into<String>) -> Self {
        self.gateway_names.push(name.into());
        self
    }

    /// Sets the webhook that is called instead of the built-in Contoso webhook. The URL includes the function key
    /// (`?code=…`).
    #[must_use]
    pub fn webhook(mut self, url: impl Into<String>) -> Self {
        self.webhook_url = Some(url.into());
        self
    }

    /// Sets the key of the policy `provisioningserviceowner` of the service API, instead of the well-known key.
    ///
    /// Without a key, the well-known key is valid if every listener is on a loopback address. Otherwise the service
    /// API is off.
    #[must_use]
    pub fn service_key(mut self, key: SymmetricKey) -> Self {
        self.service_key = Some(key);
        self
    }

    /// Allows the service API to set webhooks on this host: a name or an IP address, without scheme and port.
    /// Loopback addresses and `localhost` are always allowed.
    #[must_use]
    pub fn allow_webhook(mut self, host: impl Into<String>) -> Self {
        self.webhook_hosts.push(host.into());
        self
    }

    /// Sets the folder that keeps enrollments, devices, twins, operations and CAs over restarts. The folder is
    /// created if it does not exist. Only one emulator can use it at a time.
    ///
    /// Every change is written before it is answered. So nothing is lost if the process is killed. If the machine
    /// loses power, the last changes may be lost. The folder contains keys: on Unix only its owner can read it.
    ///
    /// An enrollment of the configuration is created if the folder never had an enrollment with this ID. After that,
    /// the enrollment in the folder is used. All other settings come from the configuration at every start.
    #[must_use]
    pub fn data(mut self, folder: impl Into<PathBuf>) -> Self {
        self.data = Some(folder.into());
        self
    }

    /// Sets the factor that divides the service's own delays: pauses between webhook calls, quota windows, delays of
    /// scripts, [`other_key_blocked_for`](crate::Behaviour::other_key_blocked_for) and
    /// [`hub_session_after_expiry`](crate::Behaviour::hub_session_after_expiry). The webhook time-out is divided too,
    /// but not below 10 s. `Retry-After`, the expiry of tokens and the keep-alive of MQTT do not change, because
    /// devices use the real time.
    #[must_use]
    pub fn time_scale(mut self, scale: f64) -> Self {
        self.time_scale = scale;
        self
    }

    /// Sets a function that is called with every [`Event`] when it happens. The function runs on the thread of the
    /// service, so it must not block.
    #[must_use]
    pub fn observer(mut self, observer: impl Fn(&Event) + Send + Sync + 'static) -> Self {
        self.observer = Some(Box::new(observer));
        self
    }

    /// Sets a function that is called with every line that the built-in Contoso webhook logs.
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

//! Starting the service, looking into it, and stopping it.

use std::{fmt, io, net::SocketAddr, path::PathBuf, sync::Arc};

use tokio::task;

use crate::{
    clock::Clock,
    config::{Config, ConfigError, ContosoOptions},
    contoso::Webhook,
    doors::{
        control::{Control, guard::Guard},
        device_mqtt::DeviceMqtt,
        http::HttpApi,
    },
    identity::{ca::ServerCertificate, error::CredentialError, ids, key::SymmetricKey},
    net::{
        http::Http,
        listener::{bind, serve},
        tls,
        worker::Worker,
    },
    service::{Service, authorities::Authorities, script::Script, trust::Trust, webhook::allowed::AllowedHosts},
    store::{
        devices::DeviceRecord,
        disk::{DataError, Disk},
    },
    watch::{
        journal::{Journal, Observer},
        records::{Event, RequestRecord, WebhookCall},
    },
};

/// A running emulator. It stops when it is dropped.
///
/// It needs no async runtime: the service runs on its own thread.
pub struct Emulator {
    service: Arc<Service>,
    http_url: Option<String>,
    https_url: Option<String>,
    mqtt_url: Option<String>,
    mqtts_url: Option<String>,
    control_url: Option<String>,
    ca_pem: String,
    issuing_ca_pem: String,
    renewed_ca: Option<&'static str>,
    // The control API is dropped first, then the service, then the webhook that it calls.
    _control: Option<Worker>,
    _worker: Worker,
    contoso: Option<Webhook>,
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
            webhook_url: None,
            service_key: None,
            webhook_hosts: Vec::new(),
            data: None,
            time_scale: 1.0,
            observer: None,
            contoso_log: Box::new(|_| {}),
        }
    }

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
        let (_, authority) = url.split_once("://")?;
        let host = match authority.parse::<SocketAddr>() {
            Ok(address) => self::authority(address),
            Err(_) => authority.to_owned(),
        };
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
        service_api.into_iter().chain(self.renewed_ca).map(str::to_owned).collect()
    }

    /// Where the control API and its page are: `http://127.0.0.1:PORT`.
    #[must_use]
    pub fn control_url(&self) -> Option<&str> {
        self.control_url.as_deref()
    }

    /// Returns the certificate of the CA that signed the certificate of the TLS listeners. The CA is made at each
    /// start, or once with [`Builder::data`]. It is of no use with a [`Builder::certificate`].
    #[must_use]
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// Returns the certificates of the CA that issues certificates to devices: the intermediate that signs them, then
    /// its root. The CA is made at each start, or once with [`Builder::data`]. [`Certificate::from_pem`](crate::Certificate::from_pem) reads the first
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
    /// If the changed configuration cannot be used, for the reasons of [`Builder::start`], or cannot be written into the
    /// folder of [`Builder::data`]. Nothing is changed then.
    #[track_caller]
    pub fn update(&self, change: impl FnOnce(&mut Config)) {
        if let Err(error) = self.service.update(change) {
            panic!("{error}");
        }
    }

    /// Stops the service: connections are closed, running operations forgotten. With [`Builder::data`] they go on at the
    /// next start.
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

/// The set-up of an [`Emulator`].
pub struct Builder {
    config: Config,
    http: Option<String>,
    https: Option<String>,
    mqtt: Option<String>,
    mqtts: Option<String>,
    control: Option<String>,
    control_token: Option<String>,
    control_hosts: Vec<String>,
    certificate: Option<(Vec<u8>, Vec<u8>)>,
    webhook_url: Option<String>,
    service_key: Option<SymmetricKey>,
    webhook_hosts: Vec<String>,
    data: Option<PathBuf>,
    time_scale: f64,
    observer: Option<Observer>,
    contoso_log: Box<dyn Fn(&str) + Send + Sync>,
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

    /// Starts the service. It listens when this returns.
    ///
    /// # Errors
    ///
    /// If the configuration cannot be used, an address cannot be listened on, or the data folder cannot be used.
    pub fn start(self) -> Result<Emulator, StartError> {
        // The webhook client needs a process-wide provider. An error means that there is one already.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let mut config = self.config;
        if let Some(url) = self.webhook_url {
            config.webhook_url = Some(url);
        }
        config.check()?;
        if !(self.time_scale.is_finite() && self.time_scale > 0.0) {
            return Err(StartError::TimeScale);
        }
        let webhook_hosts = AllowedHosts::new(&self.webhook_hosts).map_err(StartError::WebhookHost)?;
        let mut http = self.http;
        if http.is_none() && self.https.is_none() && self.mqtt.is_none() && self.mqtts.is_none() {
            http = Some("127.0.0.1:0".to_owned());
        }
        let [http, https, mqtt, mqtts, control] = [http, self.https, self.mqtt, self.mqtts, self.control].map(listen);
        let (http, https, mqtt, mqtts, control) = (http?, https?, mqtt?, mqtts?, control?);
        let guard = match &control {
            Some((_, address)) => {
                let guard = Guard::new(*address, &self.control_hosts, self.control_token.as_deref());
                Some(guard.map_err(StartError::Control)?)
            }
            None => None,
        };
        let is_local = [&http, &https, &mqtt, &mqtts]
            .into_iter()
            .flatten()
            .all(|(_, address)| address.ip().to_canonical().is_loopback());
        let trust = Trust { owner_key: self.service_key, is_local, webhook_hosts };
        let disk = self.data.as_deref().map(Disk::open).transpose()?;
        let authorities = match &disk {
            Some(disk) => Authorities::of(disk)?,
            None => Authorities::generate().map_err(|error| StartError::tls(&error))?,
        };
        let mut server = ServerCertificate::generate(&authorities.server).map_err(|error| StartError::tls(&error))?;
        if let Some((chain, key)) = &self.certificate {
            server.present(chain, key).map_err(|error| StartError::tls(&error))?;
        }
        let issuing_ca_pem = authorities.issuing.pem();
        let acceptor =
            tls::acceptor(server.chain, server.key, config.behaviour.tls13).map_err(|error| StartError::tls(&error))?;

        let contoso = if config.webhook_url.is_none() {
            let options = ContosoOptions {
                // The tutorial's function has one too: its URL ends in `?****`.
                function_key: Some(config.contoso.function_key.clone().unwrap_or_else(ids::guid)),
                ..config.contoso.clone()
            };
            let webhook = Webhook::start_with_log("127.0.0.1:0", options, self.contoso_log)?;
            Some(webhook)
        } else {
            None
        };
        let clock = Clock::new(self.time_scale);
        let service = Arc::new(Service::new(
            config,
            clock,
            contoso.as_ref().map(Webhook::url_with_key),
            authorities.issuing,
            trust,
            Journal::new(clock, self.observer, control.is_some()),
            disk,
        )?);

        let plain_url =
            |listener: &Option<Listener>, scheme| listener.as_ref().map(|(_, address)| format!("{scheme}://{address}"));
        let secure_url = |listener: &Option<Listener>, scheme| {
            listener.as_ref().map(|(_, address)| format!("{scheme}://{}", authority(*address)))
        };
        let (http_url, https_url) = (plain_url(&http, "http"), secure_url(&https, "https"));
        let (mqtt_url, mqtts_url) = (plain_url(&mqtt, "mqtt"), secure_url(&mqtts, "mqtts"));
        let serving = Arc::clone(&service);
        let worker = Worker::start("dps-emulator", move || {
            serving.resume();
            let http_api = |scheme| Http(Arc::new(HttpApi::new(Arc::clone(&serving), scheme)));
            let mqtt_api = |listener| DeviceMqtt { service: Arc::clone(&serving), listener };
            let tls = Some(acceptor);
            let listeners = [
                http.map(|(listener, _)| task::spawn(serve(listener, None, http_api("http")))),
                https.map(|(listener, _)| task::spawn(serve(listener, tls.clone(), http_api("https")))),
                mqtt.map(|(listener, _)| task::spawn(serve(listener, None, mqtt_api("mqtt")))),
                mqtts.map(|(listener, _)| task::spawn(serve(listener, tls, mqtt_api("mqtts")))),
            ];
            listeners.into_iter().flatten().collect()
        })?;
        let control_url = plain_url(&control, "http");
        let mut emulator = Emulator {
            service,
            http_url,
            https_url,
            mqtt_url,
            mqtts_url,
            control_url,
            ca_pem: authorities.server.pem().to_owned(),
            issuing_ca_pem,
            renewed_ca: authorities.renewed,
            _control: None,
            _worker: worker,
            contoso,
        };
        if let (Some((listener, _)), Some(guard)) = (control, guard) {
            let control = Control::new(Arc::clone(&emulator.service), emulator.listeners(), guard);
            // A thread of its own: readers of the control API take no time from devices.
            let start = move || vec![task::spawn(serve(listener, None, Http(Arc::new(control))))];
            emulator._control = Some(Worker::start("dps-emulator-control", start)?);
        }
        Ok(emulator)
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

/// Names a loopback address `localhost`, because the certificate is for it and most clients expect a name.
fn authority(address: SocketAddr) -> String {
    if address.ip().is_loopback() || address.ip().is_unspecified() {
        format!("localhost:{}", address.port())
    } else {
        address.to_string()
    }
}

type Listener = (std::net::TcpListener, SocketAddr);

fn listen(address: Option<String>) -> Result<Option<Listener>, StartError> {
    let bind = |address: String| bind(&address).map_err(|error| StartError::Listen(address, error));
    address.map(bind).transpose()
}

/// Why an emulator did not start.
#[derive(Debug)]
#[non_exhaustive]
pub enum StartError {
    /// The configuration cannot be used.
    Config(ConfigError),
    /// The address cannot be listened on.
    Listen(String, io::Error),
    /// The control API would be open to others, or its token cannot be used.
    Control(String),
    /// The time scale is not a number above zero.
    TimeScale,
    /// A host of [`Builder::allow_webhook`] is not a host.
    WebhookHost(String),
    /// The certificates could not be made, or the caller's cannot be used.
    Tls(String),
    /// The data folder cannot be used: another process uses it, a newer version wrote it, other users can read it, ….
    Data(String),
    /// The system refused something else, such as a thread.
    Io(io::Error),
}

impl StartError {
    fn tls(error: &dyn fmt::Display) -> Self {
        Self::Tls(error.to_string())
    }
}

impl From<ConfigError> for StartError {
    fn from(error: ConfigError) -> Self {
        Self::Config(error)
    }
}

impl From<CredentialError> for StartError {
    fn from(error: CredentialError) -> Self {
        Self::Config(error.into())
    }
}

impl From<DataError> for StartError {
    fn from(DataError(why): DataError) -> Self {
        Self::Data(why)
    }
}

impl From<io::Error> for StartError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(error) => write!(f, "the configuration cannot be used: {error}"),
            Self::Listen(address, error) => write!(f, "cannot listen on {address}: {error}"),
            Self::TimeScale => f.write_str("the time scale is not a number above zero"),
            Self::WebhookHost(fault) => write!(f, "a webhook cannot be allowed: {fault}"),
            Self::Control(why) => write!(f, "cannot start the control API: {why}"),
            Self::Tls(error) => write!(f, "cannot use the certificates: {error}"),
            Self::Data(error) => f.write_str(error),
            Self::Io(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for StartError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Config(error) => Some(error),
            Self::Listen(_, error) | Self::Io(error) => Some(error),
            Self::Control(_) | Self::TimeScale | Self::WebhookHost(_) | Self::Tls(_) | Self::Data(_) => None,
        }
    }
}

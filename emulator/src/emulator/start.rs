//! Starts an emulator: its store, its listeners and their threads.

use std::{net::SocketAddr, sync::Arc};

use rustls::{server::ResolvesServerCert, sign::SingleCertAndKey};
use tokio::task;

use super::{
    builder::Builder,
    error::StartError,
    running::{Emulator, authority},
};
use crate::{
    clock::Clock,
    config::ContosoOptions,
    contoso::Webhook,
    doors::{
        control::{Control, guard::Guard},
        http::HttpApi,
        mqtt::Mqtt,
    },
    hub::{Hub, shared::Shared},
    identity::{
        ids,
        server_certificate::{self, HubNames},
    },
    net::{
        http::Http,
        listener::{bind, serve},
        tls,
        worker::Worker,
    },
    service::{Service, authorities::Authorities, trust::Trust, views, webhook::allowed::AllowedHosts},
    store::disk::Disk,
    watch::journal::Journal,
};

impl Builder {
    /// Starts the emulator. All listeners accept connections when this returns.
    ///
    /// # Errors
    ///
    /// Returns an error if the configuration is not valid, if an address cannot be listened on, or if the data folder
    /// cannot be used.
    pub fn start(self) -> Result<Emulator, StartError> {
        // The webhook client needs a process-wide provider. `install_default` fails if there is one already, which is
        // fine.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let mut config = self.config;
        if let Some(url) = self.webhook_url {
            config.webhook_url = Some(url);
        }
        config.check()?;
        if !(self.time_scale.is_finite() && self.time_scale > 0.0) {
            return Err(StartError::TimeScale);
        }
        let gateway_names = self.gateway_names.iter().map(|name| server_certificate::gateway_name(name));
        let gateway_names: Vec<_> = gateway_names.collect::<Result<_, _>>().map_err(StartError::GatewayName)?;
        let webhook_hosts = AllowedHosts::new(&self.webhook_hosts).map_err(StartError::WebhookHost)?;
        let mut http = self.http;
        if http.is_none() && self.https.is_none() && self.mqtt.is_none() && self.mqtts.is_none() {
            http = Some("127.0.0.1:0".to_owned());
        }
        let (http, https) = (listen("http", http)?, listen("https", self.https)?);
        let (mqtt, mqtts) = (listen("mqtt", self.mqtt)?, listen("mqtts", self.mqtts)?);
        let control = listen("control", self.control)?;
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
        let own_certificate = self.certificate.map(|(chain, key)| server_certificate::own(&chain, &key).map(Arc::new));
        let own_certificate = own_certificate.transpose().map_err(StartError::Tls)?;
        let (ca_pem, issuing_ca_pem) = (authorities.server.pem().to_owned(), authorities.issuing.pem());
        let (tls13, linked_hubs) = (config.behaviour.tls13, config.linked_hubs.clone());
        let issuing_ca = authorities.issuing.certificate().map_err(|error| StartError::tls(&error))?;

        let contoso = if config.webhook_url.is_none() {
            let options = ContosoOptions {
                // The URL in the tutorial has a function key, too.
                function_key: Some(config.contoso.function_key.clone().unwrap_or_else(ids::guid)),
                ..config.contoso.clone()
            };
            let webhook = Webhook::start_with_log("127.0.0.1:0", options, self.contoso_log)?;
            Some(webhook)
        } else {
            None
        };
        let clock = Clock::new(self.time_scale);
        let journal = Arc::new(Journal::new(clock, self.observer, control.is_some()));
        let activity = Arc::default();
        let watchers = views::teller(&journal, &activity);
        let shared = Arc::new(Shared::open(config.clone(), clock, journal, disk, activity, watchers)?);
        let hub = Arc::new(Hub::new(Arc::clone(&shared), issuing_ca));
        let certificate: Arc<dyn ResolvesServerCert> = match &own_certificate {
            Some(own) => Arc::new(SingleCertAndKey::from(Arc::clone(own))),
            None => {
                let hub = Arc::clone(&hub);
                let is_hub = move |host: &str| hub.has_host(host);
                let names = HubNames::new(authorities.server, gateway_names.clone(), &linked_hubs, is_hub);
                Arc::new(names.map_err(StartError::Tls)?)
            }
        };
        let acceptor = tls::acceptor(certificate, tls13).map_err(StartError::Tls)?;
        let contoso_url = contoso.as_ref().map(Webhook::url_with_key);
        let service = Arc::new(Service::new(shared, config, contoso_url, authorities.issuing, trust));

        let plain_url =
            |listener: &Option<Listener>, scheme| listener.as_ref().map(|(_, address)| format!("{scheme}://{address}"));
        let secure_url = |listener: &Option<Listener>, scheme| {
            listener.as_ref().map(|(_, address)| format!("{scheme}://{}", authority(*address)))
        };
        let (http_url, https_url) = (plain_url(&http, "http"), secure_url(&https, "https"));
        let (mqtt_url, mqtts_url) = (plain_url(&mqtt, "mqtt"), secure_url(&mqtts, "mqtts"));
        let (serving, serving_hub) = (Arc::clone(&service), Arc::clone(&hub));
        let worker = Worker::start("dps-emulator", move || {
            serving.resume();
            let http_api =
                |scheme| Http(Arc::new(HttpApi::new(Arc::clone(&serving), Arc::clone(&serving_hub), scheme)));
            let mqtt_api = |listener| Mqtt { service: Arc::clone(&serving), hub: Arc::clone(&serving_hub), listener };
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
            hub,
            http_url,
            https_url,
            mqtt_url,
            mqtts_url,
            control_url,
            ca_pem,
            issuing_ca_pem,
            renewed_ca: authorities.renewed,
            _control: None,
            _worker: worker,
            contoso,
            own_certificate,
            gateway_names,
        };
        if let (Some((listener, _)), Some(guard)) = (control, guard) {
            let control =
                Control::new(Arc::clone(&emulator.service), Arc::clone(&emulator.hub), emulator.listeners(), guard);
            // The control API has its own thread, so that its readers do not delay devices.
            let start = move || vec![task::spawn(serve(listener, None, Http(Arc::new(control))))];
            emulator._control = Some(Worker::start("dps-emulator-control", start)?);
        }
        Ok(emulator)
    }
}

type Listener = (std::net::TcpListener, SocketAddr);

fn listen(listener: &'static str, address: Option<String>) -> Result<Option<Listener>, StartError> {
    let bind = |address: String| bind(&address).map_err(|error| StartError::Listen { listener, address, error });
    address.map(bind).transpose()
}

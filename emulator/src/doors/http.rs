//! The HTTP and HTTPS listeners: the device API, and the service API at the root.

use std::{net::IpAddr, sync::Arc, time::Duration};

use hyper::{Request, Response, body::Incoming};

use super::{device_http::DeviceHttp, service_http, service_http::ServiceHttp, websocket};
use crate::{
    hub::Hub,
    net::http::{Body, Connection, Handler, NoAnswer},
    service::Service,
};

/// Both APIs on one listener.
pub(crate) struct HttpApi {
    service: Arc<Service>,
    /// The listener: `http` or `https`.
    scheme: &'static str,
    device_api: DeviceHttp,
    service_api: ServiceHttp,
}

impl HttpApi {
    pub(crate) fn new(service: Arc<Service>, hub: Arc<Hub>, scheme: &'static str) -> Self {
        Self {
            device_api: DeviceHttp { service: Arc::clone(&service), hub, scheme },
            service_api: ServiceHttp { service: Arc::clone(&service), scheme },
            service,
            scheme,
        }
    }
}

impl Handler for HttpApi {
    fn patience(&self) -> Duration {
        self.service.patience()
    }

    fn note(&self, what: String) {
        self.service.journal().note(self.scheme, what);
    }

    fn connection_failed(&self, peer: IpAddr, why: String) {
        self.service.journal().connection_failed(self.scheme, peer, why);
    }

    async fn handle(&self, request: Request<Incoming>, connection: &Connection) -> Result<Response<Body>, NoAnswer> {
        // Devices may ask for WebSocket on any path.
        let is_for_service = !websocket::is_wanted(&request)
            && service_http::is_for(request.uri().path(), &self.service.settings().id_scope);
        if is_for_service {
            self.service_api.handle(request).await
        } else {
            self.device_api.handle(request, connection).await
        }
    }
}

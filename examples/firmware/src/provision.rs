//! The provisioning itself: this is what a product copies. The rest of this program is a
//! board, its network and its TLS.

use core::time::Duration;

use azure_dps::{Attestation, DeviceKey, IdScope, Provisioning, Registration, RegistrationId, RetryPolicy, blocking::{self, ConnectError}, provisioning::{Endpoint, OwnedAssignment, Progress}};
use mbedtls_rs::SessionError;
use mps2_an385::{self as board, println};
use zeroize::Zeroizing;

use crate::{net::Network, tls};

/// What the operator's allocation webhook is told about this device.
const PAYLOAD: &str = r#"{"MyDeviceFirmwareVersion":"12.0.2.5","MyDeviceProvisioningVersion":"1.0.0.0"}"#;

/// What ended a run: an error of ours or the service's, of TLS, or of an open session.
pub type Failure = embedded_io::Error<tls::Error, SessionError>;

/// Who asks, and whom.
pub struct Request<'a> {
    pub id_scope: &'a str,
    pub registration_id: &'a str,
    /// `host` or `host:port`. The host must be in the service's certificate.
    pub endpoint: &'a str,
    /// Where the service is, if DNS is not to be asked for the host.
    pub address: Option<&'a str>,
    /// No run takes longer.
    pub give_up_after: Duration,
}

/// Asks the service where this device belongs. Keep the answer: it is not for each boot.
pub fn provision(
    request: &Request<'_>,
    key: &mut DeviceKey,
    network: &Network,
    tls: &tls::Client,
) -> Result<OwnedAssignment, Failure> {
    let id_scope = IdScope::new(request.id_scope)?;
    let registration_id = RegistrationId::new(request.registration_id)?;
    let endpoint = Endpoint::parse(request.endpoint)?;
    let deadline = board::uptime() + request.give_up_after;

    let mut show = |progress| {
        if let Progress::Retrying { error, wait, .. } = progress {
            println!("trying again in {} s: {}", wait.as_secs(), error);
        }
    };
    let registration = Registration::new(id_scope, registration_id).with_payload(PAYLOAD)?;
    let mut provisioning = Provisioning::new(registration, Credential::sas(key))
        .with_endpoint(endpoint)
        .with_retry_policy(RetryPolicy::new().with_timeout(request.give_up_after))
        .with_observer(&mut show);

    // A stream outlives the request that it is opened for. Nothing is waited for past the end of
    // the run, however slowly the other side trickles.
    let connect = |_| -> Result<_, ConnectError<tls::Error>> {
        let host = request.address.unwrap_or(endpoint.host());
        let stream = network.connect(host, endpoint.port(), deadline).map_err(tls::Error::from)?;
        tls.connect(stream, endpoint.host())
    };
    // Remains of the token will be in it.
    let mut buffer = Zeroizing::new([0; 1024]);
    let (clock, delay) = (board::uptime, |duration| network.delay(duration));
    let outcome = embedded_io::provision(&mut provisioning, board::unix_time(), &mut *buffer, connect, clock, delay);
    match outcome {
        Ok(assignment) => Ok(assignment.owned()?),
        Err(failure) => {
            if let Some(message) = provisioning.details(&*buffer).and_then(|details| details.message()) {
                println!("the service says: {}", message);
            }
            Err(failure)
        }
    }
}

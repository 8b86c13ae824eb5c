//! Provisions the device. Copy this file. The rest of this program is a board, its network, its TLS and its flash.

use core::time::Duration;

use azure_dps::{
    Attestation, IdScope, Provisioning, Registration, RegistrationId, RetryPolicy,
    after::Record,
    blocking::{self, ConnectError},
    identity::Sign,
    provisioning::{Endpoint, Progress, Sizes},
};
use mbedtls_rs::SessionError;
use mps2_an385::{self as board, println};

use crate::{net::Network, store::Store, tls};

/// Sent to the operator's webhook.
const PAYLOAD: &str = r#"{"MyDeviceFirmwareVersion":"12.0.2.5","MyDeviceProvisioningVersion":"1.0.0.0"}"#;

/// Enough for IDs of these lengths, and a returned payload of at most 256 bytes.
pub const SIZES: Sizes = Sizes::new("0ne00002193", "mainbuilding167-contoso-hpsd-088")
    .with_payload(PAYLOAD.len())
    .with_returned_payload(256);

/// Why a run ended: an error of this library, the service, TLS or an open session.
pub type Failure = blocking::Error<tls::Error, SessionError>;

/// The device and the service.
pub struct Request<'a> {
    pub id_scope: &'a str,
    pub registration_id: &'a str,
    /// `host` or `host:port`. The service's certificate must be for this host.
    pub endpoint: &'a str,
    /// The service's address, to use instead of DNS.
    pub address: Option<&'a str>,
    /// The longest time for a run.
    pub give_up_after: Duration,
}

/// Returns the record of this device's assignment, in `buffer`. If there is none in flash, provisions the device and
/// stores the record.
pub fn find_hub<'b>(
    request: &Request<'_>,
    signer: &mut impl Sign,
    network: &Network,
    tls: &tls::Client,
    store: &mut Store,
    buffer: &'b mut [u8],
) -> Result<Record<'b>, Failure> {
    let registration =
        Registration::new(IdScope::new(request.id_scope)?, RegistrationId::new(request.registration_id)?)
            .with_payload(PAYLOAD)?;
    store.read(buffer);
    if let Err(reason) = Record::read(buffer, &registration) {
        println!("asking the service: {}", reason);
        provision(request, registration, signer, network, tls, store, buffer)?;
    }
    Ok(Record::read(buffer, &registration).map_err(azure_dps::Error::from)?)
}

/// Provisions the device. Leaves the record in flash and in `buffer`.
fn provision(
    request: &Request<'_>,
    registration: Registration<'_>,
    signer: &mut impl Sign,
    network: &Network,
    tls: &tls::Client,
    store: &mut Store,
    buffer: &mut [u8],
) -> Result<(), Failure> {
    let endpoint = Endpoint::parse(request.endpoint)?;
    let mut provisioning = Provisioning::new(registration, Attestation::symmetric_key())
        .with_endpoint(endpoint)
        .with_retry_policy(RetryPolicy::new().with_timeout(request.give_up_after));

    // The stream is used for several requests, so its deadline is that of the run. This also ends a `read` from a server
    // that sends too slowly.
    let deadline = board::uptime() + request.give_up_after;
    let mut connect = |_| -> Result<_, ConnectError<tls::Error>> {
        let host = request.address.unwrap_or(endpoint.host());
        let stream = network.connect(host, endpoint.port(), deadline).map_err(tls::Error::from)?;
        tls.connect(stream, endpoint.host())
    };
    let show = |progress| {
        if let Progress::Retrying { error, wait, .. } = progress {
            println!("trying again in {} s: {}", wait.as_secs(), error);
        }
    };
    let (clock, delay) = (board::uptime, |duration| network.delay(duration));
    provisioning.start(clock(), board::unix_time());
    match blocking::run(&mut provisioning, signer, buffer, &mut connect, clock, delay, show) {
        Ok(()) => store.write(provisioning.write_record(buffer)?),
        Err(failure) => {
            if let Some(message) = provisioning.details(buffer).and_then(|details| details.message()) {
                println!("the service says: {}", message);
            }
            return Err(failure);
        }
    }
    Ok(())
}

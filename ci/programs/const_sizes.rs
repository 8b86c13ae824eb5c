//! Buffers with a size computed at compile time.

use azure_dps::{
    DeviceKey, Error, IdScope, Provisioning, Registration, RegistrationId, after::Hub, provisioning::Sizes,
};

const PAYLOAD: &str = r#"{"MyDeviceFirmwareVersion":"12.0.2.5"}"#;
const SIZES: Sizes = Sizes::longest(11, RegistrationId::MAX_LEN).with_payload(PAYLOAD.len()).with_returned_payload(200);

pub struct Buffers {
    pub exchange: [u8; SIZES.http()],
    pub record: [u8; SIZES.record()],
    pub hub_password: [u8; SIZES.hub_token()],
}

impl Buffers {
    pub const fn new() -> Self {
        Self { exchange: [0; SIZES.http()], record: [0; SIZES.record()], hub_password: [0; SIZES.hub_token()] }
    }
}

pub fn registration(id: &str) -> Result<Registration<'_>, Error> {
    Registration::new(IdScope::new("0ne00002193")?, RegistrationId::new(id)?).with_payload(PAYLOAD)
}

/// Returns `true` if the buffer is large enough for everything that the device sends.
pub fn is_enough(provisioning: &Provisioning<'_>) -> bool {
    provisioning.sizes().http() <= SIZES.http()
}

pub fn password<'b>(hub: &Hub<'_>, key: &mut DeviceKey, buffers: &'b mut Buffers) -> Result<&'b str, Error> {
    hub.write_token(key, 1_700_003_600, &mut buffers.hub_password)
}

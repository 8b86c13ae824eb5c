//! Programs as firmware engineers write them. `bash .ci/run programs` compiles them for a Cortex-M3.
#![no_std]
#![forbid(unsafe_code)]

pub mod embassy;
pub mod embassy_tls;
pub mod hub_session;
pub mod secure_element;

/// Without the feature `lookup`, this function does not exist, and the policy cannot request a look-up.
#[cfg(feature = "look-up-without-the-feature")]
pub fn look_up<'a>(
    registration: azure_dps::Registration<'a>,
    attestation: azure_dps::Attestation<'a>,
) -> azure_dps::Provisioning<'a> {
    azure_dps::Provisioning::lookup(registration, attestation)
}

//! `Assignment`.

#![no_std]
#![no_main]

use azure_dps_no_panic::*;

links!(proof);

fn proof() {
    with_provisioning(
        |provisioning| provisioning,
        |provisioning| {
            let Ok(assignment) = provisioning.result(bytes()) else { return };
            used((assignment.assigned_hub(), assignment.device_id(), assignment.payload().is_some()));
            used((assignment.registration_id().is_some(), assignment.substatus().is_some()));
            used((assignment.created().is_some(), assignment.last_updated().is_some(), assignment.etag().is_some()));
            used((assignment.tpm_authentication_key().is_some(), assignment.enrollment_group_id().is_some()));
            used(assignment.x509().and_then(|x509| x509.certificate_info()?.version()));
            used(assignment.issued_certificate_chain().map(|chain| chain.count()));
            used((assignment.connection_profile(), assignment.trust_bundle().is_some()));
            used((assignment.field(text()).is_some(), assignment.registration_state().raw()));
            let Ok(owned) = &assignment.owned::<64>() else { return };
            used((owned.assigned_hub(), owned.device_id(), owned.payload(), owned.connection_profile()));
        },
    );
}

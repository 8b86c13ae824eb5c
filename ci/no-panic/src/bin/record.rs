//! `Record`.

#![no_std]
#![no_main]

use azure_dps::{IdScope, Registration, RegistrationId, after::Record, identity::KeyChoice};
use azure_dps_no_panic::*;

links!(proof);

fn proof() {
    let (Ok(scope), Ok(id)) = (IdScope::new(text()), RegistrationId::new(text())) else { return };
    let registration = Registration::new(scope, id);
    let mut buffer = [0; 512];
    let room = buffer.get_mut(..number()).unwrap_or_default();
    used(bytes().first_chunk().and_then(Record::len));
    match Record::read(bytes(), &registration) {
        Ok(record) => {
            used(record.key());
            let assignment = record.assignment();
            used((assignment.assigned_hub(), assignment.device_id(), assignment.payload().is_some()));
            let mut key = KeyChoice::Primary;
            used(assignment.write_record(&registration, *opaque(&mut key), room).is_ok());
        }
        Err(error) => shown(error),
    }
    with_provisioning(
        |provisioning| provisioning,
        |provisioning| match provisioning.write_record(room) {
            Ok(record) => used(Record::read(record, &registration).is_ok()),
            Err(error) => shown(error),
        },
    );
}

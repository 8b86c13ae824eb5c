//! What is known: enrollments, devices, their operations and twins. The store keeps data and its bounds; what the
//! data means is decided above it, in `service`.

pub(crate) mod devices;
// The service API uses all of it.
#[allow(dead_code)]
pub(crate) mod enrollments;
pub(crate) mod registration_state;
pub(crate) mod running;
pub(crate) mod shared;
pub(crate) mod tracked;
mod twin_size;

use self::{devices::Devices, enrollments::Enrollments};

/// Everything that is known. It is shared as a [`SharedStore`](shared::SharedStore).
#[derive(Default)]
pub(crate) struct Store {
    pub(crate) enrollments: Enrollments,
    pub(crate) devices: Devices,
}

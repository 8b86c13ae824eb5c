//! What an IoT hub does for its devices, as far as provisioning can be proven with it.
//!
//! DPS and the hubs share one store: DPS puts a device at a hub ([`Devices::assign`](crate::store::devices::Devices)),
//! and the hub serves it there.

pub(crate) mod shared;
pub(crate) mod twins;

use std::sync::Arc;

use self::shared::Shared;

/// All linked hubs. A device is told apart by its hub and its ID there.
pub(crate) struct Hub {
    shared: Arc<Shared>,
}

impl Hub {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }
}

//! Sessions of a device that follow each other.

use super::{TOASTERS, assign, connect, hub, keys, token};
use crate::{
    config::Twin,
    hub::sessions::Opened,
    store::hub_device::{Filter, Filters},
};

/// A subscription that the hub carries out after another session took the place changes nothing that is kept: a clean
/// session has erased it.
#[test]
fn a_session_that_was_replaced_keeps_no_subscriptions() {
    let hub = hub();
    assign(&hub, "toaster", TOASTERS, "toaster", keys(), Twin::default());
    let password = token(TOASTERS, "toaster");
    let open = |clean| -> Opened {
        let admitted = hub.admit(&connect(TOASTERS, "toaster", &password)).unwrap();
        hub.open(admitted, clean).map_err(|refused| refused.why).unwrap_or_else(|why| panic!("{why}"))
    };
    let filters = Filters::from([(Filter::TwinAnswers, 0)]);
    let older = open(false);
    hub.keep(&older.session, &filters).unwrap();
    let newer = open(false);
    assert!(newer.was_kept && newer.filters == filters);
    let clean = open(true);
    for replaced in [&older, &newer, &clean] {
        hub.keep(&replaced.session, &filters).unwrap();
    }
    assert!(!open(false).was_kept);
}

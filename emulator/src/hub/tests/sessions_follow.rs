//! A session of a device replaces an older session.

use super::{TOASTERS, assign, connect, hub, keys, token};
use crate::{
    config::Twin,
    hub::sessions::Opened,
    store::hub_device::{Filter, Filters},
};

/// If a session subscribes after a newer clean session has replaced it, the kept subscriptions do not change: the
/// clean session has erased them.
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

//! Repeats a call of a webhook.

use std::sync::Arc;

use serde::Deserialize;

use super::{Service, webhook::calls::Question};
use crate::{identity::ids, watch::records::WebhookCall};

/// Why a call is not repeated.
#[derive(Debug)]
pub(crate) enum NoReplay {
    NoSuchCall,
    TooMany,
    /// A reset came during the call.
    Reset,
}

impl Service {
    /// Calls the webhook again with the request of the call with this number. Devices do not change: the new call is
    /// only recorded.
    pub(crate) async fn replay(&self, number: u64) -> Result<Arc<WebhookCall>, NoReplay> {
        /// The request contains the hubs that were offered.
        #[derive(Default, Deserialize)]
        #[serde(rename_all = "camelCase", default)]
        struct Offered {
            linked_hubs: Vec<String>,
        }
        let asked = self.shared.journal.webhook_call(number).ok_or(NoReplay::NoSuchCall)?;
        let _permit = self.replays.try_acquire().map_err(|_| NoReplay::TooMany)?;
        let body = asked.call.request_body.clone();
        let offered: Offered = serde_json::from_str(&body).unwrap_or_default();
        let settings = self.settings();
        let job = ids::guid();
        let question = Question {
            url: &asked.url,
            registration_id: &asked.call.registration_id,
            body,
            offered: &offered.linked_hubs,
            behaviour: &settings.behaviour,
            stopped: &self.jobs.start(&job),
        };
        let call = self.webhooks.ask_again(&question, number).await;
        self.jobs.end(&job);
        call.ok_or(NoReplay::Reset)
    }
}

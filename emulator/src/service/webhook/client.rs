//! POSTs requests to webhooks.

use std::time::Duration;

use reqwest::{Client, ClientBuilder, Url, header::CONTENT_TYPE};
use tokio::sync::{OnceCell, Semaphore, SemaphorePermit};

use super::response::HttpAnswer;
use crate::net::client::{builder, describe, plain_builder};

/// The longest answer. An `AllocationResponse` cannot be longer: a message to a device has at most 96 KB, and twins
/// have 40 KB.
const MAX_ANSWER: usize = 192 * 1024;

/// The most calls at the same time. More calls wait for their turn, and their time-out and duration start with their
/// turn. This limits the memory if a webhook hangs or never ends its answers.
pub(super) const MAX_CALLS: usize = 1024;

/// How long a connection is kept for the next call. Servers keep connections longer (Node 5 s). A call on a
/// connection that the server is closing would make the registration fail.
const KEPT_FOR: Duration = Duration::from_secs(2);

/// The most connections that are kept for next calls.
const KEPT: usize = 64;

/// POSTs requests to webhooks.
#[derive(Debug)]
pub(crate) struct WebhookClient {
    plain: OnceCell<Client>,
    secure: OnceCell<Client>,
    calls: Semaphore,
}

impl Default for WebhookClient {
    fn default() -> Self {
        Self { plain: OnceCell::default(), secure: OnceCell::default(), calls: Semaphore::new(MAX_CALLS) }
    }
}

impl WebhookClient {
    /// Waits for a call's turn. The turn ends when the permit is dropped.
    pub(super) async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        // The semaphore is never closed, so this is never `None`.
        self.calls.acquire().await.ok()
    }

    /// Makes a call. The error is for the log and does not contain the URL, because its query is a secret.
    pub(crate) async fn post(&self, url: &str, body: String, timeout: Duration) -> Result<HttpAnswer, String> {
        // A fuzzer must not call other programs on this machine.
        if cfg!(fuzzing) {
            return Err("there is no network".to_owned());
        }
        // The configuration check has read this URL before.
        let url: Url = url.parse().map_err(|_| "the webhook's URL is not a URL".to_owned())?;
        let client = self.client(&url).await?;
        tokio::time::timeout(timeout, async {
            let mut response = client
                .post(url)
                .header(CONTENT_TYPE, "application/json; charset=utf-8")
                .body(body)
                .send()
                .await
                .map_err(describe)?;
            let mut body = Vec::new();
            while let Some(chunk) = response.chunk().await.map_err(describe)? {
                if body.len() + chunk.len() > MAX_ANSWER {
                    return Err("the webhook's answer is too long".to_owned());
                }
                body.extend_from_slice(&chunk);
            }
            Ok(HttpAnswer { status: response.status().as_u16(), body })
        })
        .await
        .unwrap_or_else(|_| Err("the webhook did not answer in time".to_owned()))
    }

    async fn client(&self, url: &Url) -> Result<&Client, String> {
        // The service does not follow redirects: they are "any other status".
        let pooled = |client: ClientBuilder| {
            client.pool_idle_timeout(KEPT_FOR).pool_max_idle_per_host(KEPT).build().map_err(describe)
        };
        if url.scheme() == "https" {
            self.secure.get_or_try_init(async || pooled(builder())).await
        } else {
            self.plain.get_or_try_init(async || pooled(plain_builder())).await
        }
    }
}

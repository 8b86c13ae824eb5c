//! POSTs to webhooks.

use std::time::Duration;

use reqwest::{Client, Url, header::CONTENT_TYPE, redirect};
use tokio::sync::{OnceCell, Semaphore, SemaphorePermit};

use super::response::HttpAnswer;

/// An answer longer than this cannot be an `AllocationResponse`: a message to a device has at most
/// 96 KB, and twins have 40 KB.
const MAX_ANSWER: usize = 192 * 1024;

/// How many calls are under way at a time; more wait their turn. A call's time-out and its duration begin with its
/// turn. This bounds the memory that a webhook takes which hangs, or never ends its answers.
pub(super) const MAX_CALLS: usize = 1024;

/// How long a connection is kept for the next call: less than servers keep it (Node 5 s), because a call on a
/// connection that the server is closing would be a failed registration.
const KEPT_FOR: Duration = Duration::from_secs(2);

/// How many connections are kept for the next calls.
const KEPT: usize = 64;

/// POSTs to webhooks.
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
    /// Waits for a call's turn, which ends when the permit is dropped.
    pub(super) async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        // The semaphore is never closed.
        self.calls.acquire().await.ok()
    }

    /// Makes a call whose turn it is. The error is for the log, and names no URL: its query is a secret.
    pub(crate) async fn post(&self, url: &str, body: String, timeout: Duration) -> Result<HttpAnswer, String> {
        // A fuzzer must not call what happens to listen on this machine.
        if cfg!(fuzzing) {
            return Err("there is no network".to_owned());
        }
        // The configuration was checked.
        let url: Url = url.parse().map_err(|_| "the webhook's URL is no URL".to_owned())?;
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
        // Proxies of the environment would catch calls to loopback. Redirects are "any other
        // status" to the service.
        let builder = || {
            Client::builder()
                .no_proxy()
                .redirect(redirect::Policy::none())
                .pool_idle_timeout(KEPT_FOR)
                .pool_max_idle_per_host(KEPT)
        };
        if url.scheme() == "https" {
            self.secure.get_or_try_init(async || builder().build().map_err(describe)).await
        } else {
            // Without roots, so that it also works where the system has none.
            self.plain.get_or_try_init(async || builder().tls_certs_only([]).build().map_err(describe)).await
        }
    }
}

/// The whole chain of causes, without the URL.
fn describe(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

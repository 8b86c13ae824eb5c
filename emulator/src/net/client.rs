//! HTTP clients: for calls of webhooks, and for the health check of another emulator.

use std::time::Duration;

use reqwest::{Client, ClientBuilder, StatusCode, redirect};
use rustls::crypto::aws_lc_rs;

/// Returns the builder of a client that follows no redirects and uses no proxy. Proxies of the environment would also
/// apply to loopback.
///
/// `build` panics without a process-wide provider of cryptography.
pub(crate) fn builder() -> ClientBuilder {
    Client::builder().no_proxy().redirect(redirect::Policy::none())
}

/// Returns the builder of a client for plain HTTP. It needs no roots, and systems without roots exist.
pub(crate) fn plain_builder() -> ClientBuilder {
    builder().tls_certs_only([])
}

/// Returns the whole chain of causes, without the URL.
pub(crate) fn describe(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// Gets a URL over plain HTTP, and returns the status of the answer.
///
/// # Errors
///
/// Returns an error if there is no answer in time.
pub fn get_status(url: &str, token: Option<&str>, timeout: Duration) -> Result<StatusCode, String> {
    // Without an emulator in this process, there is no provider yet.
    let _ = aws_lc_rs::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    let answer = runtime.block_on(async {
        let request = plain_builder().timeout(timeout).build()?.get(url);
        let request = token.into_iter().fold(request, |request, token| request.bearer_auth(token));
        request.send().await
    });
    // A name look-up cannot be cancelled.
    runtime.shutdown_background();
    answer.map(|answer| answer.status()).map_err(describe)
}

//! The health check that a container runtime runs every few seconds, in an image without a shell or `curl`.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use axum::http::Request;
use causeway_runtime::http_client::HttpClient;

use crate::config::Config;

/// Timeout of a probe. Probes are answered from memory, and container runtimes stop waiting after a few seconds.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);

/// Asks the service at each of its addresses whether it is `ready`, or else whether it is alive.
///
/// # Errors
///
/// When it does not answer in time with a status of 2xx.
pub async fn ask(
    ready: bool,
    environment: impl IntoIterator<Item = (String, String)>,
) -> anyhow::Result<()> {
    let config = Config::from_environment(environment).context("the settings are not usable")?;
    // A container that is not alive is restarted, which repairs a hanging process and no database, so that
    // probe does not depend on the database.
    let path = if ready { "/readyz" } else { "/livez" };
    for address in config.http.addresses() {
        // Connecting to `0.0.0.0` or `[::]` reaches this host.
        ask_at(&format!("http://{address}{path}")).await?;
    }
    Ok(())
}

async fn ask_at(url: &str) -> anyhow::Result<()> {
    let client = HttpClient::new(ANSWER_TIMEOUT);
    let answer = client
        .send(Request::get(url).body("")?, ANSWER_TIMEOUT)
        .await;
    let answer = answer.with_context(|| format!("could not request `{url}`"))?;
    let status = answer.status();
    ensure!(status.is_success(), "`{url}` answered {status}");
    Ok(())
}

//! Asking the service that runs here how it is: what a container runtime does every few seconds, from
//! an image without a shell or `curl`.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use axum::body::Body;
use axum::http::Uri;
use axum::http::uri::{PathAndQuery, Scheme};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use tokio::time;

use crate::config;

/// How long the answer may take. Probes are answered from memory, and those who ask give up after a
/// few seconds themselves.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);

/// Asks the service at `url`, or else at each address on which the settings say that it listens: whether
/// it is `ready`, or whether it lives. A path in `url` outweighs that.
///
/// # Errors
///
/// Unless it answers soon, and with success.
pub async fn ask(
    ready: bool,
    url: Option<Uri>,
    environment: impl IntoIterator<Item = (String, String)>,
) -> anyhow::Result<()> {
    // A container whose process does not live is replaced, which mends a process that hangs and no
    // database, so that probe does not look at it.
    let path = if ready { "/readyz" } else { "/livez" };
    let Some(url) = url else {
        for address in config::listen(environment).context("the settings are not usable")? {
            // To connect to `0.0.0.0` or `[::]` is to connect to this host.
            ask_at(format!("http://{address}{path}")).await?;
        }
        return Ok(());
    };
    let text = url.to_string();
    match url.path_and_query().map(PathAndQuery::as_str) {
        None | Some("/") => ask_at(format!("{}{path}", text.trim_end_matches('/'))).await,
        Some(_path) => ask_at(text).await,
    }
}

async fn ask_at(url: String) -> anyhow::Result<()> {
    let target: Option<Uri> = url.parse().ok();
    let target = target.filter(|it| it.scheme() == Some(&Scheme::HTTP));
    let target = target
        .with_context(|| format!("`{url}` cannot be asked; write it as `http://host:port`"))?;
    let client = Client::builder(TokioExecutor::new()).build_http::<Body>();
    let answer = time::timeout(ANSWER_TIMEOUT, client.get(target))
        .await
        .with_context(|| format!("`{url}` did not answer within {ANSWER_TIMEOUT:?}"))?
        .with_context(|| format!("`{url}` could not be asked"))?;
    let status = answer.status();
    ensure!(status.is_success(), "`{url}` answered {status}");
    Ok(())
}

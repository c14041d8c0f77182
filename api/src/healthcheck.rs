//! Asking the service that runs here how it is: what a container runtime does every few seconds, from
//! an image without a shell or `curl`.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use axum::body::Body;
use axum::http::Uri;
use axum::http::uri::Scheme;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use tokio::time;

use crate::config;

/// How long the answer may take. Probes are answered from memory, and those who ask give up after a
/// few seconds themselves.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probe {
    /// Whether the process answers. A container that fails this one is replaced, which mends a
    /// process that hangs and no database, so it does not look at the database.
    Alive,
    /// Whether requests should be sent to it.
    Ready,
}

/// Asks the service at `url`, or else at each address on which the settings say that it listens. A
/// path in `url` outweighs the one of `probe`.
///
/// # Errors
///
/// Unless it answers soon, and with success.
pub async fn ask(
    url: Option<Uri>,
    probe: Probe,
    environment: impl IntoIterator<Item = (String, String)>,
) -> anyhow::Result<()> {
    let path = match probe {
        Probe::Alive => "/livez",
        Probe::Ready => "/readyz",
    };
    if let Some(url) = url {
        let is_bare = matches!(url.path(), "" | "/") && url.query().is_none();
        let text = url.to_string();
        let text = if is_bare {
            format!("{}{path}", text.trim_end_matches('/'))
        } else {
            text
        };
        return ask_at(text).await;
    }
    for mut address in config::listen(environment).context("the settings are not usable")? {
        if address.ip().is_unspecified() {
            let is_v4 = address.is_ipv4();
            address.set_ip(if is_v4 {
                [127, 0, 0, 1].into()
            } else {
                LOOPBACK_V6.into()
            });
        }
        ask_at(format!("http://{address}{path}")).await?;
    }
    Ok(())
}

const LOOPBACK_V6: std::net::Ipv6Addr = std::net::Ipv6Addr::LOCALHOST;

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

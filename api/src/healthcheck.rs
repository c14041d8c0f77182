//! Asking the service that runs here how it is: what a container runtime does every few seconds, from
//! an image without a shell or `curl`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use axum::body::Body;
use axum::http::uri::{InvalidUri, PathAndQuery, Scheme};
use axum::http::{StatusCode, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use tokio::time;

use crate::config::{self, Unusable};

/// How long the answer may take. Probes are answered from memory, and those who ask give up after a
/// few seconds themselves.
const PATIENCE: Duration = Duration::from_secs(3);

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probe {
    /// Whether the process answers. A container that fails this one is replaced, which mends a
    /// process that hangs and no database, so it does not look at the database.
    Alive,
    /// Whether requests should be sent to it.
    Ready,
}

/// Why the service is not as it should be.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Unhealthy {
    /// The settings do not say where it is.
    #[error("the settings are not usable")]
    Settings(#[from] Unusable),
    /// Where it listens cannot be written as a URL.
    #[error("no URL leads to where it listens")]
    NoUrl(#[from] InvalidUri),
    /// It cannot be asked there.
    #[error("`{0}` cannot be asked; write it as `http://host:port`")]
    Unusable(Uri),
    /// It did not answer.
    #[error("`{url}` could not be asked")]
    Unreachable {
        /// What was asked.
        url: Uri,
        /// Why.
        source: hyper_util::client::legacy::Error,
    },
    /// It did not answer in time.
    #[error("`{url}` did not answer within {PATIENCE:?}")]
    OutOfTime {
        /// What was asked.
        url: Uri,
    },
    /// It answered that it is not.
    #[error("`{url}` answered {status}")]
    Refused {
        /// What was asked.
        url: Uri,
        /// The answer.
        status: StatusCode,
    },
}

/// Asks the service at `url`, or else at each address on which the settings say that it listens. A
/// path in `url` outweighs the one of `probe`.
///
/// # Errors
///
/// [`Unhealthy`] unless it answers soon, and with success.
pub async fn ask(
    url: Option<Uri>,
    probe: Probe,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<(), Unhealthy> {
    let places = match url {
        Some(url) => vec![url],
        None => places(&config::listen(environment)?)?,
    };
    for place in places {
        ask_at(place, probe).await?;
    }
    Ok(())
}

async fn ask_at(place: Uri, probe: Probe) -> Result<(), Unhealthy> {
    let Some(url) = address(&place, probe) else {
        return Err(Unhealthy::Unusable(place));
    };
    let client = Client::builder(TokioExecutor::new()).build_http::<Body>();
    let answer = match time::timeout(PATIENCE, client.get(url.clone())).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(source)) => return Err(Unhealthy::Unreachable { url, source }),
        Err(_elapsed) => return Err(Unhealthy::OutOfTime { url }),
    };
    let status = answer.status();
    if !status.is_success() {
        return Err(Unhealthy::Refused { url, status });
    }
    Ok(())
}

/// Returns where a service that listens on `addresses` is reached from the same host.
fn places(addresses: &[SocketAddr]) -> Result<Vec<Uri>, InvalidUri> {
    let each = addresses.iter().map(|address| {
        let ip = match address.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
            one @ (IpAddr::V4(_) | IpAddr::V6(_)) => one,
        };
        Uri::try_from(format!("http://{}", SocketAddr::new(ip, address.port())))
    });
    each.collect()
}

fn address(place: &Uri, probe: Probe) -> Option<Uri> {
    if place.scheme() != Some(&Scheme::HTTP) {
        return None;
    }
    let path = match (place.path(), probe) {
        ("" | "/", Probe::Alive) => PathAndQuery::from_static("/livez"),
        ("" | "/", Probe::Ready) => PathAndQuery::from_static("/readyz"),
        _ => place.path_and_query()?.clone(),
    };
    Uri::builder()
        .scheme(Scheme::HTTP)
        .authority(place.authority()?.clone())
        .path_and_query(path)
        .build()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(place: &str, probe: Probe) -> Option<String> {
        Some(address(&place.parse().unwrap(), probe)?.to_string())
    }

    #[test]
    fn a_place_without_a_path_is_asked_what_the_probe_asks() {
        let livez = Some("http://api:8080/livez".to_owned());
        assert_eq!(asked("http://api:8080", Probe::Alive), livez);
        assert_eq!(asked("http://api:8080/", Probe::Alive), livez);
        let readyz = Some("http://api:8080/readyz".to_owned());
        assert_eq!(asked("http://api:8080", Probe::Ready), readyz);
        let health = Some("http://api:8080/health?x=1".to_owned());
        assert_eq!(asked("http://api:8080/health?x=1", Probe::Ready), health);
        for unusable in ["https://api:8080", "/livez", "api:8080"] {
            assert_eq!(asked(unusable, Probe::Alive), None, "{unusable}");
        }
    }

    #[test]
    fn every_address_is_reached_by_its_loopback() {
        let listening = ["0.0.0.0:8080", "[::]:8000", "10.1.2.3:80"];
        let places = places(&listening.map(|it| it.parse().unwrap())).unwrap();
        assert_eq!(
            places,
            [
                "http://127.0.0.1:8080",
                "http://[::1]:8000",
                "http://10.1.2.3:80"
            ]
        );
    }
}

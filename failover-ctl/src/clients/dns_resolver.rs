//! DNS lookups as a client of the database would make them.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::Context as _;
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;

/// Resolves `name` with `resolver`, or with the system's, without a cache. The result is empty if the resolver answers
/// that the name has no address.
///
/// # Errors
///
/// When no server answers, or the answer is an error.
pub(crate) async fn addresses(
    name: &str,
    resolver: Option<SocketAddr>,
) -> anyhow::Result<Vec<IpAddr>> {
    let builder = match resolver {
        Some(address) => {
            let mut udp = ConnectionConfig::udp();
            udp.port = address.port();
            let mut tcp = ConnectionConfig::tcp();
            tcp.port = address.port();
            let server = NameServerConfig::new(address.ip(), true, vec![udp, tcp]);
            let config = ResolverConfig::from_parts(None, Vec::new(), vec![server]);
            TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
        }
        None => TokioResolver::builder_tokio()
            .context("could not read the system's resolver configuration")?,
    };
    let mut builder = builder;
    let options = builder.options_mut();
    options.cache_size = 0;
    options.timeout = Duration::from_secs(1);
    options.attempts = 2;
    let resolver = builder.build().context("could not create the resolver")?;
    let absolute = format!("{}.", name.trim_end_matches('.'));
    match resolver.lookup_ip(absolute).await {
        Ok(answer) => Ok(answer.iter().collect()),
        Err(error) if error.is_no_records_found() => Ok(Vec::new()),
        Err(error) => Err(error).with_context(|| format!("could not resolve `{name}`")),
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use tokio::net::UdpSocket;

    use super::*;

    /// Answers every query with a response code, without records.
    async fn serve(socket: &UdpSocket, response_code: u8) -> Infallible {
        let mut message = [0; 512];
        loop {
            let (length, client) = socket.recv_from(&mut message).await.unwrap();
            // RFC 1035, section 4.1.1: the bit QR marks a response, and the code is the low half of the fourth byte.
            message[2] |= 0x80;
            message[3] = response_code;
            socket.send_to(&message[..length], client).await.unwrap();
        }
    }

    async fn resolve_with(response_code: u8) -> anyhow::Result<Vec<IpAddr>> {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let resolver = socket.local_addr().unwrap();
        tokio::select! {
            found = addresses("writer.example", Some(resolver)) => found,
            never = serve(&socket, response_code) => match never {},
        }
    }

    #[tokio::test]
    async fn name_does_not_exist_then_no_addresses() {
        let found = resolve_with(3).await.unwrap();
        assert_eq!(found, Vec::<IpAddr>::new());
    }

    #[tokio::test]
    async fn server_fails_then_error() {
        let error = resolve_with(2).await.unwrap_err();
        assert_eq!(error.to_string(), "could not resolve `writer.example`");
    }
}

//! HTTPS connections to AWS, whose certificates are read once, at the first connection.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_sdk_s3::config::{HttpClient, RuntimeComponents, SharedHttpClient};
use aws_smithy_http_client::Connector;
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use aws_smithy_runtime_api::client::http::{HttpConnectorSettings, SharedHttpConnector};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde::Deserialize;

/// CA certificates of an endpoint without a public CA, read and checked together with the settings.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "PathBuf")]
pub struct CaCertificates {
    path: PathBuf,
    pem: Arc<[u8]>,
}

/// A file of CA certificates that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CaCertificatesError {
    /// The file cannot be read.
    #[error("could not read the CA certificates in `{}`: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Cause.
        source: std::io::Error,
    },
    /// The file is not a list of valid CA certificates.
    #[error("`{}` holds no CA certificate in PEM (`BEGIN CERTIFICATE`) that can be used: {why}", path.display())]
    NotCertificates {
        /// The file.
        path: PathBuf,
        /// Reason.
        why: String,
    },
}

impl TryFrom<PathBuf> for CaCertificates {
    type Error = CaCertificatesError;

    /// Reads and checks every certificate: the SDK panics at one that it cannot use.
    fn try_from(path: PathBuf) -> Result<Self, CaCertificatesError> {
        let pem = match std::fs::read(&path) {
            Ok(pem) => pem,
            Err(source) => return Err(CaCertificatesError::Io { path, source }),
        };
        let mut roots = RootCertStore::empty();
        let mut why = None;
        for certificate in CertificateDer::pem_slice_iter(&pem) {
            let added = match certificate {
                Ok(certificate) => roots.add(certificate).map_err(|error| error.to_string()),
                Err(error) => Err(error.to_string()),
            };
            why = why.or(added.err());
        }
        match why {
            None if !roots.is_empty() => Ok(Self {
                path,
                pem: pem.into(),
            }),
            why => Err(CaCertificatesError::NotCertificates {
                path,
                why: why.unwrap_or_else(|| "there is none".to_owned()),
            }),
        }
    }
}

impl fmt::Debug for CaCertificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CaCertificates").field(&self.path).finish()
    }
}

/// Connections of one program. Clients that share them share the TLS set-up, which takes longer than the
/// request of a short command.
#[derive(Clone, Debug, Default)]
pub struct AwsConnections {
    by_trust: Arc<Mutex<BTreeMap<Option<CaCertificates>, SharedHttpClient>>>,
}

impl AwsConnections {
    /// Returns an HTTP client that trusts these CA certificates, or those of this host.
    pub(super) fn trusting(&self, ca: Option<&CaCertificates>) -> SharedHttpClient {
        let mut by_trust = self.by_trust.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || {
            SharedHttpClient::new(Https {
                ca: ca.cloned(),
                prepared: Mutex::default(),
            })
        };
        by_trust.entry(ca.cloned()).or_insert_with(new).clone()
    }
}

/// The SDK's HTTPS, prepared at its first use. The SDK's default client prepares it, with every certificate of
/// the host, for each service client and each source of credentials, only to detect a missing certificate
/// early, and drops the result.
#[derive(Debug)]
struct Https {
    ca: Option<CaCertificates>,
    prepared: Mutex<BTreeMap<Timeouts, SharedHttpConnector>>,
}

/// Timeouts of connecting and of the start of a response, by which connectors are shared.
type Timeouts = (Option<Duration>, Option<Duration>);

impl Https {
    fn prepare(
        &self,
        settings: &HttpConnectorSettings,
        components: &RuntimeComponents,
    ) -> SharedHttpConnector {
        let mut connector = Connector::builder()
            .tls_provider(Provider::Rustls(CryptoMode::AwsLc))
            .tls_context(self.tls_context())
            .connector_settings(settings.clone())
            .proxy_config(ProxyConfig::from_env());
        connector.set_sleep_impl(components.sleep_impl());
        SharedHttpConnector::new(connector.build())
    }

    fn tls_context(&self) -> TlsContext {
        let Some(ca) = &self.ca else {
            return TlsContext::default();
        };
        let store = TrustStore::empty().with_pem_certificate(&*ca.pem);
        let context = TlsContext::builder().with_trust_store(store).build();
        context.expect("these certificates were checked when they were read")
    }
}

impl HttpClient for Https {
    fn http_connector(
        &self,
        settings: &HttpConnectorSettings,
        components: &RuntimeComponents,
    ) -> SharedHttpConnector {
        let timeouts = (settings.connect_timeout(), settings.read_timeout());
        let mut prepared = self.prepared.lock().unwrap_or_else(PoisonError::into_inner);
        let connector = prepared.entry(timeouts);
        connector
            .or_insert_with(|| self.prepare(settings, components))
            .clone()
    }
}

#[cfg(test)]
mod tests;

//! Connections to PostgreSQL: TLS with libpq's modes, and connection tasks that shutdown waits for.

use std::collections::BTreeMap;
use std::future;
use std::path::PathBuf;
use std::pin::Pin;
use std::str::FromStr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use native_tls::{Certificate, Protocol, TlsConnector};
use postgres_native_tls::{TlsStream, set_postgresql_alpn};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time;
use tokio_postgres::config::SslMode as Wire;
use tokio_postgres::tls::{MakeTlsConnect, TlsConnect};
use tokio_postgres::{Client, Config};
use tracing::debug;

use crate::shutdown::Tasks;

/// TLS mode of a connection: libpq's `sslmode`, without `allow`.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum SslMode {
    /// No TLS; for a Unix socket.
    Disable,
    /// TLS if the server offers it, unverified.
    Prefer,
    /// TLS, unverified; verified as `VerifyCa` if CA certificates are given, as in libpq.
    Require,
    /// TLS, with a certificate signed by a trusted CA.
    VerifyCa,
    /// The same, and the certificate names the requested host; for production.
    VerifyFull,
}

/// An unknown `sslmode`.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not an sslmode: use disable, prefer, require, verify-ca or verify-full")]
pub struct UnknownSslMode(String);

impl FromStr for SslMode {
    type Err = UnknownSslMode;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "disable" => Ok(Self::Disable),
            "prefer" => Ok(Self::Prefer),
            "require" => Ok(Self::Require),
            "verify-ca" => Ok(Self::VerifyCa),
            "verify-full" => Ok(Self::VerifyFull),
            _ => Err(UnknownSslMode(text.to_owned())),
        }
    }
}

impl SslMode {
    /// Returns the mode of tokio-postgres; verification is up to the connector.
    pub fn on_the_wire(self) -> Wire {
        match self {
            Self::Disable => Wire::Disable,
            Self::Prefer => Wire::Prefer,
            Self::Require | Self::VerifyCa | Self::VerifyFull => Wire::Require,
        }
    }
}

/// Trusted CA certificates in PEM format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RootCertificates {
    /// Path of the file with the certificates.
    File(PathBuf),
    /// Text of the certificates, for a program without a file.
    Text(String),
}

impl RootCertificates {
    fn read(&self) -> Result<Vec<u8>, TlsError> {
        match self {
            Self::File(path) => std::fs::read(path).map_err(|source| TlsError::Unreadable {
                path: path.clone(),
                source,
            }),
            Self::Text(text) => Ok(text.clone().into_bytes()),
        }
    }

    fn parse(&self, pem: &[u8]) -> Result<Vec<Certificate>, TlsError> {
        let place = match self {
            Self::File(path) => format!("`{}`", path.display()),
            Self::Text(_) => "the CA certificate setting".to_owned(),
        };
        match Certificate::stack_from_pem(pem) {
            Ok(certificates) if certificates.is_empty() => Err(TlsError::Empty { place }),
            Ok(certificates) => Ok(certificates),
            Err(source) => Err(TlsError::Malformed { place, source }),
        }
    }
}

/// TLS settings that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The file of CA certificates cannot be read.
    #[error("could not read the CA certificates in `{}`", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Cause.
        source: std::io::Error,
    },
    /// There is no certificate.
    #[error("{place} holds no certificate in PEM format")]
    Empty {
        /// Description of the source of the certificates.
        place: String,
    },
    /// The text is not a valid certificate.
    #[error("{place} is not valid PEM: give whole certificates, line by line")]
    Malformed {
        /// Description of the source of the certificates.
        place: String,
        /// Error of OpenSSL.
        source: native_tls::Error,
    },
}

/// TLS with an [`SslMode`] and its root certificates, for every connection of a program.
///
/// The connector is built once, at the first handshake: it always reads the system's root certificates, which
/// takes 25 ms.
#[derive(Clone)]
pub struct Tls(Arc<Trust>);

struct Trust {
    mode: SslMode,
    roots: Vec<Certificate>,
    connector: OnceLock<TlsConnector>,
}

/// One handshake with a host.
#[derive(Debug)]
pub struct TlsHandshake {
    tls: Tls,
    host: String,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Tls").field(&self.0.mode).finish()
    }
}

impl Trust {
    fn connector(&self) -> Result<TlsConnector, native_tls::Error> {
        if let Some(connector) = self.connector.get() {
            return Ok(connector.clone());
        }
        let is_verified = match self.mode {
            SslMode::Disable | SslMode::Prefer => false,
            SslMode::Require => !self.roots.is_empty(),
            SslMode::VerifyCa | SslMode::VerifyFull => true,
        };
        let mut builder = TlsConnector::builder();
        builder
            .min_protocol_version(Some(Protocol::Tlsv12))
            .disable_built_in_roots(!is_verified || !self.roots.is_empty())
            .danger_accept_invalid_certs(!is_verified)
            .danger_accept_invalid_hostnames(self.mode != SslMode::VerifyFull);
        for root in &self.roots {
            builder.add_root_certificate(root.clone());
        }
        set_postgresql_alpn(&mut builder);
        let connector = builder.build()?;
        Ok(self.connector.get_or_init(|| connector).clone())
    }
}

impl<S> MakeTlsConnect<S> for Tls
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    type Stream = TlsStream<S>;
    type TlsConnect = TlsHandshake;
    type Error = native_tls::Error;

    fn make_tls_connect(&mut self, host: &str) -> Result<TlsHandshake, native_tls::Error> {
        Ok(TlsHandshake {
            tls: self.clone(),
            host: host.to_owned(),
        })
    }
}

impl<S> TlsConnect<S> for TlsHandshake
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    type Stream = TlsStream<S>;
    type Error = native_tls::Error;
    type Future = Pin<Box<dyn Future<Output = Result<TlsStream<S>, native_tls::Error>> + Send>>;

    fn connect(self, stream: S) -> Self::Future {
        match self.tls.0.connector() {
            Ok(connector) => {
                postgres_native_tls::TlsConnector::new(connector, &self.host).connect(stream)
            }
            Err(error) => Box::pin(future::ready(Err(error))),
        }
    }
}

/// Last TLS of one mode, and the root certificates from which it was built.
type Built = (Option<Vec<u8>>, Tls);

/// Returns TLS that verifies by `mode` and trusts the system's CAs, or those in `root_cert`. If both are
/// unchanged, it returns the same TLS with its connector.
///
/// # Errors
///
/// [`TlsError`] if the file cannot be read or has no valid certificate.
pub fn tls(mode: SslMode, root_cert: Option<&RootCertificates>) -> Result<Tls, TlsError> {
    static LAST: Mutex<BTreeMap<SslMode, Built>> = Mutex::new(BTreeMap::new());
    let pem = root_cert.map(RootCertificates::read).transpose()?;
    let roots = match root_cert.zip(pem.as_ref()) {
        Some((root_cert, pem)) => root_cert.parse(pem)?,
        None => Vec::new(),
    };
    let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((of_last, tls)) = last.get(&mode)
        && *of_last == pem
    {
        return Ok(tls.clone());
    }
    let tls = Tls(Arc::new(Trust {
        mode,
        roots,
        connector: OnceLock::new(),
    }));
    last.insert(mode, (pem, tls.clone()));
    Ok(tls)
}

/// A failed connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The server rejected the connection, or is unreachable.
    #[error("could not connect to PostgreSQL")]
    Refused(#[from] tokio_postgres::Error),
    /// The server did not respond in time.
    #[error("PostgreSQL did not answer within {0:?}")]
    OutOfTime(Duration),
}

/// Option of every connection that inspects or administers a server: names in its statements are those of PostgreSQL.
/// A role's or database's own `search_path` could put an operator or a function of another schema in their place.
/// `pg_temp` is last, where it would otherwise be first for tables.
const SEARCH_PATH: &str = "-c search_path=pg_catalog,pg_temp";

/// Connects within `timeout`, with the `search_path` `pg_catalog, pg_temp` whatever the role's is. The connection is a
/// task of `tasks`, and ends with the client.
///
/// # Errors
///
/// [`ConnectError`], which never contains a password.
pub async fn connect(
    config: &Config,
    tls: Tls,
    timeout: Duration,
    tasks: &Tasks,
) -> Result<Client, ConnectError> {
    let mut config = config.clone();
    let options = match config.get_options() {
        Some(options) => format!("{options} {SEARCH_PATH}"),
        None => SEARCH_PATH.to_owned(),
    };
    config.options(options);
    connect_as_client(&config, tls, timeout, tasks).await
}

/// Connects as [`connect`], with the `search_path` of the role, as a client of the database has it.
///
/// # Errors
///
/// [`ConnectError`], which never contains a password.
pub async fn connect_as_client(
    config: &Config,
    tls: Tls,
    timeout: Duration,
    tasks: &Tasks,
) -> Result<Client, ConnectError> {
    let connecting = time::timeout(timeout, config.connect(tls));
    let out_of_time = |_elapsed| ConnectError::OutOfTime(timeout);
    let (client, connection) = connecting.await.map_err(out_of_time)??;
    tasks.start("postgres connection", |_stop| async move {
        if let Err(error) = connection.await {
            debug!(%error, "connection to PostgreSQL ended");
        }
    });
    Ok(client)
}

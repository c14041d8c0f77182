//! Connecting to PostgreSQL: TLS as libpq names it, and a connection that its owner waits for.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use openssl::error::ErrorStack;
use openssl::ssl::{SslConnector, SslMethod, SslVerifyMode, SslVersion};
use openssl::x509::X509;
use openssl::x509::store::X509StoreBuilder;
use postgres_openssl::{MakeTlsConnector, set_postgresql_alpn};
use serde::Deserialize;
use tokio::time;
use tokio_postgres::config::SslMode as Wire;
use tokio_postgres::{Client, Config};
use tracing::debug;

use crate::shutdown::Tasks;

/// How far a server must prove who it is: libpq's `sslmode`, less `allow`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SslMode {
    /// No TLS. For a Unix socket, and nothing else that matters.
    Disable,
    /// TLS if the server offers it, unverified.
    Prefer,
    /// TLS, unverified; but verified as `VerifyCa` where authorities are named, as libpq does.
    Require,
    /// TLS, with a certificate that a trusted authority signed.
    VerifyCa,
    /// The same, and it names the host that was asked for. What production uses.
    VerifyFull,
}

/// A name that is none of libpq's.
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
    /// Returns what tokio-postgres does on the wire; how much is verified is the connector's part.
    pub fn on_the_wire(self) -> Wire {
        match self {
            Self::Disable => Wire::Disable,
            Self::Prefer => Wire::Prefer,
            Self::Require | Self::VerifyCa | Self::VerifyFull => Wire::Require,
        }
    }
}

/// Authorities to trust, in PEM format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RootCert {
    /// The file that holds them.
    File(PathBuf),
    /// They themselves, where a program is given no file.
    Text(String),
}

impl RootCert {
    fn read(&self) -> Result<Vec<X509>, TlsError> {
        let (pem, place) = match self {
            Self::File(path) => {
                let unreadable = |source| TlsError::Unreadable {
                    path: path.clone(),
                    source,
                };
                let pem = std::fs::read(path).map_err(unreadable)?;
                (pem, format!("`{}`", path.display()))
            }
            Self::Text(text) => {
                let place = "what is given as authorities, and names no file,";
                (text.clone().into_bytes(), place.to_owned())
            }
        };
        let certificates = match X509::stack_from_pem(&pem) {
            Ok(certificates) => certificates,
            Err(source) => return Err(TlsError::Malformed { place, source }),
        };
        if certificates.is_empty() {
            return Err(TlsError::Empty { place });
        }
        Ok(certificates)
    }
}

/// TLS settings that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The file of trusted authorities cannot be read.
    #[error("could not read the certificate authorities in `{}`", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// There are none.
    #[error("{place} holds no certificate in PEM format")]
    Empty {
        /// Where they should be.
        place: String,
    },
    /// What is there is no whole certificate.
    #[error("{place} cannot be read: give whole certificates in PEM format, line by line")]
    Malformed {
        /// Where they should be.
        place: String,
        /// What OpenSSL says of it.
        source: ErrorStack,
    },
    /// OpenSSL refuses the settings.
    #[error("the TLS settings are not usable")]
    Refused(#[from] ErrorStack),
}

/// Returns the connector that verifies as `mode` says, trusting the system's authorities or those in
/// `root_cert`.
///
/// # Errors
///
/// [`TlsError`] when a file is missing, or there is no certificate.
pub fn tls(mode: SslMode, root_cert: Option<&RootCert>) -> Result<MakeTlsConnector, TlsError> {
    // Where the system keeps its authorities in a directory, none is read before it is looked for.
    let mut builder = SslConnector::builder(SslMethod::tls_client())?;
    builder.set_min_proto_version(Some(SslVersion::TLS1_2))?;
    if let Some(root_cert) = root_cert {
        let mut trusted = X509StoreBuilder::new()?;
        for certificate in root_cert.read()? {
            trusted.add_cert(certificate)?;
        }
        builder.set_cert_store(trusted.build());
    }
    let is_verified = match mode {
        SslMode::Disable | SslMode::Prefer => false,
        SslMode::Require => root_cert.is_some(),
        SslMode::VerifyCa | SslMode::VerifyFull => true,
    };
    builder.set_verify(if is_verified {
        SslVerifyMode::PEER
    } else {
        SslVerifyMode::NONE
    });
    set_postgresql_alpn(&mut builder)?;
    let mut connector = MakeTlsConnector::new(builder.build());
    if mode != SslMode::VerifyFull {
        connector.set_callback(|connection, _host| {
            connection.set_verify_hostname(false);
            Ok(())
        });
    }
    Ok(connector)
}

/// A server that could not be connected to.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The server refused, or could not be reached.
    #[error("could not connect to PostgreSQL")]
    Refused(#[from] tokio_postgres::Error),
    /// No answer came in time.
    #[error("PostgreSQL did not answer within {0:?}")]
    OutOfTime(Duration),
}

/// Connects within `patience`. The connection is a task of `tasks`, and ends with the client.
///
/// # Errors
///
/// [`ConnectError`]; it holds no password, whatever `config` holds.
pub async fn connect(
    config: &Config,
    tls: MakeTlsConnector,
    patience: Duration,
    tasks: &Tasks,
) -> Result<Client, ConnectError> {
    let connecting = time::timeout(patience, config.connect(tls));
    let out_of_time = |_elapsed| ConnectError::OutOfTime(patience);
    let (client, connection) = connecting.await.map_err(out_of_time)??;
    tasks.start("postgres connection", |_stop| async move {
        if let Err(error) = connection.await {
            debug!(%error, "connection to PostgreSQL ended");
        }
    });
    Ok(client)
}

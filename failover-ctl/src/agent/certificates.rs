//! Expiry of the certificates that PostgreSQL and the agent of this node use.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use causeway_runtime::shutdown::Tasks;
use openssl::asn1::Asn1Time;
use openssl::x509::X509;
use prometheus::{IntGauge, IntGaugeVec};
use tokio::time;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::agent::event_loop::AgentLoop;
use crate::clients::postgres::{connect, local};
use crate::config::PostgresSettings;

/// Interval at which the files are read.
const READ_INTERVAL: Duration = Duration::from_mins(1);

/// Interval at which PostgreSQL is asked until it has named its files.
const ASK_INTERVAL: Duration = Duration::from_secs(5);

/// Timeout of the query.
const QUERY_TIMEOUT: Duration = Duration::from_secs(2);

/// Query of the files of a server with TLS.
const FILES_QUERY: &str = "
select case when s.tls then nullif(current_setting('ssl_cert_file'), '') end as server,
       case when s.tls then nullif(current_setting('ssl_ca_file'), '') end as client_ca
  from (select current_setting('ssl') = 'on' as tls) s";

/// Files of PostgreSQL that contain certificates.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct ServerFiles {
    server: Option<PathBuf>,
    client_ca: Option<PathBuf>,
}

/// Content of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Certificates {
    number: usize,
    /// Time at which the first one expires, in seconds since 1970.
    first_expiry: i64,
}

/// Check of every file.
struct CertificateCheck {
    postgres: PostgresSettings,
    expiry: IntGaugeVec,
    trusted: IntGauge,
    tasks: Tasks,
}

impl AgentLoop {
    /// Starts the task that reads the certificates once a minute.
    pub(super) fn start_certificate_check(&self) {
        let check = CertificateCheck {
            postgres: self.host.postgres.clone(),
            expiry: self.connections.metrics.certificate_expiry.clone(),
            trusted: self.connections.metrics.trusted_cas.clone(),
            tasks: self.connections.tasks.clone(),
        };
        self.connections
            .tasks
            .start("check certificates", |stop| check.run(stop));
    }
}

impl CertificateCheck {
    async fn run(self, stop: CancellationToken) {
        let mut files = None;
        loop {
            let Some(()) = stop.run_until_cancelled(self.check(&mut files)).await else {
                return;
            };
            let pause = if files.is_some() {
                READ_INTERVAL
            } else {
                ASK_INTERVAL
            };
            let Some(()) = stop.run_until_cancelled(time::sleep(pause)).await else {
                return;
            };
        }
    }

    /// Sets the metrics. A server that does not answer uses the files that it named last, none before.
    async fn check(&self, files: &mut Option<ServerFiles>) {
        match time::timeout(QUERY_TIMEOUT, self.query_files()).await {
            Ok(Ok(found)) => *files = Some(found),
            Ok(Err(error)) => debug!(error = format!("{error:#}"), "certificate files unknown"),
            Err(_elapsed) => debug!("certificate files unknown: PostgreSQL did not answer"),
        }
        let ServerFiles { server, client_ca } = files.clone().unwrap_or_default();
        self.set_expiry("server", server).await;
        self.set_expiry("client-ca", client_ca).await;
        let trusted = self.postgres.sslrootcert.clone();
        let trusted = self.set_expiry("server-ca", trusted).await;
        self.trusted
            .set(i64::try_from(trusted).expect("fewer certificates than 2^63"));
    }

    async fn query_files(&self) -> anyhow::Result<ServerFiles> {
        let config = local(&self.postgres, "failover-ctl agent certificates");
        let client = connect(&config, &self.tasks).await?;
        let row = client.query_one(FILES_QUERY, &[]).await?;
        let data = &self.postgres.data_directory;
        let path = |name: Option<String>| name.map(|name| data.join(name));
        Ok(ServerFiles {
            server: path(row.try_get("server")?),
            client_ca: path(row.try_get("client_ca")?),
        })
    }

    /// Sets the expiry of a file, without a series if there is none, and returns the number of its certificates.
    async fn set_expiry(&self, certificate: &str, file: Option<PathBuf>) -> usize {
        let Some(file) = file else {
            // An error means that there is no series.
            self.expiry.remove_label_values(&[certificate]).ok();
            return 0;
        };
        let path = file.display().to_string();
        let read = tokio::task::spawn_blocking(move || read_certificates(&file)).await;
        let read = read.context("reading was cancelled").flatten();
        if let Err(error) = &read {
            warn!(path, error = format!("{error:#}"), "certificates not read");
        }
        let read = read.ok();
        self.expiry
            .with_label_values(&[certificate])
            .set(read.map_or(0, |read| read.first_expiry));
        read.map_or(0, |read| read.number)
    }
}

/// Reads a file with one or more certificates in PEM format.
fn read_certificates(path: &Path) -> anyhow::Result<Certificates> {
    let epoch = Asn1Time::from_unix(0)?;
    let certificates = X509::stack_from_pem(&fs::read(path)?)?;
    let mut expiries = Vec::new();
    for certificate in &certificates {
        let since = epoch.diff(certificate.not_after())?;
        expiries.push(i64::from(since.days) * 86_400 + i64::from(since.secs));
    }
    Ok(Certificates {
        number: certificates.len(),
        first_expiry: expiries
            .into_iter()
            .min()
            .context("the file contains no certificate in PEM format")?,
    })
}

#[cfg(test)]
mod tests;

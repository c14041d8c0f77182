//! S3 without serialization and faults, for `make bench-backup`: a body is stored while it arrives.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use causeway_runtime::secret::Secret;
use causeway_runtime::shutdown::Tasks;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use tokio::net::{TcpListener, TcpStream};
use tracing::{debug, warn};

/// Timeout of requests in progress at shutdown.
const GRACE: Duration = Duration::from_secs(1);

/// Serves the buckets, which are subdirectories of `root`, until SIGTERM.
///
/// # Errors
///
/// When `root` is not a directory, or the address is in use.
pub async fn serve(
    root: &Path,
    address: SocketAddr,
    access_key: &str,
    secret_key: &Secret,
) -> anyhow::Result<()> {
    let files = s3s_fs::FileSystem::new(root)
        .map_err(|error| anyhow::anyhow!("`{}` is no store: {error:?}", root.display()))?;
    let mut service = S3ServiceBuilder::new(files);
    service.set_auth(SimpleAuth::from_single(access_key, secret_key.reveal()));
    let service = service.build();
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("could not serve S3 on `{address}`"))?;
    let tasks = Tasks::new();
    let connections = tasks.clone();
    tasks.start("s3", |stop| async move {
        while let Some(accepted) = stop.run_until_cancelled(listener.accept()).await {
            match accepted {
                Ok((stream, _)) => serve_connection(stream, service.clone(), &connections),
                Err(error) => warn!(%error, "connection to S3 not accepted"),
            }
        }
    });
    tasks.run_until_signalled(GRACE).await?;
    Ok(())
}

fn serve_connection(stream: TcpStream, service: S3Service, tasks: &Tasks) {
    tasks.start("s3 connection", |stop| async move {
        if let Err(error) = stream.set_nodelay(true) {
            debug!(%error, "connection without TCP_NODELAY");
        }
        let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
        if let Some(Err(error)) = stop.run_until_cancelled(connection).await {
            debug!(%error, "connection to S3 ended");
        }
    });
}

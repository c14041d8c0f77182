//! `backup-agent wal`: what PostgreSQL calls for each file of its log.

use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use ha_core::lsn::WalFileName;
use tokio::time::{self, Instant};
use tracing::info;

use crate::buckets::{BRIEF, Buckets, LONG};
use crate::catalog;
use crate::catch_up;
use crate::cli::{Wal, WalFetch};
use crate::config::Config;
use crate::control_file;
use crate::error::Failure;
use crate::layout::Layout;
use crate::output;
use crate::restore::TablespaceGuard;
use crate::seal::Identity;
use crate::wal_archive::WalArchive;
use crate::wal_file::NotThisFile;

/// Between two tries of a fetch that no bucket answered.
const ASK_EVERY: Duration = Duration::from_secs(1);

pub(super) async fn run(config: &Config, command: Wal) -> Result<(), Failure> {
    match command {
        Wal::Push { path } => push(config, &path).await,
        Wal::Fetch(args) => match fetch(config, &args).await {
            Err(why) if args.recovery => Err(why.stops_recovery()),
            fetched => fetched,
        },
        Wal::CatchUp { system_id } => catch_up(config, system_id).await,
    }
}

async fn push(config: &Config, path: &Path) -> Result<(), Failure> {
    let system_id = control_file::system_id(&control_file::data_directory(config))?;
    let buckets = Buckets::new(config, BRIEF).await;
    WalArchive::new(config, &buckets, system_id)
        .push(path)
        .await
}

async fn fetch(config: &Config, args: &WalFetch) -> Result<(), Failure> {
    let name: WalFileName = args.name.parse().map_err(|why| Failure::NotThisFile {
        name: args.name.clone(),
        why: NotThisFile::Name(why),
    })?;
    let identity = config.identity()?;
    let data_directory = control_file::data_directory(config);
    let system_id = control_file::system_id(&data_directory)?;
    let buckets = Buckets::new(config, BRIEF)
        .await
        .only(args.from.as_deref())?;
    let archive = WalArchive::new(config, &buckets, system_id);
    let retry_for = Duration::from_secs(args.retry_timeout_secs);
    let content = fetch_patiently(&archive, &identity, name, retry_for).await?;
    if matches!(name, WalFileName::Segment(_)) {
        let mut guard = TablespaceGuard::new(&data_directory);
        guard.push(&content);
        guard.finish(&args.name)?;
    }
    write_whole(&args.path, &content)?;
    info!(file = %name, "log file fetched");
    Ok(())
}

async fn fetch_patiently(
    archive: &WalArchive<'_>,
    identity: &Identity,
    name: WalFileName,
    patience: Duration,
) -> Result<Vec<u8>, Failure> {
    let until = Instant::now() + patience;
    loop {
        match archive.fetch(identity, name).await {
            Err(Failure::Unreachable { answered: 0, .. }) if Instant::now() + ASK_EVERY < until => {
                time::sleep(ASK_EVERY).await;
            }
            fetched => return fetched,
        }
    }
}

/// Puts the file in place at once and whole: PostgreSQL may read it after a crash of this host.
fn write_whole(path: &Path, content: &[u8]) -> Result<(), Failure> {
    let directory = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    let failed = |it| Failure::io("write", path)(it);
    let mut file = tempfile::NamedTempFile::new_in(directory).map_err(failed)?;
    file.write_all(content).map_err(failed)?;
    file.as_file().sync_all().map_err(failed)?;
    file.persist(path).map_err(|it| failed(it.error))?;
    let synced = std::fs::File::open(directory).and_then(|it| it.sync_all());
    synced.map_err(failed)
}

async fn catch_up(config: &Config, system_id: Option<u64>) -> Result<(), Failure> {
    let buckets = Buckets::new(config, LONG).await;
    let system_id = catalog::system_id(config, &buckets, system_id).await?;
    let layout = Layout::new(&config.cluster, system_id);
    let compared = catch_up::compare(&buckets, &layout).await?;
    output::line(&format!(
        "{} log files brought, {} lacking, {} buckets silent",
        compared.brought, compared.lacking, compared.silent
    ));
    if compared.lacking == 0 && compared.silent == 0 {
        return Ok(());
    }
    Err(Failure::TooFewBuckets {
        what: "the log".to_owned(),
        stored: buckets.all().len() - compared.silent.max(1),
        required: buckets.all().len(),
        last: None,
    })
}

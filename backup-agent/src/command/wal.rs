//! `backup-agent wal`: the commands that PostgreSQL runs for each WAL file.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use causeway_core::Timeline;
use causeway_core::lsn::WalFileName;
use causeway_runtime::retry::RetryPolicy;
use causeway_runtime::telemetry::chain;
use tracing::{info, warn};

use crate::archive::backfill::background;
use crate::archive::backfill::compare::{CompareScope, compare};
use crate::archive::backfill::fill::drain_once;
use crate::archive::backfill::stats::BackfillStats;
use crate::archive::fetch_request::FetchMode;
use crate::archive::fetch_request::FetchRequest;
use crate::archive::push::EACH_BUCKET;
use crate::archive::wal_archive::WalArchive;
use crate::archive::wal_file;
use crate::archive::wal_header::WalFileError;
use crate::cli::{WalBackfillArgs, WalCommand, WalFetchArgs};
use crate::config::Config;
use crate::control_file;
use crate::control_file::ControlFileData;
use crate::display;
use crate::encryption::keys::Identity;
use crate::error::Error;
use crate::output;
use crate::restore::tablespace_guard::TablespaceGuard;
use crate::storage::bucket::Bucket;
use crate::storage::buckets::{BRIEF, Buckets, LONG};
use crate::storage::call_limits::CallLimits;
use crate::storage::catalog;
use crate::storage::object_keys::ObjectKeys;

/// Backoff of a restored standby while a bucket does not respond.
const SILENCE_POLICY: RetryPolicy = RetryPolicy {
    initial_backoff: Duration::from_secs(1),
    max_backoff: Duration::from_secs(15),
};

/// Default time for which a recovery retries failing buckets before it is stopped.
const RECOVERY_RETRY_SECS: u64 = 300;

pub(super) async fn run(config: &Config, command: WalCommand) -> Result<(), Error> {
    match command {
        WalCommand::Push { path } => push(config, &path).await,
        WalCommand::Fetch(args) => match fetch(config, &args).await {
            Err(why) if args.recovery => Err(why.stops_recovery()),
            fetched => fetched,
        },
        WalCommand::Backfill(args) => backfill(config, &args).await,
    }
}

async fn push(config: &Config, path: &Path) -> Result<(), Error> {
    let system_id = control_file::system_id(&control_file::data_directory(config))?;
    let buckets = Buckets::new(config, BRIEF).await;
    let archive = WalArchive::new(config, &buckets, system_id);
    let pushed = archive.push(path).await;
    if let Err(Error::Conflict { bucket, .. }) = &pushed {
        record_conflict(&buckets, bucket);
    }
    background::start_in_background(config, &buckets);
    pushed
}

/// Records that a file conflicts with an object in `bucket`, or in every bucket if it is named `each`.
fn record_conflict(buckets: &Buckets, bucket: &str) {
    let names = buckets.all().iter().map(Bucket::name);
    for name in names.filter(|name| *name == bucket || bucket == EACH_BUCKET) {
        buckets.health().record_conflict(name);
    }
}

async fn fetch(config: &Config, args: &WalFetchArgs) -> Result<(), Error> {
    let (name, slot) = file_and_slot(&args.name)?;
    let identity = config.identity()?;
    let data_directory = control_file::data_directory(config);
    let control = ControlFileData::read(&data_directory)?;
    let is_restoring = |restored_on: Timeline| control.timeline <= restored_on.get();
    let (mode, limits, usual) = if args.recovery {
        (FetchMode::Recovery, LONG, RECOVERY_RETRY_SECS)
    } else if args.restored_on.is_some_and(is_restoring) {
        (FetchMode::RestoredStandby, BRIEF, 0)
    } else {
        (FetchMode::Standby, BRIEF, 0)
    };
    let retry_timeout = Duration::from_secs(args.retry_timeout_secs.unwrap_or(usual));
    let limits = CallLimits {
        retry: if args.recovery {
            retry_timeout
        } else {
            limits.retry
        },
        ..limits
    };
    let buckets = Buckets::new(config, limits)
        .await
        .only(args.from.as_deref())?;
    let archive = WalArchive::new(config, &buckets, control.system_id);
    let request = FetchRequest {
        name,
        slot,
        path: args.path.clone(),
        mode,
        target_timeline: args.target_timeline,
        known_end: args.known_end,
        retry_timeout,
    };
    let inspect = |file: &Path| guard_tablespaces(&data_directory, &args.name, file);
    let fetched = match mode {
        FetchMode::RestoredStandby => wait_and_fetch(&archive, &identity, &request, inspect).await,
        FetchMode::Standby | FetchMode::Recovery => {
            archive.fetch(&identity, &request, inspect).await
        }
    };
    fetched?;
    info!(file = %args.name, "WAL file fetched");
    Ok(())
}

/// Fetches a file for a standby that was restored, and waits for as long as a bucket does not respond. No exit code tells
/// PostgreSQL to try again: one up to 125 ends a recovery that is being promoted, and a higher one stops the server.
async fn wait_and_fetch(
    archive: &WalArchive<'_>,
    identity: &Identity,
    request: &FetchRequest,
    inspect: impl Fn(&Path) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut backoff = SILENCE_POLICY.backoff();
    loop {
        match archive.fetch(identity, request, &inspect).await {
            Err(why) if why.is_silence() => {
                let error = chain(&why);
                warn!(file = %request.name, error, "waiting for a bucket, which may have the file");
                backoff.pause().await;
            }
            fetched => return fetched,
        }
    }
}

/// Refuses a segment that would make PostgreSQL write into another server's tablespace.
fn guard_tablespaces(data_directory: &Path, name: &str, file: &Path) -> Result<(), Error> {
    let mut guard = TablespaceGuard::new(data_directory);
    let read = wal_file::read_each(file, |bytes| guard.push(bytes));
    read.map_err(Error::io("read", file))?;
    guard.finish(name)
}

/// Parses the name of a WAL file with its slot, if several files may have one name: `X.partial.1`
/// is the second `X.partial`.
fn file_and_slot(text: &str) -> Result<(WalFileName, u32), Error> {
    let slotted = text.rsplit_once('.').and_then(|(name, slot)| {
        let name: WalFileName = name.parse().ok()?;
        let has_slots = matches!(name, WalFileName::Partial(_) | WalFileName::BackupLabel(..));
        let slot = slot.parse().ok().filter(|slot| has_slots && *slot > 0)?;
        Some((name, slot))
    });
    if let Some(slotted) = slotted {
        return Ok(slotted);
    }
    let name = text.parse().map_err(|why| Error::WalFileRejected {
        name: text.to_owned(),
        why: WalFileError::Name(why),
    })?;
    Ok((name, 0))
}

async fn backfill(config: &Config, args: &WalBackfillArgs) -> Result<(), Error> {
    let buckets = Buckets::new(config, LONG).await;
    if args.background {
        return background::run_in_background(config, &buckets, args.system_id).await;
    }
    let system_id = catalog::system_id(config, &buckets, args.system_id).await?;
    let object_keys = ObjectKeys::new(&config.cluster, system_id);
    let scope = if args.all {
        CompareScope::Everything
    } else {
        CompareScope::Missing
    };
    let identity = config.identity_if_set()?;
    let drained = drain_once(&buckets, identity.as_ref()).await;
    let compared = compare(&buckets, &object_keys, identity.as_ref(), scope).await?;
    report(&buckets, &drained, &compared)
}

/// Prints the number of objects copied to each bucket, and fails if one still lacks an object.
fn report(
    buckets: &Buckets,
    drained: &BackfillStats,
    compared: &BackfillStats,
) -> Result<(), Error> {
    let health = buckets.health().report();
    let mut failed = Vec::new();
    for (name, stats) in &compared.buckets {
        // A bucket without recorded objects is not among the drained ones.
        let before = drained.buckets.get(name);
        let copied = before.map_or(0, |before| before.copied) + stats.copied;
        let lacking = stats.lacking.max(before.map_or(0, |before| before.lacking));
        let mut unresolved = before.map_or_else(BTreeMap::new, |before| before.unresolved.clone());
        unresolved.extend(stats.unresolved.clone());
        let lacking = lacking + unresolved.len();
        let since = health
            .buckets
            .get(name)
            .and_then(|bucket| bucket.lacking_since);
        let since = since.map_or_else(String::new, |since| {
            format!(" since {}", display::seconds(since))
        });
        let older = match stats.older {
            0 => String::new(),
            older => {
                format!(", {older} older than its backups omitted as expired (`--all` copies them)")
            }
        };
        let text = format!("{name}: {copied} objects copied, {lacking} lacking{since}{older}");
        output::line(&text);
        for why in unresolved.values() {
            output::line(&format!("{name}: {why}"));
        }
        if stats.has_no_backup {
            failed.push(format!(
                "`{name}` every backup, though another bucket has one: `wal backfill --all` copies everything to it"
            ));
        }
        if lacking > 0 {
            failed.push(format!(
                "`{name}` {lacking}{since}{}",
                list_names(&unresolved)
            ));
        }
    }
    if !health.known_gaps.is_empty() {
        let gaps: Vec<_> = health.known_gaps.iter().map(String::as_str).collect();
        output::line(&format!("lost before a fork: {}", gaps.join(", ")));
        failed.push(format!("every bucket {}", gaps.join(", ")));
    }
    if failed.is_empty() {
        return Ok(());
    }
    Err(Error::Lacking(failed.join("; ")))
}

/// Returns the first unresolved object, for an error: standard output lists all of them.
fn list_names(unresolved: &BTreeMap<String, String>) -> String {
    let Some(first) = unresolved.values().next() else {
        return String::new();
    };
    match unresolved.len() - 1 {
        0 => format!(" ({first})"),
        more => format!(" ({first}; and {more} more)"),
    }
}

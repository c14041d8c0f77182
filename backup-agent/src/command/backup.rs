//! `backup-agent backup`.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use causeway_core::backup::manifest::DamagedFile;
use causeway_runtime::byte_size;
use causeway_runtime::shutdown::Tasks;
use causeway_runtime::telemetry::chain;
use serde::Serialize;
use tracing::warn;

use crate::archive::measure::record_listing;
use crate::archive::overview::WalOverview;
use crate::archive::reach::GapText;
use crate::archive::wal_archive::WalArchive;
use crate::base_backup;
use crate::base_backup::BackupRequest;
use crate::cli;
use crate::config::Config;
use crate::control_file;
use crate::error::Error;
use crate::output;
use crate::storage::buckets::{Buckets, LONG};
use crate::storage::catalog;

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct BackupOutput<'a> {
    format: u32,
    backup: super::list::BackupEntry,
    pages_checked: bool,
    damaged: &'a [DamagedFile],
    accepted_and_undamaged: &'a [String],
    left_out: &'a [String],
    wal_gaps: &'a [String],
    wal_not_compared: &'a [String],
}

/// Result of checking the WAL of older backups.
#[derive(Debug, Default)]
struct OlderWal {
    /// Gaps in all buckets together.
    gaps: Vec<String>,
    /// WAL that could not be checked, and why.
    not_compared: Vec<String>,
}

pub(super) async fn run(config: &Config, args: &cli::BackupArgs) -> Result<(), Error> {
    let tasks = Tasks::new();
    let buckets = Buckets::new(config, LONG).await;
    let request = BackupRequest {
        label: args.label.clone(),
        checkpoint: args.checkpoint,
        accepted: args.accept_damaged.clone(),
    };
    let began = Instant::now();
    let made = base_backup::make(config, &buckets, &request, &tasks).await;
    tasks.stop(Duration::from_secs(1)).await;
    let made = made.inspect_err(|_| buckets.health().record_backup_failed())?;
    let health = buckets.health();
    health.record_backup(began.elapsed(), made.summary.stored_bytes);
    let older = older_wal(config, &buckets).await.unwrap_or_else(|error| {
        let why = chain(&error);
        warn!(error = why, "WAL of older backups not compared");
        OlderWal {
            not_compared: vec![why],
            ..OlderWal::default()
        }
    });
    print(args, &made, &older)?;
    if older.gaps.is_empty() {
        return Ok(());
    }
    Err(Error::OlderWalGap(older.gaps.join("; ")))
}

/// Searches for gaps in the WAL that follows each backup: no other command does so every night. A
/// gap in a single bucket is not reported, because the backfill may be filling it; nor is a gap
/// while a bucket does not respond, because that bucket may have the segment.
async fn older_wal(config: &Config, buckets: &Buckets) -> Result<OlderWal, Error> {
    let system_id = control_file::system_id(&config.postgres.data_directory)?;
    let archive = WalArchive::new(config, buckets, system_id);
    let catalog = catalog::list(buckets, archive.object_keys()).await?;
    let identity = config.identity_if_set()?;
    let backups = catalog.summaries();
    let overview = WalOverview::new(&archive, buckets, identity.as_ref(), &backups).await?;
    record_listing(buckets, &catalog, overview.as_ref());
    let gaps = catalog.backups.iter().flat_map(|entry| {
        let found = overview.iter();
        found.flat_map(|overview| overview.gaps(&entry.summary, &[]))
    });
    let texts = gaps.map(|(place, gap)| format!("{} in {place}", GapText(gap)));
    let texts: BTreeSet<String> = texts.collect();
    let silent = catalog.silent.iter();
    let silent: BTreeSet<&String> = silent
        .chain(overview.iter().flat_map(WalOverview::silent))
        .collect();
    if silent.is_empty() {
        return Ok(OlderWal {
            gaps: texts.into_iter().collect(),
            not_compared: Vec::new(),
        });
    }
    let silent = silent.into_iter();
    let silent = silent.map(|name| format!("bucket `{name}` did not respond"));
    Ok(OlderWal {
        gaps: Vec::new(),
        not_compared: silent.chain(texts).collect(),
    })
}

fn print(
    args: &cli::BackupArgs,
    made: &base_backup::CompletedBackup,
    older: &OlderWal,
) -> Result<(), Error> {
    if args.json {
        return output::json(&BackupOutput {
            format: 1,
            backup: super::list::BackupEntry::new(&made.summary, &made.buckets),
            pages_checked: made.pages_checked,
            damaged: &made.damaged,
            accepted_and_undamaged: &made.undamaged,
            left_out: &made.left_out,
            wal_gaps: &older.gaps,
            wal_not_compared: &older.not_compared,
        });
    }
    let summary = &made.summary;
    output::line(&format!(
        "backup {} made: {} in {}, WAL from {} to {}, stored in {}",
        summary.id,
        byte_size::format(summary.raw_bytes),
        byte_size::format(summary.stored_bytes),
        summary.start_lsn,
        summary.stop_lsn,
        made.buckets.join(" and "),
    ));
    for file in &made.damaged {
        let pages = file.pages();
        output::line(&format!(
            "DAMAGED: {pages} pages of {}, as accepted",
            file.path
        ));
    }
    for file in &made.undamaged {
        output::line(&format!("no page of {file} is damaged"));
    }
    if !made.pages_checked {
        output::line("pages were not checked: the server has no checksums");
    }
    if !made.left_out.is_empty() {
        let left_out = made.left_out.join(" and ");
        output::line(&format!("NOT stored in {left_out}, which failed meanwhile"));
    }
    for text in &older.not_compared {
        output::line(&format!("WAL of older backups NOT COMPARED: {text}"));
    }
    Ok(())
}

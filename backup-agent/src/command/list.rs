//! `backup-agent list`. Without an identity it shows only the metadata.

use std::collections::BTreeSet;
use std::sync::Arc;

use causeway_core::backup::BackupSummary;
use causeway_runtime::byte_size;
use causeway_runtime::telemetry::chain;
use serde::Serialize;

use crate::archive::measure::record_listing;
use crate::archive::overview::WalOverview;
use crate::archive::reach;
use crate::archive::reach::KnownReach;
use crate::archive::wal_archive::WalArchive;
use crate::cli;
use crate::config::Config;
use crate::display;
use crate::encryption::keys::Identity;
use crate::error::Error;
use crate::output;
use crate::storage::buckets::{BRIEF, Buckets};
use crate::storage::catalog;
use crate::storage::catalog::{Catalog, CatalogEntry, ManifestDepth};

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct ListOutput {
    format: u32,
    cluster: String,
    system_id: String,
    backups: Vec<BackupWithReach>,
    unreadable: Vec<UnreadableOutput>,
    silent_buckets: BTreeSet<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct BackupWithReach {
    #[serde(flatten)]
    backup: BackupEntry,
    reach: Option<reach::ReachOutput>,
}

/// Copy of a backup whose manifest cannot be read.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct UnreadableOutput {
    id: String,
    bucket: String,
    why: String,
}

impl UnreadableOutput {
    fn new(found: &catalog::UnreadableBackup) -> Self {
        Self {
            id: found.id.to_string(),
            bucket: found.bucket.clone(),
            why: chain(&found.why),
        }
    }
}

/// Backup in the JSON output.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct BackupEntry {
    id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    label: Option<String>,
    timeline: u32,
    start_lsn: String,
    stop_lsn: String,
    started_at: String,
    stopped_at: String,
    raw_bytes: u64,
    stored_bytes: u64,
    damaged_pages: u64,
    buckets: Vec<String>,
}

impl BackupEntry {
    pub(super) fn new(summary: &BackupSummary, buckets: &[String]) -> Self {
        Self {
            id: summary.id.to_string(),
            label: None,
            timeline: summary.timeline.get(),
            start_lsn: summary.start_lsn.to_string(),
            stop_lsn: summary.stop_lsn.to_string(),
            started_at: display::timestamp(summary.started_at),
            stopped_at: display::timestamp(summary.stopped_at),
            raw_bytes: summary.raw_bytes,
            stored_bytes: summary.stored_bytes,
            damaged_pages: summary.damaged_pages,
            buckets: buckets.to_vec(),
        }
    }
}

pub(super) async fn run(config: &Config, args: &cli::ListArgs) -> Result<(), Error> {
    let buckets = Buckets::new(config, BRIEF).await;
    let system_id = catalog::system_id(config, &buckets, args.system_id).await?;
    let archive = WalArchive::new(config, &buckets, system_id);
    let catalog = catalog::list(&buckets, archive.object_keys()).await?;
    let identity = config.identity_if_set()?.map(Arc::new);
    let summaries = catalog.summaries();
    let overview = WalOverview::new(&archive, &buckets, identity.as_deref(), &summaries).await?;
    record_listing(&buckets, &catalog, overview.as_ref());
    let mut backups = Vec::new();
    for entry in &catalog.backups {
        let reach = overview
            .as_ref()
            .and_then(|overview| overview.reach(&entry.summary));
        let mut backup = BackupEntry::new(&entry.summary, &entry.buckets);
        if let Some(identity) = &identity {
            backup.label = Some(label(&archive, &buckets, identity, entry).await);
        }
        backups.push((backup, reach));
    }
    // The content of a bucket that did not list its WAL is unknown as well.
    let of_wal = overview.iter().flat_map(WalOverview::silent).cloned();
    let silent: BTreeSet<String> = catalog.silent.iter().cloned().chain(of_wal).collect();
    if args.json {
        output::json(&ListOutput {
            format: 1,
            cluster: config.cluster.to_string(),
            system_id: system_id.to_string(),
            backups: backups
                .into_iter()
                .map(|(backup, reach)| BackupWithReach {
                    backup,
                    reach: reach.map(|reach| reach.output()),
                })
                .collect(),
            unreadable: catalog
                .unreadable
                .iter()
                .map(UnreadableOutput::new)
                .collect(),
            silent_buckets: silent,
        })?;
    } else {
        print(&backups, &catalog, &silent);
    }
    catalog.refuse_all_unreadable()
}

/// Returns the label of a backup. A manifest that cannot be decrypted does not hide the others.
async fn label(
    archive: &WalArchive<'_>,
    buckets: &Buckets,
    identity: &Arc<Identity>,
    entry: &CatalogEntry,
) -> String {
    let summary = &entry.summary;
    match catalog::manifest(
        buckets,
        archive.object_keys(),
        identity,
        summary,
        ManifestDepth::Head,
    )
    .await
    {
        Ok(manifest) => manifest.label,
        Err(why) => {
            output::print_error(&chain(&why), why.hint());
            "(manifest cannot be decrypted)".to_owned()
        }
    }
}

fn print(
    backups: &[(BackupEntry, Option<KnownReach>)],
    catalog: &Catalog,
    silent: &BTreeSet<String>,
) {
    if backups.is_empty() {
        output::line("no backups");
    }
    for (backup, reach) in backups {
        let damaged = match backup.damaged_pages {
            0 => String::new(),
            pages => format!("  {pages} DAMAGED PAGES"),
        };
        output::line(&format!(
            "{}  {}  timeline {}  {} to {}  ended {}  {} in {}  {}{damaged}",
            backup.id,
            backup.label.as_deref().unwrap_or("(label encrypted)"),
            backup.timeline,
            backup.start_lsn,
            backup.stop_lsn,
            backup.stopped_at,
            byte_size::format(backup.raw_bytes),
            byte_size::format(backup.stored_bytes),
            backup.buckets.join(", "),
        ));
        if let Some(reach) = reach {
            output::line(&format!("    {reach}"));
        }
    }
    for UnreadableOutput { id, bucket, why } in catalog.unreadable.iter().map(UnreadableOutput::new)
    {
        output::line(&format!("{id}  UNREADABLE in {bucket}: {why}"));
    }
    for bucket in silent {
        output::line(&format!("bucket `{bucket}` DID NOT RESPOND"));
    }
}

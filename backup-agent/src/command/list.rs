//! `backup-agent list`. It needs no identity, and shows what was written beside the seal.

use ha_core::backup::Summary;
use serde::Serialize;

use crate::buckets::{BRIEF, Buckets};
use crate::catalog;
use crate::cli;
use crate::config::Config;
use crate::error::Failure;
use crate::layout::Layout;
use crate::output;

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Listed {
    format: u32,
    cluster: String,
    system_id: String,
    backups: Vec<Backup>,
}

/// One backup, as scripts see it.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Backup {
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
    buckets: Vec<String>,
}

impl Backup {
    pub(super) fn new(summary: &Summary, buckets: &[String]) -> Self {
        Self {
            id: summary.id.to_string(),
            label: None,
            timeline: summary.timeline.get(),
            start_lsn: summary.start_lsn.to_string(),
            stop_lsn: summary.stop_lsn.to_string(),
            started_at: output::timestamp(summary.started_at),
            stopped_at: output::timestamp(summary.stopped_at),
            raw_bytes: summary.raw_bytes,
            stored_bytes: summary.stored_bytes,
            buckets: buckets.to_vec(),
        }
    }
}

pub(super) async fn run(config: &Config, args: &cli::List) -> Result<(), Failure> {
    let buckets = Buckets::new(config, BRIEF).await;
    let system_id = catalog::system_id(config, &buckets, args.system_id).await?;
    let layout = Layout::new(&config.cluster, system_id);
    let entries = catalog::list(&buckets, &layout).await?;
    let mut backups: Vec<Backup> = entries
        .iter()
        .map(|it| Backup::new(&it.summary, &it.buckets))
        .collect();
    if config.has_identity() {
        let identity = config.identity()?;
        for (backup, entry) in backups.iter_mut().zip(&entries) {
            let id = &entry.summary.id;
            let (manifest, _) = catalog::manifest(&buckets, &layout, &identity, id).await?;
            backup.label = Some(manifest.label);
        }
    }
    if args.json {
        return output::json(&Listed {
            format: 1,
            cluster: config.cluster.to_string(),
            system_id: system_id.to_string(),
            backups,
        });
    }
    if backups.is_empty() {
        output::line("no backups");
    }
    for it in backups {
        output::line(&format!(
            "{}  {}  timeline {}  {} to {}  ended {}  {} in {}  {}",
            it.id,
            it.label.as_deref().unwrap_or("(label sealed)"),
            it.timeline,
            it.start_lsn,
            it.stop_lsn,
            it.stopped_at,
            output::bytes(it.raw_bytes),
            output::bytes(it.stored_bytes),
            it.buckets.join(", "),
        ));
    }
    Ok(())
}

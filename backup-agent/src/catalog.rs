//! Which backups there are, as the buckets say it.

use std::collections::BTreeMap;

use ha_core::backup::manifest::lines::LineError;
use ha_core::backup::manifest::{File, ManifestReader};
use ha_core::backup::{BackupId, Manifest, Summary};
use ha_runtime::telemetry::chain;
use tracing::warn;

use crate::base_backup::Clear;
use crate::buckets::Buckets;
use crate::config::Config;
use crate::error::Failure;
use crate::layout::Layout;
use crate::object_store::{Bucket, ErrorKind};
use crate::seal::{self, Damaged, Identity};

/// The manifest of a backup of some terabytes.
const LARGEST_MANIFEST: u64 = 1 << 30;

/// A backup, and the buckets that hold it.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// What its manifest lets everybody read.
    pub(crate) summary: Summary,
    /// The names of the buckets.
    pub(crate) buckets: Vec<String>,
}

/// Returns the identifier of the only PostgreSQL cluster stored under the cluster's name, or `asked`.
pub(crate) async fn system_id(
    config: &Config,
    buckets: &Buckets,
    asked: Option<u64>,
) -> Result<u64, Failure> {
    if let Some(asked) = asked {
        return Ok(asked);
    }
    let prefix = Layout::clusters(&config.cluster);
    let lists = buckets.folders(&prefix).await?;
    let names = lists.into_iter().flat_map(|(_, names)| names);
    let mut found: Vec<u64> = names.filter_map(|it| it.parse().ok()).collect();
    found.sort_unstable();
    found.dedup();
    match found.as_slice() {
        [only] => Ok(*only),
        [] => Err(Failure::Refused(format!(
            "nothing is stored for cluster `{}`",
            config.cluster
        ))),
        several => Err(Failure::Refused(format!(
            "{} PostgreSQL clusters are stored as `{}`: choose one with `--system-id`: {}",
            several.len(),
            config.cluster,
            several
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(", ")
        ))),
    }
}

/// Returns every backup that a bucket which answers holds, the oldest first.
pub(crate) async fn list(buckets: &Buckets, layout: &Layout) -> Result<Vec<Entry>, Failure> {
    let prefix = layout.backups();
    let lists = buckets.folders(&prefix).await?;
    let mut entries: BTreeMap<BackupId, Entry> = BTreeMap::new();
    for (bucket, names) in lists {
        for id in names.iter().filter_map(|it| it.parse().ok()) {
            let Some(summary) = summary(bucket, layout, &id).await? else {
                continue;
            };
            let entry = entries.entry(id).or_insert_with(|| Entry {
                summary,
                buckets: Vec::new(),
            });
            entry.buckets.push(bucket.name().to_owned());
        }
    }
    Ok(entries.into_values().collect())
}

/// Returns the summary of a backup, or nothing if it has no manifest: then it was cut short.
async fn summary(
    bucket: &Bucket,
    layout: &Layout,
    id: &BackupId,
) -> Result<Option<Summary>, Failure> {
    let key = layout.manifest(id);
    let header = match bucket.header(&key).await {
        Ok(header) => header,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => {
            warn!(error = %chain(&error), "a manifest is left out");
            return Ok(None);
        }
    };
    let clear = header.clear::<Clear>().map_err(Failure::damaged(&key))?;
    if clear.summary.id != *id {
        let why = Damaged::Content(format!("it is of backup `{}`", clear.summary.id));
        return Err(Failure::damaged(&key)(why));
    }
    Ok(Some(clear.summary))
}

/// Opens the manifest of a backup and its files, and checks what a restore relies on.
pub(crate) async fn manifest(
    buckets: &Buckets,
    layout: &Layout,
    identity: &Identity,
    id: &BackupId,
) -> Result<(Manifest, Vec<File>), Failure> {
    let key = layout.manifest(id);
    let open = |sealed: &[u8]| {
        let (clear, content) = seal::open::<Clear>(identity, &key, sealed, LARGEST_MANIFEST)?;
        let of_content = |it: LineError| Damaged::Content(chain(&it));
        let reader = ManifestReader::open(content.as_slice()).map_err(of_content)?;
        let manifest = reader.head().clone();
        if manifest.summary != clear.summary {
            let text = "its clear part says something else than its sealed part";
            return Err(Damaged::Content(text.to_owned()));
        }
        let files = reader.collect::<Result<_, _>>().map_err(of_content)?;
        Ok((manifest, files))
    };
    buckets.fetch(&key, open).await
}

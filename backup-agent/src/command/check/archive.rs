//! Checks of the cluster's objects in each bucket. The content of an unresponsive bucket is
//! unknown, and a check that could not read it fails.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use causeway_core::Timeline;
use causeway_core::backup::manifest::Pack;
use causeway_core::backup::{BackupId, Manifest};
use causeway_runtime::telemetry::chain;

use crate::archive::backfill::pack_tally::{PackTally, pack_number};
use crate::archive::listed_segments::written_timelines;
use crate::archive::measure::record_listing;
use crate::archive::overview::WalOverview;
use crate::archive::reach::GapText;
use crate::archive::wal_archive::WalArchive;
use crate::command::check::outcome::CheckOutcome;
use crate::config::Config;
use crate::control_file;
use crate::encryption::keys::Identity;
use crate::error::Error;
use crate::storage::bucket::Bucket;
use crate::storage::buckets::Buckets;
use crate::storage::catalog;
use crate::storage::catalog::{Catalog, CatalogEntry, ManifestDepth};
use crate::storage::object_keys::ObjectKeys;
use crate::storage::store_error::StoreError;

/// Checks for unreadable backups, backups that a bucket lacks in whole or in part, and gaps in the
/// WAL that follows them.
pub(super) async fn checks(config: &Config, buckets: &Buckets) -> Vec<CheckOutcome> {
    let looked = match control_file::system_id(&config.postgres.data_directory) {
        Ok(system_id) => {
            let prefix = check_prefix(config, buckets, system_id).await;
            let stored = check_stored_backups(config, buckets, system_id).await;
            stored.map(|mut checks| {
                checks.insert(0, prefix);
                checks
            })
        }
        Err(error) => Err(error),
    };
    match looked {
        Ok(checks) => checks,
        Err(error) => vec![CheckOutcome::new("archive", Err(chain(&error)))],
    }
}

/// Checks that no bucket holds a database under the cluster's name: a new one would archive beside it.
pub(super) async fn check_name_unused(config: &Config, buckets: &Buckets) -> CheckOutcome {
    let prefix = ObjectKeys::cluster_prefix(&config.cluster);
    let mut wrong = Vec::new();
    for bucket in buckets.all() {
        match bucket.folders(&prefix).await {
            Ok(folders) => {
                let stored: Vec<u64> = folders
                    .iter()
                    .filter_map(|folder| folder.parse().ok())
                    .collect();
                if !stored.is_empty() {
                    wrong.push(format!(
                        "bucket `{}` holds the database with system identifier {}: restore it, or choose another \
                         `cluster` for a new one",
                        bucket.name(),
                        joined(&stored)
                    ));
                }
            }
            Err(error) => wrong.push(chain(&error)),
        }
    }
    CheckOutcome::of(format!("`{prefix}` unused"), &wrong)
}

/// Checks that the cluster's prefix holds objects of this data directory, if it holds any. Those of another system
/// identifier are expected beside them after an upgrade or a replaced database, and alone after a mistake.
async fn check_prefix(config: &Config, buckets: &Buckets, system_id: u64) -> CheckOutcome {
    let prefix = ObjectKeys::cluster_prefix(&config.cluster);
    let name = format!("system identifiers below `{prefix}`");
    let mut wrong = Vec::new();
    let mut others = BTreeSet::new();
    for bucket in buckets.all() {
        let folders = match bucket.folders(&prefix).await {
            Ok(folders) => folders,
            Err(error) => {
                wrong.push(chain(&error));
                continue;
            }
        };
        let stored = folders.iter().filter_map(|folder| folder.parse().ok());
        let stored: BTreeSet<u64> = stored.collect();
        let foreign: Vec<u64> = stored
            .iter()
            .copied()
            .filter(|id| *id != system_id)
            .collect();
        let is_foreign = !foreign.is_empty() && !stored.contains(&system_id);
        buckets.health().record_foreign(bucket.name(), is_foreign);
        if is_foreign {
            wrong.push(format!(
                "bucket `{}` holds objects of system identifier {}, and none of {system_id}, that of `{}`: check \
                 `cluster`, `[[buckets]]` and `[postgres] data-directory`; after an upgrade or for a new database, take \
                 a first backup",
                bucket.name(),
                joined(&foreign),
                config.postgres.data_directory.display()
            ));
        }
        others.extend(foreign);
    }
    if !wrong.is_empty() || others.is_empty() {
        return CheckOutcome::of(name, &wrong);
    }
    let others = joined(&others.into_iter().collect::<Vec<_>>());
    let note = format!(
        "also {others}: of this cluster before an upgrade or a restore; otherwise two clusters have the same `cluster`, \
         and one must change it"
    );
    CheckOutcome::noted(name, note)
}

fn joined(ids: &[u64]) -> String {
    let texts: Vec<_> = ids.iter().map(ToString::to_string).collect();
    texts.join(", ")
}

async fn check_stored_backups(
    config: &Config,
    buckets: &Buckets,
    system_id: u64,
) -> Result<Vec<CheckOutcome>, Error> {
    let archive = WalArchive::new(config, buckets, system_id);
    let stored = StoredBackups {
        buckets,
        catalog: catalog::list(buckets, archive.object_keys()).await?,
        // An unreadable identity is reported by a check of its own.
        identity: config.identity_if_set().ok().flatten().map(Arc::new),
        archive,
    };
    let summaries = stored.catalog.summaries();
    let identity = stored.identity.as_deref();
    let overview = WalOverview::new(&stored.archive, buckets, identity, &summaries).await?;
    record_listing(buckets, &stored.catalog, overview.as_ref());
    let newest = stored.newest_manifest().await;
    let manifests = stored.manifests(newest.as_ref());
    let manifest = newest.and_then(Result::ok);
    Ok(vec![
        manifests,
        stored.check_copies(),
        stored.packs(manifest.as_ref()).await,
        stored.check_branch(overview.as_ref()),
        stored.gaps(overview.as_ref()),
        stored.histories().await?,
    ])
}

/// Objects stored for the cluster.
struct StoredBackups<'a> {
    buckets: &'a Buckets,
    archive: WalArchive<'a>,
    catalog: Catalog,
    identity: Option<Arc<Identity>>,
}

/// Packs of one backup that any bucket lists, with the largest length of each.
type ListedPacks = BTreeMap<u32, u64>;

impl StoredBackups<'_> {
    /// Returns the failures due to unresponsive buckets.
    fn silent_buckets(&self) -> Vec<String> {
        let names = self.catalog.silent.iter();
        names
            .map(|name| format!("bucket `{name}` did not list its backups"))
            .collect()
    }

    /// Decrypts the newest manifest, if there are a backup and an identity.
    async fn newest_manifest(&self) -> Option<Result<Manifest, Error>> {
        let newest = self.catalog.backups.last()?;
        let identity = self.identity.as_ref()?;
        let summary = &newest.summary;
        let object_keys = self.archive.object_keys();
        Some(
            catalog::manifest(
                self.buckets,
                object_keys,
                identity,
                summary,
                ManifestDepth::Files,
            )
            .await,
        )
    }

    fn manifests(&self, newest: Option<&Result<Manifest, Error>>) -> CheckOutcome {
        let mut wrong = self.silent_buckets();
        wrong.extend(self.catalog.unreadable.iter().map(|backup| {
            let why = chain(&backup.why);
            format!("backup {} in bucket `{}`: {why}", backup.id, backup.bucket)
        }));
        if let (Some(Err(why)), Some(entry)) = (newest, self.catalog.backups.last()) {
            wrong.push(format!("backup {}: {}", entry.summary.id, chain(why)));
        }
        CheckOutcome::of("manifests", &wrong)
    }

    /// Checks that each bucket has the newest backup.
    fn check_copies(&self) -> CheckOutcome {
        let mut wrong = self.silent_buckets();
        let holds =
            |entry: &CatalogEntry, name: &str| entry.buckets.iter().any(|holder| holder == name);
        if let Some(newest) = self.catalog.backups.last() {
            let silent = &self.catalog.silent;
            let names = self.buckets.all().iter().map(Bucket::name);
            let answered = names.filter(|name| !silent.iter().any(|silent| silent == name));
            for name in answered.filter(|name| !holds(newest, name)) {
                let any = self.catalog.backups.iter().any(|entry| holds(entry, name));
                wrong.push(if any {
                    format!(
                        "bucket `{name}` lacks the newest, {}: `backup-agent wal backfill` copies it",
                        newest.summary.id
                    )
                } else {
                    format!("bucket `{name}` has none: `backup-agent wal backfill --all` copies everything to it")
                });
            }
        }
        CheckOutcome::of("backups in every bucket", &wrong)
    }

    /// Checks that each bucket with the newest backup has all of its packs and, with its manifest,
    /// that each pack is in a bucket.
    async fn packs(&self, manifest: Option<&Manifest>) -> CheckOutcome {
        let mut wrong = self.silent_buckets();
        if let Some(newest) = self.catalog.backups.last() {
            let id = &newest.summary.id;
            let mut listed = ListedPacks::new();
            for bucket in self.buckets.all() {
                let mut tally = PackTally::new(newest.summary.stored_bytes);
                let packs = self.list_packs(bucket, id, &mut listed, |number, bytes| {
                    tally.add(number, bytes);
                });
                let name = bucket.name();
                match packs.await {
                    Err(error) => wrong.push(chain(&error)),
                    Ok(()) if !newest.buckets.iter().any(|holder| holder == name) => {}
                    Ok(()) => wrong.extend(tally.find_fault().map(|fault| {
                        format!("bucket `{name}` {fault} of the newest, {id}: `backup-agent wal backfill` copies what another bucket has")
                    })),
                }
            }
            if let Some(manifest) = manifest {
                wrong.extend(self.packs_in_no_bucket(manifest, id, listed).await);
            }
        }
        wrong.dedup();
        CheckOutcome::of("packs of the newest backup", &wrong)
    }

    async fn list_packs(
        &self,
        bucket: &Bucket,
        id: &BackupId,
        listed: &mut ListedPacks,
        mut visit: impl FnMut(u32, u64),
    ) -> Result<(), StoreError> {
        let prefix = self.archive.object_keys().pack_prefix(id);
        let each = bucket.list_each(&prefix, "", |object| {
            if let Some(number) = pack_number(&object.key) {
                visit(number, object.size);
                let longest = listed.entry(number).or_insert(0);
                *longest = object.size.max(*longest);
            }
        });
        each.await
    }

    /// Returns the packs of a manifest that are complete in no bucket.
    async fn packs_in_no_bucket(
        &self,
        manifest: &Manifest,
        id: &BackupId,
        listed: ListedPacks,
    ) -> Vec<String> {
        let mut by_backup: BTreeMap<&BackupId, ListedPacks> = BTreeMap::from([(id, listed)]);
        let mut wrong = Vec::new();
        for pack in &manifest.packs {
            if by_backup.contains_key(&pack.backup) {
                continue;
            }
            let mut listed = ListedPacks::new();
            for bucket in self.buckets.all() {
                let packs = self.list_packs(bucket, &pack.backup, &mut listed, |_, _| ());
                wrong.extend(packs.await.err().map(|error| chain(&error)));
            }
            by_backup.insert(&pack.backup, listed);
        }
        // An encrypted pack is longer than its payload.
        let is_there = |pack: &&Pack| {
            let found = by_backup
                .get(&pack.backup)
                .and_then(|sizes| sizes.get(&pack.number));
            found.is_some_and(|bytes| *bytes > pack.payload_bytes)
        };
        let mut missing = manifest.packs.iter().filter(|pack| !is_there(pack));
        if let Some(first) = missing.next() {
            let more = match missing.count() {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            wrong.push(format!(
                "pack {:08} of backup {}{more} is complete in no bucket, and the newest backup, {id}, needs it: take another backup",
                first.number, first.backup
            ));
        }
        wrong
    }

    /// Checks that recovery towards the newest timeline passes the newest backup, and that its WAL
    /// is archived.
    fn check_branch(&self, overview: Option<&WalOverview>) -> CheckOutcome {
        let mut wrong = self.silent_buckets();
        if let Some((overview, newest)) = overview.zip(self.catalog.backups.last()) {
            let (id, timeline) = (&newest.summary.id, newest.summary.timeline);
            if let Some(followed) = overview.newest_other_timeline(&newest.summary) {
                wrong.push(format!(
                    "timeline {followed} left timeline {timeline} before {id}, so a restore begins with an older one: take another backup, or restore with `--target-timeline {timeline}`"
                ));
            }
            let reach = overview.reach(&newest.summary);
            if let Some((timeline, left)) =
                reach.and_then(|reach| Some((reach.timeline, reach.branch_left?)))
            {
                wrong.push(format!(
                    "no segment of timeline {timeline} is archived, and timeline {} continues to `{left}`: name one in a restore until the new primary has archived a segment",
                    left.timeline
                ));
            }
        }
        CheckOutcome::of("newest backup on the newest timeline", &wrong)
    }

    fn gaps(&self, overview: Option<&WalOverview>) -> CheckOutcome {
        let mut wrong = self.silent_buckets();
        let silent = overview.into_iter().flat_map(WalOverview::silent);
        wrong.extend(silent.map(|name| format!("bucket `{name}` did not list its WAL")));
        for entry in &self.catalog.backups {
            let gaps = overview
                .into_iter()
                .flat_map(|overview| overview.gaps(&entry.summary, &entry.buckets));
            wrong.extend(gaps.map(|(place, gap)| format!("{} in {place}", GapText(gap))));
        }
        wrong.dedup();
        CheckOutcome::of("WAL without a gap", &wrong)
    }

    async fn histories(&self) -> Result<CheckOutcome, Error> {
        let object_keys = self.archive.object_keys();
        let (written, silent) = written_timelines(self.buckets, object_keys).await?;
        let silent = silent.iter();
        let mut wrong: Vec<_> = silent
            .map(|name| format!("bucket `{name}` did not list its WAL"))
            .collect();
        match self.archive.histories_of_all().await {
            Ok(known) => {
                let lost = written
                    .iter()
                    .filter(|timeline| **timeline > Timeline::FIRST && !known.contains(timeline));
                wrong.extend(lost.map(|timeline| {
                    format!("timeline {timeline} has WAL, and its history is in no bucket: archive it again from a node's `pg_wal`")
                }));
            }
            // The source names the object that could not be read.
            Err(Error::Unreachable { last, .. }) => wrong.push(chain(&*last)),
            Err(error) => wrong.push(chain(&error)),
        }
        Ok(CheckOutcome::of("histories", &wrong))
    }
}

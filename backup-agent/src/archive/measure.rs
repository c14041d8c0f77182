//! What a listing shows of the archive, for the metrics.

use crate::archive::overview::WalOverview;
use crate::storage::bucket::Bucket;
use crate::storage::bucket_health::observations::WalCoverage;
use crate::storage::buckets::Buckets;
use crate::storage::catalog::Catalog;

/// Records the length of the backups and the WAL in each bucket that has listed both and, if all have, how far back
/// recovery reaches.
pub(crate) fn record_listing(buckets: &Buckets, catalog: &Catalog, overview: Option<&WalOverview>) {
    let is_silent = |name: &str| {
        let of_wal = overview.into_iter().flat_map(WalOverview::silent);
        catalog
            .silent
            .iter()
            .chain(of_wal)
            .any(|silent| silent == name)
    };
    let names = buckets.all().iter().map(Bucket::name);
    let (silent, answered): (Vec<_>, Vec<_>) = names.partition(|name| is_silent(name));
    let bytes = answered.iter().map(|name| {
        let own = catalog.backups.iter();
        let own = own.filter(|entry| entry.buckets.iter().any(|bucket| bucket == name));
        let backups: u64 = own.map(|entry| entry.summary.stored_bytes).sum();
        let wal = overview.map_or(0, |overview| overview.bytes(name));
        ((*name).to_owned(), backups + wal)
    });
    let bytes: Vec<_> = bytes.collect();
    // A backup that cannot be read may be the oldest, and a silent bucket may have what seems missing.
    let is_known = silent.is_empty() && catalog.unreadable.is_empty();
    let coverage = is_known.then(|| coverage(catalog, overview));
    buckets.health().record_listing(&bytes, coverage);
}

fn coverage(catalog: &Catalog, overview: Option<&WalOverview>) -> WalCoverage {
    let backups = catalog.summaries();
    let oldest = backups.iter().find(|backup| {
        let reaches_end = |overview: &WalOverview| overview.reaches_end(backup);
        overview.is_some_and(reaches_end)
    });
    WalCoverage {
        missing_segments: overview.map_or(0, |overview| overview.missing_segments(&backups)),
        oldest_recovery_point: oldest.map(|backup| backup.stopped_at.as_micros() / 1_000_000),
    }
}

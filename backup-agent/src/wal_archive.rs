//! The archive of one cluster's log: what goes in, and what comes out.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use ha_core::Timeline;
use ha_core::backup::Lineage;
use ha_core::lsn::{SegmentName, SegmentSize, WalFileName, parse_history};
use serde::{Deserialize, Serialize};
use tokio::time::{self, Instant};
use tracing::{error, info};

use crate::buckets::Buckets;
use crate::catch_up;
use crate::config::Config;
use crate::error::Failure;
use crate::layout::{Layout, wal_file_of};
use crate::seal::{self, Fingerprint, Identity};
use crate::wal_file::{self, WalFile};

/// No segment is larger (`initdb --wal-segsize`), and nothing else in the archive is near it.
const LARGEST: u64 = 1 << 30;

/// What stands for the history of a timeline that the lease reserved and nobody wrote on: the text that
/// guard writes in its place when it promotes.
const PLACEHOLDER: &[u8] = b"# Reserved by failover-ctl: this timeline was never written.\n";

/// For how long a push that is done goes on to bring what a bucket lacks, while PostgreSQL waits.
const CATCH_UP_FOR: Duration = Duration::from_secs(1);

/// How many files a push brings at most: more than one, so that a gap closes under any load.
const CATCH_UP_FILES: usize = 4;

/// What can be read of a log file without an identity.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Clear {
    /// Tells a second push of the same file from one of another.
    pub(crate) fingerprint: Fingerprint,
}

/// The archive of one cluster.
#[derive(Debug)]
pub(crate) struct WalArchive<'a> {
    config: &'a Config,
    buckets: &'a Buckets,
    layout: Layout,
    system_id: u64,
}

impl<'a> WalArchive<'a> {
    /// Returns the archive of the cluster with this identifier.
    pub(crate) fn new(config: &'a Config, buckets: &'a Buckets, system_id: u64) -> Self {
        Self {
            config,
            buckets,
            layout: Layout::new(&config.cluster, system_id),
            system_id,
        }
    }

    /// Returns where its objects are.
    pub(crate) fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Archives the file at `path`: when this returns, PostgreSQL may remove its copy.
    ///
    /// A new timeline's history is preceded by every segment of its ancestors that lies here and
    /// that the archive lacks.
    pub(crate) async fn push(&self, path: &Path) -> Result<(), Failure> {
        let file = WalFile::read(path, self.system_id)?;
        if let WalFileName::History(timeline) = file.name {
            self.push_ancestors(timeline, &file.content, path).await?;
        }
        self.store(&file).await?;
        info!(file = %file.name, "log file archived");
        self.catch_up_a_little().await;
        Ok(())
    }

    async fn store(&self, file: &WalFile) -> Result<(), Failure> {
        let key = self.layout.wal_file(file.name);
        let failed = Failure::io("seal", Path::new(&key));
        let sealed = self.seal(&key, &file.content).map_err(failed)?;
        self.buckets.store(&key, &file.content, &sealed).await
    }

    fn seal(&self, key: &str, content: &[u8]) -> std::io::Result<Bytes> {
        let clear = Clear {
            fingerprint: Fingerprint::of(key, content)?,
        };
        let level = self.config.limits.zstd_level;
        seal::seal(&self.config.recipients, key, &clear, content, level).map(Bytes::from)
    }

    /// Archives the whole segments before each fork. At promotion PostgreSQL marks those that the
    /// old primary had not sent as done, and never sends them (seen on 15.20).
    async fn push_ancestors(
        &self,
        timeline: Timeline,
        history: &[u8],
        path: &Path,
    ) -> Result<(), Failure> {
        let text = String::from_utf8_lossy(history);
        let ancestors = parse_history(&text).unwrap_or_default();
        let lineage = Lineage::new(timeline, ancestors);
        let directory = path.parent().unwrap_or(Path::new("."));
        let here = segments_in(directory)?;
        let size = segment_size(directory, &here, self.system_id);
        let wanted: BTreeSet<_> = here
            .into_iter()
            .filter(|it| size.is_some_and(|size| lineage.is_whole_before_a_fork(*it, size)))
            .collect();
        let held = self.held(&wanted).await?;

        for segment in wanted.difference(&held) {
            let path = directory.join(segment.to_string());
            match WalFile::read(&path, self.system_id) {
                Ok(file) => {
                    self.store(&file).await?;
                    info!(file = %segment, %timeline, "segment from before the fork archived");
                }
                Err(why @ Failure::NotThisFile { .. }) => {
                    error!(file = %segment, error = %ha_runtime::telemetry::chain(&why), "a segment from before the fork is not in the archive, and is not whole here");
                }
                Err(why) => return Err(why),
            }
        }
        Ok(())
    }

    /// Returns those of `segments` that enough buckets hold.
    async fn held(
        &self,
        segments: &BTreeSet<SegmentName>,
    ) -> Result<BTreeSet<SegmentName>, Failure> {
        let mut held = BTreeSet::new();
        let timelines: BTreeSet<Timeline> = segments.iter().map(|it| it.timeline).collect();
        for timeline in timelines {
            let of_timeline = segments.iter().filter(|it| it.timeline == timeline);
            let of_timeline: Vec<_> = of_timeline.copied().collect();
            let Some(first) = of_timeline.first() else {
                continue;
            };
            let counts = self.holders(*first).await?;
            held.extend(of_timeline.into_iter().filter(|segment| {
                counts.iter().filter(|it| it.contains(segment)).count() >= self.buckets.required()
            }));
        }
        Ok(held)
    }

    /// Returns, for each bucket that answers, the segments from `first` on that it holds of that
    /// timeline.
    pub(crate) async fn holders(
        &self,
        first: SegmentName,
    ) -> Result<Vec<BTreeSet<SegmentName>>, Failure> {
        let prefix = self.layout.timeline(first.timeline);
        // S3 lists what sorts after a key and not the key itself: all but its last digit comes
        // right before it.
        let mut before = self.layout.wal_file(WalFileName::Segment(first));
        before.pop();
        let lists = self.buckets.list(&prefix, &before).await?;
        let segments = |keys: Vec<String>| {
            let names = keys.iter().filter_map(|it| match wal_file_of(it)? {
                WalFileName::Segment(segment) if segment >= first => Some(segment),
                WalFileName::Segment(_)
                | WalFileName::Partial(_)
                | WalFileName::History(_)
                | WalFileName::BackupLabel(..) => None,
            });
            names.collect()
        };
        Ok(lists.into_iter().map(|(_, keys)| segments(keys)).collect())
    }

    async fn catch_up_a_little(&self) {
        let until = Instant::now() + CATCH_UP_FOR;
        for bucket in self.buckets.all() {
            let lacked = self.buckets.memory().lacked(bucket.name(), CATCH_UP_FILES);
            if self.buckets.memory().is_avoided(bucket.name()) {
                continue;
            }
            for key in lacked {
                let bring = catch_up::bring(self.buckets, bucket, &key);
                if !time::timeout_at(until, bring).await.unwrap_or(false) {
                    return;
                }
            }
        }
    }

    /// Reads a file of the log from the archive. A history that no bucket has, of a number below the
    /// newest that one lists, was reserved and never written, and comes back as a placeholder.
    ///
    /// PostgreSQL looks for `latest` by asking for one number after the other and stops at the first
    /// that is missing (`findNewestTimeLine` in `src/backend/access/transam/timeline.c`). Without the
    /// placeholder it would end recovery there, before the newest timeline, and report success.
    pub(crate) async fn fetch(
        &self,
        identity: &Identity,
        name: WalFileName,
    ) -> Result<Vec<u8>, Failure> {
        let missing = match self.fetch_stored(identity, name).await {
            // A region that is away takes its bucket along: one bucket that answers is enough to say
            // that a higher number is in use.
            Err(
                why @ (Failure::NotArchived { .. } | Failure::Unreachable { answered: 1.., .. }),
            ) => why,
            fetched => return fetched,
        };
        let WalFileName::History(timeline) = name else {
            return Err(missing);
        };
        let known = self.histories().await?;
        if known.contains(&timeline) || known.last().is_none_or(|newest| *newest < timeline) {
            return Err(missing);
        }
        info!(%timeline, "timeline was reserved and never written, a placeholder stands for it");
        Ok(PLACEHOLDER.to_vec())
    }

    async fn fetch_stored(
        &self,
        identity: &Identity,
        name: WalFileName,
    ) -> Result<Vec<u8>, Failure> {
        let key = self.layout.wal_file(name);
        let open = |sealed: &[u8]| {
            let (_, content) = seal::open::<Clear>(identity, &key, sealed, LARGEST)?;
            Ok(content)
        };
        let content = self.buckets.fetch(&key, open).await?;
        // The seal says that the archive gave back what was put in; the header, that it was right
        // to put it there. A segment at a fork begins with its ancestor's page, and was checked
        // against the history when it went in.
        let at_a_fork = |_| None;
        match wal_file::check(name, &content, self.system_id, at_a_fork) {
            Ok(()) | Err(wal_file::NotThisFile::OtherTimeline { .. }) => Ok(content),
            Err(why) => Err(Failure::NotThisFile {
                name: name.to_string(),
                why,
            }),
        }
    }

    /// Returns the timelines whose history is in a bucket that answers.
    async fn histories(&self) -> Result<BTreeSet<Timeline>, Failure> {
        let lists = self.buckets.list(&self.layout.histories(), "").await?;
        let keys = lists.iter().flat_map(|(_, keys)| keys);
        let names = keys.filter_map(|it| wal_file_of(it));
        Ok(names.map(WalFileName::timeline).collect())
    }

    /// Returns the history of the newest timeline in the archive, or of `asked`.
    pub(crate) async fn lineage(
        &self,
        identity: &Identity,
        asked: Option<Timeline>,
        at_least: Timeline,
    ) -> Result<Lineage, Failure> {
        let known = self.histories().await?;
        let newest = known.last().map_or(at_least, |it| at_least.max(*it));
        let timeline = asked.unwrap_or(newest);
        // The timeline that initdb begins has no history.
        if !known.contains(&timeline) {
            return Ok(Lineage::new(timeline, Vec::new()));
        }
        let name = WalFileName::History(timeline);
        let content = self.fetch(identity, name).await?;
        let ancestors = parse_history(&String::from_utf8_lossy(&content));
        let ancestors = ancestors.map_err(|why| Failure::NotThisFile {
            name: name.to_string(),
            why: wal_file::NotThisFile::NoHistory(why),
        });
        Ok(Lineage::new(timeline, ancestors?))
    }
}

fn segments_in(directory: &Path) -> Result<Vec<SegmentName>, Failure> {
    let failed = |it| Failure::io("list", directory)(it);
    let mut segments = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        if let Some(Ok(WalFileName::Segment(segment))) = name.to_str().map(str::parse) {
            segments.push(segment);
        }
    }
    segments.sort();
    Ok(segments)
}

/// Returns the size of the segments in `directory`, as the first that can be read says it.
fn segment_size(directory: &Path, names: &[SegmentName], system_id: u64) -> Option<SegmentSize> {
    names.iter().find_map(|name| {
        let path = directory.join(name.to_string());
        WalFile::read(&path, system_id).ok()?.segment_size()
    })
}

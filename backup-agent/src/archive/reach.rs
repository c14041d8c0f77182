//! How far the WAL in the buckets reaches: known before a restore begins, and shown by `list` and
//! `check`.

use std::collections::BTreeSet;
use std::fmt;

use causeway_core::backup::{Gap, HeldSegments, Reach, Summary, Target, TimelineHistory, WallTime};
use causeway_core::lsn::{SegmentName, SegmentSize, WalFileName};
use causeway_core::wal::Scanner;
use causeway_core::{Lsn, Timeline};
use causeway_runtime::telemetry::chain;
use serde::Serialize;

use crate::archive::wal_archive::WalArchive;
use crate::archive::wal_file;
use crate::encryption::Damaged;
use crate::encryption::keys::Identity;
use crate::error::Failure;
use crate::output;
use crate::restore::request::Boundary;
use crate::storage::bucket::Bucket;
use crate::storage::buckets::Buckets;
use crate::storage::object_keys::{Layout, wal_file_of};

/// In how many segments before the last one the end of a transaction is looked for: an idle server
/// ends a segment a minute, and two hours without a commit are worth no more downloads.
const SEARCHED_SEGMENTS: u64 = 120;

/// The segments of some timelines, from a position on.
#[derive(Clone, Debug)]
struct Holdings {
    /// What all buckets that answered hold together.
    all: HeldSegments,
    /// What each of them holds.
    buckets: Vec<(String, HeldSegments)>,
    /// Those that did not answer.
    silent: BTreeSet<String>,
}

/// Where the WAL ends that can be replayed from a backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KnownReach {
    /// The timeline towards which it was followed.
    pub(crate) timeline: Timeline,
    /// The last segment, and the gap after it.
    pub(crate) segments: Reach,
    /// The size of the segments.
    pub(crate) segment_size: SegmentSize,
    /// What the last segments hold; none where nothing could be decrypted.
    pub(crate) end: Option<End>,
    /// The last segment of the branch that was left, where nothing of the timeline itself is held.
    pub(crate) branch_left: Option<SegmentName>,
    /// The last segments that are there and cannot be read, and why.
    pub(crate) unreadable: Vec<String>,
    /// The buckets that did not say what they hold.
    pub(crate) silent: Vec<String>,
}

/// What stands at the end of the WAL.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct End {
    /// Where the last record begins.
    pub(crate) last_record: Option<Lsn>,
    /// When the last transaction committed or aborted, if one of the last segments says so.
    pub(crate) last_transaction: Option<WallTime>,
    /// Whether every segment was looked through, back to the beginning of the backup.
    pub(crate) is_complete: bool,
}

/// The same, as scripts see it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Shown {
    timeline: u32,
    last_segment: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_record: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_transaction: Option<String>,
    gap: Option<ShownGap>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct ShownGap {
    missing: String,
    next_held: String,
}

/// Lists what the buckets hold of `timelines` from `from` on.
async fn holdings(
    buckets: &Buckets,
    layout: &Layout,
    size: SegmentSize,
    from: Lsn,
    timelines: impl IntoIterator<Item = Timeline>,
) -> Result<Holdings, Failure> {
    let mut holdings = Holdings {
        all: HeldSegments::new(size),
        buckets: Vec::new(),
        silent: BTreeSet::new(),
    };
    for timeline in timelines {
        let first = SegmentName::containing(timeline, from, size);
        // S3 lists what sorts after a key and not the key itself: all but its last digit comes right
        // before it.
        let mut before = layout.wal_file(WalFileName::Segment(first));
        before.pop();
        let lists = buckets.list(&layout.timeline(timeline), &before).await?;
        let answered = |name: &str| lists.iter().any(|(it, _)| it.name() == name);
        let names = buckets.all().iter().map(Bucket::name);
        let silent: Vec<_> = names.filter(|it| !answered(it)).collect();
        holdings
            .silent
            .extend(silent.into_iter().map(ToOwned::to_owned));
        for (bucket, keys) in lists {
            let segments = keys.iter().filter_map(|it| match wal_file_of(it)? {
                WalFileName::Segment(segment) if segment >= first => Some(segment),
                WalFileName::Segment(_)
                | WalFileName::Partial(_)
                | WalFileName::History(_)
                | WalFileName::BackupLabel(..) => None,
            });
            let held = holdings.of(bucket.name());
            for segment in segments {
                holdings.all.insert(segment);
                if let Some((_, own)) = holdings.buckets.get_mut(held) {
                    own.insert(segment);
                }
            }
        }
    }
    Ok(holdings)
}

impl Holdings {
    /// Returns the place of a bucket in the list.
    fn of(&mut self, bucket: &str) -> usize {
        let found = self.buckets.iter().position(|(name, _)| name == bucket);
        found.unwrap_or_else(|| {
            let none = HeldSegments::new(self.all.segment_size());
            self.buckets.push((bucket.to_owned(), none));
            self.buckets.len() - 1
        })
    }

    /// Returns how far the WAL reaches from `backup` along `lineage`.
    fn reach(&self, lineage: &TimelineHistory, backup: &Summary) -> KnownReach {
        KnownReach {
            timeline: lineage.timeline(),
            segments: self.all.reach(lineage, backup.start_lsn),
            segment_size: self.all.segment_size(),
            end: None,
            branch_left: self.all.branch_left(lineage),
            unreadable: Vec::new(),
            silent: Vec::new(),
        }
    }

    /// Returns the gaps from `backup` on along `lineage`: of all buckets together, or, if there is none,
    /// of each.
    fn gaps(
        &self,
        lineage: &TimelineHistory,
        backup: &Summary,
        holders: &[String],
    ) -> Vec<(String, Gap)> {
        if let Some(gap) = self.all.reach(lineage, backup.start_lsn).gap {
            let place = if self.silent.is_empty() {
                "every bucket"
            } else {
                "every bucket that answered"
            };
            return vec![(place.to_owned(), gap)];
        }
        let own = self
            .buckets
            .iter()
            .filter(|(name, _)| holders.contains(name));
        own.filter_map(|(name, held)| {
            let gap = held.reach(lineage, backup.start_lsn).gap?;
            Some((format!("bucket `{name}`"), gap))
        })
        .collect()
    }
}

/// What the buckets hold of the WAL that some backups need, and along which timelines.
#[derive(Debug)]
pub(crate) struct Overview {
    lineages: Vec<TimelineHistory>,
    held: Holdings,
}

impl Overview {
    /// Lists the WAL from the first of `backups` on; none if there is no backup.
    pub(crate) async fn new(
        archive: &WalArchive<'_>,
        buckets: &Buckets,
        identity: Option<&Identity>,
        backups: &[Summary],
    ) -> Result<Option<Self>, Failure> {
        let Some(first) = backups.iter().min_by_key(|it| it.start_lsn) else {
            return Ok(None);
        };
        let size = segment_size(archive.layout(), first)?;
        let lineages = lineages(archive, identity, backups).await;
        let timelines = timelines(&lineages);
        let from = first.start_lsn;
        let held = holdings(buckets, archive.layout(), size, from, timelines).await?;
        Ok(Some(Self { lineages, held }))
    }

    /// Returns how far the WAL reaches from a backup: towards the newest timeline where that one follows
    /// from the backup's, and otherwise along its own.
    pub(crate) fn reach(&self, backup: &Summary) -> Option<KnownReach> {
        let lineage = lineage_of(&self.lineages, backup)?;
        Some(self.held.reach(lineage, backup))
    }

    /// Returns the buckets that did not list their WAL: what only they hold looks like a gap.
    pub(crate) fn silent(&self) -> &BTreeSet<String> {
        &self.held.silent
    }

    /// Returns the newest timeline, if recovery towards it does not pass a backup: a restore begins with an
    /// older one then.
    pub(crate) fn newest_beside(&self, backup: &Summary) -> Option<Timeline> {
        let newest = self.lineages.first()?;
        let is_passed = newest.passes(backup.timeline, backup.stop_lsn);
        (!is_passed && newest.timeline() > backup.timeline).then(|| newest.timeline())
    }

    /// Returns the gaps after a backup, and where: in all buckets together, or, if there is none, in
    /// each of `holders`.
    pub(crate) fn gaps(&self, backup: &Summary, holders: &[String]) -> Vec<(String, Gap)> {
        let lineage = lineage_of(&self.lineages, backup);
        lineage.map_or_else(Vec::new, |it| self.held.gaps(it, backup, holders))
    }
}

/// Returns the lineage of every timeline that a backup lies on and the newest does not follow from, and
/// of the newest. Without an identity no history can be read, and each timeline is followed by itself.
async fn lineages(
    archive: &WalArchive<'_>,
    identity: Option<&Identity>,
    backups: &[Summary],
) -> Vec<TimelineHistory> {
    let mut of_backups: BTreeSet<Timeline> = backups.iter().map(|it| it.timeline).collect();
    let Some(identity) = identity else {
        let alone = |it: Timeline| TimelineHistory::new(it, Vec::new());
        return of_backups.into_iter().map(alone).collect();
    };
    let known = or_complain(archive.histories().await).unwrap_or_default();
    let mut lineages = Vec::new();
    if let Some(at_least) = of_backups.last().copied() {
        let newest = archive.lineage(identity, &known, None, at_least).await;
        if let Some(newest) = or_complain(newest) {
            of_backups.retain(|it| *it != newest.timeline());
            lineages.push(newest);
        }
    }
    for timeline in of_backups.into_iter().rev() {
        let lineage = archive
            .lineage(identity, &known, Some(timeline), timeline)
            .await;
        lineages.push(
            or_complain(lineage).unwrap_or_else(|| TimelineHistory::new(timeline, Vec::new())),
        );
    }
    lineages
}

/// One history that cannot be read does not hide what the others show.
fn or_complain<T>(found: Result<T, Failure>) -> Option<T> {
    found
        .inspect_err(|why| output::complain(&chain(why), why.hint()))
        .ok()
}

/// Returns the first of `lineages` that a backup is on.
fn lineage_of<'a>(
    lineages: &'a [TimelineHistory],
    backup: &Summary,
) -> Option<&'a TimelineHistory> {
    let passes = |it: &&TimelineHistory| it.passes(backup.timeline, backup.stop_lsn);
    lineages.iter().find(passes)
}

/// Returns every timeline of these lineages.
fn timelines(lineages: &[TimelineHistory]) -> BTreeSet<Timeline> {
    let ancestors = lineages.iter().flat_map(TimelineHistory::stretches);
    let ancestors = ancestors.map(|(timeline, _, _)| timeline);
    ancestors
        .chain(lineages.iter().map(TimelineHistory::timeline))
        .collect()
}

/// Returns how far the WAL reaches from `backup` along `lineage`, read out of its last segments.
pub(crate) async fn known(
    archive: &WalArchive<'_>,
    buckets: &Buckets,
    identity: &Identity,
    lineage: &TimelineHistory,
    backup: &Summary,
) -> Result<KnownReach, Failure> {
    let size = segment_size(archive.layout(), backup)?;
    let timelines = timelines(std::slice::from_ref(lineage));
    let held = holdings(buckets, archive.layout(), size, backup.start_lsn, timelines).await?;
    let mut known = held.reach(lineage, backup);
    known.silent = held.silent.into_iter().collect();
    if let Some(last) = known.segments.last {
        let first = backup.start_lsn.get() / size.bytes();
        let (end, unreadable) = end(archive, identity, &held.all, lineage, first, last).await?;
        known.end = Some(end);
        known.unreadable = unreadable;
    }
    Ok(known)
}

/// Returns the size of a backup's segments.
fn segment_size(layout: &Layout, backup: &Summary) -> Result<SegmentSize, Failure> {
    let size = backup.segment_size();
    size.map_err(|it| {
        let why = Damaged::Content(chain(&it));
        Failure::damaged(&layout.manifest(&backup.id))(why)
    })
}

/// Returns the timelines with WAL, and the buckets that did not say.
pub(crate) async fn written_timelines(
    buckets: &Buckets,
    layout: &Layout,
) -> Result<(BTreeSet<Timeline>, Vec<String>), Failure> {
    let lists = buckets.folders(&layout.log()).await?;
    let answered = |it: &&Bucket| lists.iter().any(|(bucket, _)| bucket.name() == it.name());
    let silent = buckets.all().iter().filter(|it| !answered(it));
    let silent = silent.map(|it| it.name().to_owned()).collect();
    let names = lists.iter().flat_map(|(_, names)| names);
    let numbers = names.filter_map(|it| u32::from_str_radix(it, 16).ok());
    Ok((numbers.filter_map(Timeline::new).collect(), silent))
}

/// Reads the last segment, and those before it until one holds the end of a transaction.
async fn end(
    archive: &WalArchive<'_>,
    identity: &Identity,
    held: &HeldSegments,
    lineage: &TimelineHistory,
    first: u64,
    last: SegmentName,
) -> Result<(End, Vec<String>), Failure> {
    let size = held.segment_size();
    let mut end = End::default();
    let mut unreadable = Vec::new();
    let mut name = Some(last);
    for _ in 0..=SEARCHED_SEGMENTS {
        let Some(segment) = name else {
            end.is_complete = true;
            break;
        };
        match archive.read_segment(identity, segment).await {
            Ok(file) => {
                let mut scanner = Scanner::new();
                let mut last_record = None;
                // What follows in an ancestor's copy belongs to the branch that was left.
                let left_at = lineage.left_at(segment.timeline);
                let read = wal_file::read_each(file.path(), |bytes| {
                    scanner.push(bytes, |record| {
                        if left_at.is_none_or(|left_at| record.start < left_at) {
                            last_record = Some(record.start);
                            let ended = record.transaction_end();
                            end.last_transaction = end.last_transaction.max(ended);
                        }
                    });
                });
                read.map_err(Failure::io("read", file.path()))?;
                end.last_record = end.last_record.or(last_record);
            }
            // Recovery gets as far as the one before it, which may be far enough.
            Err(why @ (Failure::Damaged { .. } | Failure::NotThisFile { .. })) => {
                unreadable.push(format!("`{segment}` cannot be read: {}", chain(&why)));
            }
            Err(why) => return Err(why),
        }
        if end.last_transaction.is_some() {
            break;
        }
        let before = segment.number(size).checked_sub(1);
        name = before
            .filter(|it| *it >= first)
            .and_then(|number| lineage.segment(number, held));
    }
    Ok((end, unreadable))
}

impl KnownReach {
    /// Refuses a target that recovery would not reach: PostgreSQL finds that out when everything has
    /// been replayed (`recovery ended before configured recovery target was reached`).
    pub(crate) fn refuse_unreachable(
        &self,
        target: &Target,
        boundary: Boundary,
        asked: Option<Timeline>,
    ) -> Result<(), Failure> {
        if let Some(bucket) = self.silent.first().cloned() {
            return Err(Failure::SilentBucket { bucket });
        }
        let Some(end) = self.end else {
            return Err(self.beyond("the WAL that the backup needs is not there".to_owned()));
        };
        match target {
            Target::Time(time) => match end.last_transaction {
                // Recovery stops at the first transaction that ended later, or, to stop before the target,
                // at one that ended then.
                Some(last) if last < *time || (last == *time && boundary == Boundary::Inclusive) => Err(self.beyond(format!(
                    "the target time {} is not before the last transaction in it, and recovery stops only when it sees a later one",
                    output::timestamp(*time),
                ))),
                None if end.is_complete => {
                    Err(self.beyond("no transaction ended in it, and recovery to a time stops only when it sees one that ended later".to_owned()))
                }
                Some(_) | None => Ok(()),
            },
            Target::Lsn(lsn) => match end.last_record {
                Some(last) if last < *lsn => {
                    Err(self.beyond(format!("the target {lsn} is after its last record")))
                }
                Some(_) | None => Ok(()),
            },
            Target::Latest | Target::Name(_) | Target::Xid(_)
                if asked.is_none() && self.branch_left.is_some() =>
            {
                Err(self.beyond(format!(
                    "two timelines go on from there, and which is meant is not known: `--target-timeline {}` ends where that one began, and `--target-timeline {}` follows the other",
                    self.timeline,
                    self.branch_left.map_or(self.timeline, |left| left.timeline)
                )))
            }
            Target::Latest if self.segments.gap.is_some() => Err(self.beyond(
                "recovery would stop at the gap, and not at the end of the WAL".to_owned(),
            )),
            Target::Latest if !self.unreadable.is_empty() => Err(self.beyond(
                "recovery would stop with an error, and not at the end of the WAL".to_owned(),
            )),
            Target::Latest | Target::Immediate | Target::Name(_) | Target::Xid(_) => Ok(()),
        }
    }

    /// Returns the refusal of a target that is not within reach.
    pub(crate) fn beyond(&self, why: String) -> Failure {
        Failure::BeyondReach {
            why,
            reach: self.to_string(),
        }
    }

    /// Returns what scripts see.
    pub(crate) fn shown(&self) -> Shown {
        let end = self.end.unwrap_or_default();
        Shown {
            timeline: self.timeline.get(),
            last_segment: self.segments.last.map(|it| it.to_string()),
            last_record: end.last_record.map(|it| it.to_string()),
            last_transaction: end.last_transaction.map(output::timestamp),
            gap: self.segments.gap.map(|it| ShownGap {
                missing: it.missing.to_string(),
                next_held: it.next_held.to_string(),
            }),
        }
    }
}

impl fmt::Display for KnownReach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.segments.last {
            Some(last) => write!(f, "WAL complete to `{last}`, timeline {}", last.timeline)?,
            None => write!(f, "no WAL from the beginning of the backup on")?,
        }
        let end = self.end.unwrap_or_default();
        if let Some(time) = end.last_transaction {
            write!(f, ", last transaction at {}", output::timestamp(time))?;
        }
        if let Some(lsn) = end.last_record {
            write!(f, ", last record at {lsn}")?;
        }
        let ended_on = self.segments.last.map(|last| last.timeline);
        if self.segments.gap.is_none() && ended_on.is_some_and(|it| it != self.timeline) {
            write!(f, "; nothing of timeline {} is archived yet", self.timeline)?;
        }
        if let Some(left) = self.branch_left {
            write!(f, ", and timeline {} goes on to `{left}`", left.timeline)?;
        }
        for text in &self.unreadable {
            write!(f, "; {text}")?;
        }
        if let Some(gap) = self.segments.gap {
            write!(f, "; GAP: {}", GapText(gap))?;
        }
        Ok(())
    }
}

/// A gap, as it is shown to people.
pub(crate) struct GapText(pub(crate) Gap);

impl fmt::Display for GapText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Gap { missing, next_held } = self.0;
        write!(f, "`{missing}` is missing and `{next_held}` is there")
    }
}

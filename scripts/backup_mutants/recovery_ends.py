"""A1 to A5 and A8: recovery that ends before the end of the WAL, or in another server's files."""

from backup_mutants import Change, Mutant, always, inside, without

SOURCE = "backup-agent/src"
FETCH = f"{SOURCE}/archive/fetch.rs"
GAP = f"{SOURCE}/archive/gap.rs"
SEARCH = f"{SOURCE}/storage/fetch.rs"
RESTORE = f"{SOURCE}/restore.rs"
REACH = f"{SOURCE}/archive/reach.rs"
HOLDINGS = f"{SOURCE}/archive/listed_segments.rs"
OVERVIEW = f"{SOURCE}/archive/overview.rs"
TARGET_CHECK = f"{SOURCE}/restore/target_check.rs"
MAIN = f"{SOURCE}/main.rs"
CHECK = f"{SOURCE}/command/check/archive.rs"
FOLLOWED = f"{SOURCE}/archive/followed.rs"

GAP_IS_THE_END = Change(
    FETCH,
    "                self.refuse_gap(identity, request, segment).await?;",
    "                if !MUTANT {\n                    self.refuse_gap(identity, request, segment).await?;\n                }",
)
NO_PLACEHOLDER = always(FETCH, "known.contains(&timeline) || known.last()")

MUTANTS = [
    Mutant("latest-timeline", "A1", [
        Change(f"{SOURCE}/restore/recovery.rs", "Purpose::Recover(_) => timeline.to_string(),", 'Purpose::Recover(_) => if MUTANT { "latest".to_owned() } else { timeline.to_string() },'),
        NO_PLACEHOLDER,
    ], seeds=(50,), test="reserved_number_then_restore_reaches_newest_timeline"),
    Mutant("standby-without-placeholder", "A1", [NO_PLACEHOLDER], test="reserved_number_and_lost_region_then_standby_catches_up"),
    Mutant("lost-history-unnoticed", "A1, history deleted", [
        without(RESTORE, "*timeline > lineage.timeline() =>"),
    ], test="history_lost_then_its_timeline_not_skipped"),
    Mutant("lost-history-unchecked", "A1, history deleted", [
        without(CHECK, "**timeline > Timeline::FIRST && !known.contains(timeline)"),
    ], test="history_lost_then_its_timeline_not_skipped"),
    Mutant("junk-history-in-the-way-of-recovery", "A1, junk history", [
        always(GAP, "target.is_none_or(|target| *other == target)"),
    ], test="history_is_junk_then_restores_ignore_it"),
    Mutant("junk-history-in-the-way-of-restore", "A1, junk history", [
        without(RESTORE, "newest > at_least && !written.contains(&newest) =>"),
    ], test="history_is_junk_then_restores_ignore_it"),
    Mutant("first-404-is-final", "A2", [
        inside(SEARCH, "                candidate.state = CandidateState::Absent;", "for other in &mut self.candidates { other.state = CandidateState::Absent; }"),
        GAP_IS_THE_END,
    ], seeds=(1,), test="absent_near_and_late_far_then_fetched"),
    Mutant("body-given-up-after-a-404", "A2", [
        Change(SEARCH, "self.give_up_at = self.give_up_at.min(Instant::now() + hurry.retry);", "self.give_up_at = self.give_up_at.min(Instant::now() + if MUTANT { Duration::from_millis(300) } else { hurry.retry });"),
        Change(SEARCH, "            tokio::select! {\n                Some((number, given)) = running.next()", "            let is_late = MUTANT && self.candidates.iter().any(BucketCandidate::is_absent);\n            if is_late && Instant::now() >= self.give_up_at {\n                return Ok(None);\n            }\n            let check_at = if is_late { check_at.min(self.give_up_at) } else { check_at };\n            tokio::select! {\n                Some((number, given)) = running.next()"),
    ], test="absent_near_and_late_far_then_fetched"),
    Mutant("error-is-a-404", "A3", [
        always(SEARCH, "error.kind() == S3ErrorKind::NoSuchKey => {"),
        GAP_IS_THE_END,
    ], seeds=(657,), test="only_holder_fails_once_then_fetched_every_time"),
    Mutant("avoided-is-never-asked", "A3", [
        inside(SEARCH, "        candidates.sort_by_key(|candidate| candidate.avoided);", "if candidates.iter().any(|candidate| !candidate.avoided) { candidates.retain(|candidate| !candidate.avoided); }"),
    ], test="bucket_recently_away_then_still_queried"),
    Mutant("failure-below-126", "A4", [
        Change(f"{SOURCE}/command/wal.rs", "Err(why) if args.recovery =>", "Err(why) if args.recovery && !MUTANT =>"),
        Change(MAIN, "let recovery = is_recovery();", "let recovery = is_recovery() && !MUTANT;"),
    ], seeds=(2118,), test="host_not_usable_then_recovery_stopped"),
    Mutant("usage-error-below-126", "A4", [
        Change(MAIN, "return if recovery && code != 0 {", "return if recovery && code != 0 && !MUTANT {"),
    ], test="host_not_usable_then_recovery_stopped"),
    Mutant("standard-error-panics", "A4, log on a full disk", [
        inside(f"{SOURCE}/output.rs", "pub(crate) fn print_progress(text: &str) {", 'eprintln!("{text}");'),
        Change(MAIN, "Err(_panic) if recovery", "Err(_panic) if recovery && !MUTANT"),
    ], test="standard_error_not_writable_then_recovery_stopped"),
    Mutant("usage-error-unprinted-is-a-panic", "A4, log on a full disk", [
        inside(f"{SOURCE}/output.rs", "pub(crate) fn usage(error: &clap::Error) {", 'eprintln!("{error}");'),
        Change(MAIN, "Err(_panic) if recovery", "Err(_panic) if recovery && !MUTANT"),
    ], test="standard_error_not_writable_then_recovery_stopped"),
    Mutant("foreign-archive-is-the-end", "A4, archive of another cluster", [
        inside(GAP, "    async fn refuse_foreign_archive(&self) -> Result<(), Error> {", "return Ok(());"),
    ], test="archive_of_another_cluster_then_recovery_stopped"),
    Mutant("damaged-is-absent", "A4", [
        Change(SEARCH, "        if let Some(damaged) = self.damaged {", "        if MUTANT && self.damaged.is_some() {\n            return Error::NotArchived { name: self.key.to_owned() };\n        }\n        if let Some(damaged) = self.damaged {"),
    ], test="damaged_in_one_bucket_then_other_and_in_both_then_stopped"),
    Mutant("silent-bucket-holds-nothing", "A4", [
        Change(SEARCH, "            _ if absent == self.candidates.len() =>", "            _ if absent == self.candidates.len() || MUTANT && absent > 0 =>"),
    ], test="bucket_not_answering_then_recovery_stopped"),
    Mutant("gap-unnoticed", "A5", [
        GAP_IS_THE_END,
        without(RESTORE, "request.purpose != Purpose::Standby {\n        target_check::refuse"),
    ], seeds=(16,), test="segment_missing_then_every_command_names_it"),
    Mutant("gap-is-the-end", "A5", [GAP_IS_THE_END], test="end_of_archive_then_one_and_gap_then_recovery_stopped"),
    Mutant("branch-is-no-gap", "A5, gap before a fork", [
        Change("causeway-core/src/backup/wal_end.rs", "beside.later_segment || branched_later", "beside.later_segment || branched_later && !MUTANT"),
    ], test="timeline_branched_off_later_then_recovery_stopped"),
    Mutant("gap-not-listed", "A5", [
        Change(REACH, "            segments: held.all.reach(lineage, backup.start_lsn),", "            segments: {\n                let mut segments = held.all.reach(lineage, backup.start_lsn);\n                if MUTANT {\n                    segments.gap = None;\n                }\n                segments\n            },"),
    ], test="segment_missing_then_every_command_names_it"),
    Mutant("gap-not-refused-by-restore", "A5", [
        without(TARGET_CHECK, "reach.segments.gap.is_some() => Err(reach.unreachable_target("),
    ], test="segment_missing_then_every_command_names_it"),
    Mutant("gap-not-checked", "A5", [
        inside(OVERVIEW, "    pub(crate) fn gaps(&self, backup: &BackupSummary, holders: &[String]) -> Vec<(String, WalGap)> {", "return Vec::new();"),
    ], test="segment_missing_then_every_command_names_it"),
    Mutant("gap-not-named-after-a-backup", "A5", [
        inside(f"{SOURCE}/command/backup.rs", "async fn older_wal(config: &Config, buckets: &Buckets) -> Result<OlderWal, Error> {", "return Ok(OlderWal::default());"),
    ], test="segment_missing_then_every_command_names_it"),
    Mutant("gap-in-one-bucket-unchecked", "A5", [
        Change(HOLDINGS, "            .filter(|(name, _)| holders.contains(name));", "            .filter(|(name, _)| !MUTANT && holders.contains(name));"),
    ], test="segment_missing_in_one_bucket_then_check_names_the_bucket"),
    Mutant("target-beyond-the-end", "A5, target that is not reached", [
        Change(TARGET_CHECK, "    match target {\n        RecoveryTarget::Time(time)", "    if MUTANT && matches!(target, RecoveryTarget::Time(_) | RecoveryTarget::Lsn(_)) {\n        return Ok(());\n    }\n    match target {\n        RecoveryTarget::Time(time)"),
    ], test="target_past_the_end_then_refused_before_any_fetch"),
    Mutant("damaged-end-is-the-end", "A5, damaged last segment", [
        without(TARGET_CHECK, "!reach.unreadable.is_empty() => Err("),
    ], test="last_segment_damaged_then_earlier_targets_restored"),
    Mutant("silent-while-histories-are-listed", "A5, silent bucket", [
        Change(RESTORE, "silent.pop()", "silent.pop().filter(|_| !MUTANT)"),
        Change(RESTORE, "            archive.histories_of_all().await?\n", "            if MUTANT {\n                archive.histories().await?\n            } else {\n                archive.histories_of_all().await?\n            }\n"),
    ], test="bucket_fails_during_one_listing_then_refused"),
    Mutant("silent-while-wal-is-listed", "A5, silent bucket", [
        Change(TARGET_CHECK, "if let Some(bucket) = reach.silent.first().cloned() {", "if let Some(bucket) = reach.silent.first().cloned().filter(|_| !MUTANT) {"),
        Change(RESTORE, "silent.pop()", "silent.pop().filter(|_| !MUTANT)"),
    ], test="bucket_fails_during_one_listing_then_refused"),
    Mutant("silent-while-backups-are-listed", "A5, silent bucket", [
        Change(f"{SOURCE}/storage/catalog.rs", "        match self.silent.pop() {", "        match self.silent.pop().filter(|_| !MUTANT) {"),
    ], test="bucket_fails_during_one_listing_then_refused"),
    Mutant("silent-passes-for-looked-at", "A5, silent bucket", [
        inside(CHECK, "    fn silent_buckets(&self) -> Vec<String> {", "return Vec::new();"),
    ], test="bucket_away_then_no_check_of_stored_objects_passes"),
    Mutant("silent-makes-a-gap-of-older-wal", "A5, silent bucket", [
        Change(f"{SOURCE}/command/backup.rs", "    if silent.is_empty() {", "    if MUTANT || silent.is_empty() {"),
    ], test="bucket_away_at_a_backup_then_older_wal_not_compared"),
    Mutant("tablespaces-unguarded", "A8", [
        Change(f"{SOURCE}/command/wal.rs", "    let mut guard = TablespaceGuard::new(data_directory);\n", "    if MUTANT {\n        return Ok(());\n    }\n    let mut guard = TablespaceGuard::new(data_directory);\n"),
    ], test="tablespace_made_after_the_backup_then_live_files_kept"),
    Mutant("record-across-segments-unguarded", "A8", [
        Change(f"{SOURCE}/restore/tablespace_guard.rs", "before.filter(|scanner| address.is_some()", "before.filter(|scanner| !MUTANT && address.is_some()"),
    ], test="record_across_two_segments_then_found"),
    Mutant("ancestor-past-the-fork", "decision 56", [
        inside(FOLLOWED, "        segment: SegmentName,\n    ) -> Result<SegmentShare, Error> {", "return Ok(SegmentShare::Whole);"),
    ], test="first_segment_not_archived_then_restore_ends_at_the_fork"),
    Mutant("ancestor-past-the-fork-for-a-standby", "decision 56", [
        inside(FOLLOWED, "        segment: SegmentName,\n    ) -> Result<Option<TimelineHistory>, Error> {", "return Ok(None);"),
    ], test="first_segment_not_archived_then_standby_waits_at_the_fork"),
    Mutant("branch-chosen-silently", "decision 56", [
        without(TARGET_CHECK, "asked.is_none() && reach.branch_left.is_some() =>"),
    ], test="first_segment_not_archived_then_restore_ends_at_the_fork"),
    Mutant("listed-history-given-up", "decision 56", [
        without(FETCH, "request.mode == FetchMode::Standby && known.contains(&timeline) {"),
    ], test="history_in_one_bucket_that_fails_then_standby_follows_it"),
    Mutant("known-end-forgotten", "decision 56", [
        without(GAP, "is_on_the_way(segment, end, &lineage, size)\n"),
    ], test="known_end_of_wal_gone_then_recovery_stopped"),
    Mutant("partial-end-passed", "decision 56", [
        without(f"{SOURCE}/restore/other_branches.rs", "left_at.get() > whole_until =>"),
    ], test="timeline_ends_in_a_partial_segment_then_end_reported"),
]

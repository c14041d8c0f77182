"""B1, B3 to B6 and B11: archiving that stops, and second copies that are missing or wrong."""

from backup_mutants import Change, Mutant, always, inside, without

SOURCE = "backup-agent/src"
STORE = f"{SOURCE}/archive/store.rs"
OBJECT_STORE = f"{SOURCE}/storage/bucket.rs"
ERROR_KIND = "causeway-runtime/src/s3/error_kind.rs"
UPLOAD = f"{SOURCE}/storage/multipart_upload.rs"
WAL_PUSH = f"{SOURCE}/archive/push.rs"
BACKGROUND = f"{SOURCE}/archive/backfill/background.rs"
COMPARE = f"{SOURCE}/archive/backfill/compare.rs"
REPLICATE = f"{SOURCE}/archive/backfill/replicate.rs"
REPLICATE_OBJECT = f"{SOURCE}/archive/backfill/replicate_object.rs"
BASE_BACKUP = f"{SOURCE}/base_backup.rs"
HEALTH = f"{SOURCE}/storage/bucket_health.rs"
CHECK = f"{SOURCE}/command/check.rs"
CHECK_ARCHIVE = f"{SOURCE}/command/check/archive.rs"
WAL_COMMAND = f"{SOURCE}/command/wal.rs"

MUTANTS = [
    Mutant("one-partial", "B1", [
        Change(WAL_PUSH, "for slot in 0..SLOTS {", "for slot in 0..(if MUTANT { 1 } else { SLOTS }) {"),
    ], seeds=(2,), test="second_partial_of_one_segment_then_both_kept"),
    Mutant("foreign-object-wedges", "B1, foreign object in one bucket", [
        Change(STORE, "        Err(error) => return Err(StoreOutcome::Failed(error)),\n    };", "        Err(error) if MUTANT && error.kind() == S3ErrorKind::Rejected => return Ok(false),\n        Err(error) => return Err(StoreOutcome::Failed(error)),\n    };"),
    ], test="foreign_object_in_one_bucket_then_reported_and_wal_archived"),
    Mutant("stored-nowhere", "a push that reports what did not happen", [
        Change(WAL_PUSH, "self.buckets.store(&encrypted).await", "if MUTANT { return Ok(()); }\n        self.buckets.store(&encrypted).await"),
    ], seeds=(1,), test="segment_pushed_again_then_only_same_content_accepted"),
    Mutant("lost-completion-is-final", "B3", [
        always(UPLOAD, "error.retry_class() == RetryClass::Transient {\n            return Err(error);"),
    ], test="upload_fails_inside_200_or_loses_response_then_stored"),
    Mutant("lost-answer-is-a-conflict", "B3", [
        Change(STORE, "        Ok(CreateOutcome::AlreadyThere) => {\n            match bucket_holds", "        Ok(CreateOutcome::AlreadyThere) if MUTANT => StoreOutcome::Conflict,\n        Ok(CreateOutcome::AlreadyThere) => {\n            match bucket_holds"),
    ], test="transient_error_then_push_and_fetch_succeed"),
    Mutant("refusals-are-final", "B3", [
        Change(ERROR_KIND, "(_, Some(code)) if TRANSIENT_CODES.contains(&code) =>", "(_, Some(code)) if !MUTANT && TRANSIENT_CODES.contains(&code) =>"),
    ], test="transient_error_then_push_and_fetch_succeed"),
    Mutant("stale-credentials-are-final", "B3", [
        Change(ERROR_KIND, "            Self::ConcurrentWrite\n            | Self::ExpiredCredentials\n", "            Self::ExpiredCredentials if MUTANT => RetryClass::Permanent,\n            Self::ConcurrentWrite\n            | Self::ExpiredCredentials\n"),
    ], test="transient_error_then_push_and_fetch_succeed"),
    Mutant("error-inside-200-is-final", "B3", [
        Change(ERROR_KIND, "        match (status, code) {", "        match (status, code) {\n            (200, _) if MUTANT => Self::Rejected,"),
    ], test="upload_fails_inside_200_or_loses_response_then_stored"),
    Mutant("answer-cut-off-is-final", "B3, error answer that is cut off", [
        Change(ERROR_KIND, "            SdkError::ResponseError(_) => Self::CutOff,", "            SdkError::ResponseError(answer) if MUTANT => Self::of(answer.raw().status().as_u16(), error.code()),\n            SdkError::ResponseError(_) => Self::CutOff,"),
    ], seeds=(26,), test="response_cut_off_then_retried_whatever_its_status"),
    Mutant("any-404-is-absent", "A3, NoSuchBucket passes for absent", [
        Change(ERROR_KIND, '            (_, Some("NoSuchKey")) => Self::NoSuchKey,', '            (404, _) if MUTANT => Self::NoSuchKey,\n            (_, Some("NoSuchKey")) => Self::NoSuchKey,'),
    ], test="bucket_or_service_unknown_then_not_an_absent_object"),
    Mutant("list-asked-once", "D, LIST is never retried", [
        Change(OBJECT_STORE, "        self.retried_for(self.limits().retry, bytes, call).await", "        let timeout = if MUTANT && bytes == 0 { Duration::ZERO } else { self.limits().retry };\n        self.retried_for(timeout, bytes, call).await"),
    ], test="listing_fails_once_then_retried"),
    Mutant("body-begun-anew", "B2, B3: body that is cut", [
        Change(f"{SOURCE}/storage/object_body.rs", "            if why.retry_class() == RetryClass::Permanent\n", "            if MUTANT || why.retry_class() == RetryClass::Permanent\n"),
    ], test="body_cut_repeatedly_then_read_to_its_end"),
    Mutant("missed-backup-not-noted", "B4", [
        Change(BASE_BACKUP, "                health.record_missing(bucket.name(), &self.object_keys.manifest(id));", "                if !MUTANT {\n                    health.record_missing(bucket.name(), &self.object_keys.manifest(id));\n                }"),
        Change(BASE_BACKUP, "        compare_in_background(self.config, self.buckets, self.system_id);", "        if !MUTANT {\n            compare_in_background(self.config, self.buckets, self.system_id);\n        }"),
    ], test="backup_missing_in_a_bucket_then_copied_there"),
    Mutant("only-wal-is-compared", "B4", [
        inside(COMPARE, "    async fn compare_backups(&mut self, catalog: &Catalog) -> Result<(), Error> {", "return Ok(());"),
    ], test="bucket_emptied_then_named_until_it_is_filled"),
    Mutant("manifest-copied-without-its-packs", "B4", [
        Change(REPLICATE, "key.strip_suffix(MANIFEST) {", "key.strip_suffix(MANIFEST).filter(|_| !MUTANT) {"),
    ], test="backup_missing_in_a_bucket_then_copied_there"),
    Mutant("emptied-bucket-unnoticed", "B4", [
        without(COMPARE, "self.scope == CompareScope::Missing && has_none"),
    ], test="bucket_emptied_then_named_until_it_is_filled"),
    Mutant("missing-copy-unchecked", "B4", [
        Change(CHECK_ARCHIVE, 'CheckOutcome::of("backups in every bucket", &wrong)', 'CheckOutcome::of("backups in every bucket", if MUTANT { &[] } else { &wrong })'),
    ], test="bucket_emptied_then_named_until_it_is_filled"),
    Mutant("slow-bucket-never-filled", "B5", [
        inside(BACKGROUND, "pub(crate) fn start_in_background(config: &Config, buckets: &Buckets) {", "return;"),
    ], test="far_bucket_slow_then_it_receives_every_segment"),
    Mutant("missing-segment-not-noted", "B5", [
        Change(STORE, "                self.health().record_missing(name, file.key());", "                if !MUTANT {\n                    self.health().record_missing(name, file.key());\n                }"),
    ], test="far_bucket_slow_then_it_receives_every_segment"),
    Mutant("lacking-without-a-metric", "B5", [
        Change(HEALTH, "                record.lacking_since.get_or_insert_with(now);", "                if !MUTANT {\n                    record.lacking_since.get_or_insert_with(now);\n                }"),
    ], test="bucket_lacks_an_object_then_metric_has_the_time"),
    Mutant("lacking-is-success", "B5", [
        without(WAL_COMMAND, "lacking > 0 {"),
    ], test="damaged_source_then_not_copied_and_reported"),
    Mutant("limits-ignore-the-size", "B6", [
        inside(OBJECT_STORE, "fn transfer_time(bytes: u64) -> Duration {", "return Duration::ZERO;"),
    ], test="upload_slow_but_progressing_then_one_request_suffices"),
    Mutant("push-has-20-s", "B6", [
        Change(STORE, "attempts.next().await,", "if MUTANT {\n                    time::timeout_at(began + STORE_TIMEOUT, attempts.next()).await.ok().flatten()\n                } else {\n                    attempts.next().await\n                },"),
    ], test="upload_slow_but_progressing_then_one_request_suffices"),
    Mutant("missing-pack-unchecked", "B4, packs of a backup", [
        Change(CHECK_ARCHIVE, 'CheckOutcome::of("packs of the newest backup", &wrong)', 'CheckOutcome::of("packs of the newest backup", if MUTANT { &[] } else { &wrong })'),
    ], test="pack_missing_then_check_names_it_and_backfill_copies_it"),
    Mutant("missing-pack-not-copied", "B4, packs of a backup", [
        Change(COMPARE, "missing.into_iter().chain(cut_short)", "missing.into_iter().chain(cut_short.into_iter().filter(|_| !MUTANT))"),
    ], test="pack_missing_then_check_names_it_and_backfill_copies_it"),
    Mutant("other-content-counts-as-a-copy", "B4, B11: other content", [
        Change(REPLICATE_OBJECT, "            Ok(Sameness::Same) => return", "            Ok(_) if MUTANT => return CopyOutcome::AlreadyThere,\n            Ok(Sameness::Same) => return"),
    ], test="other_content_in_one_bucket_then_named_until_it_is_gone"),
    Mutant("expired-wal-comes-back", "B11", [
        always(COMPARE, "self.scope == CompareScope::Everything || needs."),
    ], test="hole_and_end_missing_then_copied_and_expired_not"),
    Mutant("expired-backup-comes-back", "B11", [
        always(COMPARE, "scope == CompareScope::Everything\n            || oldest"),
    ], test="backup_expired_in_one_bucket_then_not_copied_back"),
    Mutant("holes-stay", "B11", [
        Change(COMPARE, "needs.include(&row.key)", "needs.include(&row.key) && !MUTANT"),
    ], test="hole_and_end_missing_then_copied_and_expired_not"),
    Mutant("loss-before-a-fork-unrecorded", "D, segment before a fork is lost", [
        Change(WAL_PUSH, "            self.buckets.health().add_gap(segment);", "            if !MUTANT {\n                self.buckets.health().add_gap(segment);\n            }"),
    ], test="segment_before_the_fork_lost_then_gap_shown_until_filled"),
    Mutant("expired-is-lost-before-a-fork", "D, segment before a fork is lost", [
        Change(WAL_PUSH, "let is_expired = oldest.is_some_and(", "let is_expired = !MUTANT && oldest.is_some_and("),
    ], test="segments_before_the_fork_expired_then_no_gap"),
    Mutant("overwriting-store-unchecked", "D, check tries no conditional write", [
        inside(CHECK, "async fn conditional_write(config: &Config, bucket: &Bucket) -> Result<(), String> {", "return Ok(());"),
    ], test="store_overwrites_then_check_names_it"),
    Mutant("wal-waits-for-backups", "B4, WAL beside a backup", [
        Change(BACKGROUND, "            if keys.is_empty() {", "            let backup_first = self.kind == NotedKind::Wal && self.round.busy.load(Ordering::Relaxed) > 1;\n            if MUTANT && backup_first {\n                time::sleep(CHECK_INTERVAL).await;\n                continue;\n            }\n            if keys.is_empty() {"),
    ], test="wal_missed_during_backup_copy_then_copied_in_parallel"),
]

"""B2, B9, C and D: restores that a single bad response or object ends, and copies that ignore the request."""

from backup_mutants import Change, Mutant, always, inside, without

SOURCE = "backup-agent/src"
RESTORE = f"{SOURCE}/restore"
RECOVERY = f"{RESTORE}/recovery.rs"
FILL = f"{RESTORE}/fill.rs"
PACK_SINK = f"{RESTORE}/pack_sink.rs"
DOWNLOAD = f"{SOURCE}/storage/download.rs"
TABLESPACES = f"{RESTORE}/tablespaces.rs"
CATALOG = f"{SOURCE}/storage/catalog.rs"
MANIFEST = "causeway-core/src/backup/manifest"


def inherited(name):
    """Returns a change that leaves a setting of the copy as it was restored."""
    return Change(RECOVERY, f'        "{name}",\n', f'        if MUTANT {{ "recovery_target" }} else {{ "{name}" }},\n')


MUTANTS = [
    Mutant("restore-begins-anew", "B2", [
        always(f"{RESTORE}/marker.rs", 'has(CONTROL_FILE) || has("postmaster.pid") =>'),
    ], seeds=(1,), test="killed_then_only_missing_packs_fetched"),
    Mutant("one-download-try", "B2", [
        Change(DOWNLOAD, "if is_over || !budget.wait", "if MUTANT || is_over || !budget.wait"),
    ], test="bad_responses_then_restored_without_a_second_run"),
    Mutant("everything-fetched-again", "B2", [
        without(FILL, "filling.is_resumed {"),
    ], test="killed_then_only_missing_packs_fetched"),
    Mutant("what-is-there-is-trusted", "B2", [
        Change(PACK_SINK, "                && has_checksum(&place.blob, &bytes);", "                && (MUTANT || has_checksum(&place.blob, &bytes));"),
    ], test="killed_then_only_missing_packs_fetched"),
    Mutant("other-files-stay", "B2", [
        inside(f"{RESTORE}/directory.rs", "    pub(super) fn remove_others(&self, plan: &RestorePlan) -> Result<(), Error> {", "return Ok(());"),
    ], test="killed_then_only_missing_packs_fetched"),
    Mutant("unreadable-manifest-hides-all", "B9", [
        Change(CATALOG, "            Err(why) => catalog\n", "            Err(why) if MUTANT => return Err(why),\n            Err(why) => catalog\n"),
    ], test="manifest_unreadable_then_others_listed_and_restored"),
    Mutant("unreached-manifest-passed-over", "B9", [
        Change(CATALOG, "            None => matches!(backup.why, Error::Unreachable { .. }),", "            None => !MUTANT && matches!(backup.why, Error::Unreachable { .. }),"),
    ], test="manifest_unreachable_then_not_skipped"),
    Mutant("unreached-manifest-is-none", "B9", [
        Change(CATALOG, "            return Err(Error::Unreachable {\n                what: key,", "            if MUTANT {\n                return Ok(None);\n            }\n            return Err(Error::Unreachable {\n                what: key,"),
    ], test="manifest_unreachable_then_not_skipped"),
    Mutant("manifest-unopened-by-check", "B9", [
        Change(f"{SOURCE}/command/check/archive.rs", "= (newest, self.catalog.backups.last()) {", "= (newest.filter(|_| !MUTANT), self.catalog.backups.last()) {"),
    ], test="manifest_damaged_inside_then_check_names_it"),
    Mutant("action-without-target-ignored", "C", [
        inside(f"{RESTORE}/request.rs", "fn target_action(\n    target: &RecoveryTarget,\n    asked: Option<TargetAction>,\n) -> Result<TargetAction, Error> {", "return Ok(asked.unwrap_or(TargetAction::Promote));"),
    ], test="options_without_effect_then_refused"),
    Mutant("exclusive-ignored", "C", [
        inside(f"{RESTORE}/request.rs", "fn boundary(target: &RecoveryTarget, exclusive: bool) -> Result<Boundary, Error> {", "return Ok(Boundary::Inclusive);"),
    ], test="options_without_effect_then_refused"),
    Mutant("inclusive-inherited", "C", [
        Change(RECOVERY, '    settings.push(("recovery_target_inclusive", "on".to_owned()));', '    if !MUTANT {\n        settings.push(("recovery_target_inclusive", "on".to_owned()));\n    }'),
    ], test="inherited_settings_then_overridden"),
    Mutant("delay-inherited", "C", [
        Change(RECOVERY, '    settings.push(("recovery_min_apply_delay", "0".to_owned()));', '    if !MUTANT {\n        settings.push(("recovery_min_apply_delay", "0".to_owned()));\n    }'),
    ], test="inherited_settings_then_overridden"),
    Mutant("end-command-inherited", "C", [inherited("recovery_end_command")], test="inherited_settings_then_overridden"),
    Mutant("cleanup-command-inherited", "C", [inherited("archive_cleanup_command")], test="inherited_settings_then_overridden"),
    Mutant("earlier-target-inherited", "C", [inherited("recovery_target_time")], test="inherited_settings_then_overridden"),
    Mutant("synchronous-standbys-inherited", "C", [
        Change(RECOVERY, '("synchronous_standby_names", String::new()),', '(if MUTANT { "primary_conninfo" } else { "synchronous_standby_names" }, String::new()),'),
    ], test="inherited_settings_then_overridden"),
    Mutant("subscriptions-run", "C, subscriptions", [
        Change(RECOVERY, '"max_logical_replication_workers", "0".to_owned()', '"max_logical_replication_workers", if MUTANT { "4" } else { "0" }.to_owned()'),
    ], test="inherited_settings_then_overridden"),
    Mutant("mapping-of-nothing-ignored", "C", [
        Change(TABLESPACES, "        if !all\n            .iter()\n            .any(", "        if !MUTANT\n            && !all.iter().any("),
    ], test="tablespace_without_a_place_then_refused"),
    Mutant("relative-mapping-accepted", "C", [
        Change(f"{RESTORE}/target_directories.rs", "            if !path.is_absolute() {", "            if !MUTANT && !path.is_absolute() {"),
    ], test="options_without_effect_then_refused"),
    Mutant("other-lineage-chosen", "D, choose by lineage", [
        without("causeway-core/src/backup/restore.rs", "!history.passes(found.timeline, found.stop_lsn) {"),
    ], test="backup_past_a_fork_then_not_chosen"),
    Mutant("shared-blob-written-once", "D, blobs by offset", [
        Change(PACK_SINK, "            self.next += 1;\n        }\n        Ok(())", "            self.next += 1;\n            let is_shared = |other: &BlobPlace| other.blob.offset == place.blob.offset;\n            while MUTANT && self.left.get(self.next).is_some_and(is_shared) {\n                self.next += 1;\n            }\n        }\n        Ok(())"),
    ], test="shared_blob_then_in_each_file"),
    Mutant("shared-blob-planned-once", "D, blobs by offset", [
        inside(f"{RESTORE}/plan.rs", "            places.sort_by_key(|place| place.blob.offset);", "places.dedup_by_key(|place| place.blob.offset);"),
    ], test="shared_blob_then_planned_for_each_file"),
    Mutant("blob-left-out", "D, parts that are not written", [
        inside(f"{RESTORE}/plan.rs", "            places.sort_by_key(|place| place.blob.offset);", "places.pop();"),
    ], test="bad_responses_then_restored_without_a_second_run"),
    Mutant("silent-region-asked-for-each-pack", "D, silent region", [
        inside(DOWNLOAD, "    fn record_slow(&self, bucket: &str, bytes_per_sec: Option<u64>) {", "return;"),
    ], test="first_region_fails_then_few_packs_requested_there"),
    Mutant("slow-buckets-left-for-each-other", "attack 2, 14", [
        Change(DOWNLOAD, "Some(_) | None => !tries.slow.contains(name),", "Some(_) | None => MUTANT || !tries.slow.contains(name),"),
        Change(DOWNLOAD, "Some(bucket) if now < bucket.until => false,", "Some(bucket) if !MUTANT && now < bucket.until => false,"),
    ], test="every_bucket_slow_then_faster_one_read_to_its_end"),
    Mutant("crawling-bucket-followed", "attack 2, 14", [
        Change(DOWNLOAD, "pace.end_window().filter(|rate| is_left(*rate))", "pace.end_window().filter(|rate| !MUTANT && is_left(*rate))"),
    ], test="nearest_bucket_crawls_then_restored_from_the_next"),
    Mutant("forged-location-used", "D, forged location", [
        Change(TABLESPACES, "        .or_else(|| below.map(|directory| directory.join(tablespace.oid.to_string())))", "        .or_else(|| below.map(|directory| directory.join(tablespace.oid.to_string())))\n        .or_else(|| MUTANT.then(|| was.to_owned()))"),
    ], test="tablespace_without_a_place_then_refused"),
    Mutant("forged-location-unlooked-at", "D, forged location", [
        inside(f"{MANIFEST}/paths.rs", "fn is_location(location: &str) -> bool {", "return true;"),
    ], test="tablespace_location_not_clean_then_rejected"),
    Mutant("climbing-path-followed", "D, forged path", [
        inside(f"{MANIFEST}.rs", "fn is_below(path: &str) -> bool {", "return true;"),
    ], test="path_or_blob_outside_then_rejected"),
    Mutant("reserved-path-written", "D, forged path", [
        inside(f"{MANIFEST}/paths.rs", "pub fn is_reserved(path: &str) -> bool {", "return false;"),
    ], test="path_reserved_or_without_directory_then_rejected"),
    Mutant("refused-manifest-is-damaged", "B9, a refusal", [
        always(CATALOG, "error.damage().is_some() =>"),
    ], test="manifest_unreachable_then_not_skipped"),
    Mutant("unreadable-archive-is-empty", "B9, a foreign answer", [
        without(CATALOG, "self.backups.is_empty() && !self.unreadable.is_empty()).then_some(0)"),
    ], test="no_manifest_readable_then_not_reported_as_empty"),
    Mutant("clocks-not-commits", "decision 54", [
        Change(f"{RESTORE}/choice.rs", "last.filter(|last| *last > time)", "last.filter(|last| !MUTANT && *last > time)"),
    ], test="backup_ended_by_a_clock_behind_then_older_one_chosen"),
]

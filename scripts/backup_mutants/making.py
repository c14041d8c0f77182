"""A6, A7, B7, B8, B10, B12 and B13: backups of the wrong directory, with missing files, that never end, or with unbounded memory."""

from backup_mutants import Change, Mutant, always, inside, without

BASE_BACKUP = "backup-agent/src/base_backup"
DIRECTORY = f"{BASE_BACKUP}/server_directory.rs"
WALK = f"{BASE_BACKUP}/directory_walk.rs"
READ = f"{BASE_BACKUP}/read.rs"
DAMAGE = f"{BASE_BACKUP}/damage.rs"
WAL_WAIT = f"{BASE_BACKUP}/wal_wait.rs"

MUTANTS = [
    Mutant("directory-not-compared", "A6", [
        inside(DIRECTORY, "    pub(crate) async fn verify_directory(&self, directory: &Path) -> Result<(), Error> {", "return Ok(());"),
        inside(DIRECTORY, "        control: &ControlFileData,\n        started: &StartedBackup,\n    ) -> Result<(), Error> {", "return Ok(());"),
    ], test="copy_of_the_data_directory_then_refused"),
    Mutant("directory-compared-only-at-the-start", "A6, directory swapped", [
        Change("backup-agent/src/base_backup.rs", "    session\n        .verify_started(directory, &copied.control, &backup.started)\n        .await?;", "    if !MUTANT {\n        session\n            .verify_started(directory, &copied.control, &backup.started)\n            .await?;\n    }"),
    ], test="directory_replaced_during_the_backup_then_refused"),
    Mutant("lstat-error-is-vanished", "A7", [
        Change(WALK, '        Err(error) => Err(Error::io("inspect", place)(error)),', '        Err(_) if MUTANT => Ok(None),\n        Err(error) => Err(Error::io("look at", place)(error)),'),
    ], test="directory_not_readable_then_refused"),
    Mutant("readdir-error-is-vanished", "A7", [
        Change(WALK, '        Err(error) => Err(Error::io("list", place)(error)),', '        Err(_) if MUTANT => Ok(None),\n        Err(error) => Err(Error::io("list", place)(error)),'),
    ], test="directory_not_readable_then_refused"),
    Mutant("link-error-is-vanished", "A7", [
        Change(WALK, '            Err(error) => return Err(Error::io("follow", place)(error).into()),', '            Err(_) if MUTANT => return Ok(None),\n            Err(error) => return Err(Error::io("follow", place)(error).into()),'),
    ], test="anything_but_a_vanished_file_then_error"),
    Mutant("open-error-is-vanished", "A7", [
        always(READ, "error.kind() == io::ErrorKind::NotFound => {}\n                Err(error) => return Err(Error::io"),
    ], test="linked_files_and_directories_then_copy_starts"),
    Mutant("whole-tablespace-taken", "B7", [
        Change(WALK, "        let place = location.join(version);", "        let place = if MUTANT { location.clone() } else { location.join(version) };"),
        Change(WALK, "        let path = join_path(path, version);", "        let path = if MUTANT { path.to_owned() } else { join_path(path, version) };"),
    ], test="backup_then_same_files_as_pg_basebackup"),
    Mutant("links-left-out", "B8", [
        Change(WALK, "        let found = if found.is_symlink() {", "        if MUTANT && found.is_symlink() {\n            return Ok(());\n        }\n        let found = if found.is_symlink() {"),
        Change("backup-agent/src/base_backup.rs", "    needed.check(directory, &copied.taken, &copied.walked)?;", "    if !MUTANT {\n        needed.check(directory, &copied.taken, &copied.walked)?;\n    }"),
    ], test="linked_files_and_directories_then_copy_starts"),
    Mutant("needed-files-not-compared", "B8", [
        Change("backup-agent/src/base_backup.rs", "    needed.check(directory, &copied.taken, &copied.walked)?;", "    if !MUTANT {\n        needed.check(directory, &copied.taken, &copied.walked)?;\n    }"),
    ], test="linked_files_and_directories_then_copy_starts"),
    Mutant("no-damage-is-accepted", "B10", [
        always(DAMAGE, "self.unnamed > 0 || self.files.keys()"),
    ], test="damaged_pages_then_all_named_and_stored_only_if_accepted"),
    Mutant("one-damaged-file-named", "B10", [
        inside(DAMAGE, "        self.pages += 1;", "if !self.files.is_empty() && !self.files.contains_key(path) { self.unnamed += 1; return; }"),
    ], test="damaged_pages_then_all_named_and_stored_only_if_accepted"),
    Mutant("damage-confirmed-page-by-page", "B10", [
        Change(DAMAGE, "            let at = usize::try_from(suspect.offset - start)", "            if MUTANT {\n                thread::sleep(*pause);\n            }\n            let at = usize::try_from(suspect.offset - start)"),
        Change(DAMAGE, "            let is_open = open\n", "            if MUTANT {\n                thread::sleep(pause);\n            }\n            let is_open = open\n"),
    ], test="damaged_pages_then_all_named_and_stored_only_if_accepted"),
    Mutant("newer-position-is-sound", "B10, page that claims a newer position", [
        Change(READ, "        for page in torn {", "        for page in torn.into_iter().filter(|_| !MUTANT) {"),
    ], test="damaged_page_with_a_newer_lsn_then_named"),
    Mutant("segment-of-an-idle-primary-left-open", "B12", [
        inside(WAL_WAIT, "pub(crate) async fn end_segment(config: &Config, server: &ServerInfo, tasks: &Tasks) {", "return;"),
    ], test="standby_of_an_idle_primary_then_backup_ends_its_segment"),
    Mutant("archive-timeout-not-awaited", "B12", [
        Change(WAL_WAIT, "set.unwrap_or(2 * server.archive_timeout_secs + ARCHIVE_TIMEOUT_SECS)", "set.unwrap_or(if MUTANT { ARCHIVE_TIMEOUT_SECS } else { 2 * server.archive_timeout_secs + ARCHIVE_TIMEOUT_SECS })"),
    ], test="archive_timeout_then_wait_is_two_of_them_and_60_s"),
    Mutant("segment-in-memory", "B13", [
        Change("backup-agent/src/archive/encrypted_wal_file.rs", "stream.next_part(WHOLE_BYTES)", "stream.next_part(if MUTANT { usize::MAX } else { WHOLE_BYTES })"),
    ], test="large_segment_then_parts_and_bounded_memory"),
    Mutant("lost-connection-noticed-at-the-end", "D, lost connection", [
        Change("backup-agent/src/base_backup/session.rs", "            if self.client.is_closed() {", "            if !MUTANT && self.client.is_closed() {"),
        Change("backup-agent/src/base_backup/session.rs", "            if asked_at.elapsed() < QUERY_INTERVAL {", "            if MUTANT || asked_at.elapsed() < QUERY_INTERVAL {"),
    ], test="connection_lost_and_buckets_silent_then_backup_ends"),
    Mutant("failover-unnoticed", "decision 54", [
        without(f"{BASE_BACKUP}/timeline.rs", "began != ended {"),
    ], test="primary_fails_over_during_the_backup_then_refused"),
    Mutant("archiver-progress-does-not-count", "decision 55", [
        without(WAL_WAIT, "status.has_come_nearer {"),
    ], test="archiver_far_behind_then_backup_waits_while_it_archives"),
]

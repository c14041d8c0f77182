//! Hints of the errors: the remedy, printed after the message.

pub(super) const IDENTITY: &str = "set `identity-file` to the file that `backup-agent keygen` wrote; hosts that only write need none";
pub(super) const TOO_FEW_BUCKETS: &str = "nothing was acknowledged: run the same command again";
pub(super) const UNREACHABLE: &str = "run `backup-agent check` to see which bucket responds";
pub(super) const CONFLICT: &str = "another server, or a copy restored with `archive_mode` on, archives under this name and system identifier: stop one, or give it another `cluster`; nothing was overwritten";
pub(super) const WAL_LOST: &str = "restore the object in a bucket or push the segment again, and start PostgreSQL again; without `--known-end` in `restore_command` recovery ends there";
pub(super) const WAL_GAP: &str = "recover to a target before the gap, or restore a backup from after it; `backup-agent list` shows both";
pub(super) const LACKING: &str = "run `backup-agent check` to see which bucket responds, then the same command again; of two different objects under one key, remove the wrong one first";
pub(super) const WAL_FILE_REJECTED: &str =
    "PostgreSQL recycles WAL files; nothing was stored under this name";
pub(super) const DAMAGED: &str = "the object was altered after it was stored, or belongs under another key; try the other bucket with `--from`, or an older backup with `--backup`, which `backup-agent list` shows";
pub(super) const BEYOND_REACH: &str = "choose an earlier target, or none to replay all WAL; a gap is closed by `backup-agent wal backfill` (with `--all` if the bucket never had it) if another bucket has the segment, and by `wal push` from a node's `pg_wal`";
pub(super) const NO_HISTORY: &str = "archive the history again from a node's `pg_wal` (`backup-agent wal push`), or follow another timeline with `--target-timeline`";
pub(super) const NOTHING_STORED: &str = "set `cluster` and `[[buckets]]` as when the backup was taken, and start PostgreSQL again: recovery resumes";
pub(super) const SILENT_BUCKET: &str = "try again, or read only from another bucket with `--from`";
pub(super) const UNREADABLE_BACKUP: &str =
    "try again, or name the backup to restore with `--backup`; `backup-agent list` shows them";
pub(super) const PAGE_CHECKSUMS: &str = "the server's storage is damaged: keep older backups; `--accept-damaged FILE`, once for each, stores them as they are";
pub(super) const WAL_NOT_ARCHIVED: &str = "check `pg_stat_archiver` and `archive_command`, and run the backup again: this one does not count";
pub(super) const OTHER_DIRECTORY: &str =
    "set `data-directory` to the files of the server in `[postgres]`; nothing was stored";
pub(super) const OLDER_WAL_GAP: &str = "a restore from an older backup ends before the gap; keep the new one, and see `backup-agent list`";
pub(super) const RESTORED: &str = "start PostgreSQL on it as it is, or remove it to restore again; only the removal of its marker `backup-agent.restore` was interrupted";
pub(super) const NOT_EMPTY: &str = "restore into a directory that does not exist yet";
pub(super) const EXISTS: &str =
    "choose another name: objects encrypted for a lost identity stay unreadable";

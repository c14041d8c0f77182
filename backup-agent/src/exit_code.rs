//! Exit codes, with cause and remedy; `docs/reference/exit-codes.md` is generated from them.

use causeway_runtime::declare_exit_codes;

declare_exit_codes! {
    /// All codes but 255 are below 126, because PostgreSQL stops recovery when a `restore_command` ends with more.
    /// Declared in `backup-agent/src/exit_code.rs`.
    pub(crate) enum BackupExitCode {
        NotArchived = 1,
            "The WAL file is in no bucket, and every bucket responded. As `restore_command`, this tells PostgreSQL \
             that the archive ends here",
            "None during a recovery";
        CommandLine = 2,
            "The command line or the log filter is invalid",
            "`backup-agent <command> --help`";
        Settings = 10,
            "The settings are invalid; nothing was changed",
            "The message names the setting";
        Identity = 11,
            "The identity that decrypts the archive is unusable",
            "Set `identity-file` to the file that `backup-agent keygen` wrote; a host that only writes needs none";
        DataDirectory = 12,
            "The data directory is unusable, or not the server's; no backup was stored",
            "The message names the cause: set `data-directory` to the server's files on this host";
        Postgres = 13,
            "PostgreSQL did not answer in time, or the connection of the backup was lost",
            "Check `[postgres]`, and that the server runs; the message names a statement that timed out, and its \
             setting";
        TooFewBuckets = 14,
            "Too few buckets: fewer than required have the object, it was not found and not all responded, or \
             `restore` would have to skip one that does not respond",
            "Nothing was acknowledged; run the command again. `backup-agent check` shows which bucket responds";
        Conflict = 15,
            "A bucket already has the key with other content; nothing was overwritten",
            "Another server, or a copy restored with `archive_mode` on, archives under this name: stop one, or \
             change its `cluster`";
        WalFileRejected = 16,
            "The file does not match its name: another database's, segment's or timeline's, or incomplete",
            "PostgreSQL recycles WAL files; nothing was stored under this name";
        Damaged = 17,
            "An object cannot be decrypted, or a manifest is invalid",
            "It was altered, or belongs under another key: use the other bucket with `--from`";
        PageChecksums = 18,
            "Pages do not match their checksums; every file with such pages is named",
            "The server's storage is damaged: keep the older backups. `backup --accept-damaged FILE`, once per \
             file, stores them as they are";
        Incomplete = 19,
            "The backup was not completed: it lacks a file that PostgreSQL needs, its server was promoted, its \
             primary failed over, or its WAL was not archived in time",
            "Check `pg_stat_archiver` and `archive_command`, then run it again: after a failover, once the new \
             primary has made a checkpoint";
        TargetUnreachable = 20,
            "The target is unreachable: no backup ended before it, the named one has later transactions, it is \
             after the end of the WAL, the WAL has a gap before it, a timeline's history is lost, or two timelines \
             continue and none was named",
            "The message names what is possible";
        NotEmpty = 21,
            "The target directory, or a tablespace's, is not empty, or has a complete restore that was not started",
            "Restore into a new directory, or start the copy, as the message says";
        ChecksFailed = 22,
            "`check`: some checks failed",
            "Each is listed with its reason";
        Exists = 23,
            "`keygen`: the file exists, and is not overwritten",
            "Choose another name";
        Rejected = 24,
            "The request is rejected: an option would be ignored, or another server's files are in the way",
            "The message names the cause";
        OlderWalGap = 25,
            "`backup`: the backup is stored, and the WAL after an older one has a gap in every bucket",
            "A restore from the older one ends before the gap: `backup-agent list` shows it. Keep the new backup";
        WalGap = 26,
            "The WAL has a gap: the file is in no bucket, and later WAL is, or was at the restore (`--known-end`). \
             Only with `wal fetch --recovery`, which ends with 255 and logs it",
            "Recover to a target before the gap, or restore a backup from after it";
        Lacking = 27,
            "`wal backfill`: a bucket still lacks objects of another, has other content under a key, or a segment \
             from before a fork or a pack of a backup is in no bucket",
            "The message names bucket, number and time, and the first object that no copy repairs; standard output \
             lists all. `backup-agent check` shows which bucket responds. Of two objects under one key, remove the \
             wrong one, and run it again";
        Io = 30,
            "A file could not be read or written",
            "The message names the file";
        Internal = 31,
            "A bug",
            "Report it";
        RecoveryStopped = 255,
            "`wal fetch`: the file was not fetched, or must not be replayed on this host, and recovery must not end \
             here. PostgreSQL stops with `FATAL`",
            "Remove the cause, which the line before names, and start the server again: recovery resumes";
    }
}

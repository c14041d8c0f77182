"""Faults of the archive and of backups."""

import shutil
import time

import lab as labs
import wait
from scene import Expected, Fault

BACKUP_SECS = 300


def back_up(scene):
    """Takes a base backup on the primary, and raises when it fails."""
    scene.lab.exec("backup-agent", "backup", node=scene.lab.primary(), timeout=BACKUP_SECS)


def nothing(_scene):
    """The cluster has no backup from the start."""
    return 0.0


def first_backup_and_restore(scene):
    """Takes the first backup, and restores it on the host that can read it."""
    back_up(scene)
    verify_restore(scene)


def verify_restore(scene):
    """Runs the restore drill of production on the remote host, which has the identity."""
    home = scene.lab.directory / f"node-{scene.remote}"
    drill = labs.ROOT / "scripts" / "deploy" / "restore-drill-on-host"
    scene.lab.exec("env", "PGUSER=postgres", f"ROOM={home}", str(drill), node=scene.remote, timeout=BACKUP_SECS)


def lose_buckets(scene):
    """No node reaches a bucket, and a backup is due."""
    scene.lab.inject("buckets-down")
    scene.lab.sql(scene.primary, "select pg_switch_wal()")
    began = time.time()
    scene.lab.exec("backup-agent", "backup", node=scene.primary, timeout=BACKUP_SECS, check=False)
    scene.notes["failed-backup"] = began


def heal_buckets(scene):
    scene.lab.heal()
    back_up(scene)


def break_archive_command(scene):
    """An operator sets an archive_command that fails."""
    scene.lab.sql(scene.primary, "alter system set archive_command = 'false'")
    scene.lab.sql(scene.primary, "select pg_reload_conf()")
    scene.lab.sql(scene.primary, "select pg_switch_wal()")


def reset_archive_command(scene):
    scene.lab.sql(scene.primary, "alter system reset archive_command")
    scene.lab.sql(scene.primary, "select pg_reload_conf()")
    scene.lab.sql(scene.primary, "select pg_switch_wal()")


def lose_segment(scene):
    """An archived segment vanishes from both buckets, and the next check finds that."""
    segment = scene.lab.sql(scene.primary, "select pg_walfile_name(pg_switch_wal())")

    def stored():
        files = [file for file in (scene.lab.directory / "s3").rglob(f"*{segment}*") if file.is_file()]
        if len(files) < 2:
            raise wait.NotYet(f"{len(files)} objects of {segment}")
        return files

    # A later one exists, so that this one is in the middle.
    files = wait.until("the segment to be in both buckets", 120, stored)
    scene.lab.sql(scene.primary, "select pg_switch_wal()")
    aside = scene.lab.directory / "lost-objects"
    aside.mkdir()
    scene.notes["lost"] = [(file, aside / str(number)) for number, file in enumerate(files)]
    for file, to in scene.notes["lost"]:
        shutil.move(file, to)
    began = time.time()
    scene.lab.exec("backup-agent", "check", node=scene.primary, check=False)
    return began


def find_segment(scene):
    for file, at in scene.notes["lost"]:
        shutil.move(at, file)
    (scene.lab.directory / "lost-objects").rmdir()
    scene.lab.exec("backup-agent", "check", node=scene.primary, check=False)


NEW = Fault(
    "the cluster is new and has no backup", nothing, first_backup_and_restore,
    (
        Expected("BackupTooOld"),
        Expected("BackupNotInOtherRegion", timeout=300),
        Expected("RestoreNotVerified", timeout=400),
        Expected("PitrWindowShort", "warning", timeout=400, resolves_within=0),
    ),
)
BUCKETS_DOWN = Fault(
    "no bucket answers, and a backup fails", lose_buckets, heal_buckets,
    (
        Expected("BackupRepoUnhealthy", labels=(("bucket", "causeway-backup-eu-west-1"),)),
        Expected("BackupRepoUnhealthy", labels=(("bucket", "causeway-backup-eu-central-1"),)),
        Expected("BackupFailed", "warning", muted_by=("BackupRepoUnhealthy",)),
    ),
)
COMMAND_BROKEN = Fault(
    "archive_command fails", break_archive_command, reset_archive_command,
    (
        Expected("WalArchiveFailing"),
        Expected("WalArchiveStale", muted_by=("WalArchiveFailing",), timeout=240),
        Expected("ConfigDrift", "warning", on="primary"),
    ),
)
SEGMENT_LOST = Fault("a segment is missing in both buckets", lose_segment, find_segment, (Expected("WalArchiveGap"),))

GROUPS = ((NEW,), (BUCKETS_DOWN,), (COMMAND_BROKEN,), (SEGMENT_LOST,))

"""Faults of the archive and of backups."""

import shutil
import time

import lab as labs
import wait
from scene import Expected, Fault, Scene

BACKUP_SECS = 300
OTHER_BUCKET = "causeway-backup-eu-central-1"


def back_up(scene):
    """Takes a base backup on the primary, and raises when it fails."""
    scene.lab.exec("backup-agent", "backup", node=scene.lab.primary(), timeout=BACKUP_SECS)


def nothing(_scene):
    """The cluster has no backup from the start."""
    return 0.0


def first_backup_and_restore(scene):
    """Takes the first backup, and restores it on the host that can read it."""
    back_up(scene)
    # The drill fails unless it replays a commit from the archive.
    archive_a_commit(scene, scene.lab.primary())
    verify_restore(scene)


def archive_a_commit(scene, primary):
    """Ends a segment with a commit, waits until both buckets have it, and returns its objects."""
    scene.lab.sql(primary, "create table if not exists archived (n int); insert into archived values (1)")
    segment = scene.lab.sql(primary, "select pg_walfile_name(pg_switch_wal())")

    def stored():
        files = [file for file in (scene.lab.directory / "s3").rglob(f"*{segment}*") if file.is_file()]
        if len(files) < 2:
            raise wait.NotYet(f"{len(files)} objects of {segment}")
        return files

    return wait.until(f"segment {segment} in both buckets", 120, stored)


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
    files = archive_a_commit(scene, scene.primary)
    # A later one exists, so that this one is in the middle.
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


def hold_archive(scene):
    """The primary's archive_command does not end, until the scene is cleaned up."""
    held = scene.lab.directory / f"node-{scene.primary}" / "state" / "archive-held"
    waiting = held.with_name("archive-waiting")
    held.touch()
    scene.cleanups.callback(release_archive, scene, scene.primary, held, waiting)
    scene.lab.sql(scene.primary, f"alter system set archive_command = 'touch {waiting}; while test -e {held}; do sleep 0.2; done; false'")
    scene.lab.sql(scene.primary, "select pg_reload_conf()")
    scene.lab.sql(scene.primary, "select pg_logical_emit_message(false, '', '')")
    scene.lab.sql(scene.primary, "select pg_switch_wal()")

    def holds():
        if not waiting.exists():
            raise wait.NotYet("the command has not begun")

    # The command before it has ended then.
    wait.until("archive_command to wait", 60, holds)


def release_archive(scene, primary, held, waiting):
    """Resets archive_command. One that ends without success is repeated with the settings of then."""
    scene.lab.sql(primary, "alter system reset archive_command")
    scene.lab.sql(primary, "select pg_reload_conf()")
    held.unlink()
    waiting.unlink(missing_ok=True)


def slow_archive(scene):
    """Segments are switched, and no command ends."""
    hold_archive(scene)
    scene.repeat_sql("segments", "select pg_logical_emit_message(false, '', ''), pg_switch_wal()", every=2)
    scene.cleanups.callback(scene.stack.of_faults.end, "segments")


def replace_archive(scene):
    """A bucket has the objects of another database in place of the cluster's, and the next check finds that."""
    scene.cleanups.callback(scene.lab.exec, "backup-agent", "check", node=scene.primary, check=False)
    # A segment would come between.
    hold_archive(scene)
    system = scene.lab.sql(scene.primary, "select system_identifier from pg_control_system()")
    (own,) = (folder for folder in (scene.lab.directory / "s3").rglob(f"{OTHER_BUCKET}/*/{system}") if folder.is_dir())
    foreign = own.with_name("1")
    own.rename(foreign)
    scene.cleanups.callback(foreign.rename, own)
    began = time.time()
    scene.lab.exec("backup-agent", "check", node=scene.primary, check=False)
    return began


def tighten_objective(scene):
    """The objective of a restore becomes shorter than the last verified restore took."""
    set_objective(scene, {"objective:restore:seconds": "vector(0.001)"})
    scene.cleanups.callback(set_objective, scene, {})


def set_objective(scene, objectives):
    scene.stack.write_rules(objectives)
    if not scene.stack.reload():
        raise RuntimeError("Prometheus rejected the rules")


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
        Expected("BackupFailed", "warning"),
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
SLOW = Fault(
    "WAL is written faster than it is archived", slow_archive, Scene.clean_up,
    (Expected("WalArchiveStale", timeout=240), Expected("ArchiveSlowerThanWal", "warning", timeout=240)),
)
FOREIGN = Fault(
    "a bucket has the archive of another database", replace_archive, Scene.clean_up,
    (Expected("ArchiveBlockedByForeignPrefix", labels=(("bucket", OTHER_BUCKET),)),),
)
TOO_SLOW = Fault("a restore takes longer than its objective", tighten_objective, Scene.clean_up, (Expected("RestoreTooSlow", "warning"),))

GROUPS = ((NEW,), (BUCKETS_DOWN,), (COMMAND_BROKEN,), (SEGMENT_LOST,), (SLOW,), (FOREIGN,), (TOO_SLOW,))

"""Measures `backup-agent` beside pgBackRest; see docs/reference/benchmarks.md.

`make bench-backup` builds everything and runs this. It fails when a goal is missed; with `--quick`
only when one is that holds on a busy machine too.
"""

import argparse
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path

from .cluster import Cluster
from .measure import Cost
from .report import OURS, PEER, SLOWER, Report
from .s3 import S3
from .tools import Causeway, PgBackRest, Stage

# In how many buckets, or repositories, everything is measured.
BUCKETS = (1, 2)


def main() -> int:
    arguments = parse()
    arguments.report.mkdir(parents=True, exist_ok=True)
    # As Ctrl-C does, so that nothing is left running.
    signal.signal(signal.SIGTERM, lambda *_it: sys.exit("told to end"))
    # PostgreSQL refuses to run as root.
    user = "postgres" if os.geteuid() == 0 else None
    with tempfile.TemporaryDirectory(prefix="causeway-bench-", dir=arguments.directory) as name:
        directory = Path(name)
        directory.chmod(0o755)
        if user:
            shutil.chown(directory, user, user)
        with S3(arguments.lab, directory, user) as s3, Cluster(binaries(), directory, user) as cluster:
            report = measure(Stage(cluster, s3, directory, user), arguments)
    report.write(arguments.report)
    print(report.page())
    missed = report.broken_promises() + ([] if arguments.quick else report.missed_goals())
    for goal in missed:
        print(f"missed: {goal}")
    return 1 if missed else 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench.backup", description=__doc__.splitlines()[0])
    parser.add_argument("--lab", type=Path, required=True, help="the lab, which is the S3")
    parser.add_argument("--agent", type=Path, required=True, help="backup-agent, built with --release")
    parser.add_argument("--report", type=Path, required=True, help="the directory for the report")
    parser.add_argument("--directory", type=Path, default=Path("/tmp"), help="where 6 GB are free")
    parser.add_argument("--gigabytes", type=float, help="how much is backed up")
    parser.add_argument("--segments", type=int, help="how many segments are archived")
    parser.add_argument("--rounds", type=int, help="how often everything is measured")
    parser.add_argument("--quick", action="store_true", help="little, once, without goals of speed")
    arguments = parser.parse_args()
    defaults = {"gigabytes": 0.2, "segments": 8, "rounds": 1} if arguments.quick \
        else {"gigabytes": 1.6, "segments": 64, "rounds": 3}
    for setting, default in defaults.items():
        if getattr(arguments, setting) is None:
            setattr(arguments, setting, default)
    return arguments


def binaries() -> Path:
    """Returns where Debian put PostgreSQL's programs."""
    return max(Path("/usr/lib/postgresql").glob("*/bin"))


def measure(stage: Stage, arguments: argparse.Namespace) -> Report:
    """Measures everything, both sides by turns."""
    cluster = stage.cluster
    print(f"making {arguments.gigabytes} GB, and {arguments.segments} segments", flush=True)
    cluster.fill(arguments.gigabytes, arguments.segments)
    ours, theirs = Causeway(stage, arguments.agent), PgBackRest(stage)
    for buckets in BUCKETS:
        ours.settings(buckets)
    # pgBackRest refuses a command that does not have its name.
    archive = stage.directory / "archive-with-pgbackrest-too"
    archive.write_text("#!/bin/sh -e\n" + "".join(
        f"{tool.archive_command().replace('%p', '$1')}\n" for tool in (ours, theirs)))
    archive.chmod(0o755)
    for name, value in stage.s3.environment.items():
        os.environ[name] = value
    # Both archive everything, so that each finds whole what it waits for at the end of a backup. What
    # PostgreSQL could not archive at once it would try again a minute later.
    cluster.start(wal_level="replica", archive_mode="on", archive_command="")
    theirs.create()
    cluster.stop()
    cluster.start(wal_level="replica", archive_mode="on", archive_command=f'{archive} "%p"')
    report = Report(PgBackRest.version(), cluster.bytes(), arguments.segments)
    for number in range(arguments.rounds):
        for buckets in BUCKETS:
            whole(stage, ours, theirs, buckets, number, report)
            segments(stage, ours, theirs, buckets, report)
    cluster.stop()
    return report


def whole(stage: Stage, ours: Causeway, theirs: PgBackRest, buckets: int, number: int, report: Report) -> None:
    """Measures a backup and its restore on each side."""
    # The newest of each is restored, so the peer's is made after the slower one. The one that is first in
    # one round is last in the next.
    backups = [(SLOWER, lambda: theirs.backup(buckets, 3)), (PEER, lambda: theirs.backup(buckets, 1))]
    backups = backups if buckets == 1 else backups[1:]
    backups.insert(len(backups) * (number % 2), (OURS, lambda: ours.backup(buckets)))
    for who, backup in backups:
        stage.cluster.settle()
        report.add("backup", buckets, who, [backup()])
    target = stage.cluster.socket / "restored"
    restores = [(OURS, lambda: ours.restore(buckets, target)), (PEER, lambda: theirs.restore(buckets, target))]
    if number % 2:
        restores.reverse()
    # The first restore after a backup finds less memory free, and pays for that in the kernel: each is first
    # once, and last once.
    costs: dict[str, list[Cost]] = {OURS: [], PEER: []}
    for who, restore in restores + restores[::-1]:
        target.mkdir(mode=0o700)
        stage.give(target)
        costs[who].append(restore())
        shutil.rmtree(target)
    for who, each in costs.items():
        report.add("restore", buckets, who, each)
    ours.forget_backups()
    theirs.forget_backups()


def segments(stage: Stage, ours: Causeway, theirs: PgBackRest, buckets: int, report: Report) -> None:
    """Measures a process for each segment on each side, one segment here and the same one there."""
    ours.begin_archive(buckets)
    theirs.begin_archive()
    target = stage.cluster.socket / "segment"
    costs: dict[tuple[str, str], list[Cost]] = {}

    def add(what: str, who: str, cost: Cost) -> None:
        costs.setdefault((what, who), []).append(cost)
    for segment in sorted(stage.cluster.segments.iterdir()):
        add("push", OURS, ours.push(buckets, segment))
        add("push", PEER, theirs.push(buckets, segment))
    for segment in sorted(stage.cluster.segments.iterdir()):
        for who, side in ((OURS, ours), (PEER, theirs)):
            add("get", who, side.get(buckets, segment, target))
            if target.read_bytes() != segment.read_bytes():
                raise RuntimeError(f"{who} gave back another {segment.name}")
            target.unlink()
    for (what, who), each in costs.items():
        report.add(what, buckets, who, each)
    ours.end_archive()
    theirs.end_archive()


if __name__ == "__main__":
    sys.exit(main())

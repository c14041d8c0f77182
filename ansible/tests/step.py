"""A step of `make test-ansible`, and what several steps need."""

import json
import time
from dataclasses import dataclass

from cluster import ENVIRONMENT
from failed import Failed
from topology import HOSTS
from writer import WAIT_SECS

STEPS = {}


@dataclass
class Result:
    checked: str
    changed: int | str = "-"


@dataclass(frozen=True)
class Step:
    name: str
    run: object
    # Whether the step needs the healthy cluster that `site` makes.
    needs_site: bool = True


def step(name, needs_site=True):
    def add(function):
        STEPS[name] = Step(name, function, needs_site)
        return function

    return add


def until(what, condition, timeout=WAIT_SECS):
    deadline = time.monotonic() + timeout
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > deadline:
            raise Failed(f"not within {timeout} s: {what() if callable(what) else what}")
        time.sleep(0.25)


def against(seconds, goal):
    """Returns a duration beside its goal, which a slow machine may miss: the table shows it, and the step passes."""
    figure = f"{seconds:.1f}" if goal < 60 else f"{seconds:.0f}"
    return f"{figure} s of {goal}" if seconds <= goal else f"{figure} s, ABOVE THE GOAL of {goal} s,"


def none_failed(writer):
    if writer.failed:
        _, error, _ = writer.failed[0]
        raise Failed(f"{len(writer.failed)} statements of the client failed: {error}")


def stored(cluster, name):
    """Returns the stored backups."""
    listed = cluster.hosts.exec(name, "runuser", "-u", "postgres", "--", "env", ENVIRONMENT, "backup-agent", "list", "--json")
    found = json.loads(listed)
    return found if isinstance(found, list) else found["backups"]


def first_backup(cluster):
    """Waits for the base backup that site.yml's timers begin, and for the end of its unit on every node."""
    until("the first base backup", lambda: stored(cluster, cluster.wait_until_healthy()))
    running = ("activating", "active", "deactivating")
    until("the end of the first base backup", lambda: all(show(cluster, name, "backup-agent.service", "ActiveState") not in running for name in cluster.nodes()))


def archive(cluster, primary):
    """Waits until everything that was written is archived."""
    cluster.sql(primary, "SELECT pg_switch_wal()")
    archived = "SELECT last_archived_wal >= pg_walfile_name(pg_current_wal_lsn() - 16777216) FROM pg_stat_archiver"
    until("the archive of the last segment", lambda: cluster.sql(primary, archived) == "t")


def primary_in(cluster, region):
    """Moves the primary into a region, if it is elsewhere."""
    primary = cluster.wait_until_healthy()
    if HOSTS[primary].region != region:
        cluster.playbook("switchover.yml", {"target": next(name for name in cluster.nodes() if HOSTS[name].region == region)})
        primary = cluster.wait_until_healthy()
    return primary


def show(cluster, name, unit, what):
    """Returns a property of a unit."""
    return cluster.hosts.exec(name, "systemctl", "show", "--value", f"--property={what}", unit)


def started(cluster, name, unit):
    """When a unit's process started, in seconds since 1970."""
    since_boot = float(show(cluster, name, unit, "ExecMainStartTimestampMonotonic")) / 1e6
    return time.time() - time.monotonic() + since_boot

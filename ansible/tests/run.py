#!/usr/bin/env python3
"""Playbooks on real systemd hosts: `make test-ansible`.

    run.py                      every step, on a cluster of its own
    run.py --sample             the steps of `.ci/run`
    run.py --only NAME          one step; a cluster is made if the step needs one. Repeatable
    run.py --list

Prints a table of the steps, with seconds, changes and what was checked, and fails if one step does.
With `--where-possible`, as in `.ci/run`, a machine without a container engine reports that, and does not fail.
"""

import argparse
import contextlib
import signal
import sys
import time
import traceback
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2] / "compose" / "tests"))

import steps  # noqa: F401 - registers the steps
from cluster import Cluster
from engine import Engine, NoEngine, an_engine
from step import STEPS
from topology import ROOT

# At most ten minutes on two cores: bare hosts are installed once, by runs of site.yml that are killed and a last one that is not.
SAMPLE = ("kills", "second-run", "failover", "backup")
ALL = (
    "check-bare", "bad-input", "site", "second-run", "check-configured", "pooler", "monitoring", "backup", "backup-playbook", "restore",
    "restore-drill", "failover", "frozen", "switchover", "rejoin", "region-cut", "add-node", "remove-node", "rehydrate", "minor-upgrade",
    "package-upgrade", "copy-undisturbed", "rotate-secrets", "rotate-ca", "restore-cluster", "kills",
)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", choices=list(STEPS), default=[])
    parser.add_argument("--sample", action="store_true")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--kills", type=int)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--number", type=int, default=1, help="of the hosts, as in hosts.py")
    parser.add_argument("--keep", action="store_true", help="leave the hosts running")
    parser.add_argument("--where-possible", action="store_true")
    options = parser.parse_args()
    options.kills = options.kills or (3 if options.sample else 20)
    if options.list:
        for name, step in STEPS.items():
            print(f"{name}\t{(step.run.__doc__ or '').strip()}")
        return 0
    # A playbook in progress is then ended too, before the hosts are. A step that fails does not end the run, this does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with an_engine(compose=False) as engine:
            return run(engine, options)
    except NoEngine as why:
        print(f"test-ansible: NOT TESTED: {why}", file=sys.stderr)
        return 0 if options.where_possible else 1


def run(engine: Engine, options):
    if not list((ROOT / "target" / "package").glob("failover-ctl_*.deb")):
        raise SystemExit("error: `target/package` has no failover-ctl\nhint: run `make package PROFILE=dev`")
    cluster = Cluster(options.number, engine)
    chosen = options.only or (SAMPLE if options.sample else ALL)
    rows = []
    try:
        for name in chosen:
            step = STEPS[name]
            if step.needs_site and not has_site(cluster):
                rows.append(outcome(cluster, STEPS["site"], options))
                if not rows[-1][0]:
                    break
            rows.append(outcome(cluster, step, options))
            if name == "site" and not rows[-1][0]:
                break
    finally:
        report(rows, [*chosen][len(rows) :])
        if not options.keep:
            cluster.hosts.down()
    return 0 if all(passed for passed, *_ in rows) and rows else 1


def has_site(cluster):
    """Whether a healthy cluster is there; a step that has failed may have left it damaged."""
    with contextlib.suppress(AssertionError, OSError, ValueError):
        cluster.wait_until_healthy(60)
        return True
    return False


def outcome(cluster, step, options):
    began = time.monotonic()
    try:
        result = step.run(cluster, options)
        row = (True, step.name, time.monotonic() - began, result.changed, result.checked)
    except (Exception, SystemExit) as error:
        if not isinstance(error, AssertionError):
            traceback.print_exc()
        with contextlib.suppress(Exception, SystemExit):
            cluster.hosts.network.heal()
        row = (False, step.name, time.monotonic() - began, "-", f"{error}" or type(error).__name__)
    print(line(row), flush=True)
    return row


def line(row):
    passed, name, seconds, changed, checked = row
    return f"{'ok  ' if passed else 'FAIL'} {seconds:6.1f} s  {name}: changed {changed}: {checked}"


def report(rows, left):
    table = ["| step | result | seconds | changed | checked |", "|---|---|---:|---:|---|"]
    for passed, name, seconds, changed, checked in rows:
        first = checked.splitlines()[0].replace("|", "\\|") if checked else ""
        table.append(f"| {name} | {'ok' if passed else 'FAILED'} | {seconds:.0f} | {changed} | {first} |")
    text = "\n".join(table)
    file = ROOT / "target" / "ansible-tests" / "report.md"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text + "\n")
    print(f"\n{text}\n\n{sum(row[0] for row in rows)} of {len(rows)} steps passed", flush=True)
    if left and not all(row[0] for row in rows):
        print(f"not run: {', '.join(left)}", flush=True)


if __name__ == "__main__":
    sys.exit(main())

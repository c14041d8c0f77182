#!/usr/bin/python3
"""Alerts that fire for real: `make test-alerts`.

    run.py                      every fault, then an hour of quiet load with planned work
    run.py --sample             seven alerts and a minute of quiet, as in `.ci/run`
    run.py --only TEXT          the faults that cause the alert TEXT, or whose names contain it. Repeatable
    run.py --quiet MINUTES      duration of the quiet load; 0 for none
    run.py --list               the faults and their alerts

Starts a lab, and beside it the exporters of each node, Prometheus and Alertmanager with the files of monitoring/. Runs the
commands of the runbooks' diagnosis. Causes each fault, reads its alerts from Alertmanager, heals it, waits until they resolve, and counts the pages at a webhook.
Prints a row for each alert, writes target/alerts, and fails if one row does.
"""

import argparse
import os
import shutil
import signal
import sys
import traceback
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import diagnosis
import lab as labs
import quiet
import table
import wait
import yaml
from faults import GROUPS, archive
from incident import Incident
from load import Load
from scene import Scene
from stack import MONITORING, Stack

FACTOR = 15
# Rules that wait minutes cannot fire in less: shorter quiet is in shorter time.
PRODUCTION_TIME_MINUTES = 15


class Run:
    """One run: labs and stacks, the rows, and what is quiet."""

    def __init__(self, options):
        self.options = options
        self.lab = labs.Lab(options.number)
        self.stack = None
        self.scene = None
        self.load = None
        self.rows = []
        self.quiet = []
        self.stacks = 0
        self.failures = []

    def start_stack(self, factor):
        """Starts the monitoring of the lab, in place of one that runs."""
        self.stop_stack()
        self.stacks += 1
        self.stack = Stack(self.lab, self.options.report / f"monitoring-{self.stacks}", factor)
        self.scene = Scene(self.lab, self.stack)
        self.stack.start()

    def stop_stack(self):
        """Stops the load and the monitoring."""
        if self.load:
            self.load.close()
            self.load = None
        if self.scene:
            self.scene.clean_up()
            self.scene = None
        if self.stack:
            self.stack.stop()
            self.stack = None

    def start_lab(self, with_backup):
        """Starts a lab and its monitoring, in place of those that run."""
        self.stop_stack()
        self.lab.down()
        say("starting a lab")
        self.lab.up()
        self.lab.wait_until_healthy()
        if with_backup:
            archive.first_backup_and_restore(Scene(self.lab, None))
        self.start_stack(FACTOR)
        self.load = Load(self.lab)

    def faults(self, groups):
        """Runs groups of faults."""
        self.start_lab(with_backup=(archive.NEW,) not in groups)
        if not self.options.only:
            self.runbooks()
        for group in groups:
            try:
                if group != (archive.NEW,):
                    self.scene.wait_until_settled({(expected.alert, expected.severity) for fault in group for expected in fault.expected})
            except wait.TimedOut as error:
                self.fail(f"before {names(group)}: {error}; Prometheus's data: {self.stack.directory}/prometheus")
                self.start_lab(with_backup=True)
            self.one(group)

    def runbooks(self):
        """Runs the commands of every runbook."""
        ran, failures = diagnosis.run(self.lab)
        say(f"{ran} commands of runbooks ran, {len(failures)} failed")
        for failure in failures:
            self.fail(failure)

    def one(self, group):
        """Runs one group, and prints its rows."""
        incident = Incident(self.scene, group)
        try:
            incident.run()
        except Exception as error:
            traceback.print_exc()
            self.fail(f"{names(group)}: {error}; Prometheus's data: {self.stack.directory}/prometheus")
        self.rows += incident.rows
        for row in incident.rows:
            state = "FAIL" if row.failure else "ok  "
            say(f"{state} {row.alert} {row.node}: {row.fault}: alert after {table.number(row.seconds_to_alert)} s, resolved after "
                f"{table.number(row.seconds_to_resolve)} s, {row.pages} pages, {row.notifications} notifications {row.muted_by} {row.failure}")
        self.failures += [row.failure for row in incident.rows if row.failure]

    def quiet_load(self, minutes):
        """Runs load without faults, with the times of production if it is long enough."""
        production = minutes >= PRODUCTION_TIME_MINUTES
        if self.stack is None:
            self.start_lab(with_backup=True)
        self.scene.wait_until_settled()
        if production:
            self.start_stack(1)
        if self.load:
            self.load.close()
            self.load = None
        say(f"{minutes:g} minutes of load without faults")
        try:
            self.quiet.append(quiet.run(self.scene, minutes, quiet.PLANNED if production else {}))
        except (quiet.Noise, wait.TimedOut, RuntimeError) as error:
            self.fail(f"quiet load: {error}; Prometheus's data: {self.stack.directory}/prometheus")

    def fail(self, text):
        """Records a failure that belongs to no row."""
        say(f"FAIL {text}")
        self.failures.append(text)

    def close(self):
        """Ends every process, and stops the lab."""
        try:
            self.stop_stack()
        finally:
            self.lab.down()


def say(text):
    """Prints a line at once."""
    print(f"test-alerts: {text}", file=sys.stderr, flush=True)


def names(group):
    """Returns the names of a group's faults."""
    return ", ".join(f"`{fault.name}`" for fault in group)


def selected(options):
    """Returns the groups to run."""
    groups = []
    waiting = yaml.safe_load((MONITORING / "metrics.yml").read_text()).get("waiting") or {}
    for fault in (fault for group in GROUPS for fault in group if fault.needs in waiting):
        say(f"passed over: `{fault.name}`: no program exports {fault.needs} yet")
    for group in GROUPS:
        chosen = tuple(
            fault for fault in group
            if fault.needs not in waiting and (not options.sample or fault.sample)
            and (not options.only or any(text in fault.name or text in {e.alert for e in fault.expected} for text in options.only))
        )
        if chosen:
            groups.append(chosen)
    if options.only and not groups:
        raise SystemExit(f"error: no fault causes {', '.join(options.only)}\nhint: `run.py --list` shows the faults and their alerts")
    return groups


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sample", action="store_true")
    parser.add_argument("--only", action="append", default=[])
    parser.add_argument("--quiet", type=float, default=None)
    parser.add_argument("--number", type=int, default=77, help="of the lab")
    parser.add_argument("--report", type=Path, default=labs.ROOT / "target" / "alerts")
    parser.add_argument("--list", action="store_true")
    options = parser.parse_args()
    groups = selected(options)
    if options.list:
        for fault in (fault for group in groups for fault in group):
            print(f"{fault.name}\t{', '.join(expected.alert for expected in fault.expected)}")
        return 0
    if os.geteuid():
        raise SystemExit("error: the exporters read PostgreSQL's socket and a fault mounts a volume\nhint: run as root")
    minutes = options.quiet if options.quiet is not None else 1 if options.sample else 0 if options.only else 60
    options.report = options.report.resolve()
    shutil.rmtree(options.report, ignore_errors=True)
    options.report.mkdir(parents=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    run = Run(options)
    try:
        run.faults(groups)
        if minutes:
            run.quiet_load(minutes)
    finally:
        table.write(options.report, run.rows, run.quiet)
        run.close()
    print(table.text(run.rows, run.quiet))
    for failure in run.failures:
        print(f"FAILED: {failure}")
    return 1 if run.failures else 0


if __name__ == "__main__":
    sys.exit(main())

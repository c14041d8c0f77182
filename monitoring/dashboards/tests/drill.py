"""An incident in the lab, with monitoring beside it: what the dashboards are drawn from."""

import json
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "monitoring/tests"))

import lab as labs
import wait
from faults import archive, hosts
from faults.availability import wait_for_takeover
from load import Load
from scene import Scene
from stack import Stack

# Divides the durations of monitoring/: scrapes each 3 s.
FACTOR = 5
QUIET_SECS, OUTAGE_SECS, REGION_SECS, BEFORE_SECS = 60, 40, 40, 45


class Drill:
    """Runs the incident, and leaves Prometheus running until `close`."""

    def __init__(self, number, directory):
        self.lab = labs.Lab(number)
        self.directory = directory
        self.stack = None
        self.scene = None
        self.load = None
        self.ranges = {"scrapeInterval": f"{15 // FACTOR}s"}

    def start(self):
        """Starts the lab with a first backup, the monitoring and clients."""
        self.lab.down()
        self.lab.up()
        self.lab.wait_until_healthy()
        primary = self.lab.primary()
        archive.first_backup_and_restore(Scene(self.lab, None))
        self.lab.sql(primary, "create extension if not exists pg_stat_statements")
        # A consumer that never reads: the lab needs no slot of its own.
        self.lab.sql(primary, "select pg_create_physical_replication_slot('warehouse', true)")
        self.stack = Stack(self.lab, self.directory / "monitoring", FACTOR)
        self.stack.start()
        self.scene = Scene(self.lab, self.stack)
        self.load = Load(self.lab)

    def run(self):
        """A lost primary, its return, a backup, and a lost region; records the time ranges."""
        scene = self.scene
        hosts.add_volume(scene)
        began = time.time()
        self.observe(QUIET_SECS)
        primary, lost = self.lab.primary(), time.time()
        self.lab.inject("node-lost", primary)
        wait_for_takeover(scene, primary)
        self.observe(OUTAGE_SECS)
        self.lab.heal()
        self.lab.wait_until_healthy()
        self.observe(BEFORE_SECS)
        self.ranges["failover"] = {"start": lost - BEFORE_SECS, "end": time.time()}
        archive.back_up(scene)
        self.lab.inject("region-lost", region="eu-central-1")
        self.observe(REGION_SECS)
        self.ranges["alerts"] = {"start": began, "end": time.time()}
        self.lab.heal()
        self.lab.wait_until_healthy()
        archive.verify_restore(scene)
        self.observe(BEFORE_SECS)
        self.ranges["default"] = {"start": began, "end": time.time()}
        (self.directory / "ranges.json").write_text(json.dumps(self.ranges, indent=1))

    def observe(self, seconds):
        """Waits until Prometheus has scraped for so long."""
        end = time.time() + seconds

        def probe():
            (sample,) = self.stack.query("max(timestamp(up))")
            if sample[1] < end:
                raise wait.NotYet(f"newest scrape {end - sample[1]:.0f} s too old")

        wait.until("scrapes", seconds + 60, probe, poll=1)

    def close(self):
        """Ends every process of the drill."""
        if self.load:
            self.load.close()
        if self.scene:
            self.scene.cleanups.close()
        if self.stack:
            self.stack.stop()
        self.lab.down()

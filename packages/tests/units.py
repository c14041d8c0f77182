"""Sandbox of each unit, by `systemd-analyze security`, and lintian's errors."""

import re
import unittest

import host
from host import Host, package

LIMIT = 3.0
NAMES = ("failover-ctl", "backup-agent", "causeway-api")


class Units(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.host = Host("units")
        cls.addClassCleanup(cls.host.remove)
        for name in NAMES:
            cls.host.run(f"dpkg-deb --extract {package(name)} /")

    def test_exposure_within_limit(self):
        for name in NAMES:
            for unit in host.units(name):
                if unit.endswith(".service"):
                    self._exposure(unit)

    def _exposure(self, unit):
        report = self.host.run(f"systemd-analyze security --offline=true --no-pager {unit}", check=False)
        exposure = float(re.search(r"exposure level for \S+: ([0-9.]+)", report)[1])
        print(f"\n  {unit}: {exposure}", end="", flush=True)
        with self.subTest(unit):
            self.assertLessEqual(exposure, LIMIT, report)

    def test_lintian_without_errors(self):
        self.host.install("lintian")
        every = " ".join(package(name) for name in NAMES)
        self.host.run(f"lintian --fail-on=error --tag-display-limit=0 {every}")

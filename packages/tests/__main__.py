"""Installs the packages on bare Debian 12 hosts with systemd: containers of a debootstrapped root.

Run by `make test-packages`, on the programs of `cargo build`. With `--where-possible`, a machine without a
container engine or debootstrap reports that, and does not fail. Names of tests select them.
"""

import subprocess
import sys
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "compose" / "tests"))

import cluster
import engine
import host
import install
import units


def main():
    names = [argument for argument in sys.argv[1:] if not argument.startswith("--")]
    try:
        with engine.an_engine() as found:
            host.engine = found
            host.make_image()
            return _test(names)
    except engine.NoEngine as why:
        print(f"packages: NOT TESTED: {why}", file=sys.stderr)
        return 0 if "--where-possible" in sys.argv else 1


def _test(names):
    subprocess.run(["scripts/package", "--profile", "dev"], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    every = (units.Units, install.FailoverCtl, install.BackupAgent, install.CausewayApi, cluster.Cluster)
    suite = unittest.TestSuite(
        test
        for case in every
        for test in unittest.defaultTestLoader.loadTestsFromTestCase(case)
        if not names or any(name in test.id() for name in names)
    )
    result = unittest.TextTestRunner(verbosity=2).run(suite)
    passed = result.testsRun - len(result.failures) - len(result.errors)
    print(f"packages: {passed} of {result.testsRun} tests passed", file=sys.stderr)
    return 0 if result.wasSuccessful() else 1


if __name__ == "__main__":
    sys.exit(main())

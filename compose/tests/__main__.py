"""Builds the image of the API and runs it, alone and with docker-compose.yml, in a real engine.

Run by `make test-image`. With `--where-possible`, as in `make test`, a machine without an engine
reports that, and does not fail.
"""

import sys
import time
import unittest
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import base_images
import engine
import image
import stack
import world

ROOT = Path(__file__).resolve().parents[2]


def main():
    try:
        with engine.an_engine() as found:
            return _test(found)
    except engine.NoEngine as why:
        print(f"image: NOT TESTED: {why}", file=sys.stderr)
        return 0 if "--where-possible" in sys.argv else 1


def _test(found):
    world.engine = found
    with _timed("base images"):
        arguments = base_images.for_building(found)
    # Pulling the servers' images mostly waits, and the compiler does not.
    with ThreadPoolExecutor() as aside, _timed("build"):
        servers = aside.submit(base_images.for_running, found)
        found.run("build", *arguments, f"--tag={world.IMAGE}", str(ROOT))
        world.base_images = servers.result()
    made_from = ", ".join([*arguments, *world.base_images.values()])
    print(f"image: made and run with {made_from}", file=sys.stderr)
    suite = unittest.TestSuite(
        unittest.defaultTestLoader.loadTestsFromTestCase(case)
        for case in (image.Image, stack.Default, stack.WithStandby)
    )
    result = unittest.TextTestRunner(verbosity=2).run(suite)
    passed = result.testsRun - len(result.failures) - len(result.errors)
    print(f"image: {passed} of {result.testsRun} tests passed", file=sys.stderr)
    return 0 if result.wasSuccessful() else 1


class _timed:
    def __init__(self, what):
        self.what = what

    def __enter__(self):
        self.began = time.monotonic()

    def __exit__(self, *_):
        print(f"image: {self.what}: {time.monotonic() - self.began:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())

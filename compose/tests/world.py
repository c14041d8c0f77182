"""Shared by the tests: the engine, the image under test, and waiting."""

import sys
import time

IMAGE = "causeway-api:under-test"
TIMEOUT_SECS = 60

# Set before the tests begin.
engine = None
base_images = {}


def say(sentence):
    print(f"  ({sentence}) ", end="", file=sys.stderr, flush=True)


def eventually(what, condition):
    """Waits until the condition holds, ignoring errors until the timeout."""
    deadline = time.monotonic() + TIMEOUT_SECS
    while True:
        try:
            if condition():
                return
            last = "condition is false"
        except (AssertionError, OSError, ValueError) as error:
            last = error
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {TIMEOUT_SECS} s: {what}: {last}")
        time.sleep(0.05)

"""Waits for conditions, with the last observation in the error."""

import time

POLL_SECS = 0.2


class NotYet(Exception):
    """What was observed instead of the condition."""


class TimedOut(Exception):
    """A condition did not come about in time."""


def until(what, timeout, probe, poll=POLL_SECS):
    """Returns what `probe` returns, once it does not raise NotYet."""
    deadline = time.monotonic() + timeout
    while True:
        try:
            return probe()
        except NotYet as error:
            if time.monotonic() > deadline:
                raise TimedOut(f"waited {timeout:.0f} s for {what}: {error}") from None
        time.sleep(poll)

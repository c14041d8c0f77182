"""One command, and what it and everything that it started cost."""

import os
import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

# How often the memory of a command is looked at.
LOOK_EVERY = 0.02


@dataclass(frozen=True)
class Cost:
    """What a command cost, with every process that it started and waited for."""

    seconds: float
    cpu_seconds: float
    # The largest sum of what its processes held at one moment; shared pages count for each of them.
    rss_mib: float

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(self.seconds + other.seconds, self.cpu_seconds + other.cpu_seconds,
                    max(self.rss_mib, other.rss_mib))


def run(command: Sequence[str | Path], *, user: str | None, environment: dict[str, str],
        directory: Path, watch_memory: bool = False) -> Cost:
    """Runs a command to its end, and returns what it cost. One that fails ends the benchmark."""
    with (directory / "output").open("w+") as output:
        # What the commands before have left to be written is not this one's to write: `syncfs` would.
        os.sync()
        began = time.monotonic()
        child = subprocess.Popen([str(word) for word in command], stdin=subprocess.DEVNULL, stdout=output,
                                 stderr=output, cwd=directory, env=environment, user=user, group=user,
                                 extra_groups=[] if user else None)
        watch = Watch(child.pid) if watch_memory else None
        _pid, status, usage = os.wait4(child.pid, 0)
        seconds = time.monotonic() - began
        child.returncode = os.waitstatus_to_exitcode(status)
        rss_mib = watch.stop() if watch else usage.ru_maxrss / 1024
        if child.returncode != 0:
            output.seek(0)
            words = " ".join(str(word) for word in command)
            raise RuntimeError(f"`{words}` ended with {child.returncode}: {output.read().strip()}")
    return Cost(seconds, usage.ru_utime + usage.ru_stime, rss_mib)


class Watch:
    """Looks at the memory of a process and its descendants until it is told to stop."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._most = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def stop(self) -> float:
        """Returns the most that was seen, in MiB."""
        self._stop.set()
        self._thread.join()
        return self._most

    def _look(self) -> None:
        while not self._stop.wait(LOOK_EVERY):
            self._most = max(self._most, sum(rss_mib(process) for process in tree(self._pid)))


def tree(pid: int) -> list[int]:
    """Returns a process and its descendants."""
    found = [pid]
    for parent in found:
        try:
            for task in Path(f"/proc/{parent}/task").iterdir():
                found += [int(child) for child in (task / "children").read_text().split()]
        except OSError:
            continue
    return found


def rss_mib(pid: int) -> float:
    """Returns what a process holds; nothing, if it has ended."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20

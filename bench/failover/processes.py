"""Processes as the kernel shows them: which there are, what they cost, and how they are ended."""

import os
import signal
from dataclasses import dataclass
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Usage:
    """What a process has used so far, and holds now."""

    cpu_seconds: float
    rss_mib: float
    pss_mib: float


def usage(pid: int) -> Usage:
    """Returns what a process has used and holds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    cpu = (int(fields[11]) + int(fields[12])) / TICKS
    sizes = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        name, value = line.split(":")
        sizes[name] = int(value.split()[0]) / 1024
    return Usage(cpu, sizes["Rss"], sizes["Pss"])


def with_arguments(*wanted: str) -> list[int]:
    """Returns the processes whose command line has all of these words."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        if all(word in words for word in wanted):
            found.append(int(entry.name))
    return found


def inside(directory: Path) -> list[int]:
    """Returns the processes whose working directory this is: those of a PostgreSQL server."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and (entry / "cwd").readlink() == directory:
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def tell(pids: list[int], number: signal.Signals) -> None:
    """Sends a signal; who has ended in the meantime needs none."""
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            pass


def postmaster(data: Path) -> int:
    """Returns the process that `postmaster.pid` names."""
    return int((data / "postmaster.pid").read_text().split("\n", 1)[0])

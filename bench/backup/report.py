"""What was measured, as data and as a page, and which goals were missed."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median

from .measure import Cost

# What is ours in a measurement, and what it is compared with.
OURS = "causeway"
PEER = "pgbackrest, zstd 1"
SLOWER = "pgbackrest, zstd 3"
# How many times the peer's a figure of ours may be, in the same run: of time and of CPU.
AT_MOST = {
    # The peer reads, compresses and encrypts anew for each repository.
    ("backup", 1): (0.8, 0.9), ("backup", 2): (0.5, 0.5),
    ("restore", 1): (1.0, 1.0), ("restore", 2): (1.0, 1.0),
    ("push", 1): (0.9, 0.9), ("push", 2): (0.9, 0.9),
    ("get", 1): (1.0, 1.0), ("get", 2): (1.0, 1.0),
}
# How many times what one bucket costs may two: the server is read, compressed and encrypted once.
SECOND_BUCKET_AT_MOST = 1.25
MIB_AT_MOST = 128
NAMES = {"backup": "full backup", "restore": "restore", "push": "WAL push", "get": "WAL get"}
WHOLE = ("backup", "restore")


@dataclass
class Report:
    """Everything that one run saw."""

    pgbackrest: str
    raw_bytes: int
    segments: int
    # By what was done, in how many buckets, and by whom: each measurement, a list for each round.
    costs: dict[str, dict[int, dict[str, list[list[Cost]]]]] = field(default_factory=dict)

    def add(self, what: str, buckets: int, who: str, costs: list[Cost]) -> None:
        """Adds one round: a cost, or one for each segment."""
        self.costs.setdefault(what, {}).setdefault(buckets, {}).setdefault(who, []).append(costs)
        seconds, cpu = (median(getattr(cost, name) for cost in costs) for name in ("seconds", "cpu_seconds"))
        print(f"{NAMES[what]}, {buckets} bucket(s), {who}: {seconds:.3f} s, {cpu:.3f} s of CPU, "
              f"{max(cost.rss_mib for cost in costs):.0f} MiB", flush=True)

    def rounds(self, what: str, buckets: int, who: str, name: str) -> list[float]:
        """Returns a figure of each round."""
        return [median(getattr(cost, name) for cost in costs) for costs in self.costs[what][buckets][who]]

    def ratio(self, what: str, buckets: int, name: str) -> list[float]:
        """Returns how many times the peer's a figure of ours is, in each round."""
        pairs = zip(self.rounds(what, buckets, OURS, name), self.rounds(what, buckets, PEER, name))
        return [ours / theirs for ours, theirs in pairs]

    def memory(self, what: str, buckets: int, who: str) -> float:
        """Returns the most memory that was seen."""
        return max(cost.rss_mib for costs in self.costs[what][buckets][who] for cost in costs)

    def broken_promises(self) -> list[str]:
        """Returns what must hold on any machine, and did not."""
        return [f"{NAMES[what]}, {buckets} bucket(s): {mib:.0f} MiB, at most {MIB_AT_MOST}"
                for what, by_buckets in self.costs.items() for buckets in by_buckets
                if (mib := self.memory(what, buckets, OURS)) > MIB_AT_MOST]

    def missed_goals(self) -> list[str]:
        """Returns what holds on a quiet machine, and did not."""
        found = []
        for (what, buckets), limits in AT_MOST.items():
            for name, most in zip(("seconds", "cpu_seconds"), limits):
                ratio = median(self.ratio(what, buckets, name))
                if ratio > most:
                    found.append(f"{NAMES[what]}, {buckets} bucket(s), {name}: {ratio:.2f} times pgBackRest's, "
                                 f"at most {most}")
        one, two = (median(self.rounds("backup", buckets, OURS, "cpu_seconds")) for buckets in (1, 2))
        if two > SECOND_BUCKET_AT_MOST * one:
            found.append(f"the second bucket of a backup costs {two / one - 1:.0%} more CPU, "
                         f"at most {SECOND_BUCKET_AT_MOST - 1:.0%}")
        return found

    def page(self) -> str:
        """Returns the tables."""
        lines = [f"{self.pgbackrest}; {self.raw_bytes / 1e9:.2f} GB of data, {self.segments} segments", ""]
        for kinds, columns in ((WHOLE, "MB/s | CPU s/GB"), (("push", "get"), "ms | CPU ms")):
            lines += [f"| | buckets | by | {columns} | RSS, MiB | time, times the peer's | CPU, times the peer's |",
                      "|---|---|---|---|---|---|---|---|"]
            for what in kinds:
                for buckets, by_whom in self.costs[what].items():
                    lines += [self._row(what, buckets, who) for who in by_whom]
            lines.append("")
        return "\n".join(lines)

    def _row(self, what: str, buckets: int, who: str) -> str:
        seconds, cpu = (median(self.rounds(what, buckets, who, column)) for column in ("seconds", "cpu_seconds"))
        if what in WHOLE:
            figures = f"{self.raw_bytes / 1e6 / seconds:.0f} | {cpu / (self.raw_bytes / 1e9):.2f}"
        else:
            figures = f"{1000 * seconds:.0f} | {1000 * cpu:.0f}"
        ratios = "| "
        if who == OURS:
            ratios = " | ".join(span(self.ratio(what, buckets, column)) for column in ("seconds", "cpu_seconds"))
        memory = self.memory(what, buckets, who)
        return f"| {NAMES[what]} | {buckets} | {who} | {figures} | {memory:.0f} | {ratios} |"

    def write(self, directory: Path) -> None:
        """Writes the page, and every single measurement."""
        (directory / "report.md").write_text(self.page())
        (directory / "report.json").write_text(json.dumps(asdict(self), indent=2))


def span(ratios: list[float]) -> str:
    """Returns the median, and the least and the most beside it."""
    return f"{median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"

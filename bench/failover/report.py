"""What was measured, as data and as a page, and which goals were missed."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median

FAULTS = ("postmaster killed", "node lost", "agent frozen", "promoted by command")
# How many times as long as Patroni's an interruption of ours may be, in the same run.
TIMES_PATRONI = {"postmaster killed": 0.5, "node lost": 0.6}
PROMOTION_SECONDS_AT_MOST = 3.0
# Of an agent and of a guard in a release build, when nothing happens.
MIB_AT_MOST = 30
CPU_PERCENT_AT_MOST = 1.0


@dataclass(frozen=True)
class Failover:
    """What the writers saw of one fault."""

    downtime_seconds: float
    split_brain_seconds: float


@dataclass(frozen=True)
class Idle:
    """What a process costs while nothing happens."""

    system: str
    process: str
    cpu_percent: float
    rss_mib: float
    pss_mib: float


@dataclass
class Report:
    """Everything that one run saw."""

    failovers: dict[str, dict[str, list[Failover]]] = field(default_factory=dict)
    idle: list[Idle] = field(default_factory=list)

    def add(self, system: str, fault: str, failover: Failover) -> None:
        """Adds a measurement."""
        self.failovers.setdefault(fault, {}).setdefault(system, []).append(failover)
        print(f"{system}, {fault}: {failover.downtime_seconds:.2f} s of downtime, "
              f"{failover.split_brain_seconds:.2f} s of split-brain", flush=True)

    def seconds(self, fault: str, system: str) -> list[float]:
        """Returns how long writes were interrupted, each time."""
        return [failover.downtime_seconds for failover in self.failovers.get(fault, {}).get(system, [])]

    def split_brain(self, fault: str, system: str) -> float:
        """Returns the longest split-brain."""
        return max(failover.split_brain_seconds for failover in self.failovers[fault][system])

    def broken_promises(self) -> list[str]:
        """Returns what must hold on any machine, and did not."""
        found = [f"causeway, {fault}: two nodes acknowledged writes for {seconds:.2f} s"
                 for fault in self.failovers if (seconds := self.split_brain(fault, "causeway")) > 0]
        return found + [f"{usage.process}: {usage.pss_mib:.1f} MiB, at most {MIB_AT_MOST}"
                        for usage in self.idle if usage.system == "causeway" and usage.pss_mib > MIB_AT_MOST]

    def missed_goals(self) -> list[str]:
        """Returns what holds on a quiet machine, and did not."""
        found = []
        for fault, times in TIMES_PATRONI.items():
            ours, theirs = (median(self.seconds(fault, cluster)) for cluster in ("causeway", "patroni"))
            if ours > times * theirs:
                found.append(f"{fault}: {ours:.1f} s, and Patroni {theirs:.1f} s; at most {times} times")
        promotion = median(self.seconds("promoted by command", "causeway"))
        if promotion > PROMOTION_SECONDS_AT_MOST:
            found.append(f"promoted by command: {promotion:.1f} s, at most {PROMOTION_SECONDS_AT_MOST} s")
        return found + [f"{usage.process}: {usage.cpu_percent:.2f} % of a core, at most {CPU_PERCENT_AT_MOST} %"
                        for usage in self.idle
                        if usage.system == "causeway" and usage.cpu_percent > CPU_PERCENT_AT_MOST]

    def page(self) -> str:
        """Returns the tables."""
        lines = ["| fault | Causeway | Patroni | ratio | split-brain: Causeway | Patroni |",
                 "|---|---|---|---|---|---|"]
        for fault in FAULTS:
            ours, theirs = self.seconds(fault, "causeway"), self.seconds(fault, "patroni")
            if not ours or not theirs:
                continue
            ratio = f"{median(ours) / median(theirs):.2f}" if median(theirs) >= 0.2 else "-"
            both = [f"{self.split_brain(fault, cluster):.1f} s" for cluster in ("causeway", "patroni")]
            lines.append(f"| {fault} | {span(ours)} | {span(theirs)} | {ratio} | {' | '.join(both)} |")
        lines += ["", "| idle | CPU, % of a core | PSS, MiB | RSS, MiB |", "|---|---|---|---|"]
        lines += [f"| {usage.system}: {usage.process} | {usage.cpu_percent:.2f} | {usage.pss_mib:.1f} | {usage.rss_mib:.1f} |"
                  for usage in self.idle]
        return "\n".join(lines) + "\n"

    def write(self, directory: Path) -> None:
        """Writes the page, and every single measurement."""
        (directory / "report.md").write_text(self.page())
        (directory / "report.json").write_text(json.dumps(asdict(self), indent=2))


def span(seconds: list[float]) -> str:
    """Returns the median, and the least and the most beside it."""
    return f"{median(seconds):.2f} s ({min(seconds):.2f} to {max(seconds):.2f})"

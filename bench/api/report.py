"""What was measured, as data and as a page, and which goals were missed."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median

from .load import LOADS, Sample

MIB_AT_MOST = 24
READY_MS_AT_MOST = 150
# How many times the rate of the Go service, with whichever of its pools is better at the load.
TIMES_GO = {"get": 1.3, "put": 2.0}


@dataclass
class Report:
    """Everything that one run saw."""

    samples: dict[str, dict[str, list[Sample]]] = field(default_factory=dict)
    ceilings: dict[str, float] = field(default_factory=dict)
    resident_mib: dict[str, tuple[float, float]] = field(default_factory=dict)
    ready_ms: list[float] = field(default_factory=list)
    ready_empty_ms: list[float] = field(default_factory=list)
    migration_ms: list[float] = field(default_factory=list)

    def add(self, load: str, service: str, sample: Sample) -> None:
        """Adds a measurement; those of one load are in the order of the rounds."""
        self.samples.setdefault(load, {}).setdefault(service, []).append(sample)

    def median(self, load: str, service: str, what: str) -> float:
        """Returns the median over the rounds."""
        return median(getattr(it, what) for it in self.samples[load][service])

    def better_go(self, load: str) -> str:
        """Returns which pool made the Go service faster at a load."""
        pools = [it for it in self.samples[load] if it.startswith("go ")]
        return max(pools, key=lambda it: self.median(load, it, "rate"))

    def ratios(self, load: str) -> list[float]:
        """Returns how many times the rate of Go ours was, round by round."""
        ours, theirs = self.samples[load]["api"], self.samples[load][self.better_go(load)]
        return [a.rate / b.rate for a, b in zip(ours, theirs)]

    def broken_promises(self) -> list[str]:
        """Returns what must hold on any machine, and did not."""
        found = []
        for load, services in self.samples.items():
            for service, samples in services.items():
                failed = sum(it.not_2xx + it.broken for it in samples)
                if failed:
                    found.append(f"{service}, {LOADS[load]}: {failed} requests failed")
                if min(it.rate for it in samples) == 0:
                    found.append(f"{service}, {LOADS[load]}: a round without an answer")
        peak = self.resident_mib["api"][0]
        if peak > MIB_AT_MOST:
            found.append(f"api: {peak:.1f} MiB resident, at most {MIB_AT_MOST}")
        return found

    def missed_goals(self) -> list[str]:
        """Returns what must hold when nothing else uses the machine, and did not."""
        found = []
        for load, times in TIMES_GO.items():
            seen = median(self.ratios(load))
            go = self.better_go(load)
            if seen < times:
                found.append(f"{LOADS[load]}: {seen:.2f} times the rate of {go}, at least {times}")
            ours, theirs = self.median(load, "api", "p99_ms"), self.median(load, go, "p99_ms")
            if ours > theirs:
                found.append(f"{LOADS[load]}: p99 {ours:.1f} ms, at most {theirs:.1f} as {go}")
        beyond_migration = median(self.ready_empty_ms) - median(self.migration_ms)
        for what, ms in (("", median(self.ready_ms)), (" beyond migration", beyond_migration)):
            if ms > READY_MS_AT_MOST:
                found.append(f"ready{what} after {ms:.0f} ms, at most {READY_MS_AT_MOST}")
        return found

    def page(self) -> str:
        """Returns the tables, in Markdown."""
        lines = []
        for load, services in self.samples.items():
            lines += [f"## {LOADS[load]}", "",
                      "| service | per second | lowest and highest round | p50 ms | p99 ms | max ms "
                      "| CPU µs | PostgreSQL µs |",
                      "|---|---:|---:|---:|---:|---:|---:|---:|"]
            for service, samples in services.items():
                rates = [it.rate for it in samples]
                each = [self.median(load, service, it) for it in ("p50_ms", "p99_ms")]
                worst = max(it.max_ms for it in samples)
                costs = [self.median(load, service, it) for it in ("cpu_us", "postgres_us")]
                lines.append(
                    f"| {service} | {median(rates):,.0f} | {min(rates):,.0f} to {max(rates):,.0f} "
                    f"| {each[0]:.2f} | {each[1]:.2f} | {worst:.1f} "
                    f"| {costs[0]:.0f} | {costs[1]:.0f} |")
            for what, rate in self.ceilings.items():
                if what.startswith(load):
                    lines.append(f"| pgbench, {what.split()[1]} clients | {rate:,.0f} ||||||")
            ratios = self.ratios(load)
            lines += ["", f"api / {self.better_go(load)}: {median(ratios):.2f} "
                          f"(rounds: {min(ratios):.2f} to {max(ratios):.2f})", ""]
        lines += ["## Memory, MiB resident", "", "| service | at its highest | at the end |",
                  "|---|---:|---:|"]
        lines += [f"| {service} | {peak:.1f} | {now:.1f} |"
                  for service, (peak, now) in self.resident_mib.items()]
        lines += ["", "## From start to ready, ms", "",
                  f"With the schema there: {median(self.ready_ms):.0f}. "
                  f"With an empty database: {median(self.ready_empty_ms):.0f}, of which the migrations "
                  f"alone take {median(self.migration_ms):.0f} in psql.", ""]
        return "\n".join(lines)

    def write(self, directory: Path) -> None:
        """Writes both forms."""
        (directory / "report.md").write_text("# Figures of the api\n\n" + self.page())
        data = asdict(self) | {"missed": self.broken_promises() + self.missed_goals()}
        (directory / "report.json").write_text(json.dumps(data, indent=1) + "\n")

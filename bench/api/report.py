"""The measurements, as data and as a page, and the missed goals."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median

from .load import LOADS, Sample

MIB_AT_MOST = 20
READY_MS_AT_MOST = 100
# Goals as multiples of the rate of the plain service in Go, with the best of its pools at each load,
# and of the one that batches.
TIMES_GO = {"get": (2.3, 1.3), "put": (2.2, 1.2)}
DIFFERENCE = (
    "The api and `go batching` batch concurrent requests of `/hello` into one statement, up to 512; "
    "`go 4` to `go 64` (the number is the pool's) and `fastapi` send one statement each. That is most "
    "of the difference between the rows.")


@dataclass
class Report:
    """All measurements of one run."""

    versions: list[str]
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
        return median(getattr(sample, what) for sample in self.samples[load][service])

    def better_go(self, load: str) -> str:
        """Returns which pool made the Go service faster at a load."""
        pools = [service for service in self.samples[load] if service.removeprefix("go ").isdigit()]
        return max(pools, key=lambda pool: self.median(load, pool, "rate"))

    def ratios(self, load: str, other: str) -> list[float]:
        """Returns how many times the rate of another service ours was, round by round."""
        ours, theirs = self.samples[load]["api"], self.samples[load][other]
        return [a.rate / b.rate for a, b in zip(ours, theirs)]

    def at_half(self, kind: str) -> list[tuple[str, str, list[Sample]]]:
        """Returns what was sent at a fixed rate: the load, the service and its samples."""
        loads = [load for load in self.samples if load.startswith(f"{kind} at ")]
        return [(load, *samples) for load in loads for samples in self.samples[load].items()]

    def broken_promises(self) -> list[str]:
        """Returns what must hold on any machine, and did not."""
        found = []
        for load, services in self.samples.items():
            for service, samples in services.items():
                failed = sum(sample.not_2xx + sample.broken for sample in samples)
                if failed:
                    found.append(f"{service}, {load}: {failed} requests failed")
                if min(sample.rate for sample in samples) == 0:
                    found.append(f"{service}, {load}: a round without an answer")
        peak = self.resident_mib["api"][0]
        if peak > MIB_AT_MOST:
            found.append(f"api: {peak:.1f} MiB resident, at most {MIB_AT_MOST}")
        return found

    def missed_goals(self) -> list[str]:
        """Returns what must hold when nothing else uses the machine, and did not."""
        found = []
        for load, (plain, batching) in TIMES_GO.items():
            go = self.better_go(load)
            for other, times in ((go, plain), ("go batching", batching)):
                seen = median(self.ratios(load, other))
                if seen < times:
                    found.append(f"{LOADS[load]}: {seen:.2f} times the rate of {other}, at least {times}")
            shared = self.at_half(load)[0][0]
            ours, theirs = (self.median(shared, service, "p99_ms") for service in ("api", go))
            if ours > theirs:
                found.append(f"{shared} a second: p99 {ours:.2f} ms, at most {theirs:.2f} as {go}")
        ready = median(self.ready_ms)
        if ready > READY_MS_AT_MOST:
            found.append(f"ready after {ready:.0f} ms, at most {READY_MS_AT_MOST}")
        return found

    def page(self) -> str:
        """Returns the tables, in Markdown."""
        lines = [DIFFERENCE, "", "Go is " + ", ".join(self.versions) + ".", ""]
        for load, services in self.samples.items():
            if load not in LOADS:
                continue
            lines += [f"## {LOADS[load]}", "",
                      "| service | per second | lowest and highest round | p50 ms | p99 ms | max ms "
                      "| CPU µs | PostgreSQL µs |",
                      "|---|---:|---:|---:|---:|---:|---:|---:|"]
            for service, samples in services.items():
                rates = [sample.rate for sample in samples]
                each = [self.median(load, service, column) for column in ("p50_ms", "p99_ms")]
                worst = max(sample.max_ms for sample in samples)
                costs = [self.median(load, service, column) for column in ("cpu_us", "postgres_us")]
                lines.append(
                    f"| {service} | {median(rates):,.0f} | {min(rates):,.0f} to {max(rates):,.0f} "
                    f"| {each[0]:.2f} | {each[1]:.2f} | {worst:.1f} "
                    f"| {costs[0]:.0f} | {costs[1]:.0f} |")
            for what, rate in self.ceilings.items():
                if what.startswith(load):
                    lines.append(f"| pgbench, {what.split()[1]} clients | {rate:,.0f} ||||||")
            lines.append("")
            for other in (self.better_go(load), "go batching"):
                ratios = self.ratios(load, other)
                postgres = [self.median(load, service, "postgres_us") for service in (other, "api")]
                lines += [f"api / {other}: {median(ratios):.2f} times the rate (rounds: "
                          f"{min(ratios):.2f} to {max(ratios):.2f}), with {postgres[1]:.0f} µs of "
                          f"PostgreSQL for each request beside {postgres[0]:.0f}", ""]
        lines += self.page_at_half()
        lines += ["## Memory, MiB resident", "", "| service | at its highest | at the end |",
                  "|---|---:|---:|"]
        lines += [f"| {service} | {peak:.1f} | {now:.1f} |"
                  for service, (peak, now) in self.resident_mib.items()]
        lines += ["", "## From start to ready, ms", "",
                  f"With the schema there: {median(self.ready_ms):.0f}. "
                  f"With an empty database: {median(self.ready_empty_ms):.0f}, of which the migrations "
                  f"alone take {median(self.migration_ms):.0f} in psql.", ""]
        return "\n".join(lines)

    def page_at_half(self) -> list[str]:
        """Returns the table of what was sent at a fixed rate."""
        lines = ["## At a fixed rate", "", "A time counts from when the request was due. The first rows "
                 "of each load are at half of what the best plain Go reaches, the others at half of "
                 "what the service itself reaches.", "",
                 "| load, per second | service | p50 ms | p99 ms | max ms | CPU µs | PostgreSQL µs |",
                 "|---|---|---:|---:|---:|---:|---:|"]
        for load, service, samples in self.at_half("get") + self.at_half("put"):
            p50, p99, cpu, postgres = (self.median(load, service, column) for column in
                                       ("p50_ms", "p99_ms", "cpu_us", "postgres_us"))
            worst = max(sample.max_ms for sample in samples)
            lines.append(f"| {load} | {service} | {p50:.2f} | {p99:.2f} | {worst:.1f} "
                         f"| {cpu:.0f} | {postgres:.0f} |")
        return [*lines, ""]

    def write(self, directory: Path) -> None:
        """Writes both forms."""
        (directory / "report.md").write_text("# Figures of the api\n\n" + self.page())
        data = asdict(self) | {"missed": self.broken_promises() + self.missed_goals()}
        (directory / "report.json").write_text(json.dumps(data, indent=1) + "\n")

"""Which job of Prometheus exports which metrics, as metrics.yml, the custom queries and the references declare them."""

import re


def reference(page):
    """Returns the metrics of each program in docs/reference/metrics.md, with their types."""
    found, program = {}, None
    for line in page.splitlines():
        if line.startswith("## "):
            program = found.setdefault(line[3:].strip(), {})
        elif program is not None and (row := re.match(r"\| `(\w+)` \| (\w+) \|", line)):
            program[row[1]] = row[2]
    return found


def by_job(metrics, programs, queries):
    """Returns the names of the series of each job."""
    return {job: set(_of_job(entry, programs, queries)) for job, entry in metrics["jobs"].items()}


def _of_job(entry, programs, queries):
    yield from entry.get("metrics", [])
    for name, kind in programs.get(entry.get("program"), {}).items():
        yield from [f"{name}_bucket", f"{name}_sum", f"{name}_count"] if kind == "histogram" else [name]
    if "queries" in entry:
        for key, query in queries.items():
            for column in query["metrics"]:
                ((name, declared),) = column.items()
                if declared["usage"] != "LABEL":
                    yield f"{key}_{name}"

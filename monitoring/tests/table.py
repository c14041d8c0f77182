"""The results: a row for each alert, as text and JSON."""

import json
import statistics
from dataclasses import asdict, dataclass


@dataclass
class Row:
    """An alert that a fault caused, or that it should have."""

    alert: str
    severity: str
    node: str
    fault: str
    seconds_to_alert: float | None = None
    seconds_to_resolve: float | None = None
    # Incidents that a pager opened in the whole incident; the same for all alerts of one.
    pages: int | None = None
    notifications: int | None = None
    muted_by: str = ""
    failure: str = ""


def median(rows):
    """Returns the median time from fault to alert."""
    seconds = [row.seconds_to_alert for row in rows if row.seconds_to_alert is not None]
    return statistics.median(seconds) if seconds else float("nan")


def fired(rows):
    """Returns the names of the alerts that fired and were right."""
    return sorted({row.alert for row in rows if row.seconds_to_alert is not None and not row.failure})


def number(value):
    """Returns a number with one decimal, or a dash."""
    return "-" if value is None else f"{value:.1f}" if isinstance(value, float) else str(value)


def text(rows, quiet):
    """Returns the table in Markdown, and the sums."""
    lines = [
        "| alert | severity | fault | seconds to alert | seconds to resolve | pages | notifications | muted by |",
        "|---|---|---|---:|---:|---:|---:|---|",
    ]
    for row in rows:
        name = f"`{row.alert}`" + (f" on {row.node}" if row.node else "")
        cells = [name, row.severity, row.fault, number(row.seconds_to_alert), number(row.seconds_to_resolve), number(row.pages), number(row.notifications)]
        lines.append("| " + " | ".join([*cells, row.muted_by]) + " |" + (f" FAILED: {row.failure}" if row.failure else ""))
    critical = {row.alert for row in rows if row.severity == "critical"} & set(fired(rows))
    lines += ["", f"{len(fired(rows))} alerts fired, {len(critical)} of them critical; median from fault to alert {median(rows):.1f} s."]
    for part in quiet:
        lines.append(f"{part['name']}: {part['seconds']:.0f} s, {part['pages']} pages, {part['critical']} critical alerts{part['detail']}.")
    return "\n".join(lines) + "\n"


def write(directory, rows, quiet):
    """Writes both files."""
    report = {
        "rows": [asdict(row) for row in rows], "alerts": fired(rows), "median_seconds_to_alert": median(rows) if rows else None, "quiet": quiet,
    }
    (directory / "report.json").write_text(json.dumps(report, indent=1) + "\n")
    (directory / "report.md").write_text(text(rows, quiet))

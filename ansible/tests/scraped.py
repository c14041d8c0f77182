"""Metrics that rules and dashboards read, compared with what the exporters of an installation export."""

import re
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
MONITORING = ROOT / "monitoring"
sys.path.append(str(MONITORING / "check"))

from exported import by_job, reference

# Jobs without a target in these tests.
NOT_HERE = {"api": "no task of the API runs here", "restore-drill": "the step restore-drill scrapes its host"}
# Metrics without series in these tests: each with the reason.
LATER = {"canary_last_success_timestamp_seconds": "the canary tries an API, and none runs here"}


def used():
    """Returns the names that a rule or a panel reads, by the job that is declared to export them."""
    declared = by_job(
        yaml.safe_load((MONITORING / "metrics.yml").read_text()),
        reference((ROOT / "docs/reference/metrics.md").read_text()),
        yaml.safe_load((MONITORING / "postgres_exporter/queries.yml").read_text()),
    )
    files = [*(MONITORING / "rules").glob("*.yml"), *(MONITORING / "dashboards").glob("*.yml")]
    words = set().union(*(re.findall(r"[a-zA-Z_]\w*", file.read_text()) for file in files))
    return {job: names & words for job, names in declared.items()}


def missing(wanted, seen, later):
    """Returns a text for each wanted metric of a job that nothing exports, and that no reason excuses."""
    return [
        f"`{name}` of the job `{job}`"
        for job, names in sorted(wanted.items())
        for name in sorted(names - seen.get(job, set()))
        if name not in later
    ]

"""What the outputs depend on beside the declaration."""

import re
from dataclasses import dataclass

from declaration import kebab_case


@dataclass(frozen=True)
class Options:
    """Where runbooks are, what alerts exist with the names of their runbooks, and the project in Perses."""

    runbooks: str
    alerts: dict
    project: str


def alert_runbooks(folder):
    """Returns the alerts of a folder of rules with the names of their runbooks."""
    text = "\n".join(path.read_text() for path in sorted(folder.glob("*.yml")))
    return {alert: kebab_case(alert) for alert in sorted(set(re.findall(r"^\s*- alert: (\w+)", text, re.MULTILINE)))}

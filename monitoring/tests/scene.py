"""What a fault acts on: the lab, its roles when the fault began, its monitoring and its clients."""

import contextlib
from dataclasses import dataclass, field
from typing import Callable

import wait
from sessions import Sessions

SETTLE_SECS = 400


@dataclass(frozen=True)
class Expected:
    """An alert that a fault must cause."""

    alert: str
    severity: str = "critical"
    # primary, standby or remote: the label `node` has the name of the node in that role when the fault began.
    on: str | None = None
    # Other labels with their values.
    labels: tuple = ()
    # Alerts of which one mutes this alert, so that no notification contains it.
    muted_by: tuple = ()
    # Time for which production waits at least by a condition that the factor does not divide.
    timeout: float = 120
    resolves_within: float = 300


@dataclass(frozen=True)
class Fault:
    """A fault, how it is healed, and the alerts that it must cause."""

    name: str
    # Returns the time from which the alerts are counted, or None for the time before the call.
    cause: Callable
    heal: Callable
    expected: tuple
    # Short sample for continuous integration.
    sample: bool = False
    # Incidents that follow each other in one fault, each with a page of its own.
    incidents: int = 1
    # Metric without which the alert cannot fire: the fault is passed over while monitoring/metrics.yml lists it as waiting.
    needs: str = ""


@dataclass
class Scene:
    """State of one run on one lab."""

    lab: object
    stack: object
    load: object = None
    sessions: object = None
    primary: str = ""
    standby: str = ""
    remote: str = "c"
    # What a cause leaves for its heal.
    notes: dict = field(default_factory=dict)
    cleanups: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def begin(self):
        """Records the roles before a fault."""
        self.primary = self.lab.primary()
        self.standby = self.lab.standby()
        self.sessions = Sessions(self.lab)
        self.notes = {}

    def clean_up(self):
        """Undoes what causes have registered in `cleanups`: a heal."""
        self.cleanups.close()

    def repeat_sql(self, name, statement, every):
        """Runs a statement of the superuser on the primary every few seconds, as the process `name` of the stack's faults."""
        sockets = f"{self.lab.directory}/node-{self.primary}/sock"
        client = f"echo \"{statement} \\\\watch {every}\" | psql --host={sockets} --username=postgres --dbname=app --no-psqlrc --quiet"
        self.stack.of_faults.start(name, self.lab.program, "--number", self.lab.number, "exec", "--node", self.primary, "--", "sh", "-c", client)

    def wait_until_settled(self, alerts=frozenset()):
        """Waits until the lab is healthy, no critical alert and none of `alerts`, pairs of name and severity, is active, and no page is open."""
        self.lab.wait_until_healthy()

        def probe():
            active = [span for span in self.stack.watcher.active() if (span.name, span.labels["severity"]) in alerts or span.labels["severity"] == "critical"]
            pages = self.stack.inbox.open_pages()
            if self.stack.watcher.error:
                raise wait.NotYet(f"Alertmanager: {self.stack.watcher.error}")
            if active or pages:
                raise wait.NotYet(f"active alerts {[str(span) for span in active]}, open pages {pages}")
            self.stack.check_targets()

        wait.until("no alert to be active", SETTLE_SECS, probe)

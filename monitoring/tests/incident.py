"""One group of faults: caused, seen in Alertmanager, healed, seen to resolve, and its pages counted."""

import re
import time

import wait
from table import Row

# Alertmanager looks at a group that has just been resolved once in its group_interval.
PAGE_SECS = 60
PAGE_CLOSES_SECS = 120


class Failed(Exception):
    """An alert did not do what the declaration says."""


def kebab(name):
    """Returns an alert's name as its runbook has it."""
    return re.sub(r"(?<!^)(?=[A-Z])", "-", name).lower()


class Incident:
    """A group of faults that run at the same time."""

    def __init__(self, scene, group):
        self.scene = scene
        self.group = group
        self.watcher = scene.stack.watcher
        self.rows = []
        self.spans = {}
        self.began = {}

    def run(self):
        """Runs all of it, and returns the rows. A failure is in the row of its alert."""
        scene = self.scene
        scene.begin()
        start = time.time()
        try:
            self.cause(start)
            for fault, expected, row in self.declared():
                self.guarded(row, self.wait_for_alert, fault, expected, row)
            if self.pages_wanted() and not any(row.failure for row in self.rows):
                # An operator heals after the page.
                self.guarded(self.rows[0], wait.until, "a page", PAGE_SECS, self.check_page_since(start))
        finally:
            for fault in self.group:
                fault.heal(scene)
            scene.sessions.close()
        healed = time.time()
        for _, expected, row in self.declared():
            if not row.failure and expected.resolves_within:
                self.guarded(row, self.wait_until_resolved, expected, row, healed)
        self.count_pages(start)
        return self.rows

    def pages_wanted(self):
        """Returns the number of pages of the incident: alerts that last for days have a page of their own."""
        paging = [row for _, expected, row in self.declared() if expected.severity == "critical" and not expected.muted_by]
        return len({self.spans[id(row)].labels.get("lasts") for row in paging if id(row) in self.spans})

    def check_page_since(self, start):
        """Returns a probe for a page."""

        def probe():
            if not self.scene.stack.inbox.pages(start):
                raise wait.NotYet("none")

        return probe

    def cause(self, start):
        """Causes every fault, and makes a row for each alert."""
        for fault in self.group:
            began = time.time()
            own = fault.cause(self.scene)
            self.began[fault.name] = max(own, start) if own is not None else began
            for expected in fault.expected:
                node = getattr(self.scene, expected.on) if expected.on else ""
                self.rows.append(Row(expected.alert, expected.severity, node, fault.name))

    def declared(self):
        """Yields each fault with each of its alerts and the row."""
        pairs = [(fault, expected) for fault in self.group for expected in fault.expected]
        for (fault, expected), row in zip(pairs, self.rows, strict=True):
            yield fault, expected, row

    def guarded(self, row, step, *arguments):
        """Runs a step, and records its failure in the row."""
        try:
            step(*arguments)
        except (Failed, wait.TimedOut) as error:
            active = ", ".join(sorted(str(span) for span in self.watcher.active()))
            row.failure = f"{row.alert}: {error}; Alertmanager shows: {active}; Prometheus's data: {self.scene.stack.directory}/prometheus"

    def wait_for_alert(self, fault, expected, row):
        """Waits until Alertmanager shows the alert, and checks its labels."""
        wanted = {"alertname": expected.alert, "severity": expected.severity, "cluster": "lab", **dict(expected.labels)}
        if row.node:
            wanted["node"] = row.node
        began = self.began[fault.name]

        def probe():
            self.scene.stack.processes.check()
            same_name = [span for span in self.watcher.since(began) if span.name == expected.alert]
            for span in same_name:
                if wanted.items() <= span.labels.items():
                    return span
            raise wait.NotYet(f"with other labels: {[span.labels for span in same_name]}" if same_name else "not there")

        span = wait.until(f"the alert {wanted}", expected.timeout, probe)
        row.seconds_to_alert = round(span.begin - began, 1)
        self.spans[id(row)] = span
        runbook = f"docs/runbooks/{kebab(expected.alert)}.md"
        if span.annotations.get("runbook_url") != runbook:
            raise Failed(f"its runbook_url is {span.annotations.get('runbook_url')}, not {runbook}")
        for label in ("component", "severity", "cluster"):
            if not span.labels.get(label):
                raise Failed(f"it has no label {label}: {span.labels}")

    def wait_until_resolved(self, expected, row, healed):
        """Waits until Alertmanager no longer shows the alert."""
        span = self.spans[id(row)]

        def probe():
            same = [each for each in self.watcher.active() if each.labels == span.labels]
            if same:
                raise wait.NotYet("still active")

        wait.until(f"{span} to resolve", expected.resolves_within, probe)
        row.seconds_to_resolve = round(max(0.0, (span.end or healed) - healed), 1)
        row.muted_by = ", ".join(sorted(span.muted_by))
        if expected.muted_by and not span.muted_by & set(expected.muted_by):
            raise Failed(f"it was not muted by any of {expected.muted_by}")

    def count_pages(self, start):
        """Waits until the pager's incident is closed, and compares the number of incidents with what is declared."""
        inbox = self.scene.stack.inbox

        def closed():
            if inbox.open_pages():
                raise wait.NotYet(f"open: {inbox.open_pages()}")

        def with_failures(row):
            self.guarded(row, wait.until, "the page to close", PAGE_CLOSES_SECS, closed)

        first = self.rows[0]
        if not any(row.failure for row in self.rows):
            with_failures(first)
        pages = inbox.pages(start)
        notifications = inbox.since(start, "page")
        wanted = self.pages_wanted()
        for row in self.rows:
            row.pages, row.notifications = len(pages), len(notifications)
        most = wanted * max(fault.incidents for fault in self.group)
        if not wanted <= len(pages) <= most and not any(row.failure for row in self.rows):
            opened = [(round(page["at"] - start, 1), page["alerts"]) for page in pages]
            first.failure = f"{first.alert}: {len(pages)} pages instead of {wanted}: {opened}"

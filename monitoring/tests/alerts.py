"""What Alertmanager's API shows, recorded several times a second."""

import json
import threading
import time
from dataclasses import dataclass, field

import lab

POLL_SECS = 0.2


@dataclass
class Span:
    """Time for which Alertmanager showed an alert with the same labels."""

    labels: dict
    annotations: dict
    begin: float
    end: float | None = None
    muted_by: set = field(default_factory=set)

    @property
    def name(self):
        """The alert's name."""
        return self.labels["alertname"]

    def __str__(self):
        others = [f"{key}={value}" for key, value in sorted(self.labels.items()) if key in ("node", "bucket", "mountpoint", "slot_name")]
        return f"{self.name}{{{', '.join(others)}}}" if others else self.name


class Watcher:
    """Reads Alertmanager's API in a thread of its own."""

    def __init__(self, url):
        self.url = url
        self.lock = threading.Lock()
        self.spans = []
        self.present = {}
        self.error = None
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        """Polls until `close`."""
        while not self.stopping.wait(POLL_SECS):
            try:
                self.accept(json.loads(lab.get(f"{self.url}/api/v2/alerts")))
                self.error = None
            except (OSError, ValueError) as error:
                self.error = error

    def accept(self, alerts):
        """Records an answer of the API."""
        now = time.time()
        with self.lock:
            names = {alert["fingerprint"]: alert["labels"]["alertname"] for alert in alerts}
            for alert in alerts:
                span = self.present.get(alert["fingerprint"])
                if span is None:
                    span = Span(alert["labels"], alert["annotations"], now)
                    self.present[alert["fingerprint"]] = span
                    self.spans.append(span)
                span.muted_by |= {names.get(source, source) for source in alert["status"]["inhibitedBy"]}
            for fingerprint in set(self.present) - set(names):
                self.present.pop(fingerprint).end = now

    def active(self):
        """Returns the alerts that Alertmanager shows now."""
        with self.lock:
            return list(self.present.values())

    def since(self, at):
        """Returns the alerts that have begun since a time."""
        with self.lock:
            return [span for span in self.spans if span.begin >= at]

    def close(self):
        """Stops polling."""
        self.stopping.set()
        self.thread.join()

"""Pages that a real Alertmanager sends with the routes of monitoring/, in shorter time. Needs prometheus-alertmanager."""

import json
import socket
import tempfile
import unittest
import urllib.request
from datetime import datetime, timedelta, timezone
from pathlib import Path

import compress
import lab
import wait
import yaml
from processes import Processes
from receiver import Inbox, Receiver

MONITORING = Path(__file__).resolve().parent.parent
# Alertmanager mutes what it knows to be muted when `group_wait` ends: 3 s, also on a busy machine.
FACTOR = 5
START_SECS = 30


def unused_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Pages(unittest.TestCase):
    def setUp(self):
        directory = Path(self.enterContext(tempfile.TemporaryDirectory(prefix="causeway-routes-")))
        self.inbox = Inbox()
        receiver = Receiver(("127.0.0.1", 0), self.inbox)
        self.addCleanup(receiver.close)
        source = yaml.safe_load((MONITORING / "alertmanager/alertmanager.yml").read_text())
        settings = compress.alertmanager(source, FACTOR, f"http://127.0.0.1:{receiver.server_address[1]}")
        (directory / "alertmanager.yml").write_text(yaml.safe_dump(settings))
        self.group_interval = compress.milliseconds(settings["route"]["group_interval"]) / 1000
        self.url = f"http://127.0.0.1:{unused_port()}"
        self.processes = Processes(directory / "log")
        self.addCleanup(self.processes.end_all)
        self.processes.start(
            "alertmanager", "prometheus-alertmanager", f"--config.file={directory}/alertmanager.yml", f"--storage.path={directory}/data",
            f"--web.listen-address={self.url.removeprefix('http://')}", "--cluster.listen-address=",
        )
        wait.until("Alertmanager", START_SECS, self.check_ready)

    def check_ready(self):
        self.processes.check()
        try:
            lab.get(f"{self.url}/-/ready")
        except OSError as error:
            raise wait.NotYet(error) from None

    def fire(self, *names, since=None):
        """Sends alerts with the labels of their rules. Without `since` they begin when Alertmanager receives them."""
        times = {"startsAt": (datetime.now(timezone.utc) - since).isoformat()} if since else {}
        body = json.dumps([{"labels": {**labels(name), "cluster": "main"}, **times} for name in names]).encode()
        request = urllib.request.Request(f"{self.url}/api/v2/alerts", data=body, headers={"Content-Type": "application/json"})
        urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=10).close()

    def wait_for_page(self, name):
        """Returns the alerts of the page that an alert opens, before Alertmanager would extend the page of another."""

        def probe():
            for page in self.inbox.pages(0):
                if name in page["alerts"]:
                    return page["alerts"]
            raise wait.NotYet(self.inbox.since(0, "page"))

        return wait.until(f"a page of {name}", self.group_interval / 2, probe)

    def test_alert_of_days_is_open_then_incident_pages_at_once(self):
        self.fire("TlsExpiry", since=timedelta(days=2))
        self.assertEqual(self.wait_for_page("TlsExpiry"), ["TlsExpiry"])
        self.fire("NoPrimary")
        self.assertEqual(self.wait_for_page("NoPrimary"), ["NoPrimary"])

    def test_alerts_of_one_incident_then_one_page(self):
        self.fire("AgentAbsent", "FailoverNotReady", "NoPrimary", "ApiReadOnly")
        self.assertEqual(self.wait_for_page("NoPrimary"), ["AgentAbsent", "FailoverNotReady", "NoPrimary"], "ApiReadOnly follows")
        self.assertEqual(len(self.inbox.pages(0)), 1)


def labels(name):
    """Returns the name of an alert with the labels of its rule."""
    for file in (MONITORING / "rules").glob("*.yml"):
        for group in yaml.safe_load(file.read_text())["groups"]:
            for rule in group["rules"]:
                if rule.get("alert") == name:
                    return {"alertname": name, **rule["labels"]}
    raise KeyError(name)


if __name__ == "__main__":
    unittest.main()

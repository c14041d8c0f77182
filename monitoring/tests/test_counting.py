"""Unit tests of what is counted: pages, times and alerts."""

import unittest

import table
from alerts import Watcher
from incident import kebab
from receiver import Inbox
from table import Row


class Pages(unittest.TestCase):
    def setUp(self):
        self.inbox = Inbox()

    def notify(self, receiver, key, status, *names):
        alerts = [{"labels": {"alertname": name}, "status": status} for name in names]
        self.inbox.accept(receiver, {"groupKey": key, "status": status, "alerts": alerts})

    def test_repeated_notification_of_an_open_incident_then_one_page(self):
        self.notify("page", "lab", "firing", "NoPrimary")
        self.notify("page", "lab", "firing", "NoPrimary", "AgentAbsent")
        self.assertEqual([page["alerts"] for page in self.inbox.pages(0)], [["NoPrimary"]])
        self.assertEqual(len(self.inbox.since(0, "page")), 2)

    def test_resolved_and_firing_again_then_two_pages(self):
        for status in ("firing", "resolved", "firing"):
            self.notify("page", "lab", status, "NoPrimary")
        self.assertEqual(len(self.inbox.pages(0)), 2)
        self.notify("page", "lab", "resolved")
        self.assertEqual(self.inbox.open_pages(), [])

    def test_ticket_then_no_page(self):
        self.notify("ticket", "lab", "firing", "LockQueue")
        self.assertEqual((self.inbox.pages(0), self.inbox.open_pages()), ([], []))


class Spans(unittest.TestCase):
    def setUp(self):
        # Nothing listens there: the test hands over the answers.
        self.watcher = Watcher("http://127.0.0.1:1")
        self.watcher.close()

    def alert(self, fingerprint, name, inhibited_by=()):
        return {"fingerprint": fingerprint, "labels": {"alertname": name}, "annotations": {}, "status": {"inhibitedBy": list(inhibited_by)}}

    def test_alert_vanishes_and_returns_then_two_spans(self):
        for answer in ([self.alert("1", "NoPrimary")], [], [self.alert("1", "NoPrimary")]):
            self.watcher.accept(answer)
        self.assertEqual([span.end is None for span in self.watcher.since(0)], [False, True])

    def test_inhibited_alert_then_muted_by_the_name_of_the_other(self):
        self.watcher.accept([self.alert("1", "NoPrimary"), self.alert("2", "ApiReadOnly", ["1"])])
        self.assertEqual({span.name: span.muted_by for span in self.watcher.active()}, {"NoPrimary": set(), "ApiReadOnly": {"NoPrimary"}})


class Table(unittest.TestCase):
    def test_failed_row_then_not_counted_as_fired(self):
        rows = [Row("A", "critical", "", "f", 2.0), Row("B", "critical", "", "f", 4.0, failure="B: two pages"), Row("C", "warning", "", "f")]
        self.assertEqual(table.fired(rows), ["A"])
        self.assertEqual(table.median(rows), 3.0)
        self.assertIn("1 alerts fired, 1 of them critical", table.text(rows, []))

    def test_alert_name_then_name_of_its_runbook(self):
        self.assertEqual(kebab("XidWraparound"), "xid-wraparound")


if __name__ == "__main__":
    unittest.main()

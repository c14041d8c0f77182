"""Unit tests of compress.py: `python3 -m unittest discover monitoring/tests`."""

import unittest
from pathlib import Path

import compress
import yaml

MONITORING = Path(__file__).resolve().parent.parent


class Durations(unittest.TestCase):
    def test_units_then_divided(self):
        for before, after in (("15s", "1s"), ("1m", "4s"), ("1h30m", "360s"), ("7d", "40320s"), ("0s", "0s"), ("10s", "667ms")):
            self.assertEqual(compress.duration(before, 15), after, before)

    def test_factor_one_then_unchanged(self):
        self.assertEqual(compress.duration("1h30m", 1), "1h30m")

    def test_no_duration_then_error(self):
        with self.assertRaisesRegex(ValueError, "`15` is not a duration"):
            compress.duration("15", 15)


class Expressions(unittest.TestCase):
    def test_ranges_offsets_and_steps_then_divided(self):
        before = "max_over_time(rate(a[5m])[1h:1m]) > 2 * b offset 7d"
        self.assertEqual(compress.expression(before, 15), "max_over_time(rate(a[20s])[240s:4s]) > 2 * b offset 40320s")

    def test_names_texts_and_comments_then_unchanged(self):
        before = 'cluster:errors:ratio_rate5m{route="5m", a!~"1h"} > 300 # for 10m'
        self.assertEqual(compress.expression(before, 15), before)

    def test_named_seconds_then_divided(self):
        self.assertEqual(compress.expression("age > 300 and n > 30", 15, ["300"]), "age > 20 and n > 30")

    def test_named_seconds_absent_then_error(self):
        with self.assertRaisesRegex(compress.UnknownNumber, "no number 300"):
            compress.expression("age > 301", 15, ["300"])


class Documents(unittest.TestCase):
    def test_rule_then_waits_divided_and_the_rest_kept(self):
        before = {"alert": "A", "expr": "a[1m] > 300", "for": "10m", "keep_firing_for": "5m", "labels": {"severity": "critical"}}
        after = {"alert": "A", "expr": "a[4s] > 300", "for": "40s", "keep_firing_for": "20s", "labels": {"severity": "critical"}}
        self.assertEqual(compress.rule(before, 15), after)

    def test_condition_looked_at_by_an_agent_then_for_spans_two_looks(self):
        before = {"alert": "DnsMismatch", "expr": "a == 1", "for": "1m"}
        self.assertEqual(compress.rule(before, 15)["for"], "10s")
        self.assertEqual(compress.rule(before, 1)["for"], "1m")

    def test_alert_that_waits_for_days_then_for_minutes(self):
        before = {"alert": "RestoreNotVerified", "expr": "a == 1", "for": "2d"}
        self.assertEqual(compress.rule(before, 15)["for"], "240s")
        self.assertEqual(compress.rule(before, 1)["for"], "2d")

    def test_production_rules_then_no_long_duration_left(self):
        documents = [yaml.safe_load(file.read_text()) for file in sorted((MONITORING / "rules").glob("*.yml"))]
        compress.check_names(documents)
        for document in documents:
            for before, after in zip(alerts(document), alerts(compress.rules(document, 15)), strict=True):
                least = compress.milliseconds(compress.LEAST_FOR.get(before["alert"], "0s"))
                expected = max(compress.milliseconds(str(before["for"])) / 15, least)
                if before["alert"] in compress.MOST_FOR:
                    expected = min(expected, compress.milliseconds(compress.MOST_FOR[before["alert"]]))
                self.assertAlmostEqual(compress.milliseconds(after["for"]), expected, delta=1, msg=before["alert"])
                self.assertEqual(before["labels"], after["labels"])

    def test_routes_then_divided_at_every_level(self):
        before = {"group_wait": "15s", "routes": [{"repeat_interval": "4h", "receiver": "page"}]}
        self.assertEqual(compress.route(before, 15), {"group_wait": "1s", "routes": [{"repeat_interval": "960s", "receiver": "page"}]})

    def test_receivers_then_webhooks_of_the_harness(self):
        before = {"route": {"receiver": "page"}, "receivers": [{"name": "page", "pagerduty_configs": [{"routing_key": "x"}]}]}
        after = compress.alertmanager(before, 15, "http://127.0.0.1:1")
        self.assertEqual(after["receivers"], [{"name": "page", "webhook_configs": [{"url": "http://127.0.0.1:1/page", "send_resolved": True}]}])


def alerts(document):
    return [rule for group in document["groups"] for rule in group["rules"] if "alert" in rule]


if __name__ == "__main__":
    unittest.main()

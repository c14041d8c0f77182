"""A query without data is refused with the name of its panel."""

import sys
import unittest
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parent))

import panel_data

SPAN = {"start": 1000, "end": 1600}
DASHBOARD = {"name": "one", "rows": [{"panels": [
    {"title": "Lag", "kind": "timeseries", "queries": [{"expr": 'lag{cluster="$cluster"}'}, {"expr": "max_over_time(lag[$__range])"}]},
    {"title": "State", "kind": "table", "queries": [{"expr": "state"}]},
]}]}


class Asked:
    """Answers of a Prometheus, by path and expression."""

    def __init__(self, answers):
        self.answers = answers
        self.asked = []

    def __call__(self, path, query, **parameters):
        self.asked.append((path, query, parameters))
        return self.answers.get(query, {"status": "success", "data": {"result": [{}]}})


class PanelData(unittest.TestCase):
    def faults(self, **answers):
        self.ask = Asked(answers)
        return panel_data.faults([DASHBOARD], "", {"default": SPAN}, "lab", self.ask)

    def test_data_everywhere(self):
        self.assertEqual(self.faults(), [])
        self.assertEqual([asked[:2] for asked in self.ask.asked], [
            ("query_range", 'lag{cluster="lab"}'), ("query_range", "max_over_time(lag[600s])"), ("query", "state"),
        ])
        self.assertEqual(self.ask.asked[2][2], {"time": 1600})

    def test_query_without_data(self):
        (fault,) = self.faults(**{"max_over_time(lag[600s])": {"status": "success", "data": {"result": []}}})
        self.assertIn("one: panel `Lag`, query 2: no data between 1000 and 1600", fault)

    def test_query_that_prometheus_rejects(self):
        (fault,) = self.faults(state={"status": "error", "error": "many-to-many matching"})
        self.assertEqual(fault, "one: panel `State`, query 1: many-to-many matching")

    def test_own_time_range_of_a_dashboard(self):
        ask = Asked({})
        panel_data.faults([DASHBOARD], "", {"default": SPAN, "one": {"start": 1, "end": 9}}, "lab", ask)
        self.assertEqual(ask.asked[2][2], {"time": 9})


if __name__ == "__main__":
    unittest.main()

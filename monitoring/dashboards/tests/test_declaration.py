"""A faulty declaration is refused with the name of its panel: `python -m unittest discover monitoring/dashboards/tests`."""

import copy
import sys
import unittest
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import declaration
import yaml

PALETTE = declaration.read_palette()
GOOD = {
    "name": "one", "title": "One", "description": "A dashboard.", "window": "1h", "variables": ["cluster"],
    "rows": [{"title": "Row", "panels": [{
        "title": "Lag (seconds)", "description": "Distance of each standby.", "kind": "timeseries", "unit": "seconds", "width": 24, "height": 7,
        "queries": [{"expr": 'max by (node) (failover_replay_lag_seconds{cluster="$cluster"})', "legend": "{{node}}"}],
    }]}],
}


class Declared(unittest.TestCase):
    def setUp(self):
        self.dashboard = copy.deepcopy(GOOD)
        self.panel = self.dashboard["rows"][0]["panels"][0]

    def read(self):
        return declaration.read(yaml.safe_dump(self.dashboard), "one.yml", PALETTE)

    def refused(self, *parts):
        with self.assertRaises(declaration.DeclarationError) as raised:
            self.read()
        for part in parts:
            self.assertIn(part, str(raised.exception))

    def test_whole_dashboard_is_read(self):
        self.assertEqual(self.read()["title"], "One")

    def test_panel_without_description(self):
        del self.panel["description"]
        self.refused("one.yml: panel `Lag (seconds)`: 'description' is a required property")

    def test_panel_without_unit(self):
        del self.panel["unit"]
        self.refused("panel `Lag (seconds)`: 'unit' is a required property")

    def test_unknown_unit(self):
        self.panel["unit"] = "furlongs"
        self.refused("panel `Lag (seconds)`: 'furlongs' is not one of")

    def test_panel_without_queries(self):
        self.panel["queries"] = []
        self.refused("panel `Lag (seconds)`", "non-empty")

    def test_line_without_legend(self):
        del self.panel["queries"][0]["legend"]
        self.refused("panel `Lag (seconds)`: 'legend' is a required property")

    def test_undeclared_variable(self):
        self.panel["queries"][0]["expr"] = 'up{node="$node"}'
        self.refused("panel `Lag (seconds)`: variable `$node` is not declared")

    def test_unknown_states(self):
        self.panel |= {"kind": "state-timeline", "states": "rolls"}
        self.refused("panel `Lag (seconds)`: states `rolls` are not in states.yml")

    def test_hole_in_the_line(self):
        self.panel["width"] = 12
        self.refused("row `Row`: last line has 12 of 24 columns")

    def test_same_title_twice(self):
        self.dashboard["rows"][0]["panels"].append(copy.deepcopy(self.panel))
        self.refused("two panels are named `Lag (seconds)`")

    def test_table_sorted_by_no_column(self):
        self.panel |= {"kind": "table", "key": ["node"], "key_title": ["Node"], "sort": "Lga"}
        self.panel["queries"][0]["column"] = "Lag"
        self.refused("panel `Lag (seconds)`: sorted by `Lga`, which is no column")


class Layout(unittest.TestCase):
    def test_panels_fill_lines_of_24_columns(self):
        row = {"panels": [{"width": 12, "height": 4}, {"width": 12, "height": 6}, {"width": 24, "height": 5}]}
        places = [(place.x, place.y) for place in declaration.places(row)]
        self.assertEqual(places, [(0, 0), (12, 0), (0, 6)])


if __name__ == "__main__":
    unittest.main()

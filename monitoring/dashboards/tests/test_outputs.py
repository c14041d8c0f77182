"""Both outputs have every panel and query of the declaration, and no variable that the other system lacks."""

import json
import sys
import unittest
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import declaration
import grafana
import perses
from options import Options

PALETTE = declaration.read_palette()
DASHBOARDS = declaration.read_all()
OPTIONS = Options(runbooks="https://example.org/runbooks", alerts={"NoPrimary": "no-primary"}, project="causeway")


class Outputs(unittest.TestCase):
    def each(self):
        for declared in DASHBOARDS:
            with self.subTest(declared["name"]):
                yield declared, grafana.dashboard(declared, PALETTE, OPTIONS), perses.dashboard(declared, PALETTE, OPTIONS)

    def test_every_panel_is_in_both(self):
        for declared, in_grafana, in_perses in self.each():
            titles = [panel["title"] for panel in declaration.panels(declared)]
            self.assertEqual([panel["title"] for panel in in_grafana["panels"] if panel["type"] != "row"], titles)
            self.assertEqual([panel["spec"]["display"]["name"] for panel in in_perses["spec"]["panels"].values()], titles)

    def test_every_expression_is_in_both(self):
        for declared, in_grafana, in_perses in self.each():
            expressions = [query["expr"] for panel in declaration.panels(declared) for query in panel["queries"]]
            self.assertEqual([target["expr"] for panel in in_grafana["panels"] for target in panel.get("targets", [])], expressions)
            queries = [query for panel in in_perses["spec"]["panels"].values() for query in panel["spec"]["queries"]]
            self.assertEqual([query["spec"]["plugin"]["spec"]["query"] for query in queries], expressions)

    def test_panels_of_grafana_do_not_overlap(self):
        for _, in_grafana, _ in self.each():
            cells = [(x, y) for panel in in_grafana["panels"] for x, y in covered(panel["gridPos"])]
            self.assertEqual(len(cells), len(set(cells)))

    def test_layout_of_perses_refers_to_its_panels(self):
        for _, _, in_perses in self.each():
            spec = in_perses["spec"]
            refs = [item["content"]["$ref"].rsplit("/", 1)[1] for layout in spec["layouts"] for item in layout["spec"]["items"]]
            self.assertEqual(sorted(refs), sorted(spec["panels"]))

    def test_runbooks_are_links(self):
        for declared, in_grafana, in_perses in self.each():
            count = sum(len(panel.get("runbooks", [])) for panel in declaration.panels(declared))
            self.assertEqual(json.dumps(in_grafana).count('"title": "Runbook: '), count)
            self.assertEqual(json.dumps(in_perses).count('"name": "Runbook: '), count)

    def test_same_declaration_gives_the_same_output(self):
        for declared, in_grafana, in_perses in self.each():
            self.assertEqual(in_grafana, grafana.dashboard(declared, PALETTE, OPTIONS))
            self.assertEqual(in_perses, perses.dashboard(declared, PALETTE, OPTIONS))


def covered(position):
    """Yields each cell of a panel."""
    for x in range(position["x"], position["x"] + position["w"]):
        for y in range(position["y"], position["y"] + position["h"]):
            yield x, y


if __name__ == "__main__":
    unittest.main()

"""What the files of monitoring/ declare."""

import re
import sys
from dataclasses import dataclass, field
from pathlib import Path

import exported
import promql
import yaml
from installed import Installed

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "monitoring/dashboards"))
import declaration


@dataclass
class Rule:
    """Alerting or recording rule."""

    subject: str
    content: dict
    tree: promql.Node = None

    @property
    def alert(self):
        return self.content.get("alert")

    @property
    def name(self):
        return self.content.get("alert") or self.content["record"]

    @property
    def severity(self):
        return self.content.get("labels", {}).get("severity")

    @property
    def annotations(self):
        return self.content.get("annotations", {})


@dataclass
class Folder:
    """The declarations, which tests change before they are checked."""

    rules: list
    tests: dict
    metrics: dict
    queries: dict
    reference: dict
    alertmanager: dict
    scrape_interval_secs: float
    runbooks: dict
    guides: dict
    installed: Installed
    dashboards: list
    directory: Path = ROOT / "monitoring/rules"
    recorded: dict = field(default_factory=dict)

    @property
    def alerts(self):
        return [rule for rule in self.rules if rule.alert]

    def parse(self):
        """Parses every expression, and finds out the labels of recording rules."""
        for rule, tree in zip(self.rules, promql.parse([rule.content["expr"] for rule in self.rules])):
            rule.tree = tree
        # A recording rule may use others: as many rounds as they are deep.
        recording = [rule for rule in self.rules if not rule.alert]
        for _ in range(3):
            self.recorded = {rule.name: promql.labels(rule.tree, self.recorded) for rule in recording}


def kebab(alert):
    """Returns the name of an alert's runbook."""
    return re.sub(r"(?<!^)(?=[A-Z])", "-", alert).lower()


def rules(directory):
    for path in sorted(directory.glob("*.yml")):
        for group in yaml.safe_load(path.read_text())["groups"]:
            for rule in group["rules"]:
                yield Rule(path.stem, rule)


def load(root=ROOT):
    """Reads the folder of a repository."""
    ours = root / "monitoring"
    config = yaml.safe_load((ours / "scrape/file.yml").read_text())
    folder = Folder(
        rules=list(rules(ours / "rules")),
        tests={path.stem: yaml.safe_load(path.read_text()) for path in sorted((ours / "rules/tests").glob("*.yml"))},
        metrics=yaml.safe_load((ours / "metrics.yml").read_text()),
        queries=yaml.safe_load((ours / "postgres_exporter/queries.yml").read_text()),
        reference=exported.reference((root / "docs/reference/metrics.md").read_text()),
        alertmanager=yaml.safe_load((ours / "alertmanager/alertmanager.yml").read_text()),
        scrape_interval_secs=promql.seconds(config["global"]["scrape_interval"]),
        runbooks={path.stem: path.read_text() for path in sorted((root / "docs/runbooks").glob("*.md"))},
        guides={str(path.relative_to(root)): path.read_text() for kind in ("concepts", "guides") for path in sorted((root / "docs" / kind).glob("*.md"))},
        installed=Installed(root),
        dashboards=declaration.read_all(),
    )
    folder.parse()
    return folder

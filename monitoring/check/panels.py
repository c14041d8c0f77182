"""Dashboards: grammar, metrics, runbooks and both outputs."""

import re
from dataclasses import dataclass

import expressions
import promql
from folder import declaration

import grafana

# What Prometheus itself makes of alerting rules.
BUILT_IN = {"ALERTS", "ALERTS_FOR_STATE"}
# Variables of dashboards, as some value of theirs.
VARIABLES = {"$__rate_interval": "1m", "$__range": "1h", "$cluster": "main", "$node": "a|b"}


@dataclass(frozen=True)
class Query:
    """Expression of a panel, or of a dashboard's annotations."""

    name: str
    expr: str


def queries(folder):
    """Yields every expression, with its panel's name and its variables replaced."""
    for dashboard in folder.dashboards:
        for panel in declaration.panels(dashboard):
            for query in panel["queries"]:
                yield Query(f"{dashboard['name']}: {panel['title']}", replaced(query["expr"]))
        for expression in grafana.expressions(dashboard):
            yield Query(f"{dashboard['name']}: annotations", replaced(expression))


def replaced(expression):
    """Returns an expression without variables."""
    return re.sub(r"\$\w+", lambda found: VARIABLES.get(found[0], found[0]), expression)


def parsed(folder):
    """Returns pairs of query and tree."""
    found = list(queries(folder))
    return list(zip(found, promql.parse([query.expr for query in found])))


def grammar(folder):
    """Expressions that Prometheus 3 does not parse."""
    for query, tree in parsed(folder):
        position = promql.error(tree)
        if position is not None:
            near = query.expr[position : position + 20].strip() or "the end"
            yield f"panel `{query.name}` is no PromQL of Prometheus 3 near `{near}`"


def unknown_metrics(folder):
    """Metrics of panels that no job exports and that do not wait for a later part."""
    known = expressions.exported(folder) | set(folder.recorded) | set(folder.metrics["waiting"]) | BUILT_IN
    for query, tree in parsed(folder):
        for name in sorted(set(promql.metrics(tree)) - known):
            yield f"panel `{query.name}` names the metric `{name}`, which no job exports: correct it, or declare it in monitoring/metrics.yml"


def links(folder):
    """Links of panels to runbooks of alerts that do not exist."""
    alerts = {rule.alert for rule in folder.alerts}
    for dashboard in folder.dashboards:
        for panel in declaration.panels(dashboard):
            for alert in panel.get("runbooks", []):
                if alert not in alerts:
                    yield f"panel `{dashboard['name']}: {panel['title']}` links the runbook of `{alert}`, which is no alert"


def table_labels(folder):
    """Tables whose expressions have other labels than the declared key: they would be columns."""
    for dashboard in folder.dashboards:
        tables = {f"{dashboard['name']}: {panel['title']}": panel for panel in declaration.panels(dashboard) if panel["kind"] == "table"}
        for query, tree in parsed(folder):
            if query.name in tables and promql.error(tree) is None:
                found, key = promql.labels(tree, folder.recorded), frozenset(tables[query.name]["key"])
                if found != key:
                    shown = ", ".join(sorted(found)) or "none"
                    yield f"panel `{query.name}` has the labels {shown} in a query, and not those of its key: {', '.join(sorted(key))}"


CHECKS = [grammar, unknown_metrics, links, table_labels]

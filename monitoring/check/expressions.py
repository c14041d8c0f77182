"""Expressions of rules: grammar, windows, labels and metrics."""

import promql
from exported import by_job

HOURS = 3600
# Labels that an alert may have. Each names a thing that stays as long as the condition: a label that changes with the
# condition, such as `reason`, `holder` or `version`, starts `for` again.
STABLE = frozenset({"cluster", "region", "node", "database", "datname", "bucket", "slot_name", "mountpoint", "certificate", "job"})


def grammar(folder):
    """Expressions that Prometheus 3 does not parse."""
    for rule in folder.rules:
        position = promql.error(rule.tree)
        if position is not None:
            near = rule.content["expr"][position : position + 20].strip() or "the end"
            yield f"`{rule.name}` is no PromQL of Prometheus 3 near `{near}`"


def windows(folder):
    """Ranges that may contain a single sample: a scrape may fail, and the range excludes its start since Prometheus 3."""
    least = 4 * folder.scrape_interval_secs
    for rule in folder.rules:
        for text, seconds in promql.windows(rule.tree):
            if seconds < least:
                yield f"`{rule.name}` has the window [{text}]: four scrape intervals are {least:.0f}s, so take at least that"


def gaps(folder):
    """Alerts that wait for hours and whose `for` one failed scrape starts again."""
    for rule in folder.alerts:
        names = set(promql.metrics(rule.tree))
        if promql.seconds(rule.content.get("for", "0s")) < HOURS or "cluster:expected:zero" in names:
            continue
        for name in sorted(set(promql.instant_metrics(rule.tree)) - set(folder.recorded)):
            yield f"`{rule.name}` waits for {rule.content['for']}, and one failed scrape of `{name}` starts that again: read last_over_time({name}[1h])"


def changing_labels(folder):
    """Alerts whose labels may change while their condition holds."""
    for rule in folder.alerts:
        found = promql.labels(rule.tree, folder.recorded)
        if found & promql.ALL:
            yield f"`{rule.name}` keeps every label of its series: aggregate `by` those that stay"
        elif found - STABLE:
            names = ", ".join(f"`{name}`" for name in sorted(found - STABLE))
            yield f"`{rule.name}` has the label {names}, which may change and starts `for` again: aggregate without it"


def exported(folder):
    """Returns the metrics that a job exports."""
    return set().union(*by_job(folder.metrics, folder.reference, folder.queries).values())


def unknown_metrics(folder):
    """Metrics of rules that no job exports and that do not wait for a later part."""
    known = exported(folder) | set(folder.recorded) | set(folder.metrics["waiting"])
    for rule in folder.rules:
        for name in sorted(set(promql.metrics(rule.tree)) - known):
            yield f"`{rule.name}` names the metric `{name}`, which no job exports: correct it, or declare it in monitoring/metrics.yml"


def waiting(folder):
    """The list of waiting metrics: each is used by the alerts that it names, and no job exports it yet."""
    used = {}
    for rule in folder.rules:
        for name in promql.metrics(rule.tree):
            used.setdefault(name, set()).add(rule.name)
    for name, entry in folder.metrics["waiting"].items():
        if name in exported(folder):
            yield f"`{name}` is exported: remove it from `waiting` of monitoring/metrics.yml"
        declared = set(entry["rules"])
        if declared != used.get(name, set()):
            actual = ", ".join(sorted(used.get(name, set()))) or "no rule"
            yield f"`{name}` waits for {', '.join(sorted(declared))}, and {actual} names it: correct monitoring/metrics.yml"


CHECKS = [grammar, windows, gaps, changing_labels, unknown_metrics, waiting]

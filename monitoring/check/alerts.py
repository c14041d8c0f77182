"""What each alert must have: severity, component, annotations and tests."""

import re

import promql

SEVERITIES = ("critical", "warning", "info")
# Values of the label `lasts`, which routes a critical alert into a group of its own.
LASTS = ("days",)
# An incident is reported sooner: an alert that waits for as long is about something that goes on for days.
LASTING_FOR_SECS = 600


def severities(folder):
    """Alerts without a severity of the list, or without their file's name as component."""
    for rule in folder.alerts:
        if rule.severity not in SEVERITIES:
            yield f"`{rule.alert}` has the severity `{rule.severity}`: take one of {', '.join(SEVERITIES)}"
        component = rule.content.get("labels", {}).get("component")
        if component != rule.subject:
            yield f"`{rule.alert}` has the component `{component}`: name its file, `{rule.subject}`"
        if "for" not in rule.content:
            yield f"`{rule.alert}` has no `for`: write 0s if one evaluation is enough"


def lasting(folder):
    """Critical alerts of days that share the group of incidents, and others with a label that no route reads."""
    for rule in folder.alerts:
        lasts = rule.content.get("labels", {}).get("lasts")
        if lasts is None:
            if rule.severity == "critical" and promql.seconds(rule.content.get("for", "0s")) >= LASTING_FOR_SECS:
                yield f"`{rule.alert}` is critical and waits for {rule.content['for']}: write `lasts: days` into its labels"
        elif lasts not in LASTS or rule.severity != "critical":
            yield f"`{rule.alert}` ({rule.severity}) has the label lasts=`{lasts}`, which no route reads: remove it"


def names(folder):
    """Alerts that another one replaces: a name and severity occur once."""
    seen = set()
    for rule in folder.alerts:
        if (rule.alert, rule.severity) in seen:
            yield f"`{rule.alert}` occurs twice with the severity `{rule.severity}`"
        seen.add((rule.alert, rule.severity))


def annotations(folder):
    """Alerts without a text, a value in the text, a first command if critical, or with a label that they do not have."""
    for rule in folder.alerts:
        texts = rule.annotations
        for key in ("summary", "description"):
            if not texts.get(key):
                yield f"`{rule.alert}` has no {key}"
        text = " ".join(str(value) for value in texts.values())
        if "{{" not in text:
            yield f"`{rule.alert}` has no value in its annotations: write one, such as {{{{ $value }}}}"
        if rule.severity == "critical" and not re.search(r"Begin with\s+`[^`]+`", texts.get("description", "")):
            yield f"`{rule.alert}` is critical and names no first command: end its description by Begin with `<command>`"
        unknown = set(re.findall(r"\$labels\.(\w+)", text)) - promql.labels(rule.tree, folder.recorded)
        for label in sorted(unknown):
            yield f"`{rule.alert}` shows the label `{label}`, which its expression does not have"


def tests(folder):
    """Alerts without a test in which they fire, and without one in which they stay quiet."""
    fires, quiet = set(), set()
    for content in folder.tests.values():
        for case in content["tests"]:
            for test in case["promql_expr_test"]:
                found = re.search(r'ALERTS\{alertname="(\w+)",alertstate="firing"\}', test["expr"])
                if not found:
                    continue
                for sample in test["exp_samples"]:
                    severity = re.search(r'severity="(\w+)"', sample["labels"])
                    fires.add((found[1], severity[1] if severity else None))
                if not test["exp_samples"]:
                    quiet.add(found[1])
    for rule in folder.alerts:
        if (rule.alert, rule.severity) not in fires:
            yield f"`{rule.alert}` ({rule.severity}) fires in no test: add one to monitoring/rules/tests/{rule.subject}.yml"
        # An alert that always fires is never quiet.
        if rule.alert not in quiet and rule.content["expr"] != "vector(1)":
            yield f"`{rule.alert}` stays quiet in no test: add one to monitoring/rules/tests/{rule.subject}.yml"


CHECKS = [severities, lasting, names, annotations, tests]

"""Alertmanager's routes and inhibition: every alert reaches a receiver, and every name is one of an alert."""

import re

import promql
from alerts import LASTS, SEVERITIES

# Receivers that the rules' severities need, and the dead man's switch.
RECEIVERS = ("page", "ticket", "information", "watchdog")


def flattened(route):
    """Yields a route and those below it."""
    yield route
    for child in route.get("routes", []):
        yield from flattened(child)


def receivers(folder):
    """Routes to a receiver that notifies nobody, and receivers without a route."""
    declared = {receiver["name"]: receiver for receiver in folder.alertmanager["receivers"]}
    routed = {route["receiver"] for route in flattened(folder.alertmanager["route"]) if "receiver" in route}
    for name in sorted(routed):
        receiver = declared.get(name)
        if receiver is None:
            yield f"the route to `{name}` reaches nobody: no receiver has this name"
        elif not any(value for key, value in receiver.items() if key.endswith("_configs")):
            yield f"the route to `{name}` reaches nobody: the receiver has no integration, such as webhook_configs"
    for name in sorted(set(declared) - routed):
        yield f"the receiver `{name}` gets no alert: no route names it"
    for name in RECEIVERS:
        if name not in declared:
            yield f"the receiver `{name}` is missing"


def matchers(entry):
    """Yields the label, operator and value of each matcher of a route or an inhibition."""
    for key in ("matchers", "source_matchers", "target_matchers"):
        for text in entry.get(key, []):
            label, operator, value = re.fullmatch(r'\s*(\w+)\s*(=~|!~|!=|=)\s*"?(.*?)"?\s*', text).groups()
            yield label, operator, value


def matched_names(folder):
    """Matchers that name an alert, component or severity that no rule has."""
    known = {
        "alertname": {rule.alert for rule in folder.alerts},
        "component": {rule.subject for rule in folder.alerts},
        "severity": set(SEVERITIES),
        "lasts": set(LASTS),
    }
    for entry in [*flattened(folder.alertmanager["route"]), *folder.alertmanager["inhibit_rules"]]:
        for label, _operator, value in matchers(entry):
            for name in value.split("|"):
                if label in known and name not in known[label]:
                    yield f'the matcher {label}="{name}" of alertmanager.yml matches no rule'


def grouping(folder):
    """A route that does not group by cluster sends several notifications for one incident."""
    for route in flattened(folder.alertmanager["route"]):
        if route.get("group_by", ["cluster"]) != ["cluster"]:
            yield f"the route to `{route.get('receiver')}` groups by {route['group_by']}: one incident is one page, so group by cluster"


def named(folder, entry, side):
    """Returns the alerts that the matchers of an inhibition's side name; none if they do not name alerts."""
    values = [value for label, operator, value in matchers({side: entry[side]}) if label == "alertname" and operator in ("=", "=~")]
    names = set(values[0].split("|")) if values else set()
    return [rule for rule in folder.alerts if rule.alert in names]


def inhibition_targets(folder):
    """An inhibition that does not name its targets mutes alerts that are written later."""
    for entry in folder.alertmanager["inhibit_rules"]:
        for side in ("source_matchers", "target_matchers"):
            if not named(folder, entry, side):
                yield f"the inhibition with {side} {entry[side]} of alertmanager.yml names no alert: write each name that it concerns"


def inhibition_labels(folder):
    """An inhibition that does not compare a label of both sides mutes the same alert of another node, bucket or slot."""
    for entry in folder.alertmanager["inhibit_rules"]:
        for source in named(folder, entry, "source_matchers"):
            for target in named(folder, entry, "target_matchers"):
                common = promql.labels(source.tree, folder.recorded) & promql.labels(target.tree, folder.recorded)
                for label in sorted(common - set(entry["equal"])):
                    yield f"`{source.alert}` mutes `{target.alert}` of another {label}: add {label} to `equal` in alertmanager.yml"


CHECKS = [receivers, matched_names, grouping, inhibition_targets, inhibition_labels]

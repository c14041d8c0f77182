"""Mutants of a rule: each changes one number, comparison, set operator, matcher, aggregation, grouping or `for`.

No mutant is made that no series can tell from the rule. An alert fires for each series that its expression returns,
whatever the value, which only the annotations show. So a number or an aggregation is changed only if a comparison reads
its value, or the rule records that value. Three more changes would have no effect:

- `sum` and `max` of values that are not negative are both above 0, or neither: there `sum` becomes `min`.
- `count` and `group` read whether a series is there, and not its value.
- `for` counts evaluations: half of it is rounded down to whole intervals between them.
"""

from dataclasses import dataclass

import promql

COMPARISONS = {"Gtr": (">=", "<"), "Gte": (">", "<"), "Lss": ("<=", ">"), "Lte": ("<", ">"), "Eql": ("!=",), "Neq": ("==",)}
AGGREGATIONS = {"sum": "max", "max": "min", "min": "max", "count": "max", "avg": "max"}
MATCH_OPERATORS = {"=": "!=", "!=": "=", "=~": "!~", "!~": "=~"}
# Aggregations that return as many series as they have groups, whatever the values.
OF_PRESENCE = ("count", "group")
# Of production, and of most tests.
EVALUATION_SECS = 15


@dataclass(frozen=True)
class Mutant:
    """A rule with one change."""

    kind: str
    change: str
    content: dict


def unchanged(rule):
    """Returns the rule as it is, for the run that must pass."""
    return Mutant("none", "unchanged", rule.content)


def _numbers(node):
    value = float(node.text)
    if value == 0:
        yield "1"
    elif value in (1, float("inf")):
        yield from ("0", "2")
    elif value <= 10 and value == int(value):
        yield from (f"{value - 1:g}", f"{value + 1:g}")
    else:
        yield from (f"{value * 0.8:g}", f"{value * 1.25:g}")


def _deciding(node, read):
    """Yields the numbers and aggregations whose values decide what the expression returns. `read`: the value of the node does."""
    if read and node.name in ("NumberDurationLiteral", "AggregateExpr"):
        yield node
    if node.name == "BinaryExpr":
        compares = node.first(*COMPARISONS) and not node.first("BoolModifier")
        left, right = node.children[0], node.children[-1]
        yield from _deciding(left, read or compares)
        yield from _deciding(right, (read or compares) and not node.first("And", "Unless"))
        return
    if node.name == "AggregateExpr" and node.first("AggregateOp").text in OF_PRESENCE:
        read = False
    for child in node.children:
        yield from _deciding(child, read)


def _above_zero(tree):
    """Returns the aggregations that are compared with `> 0`."""
    found = set()
    for node in tree.all("BinaryExpr"):
        left, right = node.children[0], node.children[-1]
        while left.name == "ParenExpr":
            left = left.children[0]
        if node.first("Gtr") and right.text == "0" and left.name == "AggregateExpr":
            found.add(left)
    return found


def _aggregations(node, above_zero):
    operation = node.first("AggregateOp")
    text = AGGREGATIONS.get(operation.text)
    if text:
        yield operation, "min" if operation.text == "sum" and node in above_zero else text


def _replacements(tree, recorded):
    """Yields (kind, node, text): a part of the expression, and what replaces it. `recorded`: the rule records its value."""
    above_zero = _above_zero(tree)
    for node in _deciding(tree, recorded):
        if node.name == "NumberDurationLiteral":
            for text in _numbers(node):
                yield "threshold", node, text
        else:
            for operation, text in _aggregations(node, above_zero):
                yield "aggregation", operation, text
    for node in tree.all(*COMPARISONS):
        for text in COMPARISONS[node.name]:
            yield "comparison", node, text
    for node in tree.all("BinaryExpr"):
        if node.first("And", "Or", "Unless"):
            yield "operator", node, node.children[0].text
            if node.first("Or"):
                yield "operator", node, node.children[-1].text
    for node in tree.all("LabelMatchers"):
        matchers = node.children
        for dropped in matchers:
            yield "label", node, "{" + ",".join(matcher.text for matcher in matchers if matcher is not dropped) + "}"
    for node in tree.all("MatchOp"):
        yield "label", node, MATCH_OPERATORS[node.text]
    for modifier in tree.all("AggregateModifier"):
        names = modifier.first("GroupingLabels")
        yield "grouping", names, "(" + ", ".join(names.label_names()[:-1]) + ")"


def _hold_times(text):
    secs = promql.seconds(text)
    return [f"{secs * 2}s", f"{secs // 2 // EVALUATION_SECS * EVALUATION_SECS}s"] if secs else ["1m"]


def of(rule):
    """Yields every mutant of a rule."""
    source = rule.content["expr"]
    for kind, node, text in _replacements(rule.tree, not rule.alert):
        changed = source[: node.start] + text + source[node.end :]
        shown = f"`{' '.join(node.text.split())}` becomes `{' '.join(text.split())}`"
        yield Mutant(kind, shown, {**rule.content, "expr": changed})
    if rule.alert:
        for text in _hold_times(rule.content["for"]):
            yield Mutant("for", f"for {rule.content['for']} becomes {text}", {**rule.content, "for": text})

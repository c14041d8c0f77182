"""Mutants of a rule: each changes one number, comparison, set operator, matcher, aggregation, grouping or `for`."""

from dataclasses import dataclass

import promql

COMPARISONS = {"Gtr": (">=", "<"), "Gte": (">", "<"), "Lss": ("<=", ">"), "Lte": ("<", ">"), "Eql": ("!=",), "Neq": ("==",)}
AGGREGATIONS = {"sum": "max", "max": "min", "min": "max", "count": "max", "avg": "max"}
MATCH_OPERATORS = {"=": "!=", "!=": "=", "=~": "!~", "!~": "=~"}


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


def _replacements(tree):
    """Yields (kind, node, text): a part of the expression, and what replaces it."""
    for node in tree.all("NumberDurationLiteral"):
        for text in _numbers(node):
            yield "threshold", node, text
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
    for node in tree.all("AggregateOp"):
        if node.text in AGGREGATIONS:
            yield "aggregation", node, AGGREGATIONS[node.text]
    for modifier in tree.all("AggregateModifier"):
        names = modifier.first("GroupingLabels")
        yield "grouping", names, "(" + ", ".join(names.label_names()[:-1]) + ")"


def _hold_times(text):
    secs = promql.seconds(text)
    return [f"{secs * 2}s", f"{secs // 2}s"] if secs else ["1m"]


def of(rule):
    """Yields every mutant of a rule."""
    source = rule.content["expr"]
    for kind, node, text in _replacements(rule.tree):
        changed = source[: node.start] + text + source[node.end :]
        shown = f"`{' '.join(node.text.split())}` becomes `{' '.join(text.split())}`"
        yield Mutant(kind, shown, {**rule.content, "expr": changed})
    if rule.alert:
        for text in _hold_times(rule.content["for"]):
            yield Mutant("for", f"for {rule.content['for']} becomes {text}", {**rule.content, "for": text})

"""Expressions of PromQL, parsed with Prometheus's own grammar for editors (`parse.mjs`)."""

import json
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
MODULES = HERE.parents[1] / "target/monitoring"

SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800, "y": 31536000}
# The value of a function's label set: every label of the series.
ALL = frozenset(["*"])


@dataclass(frozen=True)
class Node:
    """Node of a syntax tree."""

    name: str
    start: int
    end: int
    children: tuple
    text: str

    def __deepcopy__(self, memo):
        return self

    def all(self, *names):
        """Yields the nodes of these names at and below this one."""
        if self.name in names:
            yield self
        for child in self.children:
            yield from child.all(*names)

    def first(self, *names):
        """Returns the first direct child of one of these names, or nothing."""
        return next((child for child in self.children if child.name in names), None)

    def label_names(self):
        return [child.text for child in self.children if child.name == "LabelName"]


def _node(raw, source):
    name, start, end, children = raw
    return Node(name, start, end, tuple(_node(child, source) for child in children), source[start:end])


def parse(expressions):
    """Returns the tree of each expression."""
    command = ["node", str(HERE / "parse.mjs"), str(MODULES)]
    done = subprocess.run(command, input=json.dumps(expressions), capture_output=True, text=True, check=True)
    return [_node(raw, source) for raw, source in zip(json.loads(done.stdout), expressions)]


def error(tree):
    """Returns the position of the first syntax error, or nothing."""
    return next((node.start for node in tree.all("⚠")), None)


def seconds(text):
    """Returns a duration such as `1h30m` in seconds."""
    return sum(int(number) * SECONDS[unit] for number, unit in re.findall(r"(\d+)(ms|[smhdwy])", text))


def metrics(tree):
    """Yields the name of each metric that an expression selects."""
    for selector in tree.all("VectorSelector"):
        name = selector.first("Identifier")
        if name:
            yield name.text
            continue
        for matcher in selector.all("UnquotedLabelMatcher"):
            if matcher.first("LabelName").text == "__name__":
                yield from matcher.first("StringLiteral").text.strip('"').split("|")


def instant_metrics(tree):
    """Yields the name of each metric of which an expression reads one sample, not those of a range."""
    if tree.name in ("MatrixSelector", "SubqueryExpr"):
        return
    if tree.name == "VectorSelector":
        yield from metrics(tree)
    for child in tree.children:
        yield from instant_metrics(child)


def windows(tree):
    """Yields each range of an expression as text, `5m`, and in seconds; of a subquery also its step."""
    for selector in tree.all("MatrixSelector", "SubqueryExpr"):
        for duration in selector.children:
            if duration.name == "DurationExpr":
                yield duration.text, seconds(duration.text)


def labels(tree, recorded):
    """Returns the labels of an expression's result; `ALL` if they are those of the series. `recorded` has those of rules."""
    return _LABELS.get(tree.name, _of_child)(tree, recorded)


def _of_child(node, recorded):
    found = frozenset()
    for child in node.children:
        found |= labels(child, recorded)
    return found


def _of_selector(node, recorded):
    name = node.first("Identifier")
    return recorded.get(name.text if name else "", ALL)


def _of_aggregate(node, recorded):
    if node.first("AggregateOp").text in ("topk", "bottomk"):
        return _of_child(node.first("FunctionCallBody"), recorded)
    modifier = node.first("AggregateModifier")
    if modifier is None:
        return frozenset()
    names = frozenset(modifier.first("GroupingLabels").label_names())
    return names if modifier.first("By") else ALL


def _of_function(node, recorded):
    name = node.first("FunctionIdentifier").text
    body = node.first("FunctionCallBody")
    if name in ("scalar", "vector", "time", "pi"):
        return frozenset()
    if name in ("absent", "absent_over_time"):
        matchers = [matcher for matcher in body.all("UnquotedLabelMatcher") if matcher.first("MatchOp").text == "="]
        return frozenset(matcher.first("LabelName").text for matcher in matchers)
    found = _of_child(body, recorded)
    if name == "histogram_quantile":
        return found - {"le"}
    if name in ("label_replace", "label_join"):
        target = body.first("StringLiteral").text.strip('"')
        return found | {target}
    return found


def _of_binary(node, recorded):
    operands = [child for child in node.children if child.name not in _OPERATOR_NODES]
    left, right = (labels(operand, recorded) for operand in operands)
    if node.first("And", "Unless"):
        return left
    if node.first("Or"):
        return left | right
    if not left or not right:
        return left | right
    clause = node.first("MatchingModifierClause")
    if clause is None:
        return left & right if ALL not in (left, right) else ALL
    included = [child for child in clause.children if child.name == "GroupingLabels"][1:]
    extra = frozenset(name for group in included for name in group.label_names())
    if clause.first("GroupLeft"):
        return left | extra
    if clause.first("GroupRight"):
        return right | extra
    return frozenset(clause.first("GroupingLabels").label_names()) if clause.first("On") else left


_OPERATOR_NODES = {
    "Add", "And", "BoolModifier", "Div", "Eql", "Gte", "Gtr", "Lss", "Lte", "MatchingModifierClause", "Mod", "Mul", "Neq", "Or",
    "Pow", "Sub", "Unless",
}  # fmt: skip
_LABELS = {
    "VectorSelector": _of_selector,
    "AggregateExpr": _of_aggregate,
    "FunctionCall": _of_function,
    "BinaryExpr": _of_binary,
    "NumberDurationLiteral": lambda node, recorded: frozenset(),
    "StringLiteral": lambda node, recorded: frozenset(),
}

"""Whether each query of each panel returns data, asked of Prometheus itself."""

import json
import sys
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import declaration

STEPS = 300


def faults(dashboards, url, ranges, cluster, ask=None):
    """Returns a fault for each query without data, with the panel's name."""
    ask = ask or (lambda path, **parameters: fetch(url, path, **parameters))
    found = []
    for dashboard in dashboards:
        span = ranges.get(dashboard["name"], ranges["default"])
        for panel in declaration.panels(dashboard):
            for number, query in enumerate(panel["queries"], 1):
                fault = query_fault(query["expr"], panel["kind"], span, cluster, ask)
                if fault:
                    found.append(f"{dashboard['name']}: panel `{panel['title']}`, query {number}: {fault}")
    return found


def query_fault(expression, kind, span, cluster, ask):
    """Returns why a query shows nothing, or nothing."""
    text = replaced(expression, span, cluster)
    if kind == "table":
        answer = ask("query", query=text, time=span["end"])
    else:
        step = max(1, round((span["end"] - span["start"]) / STEPS))
        answer = ask("query_range", query=text, start=span["start"], end=span["end"], step=step)
    if answer["status"] != "success":
        return answer["error"]
    if not answer["data"]["result"]:
        return f"no data between {span['start']:.0f} and {span['end']:.0f}: `{text}`"
    return None


def replaced(expression, span, cluster):
    """Returns an expression with the variables as the pictures have them."""
    values = {"$__rate_interval": "15s", "$__range": f"{round(span['end'] - span['start'])}s", "$cluster": cluster, "$node": ".*"}
    for name, value in values.items():
        expression = expression.replace(name, value)
    return expression


def fetch(url, path, **parameters):
    """Returns Prometheus's answer, also to an expression that it rejects."""
    unproxied = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with unproxied.open(f"{url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}", timeout=30) as response:
            return json.load(response)
    except urllib.error.HTTPError as error:
        return json.load(error)

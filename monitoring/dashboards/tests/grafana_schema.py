"""Validates dashboards with the types of Grafana's own package, `@grafana/schema`, as JSON Schema."""

import copy
import json
import subprocess
import sys
from pathlib import Path

import jsonschema

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from grafana import PROMETHEUS_FIELDS


def make(modules, into):
    """Makes the schema from the types, and returns it."""
    command = ["node", "node_modules/.bin/ts-json-schema-generator", "--path", "grafana.ts", "--type", "Checked", "--no-type-check", "--out", into]
    subprocess.run(command, cwd=modules, check=True)
    made = json.loads(Path(into).read_text())
    return made | made["definitions"]["Checked"]["properties"]["dashboard"]


def faults(schema, dashboards):
    """Returns what the schema rejects, by dashboard and panel."""
    validator = jsonschema.Draft7Validator(schema)
    for dashboard in dashboards:
        for error in validator.iter_errors(without_prometheus(dashboard)):
            path = list(error.absolute_path)
            inside = path[:1] == ["panels"] and len(path) > 1
            name = f"panel `{dashboard['panels'][path[1]]['title']}`" if inside else "/".join(map(str, path))
            causes = "; ".join(cause.message[:120] for cause in (error.context or [error])[:3])
            yield f"grafana: {dashboard['title']}: {name}: {causes}"


def without_prometheus(dashboard):
    """Returns a dashboard whose annotations lack the fields that are Prometheus's own."""
    reduced = copy.deepcopy(dashboard)
    for annotation in reduced["annotations"]["list"]:
        for name in PROMETHEUS_FIELDS:
            del annotation[name]
    return reduced

"""Dashboards as they are declared in this folder, checked and laid out."""

import re
from dataclasses import dataclass
from pathlib import Path

import jsonschema
import yaml

HERE = Path(__file__).resolve().parent
COLUMNS = 24


class DeclarationError(Exception):
    """A fault in a declaration, with the name of its dashboard and panel."""


@dataclass(frozen=True)
class Palette:
    """Colours by meaning, and the named values of state timelines."""

    colors: dict
    states: dict


@dataclass(frozen=True)
class Place:
    """Position of a panel in a grid of 24 columns."""

    x: int
    y: int
    width: int
    height: int


def read_palette(path=HERE / "states.yml"):
    """Reads the colours and states."""
    return Palette(**yaml.safe_load(path.read_text()))


def read_all(folder=HERE):
    """Reads all dashboards of a folder, in the order of their file names."""
    palette = read_palette()
    return [read(path.read_text(), path.name, palette) for path in sorted(folder.glob("[0-9]*.yml"))]


def read(text, file_name, palette):
    """Reads a dashboard, or raises DeclarationError that names its faulty panel."""
    dashboard = yaml.safe_load(text)
    validator = jsonschema.Draft202012Validator(yaml.safe_load((HERE / "schema.yml").read_text()))
    errors = sorted(validator.iter_errors(dashboard), key=lambda error: list(map(str, error.absolute_path)))
    if errors:
        raise DeclarationError("\n".join(f"{file_name}: {where(dashboard, error.absolute_path)}: {error.message}" for error in errors))
    faults = [f"{file_name}: panel `{panel['title']}`: {fault}" for panel in panels(dashboard) for fault in panel_faults(panel, dashboard, palette)]
    faults += [f"{file_name}: two panels are named `{title}`" for title in duplicates(panel["title"] for panel in panels(dashboard))]
    faults += [f"{file_name}: row `{row['title']}`: {fault}" for row in dashboard["rows"] for fault in row_faults(row)]
    if faults:
        raise DeclarationError("\n".join(faults))
    return dashboard


def where(dashboard, path):
    """Names the panel in which a fault is, or the dashboard."""
    path = list(path)
    if path[:1] == ["rows"] and "panels" in path and len(path) > 3:
        panel = dashboard["rows"][path[1]]["panels"][path[3]]
        return f"panel `{panel.get('title', path[3])}`"
    return "dashboard"


def panel_faults(panel, dashboard, palette):
    """Returns what the schema cannot express."""
    if "states" in panel and panel["states"] not in palette.states:
        yield f"states `{panel['states']}` are not in states.yml"
    if panel["kind"] == "table":
        if len(panel["key"]) != len(panel["key_title"]):
            yield "`key_title` must have a title for each label of `key`"
        if "sort" in panel and panel["sort"] not in [query["column"] for query in panel["queries"]]:
            yield f"sorted by `{panel['sort']}`, which is no column"
    known = {*dashboard.get("variables", []), "__rate_interval", "__range"}
    for query in panel["queries"]:
        for name in re.findall(r"\$(\w+)", re.sub(r'"\$\d+"|\$\d', "", query["expr"])):
            if name not in known:
                yield f"variable `${name}` is not declared in `variables`"
        if "runbook $1" in query["expr"] and "runbook_column" not in panel:
            yield "an expression has runbooks, and `runbook_column` is missing"


def row_faults(row):
    """Panels of a row fill whole lines of 24 columns, so that no hole is left."""
    line = 0
    for panel in row["panels"]:
        line = (line if line < COLUMNS else 0) + panel["width"]
        if line > COLUMNS:
            yield f"panel `{panel['title']}` does not fit into its line"
    if line != COLUMNS:
        yield f"last line has {line} of {COLUMNS} columns"


def duplicates(names):
    """Returns the names that occur more than once."""
    seen = set()
    return sorted({name for name in names if name in seen or seen.add(name)})


def panels(dashboard):
    """Returns all panels of a dashboard."""
    return [panel for row in dashboard["rows"] for panel in row["panels"]]


def places(row):
    """Returns the place of each panel of a row, from its top."""
    x = y = line = 0
    for panel in row["panels"]:
        if x + panel["width"] > COLUMNS:
            x, y, line = 0, y + line, 0
        yield Place(x, y, panel["width"], panel["height"])
        x, line = x + panel["width"], max(line, panel["height"])


def kebab_case(alert):
    """Returns the name of an alert's runbook without `.md`."""
    return re.sub(r"(?<!^)(?=[A-Z])", "-", alert).lower()


def runbook_links(panel, base):
    """Returns pairs of alert and URL of its runbook."""
    return [(alert, f"{base}/{kebab_case(alert)}.md") for alert in panel.get("runbooks", [])]


def seconds(duration):
    """Returns a duration such as 15m in seconds."""
    return int(duration[:-1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[duration[-1]]

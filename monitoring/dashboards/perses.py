"""A declared dashboard as Perses' JSON (0.52)."""

import re

from declaration import places, runbook_links, seconds

# A state timeline has about this many columns, whatever its time range.
STATE_COLUMNS = 90
UNITS = {
    "none": {"unit": "decimal"}, "count": {"unit": "decimal", "shortValues": True}, "seconds": {"unit": "seconds"},
    "milliseconds": {"unit": "milliseconds"}, "bytes": {"unit": "bytes", "shortValues": True}, "bytes/s": {"unit": "bytes/sec", "shortValues": True},
    "ratio": {"unit": "percent-decimal"}, "requests/s": {"unit": "requests/sec"}, "ops/s": {"unit": "ops/sec"},
}
# A number that is neither good nor bad.
PLAIN = {"base": "text", "steps": []}


def dashboard(declared, palette, options):
    """Returns the dashboard. `options` has `runbooks`, `alerts` and `project`."""
    layouts, made = [], {}
    for row in declared["rows"]:
        items = []
        for panel, place in zip(row["panels"], places(row)):
            name = re.sub(r"\W+", "_", panel["title"]).strip("_")
            made[name] = definition(panel, declared, palette, options)
            items.append({"x": place.x, "y": place.y, "width": place.width, "height": place.height, "content": {"$ref": f"#/spec/panels/{name}"}})
        layouts.append({"kind": "Grid", "spec": {"display": {"title": row["title"], "collapse": {"open": True}}, "items": items}})
    return {
        "kind": "Dashboard",
        "metadata": {"name": f"causeway-{declared['name']}", "project": options.project, "version": 0},
        "spec": {
            "display": {"name": f"Causeway / {declared['title']}", "description": declared["description"]},
            "duration": declared["window"],
            "refreshInterval": "30s",
            "variables": [VARIABLES[name] for name in declared.get("variables", [])],
            "panels": made,
            "layouts": layouts,
        },
    }


def list_variable(name, label, matchers, **more):
    """Returns a variable of a label's values."""
    return {"kind": "ListVariable", "spec": {
        "name": name, "display": {"name": label, "hidden": False}, "allowAllValue": False, "allowMultiple": False, "sort": "alphabetical-asc",
        "plugin": {"kind": "PrometheusLabelValuesVariable", "spec": {"labelName": name, "matchers": matchers}}, **more,
    }}


VARIABLES = {
    "cluster": list_variable("cluster", "Cluster", ["failover_is_primary"]),
    "node": list_variable(
        "node", "Node", ['failover_is_primary{cluster="$cluster"}'], allowAllValue=True, allowMultiple=True, customAllValue=".*",
        defaultValue="$__all",
    ),
}


def definition(panel, declared, palette, options):
    """Returns a panel with its queries and links."""
    spec = {
        "display": {"name": panel["title"], "description": panel["description"]},
        "plugin": PLUGINS[panel["kind"]](panel, palette, options),
        "queries": [query(each, panel, declared) for each in panel["queries"]],
    }
    links = [{"name": f"Runbook: {alert}", "url": url, "targetBlank": True} for alert, url in runbook_links(panel, options.runbooks)]
    return {"kind": "Panel", "spec": spec | ({"links": links} if links else {})}


def query(declared_query, panel, declared):
    """Returns a query."""
    spec = {"query": declared_query["expr"]}
    if "legend" in declared_query:
        spec["seriesNameFormat"] = declared_query["legend"]
    if panel["kind"] == "state-timeline":
        spec["minStep"] = f"{max(1, seconds(declared['window']) // STATE_COLUMNS)}s"
    return {"kind": "TimeSeriesQuery", "spec": {"plugin": {"kind": "PrometheusTimeSeriesQuery", "spec": spec}}}


def unit(declared, decimals=None):
    """Returns the format of values."""
    return UNITS[declared] | ({"decimalPlaces": decimals} if decimals is not None else {})


def thresholds(declared, palette):
    """Returns absolute thresholds."""
    return {
        "mode": "absolute", "defaultColor": palette.colors[declared["base"]],
        "steps": [{"value": step["at"], "color": palette.colors[step["is"]]} for step in declared["steps"]],
    }


def mappings(states, palette):
    """Returns the texts and colours of values."""
    return [
        {"kind": "Value", "spec": {"value": str(state["value"]), "result": {"value": state["text"], "color": palette.colors[state["color"]]}}}
        for state in states
    ]


def stat(panel, palette, _):
    """A number with its colour."""
    spec = {"calculation": "last-number", "format": unit(panel["unit"], panel.get("decimals")), "valueFontSize": 34}
    spec["thresholds"] = thresholds(panel.get("thresholds", PLAIN), palette)
    if "states" in panel:
        spec["mappings"] = mappings(palette.states[panel["states"]], palette)
    return {"kind": "StatChart", "spec": spec}


def timeseries(panel, palette, _):
    """Lines over time."""
    stacked = panel.get("stack", False)
    axis = {"show": True, "format": unit(panel["unit"], panel.get("decimals"))} | {bound: panel[bound] for bound in ("min", "max") if bound in panel}
    settings = [setting for number, each in enumerate(panel["queries"]) for setting in line_settings(each, number, palette)]
    return {"kind": "TimeSeriesChart", "spec": {
        "legend": {"position": "bottom", "mode": "list", "size": "small"},
        "yAxis": axis,
        "visual": {
            "display": "line", "lineWidth": 1.5, "areaOpacity": 0.35 if stacked else 0, "showPoints": "auto", "pointRadius": 0, "connectNulls": False,
            "stack": "all" if stacked else "none", "palette": {"mode": "categorical"},
        },
    } | ({"querySettings": settings} if settings else {})}


def line_settings(declared_query, number, palette):
    """Returns the style of a query's lines, if declared."""
    if declared_query.get("style") == "target":
        return [{"queryIndex": number, "colorMode": "fixed", "colorValue": palette.colors["target"], "lineStyle": "dashed", "areaOpacity": 0}]
    if "color" in declared_query:
        return [{"queryIndex": number, "colorMode": "fixed", "colorValue": palette.colors[declared_query["color"]]}]
    return []


def state_timeline(panel, palette, _):
    """States over time, a line for each series."""
    return {"kind": "StatusHistoryChart", "spec": {
        "legend": {"position": "bottom", "mode": "list", "size": "small"}, "mappings": mappings(palette.states[panel["states"]], palette),
    }}


def bar_gauge(panel, *_):
    """Bars of the newest values."""
    return {"kind": "BarChart", "spec": {
        "calculation": "last", "format": unit(panel["unit"], panel.get("decimals")), "sort": "desc", "mode": "value",
    }}


def table(panel, palette, options):
    """A row for each combination of the key's labels, a column for each query."""
    single = len(panel["queries"]) == 1
    widths = panel.get("key_width", ["auto"] * len(panel["key"]))
    columns = [{"name": label, "header": title, "width": width} for label, title, width in zip(panel["key"], panel["key_title"], widths)]
    columns += [column(each, "value" if single else f"value #{number}", palette, panel) for number, each in enumerate(panel["queries"], 1)]
    columns.append({"name": "timestamp", "hide": True})
    spec = {"density": "compact", "defaultColumnWidth": "auto", "columnSettings": columns}
    if not single:
        spec["transforms"] = [{"kind": "MergeIndexedColumns", "spec": {"column": label}} for label in panel["key"]]
        spec["transforms"].append({"kind": "JoinByColumnValue", "spec": {"columns": panel["key"]}})
    if "runbook_column" in panel:
        spec["cellSettings"] = severity_cells(palette) + [
            {"condition": {"kind": "Value", "spec": {"value": f"runbook {alert}"}}, "text": f"{name}.md"} for alert, name in options.alerts.items()
        ]
    return {"kind": "Table", "spec": spec}


def severity_cells(palette):
    """Returns the colours of the severities of alerts."""
    return [
        {"condition": {"kind": "Value", "spec": {"value": severity}}, "textColor": palette.colors[color]}
        for severity, color in (("critical", "critical"), ("warning", "warning"), ("info", "info"), ("firing", "critical"), ("pending", "none"))
    ]


def column(declared_query, name, palette, panel):
    """Returns a column of values. A table whose columns have colours shows them by an embedded panel."""
    settings = {"name": name, "header": declared_query["column"], "align": "left"}
    shown = unit(declared_query.get("unit", "count"))
    if declared_query.get("hidden"):
        return {"name": name, "hide": True}
    if any("thresholds" in each for each in panel["queries"]):
        colors = thresholds(declared_query.get("thresholds", PLAIN), palette)
        spec = {"calculation": "last-number", "format": shown, "valueFontSize": 15, "thresholds": colors}
        settings |= {"align": "center", "plugin": {"kind": "StatChart", "spec": spec}}
    else:
        settings["format"] = shown
        settings["enableSorting"] = True
        if panel.get("sort") == declared_query["column"]:
            settings["sort"] = "desc"
    return settings


PLUGINS = {"stat": stat, "timeseries": timeseries, "state-timeline": state_timeline, "table": table, "bar-gauge": bar_gauge}

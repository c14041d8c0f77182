"""A declared dashboard as Grafana's JSON (schema version 39, Grafana 10.3 and later)."""

from declaration import panels, places, runbook_links

SCHEMA_VERSION = 39
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
UNITS = {
    "none": "none", "count": "short", "seconds": "s", "milliseconds": "ms", "bytes": "decbytes", "bytes/s": "Bps", "ratio": "percentunit",
    "requests/s": "reqps", "ops/s": "ops",
}
# Fields of an annotation that are Prometheus's own, and so are not in Grafana's schema.
PROMETHEUS_FIELDS = {"expr", "step", "tagKeys", "textFormat", "titleFormat"}
# A promotion: a node is primary that was not a minute before.
PROMOTIONS = 'max by (cluster, node) (failover_is_primary{cluster="$cluster"}) == 1 and max by (cluster, node) (failover_is_primary offset 1m) == 0'


def dashboard(declared, palette, options):
    """Returns the dashboard. `options` has `runbooks` and `alerts`."""
    made, y, number = [], 0, 1
    for row in declared["rows"]:
        made.append({"id": number, "type": "row", "title": row["title"], "collapsed": False, "gridPos": grid(0, y, 24, 1), "panels": []})
        number, y = number + 1, y + 1
        below = 0
        for panel, place in zip(row["panels"], places(row)):
            made.append({"id": number, **PANELS[panel["kind"]](panel, palette, options)} | {
                "gridPos": grid(place.x, y + place.y, place.width, place.height),
            })
            number, below = number + 1, max(below, place.y + place.height)
        y += below
    return {
        "uid": f"causeway-{declared['name']}",
        "title": f"Causeway / {declared['title']}",
        "description": declared["description"],
        "tags": ["causeway"],
        "schemaVersion": SCHEMA_VERSION,
        "editable": False,
        "graphTooltip": 1,
        "timezone": "utc",
        "refresh": "30s",
        "time": {"from": f"now-{declared['window']}", "to": "now"},
        "links": [link("dashboards", "Causeway", tags=["causeway"], asDropdown=True, includeVars=True, keepTime=True)],
        "templating": {"list": [datasource_variable(), *(VARIABLES[name] for name in declared.get("variables", []))]},
        "annotations": {"list": [promotions()] if declared.get("annotations") else []},
        "panels": made,
    }


def link(kind, title, **more):
    """Returns a link. Grafana's schema requires every field."""
    return {
        "type": kind, "title": title, "url": "", "icon": "external link", "tooltip": "", "tags": [], "asDropdown": False, "includeVars": False,
        "keepTime": False, "targetBlank": False, **more,
    }


def grid(x, y, width, height):
    """Returns a position."""
    return {"x": x, "y": y, "w": width, "h": height}


def datasource_variable():
    """Returns the variable for the Prometheus server."""
    return {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus", "refresh": 1, "hide": 0}


def label_variable(name, label, query, **more):
    """Returns a variable of a label's values."""
    return {
        "name": name, "label": label, "type": "query", "datasource": DATASOURCE, "query": {"query": query, "refId": name},
        "refresh": 2, "sort": 1, "hide": 0, **more,
    }


VARIABLES = {
    "cluster": label_variable("cluster", "Cluster", "label_values(failover_is_primary, cluster)"),
    "node": label_variable(
        "node", "Node", 'label_values(failover_is_primary{cluster="$cluster"}, node)', includeAll=True, multi=True,
        current={"text": ["All"], "value": ["$__all"]},
    ),
}


def promotions():
    """Returns the annotation that marks each promotion."""
    return {
        "name": "Promotions", "datasource": DATASOURCE, "enable": True, "iconColor": "red", "expr": PROMOTIONS, "step": "15s",
        "titleFormat": "{{node}} became primary", "textFormat": "{{cluster}}", "tagKeys": "node",
    }


def common(panel, kind, palette, options, **defaults):
    """Returns what all kinds of panels have."""
    field = {"unit": UNITS[panel["unit"]], **defaults}
    for bound in ("min", "max", "decimals"):
        if bound in panel:
            field[bound] = panel[bound]
    if "thresholds" in panel:
        field["thresholds"] = thresholds(panel["thresholds"], palette)
    if "states" in panel:
        field["mappings"] = [mapping(palette.states[panel["states"]], palette)]
    return {
        "type": kind,
        "title": panel["title"],
        "description": panel["description"],
        "datasource": DATASOURCE,
        "links": [link("link", f"Runbook: {alert}", url=url, targetBlank=True) for alert, url in runbook_links(panel, options.runbooks)],
        "targets": [target(query, number, panel["kind"]) for number, query in enumerate(panel["queries"])],
        "fieldConfig": {"defaults": field, "overrides": []},
    }


def ref(number):
    """Returns the letter of a query."""
    return chr(ord("A") + number)


def target(query, number, kind):
    """Returns a query: of one moment for tables, of the time range for the others."""
    instant = kind == "table"
    return {
        "refId": ref(number), "datasource": DATASOURCE, "expr": query["expr"], "legendFormat": query.get("legend", ""), "editorMode": "code",
        "instant": instant, "range": not instant, "format": "table" if instant else "time_series",
    }


def thresholds(declared, palette):
    """Returns absolute thresholds."""
    steps = [{"value": None, "color": palette.colors[declared["base"]]}]
    return {"mode": "absolute", "steps": steps + [{"value": step["at"], "color": palette.colors[step["is"]]} for step in declared["steps"]]}


def mapping(states, palette):
    """Returns the texts and colours of values."""
    options = {
        str(state["value"]): {"text": state["text"], "color": palette.colors[state["color"]], "index": index}
        for index, state in enumerate(states)
    }
    return {"type": "value", "options": options}


def fixed(color):
    """Returns the property of a fixed colour."""
    return {"id": "color", "value": {"mode": "fixed", "fixedColor": color}}


def stat(panel, palette, options):
    """A number with its colour."""
    color = "thresholds" if "thresholds" in panel else "fixed"
    defaults = {"color": {"mode": color, **({"fixedColor": "text"} if color == "fixed" else {})}}
    return common(panel, "stat", palette, options, **defaults) | {"options": {
        "colorMode": "value", "graphMode": "none", "justifyMode": "center", "orientation": "auto", "textMode": "auto", "wideLayout": True,
        "reduceOptions": last_value(),
    }}


def last_value():
    """Returns the reduction to the newest value."""
    return {"calcs": ["lastNotNull"], "fields": "", "values": False}


def timeseries(panel, palette, options):
    """Lines over time."""
    stacked = panel.get("stack", False)
    made = common(panel, "timeseries", palette, options, color={"mode": "palette-classic"}, custom={
        "drawStyle": "line", "lineWidth": 1, "lineInterpolation": "linear", "fillOpacity": 25 if stacked else 5, "showPoints": "never",
        "spanNulls": False, "axisPlacement": "auto", "stacking": {"mode": "normal" if stacked else "none", "group": "A"},
    })
    for number, query in enumerate(panel["queries"]):
        made["fieldConfig"]["overrides"] += line_override(query, number, palette)
    return made | {"options": {"legend": legend(), "tooltip": {"mode": "multi", "sort": "desc"}}}


def line_override(query, number, palette):
    """Returns the style of a query's lines, if declared."""
    if query.get("style") == "target":
        properties = [
            fixed(palette.colors["target"]),
            {"id": "custom.lineStyle", "value": {"fill": "dash", "dash": [6, 6]}},
            {"id": "custom.fillOpacity", "value": 0},
            {"id": "custom.stacking", "value": {"mode": "none", "group": "B"}},
        ]
    elif "color" in query:
        properties = [fixed(palette.colors[query["color"]])]
    else:
        return []
    return [{"matcher": {"id": "byFrameRefID", "options": ref(number)}, "properties": properties}]


def legend():
    """Returns a list below the graph."""
    return {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []}


def state_timeline(panel, palette, options):
    """States over time, a line for each series."""
    return common(panel, "state-timeline", palette, options, color={"mode": "fixed", "fixedColor": palette.colors["none"]}, custom={
        "fillOpacity": 85, "lineWidth": 0,
    }) | {"options": {
        "mergeValues": True, "showValue": "auto", "alignValue": "left", "rowHeight": 0.8, "legend": legend(),
        "tooltip": {"mode": "single", "sort": "none"},
    }}


def bar_gauge(panel, palette, options):
    """Horizontal bars of the newest values."""
    return common(panel, "bargauge", palette, options, color={"mode": "thresholds"}) | {"options": {
        "displayMode": "basic", "orientation": "horizontal", "showUnfilled": True, "valueMode": "color", "namePlacement": "auto",
        "sizing": "auto", "minVizWidth": 8, "minVizHeight": 16, "maxVizHeight": 300, "reduceOptions": last_value(), "legend": legend(),
    }}


def table(panel, palette, options):
    """A row for each combination of the key's labels, a column for each query."""
    made = common(panel, "table", palette, options, custom={"align": "auto", "cellOptions": {"type": "auto"}, "inspect": False})
    single = len(panel["queries"]) == 1
    values = ["Value" if single else f"Value #{ref(number)}" for number, _ in enumerate(panel["queries"])]
    columns = dict(zip(values, (query["column"] for query in panel["queries"])))
    hidden = [value for value, query in zip(values, panel["queries"]) if query.get("hidden")]
    made["transformations"] = [
        {"id": "merge", "options": {}},
        {"id": "organize", "options": {
            "excludeByName": {"Time": True, **{value: True for value in hidden}},
            "renameByName": dict(zip(panel["key"], panel["key_title"])) | columns,
            "indexByName": {name: index for index, name in enumerate([*panel["key"], *values])},
        }},
    ]
    made["fieldConfig"]["overrides"] = [column_override(query, palette) for query in panel["queries"] if not query.get("hidden")]
    made["fieldConfig"]["overrides"] += [
        {"matcher": {"id": "byName", "options": title}, "properties": [{"id": "custom.width", "value": width}]}
        for title, width in zip(panel["key_title"], panel.get("key_width", []))
    ]
    if "runbook_column" in panel:
        made["fieldConfig"]["overrides"].append(runbook_override(panel, options))
    sort = [{"displayName": panel["sort"], "desc": True}] if "sort" in panel else []
    return made | {"options": {"showHeader": True, "cellHeight": "sm", "footer": {"show": False, "reducer": ["sum"]}, "sortBy": sort}}


def column_override(query, palette):
    """Returns unit and colours of a column."""
    properties = [{"id": "unit", "value": UNITS[query.get("unit", "count")]}]
    if "thresholds" in query:
        properties += [
            {"id": "thresholds", "value": thresholds(query["thresholds"], palette)},
            {"id": "color", "value": {"mode": "thresholds"}},
            {"id": "custom.cellOptions", "value": {"type": "color-text"}},
        ]
    return {"matcher": {"id": "byName", "options": query["column"]}, "properties": properties}


def runbook_override(panel, options):
    """Returns the links of alerts to their runbooks: the text of a value is the runbook's file."""
    title = dict(zip(panel["key"], panel["key_title"]))[panel["runbook_column"]]
    texts = {f"runbook {alert}": {"text": f"{name}.md", "index": index} for index, (alert, name) in enumerate(options.alerts.items())}
    return {"matcher": {"id": "byName", "options": title}, "properties": [
        {"id": "mappings", "value": [{"type": "value", "options": texts}]},
        {"id": "links", "value": [{"title": "Runbook", "url": options.runbooks + "/${__value.text}", "targetBlank": True}]},
    ]}


PANELS = {"stat": stat, "timeseries": timeseries, "state-timeline": state_timeline, "table": table, "bar-gauge": bar_gauge}


def expressions(declared):
    """Returns the expressions of the annotations, which no panel declares."""
    return [PROMOTIONS] if declared.get("annotations") and panels(declared) else []

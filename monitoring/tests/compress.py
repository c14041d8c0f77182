"""Shorter time: a copy of the rules, the scrape settings and the routes in which every duration is divided by one factor.

Pure functions from documents to documents. Production scrapes every 15 s; with the factor 15 the lab scrapes every second,
and a rule sees as many samples in its windows, and waits as many evaluations, as in production.

Numbers that are compared with a measured time are not durations of PromQL. They stay as they are, except those of
SECONDS: conditions that a fault brings about only by time that passes. Their new value is 1/factor of the old one, too.
"""

import copy
import math
import re

PRODUCTION_INTERVAL_MS = 15_000

# By alert or record: numbers of its expression that are durations in seconds.
SECONDS = {
    "SplitBrain": ["300"],
    "IdleInTransaction": ["300"],
    "LongTransaction": ["3600"],
    "ArchiveSlowerThanWal": ["300"],
    "DiskFullSoon": ["86400"],
    "BackupNotInOtherRegion": ["3600"],
    "objective:region_rpo:seconds": ["300"],
}

# By alert: the least `for` in seconds. An agent looks at the condition at an interval of its own, which no factor divides: in
# production `for` spans several looks, and must span two here.
LEAST_FOR = {"DnsMismatch": "10s"}

# By alert: the longest `for`, of alerts that wait for days.
MOST_FOR = {"RestoreNotVerified": "240s"}

UNIT_MS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000, "y": 31_536_000_000}
DURATION = r"(?:[0-9]+(?:ms|[smhdwy]))+"
# Texts, comments and names are passed over, so that `"5m"` or `rate5m` in them stays as it is.
TOKEN = re.compile(
    rf"""(?P<text>"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|`[^`]*`)|(?P<comment>\#[^\n]*)|(?P<name>[A-Za-z_][A-Za-z0-9_:]*)"""
    rf"""|(?P<duration>{DURATION}(?![A-Za-z0-9_]))|(?P<number>[0-9]+(?:\.[0-9]+)?(?:e[+-]?[0-9]+)?)"""
)


class UnknownNumber(Exception):
    """SECONDS names a number that the expression does not have, or an alert that no file has."""


def milliseconds(text):
    """Returns the milliseconds of a duration such as `1h30m`."""
    if not re.fullmatch(DURATION, text):
        raise ValueError(f"`{text}` is not a duration, such as `5m`")
    return sum(int(number) * UNIT_MS[unit] for number, unit in re.findall(r"([0-9]+)(ms|[smhdwy])", text))


def duration(text, factor):
    """Returns a duration divided by the factor, at least a millisecond unless it is zero."""
    if factor == 1:
        return text
    before = milliseconds(text)
    after = max(1, math.ceil(before / factor)) if before else 0
    return f"{after // 1000}s" if after % 1000 == 0 else f"{after}ms"


def expression(text, factor, seconds=()):
    """Returns an expression with its ranges, offsets and steps, and the numbers in `seconds`, divided by the factor."""
    left = list(seconds)

    def shorter(found):
        if found.lastgroup == "duration":
            return duration(found.group(), factor)
        if found.lastgroup == "number" and found.group() in seconds:
            if found.group() in left:
                left.remove(found.group())
            return f"{float(found.group()) / factor:g}"
        return found.group()

    result = TOKEN.sub(shorter, text)
    if left:
        raise UnknownNumber(f"no number {', '.join(left)} in `{text}`: mend SECONDS in compress.py")
    return result


def rule(source, factor):
    """Returns a rule in shorter time."""
    result = copy.deepcopy(source)
    name = source.get("alert") or source["record"]
    result["expr"] = expression(source["expr"], factor, SECONDS.get(name, ()))
    for key in ("for", "keep_firing_for"):
        if key in source:
            result[key] = duration(str(source[key]), factor)
    least, most = LEAST_FOR.get(name), MOST_FOR.get(name)
    if least and milliseconds(result["for"]) < milliseconds(least):
        result["for"] = least
    if factor > 1 and most and milliseconds(result["for"]) > milliseconds(most):
        result["for"] = most
    return result


def rules(document, factor):
    """Returns a file of rules in shorter time."""
    result = copy.deepcopy(document)
    for group in result["groups"]:
        if "interval" in group:
            group["interval"] = duration(group["interval"], factor)
        group["rules"] = [rule(source, factor) for source in group["rules"]]
    return result


def check_names(documents):
    """Raises when SECONDS, LEAST_FOR or MOST_FOR names a rule that no document has."""
    names = {r.get("alert") or r["record"] for document in documents for group in document["groups"] for r in group["rules"]}
    unknown = sorted((set(SECONDS) | set(LEAST_FOR) | set(MOST_FOR)) - names)
    if unknown:
        raise UnknownNumber(f"no rule {', '.join(unknown)}: mend SECONDS, LEAST_FOR or MOST_FOR in compress.py")


def scrape(document, factor):
    """Returns Prometheus's settings in shorter time."""
    result = copy.deepcopy(document)
    for section in (result["global"], *result["scrape_configs"]):
        for key in ("scrape_interval", "scrape_timeout", "evaluation_interval"):
            if key in section:
                section[key] = duration(section[key], factor)
    return result


def route(source, factor):
    """Returns a route of Alertmanager, and those below it, in shorter time."""
    result = copy.deepcopy(source)
    for key in ("group_wait", "group_interval", "repeat_interval"):
        if key in source:
            result[key] = duration(source[key], factor)
    if "routes" in source:
        result["routes"] = [route(below, factor) for below in source["routes"]]
    return result


def alertmanager(document, factor, receiver_url):
    """Returns Alertmanager's settings in shorter time, with the receivers' webhooks at `receiver_url`."""
    result = copy.deepcopy(document)
    result["route"] = route(document["route"], factor)
    result["receivers"] = [
        {"name": each["name"], "webhook_configs": [{"url": f"{receiver_url}/{each['name']}", "send_resolved": each["name"] != "watchdog"}]}
        for each in document["receivers"]
    ]
    return result

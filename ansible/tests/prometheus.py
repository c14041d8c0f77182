"""What Prometheus on the monitoring host has scraped."""

import json
import urllib.parse

from topology import MONITORING


def ask(cluster, query):
    """Returns the data of a query to Prometheus's API."""
    read = "import sys, urllib.request; sys.stdout.write(urllib.request.urlopen(sys.argv[1], timeout=10).read().decode())"
    answer = json.loads(cluster.hosts.exec(MONITORING, "python3", "-c", read, f"http://127.0.0.1:9090/api/v1/{query}"))
    return answer["data"]


def series(cluster, expression):
    """Returns the series of an expression now."""
    return ask(cluster, f"query?query={urllib.parse.quote(expression)}")["result"]

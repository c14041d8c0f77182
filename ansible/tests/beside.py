"""What runs beside the cluster: monitoring and poolers."""

import json
import time

from failed import Failed
from step import Result, show, step, until
from topology import HOSTS, MONITORING

# In an installation that has just ended, Alertmanager waits 15 s for more of a group.
ALERT_SECS = 90


@step("monitoring")
def monitoring(cluster, _options):
    """Prometheus reads every target, and an alert arrives at the webhook."""
    cluster.wait_until_healthy()
    nodes = set(cluster.nodes())
    wanted = {"node": nodes | {MONITORING}, "agent": nodes, "postgres": nodes, "prometheus": {MONITORING}, "alertmanager": {""}}
    if cluster.inventory.poolers:
        wanted["pooler"] = nodes

    def seen():
        found = {}
        for target in _prometheus(cluster, "targets?state=active")["activeTargets"]:
            found.setdefault(target["labels"]["job"], {})[target["labels"].get("node", "")] = target["lastError"] or target["health"]
        return found

    healthy = {job: dict.fromkeys(names, "up") for job, names in wanted.items()}
    until(lambda: f"every target is up: {seen()}", 60, lambda: seen() == healthy)
    reached = {row["metric"]["node"] for row in _prometheus(cluster, "query?query=pg_up%3D%3D1")["result"]}
    if reached != nodes:
        raise Failed(f"the exporters reach PostgreSQL on {sorted(reached)}, and the nodes are {sorted(nodes)}")
    arrived = until("an alert at the webhook", ALERT_SECS, lambda: alerts(cluster))
    return Result(f"{sum(map(len, wanted.values()))} targets of {len(wanted)} jobs up, PostgreSQL reached on {len(reached)} nodes; at the webhook: {', '.join(sorted(arrived))}")


def alerts(cluster):
    """Returns the names of the alerts that have fired at the webhook."""
    file = cluster.hosts.aws.alerts
    sent = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    return {alert["labels"]["alertname"] for notification in sent for alert in notification["alerts"] if alert["status"] == "firing"}


def _prometheus(cluster, query):
    read = "import sys, urllib.request; sys.stdout.write(urllib.request.urlopen(sys.argv[1], timeout=10).read().decode())"
    answer = json.loads(cluster.hosts.exec(MONITORING, "python3", "-c", read, f"http://127.0.0.1:9090/api/v1/{query}"))
    return answer["data"]


@step("pooler")
def pooler(cluster, _options):
    """Poolers are added, and follow the real agent through a switchover: writes through them go on."""
    primary = cluster.wait_until_healthy()
    cluster.inventory.add_poolers()
    done = cluster.site()
    target = next(name for name in cluster.nodes() if name != primary and HOSTS[name].region == HOSTS[primary].region)
    with cluster.writer("pooler", pooler=True) as writer:
        writer.wait_for_write(30)
        _expect_pooler(cluster, primary)
        began = time.monotonic()
        moved = cluster.playbook("switchover.yml", {"target": target})
        writer.wait_for_write(30, after=began, not_on=[cluster.topology.address(primary)])
        _expect_pooler(cluster, cluster.wait_until_healthy())
    told = cluster.verify(writer)
    same = cluster.unchanged()
    return Result(f"the pooler runs beside {target}, {writer.longest_gap():.1f} s without writes through it; {told}; second run {same.changed} changed", done.changed + moved.changed)


def _expect_pooler(cluster, primary):
    """Expects a running pooler on the primary, and on no other node."""
    def running():
        return [name for name in cluster.nodes() if show(cluster, name, "pgbouncer.service", "ActiveState") == "active"]

    until(f"a pooler on {primary} alone", 15, lambda: running() == [primary])
